"""Downloading published files, from a server of the test's own."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datasets.formats.source_files import Download, SourceFiles
from foundations.errors import EnvironmentFailure

CONTENT = b"published" * 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.bin").write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def need(
    folder: Path,
    urls: tuple[str, ...],
    md5: str | None = None,
    allow_download: bool = True,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    md5 = md5 or hashlib.md5(CONTENT).hexdigest()
    return SourceFiles("set", folder, allow_download, report).need(download=Download("raw/file.bin", urls, md5))


def test_a_file_is_downloaded_once_with_its_progress_reported(tmp_path: Path, server: str) -> None:
    lines: list[str] = []

    path = need(tmp_path, (f"{server}/file.bin",), report=lines.append)
    again = need(tmp_path, ("http://127.0.0.1:1/no server",))

    assert path == again == tmp_path / "raw" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert lines[0] == f"downloading {server}/file.bin (1 MB)"
    assert lines[-1].endswith("100%")


def test_the_next_address_is_tried_where_one_fails(tmp_path: Path, server: str) -> None:
    assert need(tmp_path, (f"{server}/missing.bin", f"{server}/file.bin")).read_bytes() == CONTENT


def test_a_download_that_is_not_the_published_file_is_refused_and_leaves_nothing(tmp_path: Path, server: str) -> None:
    with pytest.raises(EnvironmentFailure, match="not the published file") as caught:
        need(tmp_path, (f"{server}/file.bin",), md5="0" * 32)

    assert len(str(caught.value).splitlines()) <= 3
    assert list((tmp_path / "raw").iterdir()) == []


def test_without_a_network_the_error_names_places_and_addresses_in_three_lines(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        need(tmp_path, ("http://127.0.0.1:1/file.bin",))

    message = str(caught.value)
    assert "could not be downloaded" in message
    assert str(tmp_path) in message
    assert "http://127.0.0.1:1/file.bin" in message
    assert len(message.splitlines()) <= 3


def test_a_forbidden_download_does_not_happen(tmp_path: Path, server: str) -> None:
    with pytest.raises(EnvironmentFailure, match="forbidden"):
        need(tmp_path, (f"{server}/file.bin",), allow_download=False)

    assert not (tmp_path / "raw").exists()
