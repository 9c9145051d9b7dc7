"""Users' folders of images: recognizes splits, classes and image files.

    PATH/{train,test}/<class>/**/*      by any usual names of the two (see `split_names`), in any case
    PATH/<class>/**/*                   without a test set

A single folder around either layout is searched. Names with a leading dot or in `_JUNK` are ignored.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from datasets.added.class_names import listed_names
from datasets.added.split_names import is_general, split_of
from datasets.decode import image_suffixes
from datasets.formats.class_folders import encoded_image, files_under
from datasets.formats.source_files import FilePart
from datasets.prepared import SPLITS
from foundations.errors import UsageError

Report = Callable[[str], None]
_JUNK = frozenset({"__MACOSX", "__pycache__", "@eaDir"})
"""Folders that macOS, Python and Synology's storage create beside users' files."""
_TABLES = (".csv", ".tsv", ".json", ".xlsx", ".parquet", ".xml")
_EXPECTED = "It takes images in folders PATH/CLASS/, or PATH/train/CLASS/ and PATH/test/CLASS/."
_ADJECTIVES = ("valid",)
"""Names of test sets that are names of classes as well."""
_KINDS_LISTED = 6


@dataclass
class ClassFolders:
    """The images of the class folders in a folder, and its other content."""

    folder: Path
    images: list[tuple[FilePart, str]] = field(default_factory=list)
    """Every image with the name of its class: by class, then by path."""
    empty: list[str] = field(default_factory=list)
    """The class folders without images."""
    loose: list[Path] = field(default_factory=list)
    """Images that are in no class folder."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of files of each suffix other than images, in class folders and beside them."""

    @property
    def names(self) -> list[str]:
        """The names of the classes, in their order."""
        return list(dict.fromkeys(name for _, name in self.images))


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is not the user's data."""
    return name.startswith(".") or name in _JUNK


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not ignored, in the order of their names."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_ignored(entry.name))
    return [folder / name for name in names]


def holds_images(folder: Path) -> bool:
    """Return whether a folder holds an image, at any depth."""
    return any(map(_is_image, files_under(folder, is_ignored)))


def list_classes(folder: Path) -> ClassFolders:
    """Return the content of a folder's class folders."""
    found = ClassFolders(folder)
    found.loose, others = loose_files(folder)
    found.skipped.update(path.suffix.lower() for path in others)
    for place in subfolders(folder):
        before = len(found.images)
        for path in files_under(place, is_ignored):
            if _is_image(path):
                found.images.append((encoded_image(path, None), place.name))
            else:
                found.skipped[path.suffix.lower()] += 1
        if len(found.images) == before:
            found.empty.append(place.name)
    return found


def said_of_skipped(skipped: Counter[str]) -> str:
    """Return the number of skipped files by suffix, as text: `skipped 3 files: 2 .txt, 1 .csv`."""
    kinds = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {suffix or 'without a suffix'}" for suffix, count in kinds[:_KINDS_LISTED]]
    rest = sum(count for _, count in kinds[_KINDS_LISTED:])
    total = skipped.total()
    listed = ", ".join([*parts, *([f"{rest:,} others"] if rest else [])])
    return f"skipped {total:,} file{'s' * (total != 1)}: {listed}"


def find_splits(path: Path, report: Report) -> tuple[Path, Path | None]:
    """Return the folder of the classes for training, and the one for testing or None, in a user's folder.

    report: takes a line about folders that are not read. Raises: UsageError if the choice is ambiguous.
    """
    folders = subfolders(path)
    splits = {folder: split for folder in folders if (split := split_of(folder.name)) is not None}
    train = [folder for folder, (split, _) in splits.items() if split == "train"]
    tests = [
        folder for _, folder in sorted((rank, folder) for folder, (split, rank) in splits.items() if split == "test")
    ]
    if not splits:
        inner = _wrapped(path)
        return (path, None) if inner is None else find_splits(_entered(inner, report), report)
    if _are_classes(folders, train, tests):
        report(f"{', '.join(map(str, splits))}: read as a class, since it holds images and no class folders")
        return path, None
    if len(train) != 1:
        names = ", ".join(folder.name for folder in train or tests)
        wrong = f"several folders of training images ({names})" if train else f"no folder train beside {names}"
        raise UsageError(f"{path} holds {wrong}; rename a folder that is a class. {_EXPECTED}")
    usable = [folder for folder in tests if _holds_classes(folder)]
    for folder in (train[0], *(tests if not usable else ())):
        if not _holds_classes(folder):
            raise no_classes(list_classes(folder), path)
    _say_unread([folder for folder in folders if folder not in (train[0], *usable[:1])], report)
    training = _unwrapped(train[0], (), report)
    known = [folder.name for folder in subfolders(training)]
    return training, _unwrapped(usable[0], known, report) if usable else None


