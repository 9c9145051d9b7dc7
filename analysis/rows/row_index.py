"""Index of complete runs: a cache of their rows, so that listing thousands of runs does not read their files again.

    <root>/.cache/rows_<user>.json

The files of the runs are authoritative, and the index can be removed at any time. An entry is valid while the run's
description and manifest are the same files (inode, size, times of change), the folder has not changed, and every file
in the manifest has its listed size; otherwise the run is read. Runs of upstreams are in the index of the root itself.
The index is ignored if it is damaged, or belongs to another user, who could have written anything into it. If several
processes write it, the last writer wins. If it cannot be written, there is none.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import marshal
import os
import stat
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.rows.run_row import Facts, Row, row_and_facts, row_of
from foundations.description.address import Location
from foundations.description.desc import interned
from foundations.files import read_file, replacing
from foundations.storage.root import upstreams_of
from foundations.storage.run import DESCRIPTION, MANIFEST, Run

FOLDER = ".cache"
_FORM = 4
"""The version of the format; raise it when the content, or how it is read from the files, changes."""
LEAST_NEW = 100
"""The number of new runs from which writing the index pays."""
UNSETTLED_SECONDS = 3.0
"""After a change, a file can change again within this time and keep the same timestamps."""
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)
"""Errors of reading a damaged index."""
_PLAIN = 2  # the last version of marshal whose bytes depend on the value alone


@contextlib.contextmanager
def remembered_rows(root: Path) -> Iterator[Callable[[Run], Row]]:
    """Yield a function like `row_of` for the runs under a root, which uses the index where it is up to date.

    When the block ends, the index contains the runs that were requested, and only those.
    """
    if not hasattr(os, "geteuid"):
        yield row_of
        return
    with without_collector():
        index = _Index(root / FOLDER / f"rows_{os.geteuid()}.json", has_upstreams=bool(upstreams_of(root)))
        yield index.row_of
    index.write()


def remembered_groups(root: Path) -> tuple[list[Any], dict[str, list[int]]]:
    """Return the index's pool of values, such as groups of hyperparameters, and the numbers of each run's groups in it.

    Does not look at the runs. Descriptions never change, so the groups are right for every run that still exists.
    """
    if hasattr(os, "geteuid"):
        with contextlib.suppress(*_UNREADABLE), without_collector():
            pool, groups, _ = _content(root / FOLDER / f"rows_{os.geteuid()}.json")
            return pool, groups
    return [], {}


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Pause the garbage collector, which would scan hundreds of thousands of live objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Index:
    def __init__(self, path: Path, *, has_upstreams: bool) -> None:
        self._path, self._has_upstreams = path, has_upstreams
        self._now = time.time()  # the same for all, so that ages can be compared
        self._pool: list[Any] = []
        self._known: dict[str, tuple[list[int], list[Any]]] = {}
        self._made: dict[tuple[str, int], Any] = {}
        self._seen: dict[str, tuple[str, Facts]] = {}
        self._new = 0
        with contextlib.suppress(*_UNREADABLE):
            pool, groups, rest = _content(path)
            self._known = dict(zip(groups, zip(groups.values(), json.loads(rest), strict=True), strict=True))
            self._pool = pool

    def row_of(self, run: Run) -> Row:
        """Return the row of a run."""
        name = str(run.location)
        folder = f"{run.home}/{name}"
        try:
            paths = (f"{folder}/{DESCRIPTION}", f"{folder}/{MANIFEST}", folder)
            description, manifest, place = [os.stat(path) for path in paths]  # noqa: PTH116
        except OSError:
            return row_and_facts(run, self._now)[0]
        # A further manifest changes the folder.
        key = f"{_identity(description)} {_identity(manifest)} {place.st_ino}/{place.st_mtime_ns}/{place.st_ctime_ns}"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            facts = self._facts(name, key)
            if facts is not None and _are_there(folder, facts.sizes, description.st_size):
                self._seen[name] = key, facts
                return facts.row(run, "complete", self._now - manifest.st_mtime)
        row, facts = row_and_facts(run, self._now)
        is_settled = max(description.st_ctime, manifest.st_ctime, place.st_ctime) < self._now - UNSETTLED_SECONDS
        if facts is not None and row.status == "complete" and is_settled:
            self._seen[name] = key, facts
            self._new += 1
        return row

    def write(self) -> None:
        """Replace the index if enough runs are new."""
        if self._new < LEAST_NEW:
            return
        root = self._path.parent.parent
        if self._has_upstreams:  # all runs may be in these, and the root itself not there yet
            with contextlib.suppress(OSError):
                root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            return
        # Failing to write the index does not change any row.
        with contextlib.suppress(OSError, ValueError):
            self._path.parent.mkdir(exist_ok=True)
            with replacing(self._path) as part:
                part.write_bytes(_to_bytes(self._seen))

    def _facts(self, name: str, key: str) -> Facts | None:
        """Return the entry of a run; None if there is none for its present files."""
        known = self._known.get(name)
        if known is None or known[1][0] != key:
            return None
        groups, (_, kinds, sources, per_epoch, (names, values), fingerprint, (files, sizes), steps, headline) = known
        return Facts(
            kinds=self._once("kinds", kinds, tuple),
            sources=self._once("sources", sources, lambda each: tuple(Location(*source) for source in each)),
            groups=tuple([self._once("group", group, interned) for group in groups]),
            iterations_per_epoch=per_epoch,
            results=dict(zip(self._pool[names], values, strict=True)),
            fingerprint=self._pool[fingerprint],
            sizes=dict(zip(self._pool[files], sizes, strict=True)),
            steps=self._pool[steps],
            headline=self._pool[headline],
        )

    def _once(self, what: str, number: int, make: Callable[[Any], Any]) -> Any:
        """Return `make` of a value of the pool, computed once, since many runs share it."""
        made = self._made.get((what, number))
        if made is None:
            made = self._made[what, number] = make(self._pool[number])
        return made


def _content(path: Path) -> tuple[list[Any], dict[str, list[int]], bytes]:
    """Return the shared values, the numbers of each run's groups, and the rest of each run's entry as JSON.

    Raises: OSError, ValueError and others.
    """
    data = read_file(path)
    if path.stat().st_uid != os.geteuid():
        raise ValueError("it is another user's")
    digest, _, text = data.partition(b"\n")
    if digest.decode() != hashlib.sha256(text).hexdigest():
        raise ValueError("it is damaged")
    first, _, rest = text.partition(b"\n")
    tree = json.loads(first)
    if tree["form"] != _FORM:
        raise ValueError("it is of another form")
    return tree["pool"], tree["groups"], rest


def _to_bytes(seen: Mapping[str, tuple[str, Facts]]) -> bytes:
    pool: list[Any] = []
    numbers: dict[Hashable, int] = {}

    def pooled(value: Any) -> int:
        content = marshal.dumps(value, _PLAIN)
        number = numbers.setdefault(content, len(pool))
        if number == len(pool):
            pool.append(value)
        return number

    groups = {name: [pooled(group) for group in facts.groups] for name, (_, facts) in seen.items()}
    rest = [
        [
            key,
            pooled(list(facts.kinds)),
            pooled([[source.training, source.replicate, source.name] for source in facts.sources]),
            facts.iterations_per_epoch,
            [pooled(list(facts.results)), list(facts.results.values())],
            pooled(facts.fingerprint),
            [pooled(list(facts.sizes)), list(facts.sizes.values())],
            pooled(dict(facts.steps)),
            pooled(facts.headline),
        ]
        for key, facts in seen.values()
    ]
    first = {"form": _FORM, "pool": pool, "groups": groups}
    text = b"\n".join(json.dumps(part, separators=(",", ":"), allow_nan=False).encode() for part in (first, rest))
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def _identity(found: os.stat_result) -> str:
    # Tools that set a file's time cannot set its time of change.
    return f"{found.st_ino}/{found.st_size}/{found.st_mtime_ns}/{found.st_ctime_ns}"


def _are_there(folder: str, sizes: Mapping[str, int], size_of_description: int) -> bool:
    """Return whether all files have the listed sizes. Raises: OSError if one is missing."""
    for name, size in sizes.items():
        if name == DESCRIPTION:
            is_there = size == size_of_description  # looked up already
        else:
            found = os.stat(f"{folder}/{name}")  # noqa: PTH116
            is_there = found.st_size == size and stat.S_ISREG(found.st_mode)
        if not is_there:
            return False
    return True
