from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors.numpy import load_file

from datasets.formats.safetensors_writer import write_tensors
from foundations import access
from foundations.access import check_may_empty, for_owner, reason
from foundations.errors import EnvironmentFailure
from foundations.files import explain_os_errors, write_atomically
from foundations.storage.read_only_lock import ReadOnlyLock

pytest.importorskip("grp")  # loaded now: Python's own modules may lie where only the superuser may read
FORK = multiprocessing.get_context("fork")
ANN, BOB, LAB = 61001, 61002, 61000
only_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as two other users"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def said_to(user: int, work: Callable[[], object]) -> str:
    """Return the message of the error that some work raises as a user of the group; empty if it raises none."""
    ours, theirs = FORK.Pipe(duplex=False)

    def be() -> None:
        os.setgroups([LAB])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        try:
            work()
            theirs.send("")
        except EnvironmentFailure as error:
            theirs.send(str(error))
        except OSError as error:
            theirs.send(reason(error))

    process = FORK.Process(target=be)
    process.start()
    theirs.close()
    said: str = ours.recv()
    process.join()
    return said


def given(path: Path, owner: int, group: int, mode: int) -> Path:
    if not path.exists():
        path.mkdir()
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


@only_root
def test_the_folder_in_the_way_is_named_and_not_the_file_below_it(place: Path) -> None:
    closed = given(place / "a closed one", ANN, LAB, 0o2755)

    said = said_to(BOB, lambda: write_atomically(closed / "b" / "file", b""))

    assert f"the folder {closed} belongs to user {ANN}, who can open it to the group {LAB}" in said
    assert f"`chmod -R g+rwX '{closed}'`" in said


@only_root
def test_a_folder_of_another_group_is_named_with_owner_and_group(place: Path) -> None:
    closed = given(place / "closed", ANN, ANN, 0o700)

    said = said_to(BOB, lambda: (closed / "file").read_bytes())

    assert f"the folder {closed} belongs to user {ANN} and the group {ANN}, which you are not in" in said
    assert "chmod" not in said


@only_root
def test_one_s_own_closed_folder_is_one_s_own_to_open(place: Path) -> None:
    closed = given(place / "closed", BOB, BOB, 0o500)

    assert f"the folder {closed} is yours: `chmod u+rwX {closed}`" in said_to(
        BOB, lambda: write_atomically(closed / "file", b"")
    )


@only_root
def test_a_sticky_folder_is_named_where_it_keeps_a_file(place: Path) -> None:
    sticky = given(place / "sticky", ANN, LAB, 0o3770)
    (sticky / "file").write_text("")
    os.chown(sticky / "file", ANN, LAB)
    (sticky / "file").chmod(0o660)

    assert f"the sticky bit of {sticky}" in said_to(BOB, (sticky / "file").unlink)


@only_root
def test_a_closed_folder_anywhere_inside_is_found_before_anything_is_changed(place: Path) -> None:
    given(given(place / "run", ANN, LAB, 0o2775) / "logs", ANN, LAB, 0o2755)

    assert f"the folder {place / 'run' / 'logs'} belongs to user {ANN}" in said_to(
        BOB, lambda: check_may_empty(place / "run")
    )
    assert said_to(ANN, lambda: check_may_empty(place / "run")) == ""


@only_root
def test_a_link_leads_to_the_folder_in_the_way(place: Path) -> None:
    closed = given(place / "closed", ANN, LAB, 0o2700)
    (place / "link").symlink_to(given(closed / "inside", ANN, LAB, 0o2770))

    assert f"the folder {closed} belongs to user {ANN}" in said_to(BOB, lambda: (place / "link" / "file").read_bytes())


@only_root
def test_another_user_s_file_is_not_to_be_removed(place: Path) -> None:
    (place / "file").write_text("")
    os.chown(place / "file", ANN, LAB)

    assert for_owner(place / "file", "Remove it.") == f"It belongs to user {ANN}: ask user {ANN} to replace it."
    os.chown(place / "file", os.geteuid(), LAB)
    assert for_owner(place / "file", "Remove it.") == "Remove it."


def test_an_error_that_is_no_permission_is_given_as_the_system_gives_it(tmp_path: Path) -> None:
    assert reason(FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path))) == (
        "No such file or directory"
    )
    assert reason(OSError("no number")) == "no number"


def test_a_used_up_quota_says_that_files_count_and_that_the_same_command_goes_on() -> None:
    with (
        pytest.raises(EnvironmentFailure, match=r"quota, which may count files as well as bytes.*it continues"),
        explain_os_errors("write", Path("/x")),
    ):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")


def test_a_lock_that_is_opened_for_reading_excludes_one_that_is_opened_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other, own = FileLock(path), ReadOnlyLock(path)
    with other, pytest.raises(Timeout):
        own.acquire(timeout=0)

    own.acquire(timeout=0)
    with pytest.raises(Timeout):
        other.acquire(timeout=0)
    own.release()
    with other:
        pass


@pytest.mark.parametrize("umask", [0o002, 0o007, 0o022, 0o077])
def test_a_prepared_dataset_has_the_mode_of_the_umask_and_the_content_of_safetensors(
    tmp_path: Path, umask: int
) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "images": np.random.default_rng(0).integers(0, 255, (3, 1, 5, 7), dtype=np.uint8),
        "labels": np.arange(3),
        "empty": np.zeros((0, 4), np.int64),
    }
    former = os.umask(umask)
    try:
        write_tensors(tmp_path / "file", arrays, {"source": 'the "ü"\n'})
    finally:
        os.umask(former)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    found = load_file(tmp_path / "file")
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in arrays.items()}


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOENT, 0])
def test_a_folder_that_another_machine_has_just_changed_counts_as_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    sees, looks_at = iter([False, True]), os.lstat

    def look(path: Any) -> os.stat_result:
        if number and str(path) == str(tmp_path):
            raise OSError(number, os.strerror(number), str(path))
        return looks_at(path)

    monkeypatch.setattr(access, "_may", lambda *_: next(sees))
    monkeypatch.setattr(os.path, "lexists", lambda _: True)
    monkeypatch.setattr(os, "lstat", look)

    check_may_empty(tmp_path)
