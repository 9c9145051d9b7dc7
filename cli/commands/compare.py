"""The command that compares runs. It imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.compare.described import Described
from analysis.compare.differences import DATA, PROGRAM, Difference, differences, differences_in_computing
from analysis.rows.run_row import Row, row_of
from cli.commands.listing import as_csv
from cli.display.difference_cells import difference_cells
from cli.display.fitted_table import banded_table, terminal_width
from cli.display.plain_table import figure, percent, printable_lines
from cli.request.flags import command
from cli.request.folder_flags import RootHparams
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.metrics import is_fraction
from foundations.program import PROGRAM as COMMAND
from foundations.storage.manifest import Manifest
from foundations.storage.store import find_run

_HEADINGS = {DATA: "Data", PROGRAM: "Computed with"}


@dataclass(frozen=True, kw_only=True)
class CompareHparams(RootHparams):
    """Location of the runs, and format of the comparison."""

    format: str = hparam("text", choices=("text", "csv", "json"))
    """csv and json have values as they are."""


@dataclass(frozen=True)
class Compared:
    """Runs, their differences and their results."""

    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    results: dict[str, tuple[Any, ...]]
    """By name, the value of each run; None for a run without one."""


@command(comparison=CompareHparams)
def compare(names: list[str], environment: Environment, comparison: CompareHparams) -> int:
    """Compare runs of any kind: what they differ in, and their results side by side (compare ADDRESS ADDRESS...)."""
    if len(names) < 2:
        raise UsageError(f"compare takes addresses: {COMMAND} compare ADDRESS ADDRESS... (`ls` lists them).")
    root = comparison.root_in(environment)
    rows = [row_of(find_run(root, name)) for name in names]
    for number, row in enumerate(rows):
        first = next(place for place, other in enumerate(rows) if other.location == row.location)
        if first < number:
            raise UsageError(f"'{names[first]}' and '{names[number]}' are the same run, {row.address}.")
    compared = _compared(rows)
    if comparison.format == "json":
        print(json.dumps(_tree(compared), indent=1))
    elif comparison.format == "csv":
        print(as_csv(_columns(compared)), end="")
    else:
        print(printable_lines(_text(compared, terminal_width())))
    return 0


def _compared(rows: Sequence[Row]) -> Compared:
    """Return the differences and results of runs. Raises: DamagedError where a description cannot be read."""
    described = [Described.stored(row.run) for row in rows]
    manifests = [row.run.manifest() if row.status == "complete" else None for row in rows]
    found = [*differences(described), *differences_in_computing(manifests)]
    results = [_results(manifest) for manifest in manifests]
    names = dict.fromkeys(name for each in results for name in each)
    return Compared(tuple(rows), tuple(found), {name: tuple(each.get(name) for each in results) for name in names})


def _results(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {}
    return {**manifest.results, **({"wall_seconds": manifest.wall_seconds} if manifest.wall_seconds else {})}


def _tree(compared: Compared) -> dict[str, Any]:
    runs = ("address", "location", "branch", "status")
    return {
        "runs": [
            {name: getattr(row, name) for name in runs} | ({"upstream": row.upstream} if row.upstream else {})
            for row in compared.rows
        ],
        "differences": [
            {"name": each.name, "kind": each.kind, "values": list(each.values)} for each in compared.differences
        ],
        "results": {name: list(values) for name, values in compared.results.items()},
    }


def _columns(compared: Compared) -> dict[str, list[Any]]:
    lines = [(each.kind, each.name, each.values) for each in compared.differences]
    lines += [("result", name, values) for name, values in compared.results.items()]
    columns: dict[str, list[Any]] = {"kind": [line[0] for line in lines], "name": [line[1] for line in lines]}
    return columns | {row.location: [line[2][number] for line in lines] for number, row in enumerate(compared.rows)}


def _text(compared: Compared, width: int | None) -> str:
    """Return the comparison as text for people."""
    rows = [["status", *(f"{row.status} (diverged)" if row.has_diverged else row.status for row in compared.rows)]]
    if any(row.upstream for row in compared.rows):
        rows.append(["upstream", *(row.upstream or "" for row in compared.rows)])
    count = len(rows)
    headings = {count: "Differences"}
    rows += [difference_cells(each) for each in compared.differences if each.kind not in _HEADINGS]
    for kind, heading in _HEADINGS.items():
        of_kind = [difference_cells(each) for each in compared.differences if each.kind == kind]
        headings |= {len(rows): heading} if of_kind else {}
        rows += of_kind
    if len(rows) == count:
        headings = {}
    if compared.results:
        headings[len(rows)] = "Results"
        rows += [
            [name, *(_result(name, *each) for each in zip(values, compared.rows, strict=True))]
            for name, values in compared.results.items()
        ]
    head = ["", *(row.address for row in compared.rows)]
    lines = [banded_table(rows, head, width, headings)]
    if not compared.differences:
        lines += ["", "They do not differ in anything that is described."]
    lines += [line for row in compared.rows if row.problem for line in ("", row.problem)]
    return "\n".join(lines)


def _result(name: str, value: Any, row: Row) -> str:
    if value is None:
        return figure(None, "") if name in row.results else ""
    return percent(value) if is_fraction(name) else f"{value:.6g}"
