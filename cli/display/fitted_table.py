"""Tables that fit a terminal: no line is longer than its width, and no word is split.

If standard output is not a terminal, tables are not fitted: programs read a line for each row.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence

from cli.display.plain_table import printable, table, width_of

_GAP = 2
_INDENT = "  "
_WORD = re.compile(r"[^ ,]*,+|[^ ,]+ *| +")
_WIDEST = 28
"""The maximum width of a column in a table that is too wide, unless a word is longer."""


def terminal_width() -> int | None:
    """Return the width of standard output in columns; None if it is not a terminal."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def wrapped(text: str, width: int | None) -> list[str]:
    """Wrap a text to a width, if there is one, at spaces and after commas. A longer word has its own line."""
    if width is None:
        return [text]
    lines = [""]
    for word in _WORD.findall(text):
        if lines[-1] and width_of(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word if lines[-1] else word.lstrip()
    return [line.rstrip() for line in lines]


def fitted_table(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], width: int | None, importance: Sequence[str] = ()
) -> str:
    """Return rows under their column names, as `table` does if that fits; else with fewer columns side by side.

    The last column is wrapped; columns that do not fit go below their row, as name=value.
    importance: the columns to keep side by side, most important first; by default those on the left.
    """
    plain = table(rows, columns)
    if width is None or is_within(plain, width):
        return plain
    cells = [{name: printable(row.get(name) or "-") for name in columns} for row in rows]
    widths = {name: max(width_of(name), *(width_of(row[name]) for row in cells)) for name in columns}
    beside = _beside(widths, width, [name for name in importance if name in widths] or columns)
    below = [name for name in columns if name not in beside]
    last = columns[-1]
    left = width - sum(widths[name] + _GAP for name in columns if name in beside)
    if last in below and left >= max(width_of(last), *(_longest_word(row[last]) for row in cells)):
        below.remove(last)
        beside, widths[last] = [*beside, last], left
    shown = [name for name in columns if name in beside]
    lines = aligned([[name.upper() for name in shown]], [widths[name] for name in shown])
    for row in cells:
        lines += aligned([[row[name] for name in shown]], [widths[name] for name in shown])
        details = " ".join(_detail(name, row[name]) for name in below if row[name] != "-")
        lines += [_INDENT + line for line in wrapped(details, width - len(_INDENT)) if line]
    return "\n".join(lines)


def banded_table(
    rows: Sequence[Sequence[str]], head: Sequence[str], width: int | None, headings: Mapping[int, str]
) -> str:
    """Return rows whose first cell is a name, in bands of as many of the other columns as fit side by side.

    headings: lines before some rows, by their number.
    """
    texts = [[printable(cell or "-") for cell in row] for row in rows]
    columns = [[head[place], *(row[place] for row in texts)] for place in range(len(head))]
    widths = [max(map(width_of, column)) for column in columns]
    if width is not None and sum(widths) + _GAP * (len(widths) - 1) > width:
        least = [max(map(_longest_word, column)) for column in columns]
        widths = [min(own, max(most, _WIDEST)) for own, most in zip(widths, least, strict=True)]
    bands = [list(range(1, len(head)))] if width is None else _bands(widths, width)
    parts = []
    for band in bands:
        places = [0, *band]
        own = [widths[place] for place in places]
        lines = aligned([[head[place] for place in places]], own)
        for number, row in enumerate(texts):
            lines += ["", headings[number]] if number in headings else []
            lines += aligned([[row[place] for place in places]], own)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def aligned(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Return rows in columns of given widths; wider cells are wrapped."""
    found = []
    for row in rows:
        cells = [
            wrapped(cell, width) if width_of(cell) > width else [cell] for cell, width in zip(row, widths, strict=True)
        ]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = (part + " " * (width - width_of(part)) for part, width in zip(parts, widths, strict=True))
            found.append((" " * _GAP).join(padded).rstrip())
    return found


def is_within(text: str, width: int) -> bool:
    """Return whether no line is longer than some width."""
    return all(width_of(line) <= width for line in text.split("\n"))


def _beside(widths: Mapping[str, int], width: int, importance: Sequence[str]) -> list[str]:
    """Return the columns that fit side by side, always including the first one."""
    found: list[str] = []
    for name in importance:
        if not found or sum(widths[each] + _GAP for each in (*found, name)) - _GAP <= width:
            found.append(name)
    return found


def _bands(widths: Sequence[int], width: int) -> list[list[int]]:
    """Return bands of column indices; each band fits the width beside the first column."""
    bands: list[list[int]] = []
    used = 0
    for place in range(1, len(widths)):
        if not bands or used + _GAP + widths[place] > width:
            bands.append([])
            used = widths[0]
        bands[-1].append(place)
        used += _GAP + widths[place]
    return bands


def _longest_word(text: str) -> int:
    return max((width_of(word.rstrip()) for word in _WORD.findall(text)), default=0)


def _detail(name: str, value: str) -> str:
    return value if "=" in value else f"{name}={value}"
