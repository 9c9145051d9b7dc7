"""The formats of tables by name: a line for each file that declares one. Imports no torch."""

from __future__ import annotations

from analysis.tables.format import TableFormat
from foundations.registry import Registry

TABLE_FORMATS = Registry(
    TableFormat,
    "format",
    (
        "analysis.tables.text",
        "analysis.tables.markdown",
        "analysis.tables.latex",
        "analysis.tables.csv",
    ),
)
