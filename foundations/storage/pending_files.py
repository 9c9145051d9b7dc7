"""Files that a process has written into its working folder, and that are flushed together.

To flush a file takes milliseconds, whatever its size: a tiny run would wait longer for seven files than for its
training. Files that are flushed at the same time take as long as one. Until then, they have temporary names, so that a
name in the folder is that of a whole file on the disk. A killed process leaves temporary names, which the next one
removes.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path

from foundations.files import despite_stale, flush_together, name_part, replace_file
from foundations.parts import part_of

MOST_BYTES = 1 << 22
"""The size limit of a file that waits for others. It is kept in memory."""
_ATTEMPTS = 5


@dataclass(frozen=True)
class _Pending:
    part: Path
    """The path that the file has now."""
    path: Path
    data: bytes


class PendingFiles:
    """Files of one folder that wait to be flushed."""

    def __init__(self) -> None:
        self._files: dict[str, _Pending] = {}

    def __bool__(self) -> bool:
        return bool(self._files)

    def names(self) -> set[str]:
        """Return the names that the files will have."""
        return set(self._files)

    def path(self, name: str) -> Path | None:
        """Return the path at which a file can be read until it has its name; None where it does not wait."""
        found = self._files.get(name)
        return found.part if found else None

    def data(self, name: str) -> bytes | None:
        """Return the content of a file; None where it does not wait."""
        found = self._files.get(name)
        return found.data if found else None

    def write(self, path: Path, data: bytes, *, is_named: bool = False) -> None:
        """Write a file that is to have a name. is_named: give it its name before it is flushed. Raises: OSError."""
        self.drop(path.name)
        if is_named:
            replace_file(path, data, flushes="nothing")
        pending = self._files[path.name] = _Pending(path if is_named else part_of(path), path, data)
        if is_named:
            return
        try:
            despite_stale(lambda: pending.part.write_bytes(data))
        except BaseException:
            self.drop(path.name)
            raise

    def drop(self, *names: str) -> None:
        """Remove files that wait for their names, and forget the others; without names, all."""
        for name in names or list(self._files):
            found = self._files.pop(name, None)
            if found is not None and found.part != found.path:
                with contextlib.suppress(OSError):
                    found.part.unlink(missing_ok=True)

    def land(self) -> None:
        """Flush all files at once, and give them their names, in the order in which they were written.

        Raises: OSError; then those that have no name yet are removed.
        """
        try:
            for _ in range(_ATTEMPTS):
                try:
                    self._land()
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ESTALE):
                        raise
                    self.write_again()  # another process has removed a temporary file as a leftover
                else:
                    return
            self._land()
        finally:
            self.drop()

    def _land(self) -> None:
        written = flush_together([pending.part for pending in self._files.values()])
        for name, status in zip(list(self._files), written, strict=True):
            pending = self._files[name]
            if pending.part != pending.path:
                name_part(pending.part, pending.path, status)
            del self._files[name]

    def write_again(self) -> None:
        """Write the files at other paths. Raises: OSError."""
        for name, pending in list(self._files.items()):
            self.drop(name)
            self.write(pending.path, pending.data, is_named=pending.part == pending.path)
