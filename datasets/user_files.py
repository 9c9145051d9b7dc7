"""Images and arrays of users' own, read into the splits of a dataset.

    PATH/{train,test}/<class>/**/*      images in class folders (`val` or `valid` serve for `test`)
    PATH/<class>/**/*                   the same without a test set
    PATH, a .npz file or a folder       arrays {train,test}_{images,labels} of .npy, or images and labels alone;
                                        images uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), labels integers (N,)

Without a test set, a tenth of the examples, chosen at random with a fixed seed, becomes it.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.class_folders import index_class_folders, make_index
from datasets.decode import check_pixels, decode
from datasets.source_files import Index, Split
from datasets.transforms import resized_middle
from foundations.errors import EnvironmentFailure, UsageError
from foundations.files import read_file

_SPLITS = ("train", "test")
_TEST_FRACTION = 0.1
"""The part of the examples that becomes the test set where there is none."""
_TEST_NAMES = ("test", "val", "valid", "validation")
_CHANNELS = (1, 3)
_UNREADABLE = (
    *(ValueError, EOFError, MemoryError, OverflowError, KeyError, TypeError, AttributeError, IndexError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, SyntaxError, tokenize.TokenError),
)
"""What numpy and zipfile raise for arrays and archives that are not whole. SyntaxError: an array's header is Python."""
_MEASURED = 10_000
"""Images from which the constants of a dataset that is not in memory are measured, at most."""


@dataclass(frozen=True)
class UserFiles:
    """What was read of a user's dataset."""

    splits: Mapping[str, Split | Index]
    shape: tuple[int, ...]
    """Channels, height, width."""
    mean: tuple[float, ...]
    """The mean of each channel of the training images, for pixels in [0, 1], to four places."""
    std: tuple[float, ...]
    """The deviation of each channel."""


def read_splits(path: Path, image_size: int | None, report: Callable[[str], None]) -> UserFiles:
    """Read arrays, or decode images in class folders. Raises: UsageError for other files."""
    splits = _arrays(path) or _decoded(path, image_size, report)
    images = splits["train"].images
    return UserFiles(splits, images.shape[1:], *_measured(images))


