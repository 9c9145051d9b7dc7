"""A lock on a file that belongs to another user and may only be read: the system's locks need no more, but on NFS."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from filelock import Timeout

_POLL_SECONDS = 0.05


class ReadOnlyLock:
    """The system's exclusive lock on a file that is opened for reading, with the interface of `filelock.FileLock`."""

    def __init__(self, path: Path) -> None:
        self._path, self._handle = path, -1

    def acquire(self, timeout: float = -1) -> None:
        """Take the lock. timeout: in seconds; negative to wait as long as it takes.

        Raises: Timeout; PermissionError where the file system locks only files that are open for writing.
        """
        import fcntl

        deadline = time.monotonic() + timeout
        handle = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if timeout >= 0 and deadline <= time.monotonic():
                        raise Timeout(str(self._path)) from None
                    time.sleep(_POLL_SECONDS)
        except BaseException as error:
            os.close(handle)
            if isinstance(error, OSError) and error.errno == errno.EBADF:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._path)) from error
            raise
        self._handle = handle

    def release(self) -> None:
        """Release the lock."""
        os.close(self._handle)
        self._handle = -1
