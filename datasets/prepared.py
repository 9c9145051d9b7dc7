"""Prepared datasets: `<folder>/<name>/{train,test}.safetensors`, made once from the published files, then mapped.

Each file holds inputs and targets. Inputs are `images` uint8 (N, C, H, W), or vectors or series, `inputs` float32
(N, F) or (N, C, T), or `tokens` and `documents` (see `source_files.Arrays`); of a dataset too large for memory, an
index of its image files (see `source_files.Index`). Targets are `labels` int64 (N,), or `targets` float32 or uint8
(N, K). The metadata are name, split, source, num_classes and class_names, and further ones of datasets of other inputs
than images. Both files appear whole or not at all. This module imports without torch and numpy, since
commands that must start fast read fingerprints.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.formats.source_files import Arrays, Index, SourceFiles, Split
from datasets.registry import DATASETS
from datasets.spec import DatasetSpec
from datasets.split_checks import TYPES, checked_splits
from foundations.access import for_owner, reason
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import check_readable, check_regular, explain_os_errors, read_file, replacing
from foundations.inputs import IMAGES, TOKENS
from foundations.parts import sweep_parts
from foundations.storage.locks import lock

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "test")
_FINGERPRINT = "fingerprint.json"
_CHUNK = 1 << 22
_MAX_HEADER = 1 << 22


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file."""

    tensors: dict[str, Any]
    """By name: `dtype`, `shape`, `data_offsets` (from `start`)."""
    metadata: dict[str, str]
    start: int
    """The offset of the tensors' bytes in the file."""


def split_path(name: str, split: str, folder: Path) -> Path:
    """Return the path of a split of a prepared dataset."""
    return folder / DATASETS.find(name).folder / f"{split}.safetensors"


def is_prepared(name: str, folder: Path) -> bool:
    """Return whether the prepared files exist, as far as the folder may be read."""
    return all(os.path.isfile(split_path(name, split, folder)) for split in SPLITS)  # noqa: PTH113 (no PermissionError)


def is_closed(name: str, folder: Path) -> bool:
    """Return whether the folder of a dataset exists and may not be read."""
    path = split_path(name, SPLITS[0], folder).parent
    return path.is_dir() and not os.access(path, os.R_OK | os.X_OK)


def ensure_prepared(name: str, folder: Path, *, allow_download: bool, report: Callable[[str], None]) -> None:
    """Make the prepared files of a dataset where they do not exist.

    folder: the folder of all datasets, which is also searched for published files and receives downloads.
    report: takes a line about each step that takes long.

    Raises: UsageError for an unknown dataset; EnvironmentFailure if the published files are missing and cannot be
    downloaded, or the folder cannot be written; DamagedError if a published file is not as published.
    """
    spec = DATASETS.find(name)
    if is_prepared(name, folder):
        return
    with locked(spec.folder, folder, report):
        if is_prepared(name, folder):  # another process was faster
            return
        _prepare(spec, folder, allow_download, report)


