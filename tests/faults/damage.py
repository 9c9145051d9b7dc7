"""Damage to files, by disks and by people."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.jobs import flip


@dataclass(frozen=True)
class Damaged:
    """A description of the damage, and the damaged files."""

    how: str
    paths: tuple[Path, ...]


def damage(root: Path, drawn: random.Random, donors: Sequence[Path]) -> Damaged:
    """Damage a file, or two, of the runs under a root.

    donors: files of other runs, whose content may replace it: of the same kind, of another step, level or replicate.
    """
    files = files_of_runs(root)
    path = drawn.choice(files)
    how = drawn.choice(sorted(_WAYS))
    if how == "exchanged":
        other = drawn.choice([each for each in files if each != path and each.suffix == path.suffix] or [path])
        _exchange(path, other)
        return Damaged(f"exchanged {path} and {other}", (path, other))
    if how == "of another run":
        alike = [each for each in donors if each.suffix == path.suffix]
        donor = drawn.choice([each for each in alike if each.name == path.name] if drawn.random() < 0.5 else alike)
        shutil.copyfile(donor, path)
        return Damaged(f"{donor} in place of {path}", (path,))
    _WAYS[how](path, drawn)
    return Damaged(f"{how}: {path}", (path,))


def files_of_runs(root: Path) -> list[Path]:
    """Return the files of all runs under a root, without the remains of removed runs."""
    found = (*root.glob("*/replicate_*/[!.]*/*"), *root.glob("*/replicate_*/.[!r]*/*-*/*"))
    return sorted(path for path in found if path.is_file() and path.suffix != ".part")


def content(path: Path) -> object:
    """Return a value that changes whenever the file, or anything in its place, changes."""
    return path.read_bytes() if path.is_file() else path.lstat().st_mode if os.path.lexists(path) else None


def _truncate(path: Path, drawn: random.Random) -> None:
    os.truncate(path, drawn.randrange(max(1, path.stat().st_size)))


def _empty(path: Path, _drawn: random.Random) -> None:
    path.write_bytes(b"")


def _flip(path: Path, drawn: random.Random) -> None:
    if size := path.stat().st_size:
        flip(path, drawn.randrange(size), drawn.randrange(8))


def _remove(path: Path, _drawn: random.Random) -> None:
    path.unlink()


def _folder(path: Path, drawn: random.Random) -> None:
    path.unlink()
    path.mkdir()
    if drawn.random() < 0.5:
        (path / "file").write_text("something")


def _link(path: Path, drawn: random.Random) -> None:
    path.unlink()
    to = ("/nowhere", "/dev/zero", "/dev/null", "/etc/passwd", str(path.parent), path.name, "description.json")
    path.symlink_to(drawn.choice(to))


def _fifo(path: Path, _drawn: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _pickle(path: Path, _drawn: random.Random) -> None:
    path.write_bytes(pickle.dumps(_Trap(f"{path}.executed")))


def _nothing(_path: Path, _drawn: random.Random) -> None: ...


class _Trap:
    """An object that writes a file when it is read."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (self._path,)


def _exchange(path: Path, other: Path) -> None:
    if path != other:
        part = path.with_name("exchanged")
        path.rename(part)
        other.rename(path)
        part.rename(other)


_WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": _truncate,
    "emptied": _empty,
    "flipped": _flip,
    "deleted": _remove,
    "a folder": _folder,
    "a link": _link,
    "a FIFO": _fifo,
    "a pickle": _pickle,
    "exchanged": _nothing,
    "of another run": _nothing,
}
