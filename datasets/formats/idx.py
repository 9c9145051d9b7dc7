"""The idx format of MNIST and the datasets published like it: four files, as they are or gzipped.

An idx file is a big-endian header (two zero bytes, the type 0x08 for uint8, the number of axes, each axis's length as
uint32) and the values.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.formats.source_files import Download, SourceFiles, Split, damaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class IdxFiles:
    """The four files of a dataset in this format."""

    folder: str
    urls: tuple[str, ...]
    md5: tuple[str, str, str, str]
    """Of the gzipped training images, training labels, test images and test labels."""
    class_names: tuple[str, ...]

    def read(self, files: SourceFiles) -> dict[str, Split]:
        """Return both splits."""
        md5 = iter(self.md5)
        splits = {}
        for split, part in (("train", "train"), ("test", "t10k")):
            images = self._array(files, f"{part}-images-idx3-ubyte", next(md5))
            labels = self._array(files, f"{part}-labels-idx1-ubyte", next(md5)).astype("int64")
            splits[split] = Split(images[:, None], labels, self.class_names, f"{self.folder}, published idx files")
        return splits

    def _array(self, files: SourceFiles, name: str, md5: str) -> NDArray[np.uint8]:
        raw = f"{self.folder}/raw/{name}"
        download = Download(f"{raw}.gz", tuple(f"{url}{name}.gz" for url in self.urls), md5)
        return read_idx(files.need(raw, download=download))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an idx file of bytes. Raises: DamagedError for anything else."""
    import gzip

    import numpy as np

    try:
        blob = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, f"it is not a whole gzip file ({error})") from error
    if len(blob) < 4 or blob[:3] != b"\x00\x00\x08" or len(blob) < 4 + 4 * blob[3]:
        raise damaged(path, "it is not an idx file of bytes")
    shape = struct.unpack(f">{blob[3]}I", blob[4 : 4 + 4 * blob[3]])
    values = np.frombuffer(blob, np.uint8, offset=4 + 4 * blob[3])
    if values.size != math.prod(shape):
        raise damaged(path, f"it holds {values.size} bytes of the {math.prod(shape)} that its header announces")
    return values.reshape(shape)