@contextlib.contextmanager
def locked(name: str, folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a dataset's folder while preparing it; creates the folder if necessary.

    Raises: EnvironmentFailure if a write inside the block fails.
    """
    target = folder / name
    with (
        explain_os_errors(f"prepare the dataset '{name}' in", target),
        lock(target / ".lock", f"the dataset '{name}'", report),
    ):
        sweep_parts(target)
        yield


def _prepare(spec: DatasetSpec, folder: Path, allow_download: bool, report: Callable[[str], None]) -> None:
    read = spec.read(SourceFiles(spec.folder, folder, allow_download, report))
    splits = checked_splits(read, spec, {split: _shapes(spec, split) for split in SPLITS})
    for split in SPLITS:
        expected = _shapes(spec, split)
        found = {name: array.shape for name, array in splits[split].arrays().items()}
        if any(found[name] != shape for name, shape in expected.items()):
            raise DamagedError(
                f"The published files of '{spec.folder}' hold {split} arrays of {found}, not of {expected}.\n"
                f"Replace them in {folder} by the published ones."
            )
    for split in SPLITS:
        write_split(spec.folder, split, splits[split], folder)
    report(f"prepared {spec.folder} in {folder / spec.folder}")


def _shapes(spec: DatasetSpec, split: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a split's tensors must have."""
    count = spec.num_train if split == "train" else spec.num_test
    if not spec.in_memory:
        return {"labels": (count,), "file": (count,), "offset": (count,), "size": (count,)}
    targets: dict[str, tuple[int, ...]] = {}
    if spec.task.stored_targets is not None:
        size = () if spec.task.stored_targets == "labels" else (spec.num_outputs,)
        targets = {spec.task.stored_targets: (count, *size)}
    if spec.inputs == TOKENS:
        tokens = spec.train_tokens if split == "train" else spec.test_tokens
        return {"tokens": (tokens,), "documents": (count + 1,), **targets}
    return {"images" if spec.inputs == IMAGES else "inputs": (count, *spec.input_shape), **targets}


def write_split(
    name: str, split: str, content: Split | Index | Arrays, folder: Path, more_metadata: Mapping[str, str] | None = None
) -> None:
    """Write one prepared file, whole or not at all."""
    import numpy as np

    from datasets.formats.safetensors_writer import write_tensors

    own = content.metadata if isinstance(content, Arrays) else {}
    metadata = {
        "name": name,
        "split": split,
        "num_classes": str(len(content.class_names)),
        "class_names": ",".join(content.class_names),
        "source": content.source,
        **own,
        **(more_metadata or {}),
    }
    arrays = {key: np.ascontiguousarray(array) for key, array in content.arrays().items()}
    with replacing(folder / name / f"{split}.safetensors") as part:
        write_tensors(part, arrays, metadata)


def load_split(name: str, split: str, folder: Path) -> tuple[Tensor, Tensor]:
    """Return images uint8 (N, C, H, W) and labels int64 (N,), mapped from the prepared file.

    Raises: EnvironmentFailure if the file is missing; DamagedError if its content is not as expected.
    """
    tensors = load_tensors(name, split, folder)
    return tensors["images"], tensors["labels"]


def load_tensors(name: str, split: str, folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a prepared file, mapped from it. Raises: as `load_split`."""
    from safetensors import SafetensorError, safe_open

    spec = DATASETS.find(name)
    path = split_path(name, split, folder)
    if not path.is_file():
        raise EnvironmentFailure(f"{path} is missing: the dataset '{name}' is not prepared.")
    try:
        check_readable(path)
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a dictionary)
    except PermissionError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {reason(error, path)}.") from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error
    except RuntimeError as error:  # torch opens the file once more, when it may be gone
        raise EnvironmentFailure(f"Cannot read {path}: {error}.") from error
    _check_tensors(tensors, spec, split, path)
    return tensors


def _check_tensors(tensors: Mapping[str, Tensor], spec: DatasetSpec, split: str, path: Path) -> None:
    """Check types, shapes and ranges of the tensors of a split. Raises: DamagedError."""
    import torch

    for key, shape in _shapes(spec, split).items():
        valid = TYPES.get(key, ("int64",))
        if key not in tensors:
            raise _damaged(path, f"it holds no {key}")
        dtype = str(tensors[key].dtype).removeprefix("torch.")
        if dtype not in valid or tuple(tensors[key].shape) != shape:
            wanted = " or ".join(f"torch.{name}" for name in valid)
            raise _damaged(path, f"{key} are {tensors[key].dtype} {tuple(tensors[key].shape)}, not {wanted} {shape}")
    if "labels" in tensors and spec.task.has_classes:
        lowest, highest = (int(label) for label in tensors["labels"].aminmax())
        if lowest < 0 or highest >= spec.num_classes:
            raise _damaged(path, f"its labels run from {lowest} to {highest}, not from 0 to {spec.num_classes - 1}")
    if "tokens" in tensors:
        documents = tensors["documents"]
        if documents[0] != 0 or documents[-1] != len(tensors["tokens"]) or bool((documents.diff() < 0).any()):
            raise _damaged(path, "its documents do not divide its tokens")
        parts = (part.int().aminmax() for part in torch.split(tensors["tokens"], _CHUNK))  # uint16 lacks aminmax
        lowest, highest = (
            int(choose(found)) for choose, found in zip((min, max), zip(*parts, strict=True), strict=True)
        )
        if lowest < 0 or highest >= spec.vocabulary:
            raise _damaged(path, f"its tokens run from {lowest} to {highest}, not from 0 to {spec.vocabulary - 1}")


def fingerprint(name: str, folder: Path) -> str | None:
    """Return the SHA-256 over the tensors of a prepared dataset, or None if it is not prepared.

    It covers the tensors and not the files, since safetensors writes metadata in no fixed order; and, of tokens, the
    `tokenizer` and `vocabulary` of the metadata. For a dataset too
    large for memory, it covers the index: names, sizes and labels of the images. It is stored in `fingerprint.json`
    beside the files, with their sizes and modification times, and computed again when these differ (and each time if
    `fingerprint.json` cannot be written). Raises: DamagedError for a file with a truncated header.
    """
    if not is_prepared(name, folder):
        return None
    paths = [split_path(name, split, folder) for split in SPLITS]
    stamp = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}
    cache = paths[0].with_name(_FINGERPRINT)
    try:
        kept = json.loads(read_file(cache))
        if kept["files"] == stamp:
            return str(kept["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # there is no cache, or it is truncated
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {_tensors_digest(path)}\n".encode())
    # If the folder cannot be written, the fingerprint is computed each time.
    with contextlib.suppress(OSError):
        for left in cache.parent.glob(f".{_FINGERPRINT}.*"):  # of a process that was killed; one at work does without
            left.unlink(missing_ok=True)
    with contextlib.suppress(OSError), replacing(cache) as part:
        part.write_text(json.dumps({"files": stamp, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


def _tensors_digest(path: Path) -> str:
    """Return the SHA-256 over name, type, shape and bytes of each tensor of a safetensors file, by name."""
    digest = hashlib.sha256()
    header = read_header(path)
    size = path.stat().st_size - header.start
    with path.open("rb") as file:
        for name, entry in sorted(header.tensors.items()):
            start, end = entry["data_offsets"]
            digest.update(f"{name} {entry['dtype']} {entry['shape']}\n".encode())
            file.seek(header.start + start)
            for at in range(start, min(end, size), _CHUNK):  # a damaged header may claim to have more
                digest.update(file.read(min(_CHUNK, end - at)))
    for key in ("tokenizer", "vocabulary"):
        if "tokens" in header.tensors and key in header.metadata:
            digest.update(f"{key} {header.metadata[key]}\n".encode())
    return digest.hexdigest()


def read_header(path: Path) -> Header:
    """Return the header of a prepared file, without torch and numpy (`safetensors.safe_open` imports one of them).

    A safetensors file is the header's length (uint64, little-endian), the header (JSON; texts are under
    `__metadata__`), and the tensors' bytes.
    Raises: DamagedError if the header is missing or truncated; OSError if the file cannot be read.
    """
    check_regular(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            tensors = json.loads(file.read(size) if size < _MAX_HEADER else b"")
            metadata = tensors.pop("__metadata__", {})
            if not all(map(_is_entry, tensors.values())) or not all(map(str.isprintable, tensors)):
                raise ValueError("a tensor lacks its type, shape or place")
            if not all(isinstance(text, str) for text in metadata.values()):
                raise ValueError("its metadata are not texts")
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise _damaged(path, f"it has no header ({error})") from error
    return Header(tensors, metadata, 8 + size)


def _is_entry(entry: Any) -> bool:
    """Return whether this is a valid entry of a tensor in a header."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]}:
            return dtype.isalnum() and all(type(size) is int and 0 <= size < 1 << 62 for size in (*shape, start, end))
    return False


def _damaged(path: Path, reason: str) -> DamagedError:
    return DamagedError(
        f"{path} is not a whole prepared dataset: {reason}.\n"
        + for_owner(path, f"Remove it (rm '{path}'); the next use prepares it again from the published files.")
    )
