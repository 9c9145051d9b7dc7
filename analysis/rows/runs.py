"""All runs under a root as a table. Imports no torch."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.rows.lineage import by_descent
from analysis.rows.row_index import remembered_rows
from analysis.rows.run_row import COLUMNS, HPARAM, RESULT, Row
from analysis.rows.selection import Where, chosen
from foundations.environment import Environment
from foundations.storage.origins import origins
from foundations.storage.root import alone, upstreams_of
from foundations.storage.store import all_runs

if TYPE_CHECKING:
    import pandas as pd

# Columns that show a result or hyperparameter of the same name.
_SAME_AS_COLUMN = ("sparsity", "strategy")


def runs(where: Where | None = None, root: Path | str | None = None) -> pd.DataFrame:
    """Return a row for each run: address, status and the usual columns, then every hyperparameter and result.

    where: which runs, such as `"strategy=snip10,status=complete"`, or
    `{"strategy": "snip10", "prune_fraction": [0.8, 0.9]}`; see `analysis.rows.selection.chosen`.
    root: where runs are; by default OPEN_PRUNE_ROOT, or ~/open_prune_data.

    Accuracies and sparsities are fractions from 0 to 1, `age` is in seconds. Rows are in the order of `ls`. An
    unreadable run has a row too, with the reason in `status` and `problem`.
    A name means the same as in `where`: a column, else a result, else a hyperparameter. So a hyperparameter with the
    name of a column, or of a result of any run under the root, is in the column `hparam.<name>`; a result with the name
    of a column is in `result.<name>`.
    Raises: UsageError if `where` cannot be read, or has a name that no run has.
    """
    import pandas as pd

    rows = by_descent(read_rows(Environment.read(root).root))
    return pd.DataFrame(columns_of(chosen(rows, where), rows))


def to_csv(columns: Sequence[str], points: Iterable[Mapping[str, Any]]) -> str:
    """Return points as text, one per line; floats in their shortest exact form, None as empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(points)
    return text.getvalue()


def columns_of(selected: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the columns of `runs` for some runs: by name, a value for each run.

    rows: all runs under the root, which determine the names that are taken.
    """
    results = set(itertools.chain.from_iterable(row.results for row in rows))
    columns = {name: [getattr(row, name) for row in selected] for name in COLUMNS}
    columns |= _hyperparameters(selected, taken=results.union(COLUMNS))
    return columns | _results(selected)


def read_rows(root: Path) -> list[Row]:
    """Return the rows of all runs under a root, trainings before their branches."""
    with remembered_rows(root) as row_of:
        rows = [row_of(run) for run in all_runs(root)]
    return with_origins(rows, root)


def with_origins(rows: Sequence[Row], root: Path) -> list[Row]:
    """Return the rows of runs under a root, or in its upstreams, with the shared files that they came in."""
    known = {str(place): origins(place) for place in (alone(root), *upstreams_of(root))}
    if not any(known.values()):
        return list(rows)
    found = [known.get(str(row.run.home), {}).get(row.location) for row in rows]
    return [replace(row, origin=str(origin)) if origin else row for row, origin in zip(rows, found, strict=True)]


def _hyperparameters(rows: Sequence[Row], taken: set[str]) -> dict[str, list[Any]]:
    """Return the columns of hyperparameters. taken: names that mean something else."""
    columns = _columns([row.hyperparameters for row in rows])
    return {HPARAM + name if name in taken else name: values for name, values in columns.items()}


def _results(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the columns of results."""
    columns = _columns([row.results for row in rows])
    return {RESULT + name if name in COLUMNS else name: values for name, values in columns.items()}


def _columns(parts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(itertools.chain.from_iterable(parts))
    return {name: [part.get(name) for part in parts] for name in names if name not in _SAME_AS_COLUMN}
