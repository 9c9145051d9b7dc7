"""Users' images in class folders, read into the splits of a dataset.

`user_folders` defines the folders that are read. Without a test set, a tenth of the examples, chosen at random with a
fixed seed, is held out for testing (`held_out`).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.added.class_names import check_class_names, listed_names, say_untested
from datasets.added.held_out import held_out
from datasets.added.measured import measured
from datasets.added.options import AddOptions, Report
from datasets.added.user_folders import (
    ClassFolders,
    check_classes,
    find_splits,
    list_classes,
    loose_files,
    said_of_skipped,
)
from datasets.augmentations.transforms import resized_middle
from datasets.decode import check_header, decode
from datasets.formats.class_folders import make_index
from datasets.formats.content import Content
from datasets.formats.source_files import FilePart, Index, Split
from foundations.errors import UsageError
from foundations.files import read_file

_MEASURED = 10_000
"""The most images from which the constants of a dataset that is not in memory are measured."""

Labelled = list[tuple[FilePart, str]]
"""Images, each with the name of its class."""


def read_images(path: Path, options: AddOptions, report: Report) -> Content:
    """Return the content of images in class folders: decoded, or as an index if they stay where they are.

    report: takes a line about each step, and about unread files. Raises: UsageError for other files.
    """
    options.refuse("images in class folders", "categorical", "ignore", "missing", "text", "vocabulary", "tokenizer")
    options.check_task("images in class folders", "classification")
    splits: Mapping[str, Split | Index]
    if not options.stream:
        splits = decoded = _decoded(path, options.image_size, report)
        images = decoded["train"].images
    elif options.image_size is None:
        raise UsageError("it is needed for a dataset that is not in memory.", "image_size")
    else:
        splits, images = read_index(path, options.image_size, report)
    mean, std = measured(images)
    return Content(splits, input_shape=images.shape[1:], mean=mean, std=std)


def read_index(path: Path, image_size: int, report: Report) -> tuple[dict[str, Index], NDArray[np.uint8]]:
    """Index images in class folders, to be resized when they are used; return the index, and some training images.

    Raises: UsageError for other files.
    """
    splits = _indices(path, report)
    index = splits["train"]
    stride = max(1, len(index.file) // _MEASURED)
    remarks: Counter[str] = Counter()
    images = [_decoded_file(Path(index.files[int(number)]), image_size, remarks) for number in index.file[::stride]]
    say_remarks(remarks, len(images), report)
    return splits, torch.stack(images).numpy()


def _indices(path: Path, report: Report) -> dict[str, Index]:
    """Return an index of the images in class folders, with absolute paths."""
    path = path.resolve()
    train, test = find_splits(path, report)
    found = list_classes(train)
    check_classes(found, path)
    names = sorted(found.names)
    check_class_names(names, train)
    tested = None if test is None else list_classes(test)
    _say_left_out(path, [found] if tested is None else [found, tested], report)
    for image, _ in found.images + (tested.images if tested else []):
        if "\n" in image.file:
            raise UsageError(f"{image.file!r} has a line break in its name; rename it.")
    if tested is None:
        number_of = {name: number for number, name in enumerate(names)}
        labels = np.array([number_of[name] for _, name in found.images], np.int64)
        kept, held = held_out(labels, names, train, report)
        parts = {"train": [found.images[i] for i in kept], "test": [found.images[i] for i in held]}
    else:
        parts = {"train": found.images, "test": _as_in_training(tested, names, train)}
        say_untested(names, {name for _, name in parts["test"]}, report)
    return {split: make_index(part, names, f"added from {path.name}") for split, part in parts.items()}


def _as_in_training(tested: ClassFolders, names: Sequence[str], train: Path) -> Labelled:
    """Return the images of a test set, with the training set's names of their classes.

    File systems may write an accented letter as one or as two; both are the same name. Raises: UsageError for a class
    that the training set lacks.
    """
    same = {unicodedata.normalize("NFC", name): name for name in names} | {name: name for name in names}
    renamed = {name: same.get(name, same.get(unicodedata.normalize("NFC", name))) for name in tested.names}
    unknown = [name for name, own in renamed.items() if own is None]
    if unknown:
        raise UsageError(f"{tested.folder} holds images of {listed_names(unknown)}, unlike {train}.")
    return [(image, own) for image, name in tested.images if (own := renamed[name]) is not None]


def _say_left_out(path: Path, read: Sequence[ClassFolders], report: Report) -> None:
    """Report the files in the read folders that become no examples. path: the folder that the user named."""
    loose, skipped = [image for each in read for image in each.loose], Counter[str]()
    for each in read:
        skipped += each.skipped
    around = {parent for each in read for parent in each.folder.parents if parent.is_relative_to(path)}
    for folder in sorted(around):
        images, others = loose_files(folder)
        loose += images
        skipped.update(other.suffix.lower() for other in others)
    if loose:
        number = f"{len(loose):,} image" + "s" * (len(loose) != 1)
        report(f"skipped {number} in no class folder: {', '.join(map(str, loose[:3]))}{', ...' * (len(loose) > 3)}")
    if skipped:
        report(said_of_skipped(skipped))


def _decoded(path: Path, image_size: int | None, report: Report) -> dict[str, Split]:
    indices = _indices(path, report)
    report(f"decoding {sum(len(index.labels) for index in indices.values()):,} images of {path}")
    splits: dict[str, Split] = {}
    shapes: dict[tuple[int, ...], str] = {}
    remarks: Counter[str] = Counter()
    for split, index in indices.items():
        images: list[NDArray[np.uint8]] = []
        for number in index.file:
            file = index.files[int(number)]
            images.append(_decoded_file(Path(file), image_size, remarks).numpy())
            shapes.setdefault(images[-1].shape[1:], file)
            if len(shapes) > 1:
                differing = " and ".join(f"{file} is {shape}" for shape, file in shapes.items())
                raise UsageError(f"it is needed, since images differ in size: {differing}.", "image_size")
        splits[split] = Split(np.stack(images), index.labels, index.class_names, index.source)
    say_remarks(remarks, sum(len(split.labels) for split in splits.values()), report)
    return splits


def _decoded_file(path: Path, image_size: int | None, remarks: Counter[str]) -> Tensor:
    """Return a decoded image, uint8 (3, H, W). remarks: counts the parts of images that are not read."""
    return decoded_image(read_file(path), path, image_size, remarks)


def decoded_image(blob: bytes, where: object, image_size: int | None, remarks: Counter[str]) -> Tensor:
    """Return a decoded image, uint8 (3, H, W). where: for errors. remarks: counts parts that are not read.

    Raises: UsageError for other bytes.
    """
    try:
        remarks.update(check_header(blob))
        image = decode(blob)
    except ValueError as error:
        raise UsageError(f"{where}: {error}.") from error
    if image_size is None or tuple(image.shape[1:]) == (image_size, image_size):
        return image
    return resized_middle(image, (image_size, image_size), around=1.0)


def say_remarks(remarks: Counter[str], images: int, report: Report) -> None:
    """Report the parts of images that are not read, with the number of the images that have them."""
    for remark, count in sorted(remarks.items()):
        report(f"{count:,} of {images:,} images with {remark}")