def read_index(path: Path, image_size: int) -> UserFiles:
    """Index images in class folders, to be brought to a size when they are used. Raises: UsageError for other files."""
    splits = _indices(path)
    index = splits["train"]
    stride = max(1, len(index.file) // _MEASURED)
    images = [_decoded_file(Path(index.files[int(number)]), image_size) for number in index.file[::stride]]
    return UserFiles(splits, (3, image_size, image_size), *_measured(torch.stack(images).numpy()))


def _measured(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel of images (N, C, H, W), with pixels in [0, 1], to four places."""
    count = images.size // images.shape[1]
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        weights = np.bincount(images[:, channel].reshape(-1), minlength=256) / count
        mean = float(weights @ levels)
        means.append(round(mean, 4))
        stds.append(max(round(float(np.sqrt(weights @ (levels - mean) ** 2)), 4), 1e-4))
    return tuple(means), tuple(stds)


def _held_out(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the examples for training and for testing, each in ascending order."""
    order = np.random.RandomState(0).permutation(count)
    test = max(1, round(_TEST_FRACTION * count))
    if count < 2:
        raise UsageError(f"{count} images are too few for a dataset.")
    return np.sort(order[test:]), np.sort(order[:test])


def _arrays(path: Path) -> dict[str, Split] | None:
    """Return the splits of a file or folder of arrays, or None where it is neither."""
    arrays = _loaded(path)
    if not arrays:
        return None
    if {"train_images", "train_labels", "test_images", "test_labels"} <= set(arrays):
        pairs = {split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in _SPLITS}
    elif {"images", "labels"} <= set(arrays):
        images, labels = _checked(path, arrays["images"], arrays["labels"])
        train, test = _held_out(len(images))
        pairs = {"train": (images[train], labels[train]), "test": (images[test], labels[test])}
    else:
        raise UsageError(
            f"{path} holds the arrays {', '.join(sorted(arrays))}; it takes images and labels, or train_images, "
            "train_labels, test_images and test_labels."
        )
    checked = {split: _checked(path, *pair) for split, pair in pairs.items()}
    classes = 1 + max(int(labels.max()) for _, labels in checked.values())
    examples = len(checked["train"][1])
    if classes > examples:
        raise UsageError(
            f"{path}: labels go up to {classes - 1}, with {examples} training images; number classes from 0."
        )
    names = tuple(map(str, range(classes)))
    if checked["train"][0].shape[1:] != checked["test"][0].shape[1:]:
        raise UsageError(f"{path}: training and test images differ in shape.")
    return {
        split: Split(images, labels, names, f"added from {path.name}") for split, (images, labels) in checked.items()
    }


def _loaded(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        return {found.stem: np.load(found, allow_pickle=False) for found in sorted(path.glob("*.npy"))}
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {error.strerror or error}.") from error
    except _UNREADABLE as error:
        raise UsageError(f"{path} holds arrays that cannot be read ({error}).") from error


def _checked(
    path: Path, images: NDArray[np.generic], labels: NDArray[np.generic]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images as uint8 (N, C, H, W) and labels as int64 (N,)."""
    if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):  # as parts of archives may not be
        raise UsageError(f"{path} holds something other than arrays.")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UsageError(f"{path}: images are {images.dtype} {images.shape}; they must be uint8 (N, H, W[, C]).")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in _CHANNELS:
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in _CHANNELS:
        raise UsageError(f"{path}: images of {images.shape[1:]} have neither 1 nor 3 channels.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(images),) or not len(labels):
        raise UsageError(f"{path}: labels are {labels.dtype} {labels.shape}; they must be integers ({len(images)},).")
    if labels.astype(np.int64).min() < 0:
        raise UsageError(f"{path}: labels must be 0 or more.")
    return images.astype(np.uint8), labels.astype(np.int64)


def _indices(path: Path) -> dict[str, Index]:
    """Return an index of the images in class folders, with absolute paths."""
    path = path.resolve()
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder of class folders of images.")
    train, test = path, None
    if (path / "train").is_dir():
        train, test = path / "train", next((path / name for name in _TEST_NAMES if (path / name).is_dir()), None)
    images = index_class_folders(train, None)
    names = sorted({name for _, name in images})
    for name in names:
        if not name.isprintable() or "," in name:
            raise UsageError(f"{train}: {name!r} cannot be the name of a class; rename the folder.")
    for image, _ in images:
        if "\n" in image.file:
            raise UsageError(f"{image.file!r} has a line break in its name; rename it.")
    if len(names) < 2:
        raise UsageError(f"{train} holds no images in folders of two classes or more.")
    if test is None:
        kept, held_out = _held_out(len(images))
        parts = {"train": [images[i] for i in kept], "test": [images[i] for i in held_out]}
    else:
        parts = {"train": images, "test": index_class_folders(test, None)}
        found = sorted({name for _, name in parts["test"]})
        if not found or not set(found) <= set(names):
            raise UsageError(f"{test} holds images of {', '.join(found) or 'no class'}, unlike {train}.")
    return {split: make_index(part, names, f"added from {path.name}") for split, part in parts.items()}


def _decoded(path: Path, image_size: int | None, report: Callable[[str], None]) -> dict[str, Split]:
    indices = _indices(path)
    report(f"decoding {sum(len(index.labels) for index in indices.values()):,} images of {path}")
    splits: dict[str, Split] = {}
    shapes: dict[tuple[int, ...], str] = {}
    for split, index in indices.items():
        images: list[NDArray[np.uint8]] = []
        for number in index.file:
            file = index.files[int(number)]
            images.append(_decoded_file(Path(file), image_size).numpy())
            shapes.setdefault(images[-1].shape[1:], file)
            if len(shapes) > 1:
                differing = " and ".join(f"{file} is {shape}" for shape, file in shapes.items())
                raise UsageError(f"it is needed, since images differ in size: {differing}.", "image_size")
        splits[split] = Split(np.stack(images), index.labels, index.class_names, index.source)
    return splits


def _decoded_file(path: Path, image_size: int | None) -> Tensor:
    try:
        blob = read_file(path)
        check_pixels(blob)
        image = decode(blob)
    except ValueError as error:
        raise UsageError(f"{path}: {error}.") from error
    if image_size is None or tuple(image.shape[1:]) == (image_size, image_size):
        return image
    return resized_middle(image, (image_size, image_size), around=1.0)
