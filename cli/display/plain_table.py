"""Plain tables of text: aligned columns that a person reads and a program can split."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    """Return rows under their column names, each column as wide as it needs to be; an empty cell is a dash."""
    lines = [
        [name.upper() for name in columns],
        *([printable(row.get(name) or "-") for name in columns] for row in rows),
    ]
    widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - width_of(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def printable(text: str) -> str:
    """Replace control characters in a line by question marks: it may come from somebody else's description."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def printable_lines(text: str) -> str:
    """Replace control characters in lines by question marks."""
    return "\n".join(map(printable, text.split("\n")))


def width_of(text: str) -> int:
    """Return the width of a text in columns of a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage with two decimals, or nothing."""
    return "" if fraction is None else f"{100 * fraction:.2f}%"


def figure(value: float | None, form: str) -> str:
    """Return a result in a format such as `.4f`; None stands for a value that was not a finite number."""
    return "not a number" if value is None else format(value, form)


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would use."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
