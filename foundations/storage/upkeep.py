"""Checking every byte of a run, and setting damaged files aside so that the next job recomputes them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from foundations import packs
from foundations.access import check_may_empty, is_denied, reason
from foundations.errors import ClosedError, DamagedError, EnvironmentFailure, OpenPruneError
from foundations.files import create_file, read_file, remove_empty, replace_file
from foundations.parts import PART, sweep_parts
from foundations.storage import tensor_files
from foundations.storage.amendments import free_path
from foundations.storage.manifest import NOT_A_MANIFEST, FileRecord, Manifest, manifest_name, manifest_number
from foundations.storage.packed import check as check_pack
from foundations.storage.packed import drop, pack_files, packed_place
from foundations.storage.root_format import FORMAT_FILE
from foundations.storage.run import (
    CHECKPOINT,
    DAMAGED,
    DESCRIPTION,
    FAILURE,
    LOG,
    MANIFEST,
    METRICS,
    OUTPUT,
    SPARSITY,
    STATE,
    Run,
)

REMOVED = ".removed_"
"""The prefix of the folders of runs that are being removed."""
_ATTEMPTS = 10


def verify(run: Run) -> list[OpenPruneError]:
    """Check every byte of a run against its manifest, and its description against its directory's name.

    A run that another process packs or unpacks meanwhile is checked again.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(run)
        problems = _problems(run)
        if not problems or _identity(run) == before:
            break
    return problems


def _identity(run: Run) -> tuple[object, ...]:
    """Return an identity of a run's folder, or of its place in a pack; nothing for a closed folder."""
    with contextlib.suppress(OSError):
        found = run.final.stat()
        return found.st_dev, found.st_ino, found.st_ctime_ns
    with contextlib.suppress(OpenPruneError):  # which the check reports
        return run.is_published, run.place
    return ()


def _problems(run: Run) -> list[OpenPruneError]:
    problems: list[OpenPruneError] = []
    with _collected(problems):
        run.record()
    manifest = None
    with _collected(problems):
        manifest = run.read_manifest()
    if manifest is not None:
        problems += [run.damaged(name, why) for name, why in _differences(run, manifest.files)]
        problems += [
            run.damaged(name, "it is not a manifest, or not as it was written") for name in _bad_manifests(run)
        ]
    else:
        reads = {}
        with _collected(problems):  # a colleague's folder may be closed
            reads = _reads(run)
        for read in reads.values():
            with _collected(problems):
                read()
    problems += [run.damaged(name, "it is not a regular file") for name in _not_files(run)]
    problems += [run.damaged(name, "it is not as it was packed") for name in _differing_in_pack(run, manifest)]
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


