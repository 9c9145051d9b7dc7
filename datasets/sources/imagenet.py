"""ImageNet (ILSVRC 2012): an index of its JPEG files, in class folders or in the original archives.

    class folders      {train,val}/<wnid>/**/*.JPEG, as torchvision's ImageFolder has them
    flat validation    val/ILSVRC2012_val_<n>.JPEG, with the labels of the development kit
    archives           ILSVRC2012_img_train.tar (a tar of one tar for each class) and ILSVRC2012_img_val.tar, with the
                       development kit; read in place, without unpacking
    development kit    ILSVRC2012_devkit_t12/ or ILSVRC2012_devkit_t12.tar.gz: meta.mat numbers the wnids, and
                       ILSVRC2012_validation_ground_truth.txt has the number of each validation image

All are looked for in the folder of all datasets and in `imagenet` there. Classes are numbered in the order of their
wnids. The test set is the validation set.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from datasets.augmentations.resized_crop_flip import RESIZED_CROP_FLIP
from datasets.formats.source_files import FilePart, Index, SourceFiles, damaged
from datasets.normalizations import IMAGENET as CONSTANTS
from datasets.spec import DatasetSpec
from foundations.errors import EnvironmentFailure

_TRAIN_ARCHIVE, _VAL_ARCHIVE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_KIT = "ILSVRC2012_devkit_t12"
_GROUND_TRUTH, _META = f"{_KIT}/data/ILSVRC2012_validation_ground_truth.txt", f"{_KIT}/data/meta.mat"
_SOURCE = "ImageNet, ILSVRC 2012, published JPEG files"


def read(files: SourceFiles) -> dict[str, Index]:
    """Return the index of the training set and, as test set, of the validation set.

    Raises: EnvironmentFailure where files are missing (they cannot be downloaded freely); DamagedError where archives
    are damaged.
    """
    from datasets.formats.class_folders import make_index

    train = _training_images(files)
    wnids = sorted({wnid for _, wnid in train})
    validation = _validation_images(files, wnids)
    return {"train": make_index(train, wnids, _SOURCE), "test": make_index(validation, wnids, _SOURCE)}


def _training_images(files: SourceFiles) -> list[tuple[FilePart, str]]:
    from datasets.formats.archives import tar_members
    from datasets.formats.class_folders import index_class_folders

    folder, archive = files.find("train"), files.find(_TRAIN_ARCHIVE)
    found = folder or archive
    if found is None:
        raise _missing(files, f"train/<wnid>/*.JPEG or {_TRAIN_ARCHIVE}")
    files.report(f"listing {found}")
    if folder is not None:
        return index_class_folders(folder, files.folder)
    return [
        (image, PurePosixPath(inner.name).stem)
        for inner in tar_members(found, files.folder)
        for image in tar_members(found, files.folder, inner.offset)
    ]


def _validation_images(files: SourceFiles, wnids: list[str]) -> list[tuple[FilePart, str]]:
    from datasets.formats.archives import tar_members
    from datasets.formats.class_folders import images_under, index_class_folders

    folder, archive = files.find("val"), files.find(_VAL_ARCHIVE)
    if folder is not None:
        labelled = index_class_folders(folder, files.folder)
        if labelled:
            return labelled
        images = sorted(images_under(folder, files.folder), key=lambda image: image.name)
    elif archive is not None:
        images = tar_members(archive, files.folder)
    else:
        raise _missing(files, f"val/<wnid>/*.JPEG, val/*.JPEG or {_VAL_ARCHIVE}")
    labels = _validation_wnids(files)
    if len(labels) != len(images) or not set(labels) <= set(wnids):
        reason = f"it holds {len(images)} images, but the development kit has {len(labels)} labels"
        raise damaged(folder or archive or _KIT, reason)
    return list(zip(images, labels, strict=True))


def _validation_wnids(files: SourceFiles) -> list[str]:
    """Return the wnid of each validation image, in the order of their names, from the development kit."""
    import numpy as np

    from datasets.formats.archives import member, place_of
    from datasets.formats.matlab import parse_mat

    kit = files.find(_KIT, f"{_KIT}.tar.gz")
    if kit is None:
        raise _missing(files, f"{_KIT}/ or {_KIT}.tar.gz, for the labels of the validation images")
    meta = place_of(kit, _META)
    synsets = parse_mat(member(kit, _META), str(meta)).get("synsets")
    if not isinstance(synsets, list):
        raise damaged(meta, "it holds no synsets")
    wnid_of = {int(np.asarray(synset["ILSVRC2012_ID"]).item()): str(synset["WNID"]) for synset in synsets}
    try:
        return [wnid_of[int(line)] for line in member(kit, _GROUND_TRUTH).split()]
    except (KeyError, ValueError) as error:
        raise damaged(place_of(kit, _GROUND_TRUTH), f"it is not a list of class numbers ({error})") from error


def _missing(files: SourceFiles, wanted: str) -> EnvironmentFailure:
    places = " and ".join(map(str, files.places))
    return EnvironmentFailure(
        f"The dataset 'imagenet' is missing: looked for {wanted} in {places}.\n"
        "It cannot be downloaded without an account; get it from https://image-net.org and put it there."
    )


IMAGENET = DatasetSpec(
    spelling="imagenet",
    num_train=1_281_167,
    num_test=50_000,
    num_classes=1_000,
    input_shape=(3, 224, 224),
    mean=CONSTANTS[0],
    std=CONSTANTS[1],
    augmentation=RESIZED_CROP_FLIP,
    read=read,
    origin="ImageNet, ILSVRC 2012 (Russakovsky et al.)",
    in_memory=False,
)
