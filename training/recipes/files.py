"""The recipes of papers' code bases, from the TOML files beside this one, a file for each code base.

`[groups]` holds named hyperparameters, some `from` other groups, whose values they replace: `cifar` of this file, or
`openlth.cifar` of an earlier one. `[recipes]` holds recipes, by a family whose names they take, or by
a name of their own together with a `model`. `{depth}` in a name stands for one of the `depths`, or for any number;
`listed` are the depths that lists show. `names` are a recipe's names where they do not follow from that.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from models.family import DEPTH
from models.registry import FAMILIES
from training.recipes import Recipe


def recipes_in(file: str) -> Iterator[Recipe]:
    """Yield the recipes of a file, by its name without `.toml`. It reads the files of the groups that it uses, too."""
    content = _content_of(file)
    reached = content.get("reached", {})
    for spelling, entry in content["recipes"].items():
        hparams, lottery = (_merged(entry.get(part, ()), file) for part in ("hparams", "lottery"))
        family = None if "model" in entry else FAMILIES.spelled(spelling)
        if family is not None:
            yield Recipe.of_family(family, hparams, lottery, reached)
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


@functools.cache
def _content_of(file: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / f"{file}.toml").read_text(encoding="utf-8"))


def _merged(groups: Iterable[str], file: str) -> dict[str, Any]:
    """Return the values of some groups, named from a file, where later ones replace earlier ones."""
    merged: dict[str, Any] = {}
    for group in groups:
        other, _, name = group.rpartition(".")
        values = _content_of(other or file)["groups"][name]
        merged |= _merged(values.get("from", ()), other or file)
        merged |= {hparam: value for hparam, value in values.items() if hparam != "from"}
    return merged
