"""The rules by which a run's files get into its folders: taking over, writing, publishing, adding.

A process writes into a working folder of its own. Another process may take this over, if it believes that the first has
ended, or publish the run first. The one that comes second finds that out at its next write, and ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from foundations.description.address import Location
from foundations.errors import Busy, EnvironmentFailure, OpenPruneError, PublishedFirst, TakenOver
from foundations.files import (
    Flushes,
    append,
    despite_stale,
    explain_os_errors,
    is_folder,
    is_there,
    looks,
    publish_folder,
    read_file,
    refresh_folder,
    replace_file,
)
from foundations.storage.locks import Holder, describe, is_alive, is_same, lock, this_process
from foundations.storage.manifest import MANIFEST, NOT_A_MANIFEST, FileRecord, Manifest, manifest_number
from foundations.storage.packed import unpack
from foundations.storage.pending_files import MOST_BYTES
from foundations.storage.root_format import check_format, state_format
from foundations.storage.run_folder import (
    CHECKPOINT,
    DESCRIPTION,
    FAILURE,
    LOG,
    OF_EXECUTORS,
    OUTPUT,
    RunFolder,
    is_part,
)

_PUBLISHED = re.compile(r" Published by (process \d+ on .+)\.$", re.MULTILINE)
_ATTEMPTS = 10
_SECONDS = 1.0
"""Seconds of work that may be lost when a process is killed before its first checkpoint."""
_LOOKS_FOR_A_NOTE = 3
"""Looks for the note on who has taken a folder over, which is written after it is renamed."""


class WorkingRun(RunFolder):
    """A run's folders, and the work in them."""

    def __init__(self, root: Path, location: Location) -> None:
        super().__init__(root, location)
        self._say: Callable[[str], None] = print
        self._began = 0.0
        """The time at which this process took the lock, by the monotonic clock."""

    @contextlib.contextmanager
    def locked(
        self, say: Callable[[str], None], *, wait: bool = True, facts: Mapping[str, Any] | None = None
    ) -> Iterator[Holder]:
        """Hold the run's lock. If another process holds it, report which one and wait, or raise Busy.

        facts: noted beside the lock.
        The lock saves work; on a file system where it keeps nobody out, each process has a folder of its own.
        """
        check_format(self.root)
        with explain_os_errors("work in", self.root):
            held = contextlib.ExitStack()
            holder = held.enter_context(lock(self.lock_path, str(self), say, wait=wait, facts=facts))
        with held:
            self._holder, self._say, self._is_complete = holder, say, False
            self._began = time.monotonic()
            try:
                self.tidy()
                yield holder
                self.land()
            finally:
                self._let_go()
                self._holder = None

    def tidy(self) -> None:
        """Delete leftovers."""
        for path in self.leftovers():
            if self._is_in_use(path):
                continue
            with contextlib.suppress(OSError):
                if is_folder(path) and not path.is_symlink():
                    self.generations.remove(path)
                else:
                    path.unlink(missing_ok=True)
        self.generations.tidy()

    def drop_empty_output(self) -> None:
        """Remove the output file of a job that began after another process had published the run, if it is empty."""
        path = self.generations.folder / OUTPUT
        with contextlib.suppress(OSError):
            if self.is_published and path.stat().st_size == 0:
                path.unlink()
                self.generations.tidy()

    def _is_in_use(self, path: Path) -> bool:
        """Return whether a working folder, or that of a file, may be of a process that works on another machine."""
        folder = path if path.parent == self.generations.folder else path.parent
        owner = self.generations.owner(folder)
        return owner is not None and is_alive(owner) is None and self._competitor() is not None

    def _competitor(self) -> dict[str, Any] | None:
        return self._holder.competitor() if self._holder else None

    def claim(self) -> bool:
        """Take over the files of an interrupted process, if there are any; return whether this process has them.

        Raises: Busy where another process works in them: it is alive, so the lock keeps nobody out.
        """
        if self._own is not None:
            return True
        free, busy = self._interrupted()
        if busy is not None:
            raise Busy(f"{self} is in use by {describe(busy)}.")
        return self._claim_first(free)

    def unpack(self) -> bool:
        """Give a packed run a folder of its own, too; return whether it was packed. Raises: EnvironmentFailure."""
        if not self.is_published or self.place == self.final or self.upstream is not None:
            return False
        with explain_os_errors("write", self.final):
            unpack(self.place, self.final)
        return self.is_published

    def begin(self) -> None:
        """Take over the files of an interrupted process, or begin a working folder of this process's own.

        Does nothing where the run is complete. Raises: EnvironmentFailure.
        """
        if self._own is not None or self.is_published:
            self.unpack()
            return
        with explain_os_errors("write", self.final):
            state_format(self.root)
            free, busy = self._interrupted()
            if busy is not None:
                self._say(
                    f"The lock of {self} keeps nobody out: {describe(busy)} works on it, too, so each has a folder of "
                    "its own, and the first to finish counts."
                )
            if not self._claim_first(free) and not self.is_published:
                self._own = self.generations.begin(is_owned=self._holder is not None)

    def _interrupted(self) -> tuple[list[Path], dict[str, Any] | None]:
        """Return the folders that may be taken over, the newest first, and a process that works in another one."""
        competitor = self._competitor()
        free, busy = [], competitor
        for folder in (*self.generations.all(), *self._of_format_1()):
            alive = self.generations.living_owner(folder)
            owner = self.generations.owner(folder)
            if alive is not None:
                busy = alive
            elif competitor is None or (owner is not None and not is_same(owner, competitor)):
                free.append(folder)
        return free, busy

    def _of_format_1(self) -> list[Path]:
        """Return the final folder if it has files and, also after a second look, no manifest."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if os.listdir(self.final) and not is_there(self.final / MANIFEST):  # noqa: PTH208
                refresh_folder(self.final)
                return [] if is_there(self.final / MANIFEST) else [self.final]
        return []

    def _claim_first(self, folders: Iterable[Path]) -> bool:
        """Claim the first of some folders that nobody else claims; return whether there was one."""
        for old in folders:
            claimed = self.generations.claim(old, is_owned=self._holder is not None)
            if claimed is None:
                continue
            if old == self.final and is_there(claimed / MANIFEST):  # it was published, which was not seen here
                self._put_back(claimed)
                return False
            self._own = claimed
            with self._writing(claimed, MANIFEST):
                for name in despite_stale(partial(os.listdir, claimed)):
                    if manifest_number(name) or is_part(name):
                        (claimed / name).unlink(missing_ok=True)
                    elif name in OF_EXECUTORS and not is_there(self.generations.folder / name):
                        (claimed / name).replace(self.generations.folder / name)
            return True
        return False

    def _put_back(self, claimed: Path) -> None:
        try:
            publish_folder(claimed, self.final)
        except FileExistsError:
            self.generations.discard(claimed)
        else:
            self.generations.release(claimed)

    def check_own(self) -> None:
        """Check that the run is not complete, and that the process's working folder is still its own.

        Raises: PublishedFirst, TakenOver or EnvironmentFailure, with a sentence on who has done what.
        """
        if self.is_published or (self._own is not None and not is_folder(self._own)):
            raise self._lost(self._own)

    def check_there(self) -> None:
        """Check that the process's working folder is there. Raises: as `check_own`."""
        if self._own is not None and self._holder is not None and not is_folder(self._own):
            raise self._lost(self._own)

    def publish(self, manifest: Manifest, files: Mapping[str, FileRecord]) -> None:
        """Write the manifest, of some files, and make the working folder the run's final one.

        The checkpoint goes last: a process killed in between leaves a complete run with a useless file, until `locked`.
        Raises: as `check_own`.
        """
        self.begin()
        self.check_own()
        own = self._own
        assert own is not None, "begin has made a folder, or check_own raised"
        manifest = dataclasses.replace(manifest, files=dict(files), run=str(self), generation=own.name)
        self.write(MANIFEST, manifest.to_bytes())
        self.land()
        # The last before the folder is renamed: what a process that is killed in between has logged did not happen.
        self.log(f"Published by process {this_process()['pid']} on {this_process()['host']}.")
        with explain_os_errors("write", self.final):
            self._publish(own, own.name)
            self._own = None
            for path in (self.final / CHECKPOINT, self.generations.folder / FAILURE):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (self.generations.folder / OUTPUT).replace(self.final / OUTPUT)
            self.generations.release(own)
            self.generations.tidy()

    def _publish(self, own: Path, generation: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                publish_folder(own, self.final)
                return
            except FileExistsError:
                if not self._sees_publication():  # a folder of format 1 is in the way
                    for old in self._of_format_1():
                        claimed = self.generations.claim(old, is_owned=False)
                        if claimed is not None and is_there(claimed / MANIFEST):
                            self._put_back(claimed)
                    continue
            except FileNotFoundError:
                self._sees_publication()
            if self._is_published_as(generation):  # the reply was lost
                return
            break
        raise self._lost(own)

    def _sees_publication(self) -> bool:
        """Return whether the run is complete; wait some seconds for that, since names may be seen late."""
        return any(self.is_published for _ in looks())

    def _is_published_as(self, generation: str) -> bool:
        with contextlib.suppress(OSError, *NOT_A_MANIFEST):
            return Manifest.from_bytes(read_file(self.final / MANIFEST)).generation == generation
        return False

    def _lost(self, own: Path | None) -> OpenPruneError:
        """Return the error for a process that others have overtaken, and remove what it has."""
        for look, _ in enumerate(looks()):
            with contextlib.suppress(OSError):
                refresh_folder(self.final.parent)
            if self.is_published:
                said: list[str] = []
                with contextlib.suppress(OSError):
                    said = _PUBLISHED.findall(read_file(self.place / LOG).decode(errors="replace"))
                if own is not None:
                    self._pending.drop()
                    self.generations.discard(own)
                    self._own = None
                    self.generations.tidy()
                who = said[-1] if said else "another process"
                return PublishedFirst(f"{who[:1].upper()}{who[1:]} published {self} first: its files count.")
            successor = None if own is None else self.generations.successor(own)
            if successor is not None:
                who = describe(successor)
                return TakenOver(f"{who[:1].upper()}{who[1:]} has taken over {self}, so this process ends its work.")
            if look >= _LOOKS_FOR_A_NOTE and any(each != own for each in self.generations.all()):
                return TakenOver(f"Another process has taken over or removed {self}, so this process ends its work.")
        return EnvironmentFailure(f"{own or self.place} was removed while the job ran.")

    def withdraw(self) -> None:
        """Make a complete run incomplete: its folder becomes this process's working folder. Raises: as `check_own`."""
        self.refuse_upstream()
        with explain_os_errors("write", self.final):
            self._own = self.generations.claim(self.final, is_owned=self._holder is not None)
        self._is_complete = False
        if self._own is None:
            raise self._lost(None)

    def _let_go(self) -> None:
        """Leave the working folder to the next process."""
        if self._own is not None:
            with contextlib.suppress(OpenPruneError):  # the error that ends the work is the one that matters
                self.land()
            self.generations.release(self._own)
        self._own = None
        self._drop_added()

    def _drop_added(self) -> None:
        if self._added is not None:
            self.generations.discard(self._added)
        self._added = None
        self.generations.tidy()

    # Its files.

    def write(self, name: str, data: bytes) -> None:
        """Write one of the run's files, whole or not at all; of a complete run, for `add` to publish it.

        It is flushed, and gets its name, with the others that were written: before the next checkpoint, or at the end
        of the work; if this takes longer than a second, with the next line of the log. Its name is flushed with the
        next checkpoint, or before the run is published.
        Raises: EnvironmentFailure; PublishedFirst or TakenOver where the working folder is no longer this process's.
        """
        self.begin()
        self.refuse_upstream()
        if self._own is None and self._added is None:
            with explain_os_errors("write", self.final):
                self._added = self.generations.begin(is_owned=self._holder is not None)
        folder = self._own or self._added
        assert folder is not None, "one of the two was made"
        is_own = folder == self._own
        if is_own and self._holder is not None and name != CHECKPOINT and len(data) <= MOST_BYTES:
            with self._writing(folder, name):
                # Others look for the description.
                self._pending.write(folder / name, data, is_named=name == DESCRIPTION)
            return
        self.land()
        flushes: Flushes = "content" if is_own and name != CHECKPOINT else "all"
        with self._writing(folder, name):
            try:
                replace_file(folder / name, data, flushes=flushes)
            except FileNotFoundError:
                if not is_folder(folder):
                    raise
                # Another process has removed the temporary file as a leftover.
                replace_file(folder / name, data, flushes=flushes)

    def land(self) -> None:
        """Flush the files that wait for it, and give them their names. Raises: as `write`."""
        if self._pending and self._own is not None:
            with self._writing(self._own, min(self._pending.names())):
                self._pending.land()

    def log(self, line: str) -> None:
        """Add a line to log.txt, with the time."""
        self.begin()
        self.refuse_upstream()
        if time.monotonic() - self._began > _SECONDS:
            self.land()
        folder = self._own or self.place
        with self._writing(folder, LOG):
            append(folder / LOG, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n".encode())

    @contextlib.contextmanager
    def _writing(self, folder: Path, name: str) -> Iterator[None]:
        with explain_os_errors("write", folder / name):
            try:
                yield
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ESTALE) and not is_folder(folder) and folder != self.place:
                    raise self._lost(folder) from None
                raise
