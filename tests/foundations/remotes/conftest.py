from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.foundations.remotes.s3_server import S3, s3_server


@pytest.fixture(scope="session")
def session_s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(session_s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A server of the S3 protocol, which the environment's credentials are for."""
    for name, value in session_s3.environment.items():
        monkeypatch.setenv(name, value)
    return session_s3


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty remote of each kind."""
    name = f"b{uuid.uuid4().hex[:12]}"
    if request.param == "file":
        return (tmp_path / "remote").as_uri()
    if request.param == "memory":
        return f"memory://{name}/prefix"
    request.getfixturevalue("s3").make_bucket(name)
    return f"s3://{name}/prefix"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine's own user."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
