"""The command that lists the runs. It imports no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.addresses import all_runs, run_digest, short_address
from cli.flags import parse
from cli.job_flags import root_of
from cli.main import Environment
from cli.table import duration, percent, table
from foundations.address import MAIN
from foundations.errors import OpenPruneError, UsageError, did_you_mean
from foundations.hparams import Hparams, hparam
from foundations.locks import is_held
from foundations.run import MANIFEST, Run

COLUMNS = ("address", "branch", "status", "model", "data", "strategy", "sparsity", "accuracy", "age")


@dataclass(frozen=True, kw_only=True)
class ListHparams(Hparams):
    """Which runs, and how they are shown."""

    where: str | None = hparam(None)
    """Only runs with key=value, several with commas: a column (status=complete) or a hyperparameter (lr=0.1)."""
    json: bool = hparam(False)
    """Print every column and hyperparameter as JSON."""
    root: str | None = hparam(None)
    """Where runs lie; by default OPEN_PRUNE_ROOT, or ~/open_prune_data."""


@dataclass(frozen=True, kw_only=True)
class ListFlags:
    """List the runs."""

    listing: ListHparams = field(default_factory=ListHparams)


def ls(argv: Sequence[str], environment: Environment) -> int:
    """`ls`: a line for each run."""
    flags = parse(ListFlags, argv, "ls", ListFlags()).listing
    root = root_of(flags, environment)
    wanted = _conditions(flags.where)
    entries = [entry_of(run) for run in all_runs(root)]
    _check_keys(wanted, entries)
    rows = [entry for entry in entries if _matches(entry, wanted)]
    if flags.json:
        print(json.dumps(rows, indent=1, sort_keys=True))
    elif rows:
        print(table([_worded(row) for row in rows], COLUMNS))
    else:
        print(f"No runs under {root}" + (f" with {flags.where}." if flags.where else "."))
    return 0


def entry_of(run: Run) -> dict[str, Any]:
    """Return what is known of a run, as plain data."""
    entry: dict[str, Any] = {
        "address": short_address(run),
        "digest": run_digest(run),
        "location": str(run.location),
        "replicate": run.location.replicate,
        "branch": "" if run.location.part == MAIN else run.location.part.split("_")[1],
    }
    try:
        groups = run.record()["hyperparameters"]
        manifest = run.manifest()
    except OpenPruneError as error:
        return {**entry, "status": "damaged", "problem": str(error), "hyperparameters": {}, "results": {}}
    flat = {name: value for group in groups.values() if isinstance(group, dict) for name, value in group.items()}
    if run.location.part != MAIN:
        trunk = Run(run.root, type(run.location)(run.location.trunk, run.location.replicate, MAIN))
        flat = _trunk_hyperparameters(trunk) | flat
    return {
        **entry,
        "status": "complete" if manifest else "running" if is_held(run.lock_path) else "incomplete",
        "model": flat.get("model_name"),
        "data": flat.get("dataset_name"),
        "strategy": flat.get("strategy") if flat.get("prune_fraction") else None,
        "sparsity": manifest.results.get("sparsity") if manifest else None,
        "accuracy": manifest.results.get("test_accuracy") if manifest else None,
        "seconds_old": time.time() - (run.folder / MANIFEST if manifest else run.folder).stat().st_mtime,
        "hyperparameters": flat,
        "results": dict(manifest.results) if manifest else {},
    }


def _trunk_hyperparameters(trunk: Run) -> dict[str, Any]:
    try:
        groups = trunk.record()["hyperparameters"]
    except OpenPruneError:
        return {}
    return {name: value for group in groups.values() for name, value in group.items()}


def _conditions(text: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in (text or "").split(",") if part]
    for key, equals, _ in pairs:
        if not equals or not key:
            raise UsageError(f"--where: '{text}' is not key=value, such as model=cifar_resnet_20 or status=complete.")
    return {key: value for key, _, value in pairs}


def _check_keys(wanted: dict[str, str], entries: list[dict[str, Any]]) -> None:
    """Refuse a key that no run has. Raises: UsageError."""
    known = {key for entry in entries for key in (*entry, *entry["hyperparameters"], *entry["results"])}
    for key in wanted:
        if entries and key not in known:
            raise UsageError(
                f"--where: no run has a '{key}'.{did_you_mean(key, known)} Possible: {', '.join(COLUMNS)}, "
                "or any hyperparameter or result."
            )


def _matches(entry: dict[str, Any], wanted: dict[str, str]) -> bool:
    known = {**entry["hyperparameters"], **entry["results"], **entry}
    return all(_is_same(known.get(key), value) for key, value in wanted.items())


def _is_same(found: Any, wanted: str) -> bool:
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found) == float(wanted)
        except ValueError:
            return False
    return str(found).lower() == wanted.lower()


def _worded(entry: dict[str, Any]) -> dict[str, str]:
    words = {name: str(entry.get(name) or "") for name in COLUMNS}
    words["sparsity"], words["accuracy"] = percent(entry.get("sparsity")), percent(entry.get("accuracy"))
    words["age"] = duration(entry["seconds_old"]) if "seconds_old" in entry else ""
    return words
