"""CIFAR-10 and CIFAR-100 as published: pickled batches in a folder or a tar archive, or the binary version's folder.

A batch holds images as rows of 3,072 bytes: 1,024 red, 1,024 green, 1,024 blue, each row by row. In the binary version
a record is one label byte (CIFAR-100: coarse, then fine) and such a row.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.published import Download, Published, Split, damaged

_ROW = 3 * 32 * 32


@dataclass(frozen=True)
class _Version:
    """The names that one of the two sets gives to its files and fields."""

    title: str
    pickled: str
    binary: str
    archive: Download
    batches: dict[str, tuple[str, ...]]
    binary_batches: dict[str, tuple[str, ...]]
    label_field: str
    meta: tuple[str, str]
    binary_meta: str
    label_bytes: int


_CIFAR10 = _Version(
    title="CIFAR-10",
    pickled="cifar-10-batches-py",
    binary="cifar-10-batches-bin",
    archive=Download(
        "cifar-10-python.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        "c58f30108f718f92721af3b95e74349a",
    ),
    batches={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    binary_batches={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    label_field="labels",
    meta=("batches.meta", "label_names"),
    binary_meta="batches.meta.txt",
    label_bytes=1,
)
_CIFAR100 = _Version(
    title="CIFAR-100",
    pickled="cifar-100-python",
    binary="cifar-100-binary",
    archive=Download(
        "cifar-100-python.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
        "eb9058c3a382ffc7106e4002c42a8d85",
    ),
    batches={"train": ("train",), "test": ("test",)},
    binary_batches={"train": ("train.bin",), "test": ("test.bin",)},
    label_field="fine_labels",
    meta=("meta", "fine_label_names"),
    binary_meta="fine_label_names.txt",
    label_bytes=2,
)


def read_cifar10(published: Published) -> dict[str, Split]:
    """Return both splits of CIFAR-10."""
    return _read(published, _CIFAR10)


def read_cifar100(published: Published) -> dict[str, Split]:
    """Return both splits of CIFAR-100, with its 100 fine labels."""
    return _read(published, _CIFAR100)


def _read(published: Published, version: _Version) -> dict[str, Split]:
    path = published.need(version.pickled, version.binary, download=version.archive)
    if path.is_file():
        return _read_pickled(_archive_members(path), version, str(path))
    if path.name == version.pickled:
        return _read_pickled(lambda name: _bytes(path / name), version, str(path))
    names = tuple(_bytes(path / version.binary_meta).decode().split())
    splits = {}
    for split, batches in version.binary_batches.items():
        records = np.concatenate([_records(path / name, version) for name in batches])
        images = records[:, version.label_bytes :].reshape(-1, 3, 32, 32)
        labels = records[:, version.label_bytes - 1].astype(np.int64)
        splits[split] = Split(images, labels, names, f"{version.title}, published binary files")
    return splits


def _read_pickled(member: Callable[[str], bytes], version: _Version, place: str) -> dict[str, Split]:
    meta_name, names_field = version.meta
    names = tuple(_unpickled(member(meta_name), f"{place}/{meta_name}", names_field)[names_field])
    splits = {}
    for split, batches in version.batches.items():
        images, labels = [], []
        for name in batches:
            batch = _unpickled(member(name), f"{place}/{name}", "data", version.label_field)
            data = batch["data"]
            if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_ROW,):
                raise damaged(f"{place}/{name}", "its images are not rows of 3,072 bytes")
            if len(batch[version.label_field]) != len(data):
                raise damaged(f"{place}/{name}", "it has not one label for each image")
            images.append(data)
            labels.append(np.asarray(batch[version.label_field], np.int64))
        pixels = np.concatenate(images).reshape(-1, 3, 32, 32)
        splits[split] = Split(pixels, np.concatenate(labels), names, f"{version.title}, published python files")
    return splits


def _archive_members(path: Path) -> Callable[[str], bytes]:
    try:
        with tarfile.open(path) as archive:
            contents = {
                Path(item.name).name: file.read() for item in archive if (file := archive.extractfile(item)) is not None
            }
    except (tarfile.TarError, EOFError, OSError) as error:
        raise damaged(path, f"not a whole tar archive ({error})") from error

    def member(name: str) -> bytes:
        if name not in contents:
            raise damaged(path, f"holds no {name}")
        return contents[name]

    return member


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise damaged(path, "missing") from error


def _records(path: Path, version: _Version) -> NDArray[np.uint8]:
    blob = _bytes(path)
    size = version.label_bytes + _ROW
    if not blob or len(blob) % size:
        raise damaged(path, f"{len(blob)} bytes are not a whole number of records of {size}")
    return np.frombuffer(blob, np.uint8).reshape(-1, size)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles lists, texts and numpy arrays, and nothing that could run code."""

    _ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".")[0] == "numpy" and name in self._ALLOWED) or (module, name) == ("_codecs", "encode"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickled(blob: bytes, place: str, *fields: str) -> dict[str, Any]:
    try:
        content = _ArraysOnly(io.BytesIO(blob), encoding="latin1").load()
    except Exception as error:  # a truncated pickle can raise nearly anything
        raise damaged(place, f"not a whole batch of pickled arrays ({error})") from error
    if not isinstance(content, dict) or not set(fields) <= set(content):
        raise damaged(place, f"not a dictionary with {', '.join(fields)}")
    return content
