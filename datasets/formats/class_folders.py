"""Encoded images in class folders, and their index, for datasets too large for memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from datasets.formats.source_files import FilePart, Index
from foundations.errors import UsageError
from foundations.files import check_regular

_SUFFIXES = (".jpeg", ".jpg", ".png")


def index_class_folders(folder: Path, below: Path | None) -> list[tuple[FilePart, str]]:
    """Return the images under each folder of a folder, at any depth, with that folder's name, in the order of names.

    below: the folder to which paths are relative; they are absolute if it is None or does not hold the images.
    """
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return [(image, name) for name in classes for image in images_under(folder / name, below)]


def images_under(folder: Path, below: Path | None) -> Iterator[FilePart]:
    """Yield the JPEG and PNG images under a folder, at any depth. below: as above. Raises: as `files_under`."""
    for path in files_under(folder):
        if path.name.lower().endswith(_SUFFIXES):
            yield encoded_image(path, below)


def encoded_image(path: Path, below: Path | None) -> FilePart:
    """Return an image file. below: as above. Raises: OSError for anything but a regular file."""
    check_regular(path)
    file = path.relative_to(below) if below and path.is_relative_to(below) else path.absolute()
    return FilePart(path.name, file.as_posix(), 0, path.stat().st_size)


def files_under(folder: Path, ignored: Callable[[str], bool] = lambda _: False) -> Iterator[Path]:
    """Yield the files under a folder, at any depth, folder by folder in the order of names.

    ignored: whether to skip a file or a folder, by its name.
    Raises: UsageError for a link to a folder that contains it, which would repeat its files without end; OSError for a
    folder that cannot be listed, whose files would be missing.
    """
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = sorted(name for name in folders if not ignored(name))
        for name in folders:
            link = Path(place) / name
            if link.is_symlink() and Path(place).resolve().is_relative_to(link.resolve()):
                raise UsageError(f"{link} is a link to a folder that contains it; remove it.")
        yield from (Path(place) / name for name in sorted(names) if not ignored(name))


def _raise(error: OSError) -> NoReturn:
    raise error


def make_index(images: Sequence[tuple[FilePart, str]], class_names: Sequence[str], source: str) -> Index:
    """Return the index of images with their classes."""
    files = sorted({image.file for image, _ in images})
    number_of_file = {file: number for number, file in enumerate(files)}
    number_of_class = {name: number for number, name in enumerate(class_names)}

    def column(values: Iterable[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
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
