"""Datasets that users add: folders of images, or arrays (see `user_files` for the layouts).

The headers of their prepared files hold the content of a `DatasetSpec`. A description names a dataset and not its
folder, so a process must register the added datasets of its folder before it builds descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from datasets.formats.source_files import Index, SourceFiles, Split
from datasets.prepared import SPLITS, Header, is_prepared, locked, read_header, write_split
from datasets.registry import AUGMENTATIONS, DATASETS
from datasets.spec import DatasetSpec
from foundations.errors import DamagedError, EnvironmentFailure, UsageError, invalid
from foundations.program import PROGRAM


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
    """Prepare a user's dataset from a path, and register it under a name.

    folder: the folder of all datasets. augmentation: a name in `AUGMENTATIONS`. report: takes a line about each step.
    image_size: the side of the prepared images (the shorter side is resized, the middle is cut out); without it, all
    images must have the same size. in_memory: whether the images are decoded now; otherwise they stay in their place
    and are decoded when they are needed, which requires an `image_size` and images in class folders.

    Raises: UsageError for a name or an augmentation that is not valid, and for images or arrays that cannot be read;
    EnvironmentFailure if the path does not exist or the folder cannot be written.
    """
    from datasets.added.user_files import measured, read_index, read_splits

    _check_name(name, folder)
    if not AUGMENTATIONS.find(augmentation).can_stream and not in_memory:
        choices = [augmentation.spelling for augmentation in AUGMENTATIONS if augmentation.can_stream]
        raise invalid(augmentation, "augmentation", choices)
    if not path.exists():
        raise EnvironmentFailure(f"{path} does not exist.")
    splits: Mapping[str, Split | Index]
    if in_memory:
        splits, images = read_splits(path, image_size, report)
    elif image_size is None:
        raise UsageError("it is needed for a dataset that is not in memory.", "image_size")
    else:
        splits, images = read_index(path, image_size, report)
    mean, std = measured(images)
    numbers = {"input_shape": images.shape[1:], "mean": mean, "std": std}
    metadata = {key: ",".join(map(repr, values)) for key, values in numbers.items()}
    metadata |= {"added": augmentation, "in_memory": str(in_memory)}
    with locked(name, folder, report):
        for split in SPLITS:
            write_split(name, split, splits[split], folder, metadata)
    register_added(folder)
    if name not in DATASETS:
        raise EnvironmentFailure(f"{folder / name} was written and cannot be read. Repeat the command.")
    spec = DATASETS.find(name)
    report(f"added {name}: {spec.num_train:,} training and {spec.num_test:,} test images, {spec.num_classes} classes")


def register_added(folder: Path) -> None:
    """Register the datasets that users added to a folder, instead of another folder's."""
    built_in = {spec.spelling for spec in DATASETS if not spec.is_added}
    found = []
    for path in sorted(folder.glob("*/train.safetensors")):
        if path.parent.name in built_in:
            continue
        try:
            train, test = (read_header(path.with_name(f"{split}.safetensors")) for split in SPLITS)
            spec = _spec(path.parent.name, train, test)
        except (DamagedError, OSError):
            continue  # its use raises an error that names the file
        if spec is not None:
            found.append(spec)
    DATASETS.replace_added(found)


def _check_name(name: str, folder: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(
            f"'{name}' cannot be the name of a dataset: it takes small letters, digits and _, and begins with a letter."
        )
    register_added(folder)
    if any(spec.spelling == name and not spec.is_added for spec in DATASETS):
        raise UsageError(f"'{name}' is a dataset already; give yours another name.")
    if name in DATASETS and is_prepared(name, folder):
        raise UsageError(f"There is a dataset '{name}' already; remove {folder / name} to add it again.")


def _spec(name: str, train: Header, test: Header) -> DatasetSpec | None:
    """Return the specification in the headers of prepared files, or None if the dataset was not added by a user."""
    metadata, augmentation = train.metadata, train.metadata.get("added")
    if augmentation not in AUGMENTATIONS:
        return None
    try:
        channels, height, width = (int(side) for side in metadata["input_shape"].split(","))
        return DatasetSpec(
            spelling=name,
            num_train=train.tensors["labels"]["shape"][0],
            num_test=test.tensors["labels"]["shape"][0],
            num_classes=int(metadata["num_classes"]),
            input_shape=(channels, height, width),
            mean=tuple(float(value) for value in metadata["mean"].split(",")),
            std=tuple(float(value) for value in metadata["std"].split(",")),
            augmentation=AUGMENTATIONS.find(str(augmentation)),
            read=_refuse_to_read,
            origin=metadata["source"],
            in_memory=metadata["in_memory"] == "True",
            is_added=True,
        )
    except (KeyError, ValueError, IndexError):
        return None


def _refuse_to_read(files: SourceFiles) -> NoReturn:
    raise EnvironmentFailure(
        f"The dataset '{files.name}' lacks prepared files in {files.folder / files.name}.\n"
        f"Add it again: {PROGRAM} datasets add {files.name} PATH"
    )
