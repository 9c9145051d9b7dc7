"""The published files of a dataset: found where torchvision puts them, or downloaded.

The function that reads a dataset gets `SourceFiles` and asks for files by the paths that torchvision gives them under
its root folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.access import for_owner
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Split:
    """One part of a dataset. images: uint8 (N, C, H, W). labels: int64 (N,). class_names: one for each class."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of a prepared file."""
        return {"images": self.images, "labels": self.labels}


@dataclass(frozen=True)
class Arrays:
    """One part of a dataset whose inputs are not images.

    tensors: of vectors and series `inputs`, float32 (N, ...); of tokens `tokens`, int32, uint16 or uint8 (total,), and
    `documents`, int64 (N + 1,), the places where documents begin and the last one ends. With them the targets of the
    task: `labels`, int64 (N,), or `targets`, (N, K), float32 or uint8. Tokens may have `token_bytes`, int64
    (vocabulary,), the length of each token in bytes, in the training part.
    class_names: one for each class, if there are classes. metadata: further lines of the prepared file.
    """

    tensors: Mapping[str, NDArray[Any]]
    source: str
    class_names: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of a prepared file."""
        return dict(self.tensors)


@dataclass(frozen=True)
class Index:
    """The places of the encoded images of a split, for datasets too large to be decoded into memory."""

    files: tuple[str, ...]
    """Image files, or archives of them; paths below the folder of all datasets, or absolute ones."""
    file: NDArray[np.int64]
    """For each image, the number of its file."""
    offset: NDArray[np.int64]
    """For each image, its offset in its file, in bytes."""
    size: NDArray[np.int64]
    """For each image, its length in bytes."""
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of a prepared file: `files` as the bytes of their lines, the rest as it is."""
        import numpy as np

        lines = np.frombuffer("\n".join(self.files).encode(errors="surrogateescape"), np.uint8)
        return {"files": lines, "file": self.file, "offset": self.offset, "size": self.size, "labels": self.labels}


@dataclass(frozen=True)
class FilePart:
    """The place of the bytes of a published file, such as an image: a file, or a part of an uncompressed archive."""

    name: str
    file: str
    """The file, or the archive: its path below the folder of all datasets, or an absolute one."""
    offset: int
    """In bytes, from the beginning of the file."""
    size: int


@dataclass(frozen=True)
class Download:
    """A published file: its path under torchvision's root, its addresses in order of preference, its md5 sum."""

    path: str
    urls: tuple[str, ...]
    md5: str


@dataclass(frozen=True)
class SourceFiles:
    """Access to the published files of a dataset: the places to look for them, and whether to download them."""

    name: str
    folder: Path
    """The folder of all datasets."""
    allow_download: bool
    report: Callable[[str], None]
    """Takes a line about each step that takes long."""

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders that may hold the files: that of all datasets, and the dataset's own in it, as in OpenLTH."""
        return (self.folder, self.folder / self.name)

    def find(self, *paths: str) -> Path | None:
        """Return the first of the paths that exists in one of the places."""
        candidates = [place / path for path in paths for place in self.places]
        return next((candidate for candidate in candidates if candidate.exists()), None)

    def need(self, *paths: str, download: Download) -> Path:
        """Return the first of the paths that exists, or else download.

        Raises: EnvironmentFailure of at most three lines, if there is no such file and it cannot be downloaded.
        """
        found = self.find(*paths, download.path)
        if found is not None:
            return found
        looked = f"looked for {' or '.join((*paths, download.path))} in {' and '.join(map(str, self.places))}."
        put = f"Put the published files there (for instance {download.urls[0]})"
        if not self.allow_download:
            raise EnvironmentFailure(
                f"The dataset '{self.name}' is not prepared and downloading is forbidden; {looked}\n"
                f"{put}, or allow downloading."
            )
        try:
            return self._download(download)
        except OSError as error:
            raise EnvironmentFailure(
                f"The dataset '{self.name}' could not be downloaded: {error}.\n{looked[0].upper()}{looked[1:]}\n"
                f"{put}, or try again with a network."
            ) from error

    def _download(self, download: Download) -> Path:
        target = self.folder / download.path
        target.parent.mkdir(parents=True, exist_ok=True)
        failures: list[str] = []
        for url in download.urls:
            try:
                with replacing(target) as part:
                    digest = self._fetch(url, part)
                    if digest != download.md5:
                        raise OSError(f"not the published file (md5 {digest} instead of {download.md5})")
                return target
            except OSError as error:
                failures.append(f"{url}: {getattr(error, 'reason', error)}")
        raise OSError("; ".join(failures))

    def _fetch(self, url: str, part: Path) -> str:
        import urllib.request

        digest, done, told = hashlib.md5(usedforsecurity=False), 0, 0
        with urllib.request.urlopen(url, timeout=30) as response, part.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            self.report(f"downloading {url}" + (f" ({total / 1e6:.0f} MB)" if total else ""))
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if total and done * 10 // total > told:
                    told = done * 10 // total
                    self.report(f"downloading {url}: {told * 10}%")
        return digest.hexdigest()


def damaged(path: Path | str, reason: str) -> DamagedError:
    """Return the error for a damaged or altered published file. reason: a sentence about it."""
    return DamagedError(f"{path}: {reason}.\n{for_owner(path, 'Remove it and download it again.')}")
