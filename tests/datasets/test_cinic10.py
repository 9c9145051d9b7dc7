import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.formats.source_files import Arrays, Index, Split
from datasets.sources.cinic10 import CINIC10
from foundations.errors import DamagedError, EnvironmentFailure
from tests.datasets import published_files as made
from tests.datasets.published_files import source_files

Parts = dict[str, dict[tuple[str, str], NDArray[Any]]]

CLASSES = ["airplane", "cat", "truck"]
PER_CLASS = {"train": 3, "valid": 2, "test": 2}


def write_parts(folder: Path, names: dict[str, str] | None = None) -> Parts:
    """Write the parts of a small CINIC-10; return {part: {(class, file name): picture}}."""
    written = {}
    for number, (part, per_class) in enumerate(PER_CLASS.items()):
        inside = folder / (names or {}).get(part, part)
        pictures = {}
        for label, name in enumerate(CLASSES):
            for n in range(per_class):
                path = inside / name / f"{'cifar10-' if n % 2 else 'n0'}{part}-{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pictures[name, path.name] = made.picture(32, 32, seed=1000 * number + 10 * label + n)
                path.write_bytes(made.jpeg(pictures[name, path.name], kind="PNG"))
        written[part] = pictures
    return written


def assert_split(split: Split | Index | Arrays, pictures: dict[tuple[str, str], NDArray[Any]]) -> None:
    assert isinstance(split, Split)
    ordered = sorted(pictures)
    assert split.class_names == tuple(CLASSES)
    assert split.labels.tolist() == [CLASSES.index(name) for name, _ in ordered]
    np.testing.assert_array_equal(split.images, [pictures[key].transpose(2, 0, 1) for key in ordered])


@pytest.mark.parametrize("folder", ["CINIC-10", "cinic10", "cinic10/CINIC-10"])
def test_training_is_on_the_training_and_the_validation_images(tmp_path: Path, folder: Path) -> None:
    parts = write_parts(tmp_path / folder)

    splits = CINIC10.read(source_files(tmp_path, "cinic10"))

    assert_split(splits["train"], parts["train"] | parts["valid"])
    assert_split(splits["test"], parts["test"])


def test_grasps_joined_folder_gives_the_same(tmp_path: Path) -> None:
    write_parts(tmp_path / "one" / "CINIC-10")
    write_parts(tmp_path / "other" / "cinic-10", {"train": "trainval", "valid": "trainval"})

    published_form, joined = (CINIC10.read(source_files(tmp_path / root, "cinic10")) for root in ("one", "other"))

    np.testing.assert_array_equal(published_form["train"].arrays()["images"], joined["train"].arrays()["images"])
    np.testing.assert_array_equal(published_form["train"].arrays()["labels"], joined["train"].arrays()["labels"])


def write_archive(root: Path, elsewhere: Path) -> Parts:
    parts = write_parts(elsewhere)
    root.mkdir()
    with tarfile.open(root / "CINIC-10.tar.gz", "w:gz") as archive:
        for part in reversed(PER_CLASS):
            archive.add(elsewhere / part, part)
    return parts


def test_the_archive_is_read_without_unpacking(tmp_path: Path) -> None:
    parts = write_archive(tmp_path / "root", tmp_path / "elsewhere")

    splits = CINIC10.read(source_files(tmp_path / "root", "cinic10"))

    assert_split(splits["train"], parts["train"] | parts["valid"])
    assert_split(splits["test"], parts["test"])


@pytest.mark.parametrize("cut", [0, 10, 2000])
def test_a_truncated_archive_is_named(tmp_path: Path, cut: int) -> None:
    write_archive(tmp_path / "root", tmp_path / "elsewhere")
    path = tmp_path / "root" / "CINIC-10.tar.gz"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DamagedError, match=r"CINIC-10\.tar\.gz"):
        CINIC10.read(source_files(tmp_path / "root", "cinic10"))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path / "CINIC-10")
    path = next((tmp_path / "CINIC-10" / "valid" / "cat").iterdir())
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(DamagedError, match=path.name):
        CINIC10.read(source_files(tmp_path, "cinic10"))


def test_images_of_another_size_and_parts_without_images_are_refused(tmp_path: Path) -> None:
    write_parts(tmp_path / "CINIC-10")
    (tmp_path / "CINIC-10" / "test" / "cat" / "large.png").write_bytes(made.jpeg(made.picture(40, 32), kind="PNG"))
    with pytest.raises(DamagedError, match=r"large\.png"):
        CINIC10.read(source_files(tmp_path, "cinic10"))

    (tmp_path / "other" / "CINIC-10" / "test").mkdir(parents=True)
    with pytest.raises(DamagedError, match="0 images for train"):
        CINIC10.read(source_files(tmp_path / "other", "cinic10"))


def test_missing_files_name_the_places(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"CINIC-10\.tar\.gz"):
        CINIC10.read(source_files(tmp_path, "cinic10"))
