"""The recipes of papers' code bases, from the TOML files beside this one, a file for each code base.

`[groups]` holds named hyperparameters, some `from` other groups, whose values they replace: `cifar` of this file, or
`openlth.cifar` of an earlier one. `[recipes]` holds recipes, by a family whose names they take, or by
a name of their own together with a `model`. `{depth}` in a name stands for one of the `depths`, or for any number;
`listed` are the depths that lists show. `names` are a recipe's names where they do not follow from that.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from models.family import DEPTH
from models.registry import FAMILIES
from training.recipes import Recipe

_FILES = (
    "openlth",
    "standard",
    "transformers",
    "other_inputs",
    "missing_the_mark",
    "synaptic_flow",
    "synaptic_flow_imagenet",
    "phew",
    "grasp",
    "tost",
    "tost_lottery",
    "pruning_wrapper",
)
"""In the order of lists. A file uses groups of files before it."""


def _read(folder: Path) -> Iterator[Recipe]:
    groups: dict[str, dict[str, Any]] = {}
    families = {family.spelling: family for family in FAMILIES}
    for file in _FILES:
        content = tomllib.loads((folder / f"{file}.toml").read_text(encoding="utf-8"))
        for name, values in content.get("groups", {}).items():
            groups[f"{file}.{name}"] = _merged(values.pop("from", ()), file, groups) | values
        for spelling, entry in content["recipes"].items():
            hparams, lottery = (_merged(entry.get(part, ()), file, groups) for part in ("hparams", "lottery"))
            reached = content.get("reached", {})
            if spelling in families:
                yield Recipe.of_family(families[spelling], hparams, lottery, reached)
                continue
            names, depths = entry.get("names", spelling), entry.get("depths", ())
            number = f"_(?P<depth>{'|'.join(map(str, depths))})" if depths else DEPTH
            yield Recipe(
                spelling=spelling.replace("{depth}", "D"),
                pattern=names.replace("_{depth}", number) if "{depth}" in names else "",
                examples=tuple(names.format(depth=depth) for depth in entry.get("listed", depths)),
                model=entry["model"],
                source=entry.get("source", content.get("source")),
                hparams=hparams,
                lottery=lottery,
                reached=reached,
            )


def _merged(names: Iterable[str], file: str, groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of some groups, where later ones replace earlier ones."""
    return {key: value for name in names for key, value in groups[name if "." in name else f"{file}.{name}"].items()}


# The registry takes the recipes among a module's globals.
globals().update({recipe.spelling: recipe for recipe in _read(Path(__file__).parent)})
