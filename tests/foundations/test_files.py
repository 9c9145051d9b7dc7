from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from foundations.errors import EnvironmentFailure
from foundations.files import create_file, explain_os_errors, replacing, sha256_of_file, write_atomically
from foundations.parts import sweep_parts


def test_a_file_is_written_with_the_folders_that_it_needs(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"content")

    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"


def test_nothing_lies_beside_a_written_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"content")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    versions = [bytes([i]) * 300_000 for i in range(30)]
    write_atomically(path, versions[0])
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        write_atomically(path, version)
    done.set()
    reader.join()

    assert seen
    assert all(content in versions for content in seen)


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()  # a folder cannot be replaced by a file

    with pytest.raises(EnvironmentFailure, match="Cannot write"):
        write_atomically(path, b"content")

    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_block_that_raises_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("former")

    with pytest.raises(KeyError), replacing(tmp_path / "file") as part:
        part.write_text("half of the new one")
        raise KeyError

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "former")]


def test_a_path_below_a_file_is_a_failure_of_the_environment_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EnvironmentFailure, match=r"Not a directory.*Choose a folder"):
        write_atomically(tmp_path / "file" / "below" / "it", b"content")


def test_a_full_disk_says_that_the_same_command_goes_on() -> None:
    with (
        pytest.raises(EnvironmentFailure, match=r"Cannot write /x: No space left on device\. Free some room"),
        explain_os_errors("write", Path("/x")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_errors_pass_through() -> None:
    with pytest.raises(KeyError), explain_os_errors("write", Path("/x")):
        raise KeyError


def test_what_killed_writers_left_is_swept_and_the_rest_stays(tmp_path: Path) -> None:
    for name in (".file.0123.part", "file", "file.part"):
        (tmp_path / name).write_text("")

    sweep_parts(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.part"]


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")

    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


def test_what_a_killed_writer_left_is_removed_by_the_next_one_and_what_others_write_is_not(tmp_path: Path) -> None:
    def die() -> None:
        with replacing(tmp_path / "export") as part:
            part.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    writer = multiprocessing.get_context("fork").Process(target=die)
    writer.start()
    writer.join()
    (left,) = tmp_path.iterdir()
    living = left.with_name(left.name.replace(f"-{writer.pid}-", f"-{os.getpid()}-"))
    living.write_bytes(b"half")
    (tmp_path / ".other.part").write_bytes(b"half")

    write_atomically(tmp_path / "export", b"whole")

    assert {path.name for path in tmp_path.iterdir()} == {"export", living.name, ".other.part"}


@pytest.mark.parametrize("name", ["link", "unlink"])
def test_a_file_is_created_although_another_machine_removes_the_unfinished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain, calls = getattr(os, name), list[object]()

    def stale_once(path: str, *rest: object, **named: object) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        plain(path, *rest, **named)

    monkeypatch.setattr(os, name, stale_once)

    create_file(tmp_path / "file", b"content")

    assert (tmp_path / "file").read_bytes() == b"content" and calls
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "file", b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
