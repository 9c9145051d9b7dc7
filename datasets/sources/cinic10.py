"""CINIC-10: CIFAR-10 and as many images of ImageNet at 32 x 32, in the published archive or unpacked.

    {train,valid,test}/<class>/<name>.png

As in GraSP, the training set is the training and the validation part together; a folder that joins them as `trainval`
is read as well. Images are sorted by class and name, across folders.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP
from datasets.formats.source_files import Download, SourceFiles, Split, damaged
from datasets.normalizations import CINIC10 as CONSTANTS
from datasets.spec import DatasetSpec

_ARCHIVE = Download(
    "CINIC-10.tar.gz",
    ("https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",),
    "6ee4d0c996905fe93221de577967a372",
)
_FOLDERS = ("CINIC-10", "cinic-10", "cinic10")
_SPLITS = {"train": "train", "valid": "train", "trainval": "train", "test": "test"}
"""The split to which each published part belongs."""
_SIDE = 32
_SOURCE = "CINIC-10, published PNG files, decoded"


def read(files: SourceFiles) -> dict[str, Split]:
    """Return the training set (with the validation images) and the test set."""
    from datasets.decode import EncodedFile, decode_splits
    from datasets.formats.archives import members, place_of

    found = files.need(*(f"{folder}/test" for folder in _FOLDERS), download=_ARCHIVE)
    root = found if found.is_file() else found.parent
    images: dict[str, dict[tuple[str, str, str], EncodedFile]] = {"train": {}, "test": {}}
    for path, content in members(root, lambda name: name.endswith(".png")):
        part, class_name, name = ("", "", *PurePosixPath(path).parts)[-3:]
        if part in _SPLITS:
            images[_SPLITS[part]][class_name, name, part] = place_of(root, path), content, class_name
    splits = decode_splits(
        {split: [found[key] for key in sorted(found)] for split, found in images.items()}, _SIDE, _SOURCE, files
    )
    if splits is None:
        counts = " and ".join(f"{len(found)} images for {split}" for split, found in images.items())
        raise damaged(root, f"it holds {counts}, in folders of classes")
    return splits


CINIC10 = DatasetSpec(
    spelling="cinic10",
    num_train=180_000,
    num_test=90_000,
    num_classes=10,
    input_shape=(3, _SIDE, _SIDE),
    mean=CONSTANTS[0],
    std=CONSTANTS[1],
    augmentation=PAD4_CROP_FLIP,
    read=read,
    origin="CINIC-10 (Darlow et al.), training and validation images together",
)
