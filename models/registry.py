"""The names of all networks, and the recipe that `--default_hparams` gives for each.

A family is a line of data here: how its names are spelled, what is checked of them, who builds it, and the recipe of
its paper. Nothing in this file needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foundations.errors import UsageError, did_you_mean

_N = r"[1-9]\d*"
_DEPTH = rf"_(?P<depth>{_N})"
_WIDTH = rf"(?:_(?P<width>{_N}))?"
_UNITS = rf"(?P<units>(?:_{_N})+)"


@dataclass(frozen=True)
class Family:
    """A family of networks whose names follow one pattern."""

    spelling: str
    """The names as people write them: `cifar_resnet_D[_W]`."""
    pattern: str
    """The same as a regular expression over the whole name; its groups `depth` and `width` are numbers."""
    builder: str
    """`module:function`, called with the parts of the name (see `Parts`), `outputs` and `input_shape`."""
    source: str
    """The paper or code base whose network this is."""
    recipe: Mapping[str, Any]
    """Hyperparameters of `--default_hparams`, by flag, without `model_name`."""
    examples: tuple[str, ...]
    """Names to list and to suggest."""
    width: int | None = None
    """The width of a name that gives none."""
    possible: Callable[[int], bool] = field(default=lambda _: True)
    """Whether there is a network of this depth."""
    rule: str = ""
    """`possible` in words."""
    batchnorm: bool = True
    """Whether its networks have batch normalization, so that hyperparameters about it mean something."""


@dataclass(frozen=True)
class Parts:
    """What a name says: the arguments of a builder that come from it."""

    depth: int | None
    width: int | None
    units: tuple[int, ...]


_OPENLTH = "OpenLTH"
_LENET = {
    "dataset_name": "mnist",
    "batch_size": 128,
    "model_init": "kaiming_normal",
    "batchnorm_init": "uniform",
    "optimizer_name": "sgd",
    "lr": 0.1,
    "training_steps": "40ep",
}
_CIFAR = {
    "dataset_name": "cifar10",
    "batch_size": 128,
    "model_init": "kaiming_normal",
    "batchnorm_init": "uniform",
    "optimizer_name": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "milestone_steps": "80ep,120ep",
    "gamma": 0.1,
    "training_steps": "160ep",
    "weight_decay": 1e-4,
}
_DIGITS = {
    "dataset_name": "digits",
    "batch_size": 64,
    "model_init": "kaiming_normal",
    "batchnorm_init": "uniform",
    "optimizer_name": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "milestone_steps": "6ep,9ep",
    "gamma": 0.1,
    "training_steps": "12ep",
    "weight_decay": 1e-4,
}


def _6n_plus_2(depth: int) -> bool:
    return depth > 2 and depth % 6 == 2


FAMILIES = (
    Family(
        spelling="mnist_lenet_N[_M...]",
        pattern=f"mnist_lenet{_UNITS}",
        builder="models.lenet:lenet",
        source=_OPENLTH,
        recipe=_LENET,
        examples=("mnist_lenet_300_100", "mnist_lenet_500_500"),
        batchnorm=False,
    ),
    Family(
        spelling="digits_lenet_N[_M...]",
        pattern=f"digits_lenet{_UNITS}",
        builder="models.lenet:lenet",
        source="mnist_lenet for the 8x8 digits",
        recipe=_DIGITS,
        examples=("digits_lenet_40_20",),
        batchnorm=False,
    ),
    Family(
        spelling="cifar_resnet_D[_W]",
        pattern=f"cifar_resnet{_DEPTH}{_WIDTH}",
        builder="models.cifar_resnet:cifar_resnet",
        source=_OPENLTH,
        recipe=_CIFAR,
        examples=(
            "cifar_resnet_8",
            "cifar_resnet_14",
            "cifar_resnet_20",
            "cifar_resnet_32",
            "cifar_resnet_44",
            "cifar_resnet_56",
            "cifar_resnet_110",
            "cifar_resnet_20_32",
            "cifar_resnet_32_32",
            "cifar_resnet_20_64",
        ),
        width=16,
        possible=_6n_plus_2,
        rule="D is 8, 14, 20, 26, 32, ... (6n + 2)",
    ),
    Family(
        spelling="digits_resnet_D[_W]",
        pattern=f"digits_resnet{_DEPTH}{_WIDTH}",
        builder="models.cifar_resnet:cifar_resnet",
        source="cifar_resnet for the 8x8 digits",
        recipe=_DIGITS,
        examples=("digits_resnet_8", "digits_resnet_14"),
        width=16,
        possible=_6n_plus_2,
        rule="D is 8, 14, 20, 26, 32, ... (6n + 2)",
    ),
)


def families() -> tuple[Family, ...]:
    """Return all families, in the order in which they are listed."""
    return FAMILIES


def canonical_model_name(name: str) -> str:
    """Return the one spelling of a network's name: `cifar_resnet_20` for `cifar_resnet_20_16`.

    Raises: UsageError about `--model_name` for a name that no family knows.
    """
    family, parts = find_family(name)
    if parts.width is None:
        return name
    stem = family.spelling.partition("_D")[0]
    return f"{stem}_{parts.depth}" if parts.width == family.width else f"{stem}_{parts.depth}_{parts.width}"


def find_family(name: str, flag: str = "model_name") -> tuple[Family, Parts]:
    """Return the family of a name and what the name says.

    Raises: UsageError about `flag` for a name that no family knows, or for a depth that its family does not have.
    """
    for family in FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match is None:
            continue
        groups = match.groupdict()
        depth = int(groups["depth"]) if groups.get("depth") else None
        width = int(groups["width"]) if groups.get("width") else family.width
        units = tuple(int(unit) for unit in (groups.get("units") or "").split("_") if unit)
        if depth is not None and not family.possible(depth):
            raise UsageError(f"--{flag}: there is no '{name}': in {family.spelling}, {family.rule}.")
        return family, Parts(depth, width, units)
    examples = [example for family in FAMILIES for example in family.examples]
    possible = ", ".join(family.spelling for family in FAMILIES)
    raise UsageError(f"--{flag}: '{name}' is not known.{did_you_mean(name, examples)} Possible: {possible}.")


def recipe(name: str) -> dict[str, Any]:
    """Return what `--default_hparams=NAME` sets: hyperparameters by flag, only those that the recipe gives.

    Raises: UsageError about `--default_hparams` for a name that is not known.
    """
    family, _ = find_family(name, flag="default_hparams")
    return {"model_name": canonical_model_name(name), **family.recipe}
