"""A remote in an object store, by fsspec: S3 and what speaks its protocol, Google Cloud Storage, Hugging Face."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foundations.remotes.storage import REQUESTS_AT_ONCE, Storage, explained

_IN_MEMORY = 1 << 24
"""Larger files are given to the library as files, which sends them in parts."""
_CONDITIONAL = ("s3", "gs", "memory")
"""Schemes whose libraries send the condition with the request. Others look first and then write, which is not safe."""
_SECONDS_TO_CONNECT = 10
_SECONDS_TO_ANSWER = 60


class ObjectStore(Storage):
    """Objects of one of fsspec's file systems, below a path."""

    def __init__(self, url: str) -> None:
        super().__init__(url.rstrip("/"))
        import fsspec

        parts = urlsplit(self.url)
        self._path = f"{parts.netloc}{parts.path}".strip("/")
        settings: dict[str, Any] = {}
        if parts.scheme == "s3":
            settings["config_kwargs"] = {
                "max_pool_connections": REQUESTS_AT_ONCE,
                "connect_timeout": _SECONDS_TO_CONNECT,
                "read_timeout": _SECONDS_TO_ANSWER,
                "retries": {"max_attempts": 3},
            }
        _import_package(parts.scheme)
        kind = fsspec.get_filesystem_class(parts.scheme)
        if parts.scheme != "memory":
            settings |= {"skip_instance_cache": True, "use_listings_cache": False}
        self._files = kind(**settings)
        self.honours_conditions = parts.scheme in _CONDITIONAL
        self._mode = {"mode": "create"} if self.honours_conditions else {}
        self._alone = threading.Lock() if parts.scheme == "memory" else None

    def listed(self) -> dict[str, int]:
        """Return the sizes of all objects by name."""
        with explained("list", self.url):
            found = self._files.find(self._path, detail=True)
            start = len(self._path) + 1
            names = {str(name).lstrip("/")[start:]: info for name, info in found.items()}
            return {name: int(info["size"] or 0) for name, info in names.items() if name}

    def create(self, name: str, data: bytes) -> bool:
        """Write an object; return False where the name is taken."""
        with explained("write", self.url, name):
            try:
                if self._alone is None:
                    self._files.pipe_file(f"{self._path}/{name}", data, **self._mode)
                else:
                    with self._alone:  # fsspec's memory looks first and then writes
                        self._files.pipe_file(f"{self._path}/{name}", data, **self._mode)
            except FileExistsError:
                return False
        return True

    def create_from(self, name: str, path: Path) -> bool:
        """Write an object from a file; return False where the name is taken."""
        if path.stat().st_size <= _IN_MEMORY or self._alone is not None:
            return self.create(name, path.read_bytes())
        with explained("write", self.url, name):
            try:
                self._files.put_file(str(path), f"{self._path}/{name}", **self._mode)
            except FileExistsError:
                return False
        return True

    def read(self, name: str, start: int, size: int) -> bytes:
        """Return bytes of an object."""
        if size == 0:
            return b""  # S3 refuses empty ranges
        with explained("read", self.url, name):
            return bytes(self._files.cat_file(f"{self._path}/{name}", start=start, end=start + size))


def _import_package(scheme: str) -> None:
    """Import the package that fsspec needs for a scheme. Raises: ImportError where it is not installed."""
    match scheme:
        case "s3":
            import s3fs  # noqa: F401
        case "gs":
            import gcsfs  # noqa: F401
        case "hf":
            import huggingface_hub  # noqa: F401
