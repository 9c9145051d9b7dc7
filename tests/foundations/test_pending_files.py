"""Files that are flushed together and named then."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from foundations.storage.pending_files import PendingFiles


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_get_their_names_when_they_land(tmp_path: Path) -> None:
    pending = PendingFiles()
    for name in ("a", "b", "c"):
        pending.write(tmp_path / name, name.encode())
    path = pending.path("a")
    assert path is not None
    assert path.read_bytes() == b"a"
    assert not any((tmp_path / name).exists() for name in "abc")
    assert pending.names() == {"a", "b", "c"}

    pending.land()

    assert names(tmp_path) == ["a", "b", "c"]
    assert (tmp_path / "b").read_bytes() == b"b"
    assert not pending
    assert pending.path("a") is None


def test_the_last_content_counts(tmp_path: Path) -> None:
    pending = PendingFiles()
    pending.write(tmp_path / "a", b"first", is_named=True)
    assert (tmp_path / "a").read_bytes() == b"first"
    pending.write(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first", "until it is flushed"

    pending.land()

    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"second"


def test_dropped_files_get_no_name(tmp_path: Path) -> None:
    pending = PendingFiles()
    for name in ("a", "b", "c"):
        pending.write(tmp_path / name, b"")

    pending.drop("b", "other")
    pending.land()
    pending.write(tmp_path / "d", b"")
    pending.drop()

    assert names(tmp_path) == ["a", "c"]


def test_a_temporary_file_that_another_process_removed_is_written_again(tmp_path: Path) -> None:
    pending = PendingFiles()
    for name in ("a", "b"):
        pending.write(tmp_path / name, name.encode())
    path = pending.path("b")
    assert path is not None
    path.unlink()

    pending.land()

    assert (tmp_path / "b").read_bytes() == b"b"


def test_a_disk_that_fails_leaves_no_names_and_no_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pending = PendingFiles()
    pending.write(tmp_path / "named", b"0", is_named=True)
    for name in ("a", "b", "c"):
        pending.write(tmp_path / name, b"0")
    before = set(threading.enumerate())
    count = iter(range(10))
    plain = os.fsync

    def failing(handle: int) -> None:
        plain(handle)
        if next(count) == 2:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)

    with pytest.raises(OSError, match="Input/output"):
        pending.land()

    assert names(tmp_path) == ["named"]
    assert set(threading.enumerate()) == before
    assert not pending
