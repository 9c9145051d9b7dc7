"""Checks of a run that comes from elsewhere: its files are what they claim, and its results what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.sharing.shared_file import AMENDED
from branches.kinds import load_desc
from foundations.description.address import MAIN
from foundations.description.desc import Desc
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.metrics import METRICS, headline_of
from foundations.registry import plugins_of
from foundations.storage.amendments import why_not_amended
from foundations.storage.manifest import Manifest
from foundations.storage.run import DESCRIPTION, MANIFEST, STATE, Run

_MEASURED = ("loss", "density", "sparsity")
"""The ends of the names of results that must have been measured."""
_TOLERANCE = 1e-9


class _NotRebuilt(Exception):
    """A description needs a plug-in or another run to be rebuilt."""


def check_run(run: Run, root: Path) -> None:
    """Check a run that was unpacked into a root of its own; record which of its states did not come along.

    root: the root that it is for, with runs that its description may refer to.
    Raises: DamagedError that names the run and its fault.
    """
    try:
        record = run.record()
        manifest = _check_files(run)
        _check_description(run, record, root)
        _check_results(run, manifest, has_plugins=bool(_plugins_of(record)))
    except DamagedError as error:
        raise DamagedError(f"{run}: {_reason(run, error)}") from error
    except (EnvironmentFailure, UsageError) as error:
        raise DamagedError(f"{run}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{run}: a file is of another form ({type(error).__name__}: {error}).") from error


def _reason(run: Run, error: DamagedError) -> str:
    """Return the first line of an error about a file, without the folder that it was unpacked into."""
    return str(error).splitlines()[0].replace(f"{run.folder}/", "").replace(f"{run.root}/", "")


def _check_files(run: Run) -> Manifest:
    """Compare every file with the manifest; add a manifest without the states that are not there."""
    first, manifest = run.first_manifest(), run.read_manifest()
    if first is None or manifest is None:
        raise run.damaged(MANIFEST, "it is missing")
    if problem := why_not_amended(manifest.files, first):
        raise run.damaged(AMENDED, problem)
    if manifest.results != first.results or DESCRIPTION not in manifest.files:
        raise run.damaged(AMENDED if run.manifest_number() > 1 else MANIFEST, "it is not a manifest of this run")
    there = {path.name for path in run.folder.iterdir()} - {MANIFEST, AMENDED}
    missing = sorted(manifest.files.keys() - there)
    needed = [name for name in missing if not STATE.fullmatch(name)]
    if needed or there - manifest.files.keys():
        which = f"{needed[0]} is missing" if needed else f"{min(there - manifest.files.keys())} is not listed"
        raise run.damaged(MANIFEST, which)
    for name in sorted(there):
        run.check_bytes(name, manifest.files[name])
    for path in run.tensor_files():
        run.read_tensors(path.name)
    if missing:
        run.amended(without=missing)
    return manifest


def _check_description(run: Run, record: Mapping[str, Any], root: Path) -> None:
    """Compare the hyperparameters of a description, which people read, with the canonical form, which has the address.

    The description is built again where this needs no plug-in and no run that is not here; otherwise only the values
    that both contain are compared.
    """

    def record_of(other: Run) -> Mapping[str, Any]:
        place = other if other.exists() else Run(root, other.location)
        if not place.exists():
            raise _NotRebuilt
        found = place.record()
        if _plugins_of(found):
            raise _NotRebuilt
        return found

    main = record.get("main", record)
    folder = f"{main['kind']}_{main['digest']}"
    name = MAIN if main is record else f"branch_{record['kind']}_{record['digest']}"
    if (run.location.training, run.location.name) != (folder, name):
        raise run.damaged(DESCRIPTION, f"it belongs to {folder}/replicate_{run.location.replicate}/{name}")
    for part in (record, main):
        for name, group in part["canonical"].items():
            values = part["hyperparameters"].get(name)
            if isinstance(group, dict) and isinstance(values, dict):
                wrong = next((key for key in group.keys() & values.keys() if group[key] != values[key]), None)
                if wrong is not None:
                    raise run.damaged(
                        DESCRIPTION, f"its '{wrong}' is {values[wrong]}, and its address has {group[wrong]}"
                    )
    try:
        desc = load_desc(run, record_of)
        _compare(run, desc, record)
    except (_NotRebuilt, UsageError):  # such as a dataset that a user has added
        return


def _compare(run: Run, desc: Desc, record: Mapping[str, Any]) -> None:
    if desc.digest != record["digest"]:
        raise run.damaged(DESCRIPTION, "its hyperparameters have another address")
    desc.check_record(record, run.folder)
    desc.main.check_record(record.get("main", record), run.folder)
    if record["iterations_per_epoch"] != desc.iterations_per_epoch:
        raise run.damaged(DESCRIPTION, "an epoch of it has another number of iterations")


def _check_results(run: Run, manifest: Manifest, *, has_plugins: bool) -> None:
    """Compare the results with the metrics and the mask."""
    metrics = run.metrics()
    measured: dict[str, float | None] = {name: metrics.last(name) for name in metrics.names()}
    measured |= metrics.selected(headline_of(run.record()))
    if run.has_mask():
        from pruning.masks.mask import Mask

        mask, report = Mask.of_run(run), run.sparsity() or {}
        if report["achieved"]["kept"] != mask.kept or report["total"] != mask.total:
            raise run.damaged("sparsity.json", "it has other numbers than the mask")
        measured |= {"density": mask.density, "sparsity": mask.sparsity}
    for name, value in measured.items():
        if not _are_equal(manifest.results.get(name), value):
            raise run.damaged(MANIFEST, f"its {name} is {manifest.results.get(name)}, and {value} was measured")
    endings = (*_MEASURED, *METRICS.spellings())
    invented = [name for name in manifest.results if name not in measured and name.endswith(endings)]
    if invented and not has_plugins:
        raise run.damaged(MANIFEST, f"its {invented[0]} was not measured")


def _are_equal(stated: float | None, measured: float | None) -> bool:
    if measured is None or not math.isfinite(measured):
        return stated is None
    return stated is not None and math.isclose(stated, measured, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _plugins_of(record: Mapping[str, Any]) -> list[object]:
    return [*plugins_of(record.get("main", {})), *plugins_of(record)]
