"""Users' arrays: an .npz file, or a folder of .npy files, read into the splits of a dataset.

{train,test}_{images,labels}        the names in all messages
x_train, y_train, x_test, y_test    Keras's names, and others with the same meaning, such as X_val or trainLabels
images and labels, or x and y       without a test set, which is then held out (see `held_out`)
images    uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), with C 1 or 3
x         numbers (N, F), or floats (N, C, T), which are series, unless they are named images
labels    integers, booleans or texts, (N,) or (N, 1); their values are the names of the classes, in ascending order
targets   floats (N,) or (N, K); or 0 and 1 (N, L), of which an example may have any number (see `float_arrays`)
"""

from __future__ import annotations

import contextlib
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.added.class_names import check_class_names, listed_names, say_untested
from datasets.added.float_arrays import are_vectors, array_targets, read_vectors
from datasets.added.held_out import held_out
from datasets.added.measured import images_with_targets, measured
from datasets.added.options import AddOptions, Report
from datasets.added.split_names import split_of, words_in
from datasets.added.user_folders import holds_images, is_ignored, subfolders
from datasets.formats.content import Content
from datasets.formats.source_files import Split
from datasets.prepared import SPLITS
from foundations.access import reason
from foundations.errors import EnvironmentFailure, UsageError

_KINDS = {
    "images": ("images", "image", "imgs", "x", "data", "pixels", "inputs", "input", "features", "series"),
    "labels": ("labels", "label", "y", "targets", "target"),
}
_CHANNELS = (1, 3)
_NUMBERS, _TEXTS = "iub", "US"
"""Kinds of dtypes that labels may have."""
_ACCEPTED = (
    "it takes train_images, train_labels, test_images and test_labels (or x_train, y_train, ...), or images and labels"
)
_UNREADABLE = (
    *(ValueError, EOFError, MemoryError, OverflowError, KeyError, TypeError, AttributeError, IndexError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, SyntaxError, tokenize.TokenError),
)
"""Errors of NumPy and zipfile for truncated arrays and archives. SyntaxError: an array's header is Python."""

Pair = tuple[str, str]
"""The names of an array of images and of its labels."""


def read_arrays(path: Path, options: AddOptions, report: Report) -> Content | None:
    """Return the content of a file or a folder of arrays; None for a folder of other files.

    report: takes a line about arrays that are not read, and about ambiguous ones.
    Raises: UsageError for arrays that are not images and labels; EnvironmentFailure for files that cannot be read.
    """
    if options.stream:
        raise UsageError(
            f"{path} holds arrays, which are read into memory; only images in class folders stay in place.", "stream"
        )
    if path.is_dir():
        files = {found.stem: found for found in sorted(path.glob("*.npy")) if not is_ignored(found.name)}
        if not files or (not _pairs(path, files) and any(map(holds_images, subfolders(path)))):
            return None
        return _splits(
            path, list(files), lambda name: np.load(files[name], mmap_mode="r", allow_pickle=False), options, report
        )
    with _explained(str(path)):
        with path.open("rb") as file:
            is_archive = zipfile.is_zipfile(file)
        if not is_archive:
            raise UsageError(f"{path} is not a whole .npz file, as numpy.savez writes it.")
        archive = np.load(path, allow_pickle=False)
        names = list(archive.files)
    with archive:
        return _splits(path, names, archive.__getitem__, options, report)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn errors of reading inside the block into errors for users. what: names the file or the array."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {what}: {reason(error)}.") from error
    except _UNREADABLE as error:
        is_pickled = "allow_pickle" in str(error)
        why = "Python objects; save images as uint8, labels as int64 or texts of dtype=str" if is_pickled else error
        raise UsageError(f"{what} cannot be read ({why}).") from error


