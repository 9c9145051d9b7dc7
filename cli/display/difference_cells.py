"""Differences of runs, formatted for people."""

from __future__ import annotations

from typing import Any

from analysis.compare.differences import PLUGIN, Difference
from analysis.compare.telling_apart import shortened


def difference_cells(difference: Difference) -> list[str]:
    """Return the name of a difference and its values as texts. Different values have different texts."""
    short = [shortened(value) for value in difference.values]
    by_text: dict[str, Any] = {}
    is_clear = all(
        by_text.setdefault(text, value) == value for text, value in zip(short, difference.values, strict=True)
    )
    texts = short if is_clear else ["" if value is None else str(value) for value in difference.values]
    return [f"plug-in {difference.name}" if difference.kind == PLUGIN else difference.name, *texts]
