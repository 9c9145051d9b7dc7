"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64, in the published archive or unpacked.

    tiny-imagenet-200/wnids.txt
    tiny-imagenet-200/train/<wnid>/images/<wnid>_<n>.JPEG
    tiny-imagenet-200/val/images/val_<n>.JPEG with val/val_annotations.txt (file name, wnid, box; separated by tabs)

The test set is the validation set (the published test images have no labels). Classes are numbered in the order of
their wnids. A validation folder that was sorted into class folders, as several code bases do it, is read as well.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.decode import decode_all
from datasets.published import Download, Published, Split, damaged

_FOLDER = "tiny-imagenet-200"
_ARCHIVE = Download(
    f"{_FOLDER}.zip", (f"http://cs231n.stanford.edu/{_FOLDER}.zip",), "90528d7ca1a48142e341f4ef8d21d0de"
)
_SOURCE = "Tiny ImageNet, published JPEG files, decoded"
_SIDE = 64


class _Files:
    """The files of the data set, in a folder or in the archive, by their paths below `tiny-imagenet-200`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        if path.is_file():
            try:
                self._archive = zipfile.ZipFile(path)
            except zipfile.BadZipFile as error:
                raise damaged(path, f"not a whole zip archive ({error})") from error
            names: Iterable[str] = (name.partition("/")[2] for name in self._archive.namelist())
        else:
            names = (found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file())
        self.names = sorted(filter(None, names))

    def read(self, name: str) -> bytes:
        try:
            if self._archive is not None:
                return self._archive.read(f"{_FOLDER}/{name}")
            return (self.path / name).read_bytes()
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise damaged(self.path / name, f"missing or damaged ({error})") from error


def read(published: Published) -> dict[str, Split]:
    """Return the training set and, as test set, the validation set."""
    files = _Files(published.need(_FOLDER, download=_ARCHIVE))
    train = {name: PurePosixPath(name).parts[1] for name in files.names if _is_image(name, "train")}
    wnids = sorted(set(train.values()))
    validation = _validation_labels(files)
    unknown = sorted(set(validation.values()) - set(wnids))
    if not train or not validation or unknown:
        raise damaged(files.path, f"training images of {len(wnids)} classes, {len(validation)} labelled for validation")
    published.report(f"decoding {len(train) + len(validation):,} images of tinyimagenet")
    return {"train": _decoded(files, train, wnids), "test": _decoded(files, validation, wnids)}


def _is_image(name: str, part: str) -> bool:
    return name.startswith(f"{part}/") and name.lower().endswith(".jpeg")


def _validation_labels(files: _Files) -> dict[str, str]:
    names = [name for name in files.names if _is_image(name, "val")]
    if "val/val_annotations.txt" not in files.names:
        return {name: PurePosixPath(name).parts[1] for name in names}
    lines = files.read("val/val_annotations.txt").decode().splitlines()
    wnid_of = dict(line.split("\t")[:2] for line in lines if "\t" in line)
    missing = sorted(set(wnid_of) - {PurePosixPath(name).name for name in names})
    if missing:
        raise damaged(files.path, f"val/val_annotations.txt names {missing[0]}, which is not there")
    return {name: wnid_of[PurePosixPath(name).name] for name in names if PurePosixPath(name).name in wnid_of}


def _decoded(files: _Files, wnid_of: dict[str, str], wnids: list[str]) -> Split:
    images = decode_all(((files.path / name, files.read(name)) for name in wnid_of), len(wnid_of), _SIDE)
    number = {wnid: index for index, wnid in enumerate(wnids)}
    labels = np.array([number[wnid] for wnid in wnid_of.values()], np.int64)
    return Split(images, labels, tuple(wnids), _SOURCE)
