"""The command that prints a table of results. It imports no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analysis.rows.runs import read_rows
from analysis.tables.format import TableFormat
from analysis.tables.registry import TABLE_FORMATS
from analysis.tables.table import ResultsTable, TableOptions, make_table
from analysis.tables.text import TEXT
from cli.request.flags import command
from cli.request.folder_flags import RootHparams
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError, choose_from
from foundations.files import write_atomically
from foundations.storage.root import check_output


@dataclass(frozen=True, kw_only=True)
class TableOutputHparams(RootHparams):
    """Output and format of the table."""

    format: str | None = hparam(None, choices=TABLE_FORMATS)
    """By default what the ending of --out says, else text."""
    out: str | None = hparam(None)
    """The file; by default standard output."""


@command(table=TableOptions, output=TableOutputHparams)
def table(environment: Environment, table: TableOptions, output: TableOutputHparams) -> int:
    """Print a table of results: mean and spread over replicates, in rows and columns."""
    path = None if output.out is None else Path(output.out).expanduser()
    chosen = format_of(output.format, path)
    root = output.root_in(environment)
    if path is not None:
        check_output(root, path)
    made = make_table(read_rows(root), table)
    if not made.lines:
        none = f"No runs under {root}" + (f" with {table.where}." if table.where else ".")
        print(none, *made.comparison.notes(), sep="\n")
        return 0
    write = (
        partial(ResultsTable.aligned, is_terminal=sys.stdout.isatty())
        if chosen is TEXT and path is None
        else chosen.text
    )
    content = write(made)
    if path is None:
        print(content, end="")
    else:
        write_atomically(path, content.encode())
        print(f"wrote {path}")
    if not chosen.has_notes:
        for note in made.notes:
            print(note, file=sys.stderr)
    return 0


def format_of(name: str | None, path: Path | None) -> TableFormat:
    """Return the format of a name or, without one, of a path's ending. Raises: UsageError for another ending."""
    if name is not None:
        return TABLE_FORMATS.find(name)
    if path is None:
        return TEXT
    endings = {ending: each for each in TABLE_FORMATS for ending in each.endings}
    if path.suffix not in endings:
        raise UsageError(f"'{path}' does not end with a known format{choose_from(path.suffix, endings)}", "out")
    return endings[path.suffix]