def _splits(
    path: Path, names: Sequence[str], load: Callable[[str], Any], options: AddOptions, report: Report
) -> Content:
    def loaded(name: str) -> tuple[str, NDArray[Any]]:
        with _explained(f"{path}: {name}"):
            array = load(name)
        if not isinstance(array, np.ndarray):  # as parts of archives may not be
            raise UsageError(f"{path}: {name} is something other than an array.")
        return f"{path}: {name}", array

    pairs = _pairs(path, names)
    if not pairs:
        raise UsageError(f"{path} holds the arrays {', '.join(sorted(names)) or '(none)'}; {_ACCEPTED}.")
    unread = sorted(set(names) - {name for pair in pairs.values() for name in pair})
    if unread:
        report(f"not read: {', '.join(unread)}")
    inputs = {split: loaded(of_images) for split, (of_images, _) in pairs.items()}
    targets = {split: loaded(of_labels) for split, (_, of_labels) in pairs.items()}
    if all(are_vectors(array, what.removeprefix(f"{path}: ")) for what, array in inputs.values()):
        return read_vectors(path, inputs, targets, options, report)
    options.refuse("arrays of images", "image_size")
    images = {split: _checked_images(*named, report) for split, named in inputs.items()}
    shapes = [array.shape[1:] for array in images.values()]
    if shapes[0] != shapes[-1]:
        raise UsageError(f"{path}: training and test images differ in shape: {shapes[0]} and {shapes[-1]}.")
    if options.task in ("regression", "multi_label") or any(map(_are_real, targets.values())):
        return _with_targets(path, images, targets, options, report)
    options.check_task("images with labels", "classification", "multi_label", "regression")
    labels = {split: _checked_labels(*named, len(images[split])) for split, named in targets.items()}
    class_names, classes = _numbered(path, labels, report)
    if "test" not in pairs:
        parts = dict(zip(SPLITS, held_out(classes["train"], class_names, path, report), strict=True))
        images = {split: images["train"][part] for split, part in parts.items()}
        classes = {split: classes["train"][part] for split, part in parts.items()}
    source = f"added from {path.name}"
    splits = {split: Split(images[split], classes[split], class_names, source) for split in SPLITS}
    mean, std = measured(splits["train"].images)
    return Content(splits, input_shape=images["train"].shape[1:], mean=mean, std=std)


def _are_real(named: tuple[str, NDArray[Any]]) -> bool:
    """Return whether an array holds floats with fractions, which are targets of a regression."""
    array = named[1]
    return array.dtype.kind == "f" and not bool((array == np.round(array)).all())


def _with_targets(
    path: Path,
    images: Mapping[str, NDArray[np.uint8]],
    targets: Mapping[str, tuple[str, NDArray[Any]]],
    options: AddOptions,
    report: Report,
) -> Content:
    """Return images with real targets, or with several labels."""
    counted = {split: (*named, len(images[split])) for split, named in targets.items()}
    found, parts = array_targets(path, counted, options, report)
    taken = {
        "train": images["train"][parts.train],
        "test": images["test" if parts.has_test_file else "train"][parts.test],
    }
    return images_with_targets(taken, found, path)


def _pairs(path: Path, names: Iterable[str]) -> dict[str, Pair]:
    """Return the names of the arrays of each split; empty if no arrays are a pair of images and labels.

    Raises: UsageError if names are ambiguous, or half of a pair is missing.
    """
    found: dict[tuple[str, int], dict[str, str]] = {}
    for name in names:
        kind, split = _meaning(name)
        if kind:
            other = found.setdefault(split, {}).setdefault(kind, name)
            if other != name:
                raise UsageError(f"{path}: {other} and {name} could both be the {kind}; remove one of them.")
    whole = {split: (pair["images"], pair["labels"]) for split, pair in sorted(found.items()) if len(pair) == 2}
    best = {split: pair for (split, _), pair in reversed(whole.items()) if split}
    if not best:
        return {"train": whole[_ALONE]} if _ALONE in whole else {}
    halves = (pair for (split, _), pair in found.items() if len(pair) == 1 and (split != "test" or "test" not in best))
    half = next(halves, None)
    if half is not None or "train" not in best:
        missing = "training images and labels" if half is None else f"the other half of {next(iter(half.values()))}"
        raise UsageError(f"{path} lacks {missing}; {_ACCEPTED}.")
    return best


_ALONE = ("", 0)
"""The split of arrays whose names give no split."""


