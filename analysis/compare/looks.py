"""Looks of lines, the same in figures and reports. Imports no torch.

The palette is safe for colour-blind readers (Okabe and Ito 2008, indigo of Tol's 'muted', and five more for plug-ins),
and each colour has a marker, so that figures can be read in black and white. A strategy has the same colour and marker
everywhere: `_METHODS` has those of open_prune, and a plug-in's follow from its name.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.compare.points import DENSE
from pruning.registry import METHODS

_GREY, _ORANGE, _BLUE, _SKY = "#666666", "#E69F00", "#0072B2", "#56B4E9"
_GREEN, _INDIGO, _VERMILLION, _PURPLE = "#009E73", "#332288", "#D55E00", "#CC79A7"
_OWN_COLORS = ("#6C2400", "#0000FC", "#90C06C", "#546CFC", "#243054")
"""Brown, pure blue, leaf green, periwinkle and navy: for plug-ins only."""
PALETTE = (_GREY, _ORANGE, _BLUE, _SKY, _GREEN, _INDIGO, _VERMILLION, _PURPLE, *_OWN_COLORS)
_SOLID: Any = "-"
_BROKEN: Any = (0, (4, 1.2))
_DOTTED: Any = (0, (1, 1.1))
DASHES = (_SOLID, _BROKEN, _DOTTED)
_MARKERS = "os^vDd<>P*ph8HX"
_OWN_MARKERS = ("X", "star4", "star3", "h")
"""Markers that no strategy of open_prune has."""
_SHAPES: dict[str, Any] = {"star4": (4, 1, 0), "star3": (3, 1, 0)}
"""Matplotlib's notation for markers without a letter."""
_SIZES = {"X": 4.6, "P": 4.6, "*": 5.2, "star4": 6.0, "star3": 6.0, "D": 3.0, "s": 3.3, "d": 4.0}
"""Sizes in points of markers that look smaller or larger than others of the same size."""
_EDGES = {"markeredgecolor": "white", "markeredgewidth": 0.4}
# Related methods share a colour (GraSP and its absolute form). Dashes and marker together are of one method alone, for
# black and white.
_METHODS = {
    "random": (_GREY, _SOLID, "o"),
    "magnitude": (_ORANGE, _SOLID, "s"),
    "snipN": (_BLUE, _SOLID, "^"),
    "forceN": (_SKY, _SOLID, "v"),
    "graspN": (_GREEN, _SOLID, "D"),
    "graspabsN": (_GREEN, _BROKEN, "d"),
    "taylorN": (_INDIGO, _SOLID, "<"),
    "fisherN": (_INDIGO, _BROKEN, ">"),
    "synflow": (_VERMILLION, _SOLID, "P"),
    "synflowl2": (_VERMILLION, _BROKEN, "*"),
    "phew": (_PURPLE, _SOLID, "p"),
    "grasp_itN": (_GREEN, _DOTTED, "8"),
    "prosprN": (_BLUE, _BROKEN, "H"),
    "hutchinsonN": (_INDIGO, _DOTTED, "o"),
    "grad_normN": (_SKY, _BROKEN, "s"),
    "ntk_sap": (_PURPLE, _BROKEN, "^"),
    "pxN": (_PURPLE, _DOTTED, "v"),
}
_OTHERS = tuple(
    (colour, dashes)
    for dashes in DASHES
    for colour in (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY, _INDIGO, _GREY)
)


@dataclass(frozen=True)
class Look:
    """The colour, dashes and marker of a line."""

    color: str
    linestyle: Any
    """A matplotlib line style."""
    marker: str

    @property
    def shape(self) -> Any:
        """The marker, for matplotlib."""
        return _SHAPES.get(self.marker, self.marker)

    @property
    def line(self) -> dict[str, Any]:
        """Matplotlib's arguments for a line without markers."""
        return {"color": self.color, "linestyle": self.linestyle}

    @property
    def filled(self) -> dict[str, Any]:
        """Matplotlib's arguments for filled markers."""
        return {"marker": self.shape, "markersize": _SIZES.get(self.marker, 3.8), **_EDGES}

    @property
    def open(self) -> dict[str, Any]:
        """Matplotlib's arguments for open markers."""
        colors = {"markeredgecolor": self.color, "markerfacecolor": "white", "markeredgewidth": 0.8}
        return {"marker": self.shape, "markersize": _SIZES.get(self.marker, 3.8), **colors}


