"""CIFAR's published files: pickled batches in a folder or a tar archive, or the binary version's folder.

A batch holds images as rows of 3,072 bytes: 1,024 red, 1,024 green, 1,024 blue, each row by row. In the binary version
a record is one label byte (CIFAR-100: coarse, then fine) and such a row.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from datasets.formats.source_files import Download, SourceFiles, Split, damaged

_URL = "https://www.cs.toronto.edu/~kriz/"
_ROW = 3 * 32 * 32


@dataclass(frozen=True)
class CifarFiles:
    """The files and fields of one of the two datasets."""

    title: str
    folders: tuple[str, str]
    """The folders of the pickled and of the binary version."""
    archive: str
    """The tar archive of the pickled version."""
    md5: str
    batches: dict[str, tuple[str, ...]]
    """The pickled files of each split. The binary version's end in .bin."""
    label_field: str
    class_names: tuple[str, str, str]
    """The pickled file of the class names, its field, and the binary version's file."""
    label_bytes: int
    """The bytes of labels in a binary record, of which the last is used."""

    def read(self, files: SourceFiles) -> dict[str, Split]:
        """Return both splits. Raises: DamagedError that names a file that is missing or not as published."""
        import numpy as np

        from datasets.formats.archives import members

        path = files.need(*self.folders, download=Download(self.archive, (_URL + self.archive,), self.md5))
        contents = {PurePosixPath(name).name: content for name, content in members(path)}
        binary = path.name == self.folders[1]

        def content(name: str) -> tuple[bytes, str]:
            if name not in contents:
                raise damaged(path / name, "it is missing")
            return contents[name], f"{path}/{name}"

        pickled_names, field, plain_names = self.class_names
        names = (
            content(plain_names)[0].decode().split() if binary else _unpickled(*content(pickled_names), field)[field]
        )
        splits = {}
        for split, batches in self.batches.items():
            read = [
                _records(*content(f"{name}.bin"), self.label_bytes)
                if binary
                else _batch(*content(name), self.label_field)
                for name in batches
            ]
            pixels, labels = (np.concatenate(column) for column in zip(*read, strict=True))
            source = f"{self.title}, published {'binary' if binary else 'python'} files"
            splits[split] = Split(pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64), tuple(names), source)
        return splits


def _records(blob: bytes, place: str, label_bytes: int) -> tuple[Any, Any]:
    import numpy as np

    size = label_bytes + _ROW
    if not blob or len(blob) % size:
        raise damaged(place, f"its {len(blob)} bytes are not a whole number of records of {size}")
    records = np.frombuffer(blob, np.uint8).reshape(-1, size)
    return records[:, label_bytes:], records[:, label_bytes - 1]


def _batch(blob: bytes, place: str, label_field: str) -> tuple[Any, Any]:
    import numpy as np

    batch = _unpickled(blob, place, "data", label_field)
    data, labels = batch["data"], batch[label_field]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_ROW,):
        raise damaged(place, "its images are not rows of 3,072 bytes")
    if len(labels) != len(data):
        raise damaged(place, "it does not hold one label for each image")
    return data, np.asarray(labels, np.int64)


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
        raise damaged(place, f"it is not a whole batch of pickled arrays ({error})") from error
    if not isinstance(content, dict) or not set(fields) <= set(content):
        raise damaged(place, f"it is not a dictionary with {', '.join(fields)}")
    return content
