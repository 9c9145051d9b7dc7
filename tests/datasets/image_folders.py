"""Folders of images for tests, and the result of adding them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets.prepared import read_header, split_path
from datasets.registry import DATASETS
from foundations.errors import UsageError
from tests.datasets import published_files as made
from tests.datasets.loading import add

STREAMED: dict[str, Any] = {"in_memory": False, "image_size": 12}


def write(path: Path, seed: int = 0, mode: str = "RGB", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(made.images(1, 3, 12, seed)[0].transpose(1, 2, 0)).convert(mode).save(path, **options)
    return path


def write_classes(folder: Path, count: int, classes: Sequence[str] = ("cat", "dog"), suffix: str = "png") -> Path:
    for number, name in enumerate(classes):
        for n in range(count):
            write(folder / name / f"{n}.{suffix}", seed=100 * number + n)
    return folder


def write_splits(root: Path, train: str = "train", test: str = "test", suffix: str = "png") -> Path:
    write_classes(root / train, 5, suffix=suffix)
    write_classes(root / test, 2, suffix=suffix)
    return root


def sizes(name: str = "mine") -> tuple[int, int, int]:
    spec = DATASETS.find(name)
    return spec.num_train, spec.num_test, spec.num_classes


def class_names(root: Path) -> list[str]:
    return read_header(split_path("mine", "train", root / "datasets")).metadata["class_names"].split(",")


def refusal(root: Path, path: Path, **options: Any) -> str:
    """Return the error of adding a folder, which must write nothing and take at most two lines."""
    with pytest.raises(UsageError) as error:
        add(root, path, **options)
    assert not list(root.rglob("*.safetensors"))
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)