DENSE_LOOK = Look("black", (0, (3, 1.5)), "None")


def looks(strategies: Sequence[str | None]) -> list[Look]:
    """Return the look of each line. No two lines look the same, unless there are more lines than looks.

    strategies: the strategy of each line, which determines its colour, or None if lines show something else.
    """
    found: list[Look] = []
    taken: set[Look] = set()  # thousands of lines share a few hundred looks
    others = itertools.count()
    own = _own_looks(frozenset(strategy for strategy in strategies if strategy and _is_own(strategy)))
    for strategy in strategies:
        look = own.get(strategy) or _look_of_method(strategy) if strategy else None
        if look is None:
            place = next(others)
            look = Look(*_OTHERS[place % len(_OTHERS)], _MARKERS[place % len(_MARKERS)])
        if look in taken:
            others_alike = [replace(look, linestyle=line, marker=marker) for marker in _MARKERS for line in DASHES]
            look = _fresh([look, *others_alike], taken)
        taken.add(look)
        found.append(look)
    return found


def place_of(strategy: str | None) -> int:
    """Return the place of a strategy among all methods; other texts come last."""
    known = strategy is not None and strategy in METHODS
    return _places().get(METHODS.find(str(strategy)).spelling, len(_places())) if known else len(_places())


@functools.cache
def _places() -> dict[str, int]:
    return {method.spelling: place for place, method in enumerate(METHODS)}


def _look_of_method(strategy: str) -> Look:
    """Return the look of a strategy of open_prune, or of dense networks."""
    if strategy == DENSE:
        return DENSE_LOOK
    return Look(*_METHODS[METHODS.find(strategy).spelling])


def _is_own(strategy: str) -> bool:
    """Return whether a strategy is a plug-in's. Drawing its runs does not require loading it."""
    return strategy != DENSE and (strategy not in METHODS or METHODS.find(strategy).spelling not in _METHODS)


@functools.lru_cache(maxsize=64)
def _own_looks(strategies: frozenset[str]) -> dict[str, Look]:
    """Return the looks of plug-ins' strategies, which follow from their names.

    If two names give the same colour, the first in alphabetical order has it, and the other takes the next free one.
    The colours of loaded plug-ins stay reserved in figures that do not show them.
    """
    names = {*strategies, *(method.spelling for method in METHODS if method.plugin and not method.pattern)}
    wishes = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) for name in sorted(names)}
    number = len(_OWN_COLORS)
    first = {wish % number: name for name, wish in reversed(wishes.items())}
    found: dict[str, Look] = {}
    for name in sorted(wishes, key=lambda name: (first[wishes[name] % number] != name, name)):
        place, mark = wishes[name] % number, wishes[name] // number % len(_OWN_MARKERS)
        colors, markers = _OWN_COLORS[place:] + _OWN_COLORS[:place], _OWN_MARKERS[mark:] + _OWN_MARKERS[:mark]
        choices = [Look(color, dashes, marker) for dashes in DASHES for color in colors for marker in markers]
        found[name] = _fresh(choices, found.values())
    return found


def _fresh(choices: Sequence[Look], taken: Collection[Look]) -> Look:
    """Return an unused look, if possible with dashes and a marker that are unused; the first if all are used."""
    lines = {(each.color, str(each.linestyle)) for each in taken}
    markers = {each.marker for each in taken}
    unused = [each for each in choices if each not in taken] or choices
    return min(unused, key=lambda each: ((each.color, str(each.linestyle)) in lines, each.marker in markers))
