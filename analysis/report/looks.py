"""How the lines of a report are drawn: as in figures, a strategy has one colour and marker. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.figures import style

DASHES = ("", "6 3", "1.5 3")
"""Lengths of dashes and gaps in pixels, in the order of `style.DASHES`."""


@dataclass(frozen=True)
class Look:
    """How a line is drawn."""

    color: int
    """Which of the style sheet's colours, which are those of `style.PALETTE`, and others in dark mode."""
    dash: str
    mark: str
    """The name of a marker, as `style.Look` has it; chart.js draws it."""


def looks(strategies: Sequence[str | None]) -> list[Look]:
    """Return how each of some lines is drawn; no two look the same, as long as there are looks.

    strategies: that of each line, or None where it has none. Where it is the same for all, colours stand for lines.
    """
    is_telling = len(set(strategies)) > 1 or len(strategies) == 1
    found = style.looks(strategies if is_telling else [None] * len(strategies))
    return [
        Look(style.PALETTE.index(each.color), DASHES[style.DASHES.index(each.linestyle)], each.marker) for each in found
    ]
