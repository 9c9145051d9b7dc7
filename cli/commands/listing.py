"""The command that lists the runs. It imports no torch."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.compare.comparison import run_notes
from analysis.compare.differences import in_epochs
from analysis.compare.telling_apart import abridged, shortened, told_apart
from analysis.rows.lineage import by_descent
from analysis.rows.run_row import COLUMNS, Row
from analysis.rows.runs import columns_of, read_rows
from analysis.rows.selection import check_names, chosen, ordered
from cli.display.fitted_table import fitted_table, is_within, terminal_width, wrapped
from cli.display.plain_table import duration, percent, printable, table
from cli.request.flags import command
from cli.request.folder_flags import RootHparams
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.metrics import is_fraction

DIFFERS = "differs"
"""The column with the hyperparameters that tell the listed runs apart."""
OWN_COLUMNS = (DIFFERS, "technique")
"""Columns that runs need not have."""
SHOWN = (
    "address",
    "branch",
    "status",
    "model",
    "data",
    "strategy",
    "technique",
    "sparsity",
    "accuracy",
    "age",
    "upstream",
    "origin",
    DIFFERS,
)
_ONLY_IF_ANY = ("technique", "upstream", "origin", DIFFERS)
"""Columns that are omitted if no run has a value for them."""
_FOLDED = ("data", "model", "technique", "upstream", "status", "branch", "strategy")
"""Columns that move above a table that is too wide, if all runs have the same value, in this order."""
_IMPORTANCE = (
    "address",
    "branch",
    "strategy",
    "sparsity",
    "accuracy",
    "status",
    "age",
    "technique",
    "model",
    "data",
    "upstream",
    "origin",
)
"""Columns by importance: in a narrow terminal, the first ones stay side by side."""


@dataclass(frozen=True, kw_only=True)
class FormatHparams(RootHparams):
    """Location of the runs, and output format."""

    json: bool = hparam(False)
    """Print every column and hyperparameter as JSON."""


@dataclass(frozen=True, kw_only=True)
class ListHparams(FormatHparams):
    """Selection, order and format of the listed runs."""

    where: str | None = hparam(None)
    """Only runs with key=value, several with commas: a column (status=complete), a hyperparameter (lr=0.1) or a result.
    Also !=, <, <=, > and >= of numbers, steps and durations ('density<0.3,training_steps>=10ep,age<2h'), and patterns
    (strategy=snip*). All must hold, but of several = for one key, one (strategy=snip10,strategy=random). A run without
    the value matches only key=None."""
    sort: str | None = hparam(None)
    """Sort by a column, a hyperparameter or a result, such as accuracy; with a minus before it, descending. By default
    each run comes after the one that it descends from, and the line with the newest run comes first."""
    columns: str | None = hparam(None)
    """Values to show, separated by commas: columns, results, hyperparameters, and differs, for the hyperparameters
    that tell the listed runs apart."""
    limit: int | None = hparam(None, at_least=1)
    """Show the first runs only, so many."""
    format: str = hparam("text", choices=("text", "csv", "json"))
    """csv and json have values as they are; without --columns, all that is known (json: as --json)."""


@command(listing=ListHparams)
def ls(environment: Environment, listing: ListHparams) -> int:
    """List the runs."""
    root = listing.root_in(environment)
    rows, key = read_rows(root), (listing.sort or "").removeprefix("-")
    in_order = ordered(rows, key, descending=(listing.sort or "").startswith("-")) if key else by_descent(rows)
    selected = chosen(in_order, listing.where)
    names = _names(listing.columns, rows)
    shown = selected[: listing.limit]
    if listing.json or listing.format != "text":
        print(_data(shown, rows, names, "json" if listing.json else listing.format), end="")
    elif selected:
        print(listed(shown, names, terminal_width()))
    else:
        print(f"No runs under {root}" + (f" with {listing.where}." if listing.where else "."))
    if len(shown) < len(selected):
        print(f"{len(selected) - len(shown):,} more of {len(selected):,} runs are not shown.", file=sys.stderr)
    return 0


def _names(columns: str | None, rows: Sequence[Row]) -> list[str]:
    """Return the names of --columns. Raises: UsageError for one that no run has."""
    if columns is None:
        return []
    names = list(dict.fromkeys(filter(None, (name.strip() for name in columns.split(",")))))
    if not names:
        raise UsageError("it names no column; write them with commas between, such as address,lr,accuracy.", "columns")
    check_names([name for name in names if name not in OWN_COLUMNS], rows, "columns", OWN_COLUMNS)
    return names


def _data(shown: Sequence[Row], rows: Sequence[Row], names: Sequence[str], form: str) -> str:
    """Return runs as JSON or CSV, with every digit."""
    if form == "json" and not names:
        return json.dumps([row.to_dict() for row in shown], indent=1, sort_keys=True) + "\n"
    if not names:
        return as_csv(columns_of(shown, rows))
    columns: dict[str, list[Any]] = {name: [row.value(name) for row in shown] for name in names}
    if DIFFERS in columns:
        columns[DIFFERS] = list(map(dict, told_apart(shown)))
    if form == "json":
        entries = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return json.dumps(entries, indent=1) + "\n"
    if DIFFERS in columns:
        columns[DIFFERS] = [" ".join(f"{name}={value}" for name, value in each.items()) for each in columns[DIFFERS]]
    return as_csv(columns)


def as_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return columns of values as CSV: numbers with every digit, nothing for None."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return content.getvalue()


def listed(rows: Sequence[Row], names: Sequence[str], width: int | None) -> str:
    """Return a table of runs. names: its columns; by default those of `SHOWN`.

    width: of the terminal, or None. If the table does not fit, default columns with the same value for all runs move
    above it.
    """
    columns, usual = list(names or _shown(rows)), dict[str, Any]()
    cells = [_cells(row, columns) for row in rows]
    if DIFFERS in columns:
        spare, usual = abridged(told_apart(rows), is_usual_apart=width is not None)
        for row, apart in zip(cells, spare, strict=True):
            row[DIFFERS] = _flags(apart)
    foot = [f"Unless a row states otherwise: {_flags(usual)}"] if usual else []
    foot += run_notes(rows)
    if names:
        return "\n".join([fitted_table(cells, columns, width), *_paragraphs(foot, width)])
    columns = [name for name in columns if name not in _ONLY_IF_ANY or any(row[name] for row in cells)]
    same: list[str] = []
    for name in _FOLDED if len(rows) > 1 else ():
        # A damaged run has nothing but its status.
        found = {row[name] for row, of in zip(cells, rows, strict=True) if of.is_readable or name == "status"}
        is_same = name in columns and len(found) == 1
        if width is not None and is_same and not is_within(table(cells, columns), width):
            columns.remove(name)
            same.append(f"{name} {next(iter(found)) or 'none'}")
    head = [f"All runs: {', '.join(same)}", ""] if same else []
    at = _IMPORTANCE.index("accuracy")
    others = [name for name in columns if name not in SHOWN]
    body = fitted_table(cells, columns, width, (*_IMPORTANCE[:at], *others, *_IMPORTANCE[at:]))
    return "\n".join([*_paragraphs(head, width), body, *_paragraphs(foot, width)])


def _shown(rows: Sequence[Row]) -> list[str]:
    """Return the default columns: those of `SHOWN`, with the headline metrics of the runs' tasks for accuracy."""
    metrics = list(dict.fromkeys(row.headline.spelling for row in rows if row.is_readable)) or ["accuracy"]
    at = SHOWN.index("accuracy")
    return [*SHOWN[:at], *metrics, *SHOWN[at + 1 :]]


def _paragraphs(lines: Sequence[str], width: int | None) -> list[str]:
    return [part for line in lines for part in wrapped(printable(line), width)]


def _flags(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={'None' if value is None else shortened(value)}" for name, value in values.items())


def _cells(row: Row, names: Sequence[str]) -> dict[str, str]:
    """Return the cells of a run, formatted for people."""
    cells = {}
    for name in names:
        value = None if name in OWN_COLUMNS and name != "technique" else row.value(name)
        if is_fraction(name):
            cells[name] = percent(value)
        elif name == "age":
            cells[name] = "" if value is None else duration(value)
        else:
            # None of the usual columns is a step; thousands of runs are listed.
            cells[name] = shortened(value if name in COLUMNS else in_epochs(value, row.iterations_per_epoch))
    return cells
