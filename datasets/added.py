"""Data sets that users add: folders of images, or arrays.

    PATH/{train,test}/<class>/**/*      images in class folders (`val` or `valid` serve for `test`)
    PATH/<class>/**/*                   the same without a test set
    PATH, a .npz file or a folder       arrays {train,test}_{images,labels} of .npy, or images and labels alone;
                                        images uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), labels integers (N,)

Without a test set, a tenth of the examples, chosen at random with a fixed seed, becomes it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.decode import decode
from datasets.imagenet import index_class_folders, make_index
from datasets.prepared import SPLITS, is_prepared, locked, write_split
from datasets.published import Index, Published, Split
from datasets.registry import AUGMENTATIONS, DATASETS, description, find_dataset, register_added
from datasets.streaming import middle
from foundations.errors import EnvironmentFailure, UsageError

HELD_OUT = 0.1
"""The part of the examples that becomes the test set where there is none."""
_TEST_NAMES = ("test", "val", "valid", "validation")
_CHANNELS = (1, 3)
_MEASURED = 10_000
"""Images from which the normalization of a data set that is not in memory is measured, at most."""


def add_dataset(
    name: str,
    path: Path,
    folder: Path,
    *,
    report: Callable[[str], None],
    augmentation: str = "none",
    image_size: int | None = None,
    in_memory: bool = True,
) -> None:
    """Prepare a data set of the user's own, and make it known under a name.

    folder: that of all data sets. augmentation: one of `AUGMENTATIONS`.
    image_size: the side to which images are brought (the shorter side is resized, the middle is cut out); without it,
    all images must have the same size. in_memory: whether the images are decoded now; otherwise they are left where
    they lie and decoded as they are needed, which takes an `image_size` and images in class folders.

    Raises: UsageError for a name or an augmentation that is not possible, and for images or arrays that are not as
    above; EnvironmentFailure where the folder cannot be written.
    """
    _check_name(name, folder)
    if augmentation not in AUGMENTATIONS or (not in_memory and augmentation == "pad4_crop_flip"):
        possible = AUGMENTATIONS if in_memory else [kind for kind in AUGMENTATIONS if kind != "pad4_crop_flip"]
        raise UsageError(f"'{augmentation}' is not possible. Possible: {', '.join(possible)}.", "augmentation")
    if not path.exists():
        raise EnvironmentFailure(f"{path} does not exist.")
    splits: Mapping[str, Split | Index]
    if in_memory:
        decoded = _arrays(path) or _decoded(path, image_size, report)
        splits, shape = decoded, decoded["train"].images.shape[1:]
        mean, std = measured(decoded["train"].images)
    elif image_size is None:
        raise UsageError("needed for a data set that is not in memory.", "image_size")
    else:
        indices = _indices(path)
        splits, shape = indices, (3, image_size, image_size)
        mean, std = _measured_from_files(indices["train"], image_size)
    more = description(augmentation, shape, mean, std, in_memory=in_memory)
    with locked(name, folder):
        for split in SPLITS:
            write_split(name, split, splits[split], folder, more)
    register_added(folder)
    spec = find_dataset(name)
    report(f"added {name}: {spec.num_train:,} training and {spec.num_test:,} test images, {spec.num_classes} classes")


def cannot_be_prepared(published: Published) -> NoReturn:
    """Refuse to prepare a data set that a user added. Raises: EnvironmentFailure."""
    raise EnvironmentFailure(
        f"the data set '{published.name}' lacks prepared files in {published.folder / published.name}.\n"
        f"Add it again: open_prune.py datasets add {published.name} PATH"
    )


def measured(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
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


def _check_name(name: str, folder: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"'{name}' cannot name a data set: use small letters, digits and _, beginning with a letter.")
    if name in {spec.name for spec in DATASETS}:
        raise UsageError(f"'{name}' is a data set of open_prune; give yours another name.")
    register_added(folder)
    if (folder / name / "train.safetensors").exists() and is_prepared(name, folder):
        raise UsageError(f"there is a data set '{name}' already; remove {folder / name} to make it anew.")


def _held_out(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the examples for training and for testing, each in ascending order."""
    order = np.random.RandomState(0).permutation(count)
    test = max(1, round(HELD_OUT * count))
    if count < 2:
        raise UsageError(f"{count} images are too few for a data set.")
    return np.sort(order[test:]), np.sort(order[:test])


