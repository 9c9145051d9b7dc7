"""Small files in exactly the formats in which the data sets are published, with made-up images."""

import gzip
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np


def images(count, channels, side, seed=0):
    return np.random.RandomState(seed).randint(256, size=(count, channels, side, side)).astype(np.uint8)


def labels(count, classes, seed=0):
    return np.random.RandomState(seed + 1).randint(classes, size=count)


def write_idx(path: Path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    blob = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(blob) if path.suffix == ".gz" else blob)


def write_mnist(root: Path, train, test, suffix="", folder="MNIST"):
    for prefix, (x, y) in (("train", train), ("t10k", test)):
        write_idx(root / folder / "raw" / f"{prefix}-images-idx3-ubyte{suffix}", x[:, 0])
        write_idx(root / folder / "raw" / f"{prefix}-labels-idx1-ubyte{suffix}", y)


def write_cifar_python(folder: Path, batches, meta, label_field):
    """batches: {file name: (images, labels)}; meta: (file name, field, class names)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in batches.items():
        batch = {"batch_label": name, label_field: list(map(int, y)), "data": x.reshape(len(x), -1)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    name, field, class_names = meta
    (folder / name).write_bytes(pickle.dumps({field: class_names}, protocol=2))


def write_cifar_binary(folder: Path, batches, meta):
    """batches: {file name: (images, list of label columns)}; meta: (file name, class names)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (x, columns) in batches.items():
        records = np.concatenate([*(np.asarray(c, np.uint8)[:, None] for c in columns), x.reshape(len(x), -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())
    (folder / meta[0]).write_text("\n".join(meta[1]) + "\n")


def _element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def _mat_matrix(name, array):
    small_name = struct.pack("<HH", 1, len(name)) + name.encode().ljust(4, b"\0")
    kind, array_class = (2, 9) if array.dtype == np.uint8 else (9, 6)
    content = (
        _element(6, struct.pack("<II", array_class, 0))
        + _element(5, struct.pack(f"<{array.ndim}i", *array.shape))
        + small_name
        + _element(kind, array.tobytes(order="F"))
    )
    return _element(14, content)


def write_mat(path: Path, arrays, compressed=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    blob = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    for name, array in arrays.items():
        matrix = _mat_matrix(name, array)
        packed = zlib.compress(matrix)
        blob += struct.pack("<II", 15, len(packed)) + packed if compressed else matrix
    path.write_bytes(blob)


def write_svhn(path: Path, x, y):
    """x: uint8 (N, 3, 32, 32); y: digits 0 ... 9. In the file 0 is 10."""
    write_mat(path, {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y).astype(np.uint8)[:, None]})
