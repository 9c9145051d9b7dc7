"""Plain tables: aligned columns that a person reads and a program can split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    """Return rows under their column names, each column as wide as it needs to be; an empty cell is a dash."""
    cells = [[name.upper() for name in columns], *([row.get(name) or "-" for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage with two decimals, or nothing."""
    return "" if fraction is None else f"{100 * fraction:.2f}%"


def figure(value: float | None, form: str) -> str:
    """Return a result in a format such as `.4f`; None stands for a value that was no finite number."""
    return "not a number" if value is None else format(value, form)


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would use."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
