"""Checking every byte of a run, and setting damaged files aside so that the next job recomputes them."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from foundations.access import check_may_empty, is_denied, reason
from foundations.errors import ClosedError, DamagedError, EnvironmentFailure, OpenPruneError
from foundations.files import remove_empty
from foundations.storage import tensor_files
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run import (
    CHECKPOINT,
    DAMAGED,
    DESCRIPTION,
    FAILURE,
    LOG,
    METRICS,
    OUTPUT,
    SPARSITY,
    STATE,
    Run,
)
from foundations.storage.run_folder import manifest_name

_REMOVED = ".removed_"


def verify(run: Run) -> list[OpenPruneError]:
    """Check every byte of a run against its manifest, and its description against its directory's name."""
    problems: list[OpenPruneError] = []
    with _collected(problems):
        run.record()
    manifest = None
    with _collected(problems):
        manifest = run.read_manifest()
    if manifest is not None:
        problems += [run.damaged(name, why) for name, why in _differences(run, manifest.files)]
    else:
        reads = {}
        with _collected(problems):  # a colleague's folder may be closed
            reads = _reads(run)
        for read in reads.values():
            with _collected(problems):
                read()
    problems += [run.damaged(name, "it is not a regular file") for name in _not_files(run)]
    return list({str(problem): problem for problem in problems}.values())


def check_bytes(run: Run, manifest: Manifest, at_most: int) -> int:
    """Read a complete run's files, smaller ones first, until they have `at_most` bytes; return how many bytes they had.

    Raises: DamagedError for one that is not what the manifest says.
    """
    total = 0
    for name, record in sorted(manifest.files.items(), key=lambda file: file[1].size):
        if total + record.size > at_most:
            break
        total += record.size
        run.check_bytes(name, record)
    return total


def mend(run: Run) -> list[str]:
    """Set damaged files of a run aside (as `damaged_<name>`) and return their names. The run's lock is held.

    A damaged state can be replayed by itself. Without any other file, the run no longer counts as complete.
    A directory whose files are of another run, as its description says, is left alone: none of them can be trusted.
    """
    aside: list[str] = []

    def set_aside(name: str) -> None:
        path = run.folder / name
        if os.path.lexists(path):
            path.replace(_free_path(run.folder / f"{DAMAGED}{name}"))
        aside.append(name)

    manifest = None
    if _is_of_another_run(run):
        return []
    try:
        manifest = run.read_manifest()
    except DamagedError:
        set_aside(manifest_name(run.manifest_number()))
    recorded = manifest.files if manifest else {}
    for name, _ in list(_differences(run, recorded)):
        set_aside(name)
    if manifest is not None and aside:
        if all(STATE.fullmatch(name) for name in aside):
            run.write_manifest(manifest, {name: r for name, r in recorded.items() if name not in aside})
        else:
            run.remove_manifests()
    for name, read in _reads(run).items():
        if name not in recorded and name not in aside and os.path.lexists(run.folder / name):
            try:
                read()
            except DamagedError:
                set_aside(name)
    for name in _not_files(run):
        set_aside(name)
    if DESCRIPTION not in (*recorded, *aside) and not _describes(run) and _owns_tensors(run):
        set_aside(DESCRIPTION)
    return aside


def remove(run: Run) -> None:
    """Remove a run and the folders that it leaves empty. The run's lock is held. Raises: OSError."""
    check_may_empty(run.folder)
    # Renamed first: a removal that is cut off leaves no half of a run under the run's name.
    trash = _free_path(run.folder.with_name(f"{_REMOVED}{run.folder.name}"))
    run.folder.replace(trash)
    shutil.rmtree(trash)
    remove_empty(run.folder, above=2)


def sweep_removed(root: Path) -> None:
    """Remove what is left of runs whose removal was cut off."""
    for trash in root.glob(f"*/replicate_*/{_REMOVED}*"):
        shutil.rmtree(trash, ignore_errors=True)
        remove_empty(trash.parent, above=1)


def _differences(run: Run, recorded: Mapping[str, FileRecord]) -> Iterator[tuple[str, str]]:
    """Yield the name of each file that differs from its record, and the difference. Every byte is read."""
    for name, record in recorded.items():
        problem = record.difference(f"{run.folder}/{name}", of_bytes=True)
        if problem:
            yield name, problem


def _not_files(run: Run) -> list[str]:
    """Return the files outside the manifest that are not regular files, such as links, and would block a job."""
    names = [name for name in (LOG, OUTPUT, FAILURE) if os.path.lexists(run.folder / name)]
    return [name for name in names if not stat.S_ISREG((run.folder / name).lstat().st_mode)]


def _reads(run: Run) -> dict[str, Callable[[], object]]:
    """Return, for each existing file, a function that reads it and raises DamagedError where it is damaged."""
    reads: dict[str, Callable[[], object]] = {
        DESCRIPTION: partial(run.read_json, DESCRIPTION),
        SPARSITY: run.sparsity,
        METRICS: run.metrics,
        CHECKPOINT: run.load_checkpoint,
    }
    for path in run.tensor_files():
        reads.setdefault(path.name, partial(run.read_tensors, path.name))
    return reads


def _is_of_another_run(run: Run) -> bool:
    """Return whether an intact description does not match its directory's name, and some tensors are of another run."""
    with contextlib.suppress(OpenPruneError):
        run.read_json(DESCRIPTION)
        return not _describes(run) and not _owns_tensors(run)
    return False


def _describes(run: Run) -> bool:
    """Return whether the description matches its directory's name."""
    with contextlib.suppress(OpenPruneError):
        run.record()
        return True
    return False


def _owns_tensors(run: Run) -> bool:
    """Return whether all files of tensors were written for this run."""
    return all(tensor_files.owner(path).startswith(f"{run.location}/") for path in run.tensor_files())


def _free_path(path: Path) -> Path:
    """Return an unused path, so that files set aside earlier stay."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not os.path.lexists(each))


@contextlib.contextmanager
def _collected(problems: list[OpenPruneError]) -> Iterator[None]:
    try:
        yield
    except OpenPruneError as problem:
        problems.append(problem)
    except OSError as problem:
        kind = ClosedError if is_denied(problem) else EnvironmentFailure
        problems.append(kind(f"Cannot read {problem.filename}: {reason(problem)}."))
