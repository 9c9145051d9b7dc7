"""Tables for programs: a line for each cell, with the addresses of its runs."""

from __future__ import annotations

from analysis.rows.runs import to_csv
from analysis.tables.format import TableFormat
from analysis.tables.table import ResultsTable


def write_csv(table: ResultsTable) -> str:
    """Return one cell per line; numbers in their shortest exact form, accuracies as fractions, None as empty."""
    points = table.points()
    return to_csv(list(points[0]) if points else [*table.head, table.column_key], points)


CSV = TableFormat(
    spelling="csv", summary="a line for each cell, for programs", endings=(".csv",), write=write_csv, has_notes=False
)
