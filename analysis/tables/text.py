"""Tables for terminals."""

from __future__ import annotations

from analysis.tables.format import TableFormat
from analysis.tables.table import ResultsTable

_BOLD, _PLAIN = "\033[1m", "\033[0m"


def text(table: ResultsTable, *, is_terminal: bool = False) -> str:
    """Return the table with aligned columns, its caption above and its notes below.

    is_terminal: whether the best of each column is bold.
    """
    head = [*table.head, *table.columns]
    rows = [[*line.keys, *(entry.text for entry in line.entries)] for line in table.lines]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    first = len(table.head)

    def aligned(cells: list[str]) -> list[str]:
        padded = zip(cells, widths, strict=True)
        return [cell.ljust(width) if place < first else cell.rjust(width) for place, (cell, width) in enumerate(padded)]

    place = sum(width + 2 for width in widths[:first])  # the columns' own name stands above the first of them
    named = " " * place + table.column_key if table.columns else ""
    lines = [table.caption, "", named, "  ".join(aligned(head)), "  ".join("-" * width for width in widths)]
    for row, line in zip(rows, table.lines, strict=True):
        cells = aligned(row)
        for place, entry in enumerate(line.entries, first):
            if is_terminal and entry.is_best:
                cells[place] = f"{_BOLD}{cells[place]}{_PLAIN}"
        lines.append("  ".join(cells))
    if table.notes:
        lines += ["", *table.notes]
    return "\n".join(line.rstrip() for line in lines) + "\n"


TEXT = TableFormat(spelling="text", summary="aligned columns, for a terminal", endings=(".txt",), write=text)
