"""Prepared datasets that travel: the files to send, and the check and placement of files that arrive."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from datasets.added.added import register_added
from datasets.prepared import SPLITS, fingerprint, is_prepared, locked, split_path
from datasets.registry import DATASETS
from foundations.errors import DamagedError, EnvironmentFailure

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def prepared_files(name: str, expected: str, folder: Path) -> list[Path]:
    """Return the files of a prepared dataset with a fingerprint.

    folder: of all datasets. Raises: EnvironmentFailure where it is not there; DamagedError where it is another one.
    """
    found = fingerprint(name, folder) if name in DATASETS else None
    if found is None:
        raise EnvironmentFailure(f"The dataset '{name}' is not prepared in {folder}, so it was not pushed.")
    if found != expected:
        raise DamagedError(f"The dataset '{name}' in {folder} is not the one of the runs, so it was not pushed.")
    return [split_path(name, split, folder) for split in SPLITS]


def place_received(name: str, expected: str, arrived: Path, folder: Path, report: Callable[[str], None]) -> bool:
    """Move files that arrived in `arrived/<name>` to their place, unless the dataset is prepared; return whether moved.

    folder: of all datasets. Raises: DamagedError where they do not have the fingerprint.
    """
    if not _NAME.fullmatch(name) or {path.name for path in (arrived / name).iterdir()} != {
        f"{split}.safetensors" for split in SPLITS
    }:
        raise DamagedError(f"The files of the dataset '{name}' that arrived are not those of a prepared dataset.")
    try:
        register_added(arrived)
        found = fingerprint(name, arrived) if name in DATASETS else None
    finally:
        register_added(folder)
    if found != expected:
        raise DamagedError(f"The dataset '{name}' that arrived does not have its fingerprint, so it was not kept.")
    if name in DATASETS and is_prepared(name, folder):
        return False
    with locked(name, folder, report):
        for split in SPLITS:
            target = folder / name / f"{split}.safetensors"
            if target.exists():
                return False
            (arrived / name / target.name).replace(target)
    register_added(folder)
    return True
