"""Tables for programs: a line for each cell, with the addresses of its runs."""

from __future__ import annotations

import csv
import io

from analysis.tables.format import TableFormat
from analysis.tables.table import ResultsTable


def write_csv(table: ResultsTable) -> str:
    """Return one cell per line; numbers in their shortest exact form, accuracies as fractions, None as empty."""
    text, points = io.StringIO(), table.points()
    writer = csv.DictWriter(text, list(points[0]) if points else [*table.head, table.column_key], lineterminator="\n")
    writer.writeheader()
    writer.writerows(points)
    return text.getvalue()


CSV = TableFormat(
    spelling="csv", summary="a line for each cell, for programs", endings=(".csv",), write=write_csv, has_notes=False
)
