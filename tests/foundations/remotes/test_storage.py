"""Objects of each kind of remote: written once, listed, read in ranges; errors in two lines."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from foundations.errors import EnvironmentFailure, OpenPruneError, UsageError
from foundations.remotes.opening import open_storage
from foundations.remotes.storage import MissingObject, check_url
from tests.foundations.remotes.s3_server import S3


def test_an_object_is_written_once_and_a_second_write_changes_nothing(url: str, tmp_path: Path) -> None:
    storage, file = open_storage(url), tmp_path / "file"
    file.write_bytes(b"other")

    created = [
        storage.create("runs/a", b"first"),
        storage.create("runs/a", b"second"),
        storage.create_from("runs/a", file),
        storage.create_from("runs/b", file),
    ]

    assert created == [True, False, False, True]
    assert open_storage(url).listed() == {"runs/a": 5, "runs/b": 5}
    assert (storage.read("runs/a", 1, 3), storage.read("runs/b", 0, 5)) == (b"irs", b"other")


def test_of_many_writers_of_one_name_one_wins(url: str) -> None:
    storage, won = open_storage(url), list[int]()

    def write(number: int) -> None:
        if storage.create("name", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert storage.read("name", 0, 9) == str(won[0]).encode()


def test_an_empty_object_and_a_missing_one(url: str) -> None:
    storage = open_storage(url)
    storage.create("empty", b"")

    assert storage.read("empty", 0, 0) == b""
    with pytest.raises(MissingObject, match="missing is not there"):
        storage.read("missing", 0, 4)


@pytest.mark.slow
def test_a_large_file_is_written_once_to_s3_as_well(s3: S3, tmp_path: Path) -> None:
    s3.make_bucket("large")
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(os.urandom(1 << 20) * 120)
    other.write_bytes(bytes(17 << 20))
    storage = open_storage("s3://large")

    assert storage.create_from("whole", file)
    assert not storage.create_from("whole", other) and not storage.create_from("whole", file)
    assert storage.listed() == {"whole": 120 << 20}


def test_a_folder_as_a_remote_follows_no_links_and_lists_no_files_under_way(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "remote" / "runs").mkdir(parents=True)
    (tmp_path / "remote" / "runs" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "remote" / "folder").symlink_to(tmp_path)
    (tmp_path / "remote" / "runs" / ".part").write_text("half")
    os.mkfifo(tmp_path / "remote" / "fifo")
    storage = open_storage((tmp_path / "remote").as_uri())

    assert storage.listed().keys() == {"runs/link", "folder", "fifo"}
    for name in ("runs/link", "folder"):
        with pytest.raises(EnvironmentFailure):
            storage.read(name, 0, 10)


def test_objects_of_a_folder_follow_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o002)
    try:
        open_storage((tmp_path / "remote").as_uri()).create("runs/a", b"1")
    finally:
        os.umask(former)

    assert (tmp_path / "remote" / "runs").stat().st_mode & 0o777 == 0o775
    assert (tmp_path / "remote" / "runs" / "a").stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize(
    "url, words",
    [
        ("s3://key:secret@bucket/x", "holds no login"),
        ("https://host/x?X-Amz-Signature=secret", "nothing behind"),
        ("https://host/x", "'https' is not a kind of remote"),
        ("s4://bucket", "choose from file, s3"),
        ("s3:///prefix", "the bucket is missing"),
        ("file://host/x", "absolute path"),
        ("file:relative", "absolute path"),
        ("file:///lab/../x", "'..'"),
        ("s3://bucket/a\nb", "control"),
        ("s3://[", "not a URL"),
    ],
)
def test_an_address_that_is_no_remote_is_refused_and_secrets_are_not_repeated(url: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        check_url(url)

    assert words in str(error.value)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def _message(url: str) -> str:
    with pytest.raises(OpenPruneError) as error:
        storage = open_storage(url)
        storage.listed()
        storage.create("name", b"1")
    message = str(error.value)
    assert len(message.splitlines()) <= 2
    assert "very-secret-words" not in message and "AKIA" not in message
    return message


@pytest.mark.slow
@pytest.mark.usefixtures("s3")
def test_errors_of_s3_are_two_lines_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "no such bucket" in _message("s3://not-a-bucket/x")

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "does not answer" in _message("s3://bucket/x")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "There are no credentials" in _message("s3://bucket/x")


@pytest.mark.slow
def test_a_refusal_of_the_service_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import botocore.exceptions
    import s3fs

    async def refuse(*_: object, **__: object) -> None:
        answer = {"Error": {"Code": "AccessDenied", "Message": "AKIATESTKEY may not"}}
        raise PermissionError("AKIATESTKEY may not") from botocore.exceptions.ClientError(answer, "PutObject")

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
    monkeypatch.setattr(s3fs.S3FileSystem, "_find", refuse)

    assert "refused the request" in _message("s3://bucket/x")


@pytest.mark.parametrize("folder", ["file", "/proc/not_there"])
def test_a_folder_that_cannot_be_written_is_an_error_of_two_lines(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(EnvironmentFailure, match="Cannot write file:///") as error:
        open_storage((tmp_path / folder).as_uri()).create("runs/a", b"1")

    assert len(str(error.value).splitlines()) <= 2
