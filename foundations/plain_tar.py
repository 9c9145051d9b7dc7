"""Tar archives in one form: uncompressed, plain files only, headers that hold a name and a size and nothing else.

The same files give the same bytes. A reader compares each header with the one that `header` returns for its name and
size, so links, devices, sparse files, long-name records and whatever else tar knows cannot be in such an archive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import IO

from foundations.errors import UsageError

BLOCK = 512
END = bytes(2 * BLOCK)
"""The end of an archive."""
_CHUNK = 1 << 20


class NotPlain(ValueError):
    """An archive has another form, or ends too early."""


def header(name: str, size: int) -> bytes:
    """Return the header of a file. Raises: UsageError for names and sizes that a plain header cannot hold."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    try:
        return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError as error:
        raise UsageError(f"'{name}', of {size:,} bytes, cannot be in a tar archive ({error}).") from error


def padded(size: int) -> int:
    """Return the bytes that a file takes in an archive, without its header."""
    return -(-size // BLOCK) * BLOCK


def read_header(archive: IO[bytes]) -> tuple[str, int] | None:
    """Return the name and size of the file that comes next, or None at the end. Raises: NotPlain."""
    block = archive.read(BLOCK)
    if block == END[:BLOCK]:
        if archive.read() != END[BLOCK:]:
            raise NotPlain("something follows its end")
        return None
    try:
        entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        is_plain = header(entry.name, entry.size) == block
    except (tarfile.HeaderError, ValueError, UsageError) as error:
        raise NotPlain("it ends too early, or a header is damaged") from error
    if not is_plain:
        raise NotPlain("it has an entry that is not a plain file")
    return entry.name, entry.size


def read_content(archive: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the content of a file in pieces. Raises: NotPlain if the archive ends before."""
    left = size
    while left:
        piece = archive.read(min(_CHUNK, left))
        if not piece:
            raise NotPlain("it ends too early")
        left -= len(piece)
        yield piece
    if any(archive.read(padded(size) - size)):
        raise NotPlain("something is between its files")


def write_entry(write: Callable[[bytes], object], name: str, size: int, content: Iterator[bytes]) -> None:
    """Write one file: its header, its content of `size` bytes, and zeros up to a whole block."""
    write(header(name, size))
    for piece in content:
        write(piece)
    write(bytes(padded(size) - size))