def mend(run: Run, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """Set damaged files of a run aside (as `damaged_<name>`) and return their names. The run's lock is held.

    say: is told which digests are lost.
    A damaged state can be replayed by itself. Without any other file, the run no longer counts as complete.
    A directory whose files are of another run, as its description says, is left alone: none of them can be trusted.
    Raises: Busy where the run is not complete and another process works on it.
    """
    run.refuse_upstream()
    aside: list[str] = []
    if run.unpack():
        drop(run.root, [run.location], are_unpacked=True)

    def set_aside(name: str) -> None:
        run.set_aside(name)
        aside.append(name)

    if _is_of_another_run(run):
        return []
    with contextlib.suppress(DamagedError):
        run.sparsity()
        if run.data(DESCRIPTION) is not None:
            run.read_json(DESCRIPTION)  # one of a newer format is refused before anything moves
    manifest = _readable_manifest(run, set_aside)
    recorded = manifest.files if manifest else {}
    differing = [name for name, _ in _differences(run, recorded)]
    if manifest is None:
        run.claim()
    elif not all(STATE.fullmatch(name) for name in differing):
        _say_forgotten(run, say)
        run.withdraw()
        for path in [path for path in run.folder.iterdir() if manifest_number(path.name)]:
            path.unlink()
    elif differing:
        run.amended(without=differing)
    for name in sorted(differing, key=DESCRIPTION.__eq__):  # last: runs are found by it
        set_aside(name)
    for name in _bad_manifests(run):
        if name == MANIFEST:
            say(_rewrite_first(run))
            aside.append(name)
        else:
            set_aside(name)
    for name, read in _reads(run).items():
        if name not in recorded and name not in aside and os.path.lexists(run.path(name)):
            try:
                read()
            except DamagedError:
                set_aside(name)
    for name in _not_files(run):
        set_aside(name)
    if DESCRIPTION not in (*recorded, *aside) and not _describes(run) and _owns_tensors(run):
        set_aside(DESCRIPTION)
    return aside


def _bad_manifests(run: Run) -> list[str]:
    """Return the names of the manifests before the latest that are damaged."""
    found = []
    for number in range(1, run.manifest_number()):
        with contextlib.suppress(FileNotFoundError):
            try:
                Manifest.from_bytes(read_file(run.place / manifest_name(number)))
            except FileNotFoundError:
                raise
            except (OSError, *NOT_A_MANIFEST):
                found.append(manifest_name(number))
    return found


def _rewrite_first(run: Run) -> str:
    """Write `manifest.json` again from the later manifests, and keep a copy of the damaged one; return a sentence."""
    path, files = run.place / MANIFEST, dict[str, FileRecord]()
    manifest = run.read_manifest()
    assert manifest is not None, "a later one can be read"
    for number in range(2, run.manifest_number() + 1):
        with contextlib.suppress(OSError, *NOT_A_MANIFEST):
            files = {**Manifest.from_bytes(read_file(run.place / manifest_name(number))).files, **files}
    try:
        content = read_file(path)
    except OSError:  # a folder, say
        run.set_aside(MANIFEST)
    else:  # not renamed: without it, the run would not be complete
        create_file(free_path(path.with_name(f"{DAMAGED}{MANIFEST}")), content)
    replace_file(path, dataclasses.replace(manifest, files=files).to_bytes())
    return (
        f"{run}: {MANIFEST} was written again from the later ones, with the SHA-256 of "
        f"{len(files.keys() - manifest.files.keys())} file(s) that are not kept here. Those of files that only the "
        "damaged one listed are lost: a replay of these is not compared with them."
    )


def _say_forgotten(run: Run, say: Callable[[str], None]) -> None:
    with contextlib.suppress(DamagedError):
        if gone := run.left_out():
            say(
                f"{run} is no longer complete, and the SHA-256 of {', '.join(gone)}, which it did not keep, are lost: "
                "the next job does not compare them."
            )


def _readable_manifest(run: Run, set_aside: Callable[[str], None]) -> Manifest | None:
    """Return the latest manifest of a complete run; set damaged ones aside. Without any, the run is not complete."""
    while run.is_published:
        number = run.manifest_number()
        try:
            return run.read_manifest()
        except DamagedError:
            if number == 1:
                run.withdraw()
                set_aside(MANIFEST)
                return None
            set_aside(manifest_name(number))
    return None


def damaged_packs(root: Path, *, set_aside: bool) -> list[OpenPruneError]:
    """Return the damage of packs whose runs cannot be listed. set_aside: whether to rename these packs as well."""
    problems: list[OpenPruneError] = []
    for pack in pack_files(root):
        found = len(problems)
        with _collected(problems):
            check_pack(pack)
        if set_aside and len(problems) > found:
            pack.replace(free_path(pack.with_name(f"{DAMAGED}{pack.name}")))
    return problems


def remove(run: Run) -> None:
    """Remove a run and the folders that it leaves empty. The run's lock is held. Raises: OSError, DamagedError."""
    run.refuse_upstream()
    check_may_empty(run.generations.folder)
    check_may_empty(run.final)
    if packed_place(run.root, run.location) is not None:
        drop(run.root, [run.location])
    # Renamed first: a removal that is cut off leaves no half of a run under the run's name.
    for folder in (run.generations.folder, run.final):
        trash = free_path(folder.with_name(f"{REMOVED}{folder.name}"))
        with contextlib.suppress(FileNotFoundError):
            folder.replace(trash)
            shutil.rmtree(trash)
    remove_empty(run.final.parent, above=1)


def sweep_removed(root: Path) -> None:
    """Remove what is left of runs whose removal was cut off, and of processes that were killed beside runs."""
    sweep_parts(root, of=FORMAT_FILE)
    for part in root.glob(f"*/replicate_*/.*{PART}"):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    for trash in root.glob(f"*/replicate_*/{REMOVED}*"):
        shutil.rmtree(trash, ignore_errors=True)
        remove_empty(trash.parent, above=1)


def _differences(run: Run, recorded: Mapping[str, FileRecord]) -> Iterator[tuple[str, str]]:
    """Yield the name of each file that differs from its record, and the difference. Every byte is read."""
    for name, record in recorded.items():
        problem = record.difference(f"{run.place}/{name}", of_bytes=True)
        if problem:
            yield name, problem


def _not_files(run: Run) -> list[str]:
    """Return the files outside the manifest that are not regular files, such as links, and would block a job."""
    found = []
    for name in (LOG, OUTPUT, FAILURE):
        with contextlib.suppress(OSError):
            found += [] if stat.S_ISREG(run.path(name).lstat().st_mode) else [name]
    return found


def _differing_in_pack(run: Run, manifest: Manifest | None) -> list[str]:
    """Return the files of a packed run that its manifest does not list, and that are not what the pack states."""
    found = []
    for name in packs.names_in(run.place) if run.is_published and run.place != run.unpacked else []:
        if manifest is None or name not in manifest.files:
            try:
                is_same = packs.has_its_checksum(run.place / name)
            except OSError:
                is_same = False
            found += [] if is_same else [name]
    return found


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


@contextlib.contextmanager
def _collected(problems: list[OpenPruneError]) -> Iterator[None]:
    try:
        yield
    except OpenPruneError as problem:
        problems.append(problem)
    except OSError as problem:
        kind = ClosedError if is_denied(problem) else EnvironmentFailure
        problems.append(kind(f"Cannot read {problem.filename}: {reason(problem)}."))
