"""Plain tables of text: aligned columns that a person reads and a program can split."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

_WIDER_THAN_ANY_ROW = 10_000


def table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    """Return rows under their column names, each column as wide as it needs to be; an empty cell is a dash."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(*(name.upper() for name in columns), box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for row in rows:
        made.add_row(*(Text(row.get(name) or "-", overflow="ignore", no_wrap=True) for name in columns))
    text = io.StringIO()
    Console(file=text, width=_WIDER_THAN_ANY_ROW, color_system=None).print(made)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


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
