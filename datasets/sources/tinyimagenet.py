"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64, in the published archive or unpacked.

    tiny-imagenet-200/train/<wnid>/images/<wnid>_<n>.JPEG
    tiny-imagenet-200/val/images/val_<n>.JPEG with val/val_annotations.txt (file name, wnid, box; separated by tabs)

The test set is the validation set (the published test images have no labels). Classes are numbered in the order of
their wnids. A validation folder that was sorted into class folders, as several code bases do it, is read as well.
`tinyimagenet2` is the same dataset, augmented like CIFAR-10.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP
from datasets.augmentations.resized_crop_flip import RESIZED_CROP_FLIP
from datasets.formats.source_files import Download, SourceFiles, Split, damaged
from datasets.spec import DatasetSpec

_FOLDER = "tiny-imagenet-200"
_ARCHIVE = Download(
    f"{_FOLDER}.zip", (f"http://cs231n.stanford.edu/{_FOLDER}.zip",), "90528d7ca1a48142e341f4ef8d21d0de"
)
_ANNOTATIONS = f"{_FOLDER}/val/val_annotations.txt"
_SUFFIXES = (".JPEG", ".jpeg", ".txt")
_SOURCE = "Tiny ImageNet, published JPEG files, decoded"
_SIDE = 64


def read(files: SourceFiles) -> dict[str, Split]:
    """Return the training set and, as test set, the validation set."""
    from datasets.decode import decode_splits
    from datasets.formats.archives import members, place_of

    path = files.need(_FOLDER, download=_ARCHIVE)
    parts = {"train": f"{_FOLDER}/train/", "test": f"{_FOLDER}/val/"}
    wanted = tuple(parts.values())
    contents = dict(members(path, lambda name: name.startswith(wanted) and name.endswith(_SUFFIXES)))
    images = {
        split: [(place_of(path, name), contents[name], wnid) for name, wnid in _wnids(path, part, contents)]
        for split, part in parts.items()
    }
    splits = decode_splits(images, _SIDE, _SOURCE, files)
    if splits is None:
        wnids = {wnid for *_, wnid in images["train"]}
        counts = f"training images of {len(wnids)} classes, and {len(images['test'])} labelled for validation"
        raise damaged(path, f"it holds {counts}")
    return splits


def _wnids(path: Path, part: str, contents: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return the name in the archive of each image of a part, in order, and its wnid."""
    names = [name for name in contents if name.startswith(part) and not name.endswith(".txt")]
    if not _ANNOTATIONS.startswith(part) or _ANNOTATIONS not in contents:
        return sorted((name, name.split("/")[2]) for name in names)
    lines = contents[_ANNOTATIONS].decode().splitlines()
    wnid_of = dict(line.split("\t")[:2] for line in lines if "\t" in line)
    name_of = {PurePosixPath(name).name: name for name in names}
    missing = sorted(set(wnid_of) - set(name_of))
    if missing:
        raise damaged(path, f"val/val_annotations.txt names {missing[0]}, which is missing")
    return sorted((name_of[name], wnid) for name, wnid in wnid_of.items())


TINYIMAGENET = DatasetSpec(
    spelling="tinyimagenet",
    num_train=100_000,
    num_test=10_000,
    num_classes=200,
    input_shape=(3, _SIDE, _SIDE),
    mean=(-0.021, -0.0354, -0.0376),
    std=(1.21, 1.20, 1.25),
    augmentation=RESIZED_CROP_FLIP,
    read=read,
    origin="Tiny ImageNet (Stanford CS231n), augmented like ImageNet",
)
TINYIMAGENET2 = replace(
    TINYIMAGENET,
    spelling="tinyimagenet2",
    augmentation=PAD4_CROP_FLIP,
    origin="Tiny ImageNet (Stanford CS231n), augmented like CIFAR-10",
    prepared_as="tinyimagenet",
)
