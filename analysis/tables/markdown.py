"""Tables in Markdown."""

from __future__ import annotations

import re

from analysis.tables.format import TableFormat
from analysis.tables.table import Entry, ResultsTable


def markdown(table: ResultsTable) -> str:
    """Return the table as GitHub and others render it, the best of each column in bold."""
    head = [*map(_escaped, table.head), *(_escaped(f"{table.column_key} {column}") for column in table.columns)]
    rules = ["---"] * len(table.head) + ["---:"] * len(table.columns)
    rows = [[*map(_escaped, line.keys), *map(_cell, line.entries)] for line in table.lines]
    lines = [f"| {' | '.join(row)} |" for row in (head, rules, *rows)]
    notes = [part for note in table.notes for part in ("", _escaped(note))]
    return "\n".join([_escaped(table.caption), "", *lines, *notes]) + "\n"


def _cell(entry: Entry) -> str:
    text = _escaped(entry.text)
    return f"**{text}**" if entry.is_best else text


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


MARKDOWN = TableFormat(spelling="markdown", summary="for a README or an issue", endings=(".md",), write=markdown)
