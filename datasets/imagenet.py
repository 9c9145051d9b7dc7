"""ImageNet (ILSVRC 2012): an index of its JPEG files, in class folders or in the original archives.

    class folders      {train,val}/<wnid>/**/*.JPEG, as torchvision's ImageFolder has them
    flat validation    val/ILSVRC2012_val_<n>.JPEG, with the labels of the development kit
    archives           ILSVRC2012_img_train.tar (a tar of one tar for each class) and ILSVRC2012_img_val.tar, with the
                       development kit; read where they lie, without unpacking
    development kit    ILSVRC2012_devkit_t12/ or ILSVRC2012_devkit_t12.tar.gz: meta.mat numbers the wnids, and
                       ILSVRC2012_validation_ground_truth.txt has the number of each validation image

All are looked for in the folder of all data sets and in `imagenet` there. Classes are numbered in the order of their
wnids. The test set is the validation set.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.matlab import parse_mat
from datasets.published import Index, Published, damaged
from foundations.errors import EnvironmentFailure

_TRAIN_ARCHIVE, _VAL_ARCHIVE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_DEVKIT = "ILSVRC2012_devkit_t12"
_GROUND_TRUTH, _META = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"
_SUFFIXES = (".jpeg", ".jpg", ".png")
_SOURCE = "ImageNet, ILSVRC 2012, published JPEG files"


@dataclass(frozen=True)
class _Image:
    """An encoded image: a file, or a part of an archive."""

    name: str
    file: str
    offset: int
    size: int


def read(published: Published) -> dict[str, Index]:
    """Return the index of the training set and, as test set, of the validation set.

    Raises: EnvironmentFailure where they are not there (they cannot be downloaded freely); DamagedError for damaged archives.
    """
    by_wnid = _training_images(published)
    wnids = sorted(by_wnid)
    train = [(image, wnid) for wnid in wnids for image in by_wnid[wnid]]
    return {"train": _index(train, wnids), "test": _index(_validation_images(published, wnids), wnids)}


def index_class_folders(folder: Path, below: Path | None) -> dict[str, list[_Image]]:
    """Return the images under each folder of a folder, at any depth, by that folder's name.

    below: the folder from which paths start; absolute ones, where it is None or does not hold the images.
    """
    found = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            images = list(_images_under(Path(entry.path), below))
            if images:
                found[entry.name] = images
    return found


def _images_under(folder: Path, below: Path | None) -> Iterator[_Image]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(_SUFFIXES):
                path = Path(place) / name
                file = path.relative_to(below) if below and path.is_relative_to(below) else path.absolute()
                yield _Image(name, file.as_posix(), 0, path.stat().st_size)


def _training_images(published: Published) -> dict[str, list[_Image]]:
    folder = published.find("train")
    if folder is not None:
        published.report(f"listing {folder}")
        return index_class_folders(folder, published.folder)
    archive = published.find(_TRAIN_ARCHIVE)
    if archive is None:
        raise _missing(published, f"train/<wnid>/*.JPEG or {_TRAIN_ARCHIVE}")
    published.report(f"listing {archive}")
    by_wnid = {}
    for outer in _members(archive, published.folder, 0):
        images = list(_members(archive, published.folder, outer.offset))
        by_wnid[PurePosixPath(outer.name).stem] = sorted(images, key=lambda image: image.name)
    return by_wnid


def _validation_images(published: Published, wnids: list[str]) -> list[tuple[_Image, str]]:
    folder = published.find("val")
    archive = published.find(_VAL_ARCHIVE)
    if folder is not None:
        by_wnid = index_class_folders(folder, published.folder)
        if by_wnid:
            return [(image, wnid) for wnid, images in by_wnid.items() for image in images]
        images = list(_images_under(folder, published.folder))
    elif archive is not None:
        images = list(_members(archive, published.folder, 0))
    else:
        raise _missing(published, f"val/<wnid>/*.JPEG, val/*.JPEG or {_VAL_ARCHIVE}")
    labels = _validation_wnids(published)
    images.sort(key=lambda image: image.name)
    if len(labels) != len(images) or not set(labels) <= set(wnids):
        raise damaged(folder or archive or _DEVKIT, f"{len(images)} images, but the kit has {len(labels)} labels")
    return list(zip(images, labels, strict=True))


def _validation_wnids(published: Published) -> list[str]:
    """Return the wnid of each validation image, in the order of their names, from the development kit."""
    read_part = _devkit(published)
    synsets = parse_mat(read_part(_META), f"{_DEVKIT}/{_META}").get("synsets")
    if not isinstance(synsets, list):
        raise damaged(f"{_DEVKIT}/{_META}", "holds no synsets")
    wnid_of = {int(np.asarray(synset["ILSVRC2012_ID"]).item()): str(synset["WNID"]) for synset in synsets}
    try:
        return [wnid_of[int(line)] for line in read_part(_GROUND_TRUTH).split()]
    except (KeyError, ValueError) as error:
        raise damaged(f"{_DEVKIT}/{_GROUND_TRUTH}", f"not a list of class numbers ({error})") from error


def _devkit(published: Published) -> Callable[[str], bytes]:
    path = published.find(_DEVKIT, f"{_DEVKIT}.tar.gz")
    if path is None:
        raise _missing(published, f"{_DEVKIT}/ or {_DEVKIT}.tar.gz, for the labels of the validation images")

    def from_folder(part: str) -> bytes:
        try:
            return (path / part).read_bytes()
        except OSError as error:
            raise damaged(path / part, f"cannot be read ({error.strerror})") from error

    def from_archive(part: str) -> bytes:
        try:
            with tarfile.open(path) as archive:
                member = archive.extractfile(f"{_DEVKIT}/{part}")
                return member.read() if member is not None else b""
        except (tarfile.TarError, EOFError, OSError, KeyError) as error:
            raise damaged(path, f"no whole archive with {part} ({error})") from error

    return from_folder if path.is_dir() else from_archive


def _members(archive: Path, below: Path, offset: int) -> list[_Image]:
    """Return the files of a tar archive that begins at an offset of a file."""
    file = archive.relative_to(below).as_posix()
    try:
        with archive.open("rb") as stream:
            stream.seek(offset)
            with tarfile.open(fileobj=stream, mode="r:") as members:
                # tarfile's offsets are those of the whole stream, wherever the archive begins in it
                images = [_Image(m.name, file, m.offset_data, m.size) for m in members if m.isfile()]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise damaged(archive, f"not a whole tar archive ({error})") from error
    if images and images[-1].offset + images[-1].size > archive.stat().st_size:
        raise damaged(archive, "ends inside an image")
    return images


def _index(images: list[tuple[_Image, str]], wnids: list[str]) -> Index:
    return make_index(images, wnids, _SOURCE)


def make_index(images: list[tuple[_Image, str]], class_names: list[str], source: str) -> Index:
    """Return the index of images with their classes."""
    files = sorted({image.file for image, _ in images})
    number_of_file = {file: number for number, file in enumerate(files)}
    number_of_class = {name: number for number, name in enumerate(class_names)}

    def column(values: Iterator[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.fromiter(values, np.int64, len(images))

    return Index(
        files=tuple(files),
        file=column(number_of_file[image.file] for image, _ in images),
        offset=column(image.offset for image, _ in images),
        size=column(image.size for image, _ in images),
        labels=column(number_of_class[name] for _, name in images),
        class_names=tuple(class_names),
        source=source,
    )


def _missing(published: Published, wanted: str) -> EnvironmentFailure:
    places = " and ".join(map(str, published.places))
    return EnvironmentFailure(
        f"the data set 'imagenet' is not there: looked for {wanted} in {places}.\n"
        "It cannot be downloaded without an account; get it from https://image-net.org and put it there."
    )
