"""The commands that list models, datasets, strategies and so on. Only counting parameters imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.display.plain_table import printable_lines, table
from cli.request.flags import command
from cli.request.folder_flags import DatasetsRootHparams
from datasets.added.added import add_dataset, register_added
from datasets.prepared import is_closed, is_prepared
from datasets.registry import AUGMENTATIONS, DATASETS
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.registry import Registry
from platforms.executors.registry import EXECUTORS
from platforms.platform import PLATFORMS
from pruning.registry import METHODS
from training.recipes import NOT_MEASURED, recipe, recipes
from training.registry import TECHNIQUES


def listing(
    name: str, registry: Registry[Any], columns: Mapping[str, str]
) -> Callable[[Sequence[str], Environment], int]:
    """Return the command that lists the entries of a registry. columns: the attributes to show, by heading."""

    def work(environment: Environment) -> int:  # noqa: ARG001
        """List what there is to choose from."""
        print(entries_table(registry, columns))
        return 0

    work.__name__ = name
    return command()(work)


def entries_table(entries: Iterable[Any], columns: Mapping[str, str]) -> str:
    """Return a table with a line for each entry. columns: the attributes to show, by heading."""
    rows = [{heading: getattr(entry, name) for heading, name in columns.items()} for entry in entries]
    return table(rows, tuple(columns))


strategies = listing("strategies", METHODS, {"name": "spelling", "prunes": "prunes", "paper": "paper"})
techniques = listing("techniques", TECHNIQUES, {"name": "spelling", "does": "summary", "paper": "paper"})
platforms = listing("platforms", PLATFORMS, {"name": "spelling", "runs": "runs"})
executors = listing("executors", EXECUTORS, {"name": "spelling", "runs jobs": "runs"})


@dataclass(frozen=True, kw_only=True)
class ModelsHparams(DatasetsRootHparams):
    """Contents of the list."""

    names_only: bool = hparam(False)
    """Leave the sizes out, which take some seconds to count."""


@dataclass(frozen=True, kw_only=True)
class AddHparams(DatasetsRootHparams):
    """Options of `datasets add`."""

    augmentation: str = hparam("none", choices=AUGMENTATIONS)
    """Augmentation of the training images."""
    image_size: int | None = hparam(None, at_least=1)
    """The side to which images are brought; without it all must have the same size."""
    stream: bool = hparam(False)
    """Leave the images where they are and decode them as they are needed, for datasets that do not fit in memory."""


@command(models=ModelsHparams)
def models(names: list[str], environment: Environment, models: ModelsHparams) -> int:
    """List the recipes that --default_hparams knows: all, or those whose name begins as given."""
    register_added(models.datasets_in(environment))
    rows = [
        {"name": name, "family": line.spelling, "source": line.source, "reached": line.reached.get(name, NOT_MEASURED)}
        for line in recipes()
        for name in line.names
        if not names or name.startswith(tuple(names))
    ]
    if not rows:
        raise UsageError(f"No network's name begins with {' or '.join(names)}. `models --names_only` lists them.")
    if not models.names_only:
        rows = [{"name": row["name"], **_size(row["name"]), **row} for row in rows]
    print(table(rows, tuple(rows[0])))
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


@command(datasets=AddHparams)
def datasets(names: list[str], environment: Environment, datasets: AddHparams) -> int:
    """List the datasets, or prepare one of one's own: datasets add NAME PATH."""
    folder = datasets.datasets_in(environment)
    if names:
        if names[0] != "add" or len(names) != 3:
            raise UsageError("datasets takes nothing, or: datasets add NAME PATH")
        add_dataset(
            names[1],
            Path(names[2]).expanduser(),
            folder,
            report=lambda line: print(printable_lines(line)),
            augmentation=datasets.augmentation,
            image_size=datasets.image_size,
            in_memory=not datasets.stream,
        )
        return 0
    register_added(folder)
    rows = [
        {
            "name": name,
            "prepared": "yes" if is_prepared(name, folder) else "closed" if is_closed(name, folder) else "",
            "train": f"{spec.num_train:,}",
            "test": f"{spec.num_test:,}",
            "classes": str(spec.num_classes),
            "image": "x".join(map(str, spec.input_shape)),
            "augmentation": spec.augmentation.spelling,
            "origin": spec.origin,
        }
        for name, spec in ((spec.spelling, spec) for spec in DATASETS)
    ]
    print(table(rows, tuple(rows[0])))
    return 0
