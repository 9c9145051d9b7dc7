import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.formats.source_files import Arrays, Index, Split
from datasets.sources.tinyimagenet import TINYIMAGENET
from foundations.errors import DamagedError, EnvironmentFailure
from tests.datasets import published_files as made
from tests.datasets.published_files import source_files

Pictures = dict[str, tuple[NDArray[Any], str]]

WNIDS = ["n03", "n01", "n02"]


def write_tree(root: Path, sorted_validation: bool = False) -> tuple[Pictures, Pictures]:
    """Write a small `tiny-imagenet-200`; return the pictures and wnids of both parts by the names of their files."""
    folder = root / "tiny-imagenet-200"
    train = made.write_image_folders(folder / "train", WNIDS, 2, inside="images")
    validation, lines = {}, []
    for n, wnid in enumerate(["n02", "n03", "n02", "n01"]):
        array = made.picture(64, 64, seed=1000 + n)
        path = folder / "val" / (f"{wnid}/images" if sorted_validation else "images") / f"val_{n}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.jpeg(array))
        validation[path.name] = (array, wnid)
        lines.append(f"{path.name}\t{wnid}\t0\t32\t44\t62\n")
    if not sorted_validation:
        (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    return {path.name: (array, path.name.split("_")[0]) for path, array in train.items()}, validation


def assert_split(split: Split | Index | Arrays, expected: Pictures) -> None:
    assert isinstance(split, Split)
    order = ["n01", "n02", "n03"]
    pictures = dict(expected)
    assert split.class_names == tuple(order)
    assert sorted(split.labels.tolist()) == sorted(order.index(wnid) for _, wnid in pictures.values())
    for image, label in zip(split.images, split.labels, strict=True):
        close = [
            wnid for array, wnid in pictures.values() if np.abs(array.transpose(2, 0, 1) - image.astype(int)).mean() < 3
        ]
        assert close == [order[label]]


@pytest.mark.parametrize("sorted_validation", [False, True])
def test_the_unpacked_tree_is_read_with_the_labels_of_its_annotations(tmp_path: Path, sorted_validation: bool) -> None:
    train, validation = write_tree(tmp_path, sorted_validation)

    splits = TINYIMAGENET.read(source_files(tmp_path, "tinyimagenet"))

    assert_split(splits["train"], train)
    assert_split(splits["test"], validation)


def test_the_archive_is_read_without_unpacking(tmp_path: Path) -> None:
    train, validation = write_tree(tmp_path / "elsewhere")
    root = tmp_path / "root"
    root.mkdir()
    with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w") as archive:
        for path in sorted((tmp_path / "elsewhere").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "elsewhere"))

    splits = TINYIMAGENET.read(source_files(root, "tinyimagenet"))

    assert_split(splits["train"], train)
    assert_split(splits["test"], validation)
    assert len(list(root.iterdir())) == 1


def test_grey_images_are_read_as_colour(tmp_path: Path) -> None:
    write_tree(tmp_path)
    grey = made.picture(64, 64)[:, :, 0]
    (tmp_path / "tiny-imagenet-200" / "train" / "n01" / "images" / "n01_0.JPEG").write_bytes(made.jpeg(grey))

    image = TINYIMAGENET.read(source_files(tmp_path, "tinyimagenet"))["train"].arrays()["images"][0]

    assert (image[0] == image[1]).all()
    assert np.abs(image[0].astype(int) - grey).mean() < 3


@pytest.mark.parametrize("cut", [0, 200])
def test_a_truncated_image_is_named(tmp_path: Path, cut: int) -> None:
    write_tree(tmp_path)
    path = tmp_path / "tiny-imagenet-200" / "train" / "n02" / "images" / "n02_1.JPEG"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DamagedError, match=r"n02_1\.JPEG"):
        TINYIMAGENET.read(source_files(tmp_path, "tinyimagenet"))


def test_an_annotation_without_its_image_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "tiny-imagenet-200" / "val" / "images" / "val_2.JPEG").unlink()

    with pytest.raises(DamagedError, match=r"val_2\.JPEG"):
        TINYIMAGENET.read(source_files(tmp_path, "tinyimagenet"))


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"PK\x03\x04 and no more")

    with pytest.raises(DamagedError, match=r"tiny-imagenet-200\.zip"):
        TINYIMAGENET.read(source_files(tmp_path, "tinyimagenet"))


def test_missing_files_name_the_places(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=str(tmp_path / "tinyimagenet")):
        TINYIMAGENET.read(source_files(tmp_path, "tinyimagenet"))
