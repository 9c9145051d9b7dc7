"""The commands that look: ls and show. They import no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.addresses import all_runs, find_run, run_digest, short_address
from cli.flags import parse, positional
from cli.job_flags import root_of
from cli.main import Environment
from cli.table import duration, figure, percent, table
from foundations.address import MAIN
from foundations.errors import OpenPruneError, UsageError
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
    rows = [entry for entry in map(_entry, all_runs(root)) if _matches(entry, wanted)]
    if flags.json:
        print(json.dumps(rows, indent=1, sort_keys=True))
    elif rows:
        print(table([_worded(row) for row in rows], COLUMNS))
    else:
        print(f"No runs under {root}" + (f" with {flags.where}." if flags.where else "."))
    return 0


def show(argv: Sequence[str], environment: Environment) -> int:
    """`show ADDRESS`: all about one run."""
    names, rest = positional(argv)
    flags = parse(ListFlags, rest, "show", ListFlags()).listing
    if len(names) != 1:
        raise UsageError("show takes one address: python open_prune.py show ADDRESS (`ls` lists them).")
    run = find_run(root_of(flags, environment), names[0])
    entry = _entry(run)
    if flags.json:
        print(json.dumps({**entry, "sparsity_report": run.sparsity()}, indent=1, sort_keys=True))
    else:
        print("\n".join(_described(run, entry)))
    return 0


def _entry(run: Run) -> dict[str, Any]:
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
        "strategy": flat.get("strategy"),
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


def _described(run: Run, entry: dict[str, Any]) -> list[str]:
    lines = [f"run:      {run.location}", f"folder:   {run.folder}", f"status:   {entry['status']}"]
    if "problem" in entry:
        return [*lines, entry["problem"]]
    manifest = run.manifest()
    lines += ["", "Hyperparameters"]
    lines += [f"  {name:<22}{value}" for name, value in entry["hyperparameters"].items() if value not in (None, False)]
    if manifest is not None:
        lines += ["", "Results"]
        lines += [f"  {name:<22}{figure(value, '.6g')}" for name, value in manifest.results.items()]
        lines += ["", f"Computed in {duration(manifest.wall_seconds)} on {manifest.device}, {manifest.finished}, by"]
        lines += [f"  {name:<22}{version}" for name, version in manifest.versions.items()]
        lines += ["", "Files"]
        lines += [f"  {name:<34}{record.size:>12,} bytes" for name, record in manifest.files.items()]
    report = run.sparsity()
    if report is not None:
        lines += ["", "Mask", *_layers(report)]
    return lines


def _layers(report: dict[str, Any]) -> list[str]:
    requested, achieved = report["requested"], report["achieved"]
    rows = [
        {"layer": name, "kept": f"{layer['kept']:,}", "of": f"{layer['total']:,}", "density": percent(layer["density"])}
        for name, layer in report["layers"].items()
    ]
    collapsed = ", ".join(report["collapsed_layers"]) or "none"
    return [
        f"  kept {achieved['kept']:,} of {report['total']:,} (requested {requested['kept']:,})",
        f"  density {percent(achieved['density'])}, sparsity {percent(achieved['sparsity'])}",
        f"  collapsed layers: {collapsed}",
        *(f"  {line}" for line in table(rows, ("layer", "kept", "of", "density")).splitlines()),
    ]
