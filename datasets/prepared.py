"""Prepared data sets: `<folder>/<name>/{train,test}.safetensors`, made once from the published files, then mapped.

Each file holds `images` uint8 (N, C, H, W) and `labels` int64 (N,), and the metadata name, split, num_classes,
class_names and source. Both appear whole or not at all. The top of this file needs no torch, since fingerprints are
read by commands that must start fast.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from datasets.registry import DatasetSpec, find_dataset
from foundations.errors import DamagedError, WorldError

if TYPE_CHECKING:
    from torch import Tensor

    from datasets.published import Split

SPLITS = ("train", "test")
_FINGERPRINT = "fingerprint.json"
_CHUNK = 1 << 22


def split_path(name: str, split: str, folder: Path) -> Path:
    """Return where a split of a prepared data set lies."""
    return folder / name / f"{split}.safetensors"


def is_prepared(name: str, folder: Path) -> bool:
    """Return whether the prepared files exist."""
    return all(split_path(name, split, folder).is_file() for split in SPLITS)


def ensure_prepared(name: str, folder: Path, *, allow_download: bool, report: Callable[[str], None]) -> None:
    """Make the prepared files of a data set where they do not exist.

    folder: that of all data sets; published files are looked for there, and downloaded to there.
    report: told of each step that takes long, one line at a time.

    Raises: UsageError for an unknown data set; WorldError where the published files are missing and cannot be had, or
    the folder cannot be written; DamagedError where a published file is not what it should be.
    """
    spec = find_dataset(name)
    if is_prepared(name, folder):
        return
    target = folder / name
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / ".lock"):
            if is_prepared(name, folder):  # another process was faster
                return
            _prepare(spec, folder, allow_download, report)
    except OSError as error:
        raise WorldError(f"the data set '{name}' could not be prepared in {target}: {error}.") from error


def _prepare(spec: DatasetSpec, folder: Path, allow_download: bool, report: Callable[[str], None]) -> None:
    from datasets.published import Published

    module, function = spec.reader.split(":")
    read: Callable[[Published], dict[str, Split]] = getattr(importlib.import_module(module), function)
    splits = read(Published(spec.name, folder, allow_download, report))
    for split, expected in zip(SPLITS, (spec.num_train, spec.num_test), strict=True):
        images = splits[split].images
        if images.shape != (expected, *spec.input_shape):
            raise DamagedError(
                f"the published files of '{spec.name}' hold {split} images of shape {images.shape}, not "
                f"{(expected, *spec.input_shape)}.\nRemove them from {folder} and download them again."
            )
    for split in SPLITS:
        write_split(spec.name, split, splits[split], folder)
    report(f"prepared {spec.name} in {folder / spec.name}")


def write_split(name: str, split: str, content: Split, folder: Path) -> None:
    """Write one prepared file, whole or not at all."""
    import numpy as np
    from safetensors.numpy import save_file

    path = split_path(name, split, folder)
    part = path.with_suffix(f".{os.getpid()}.part")
    metadata = {
        "name": name,
        "split": split,
        "num_classes": str(len(content.class_names)),
        "class_names": ",".join(content.class_names),
        "source": content.source,
    }
    arrays: dict[str, np.ndarray[Any, Any]] = {"images": np.ascontiguousarray(content.images), "labels": content.labels}
    try:
        save_file(arrays, part, metadata=metadata)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_split(name: str, split: str, folder: Path) -> tuple[Tensor, Tensor]:
    """Return images uint8 (N, C, H, W) and labels int64 (N,), mapped from the prepared file.

    Raises: WorldError where the file is missing; DamagedError where it is not the prepared file that it should be.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    spec = find_dataset(name)
    path = split_path(name, split, folder)
    if not path.is_file():
        raise WorldError(f"{path} is missing: the data set '{name}' is not prepared.")
    try:
        with safe_open(path, "pt") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
    except (SafetensorError, OSError) as error:
        raise _unusable(path, str(error)) from error
    count = spec.num_train if split == "train" else spec.num_test
    if images.dtype != torch.uint8 or tuple(images.shape) != (count, *spec.input_shape):
        raise _unusable(
            path, f"images are {images.dtype} {tuple(images.shape)}, not uint8 {(count, *spec.input_shape)}"
        )
    if labels.dtype != torch.int64 or tuple(labels.shape) != (count,):
        raise _unusable(path, f"labels are {labels.dtype} {tuple(labels.shape)}, not int64 {(count,)}")
    return images, labels


def _unusable(path: Path, reason: str) -> DamagedError:
    return DamagedError(
        f"{path} is not a whole prepared data set: {reason}.\n"
        f"Remove it (rm '{path}'); the next use makes it again from the published files."
    )


def fingerprint(name: str, folder: Path) -> str | None:
    """Return the SHA-256 over the images and labels of a prepared data set, or None where there is none.

    It is over the tensors and not over the files, since safetensors writes metadata in no fixed order. It is kept in
    `fingerprint.json` beside them with their sizes and times of change, and computed anew when these differ (and each
    time where that file cannot be written). Raises: DamagedError for a file without a whole header.
    """
    if not is_prepared(name, folder):
        return None
    paths = [split_path(name, split, folder) for split in SPLITS]
    stamp = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}
    cache = folder / name / _FINGERPRINT
    try:
        kept = json.loads(cache.read_text())
        if kept["files"] == stamp:
            return str(kept["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no cache, or not one of ours: it is only a cache
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {_tensors_digest(path)}\n".encode())
    _keep(cache, {"files": stamp, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def _tensors_digest(path: Path) -> str:
    """Return the SHA-256 over name, type, shape and bytes of each tensor of a safetensors file, by name."""
    digest = hashlib.sha256()
    header, start = read_header(path)
    with path.open("rb") as file:
        for name, entry in sorted(header.items()):
            begin, end = entry["data_offsets"]
            digest.update(f"{name} {entry['dtype']} {entry['shape']}\n".encode())
            file.seek(start + begin)
            for at in range(begin, end, _CHUNK):
                digest.update(file.read(min(_CHUNK, end - at)))
    return digest.hexdigest()


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the tensors that a safetensors file announces, by name, and where their bytes start; needs no torch.

    The file is the header's length (uint64), the header (JSON), and the tensors' bytes at its `data_offsets`.
    Raises: DamagedError where there is no whole header.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size) if size < _CHUNK else b"")
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            if not all({"dtype", "shape", "data_offsets"} <= set(entry) for entry in tensors.values()):
                raise ValueError("a tensor without a place")
        except (ValueError, AttributeError, TypeError) as error:
            raise _unusable(path, f"it has no header ({error})") from error
    return tensors, 8 + size


def _keep(cache: Path, content: dict[str, object]) -> None:
    part = cache.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_text(json.dumps(content))
        part.replace(cache)
    except OSError:  # the folder is somebody else's or full: computed each time
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