def _meaning(name: str) -> tuple[str, tuple[str, int]]:
    """Return the kind of an array by its name (images, labels, or unknown), and its split, as `split_of` does."""
    words = [part for word in words_in(name) for part in ((word[0], word[1:]) if _is_glued(word) else (word,))]
    kinds = {kind for kind, known in _KINDS.items() for word in words if word in known}
    rest = "_".join(word for word in words if not any(word in known for known in _KINDS.values()))
    split = split_of(rest) if rest else _ALONE
    return (kinds.pop(), split) if len(kinds) == 1 and split is not None else ("", _ALONE)


def _is_glued(word: str) -> bool:
    """Return whether a word is one such as `xtrain`."""
    return word[0] in "xy" and split_of(word[1:]) is not None


def _checked_images(what: str, images: NDArray[Any], report: Report) -> NDArray[np.uint8]:
    """Return images as uint8 (N, C, H, W). what: names them."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        is_named = "image" in what.rpartition(": ")[2].lower()
        others = "" if is_named else "vectors are numbers (N, F), series floats (N, C, T); "
        raise UsageError(
            f"{what} are {images.dtype} {images.shape}; {others}images must be uint8 (N, H, W[, C])"
            f"{_conversion(images)}."
        )
    if 0 in images.shape:
        raise UsageError(f"{what} are {images.shape}: there are no pixels.")
    if images.ndim == 3:
        return images[:, None]
    is_first, is_last = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
    if is_first and is_last:
        report(f"{what} are {images.shape}, read as (N, C, H, W); transpose them if they are (N, H, W, C)")
    if is_first:
        return images
    if is_last:
        return images.transpose(0, 3, 1, 2)
    alpha = " Leave transparency out: images[..., :3]." if images.shape[3] == 4 else ""
    raise UsageError(f"{what} are {images.shape}, which have neither 1 nor 3 channels.{alpha}")


def _conversion(images: NDArray[Any]) -> str:
    """Return advice for converting images of another dtype to uint8, if the conversion is clear."""
    if images.dtype.kind not in "iufb" or images.dtype == np.uint8 or not images.size:
        return ""
    lowest, highest = float(images.min()), float(images.max())
    advice = ": images.astype('uint8')" if lowest >= 0 and highest <= 255 else ""
    if images.dtype.kind in "fb" and lowest >= 0 and highest <= 1:
        advice = ": (images * 255).round().astype('uint8')"
    return f" from 0 to 255. These run from {lowest:g} to {highest:g}{advice}"


def _checked_labels(what: str, labels: NDArray[Any], count: int) -> NDArray[Any]:
    """Return labels as they are, (N,). what: names them."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in _NUMBERS + _TEXTS or labels.shape != (count,):
        hint = ""
        if labels.ndim == 2:
            hint = (
                " Rows with a 1 for the class become numbers by labels.argmax(1); several labels of an image are the "
                "task multi_label."
            )
        elif labels.dtype.kind == "f" and bool(np.all(labels == np.round(labels))):
            hint = " These are whole numbers: labels.astype('int64')."
        raise UsageError(f"{what} are {labels.dtype} {labels.shape}; they must be integers ({count},), or texts.{hint}")
    return labels


def _numbered(
    path: Path, labels: Mapping[str, NDArray[Any]], report: Report
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Return the names of the classes, which are the values of the training labels, and labels that number them.

    Raises: UsageError where there is one class, or the test set alone has a class.
    """
    distinct = {split: np.unique(values, return_inverse=True) for split, values in labels.items()}
    texts = {split: [_text(value) for value in values.tolist()] for split, (values, _) in distinct.items()}
    names = texts["train"]
    check_class_names(names, path)
    number_of = {name: number for number, name in enumerate(names)}
    unknown = [name for name in texts.get("test", []) if name not in number_of]
    if unknown:
        raise UsageError(f"{path}: the test labels {listed_names(unknown)} are none of the training labels.")
    say_untested(names, texts.get("test", names), report)
    numbers = {
        split: np.array([number_of[text] for text in texts[split]], np.int64)[inverse.reshape(-1)]
        for split, (_, inverse) in distinct.items()
    }
    return tuple(names), numbers


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
