"""The names of all networks, and the recipe that `--default_hparams` gives for each. Nothing here needs torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from foundations.errors import UsageError, did_you_mean
from models.families import FAMILIES
from models.family import Family, Parts, Preset
from models.presets import PRESETS


def families() -> tuple[Family, ...]:
    """Return all families, in the order in which they are listed."""
    return FAMILIES


def presets() -> tuple[Preset, ...]:
    """Return the recipes that have names of their own, in the order in which they are listed."""
    return PRESETS


def canonical_model_name(name: str) -> str:
    """Return the one spelling of a network's name: `cifar_resnet_20` for `cifar_resnet_20_16`.

    Raises: UsageError about `--model_name` for a name that no family knows.
    """
    family, parts = find_family(name)
    if family.width is None or parts.width != family.width:
        return name
    return f"{family.spelling.partition('_D')[0]}_{parts.depth}"


def find_family(name: str) -> tuple[Family, Parts]:
    """Return the family of a name and what the name says.

    Raises: UsageError about `--model_name` for a name that no family knows, or a depth that its family does not have.
    """
    found = _match(name, "model_name")
    if found is None:
        raise _unknown(name, "model_name", (family.spelling for family in FAMILIES), _names_of(FAMILIES))
    return found


def recipe(name: str) -> dict[str, Any]:
    """Return what `--default_hparams=NAME` sets: hyperparameters by flag, only those that the recipe gives.

    Raises: UsageError about `--default_hparams` for a name that is not known.
    """
    for preset in PRESETS:
        match = re.fullmatch(preset.pattern, name, re.ASCII)
        if match is not None:
            model = preset.model.format(**match.groupdict())
            if _match(model, "default_hparams") is not None:
                return {"model_name": canonical_model_name(model), **preset.recipe}
    found = _match(name, "default_hparams")
    if found is None:
        lines = (*FAMILIES, *PRESETS)
        raise _unknown(name, "default_hparams", (line.spelling for line in lines), _names_of(lines))
    return {"model_name": canonical_model_name(name), **found[0].recipe}


def _match(name: str, flag: str) -> tuple[Family, Parts] | None:
    for family in FAMILIES:
        match = re.fullmatch(family.pattern, name, re.ASCII)
        if match is None:
            continue
        groups = match.groupdict()
        depth = int(groups["depth"]) if groups.get("depth") else None
        width = int(groups["width"]) if groups.get("width") else family.width
        units = tuple(int(unit) for unit in (groups.get("units") or "").split("_") if unit)
        member = groups.get("member") or ""
        if depth is not None and not family.possible(depth):
            raise UsageError(f"there is no '{name}': in {family.spelling}, {family.rule}.", flag)
        if family.members and member not in family.members:
            raise UsageError(
                f"there is no '{name}'.{did_you_mean(member, family.members)} "
                f"Possible in {family.spelling}: {', '.join(family.members)}.",
                flag,
            )
        return family, Parts(depth, width, units, member)
    return None


def _names_of(lines: tuple[Family | Preset, ...]) -> list[str]:
    return [example for line in lines for example in line.examples]


def _unknown(name: str, flag: str, spellings: Iterable[str], examples: list[str]) -> UsageError:
    return UsageError(f"'{name}' is not known.{did_you_mean(name, examples)} Possible: {', '.join(spellings)}.", flag)
