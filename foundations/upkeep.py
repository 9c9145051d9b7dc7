"""Checking every byte of a run, and setting damaged files aside so that the next job makes them anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from foundations import tensor_files
from foundations.errors import DamagedError, OpenPruneError
from foundations.files import sha256_of_file
from foundations.manifest import FileRecord
from foundations.run import DAMAGED, DESCRIPTION, MANIFEST, SPARSITY, STATE, Run


def verify(run: Run) -> list[DamagedError]:
    """Check every byte of a run against its manifest, and its description against its directory's name."""
    problems: list[DamagedError] = []
    with _collected(problems):
        run.record()
    manifest = None
    with _collected(problems):
        manifest = run.manifest()
    for name, record in (manifest.files if manifest else {}).items():
        if sha256_of_file(run.folder / name) != record.sha256:
            problems.append(run.damaged(name, "its SHA-256 is not the one of its manifest"))
    if manifest is None and not problems:
        for path in run.tensor_files():
            with _collected(problems):
                tensor_files.read(path, run.how_to_mend())
    return problems


def mend(run: Run) -> list[str]:
    """Set damaged files of a run aside (as `damaged_<name>`) and return their names. The run's lock is held.

    A damaged state can be replayed by itself. Without any other file the run does not count as complete any more.
    A directory whose description is of another run is left alone: none of its files can be trusted.
    """
    aside: list[str] = []

    def set_aside(name: str) -> None:
        if (run.folder / name).exists():
            (run.folder / name).replace(run.folder / f"{DAMAGED}{name}")
        aside.append(name)

    def set_aside_if_unreadable(path: Path, read: Callable[[], object]) -> None:
        try:
            read()
        except DamagedError:
            set_aside(path.name)

    manifest = None
    try:
        manifest = run.read_manifest()
    except DamagedError:
        set_aside(MANIFEST)
    recorded = manifest.files if manifest else {}
    for name, record in recorded.items():
        if not (run.folder / name).exists() or FileRecord.of(run.folder / name) != record:
            set_aside(name)
    if manifest is not None and aside:
        if all(STATE.fullmatch(name) for name in aside):
            run.write_manifest(manifest, {name: r for name, r in recorded.items() if name not in aside})
        else:
            (run.folder / MANIFEST).unlink()
    for name in (DESCRIPTION, SPARSITY):
        path = run.folder / name
        if name not in recorded and path.exists():
            set_aside_if_unreadable(path, lambda name=name: run.read_json(name))  # type: ignore[misc]
    for path in run.tensor_files():
        if path.name not in recorded:
            set_aside_if_unreadable(path, lambda path=path: tensor_files.read(path, run.how_to_mend()))  # type: ignore[misc]
    return aside


@contextlib.contextmanager
def _collected(problems: list[DamagedError]) -> Iterator[None]:
    try:
        yield
    except DamagedError as problem:
        problems.append(problem)
    except OpenPruneError as problem:
        problems.append(DamagedError(str(problem)))
