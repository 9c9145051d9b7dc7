"""Checks of the splits of a plug-in's dataset, and of the batches of a plug-in's augmentation."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets.augmentations.augmentation import MemoryBatches
from datasets.formats.source_files import Arrays, Index, Split
from datasets.hparams import DatasetHparams
from datasets.spec import DatasetSpec
from foundations.inputs import IMAGES
from foundations.plugins.users_code import article, mistake

if TYPE_CHECKING:
    from torch import Tensor


TYPES = {
    "images": ("uint8",),
    "inputs": ("float32",),
    "tokens": ("int32", "uint16", "uint8"),
    "targets": ("float32", "uint8"),
}
"""The types of tensors in prepared files by name; others are int64."""


def checked_splits(
    splits: Any, spec: DatasetSpec, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> Mapping[str, Split | Index | Arrays]:
    """Return the splits that a dataset reads; a plug-in's are checked, and converted to NumPy arrays.

    shapes: the required shapes of the arrays of each split, by name. A plug-in may return torch tensors, lists of
    labels, and labels of any integer type.

    Raises: PluginError that names the function and its required result.
    """
    if spec.plugin is None:
        return splits  # type: ignore[no-any-return]
    is_plain = spec.inputs == IMAGES and spec.task.has_classes
    kind: type = (Split if is_plain else Arrays) if spec.in_memory else Index
    if not isinstance(splits, Mapping):
        raise mistake(spec.read, spec, f"returned {article(splits)}; it must return {{'train': ..., 'test': ...}}.")
    checked = {}
    for split, expected in shapes.items():
        if not isinstance(splits.get(split), kind):
            found = article(splits.get(split))
            raise mistake(spec.read, spec, f"returned {found} as '{split}'; it must be a {kind.__name__}.")
        checked[split] = _with_arrays(splits[split])
        reason = _problem(checked[split], spec, expected)
        if reason:
            raise mistake(spec.read, spec, f"returned, as '{split}', {reason}")
    return checked


def checked_images(batch: Any, hparams: DatasetHparams) -> MemoryBatches:
    """Return the function that makes an augmentation's batches, with checks if a plug-in declares it.

    Raises: PluginError, here or when a batch is made, that names the function and its required result.
    """
    augmentation = hparams.augmentation
    if augmentation.plugin is None:
        return batch  # type: ignore[no-any-return]
    if not callable(batch):
        reason = f"returned {article(batch)}; it must return a function of numbers and positions."
        raise mistake(augmentation.draw, augmentation, reason)

    def checked(numbers: Tensor, positions: slice) -> Tensor:
        images: Any = batch(numbers, positions)
        expected = (len(numbers), *hparams.input_shape)
        found = f"{images.dtype} {tuple(images.shape)}" if hasattr(images, "dtype") else article(images)
        if found != f"torch.uint8 {expected}":
            raise mistake(batch, augmentation, f"returned {found}; it must return images torch.uint8 {expected}.")
        return images  # type: ignore[no-any-return]

    return checked


def _with_arrays(content: Any) -> Any:
    """Convert a split's images and labels to NumPy arrays, labels to int64, if they are such numbers."""
    import numpy as np

    changed: dict[str, Any]
    if isinstance(content, Arrays):
        changed = dict(content.tensors)
    else:
        changed = {"labels": content.labels, **({"images": content.images} if isinstance(content, Split) else {})}
    for name, array in changed.items():
        if hasattr(array, "numpy") or isinstance(array, list | tuple):
            with contextlib.suppress(ValueError, TypeError, RuntimeError):  # then the check refuses it as it is
                changed[name] = np.asarray(array)
    for name in ("labels", "documents", "token_bytes"):
        array = changed.get(name)
        if isinstance(array, np.ndarray) and array.dtype.kind in "iu":
            changed[name] = array.astype(np.int64, copy=False)
    return replace(content, tensors=changed) if isinstance(content, Arrays) else replace(content, **changed)


def _problem(content: Any, spec: DatasetSpec, expected: Mapping[str, tuple[int, ...]]) -> str:
    """Return the fault of a split as text, empty if there is none."""
    import numpy as np

    arrays = content.arrays()
    for name, shape in expected.items():
        if name not in arrays:
            return f"no {name}; by its declaration they are {shape}."
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            return f"{name} that are {article(array)}; they must be a numpy array."
        if name in expected and array.shape != expected[name]:
            return f"{name} of shape {array.shape}; by its declaration they are {expected[name]}."
        wanted = ("uint8",) if name == "files" else TYPES.get(name, ("int64",))
        if array.dtype.name not in wanted:
            return f"{name} of dtype {array.dtype}; they must be {' or '.join(wanted)}."
    if not spec.task.has_classes:
        return ""
    labels = arrays["labels"]
    if labels.min() < 0 or labels.max() >= spec.num_classes:
        return f"labels from {labels.min()} to {labels.max()}; those of {spec.num_classes} classes begin at 0."
    if len(content.class_names) != spec.num_classes:
        return f"{len(content.class_names)} class names; it has {spec.num_classes} classes."
    return ""
