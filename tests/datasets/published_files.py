"""Small files in exactly the formats in which the datasets are published, with made-up images."""

import gzip
import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.formats.source_files import Arrays, Index, SourceFiles, Split

Examples = tuple[NDArray[Any], NDArray[Any]]
"""Images and labels."""


def images(count: int, channels: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.RandomState(seed).randint(256, size=(count, channels, side, side)).astype(np.uint8)


def labels(count: int, classes: int, seed: int = 0) -> NDArray[Any]:
    return np.random.RandomState(seed + 1).randint(classes, size=count)


def write_idx(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    blob = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(blob) if path.suffix == ".gz" else blob)


def write_mnist(root: Path, train: Examples, test: Examples, suffix: str = "", folder: str = "MNIST") -> None:
    for prefix, (x, y) in (("train", train), ("t10k", test)):
        write_idx(root / folder / "raw" / f"{prefix}-images-idx3-ubyte{suffix}", x[:, 0])
        write_idx(root / folder / "raw" / f"{prefix}-labels-idx1-ubyte{suffix}", y)


def write_cifar_python(
    folder: Path, batches: dict[str, Examples], meta: tuple[str, str, list[str]], label_field: str
) -> None:
    """batches: {file name: (images, labels)}; meta: (file name, field, class names)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in batches.items():
        batch = {"batch_label": name, label_field: list(map(int, y)), "data": x.reshape(len(x), -1)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    name, field, class_names = meta
    (folder / name).write_bytes(pickle.dumps({field: class_names}, protocol=2))


def write_cifar_binary(
    folder: Path, batches: dict[str, tuple[NDArray[Any], list[NDArray[Any]]]], meta: tuple[str, list[str]]
) -> None:
    """batches: {file name: (images, list of label columns)}; meta: (file name, class names)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, columns) in batches.items():
        records = np.concatenate([*(np.asarray(c, np.uint8)[:, None] for c in columns), x.reshape(len(x), -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())
    (folder / meta[0]).write_text("\n".join(meta[1]) + "\n")


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def _mat_matrix(name: str, value: Any) -> bytes:
    if isinstance(value, list):  # a structure array
        fields = list(value[0])
        size = 1 + max(map(len, fields))
        parts = b"".join(_mat_matrix("", row[field]) for row in value for field in fields)
        joined = b"".join(field.encode().ljust(size, b"\0") for field in fields)
        body = struct.pack("<HHi", 5, 4, size) + _element(1, joined) + parts
        return _mat_element(2, (len(value), 1), name, body)
    if isinstance(value, str):
        return _mat_element(4, (1, len(value)), name, _element(4, value.encode("utf-16-le")))
    array = np.asarray(value if isinstance(value, np.ndarray) else [[float(value)]])
    kind, array_class = (2, 9) if array.dtype == np.uint8 else (9, 6)
    return _mat_element(array_class, array.shape, name, _element(kind, array.tobytes(order="F")))


def _mat_element(array_class: int, shape: tuple[int, ...], name: str, body: bytes) -> bytes:
    encoded = name.encode()
    named = struct.pack("<HH", 1, len(name)) + encoded.ljust(4, b"\0") if len(name) <= 4 else _element(1, encoded)
    axes = _element(5, struct.pack(f"<{len(shape)}i", *shape))
    return _element(14, _element(6, struct.pack("<II", array_class, 0)) + axes + named + body)


def write_mat(path: Path, variables: dict[str, Any], compressed: bool = True) -> None:
    """variables: {name: array, or a list of dictionaries (a structure array)}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mat_bytes(variables, compressed))


def mat_bytes(variables: dict[str, Any], compressed: bool = True) -> bytes:
    blob = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    for name, value in variables.items():
        matrix = _mat_matrix(name, value)
        packed = zlib.compress(matrix)
        blob += struct.pack("<II", 15, len(packed)) + packed if compressed else matrix
    return blob


def write_svhn(path: Path, x: NDArray[Any], y: NDArray[Any]) -> None:
    """x: uint8 (N, 3, 32, 32); y: digits 0 ... 9. In the file 0 is 10."""
    write_mat(path, {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y).astype(np.uint8)[:, None]})


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return a smooth picture, uint8 (height, width, 3), that survives JPEG nearly unchanged."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [128 + 100 * np.sin(random.uniform(2, 9) * x + random.uniform(2, 9) * y + c) for c in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def jpeg(array: NDArray[Any], quality: int = 95, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return stream.getvalue()


def write_image_folders(
    folder: Path,
    classes: list[str],
    per_class: int,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    inside: str = "",
    suffix: str = "JPEG",
) -> dict[Path, NDArray[Any]]:
    """Write `folder/<class>/<inside>/<class>_<n>.JPEG`; return {path: picture}."""
    written = {}
    for number, name in enumerate(classes):
        for n in range(per_class):
            path = folder / name / inside / f"{name}_{n}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            array = picture(size[0], size[1], seed=seed + 100 * number + n)
            path.write_bytes(jpeg(array, kind="PNG" if suffix == "png" else "JPEG"))
            written[path] = array
    return written


def source_files(root: Path, name: str = "set") -> SourceFiles:
    return SourceFiles(name, root, allow_download=False, report=lambda _: None)


def part(count: int, channels: int = 3, side: int = 32, classes: int = 10, seed: int = 0) -> Examples:
    return images(count, channels, side, seed), labels(count, classes, seed)


def assert_split(split: Split | Index | Arrays, expected: tuple[Any, ...]) -> None:
    assert isinstance(split, Split)
    x, y = expected
    assert split.images.dtype == np.uint8
    assert split.labels.dtype == np.int64
    np.testing.assert_array_equal(split.images, x)
    np.testing.assert_array_equal(split.labels, y)
