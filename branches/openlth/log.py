"""OpenLTH's text files: `hparams.log`, the hyperparameters of an experiment, and `logger`, its metrics.

    Dataset Hyperparameters
        * dataset_name => cifar10
        * batch_size => 128
    Model Hyperparameters
        ...

Groups are sorted by their names in OpenLTH; a pretraining has its own dataset and training. Only
required values and those that are not empty are written. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.hparams import DatasetHparams
from foundations.description.hparams import Hparams, fields_of
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import read_file
from foundations.metrics import Metrics
from models.hparams import ModelHparams
from training.hparams import TrainingHparams

HPARAMS, LOGGER = "hparams.log", "logger"
_SETTING = re.compile(r"\s+\* (\w+) => (.*)")
# Settings that have another name here, with their values if those differ too.
_SPELLINGS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("apex_fp16", "True"): {"precision": "fp16"},
    ("subset_stride", "1"): {},
}
_STRATEGIES = {"sparse_global": "magnitude"}


@dataclass(frozen=True)
class OpenLTHLog:
    """The content of an `hparams.log`, as values of this project's hyperparameters."""

    training: dict[str, Any] = field(default_factory=dict)
    """Dataset, network and training."""
    pretraining: dict[str, Any] = field(default_factory=dict)
    """Dataset and training of the pretraining, network included; empty if there is none."""
    pruning: dict[str, Any] = field(default_factory=dict)
    """Pruning of the levels, without the fraction; empty if nothing is pruned."""
    pruning_fraction: float = 0.2
    """The fraction of the weights that are left that each level prunes."""

    @property
    def start_step(self) -> str:
        """The step that levels start from, as text: the length of the pretraining or rewinding."""
        return str(self.pretraining.get("training_steps", "0it"))

    @property
    def rewinds(self) -> bool:
        """Whether the pretraining is the first part of the training itself."""
        return {**self.pretraining, "training_steps": None} == {**self.training, "training_steps": None}


def read_log(path: Path) -> OpenLTHLog:
    """Read an `hparams.log`.

    Raises: DamagedError if it is none; EnvironmentFailure for a hyperparameter that does not exist here.
    """
    found: dict[str, dict[str, Any]] = {"": {}, "Pretraining": {}}
    pruning: dict[str, str] = {}
    for title, group in _groups(path):
        kind = next((kind for word, kind in _KINDS.items() if word in title), None)
        if kind is None:
            pruning |= group
        else:
            found["Pretraining" if title.startswith("Pretraining") else ""] |= _values(kind, group, path)
    main, before = found[""], found["Pretraining"]
    if not {"dataset_name", "model_name", "training_steps"} <= set(main):
        raise DamagedError(f"{path} is not an hparams.log of OpenLTH: it names no dataset, network or training.")
    network = {name: value for name, value in main.items() if name in ModelHparams.names()}
    try:
        fraction = float(pruning.get("pruning_fraction", 0.2))
    except ValueError as error:
        raise DamagedError(
            f"{path} sets pruning_fraction to '{pruning['pruning_fraction']}', which is not a number."
        ) from error
    return OpenLTHLog(main, {**network, **before} if before else {}, _pruning(pruning), fraction)


_KINDS: Mapping[str, type[Hparams]] = {
    "Dataset Hyperparameters": DatasetHparams,
    "Model Hyperparameters": ModelHparams,
    "Training Hyperparameters": TrainingHparams,
}


def read_metrics(path: Path) -> Metrics:
    """Read a `logger`: `name,iteration,value` lines. Raises: DamagedError for anything else."""
    metrics = Metrics()
    try:
        for line in _lines(path, "OpenLTH's logger"):
            name, iteration, value = line.split(",")
            metrics.add(name, int(iteration), float(value))
    except ValueError as error:
        raise DamagedError(f"{path} cannot be read as OpenLTH's logger ({error}).") from error
    return metrics


def _groups(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Return the titles, each with its settings as text."""
    groups: list[tuple[str, dict[str, str]]] = []
    for line in _lines(path, "an hparams.log of OpenLTH"):
        setting = _SETTING.fullmatch(line)
        if setting is None:
            groups.append((line.strip(), {}))
        elif groups:
            groups[-1][1][setting[1]] = setting[2].strip()
    return groups


def _lines(path: Path, what: str) -> list[str]:
    try:
        return read_file(path).decode().splitlines()
    except (ValueError, OSError) as error:
        raise DamagedError(f"{path} cannot be read as {what} ({error}).") from error


def _values(kind: type[Hparams], group: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return the settings of one group as values of this project's hyperparameters."""
    texts: dict[str, str] = {}
    for name, text in group.items():
        texts |= _SPELLINGS.get((name, text), {} if text == "None" else {name: text})
    known = {each.name: each for each in fields_of(kind.group_for(texts))}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            raise EnvironmentFailure(f"{path} sets {name} to {text}, which this project has no hyperparameter for.")
        try:
            values[name] = _value(text, known[name].types)
        except ValueError as error:
            raise DamagedError(f"{path} sets {name} to '{text}', which is not a number.") from error
    return values


def _value(text: str, types: tuple[type, ...]) -> Any:
    if bool in types:
        return text == "True"
    if int in types:
        return int(text)
    return float(text) if float in types else text


def _pruning(group: Mapping[str, str]) -> dict[str, Any]:
    if "pruning_strategy" not in group:
        return {}
    strategy, ignored = group["pruning_strategy"], group.get("pruning_layers_to_ignore", "None")
    layers = None if ignored == "None" else ignored
    return {"strategy": _STRATEGIES.get(strategy, strategy), "pruning_layers_to_ignore": layers}
