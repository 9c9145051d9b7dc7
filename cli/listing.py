"""The command that lists the runs. It imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.lineage import by_descent
from analysis.row import Row
from analysis.runs import read_rows
from analysis.selection import chosen, ordered
from cli.flags import parse
from cli.folder_flags import RootHparams
from cli.plain_table import duration, percent, table
from foundations.environment import Environment
from foundations.hparams import hparam

SHOWN = ("address", "branch", "status", "model", "data", "strategy", "technique", "sparsity", "accuracy", "age")
_ONLY_IF_ANY = "technique"
"""The column that is left out where no run has a value for it."""


@dataclass(frozen=True, kw_only=True)
class FormatHparams(RootHparams):
    """Where runs are, and how they are shown."""

    json: bool = hparam(False)
    """Print every column and hyperparameter as JSON."""


@dataclass(frozen=True, kw_only=True)
class ListHparams(FormatHparams):
    """Which runs, in which order, and how they are shown."""

    where: str | None = hparam(None)
    """Only runs with key=value, several with commas: a column (status=complete) or a hyperparameter (lr=0.1). Of
    several values for one key, a run must have one (strategy=snip10,strategy=random)."""
    sort: str | None = hparam(None)
    """Sort by a column, a hyperparameter or a result, such as accuracy; with a minus before it, descending. By default
    each run comes after the one that it descends from, and the line with the newest run comes first."""


@dataclass(frozen=True, kw_only=True)
class ListFlags:
    """List the runs."""

    listing: ListHparams = field(default_factory=ListHparams)


def ls(argv: Sequence[str], environment: Environment) -> int:
    """`ls`: a line for each run."""
    flags = parse(ListFlags, argv, "ls").listing
    root = flags.root_in(environment)
    rows, key = read_rows(root), (flags.sort or "").removeprefix("-")
    in_order = ordered(rows, key, descending=(flags.sort or "").startswith("-")) if key else by_descent(rows)
    selected = chosen(in_order, flags.where)
    if flags.json:
        print(json.dumps([row.to_dict() for row in selected], indent=1, sort_keys=True))
    elif selected:
        cells = [_cells(row) for row in selected]
        has_any = any(row[_ONLY_IF_ANY] for row in cells)
        print(table(cells, [name for name in SHOWN if has_any or name != _ONLY_IF_ANY]))
    else:
        print(f"No runs under {root}" + (f" with {flags.where}." if flags.where else "."))
    return 0


def _cells(row: Row) -> dict[str, str]:
    cells = {name: str(row.value(name) or "") for name in SHOWN}
    cells["sparsity"], cells["accuracy"] = percent(row.sparsity), percent(row.accuracy)
    cells["age"] = "" if row.age is None else duration(row.age)
    return cells
