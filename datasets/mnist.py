"""MNIST and the sets published in its format: four idx files, as they are or gzipped.

An idx file is a big-endian header (two zero bytes, the type 0x08 for uint8, the number of axes, each axis's length as
uint32) and the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.published import Download, Published, Split, damaged

_MNIST_URLS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}

_FASHION_URLS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
_FASHION_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def read_mnist(published: Published) -> dict[str, Split]:
    """Return both splits of MNIST."""
    return _read(published, "MNIST", _MNIST_URLS, _MNIST_MD5, tuple(map(str, range(10))))


def read_fashion_mnist(published: Published) -> dict[str, Split]:
    """Return both splits of Fashion-MNIST."""
    return _read(published, "FashionMNIST", _FASHION_URLS, _FASHION_MD5, _FASHION_CLASSES)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an idx file of bytes. Raises: DamagedError for anything else."""
    try:
        blob = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, f"not a whole gzip file ({error})") from error
    if len(blob) < 4 or blob[:3] != b"\x00\x00\x08" or len(blob) < 4 + 4 * blob[3]:
        raise damaged(path, "not an idx file of bytes")
    shape = struct.unpack(f">{blob[3]}I", blob[4 : 4 + 4 * blob[3]])
    values = np.frombuffer(blob, np.uint8, offset=4 + 4 * blob[3])
    if values.size != math.prod(shape):
        raise damaged(path, f"holds {values.size} bytes of the {math.prod(shape)} that its header announces")
    return values.reshape(shape)


def _read(
    published: Published, folder: str, urls: tuple[str, ...], md5: dict[str, str], class_names: tuple[str, ...]
) -> dict[str, Split]:
    def array(name: str) -> NDArray[np.uint8]:
        raw = f"{folder}/raw/{name}"
        download = Download(f"{raw}.gz", tuple(f"{url}{name}.gz" for url in urls), md5[name])
        return read_idx(published.need(raw, download=download))

    splits = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = array(f"{prefix}-images-idx3-ubyte"), array(f"{prefix}-labels-idx1-ubyte")
        source = f"{folder}, published idx files"
        splits[split] = Split(images[:, None], labels.astype(np.int64), class_names, source)
    return splits