def _are_classes(folders: Sequence[Path], train: Sequence[Path], tests: Sequence[Path]) -> bool:
    """Return whether a single folder with a split's name is a class among others, such as train beside bus."""
    named = [*train, *tests]
    is_plausible = len(named) == 1 and (named == train or named[0].name.casefold() in _ADJECTIVES)
    others = [folder for folder in folders if folder not in named]
    return is_plausible and holds_images(named[0]) and not _holds_classes(named[0]) and any(map(holds_images, others))


def _holds_classes(folder: Path) -> bool:
    return any(map(holds_images, subfolders(folder)))


def _wrapped(folder: Path, known: Collection[str] = ()) -> Path | None:
    """Return the only folder with images in a folder, if it holds the class folders. known: names of classes.

    If there are other folders, which may be empty classes, it must have a name such as `images`.
    """
    loose, _ = loose_files(folder)
    folders = subfolders(folder)
    holding = list(islice(filter(holds_images, folders), 2))
    if len(holding) != 1 or loose or holding[0].name in known or not _holds_classes(holding[0]):
        return None
    return holding[0] if len(folders) == 1 or is_general(holding[0].name) else None


def _unwrapped(folder: Path, known: Collection[str], report: Report) -> Path:
    inner = _wrapped(folder, known)
    return folder if inner is None else _unwrapped(_entered(inner, report), known, report)


def _entered(inner: Path, report: Report) -> Path:
    report(f"reading {inner}, the only folder with images in {inner.parent}")
    _say_unread([folder for folder in subfolders(inner.parent) if folder != inner], report)
    return inner


def _say_unread(folders: Sequence[Path], report: Report) -> None:
    if folders:
        report(f"not read: {', '.join(map(str, folders))}")


def check_classes(found: ClassFolders, root: Path) -> None:
    """Check the class folders of a training set. root: the folder that the user named.

    Raises: UsageError for fewer than two classes, for one without images, and for one that contains splits.
    """
    for folder in subfolders(found.folder):
        inner = {split[0] for place in subfolders(folder) if (split := split_of(place.name)) is not None}
        if len(inner) == len(SPLITS):
            raise UsageError(f"{folder} holds folders for training and for testing. {_EXPECTED}")
    if len(found.names) < 2:
        raise no_classes(found, root)
    if found.empty:
        reason = f" ({said_of_skipped(found.skipped)})" if found.skipped else ""
        raise UsageError(
            f"{found.folder} holds folders without images: {listed_names(found.empty)}{reason}. "
            "Remove them, or convert their files to a format that is read."
        )


def no_classes(found: ClassFolders, root: Path) -> UsageError:
    """Return the error for a folder that lacks class folders of images. root: the folder that the user named."""
    details = [f"; only of {found.names[0]!r}"] if found.names else []
    if found.loose:
        details.append(f"; {len(found.loose):,} are in no class folder, such as {found.loose[0].name!r}")
    if found.skipped:
        details.append(f"; {said_of_skipped(found.skipped)}")
    names = sorted(path.name for folder in {found.folder, root} for path in loose_files(folder)[1])
    table = next((name for name in names if name.lower().endswith(_TABLES)), None)
    archive = next((name for name in names if name.lower().endswith(".npz")), None)
    advice = f"Give --target=COLUMN for the labels in {table}, or sort the images into class folders. " if table else ""
    advice += f"Arrays are read from the path of their file, such as {root / archive}. " if archive else ""
    return UsageError(
        f"{found.folder} holds no images in folders of two classes or more{''.join(details)}.\n{advice}{_EXPECTED}"
    )


def loose_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images that lie directly in a folder, and its other files, in the order of their names."""
    names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir() and not is_ignored(entry.name))
    paths = [folder / name for name in names]
    return list(filter(_is_image, paths)), [path for path in paths if not _is_image(path)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in image_suffixes()
