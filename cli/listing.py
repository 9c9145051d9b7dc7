"""The command that lists the runs. It imports no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.flags import parse
from cli.job_flags import RootHparams
from cli.table import duration, percent, table
from foundations.address import MAIN
from foundations.environment import Environment
from foundations.errors import OpenPruneError, UsageError, did_you_mean
from foundations.hparams import hparam
from foundations.locks import is_held
from foundations.run import MANIFEST, Run
from foundations.store import all_runs, short_address

COLUMNS = ("address", "branch", "status", "model", "data", "strategy", "sparsity", "accuracy", "age")


@dataclass(frozen=True, kw_only=True)
class ShowHparams(RootHparams):
    """Where runs are, and how one is shown."""

    json: bool = hparam(False)
    """Print every column and hyperparameter as JSON."""


@dataclass(frozen=True, kw_only=True)
class ListHparams(ShowHparams):
    """Which runs, in which order, and how they are shown."""

    where: str | None = hparam(None)
    """Only runs with key=value, several with commas: a column (status=complete) or a hyperparameter (lr=0.1)."""
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
    wanted = _conditions(flags.where)
    entries = [entry_of(run) for run in all_runs(root)]
    key = (flags.sort or "").removeprefix("-")
    _check_keys(wanted, entries, "where")
    _check_keys([key] if key else [], entries, "sort")
    ordered = _sorted(entries, key, descending=(flags.sort or "").startswith("-")) if key else _by_descent(entries)
    rows = [entry for entry in ordered if _matches(entry, wanted)]
    if flags.json:
        print(json.dumps(rows, indent=1, sort_keys=True))
    elif rows:
        print(table([_cells(row) for row in rows], COLUMNS))
    else:
        print(f"No runs under {root}" + (f" with {flags.where}." if flags.where else "."))
    return 0


def entry_of(run: Run) -> dict[str, Any]:
    """Return what is known of a run, as plain data."""
    location = run.location
    entry: dict[str, Any] = {
        "address": short_address(run),
        "digest": location.digest,
        "location": str(location),
        "replicate": location.replicate,
        "branch": "" if location.name == MAIN else location.name.split("_")[1],
        "sources": [],
    }
    try:
        record = run.record()
        manifest = run.manifest()
    except OpenPruneError as error:
        return {**entry, "status": "damaged", "problem": str(error), "hyperparameters": {}, "results": {}}
    groups = (*record.get("main", {}).get("hyperparameters", {}).values(), *record["hyperparameters"].values())
    flat = {name: value for group in groups for name, value in group.items()}
    results = dict(manifest.results) if manifest else {}
    return {
        **entry,
        "sources": [
            f"{source['training']}/replicate_{source.get('replicate', location.replicate)}/{source['name']}"
            for _, source in sorted(record.get("sources", {}).items())
        ],
        "status": "complete" if manifest else "running" if is_held(run.lock_path) else "incomplete",
        "model": flat.get("model_name"),
        "data": flat.get("dataset_name"),
        "strategy": flat.get("strategy"),
        "sparsity": results.get("sparsity"),
        "accuracy": results.get("test_accuracy"),
        "seconds_old": time.time() - (run.folder / MANIFEST if manifest else run.folder).stat().st_mtime,
        "hyperparameters": flat,
        "results": results,
    }


def _by_descent(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each run after the one that it descends from, sparser siblings later, the newest line of runs first."""
    by_location = {entry["location"]: entry for entry in entries}
    children: dict[str | None, list[dict[str, Any]]] = {}
    for entry in entries:
        main = f"{entry['location'].rpartition('/')[0]}/{MAIN}"
        # The mask's run comes first among the sources by name, so that levels of a lottery follow each other.
        near = [source for source in entry["sources"] if source in by_location and source != main]
        parent = near[0] if near else main if main in by_location and entry["location"] != main else None
        children.setdefault(parent, []).append(entry)

    def line(first: dict[str, Any]) -> list[dict[str, Any]]:
        found, waiting = [], [first]
        while waiting:
            entry = waiting.pop()
            found.append(entry)
            below = children.get(entry["location"], [])
            waiting += sorted(below, key=lambda child: (child["branch"], child.get("sparsity") or 0.0), reverse=True)
        return found

    lines = [line(first) for first in children.get(None, [])]
    lines.sort(key=lambda each: min(entry.get("seconds_old", float("inf")) for entry in each))
    return [entry for each in lines for entry in each]


def _sorted(entries: Sequence[dict[str, Any]], key: str, *, descending: bool) -> list[dict[str, Any]]:
    """Return the runs by a value; those that lack it come last."""
    having = [entry for entry in entries if _value(entry, key) is not None]
    lacking = [entry for entry in entries if _value(entry, key) is None]

    def order(entry: dict[str, Any]) -> tuple[bool, float, str]:
        value = _value(entry, key)
        is_text = not isinstance(value, int | float)
        return is_text, 0.0 if is_text else float(value), str(value)

    return [*sorted(having, key=order, reverse=descending), *lacking]


def _value(entry: dict[str, Any], key: str) -> Any:
    found = {**entry["hyperparameters"], **entry["results"], **entry}
    return found.get("seconds_old" if key == "age" else key)


def _conditions(text: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in (text or "").split(",") if part]
    for key, equals, _ in pairs:
        if not equals or not key:
            raise UsageError(f"'{text}' is not key=value, such as model=cifar_resnet_20 or status=complete.", "where")
    return {key: value for key, _, value in pairs}


def _check_keys(wanted: Sequence[str] | dict[str, str], entries: list[dict[str, Any]], flag: str) -> None:
    """Refuse a key that no run has. Raises: UsageError."""
    known = {key for entry in entries for key in (*entry, *entry["hyperparameters"], *entry["results"], *COLUMNS)}
    for key in wanted:
        if entries and key not in known:
            raise UsageError(
                f"no run has a '{key}'.{did_you_mean(key, known)} Choose from {', '.join(COLUMNS)}, "
                "or any hyperparameter or result.",
                flag,
            )


def _matches(entry: dict[str, Any], wanted: dict[str, str]) -> bool:
    return all(_is_same(_value(entry, key), value) for key, value in wanted.items())


def _is_same(found: Any, wanted: str) -> bool:
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found) == float(wanted)
        except ValueError:
            return False
    return str(found).lower() == wanted.lower()


def _cells(entry: dict[str, Any]) -> dict[str, str]:
    cells = {name: str(entry.get(name) or "") for name in COLUMNS}
    cells["sparsity"], cells["accuracy"] = percent(entry.get("sparsity")), percent(entry.get("accuracy"))
    cells["age"] = duration(entry["seconds_old"]) if "seconds_old" in entry else ""
    return cells
