"""Looks of the lines of a report: as in figures, a strategy has one colour and marker. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.figures import style

DASHES = ("", "6 3", "1.5 3")
"""Lengths of dashes and gaps in pixels, in the order of `style.DASHES`."""


@dataclass(frozen=True)
class Look:
    """The colour, dashes and marker of a line."""

    color: int
    """The index of a colour in the style sheet: the colours of `style.PALETTE`, and others in dark mode."""
    dash: str
    mark: str
    """The name of a marker in `style.Look`; chart.js draws it."""


def looks(strategies: Sequence[str | None]) -> list[Look]:
    """Return the look of each line. No two lines look the same, unless there are more lines than looks.

    strategies: the strategy of each line, or None. If all have the same strategy, colours stand for lines.
    """
    is_telling = len(set(strategies)) > 1 or len(strategies) == 1
    found = style.looks(strategies if is_telling else [None] * len(strategies))
    return [
        Look(style.PALETTE.index(each.color), DASHES[style.DASHES.index(each.linestyle)], each.marker) for each in found
    ]
