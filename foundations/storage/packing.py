"""Packing complete runs into few files, and giving packed runs folders of their own again."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from foundations.description.address import Location
from foundations.errors import Busy, DamagedError, EnvironmentFailure
from foundations.files import explain_os_errors, remove_empty
from foundations.packs import names_in
from foundations.storage.amendments import free_path
from foundations.storage.manifest import FileRecord, manifest_number
from foundations.storage.packed import drop, pack_files, packed_place, write_pack
from foundations.storage.run import Run
from foundations.storage.run_folder import is_part
from foundations.storage.upkeep import REMOVED, verify

MOST_RUNS = 1000
"""The most runs in one pack: removing one of them copies the others."""


def pack(runs: Sequence[Run], say: Callable[[str], None]) -> tuple[list[Run], list[str]]:
    """Put complete runs into packs; return those that are packed now, and a sentence about each that is not.

    Runs that are packed already count as packed. A pack is published before the folders of its runs are removed, so
    that a process that is killed loses nothing; the next one goes on. say: is told of each pack.
    Raises: EnvironmentFailure where the root cannot be written; DamagedError for a damaged pack.
    """
    packed, stayed = [], []
    waiting: list[Run] = []
    for run in runs:
        why = _obstacle(run)
        if why:
            stayed.append(f"{run} stays: {why}.")
        elif run.place != run.final:
            packed.append(run)
        else:
            waiting.append(run)
    for first in range(0, len(waiting), MOST_RUNS):
        batch = waiting[first : first + MOST_RUNS]
        root = batch[0].root
        to_write = [run for run in batch if not _is_packed(run)]
        with explain_os_errors("write packs in", root):
            if to_write:
                stale = [run.location for run in to_write if packed_place(root, run.location) is not None]
                drop(root, stale, are_unpacked=True)
                stale = [run.location for run in to_write if packed_place(root, run.location) is not None]
                drop(root, stale, are_unpacked=True)
                path = write_pack(root, {run.location: _files(run) for run in to_write})
                say(f"Packed {len(to_write)} run(s) into {path}.")
            for run in batch:
                why = _remove_folder(run)
                if why:
                    stayed.append(f"{run} stays: {why}.")
                else:
                    packed.append(run)
    return packed, stayed


def unpack(runs: Iterable[Run]) -> Iterator[Run]:
    """Give packed runs folders of their own, then drop them from the packs; yield each that was packed.

    Raises: EnvironmentFailure where the root cannot be written; DamagedError where a packed run is damaged.
    """
    done: list[Run] = []
    for run in runs:
        with run.locked(lambda _line: None):
            if run.is_published and run.place != run.final:
                problems = verify(run)
                if problems:
                    raise problems[0]
                run.unpack()
                yield run
        if packed_place(run.root, run.location) is not None:
            done.append(run)
    if done:
        with explain_os_errors("write packs in", done[0].root):
            drop(done[0].root, [run.location for run in done], are_unpacked=True)


def repack(runs: Sequence[Run]) -> list[str]:
    """Put runs that were unpacked to change them back into their packs; return a sentence about each that stays out.

    Raises: EnvironmentFailure where the root cannot be written; DamagedError for a damaged pack.
    """
    if not runs:
        return []
    root = runs[0].root
    with explain_os_errors("write packs in", root):
        files = {run.location: _files(run) for run in runs}
        drop(root, files.keys(), are_unpacked=True, instead=files)
        found = [(run, _remove_folder(run)) for run in runs]
    return [f"{run} stays in a folder of its own: {why}." for run, why in found if why]


def sweep_packs(root: Path) -> None:
    """Replace packs that hold runs with folders of their own, such as after a replay, by packs without them."""
    for path in pack_files(root):
        found = {Location.parse(name.rpartition("/")[0]) for name in _members(path)}
        unpacked = [each for each in found if each and (each.under(root) / "manifest.json").exists()]
        if unpacked:
            drop(root, unpacked, are_unpacked=True)


def _obstacle(run: Run) -> str:
    """Return why a run cannot be packed; empty if it can."""
    try:
        if run.manifest() is None:
            return "it is not complete"
        if run.place != run.final:
            return ""
        problems = verify(run)
        with explain_os_errors("read", run.final):
            others = [entry.name for entry in os.scandir(run.final) if not entry.is_file(follow_symlinks=False)]
    except (DamagedError, EnvironmentFailure) as error:
        problems, others = [DamagedError(str(error))], []
    if problems:
        return str(problems[0]).splitlines()[0].rstrip(".")
    return f"{others[0]} is not a regular file" if others else ""


def _files(run: Run) -> dict[str, Path]:
    """Return the paths of the files that go into a pack: all but leftovers and superseded manifests."""
    latest = run.manifest_number()
    return {
        name: run.final / name
        for name in names_in(run.final)
        if not is_part(name) and manifest_number(name) in (None, 1, latest)
    }


def _is_packed(run: Run) -> bool:
    """Return whether a pack has the present files of a run that has a folder."""
    place, files = packed_place(run.root, run.location), _files(run)
    if place is None or set(names_in(place)) != set(files):
        return False
    records = {name: FileRecord.of(path) for name, path in files.items()}
    return not any(record.difference(str(place / name), of_bytes=True) for name, record in records.items())


def _remove_folder(run: Run) -> str:
    """Remove the folder of a run that a pack has; return why not, or nothing."""
    try:
        with run.locked(lambda _line: None, wait=False):
            if not _is_packed(run):
                return "it has changed meanwhile"
            trash = free_path(run.final.with_name(f"{REMOVED}{run.final.name}"))
            run.final.rename(trash)
            if packed_place(run.root, run.location) is None:  # unpacked meanwhile
                with contextlib.suppress(FileNotFoundError):
                    trash.rename(run.final)
                return "another process unpacks it"
            shutil.rmtree(trash)
            run.lock_path.unlink(missing_ok=True)  # a process that waits for it notices that
    except Busy as busy:
        return str(busy).rstrip(".")
    remove_empty(run.final.parent, above=1)
    return ""


def _members(pack: Path) -> Iterable[str]:
    from foundations import packs

    return packs.members(pack)
