"""CINIC-10: CIFAR-10 and as many images of ImageNet at 32 x 32, in the published archive or unpacked.

    {train,valid,test}/<class>/<name>.png

As in GraSP, training is on the training and the validation part together; a folder in which they were joined as
`trainval` is read as well. Images stand in the order of their classes and names, whichever of these they come from.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.decode import decode_all
from datasets.published import Download, Published, Split, damaged

_ARCHIVE = Download(
    "CINIC-10.tar.gz",
    ("https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",),
    "6ee4d0c996905fe93221de577967a372",
)
_FOLDERS = ("CINIC-10", "cinic-10", "cinic10")
_PARTS = {"train": ("train", "valid", "trainval"), "test": ("test",)}
_SIDE = 32
_SOURCE = "CINIC-10, published PNG files, decoded"

Files = dict[tuple[str, str, str], bytes]
"""The bytes of image files, by class, name and part."""


def read(published: Published) -> dict[str, Split]:
    """Return the training set (with the validation images) and the test set."""
    found = published.need(*(f"{folder}/test" for folder in _FOLDERS), download=_ARCHIVE)
    root = found if found.is_file() else found.parent
    files: dict[str, Files] = {split: {} for split in _PARTS}
    split_of = {part: split for split, parts in _PARTS.items() for part in parts}
    for path, blob in _members(root) if root.is_file() else _below(root):
        part, class_name = path.parts[-3:-1] if len(path.parts) >= 3 else ("", "")
        if part in split_of and path.suffix == ".png":
            files[split_of[part]][class_name, path.name, part] = blob
    classes = tuple(sorted({name for name, _, _ in files["train"]}))
    unknown = {name for name, _, _ in files["test"]} - set(classes)
    if not all(files.values()) or unknown:
        counts = " and ".join(f"{len(images)} images for {split}" for split, images in files.items())
        raise damaged(root, f"{counts}, in folders of classes")
    published.report(f"decoding {sum(map(len, files.values())):,} images of cinic10")
    return {split: _split(root, images, classes) for split, images in files.items()}


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with tarfile.open(archive) as members:
            for member in members:
                file = members.extractfile(member)
                if file is not None:
                    yield PurePosixPath(member.name), file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise damaged(archive, f"not a whole archive ({error})") from error


def _below(root: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    for path in root.glob("*/*/*.png"):
        yield PurePosixPath(path.relative_to(root).as_posix()), path.read_bytes()


def _split(root: Path, files: Files, classes: tuple[str, ...]) -> Split:
    ordered = sorted(files)
    named = ((root / part / class_name / name, files[class_name, name, part]) for class_name, name, part in ordered)
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number[class_name] for class_name, _, _ in ordered], np.int64)
    return Split(decode_all(named, len(ordered), _SIDE), labels, classes, _SOURCE)