def _arrays(path: Path) -> dict[str, Split] | None:
    """Return the splits of a file or folder of arrays, or None where it is neither."""
    arrays = _loaded(path)
    if not arrays:
        return None
    if {"train_images", "train_labels", "test_images", "test_labels"} <= set(arrays):
        pairs = {split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in SPLITS}
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
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: arrays that cannot be read ({error}).") from error


def _checked(
    path: Path, images: NDArray[np.generic], labels: NDArray[np.generic]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images as uint8 (N, C, H, W) and labels as int64 (N,)."""
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


def _folders(path: Path) -> tuple[Path, Path | None]:
    """Return the folder of the training images' classes, and that of the test images' where there is one."""
    if not (path / "train").is_dir():
        return path, None
    return path / "train", next((path / name for name in _TEST_NAMES if (path / name).is_dir()), None)


def _indices(path: Path) -> dict[str, Index]:
    """Return an index of the images in class folders, with absolute paths."""
    path = path.resolve()
    if not path.is_dir():
        raise UsageError(f"{path} is no folder of class folders of images.")
    train_folder, test_folder = _folders(path)
    train = index_class_folders(train_folder, None)
    names = sorted(train)
    if len(names) < 2:
        raise UsageError(f"{train_folder} holds no images in folders of two classes or more.")
    images = [(image, name) for name in names for image in train[name]]
    if test_folder is None:
        kept, held_out = _held_out(len(images))
        parts = {"train": [images[i] for i in kept], "test": [images[i] for i in held_out]}
    else:
        test = index_class_folders(test_folder, None)
        unknown = sorted(set(test) - set(names))
        if unknown or not test:
            raise UsageError(
                f"{test_folder} holds images of {unknown[0] if unknown else 'no class'}, unlike {train_folder}."
            )
        parts = {"train": images, "test": [(image, name) for name in sorted(test) for image in test[name]]}
    return {split: make_index(part, names, f"added from {path.name}") for split, part in parts.items()}


def _decoded(path: Path, image_size: int | None, report: Callable[[str], None]) -> dict[str, Split]:
    indices = _indices(path)
    report(f"decoding {sum(len(index.labels) for index in indices.values()):,} images of {path}")
    splits = {}
    shape: tuple[int, ...] | None = None
    for split, index in indices.items():
        images: list[NDArray[np.uint8]] = []
        for number in index.file:
            image = _decoded_file(Path(index.files[int(number)]), image_size)
            shape = shape or tuple(image.shape)
            if tuple(image.shape) != shape:
                raise UsageError(
                    f"needed, since images differ in size ({index.files[int(number)]} is "
                    f"{tuple(image.shape)[1:]}, others are {shape[1:]}).",
                    "image_size",
                )
            images.append(image.numpy())
        splits[split] = Split(np.stack(images), index.labels, index.class_names, index.source)
    return splits


def _decoded_file(path: Path, image_size: int | None) -> Tensor:
    try:
        image = decode(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: {error}.") from error
    return image if image_size is None else _square(image, image_size)


def _square(image: Tensor, side: int) -> Tensor:
    """Resize the shorter side to a length, where it differs, and cut out the middle."""
    return image if tuple(image.shape[1:]) == (side, side) else middle(image, (side, side), around=1.0)


def _measured_from_files(index: Index, image_size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    stride = max(1, len(index.file) // _MEASURED)
    chosen = index.file[::stride]
    images = torch.stack([_square(_decoded_file(Path(index.files[int(i)]), None), image_size) for i in chosen])
    return measured(images.numpy())
