"""How the lines of a report are drawn: a strategy has one colour and marker in every report. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pruning.registry import METHODS

COLORS = 8
"""Of the style sheet: grey, orange, blue, sky, green, indigo, vermillion, purple (Okabe and Ito 2008; indigo of Tol's
'muted'), so that people with any colour vision tell them apart."""
_GREY, _ORANGE, _BLUE, _SKY, _GREEN, _INDIGO, _VERMILLION, _PURPLE = range(COLORS)
MARKS = "os^vDd<>P*ph"
"""Names of markers, as matplotlib has them; chart.js draws them."""
DASHES = ("", "6 3", "1.5 3")
"""Lengths of dashes and gaps, in pixels."""
# By place in the registry of methods: kindred ones (GraSP and its absolute form) share a colour.
_METHODS = (
    (_GREY, 0),  # random
    (_ORANGE, 0),  # magnitude
    (_BLUE, 0),  # snip
    (_SKY, 0),  # force
    (_GREEN, 0),  # grasp
    (_GREEN, 1),  # graspabs
    (_INDIGO, 0),  # taylor
    (_INDIGO, 1),  # fisher
    (_VERMILLION, 0),  # synflow
    (_VERMILLION, 1),  # synflowl2
    (_PURPLE, 0),  # phew
)
_OTHERS = (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY, _INDIGO, _GREY)


@dataclass(frozen=True)
class Look:
    """How a line is drawn."""

    color: int
    """Which of the style sheet's colours."""
    dash: str
    mark: str


def looks(strategies: Sequence[str | None]) -> list[Look]:
    """Return how each of some lines is drawn; no two look the same, as long as there are looks.

    strategies: that of each line, or None where it has none. Where it is the same for all, colours stand for lines.
    """
    is_telling = len(set(strategies)) > 1 or len(strategies) == 1
    found: list[Look] = []
    others = itertools.count()
    for strategy in strategies:
        look = _of_method(strategy) if strategy and is_telling else None
        if look is None:
            place = next(others)
            dash = DASHES[place // COLORS % len(DASHES)]
            look = Look(_OTHERS[place % COLORS], dash, MARKS[place % len(MARKS)])
        found.append(_different(look, found))
    return found


def _different(look: Look, taken: Sequence[Look]) -> Look:
    """Return a look of the same colour that no other line has, as long as there are any."""
    if look not in taken:
        return look
    dashes = {each.dash for each in taken if each.color == look.color}
    marks = {each.mark for each in taken}
    fresh = [each for mark in MARKS for dash in DASHES if (each := Look(look.color, dash, mark)) not in taken]
    return min(fresh, key=lambda each: (each.dash in dashes, each.mark in marks), default=look)


def _of_method(strategy: str) -> Look | None:
    """Return the look of a strategy; None where it is not the name of a method."""
    if strategy not in METHODS:
        return None
    place = [method.spelling for method in METHODS].index(METHODS.find(strategy).spelling)
    if place < len(_METHODS):
        color, dash = _METHODS[place]
        return Look(color, DASHES[dash], MARKS[place])
    return Look((place - len(_METHODS) + 1) % COLORS, DASHES[2], MARKS[-1 - place % len(MARKS)])  # of a plug-in
