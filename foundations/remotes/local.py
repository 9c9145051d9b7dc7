"""A remote in a folder: `file:///lab/remote`. Objects are created by a hard link, which fails where the name exists."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from foundations.files import publish_file
from foundations.parts import is_abandoned, part_of
from foundations.remotes.storage import Storage, explained


class LocalStorage(Storage):
    """Objects as files below a folder. Follows no links below it, and reads nothing but regular files."""

    def __init__(self, url: str) -> None:
        super().__init__(url.rstrip("/"))
        self._folder = unquote(urlsplit(url).path).rstrip("/") or "/"

    def listed(self) -> dict[str, int]:
        """Return the sizes of all objects by name. Removes what killed processes of this machine left half-written."""
        with explained("list", self.url):
            return dict(self._files())

    def _files(self) -> Iterator[tuple[str, int]]:
        waiting = [""]
        while waiting:
            inside = waiting.pop()
            try:
                entries = sorted(os.scandir(f"{self._folder}/{inside}"), key=lambda entry: entry.name)
            except FileNotFoundError:
                continue
            for entry in entries:
                name = f"{inside}/{entry.name}".lstrip("/")
                if entry.name.startswith("."):  # a file that is being written
                    if is_abandoned(entry.name):
                        with contextlib.suppress(OSError):
                            os.unlink(entry.path)  # noqa: PTH108 (the entry has the path as text)
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                else:
                    # Links and devices are listed, so that they are named; `read` refuses them.
                    yield name, entry.stat(follow_symlinks=False).st_size

    def create(self, name: str, data: bytes) -> bool:
        """Write an object; return False where the name is taken."""
        return self._create(name, lambda file: file.write(data))

    def create_from(self, name: str, path: Path) -> bool:
        """Write an object from a file; return False where the name is taken."""
        with path.open("rb") as source:
            return self._create(name, lambda file: shutil.copyfileobj(source, file, 1 << 22))

    def _create(self, name: str, write: Callable[[BinaryIO], object]) -> bool:
        path = Path(self._folder, name)
        with explained("write", self.url, name):
            if os.path.lexists(path):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            part = part_of(path)
            try:
                with part.open("xb") as file:
                    write(file)
                publish_file(part, path)
                return True
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)

    def read(self, name: str, start: int, size: int) -> bytes:
        """Return bytes of an object."""
        with explained("read", self.url, name):
            # Neither through a link nor from a FIFO, which would block.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(f"{self._folder}/{name}", flags), "rb") as file:  # noqa: PTH123
                file.seek(start)
                return file.read(size)
