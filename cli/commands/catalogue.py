"""The commands that list models, datasets, strategies and so on. Only counting parameters imports torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.display.plain_table import printable_lines, table
from cli.request.flags import command
from cli.request.folder_flags import DatasetsRootHparams
from datasets.added.added import add_dataset, register_added, summary
from datasets.added.options import AddOptions
from datasets.prepared import fingerprint, is_closed, is_prepared, read_header, split_path
from datasets.registry import DATASETS
from datasets.spec import DatasetSpec
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.inputs import Inputs
from foundations.registry import Registry
from models.hparams import ModelHparams
from models.registry import FAMILIES
from platforms.executors.registry import EXECUTORS
from platforms.platform import PLATFORMS
from pruning.registry import METHODS
from training.recipes import NOT_MEASURED, recipe, recipes
from training.registry import TECHNIQUES

if TYPE_CHECKING:
    from pruning.weights.network_size import Size


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
        rows = [{"name": row["name"], **_size(row["name"], row["family"]), **row} for row in rows]
    print(table(rows, tuple(rows[0])))
    return 0


_WITHOUT_SIZE = ("model_init", "linear_init", "bias_init", "batchnorm_init")
"""Hyperparameters that change no size."""
_SIZES = ("dataset", "parameters", "prunable", "multiply-adds")


def _size(name: str, family: str) -> dict[str, str]:
    """Return the sizes of a recipe's network; none where the name stands for many, or no dataset is set that fits."""
    from training.desc import TrainDesc

    try:
        desc = TrainDesc.of(recipe(name))
    except UsageError:
        return dict.fromkeys(_SIZES, "")
    if name == family and name in FAMILIES and FAMILIES.find(name).pattern:
        return dict.fromkeys(_SIZES, "")
    structure = desc.model.replaced({name: getattr(ModelHparams, name) for name in _WITHOUT_SIZE})
    size = _measured(structure, desc.outputs, desc.dataset.inputs)
    return {
        "dataset": desc.dataset.dataset_name,
        "parameters": f"{size.parameters:,}",
        "prunable": f"{size.prunable:,}",
        "multiply-adds": f"{size.multiply_adds:,}",
    }


@functools.cache
def _measured(model: ModelHparams, outputs: int, inputs: Inputs) -> Size:
    """Return the size of a network, counted once for all recipes of one network."""
    from pruning.weights.network_size import measure

    return measure(model, outputs=outputs, inputs=inputs)


@command(location=DatasetsRootHparams, options=AddOptions)
def datasets(names: list[str], environment: Environment, location: DatasetsRootHparams, options: AddOptions) -> int:
    """List the datasets; or prepare your own: datasets add NAME PATH; or describe one: datasets show NAME."""
    folder = location.datasets_in(environment)
    match names:
        case ["add", name, *paths] if len(paths) == (0 if options.from_hf else 1):
            path = Path(options.from_hf or paths[0]).expanduser()
            add_dataset(name, path, folder, options, report=lambda line: print(printable_lines(line)))
            return 0
        case ["show", name] if options == AddOptions():
            register_added(folder)
            print(printable_lines(described(name, folder)))
            return 0
    if names or options != AddOptions():
        raise UsageError("datasets takes nothing, or: add NAME PATH, add NAME --from_hf=PATH, show NAME.")
    register_added(folder)
    rows = [
        {
            "name": spec.spelling,
            "prepared": _is_there(spec.spelling, folder),
            "task": spec.task.spelling,
            "inputs": spec.inputs,
            **_sizes(spec),
            "augmentation": spec.augmentation.spelling,
            "origin": spec.origin,
        }
        for spec in DATASETS
    ]
    print(table(rows, tuple(rows[0])))
    return 0


def _is_there(name: str, folder: Path) -> str:
    return "yes" if is_prepared(name, folder) else "closed" if is_closed(name, folder) else ""


def _sizes(spec: DatasetSpec) -> dict[str, str]:
    """Return the sizes of a dataset, as the columns of the list; of tokens, those of language modelling count."""
    is_text = spec.task.per_token
    counts = (spec.train_tokens, spec.test_tokens) if is_text else (spec.num_train, spec.num_test)
    outputs = spec.vocabulary if is_text else spec.num_classes or spec.num_outputs
    return {
        "train": f"{counts[0]:,}",
        "test": f"{counts[1]:,}",
        "outputs": f"{outputs:,}",
        "shape": "x".join(map(str, spec.input_shape)),
    }


def described(name: str, folder: Path) -> str:
    """Return the facts about a dataset, in lines: of its declaration, and of its prepared files."""
    spec = DATASETS.find(name)
    lines = {
        "task": f"{spec.task.spelling} ({spec.task.summary})",
        "inputs": f"{spec.inputs} of {'x'.join(map(str, spec.input_shape))}",
        "sizes": summary(spec),
        "augmentation": spec.augmentation.spelling,
        "origin": spec.origin,
    }
    if is_prepared(name, folder):
        path = split_path(name, "train", folder)
        metadata = read_header(path).metadata
        lines |= {"prepared in": str(path.parent), "fingerprint": str(fingerprint(name, folder))}
        lines |= {key: metadata[key] for key in _SHOWN if metadata.get(key)}
    return "\n".join(f"{key:18}{value}" for key, value in lines.items())


_SHOWN = (
    "class_names",
    "target_names",
    "features",
    "categories",
    "filled",
    "mean",
    "std",
    "target_mean",
    "target_std",
    "tokenizer",
    "tokens",
)
"""The metadata of prepared files that `datasets show` prints."""
