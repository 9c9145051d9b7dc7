"""The commands that list models, datasets, strategies and so on. Only counting parameters imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.display.plain_table import printable_lines, table
from cli.request.flags import parse, positional
from cli.request.folder_flags import DatasetsRootHparams
from datasets.added.added import add_dataset, register_added
from datasets.prepared import is_prepared
from datasets.registry import AUGMENTATIONS, DATASETS
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from platforms.executors.registry import EXECUTORS
from platforms.platform import PLATFORMS
from pruning.registry import METHODS
from training.recipes import NOT_MEASURED, recipe, recipes
from training.registry import TECHNIQUES


@dataclass(frozen=True, kw_only=True)
class ListingFlags:
    """List what there is to choose from."""


@dataclass(frozen=True, kw_only=True)
class ModelsHparams(DatasetsRootHparams):
    """Contents of the list."""

    names_only: bool = hparam(False)
    """Leave the sizes out, which take some seconds to count."""


@dataclass(frozen=True, kw_only=True)
class ModelsFlags:
    """List the recipes that --default_hparams knows: all, or those whose name begins as given."""

    models: ModelsHparams = field(default_factory=ModelsHparams)


@dataclass(frozen=True, kw_only=True)
class AddHparams(DatasetsRootHparams):
    """Options of `datasets add`."""

    augmentation: str = hparam("none", choices=AUGMENTATIONS)
    """Augmentation of the training images."""
    image_size: int | None = hparam(None, at_least=1)
    """The side to which images are brought; without it all must have the same size."""
    stream: bool = hparam(False)
    """Leave the images where they are and decode them as they are needed, for datasets that do not fit in memory."""


@dataclass(frozen=True, kw_only=True)
class DatasetsFlags:
    """List the datasets, or prepare one of one's own: datasets add NAME PATH."""

    datasets: AddHparams = field(default_factory=AddHparams)


def models(argv: Sequence[str], environment: Environment) -> int:
    """`models [BEGINNING]`: the recipes and their networks."""
    beginnings, rest = positional(argv, ModelsFlags)
    flags = parse(ModelsFlags, rest, "models").models
    register_added(flags.datasets_in(environment))
    rows = [
        {"name": name, "family": line.spelling, "source": line.source, "reached": line.reached.get(name, NOT_MEASURED)}
        for line in recipes()
        for name in line.names
        if not beginnings or name.startswith(tuple(beginnings))
    ]
    if not rows:
        raise UsageError(f"No network's name begins with {' or '.join(beginnings)}. `models --names_only` lists them.")
    columns: tuple[str, ...] = ("name", "family", "source", "reached")
    if not flags.names_only:
        rows = [{**row, **_size(row["name"])} for row in rows]
        columns = ("name", "dataset", "parameters", "prunable", "multiply-adds", "family", "source", "reached")
    print(table(rows, columns))
    return 0


def _size(name: str) -> dict[str, str]:
    from pruning.weights.network_size import measure
    from training.desc import TrainDesc

    desc = TrainDesc.of(recipe(name))
    size = measure(desc.model, outputs=desc.outputs, input_shape=desc.dataset.input_shape)
    return {
        "dataset": desc.dataset.dataset_name,
        "parameters": f"{size.parameters:,}",
        "prunable": f"{size.prunable:,}",
        "multiply-adds": f"{size.multiply_adds:,}",
    }


def datasets(argv: Sequence[str], environment: Environment) -> int:
    """`datasets`: the datasets; `datasets add NAME PATH`: one more."""
    names, rest = positional(argv, DatasetsFlags)
    flags = parse(DatasetsFlags, rest, "datasets").datasets
    folder = flags.datasets_in(environment)
    if names:
        if names[0] != "add" or len(names) != 3:
            raise UsageError("datasets takes nothing, or: datasets add NAME PATH")
        add_dataset(
            names[1],
            Path(names[2]).expanduser(),
            folder,
            report=lambda line: print(printable_lines(line)),
            augmentation=flags.augmentation,
            image_size=flags.image_size,
            in_memory=not flags.stream,
        )
        return 0
    register_added(folder)
    rows = [
        {
            "name": spec.spelling,
            "prepared": "yes" if is_prepared(spec.spelling, folder) else "",
            "train": f"{spec.num_train:,}",
            "test": f"{spec.num_test:,}",
            "classes": str(spec.num_classes),
            "image": "x".join(map(str, spec.input_shape)),
            "augmentation": spec.augmentation.spelling,
            "origin": spec.origin,
        }
        for spec in DATASETS
    ]
    print(table(rows, ("name", "prepared", "train", "test", "classes", "image", "augmentation", "origin")))
    return 0


def strategies(argv: Sequence[str], _environment: Environment) -> int:
    """`strategies`: the pruning strategies."""
    parse(ListingFlags, argv, "strategies")
    rows = [{"name": method.spelling, "prunes": method.prunes, "paper": method.paper} for method in METHODS]
    print(table(rows, ("name", "prunes", "paper")))
    return 0


def techniques(argv: Sequence[str], _environment: Environment) -> int:
    """`techniques`: the training techniques."""
    parse(ListingFlags, argv, "techniques")
    rows = [{"name": each.spelling, "does": each.summary, "paper": each.paper} for each in TECHNIQUES]
    print(table(rows, ("name", "does", "paper")))
    return 0


def platforms(argv: Sequence[str], _environment: Environment) -> int:
    """`platforms`: the platforms."""
    parse(ListingFlags, argv, "platforms")
    rows = [{"name": platform.spelling, "runs": platform.runs} for platform in PLATFORMS]
    print(table(rows, ("name", "runs")))
    return 0


def executors(argv: Sequence[str], _environment: Environment) -> int:
    """`executors`: the executors."""
    parse(ListingFlags, argv, "executors")
    rows = [{"name": executor.spelling, "runs jobs": executor.runs} for executor in EXECUTORS]
    print(table(rows, ("name", "runs jobs")))
    return 0
