"""Tables for terminals."""

from __future__ import annotations

from analysis.tables.format import TableFormat

TEXT = TableFormat(spelling="text", summary="aligned columns, for a terminal", endings=(".txt",), write=str)
