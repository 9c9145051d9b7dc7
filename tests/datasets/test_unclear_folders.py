"""Folders of images with ambiguous splits or classes: refused with a message."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.image_folders import STREAMED, refusal, write, write_classes


def flat_splits(path: Path) -> None:
    write(path / "train" / "0.png")
    write(path / "test" / "0.png")


def flat_training_images(path: Path) -> None:
    write(path / "train" / "0.png")
    write_classes(path / "test", 2)


def a_flat_test_set(path: Path) -> None:
    write_classes(path / "train", 5)
    write(path / "test" / "0.png")


def an_empty_test_set(path: Path) -> None:
    write_classes(path / "train", 5)
    (path / "test").mkdir()


def an_empty_training_set(path: Path) -> None:
    (path / "train").mkdir(parents=True)
    write_classes(path / "test", 5)


def classes_around_splits(path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write(path / name / split / "0.png")


def flat_images(path: Path) -> None:
    write(path / "0.png")


def one_class(path: Path) -> None:
    write_classes(path, 5, ["cat"])


def one_class_in_training(path: Path) -> None:
    write_classes(path / "train", 5, ["cat"])
    write_classes(path / "test", 5, ["cat"])


def images_and_a_table(path: Path) -> None:
    write(path / "images" / "0.png")
    (path / "labels.csv").write_text("0.png,cat")


def a_table_of_training_labels(path: Path) -> None:
    write(path / "train" / "0.png")
    (path / "train.csv").write_text("0.png,cat")


def an_archive_of_arrays(path: Path) -> None:
    path.mkdir()
    np.savez(path / "mnist.npz", x_train=np.zeros(3))


def two_training_sets(path: Path) -> None:
    write_classes(path / "train_1", 5)
    write_classes(path / "train_2", 5)


def a_test_set_alone(path: Path) -> None:
    write_classes(path / "validation", 5)
    write_classes(path / "testing", 5)


def a_test_set_beside_the_classes(path: Path) -> None:
    write_classes(path, 5)
    write_classes(path / "test", 5)


def a_flat_test_set_beside_the_classes(path: Path) -> None:
    write_classes(path, 5)
    write(path / "test" / "0.png")


def images_of_an_unknown_format(path: Path) -> None:
    for name in ("cat", "dog"):
        (path / name).mkdir(parents=True)
        (path / name / "0.heic").write_bytes(b"x")


def one_image_of_a_class(path: Path) -> None:
    write_classes(path, 30, ["cat", "dog"])
    write_classes(path, 1, ["emu"])


def nothing(path: Path) -> None:
    path.mkdir()


REFUSED = [
    (flat_splits, "train .*1 are in no class folder, such as '0.png'"),
    (flat_training_images, "train .*in no class folder"),
    (a_flat_test_set, "test .*in no class folder"),
    (an_empty_test_set, "test holds no images"),
    (an_empty_training_set, "train holds no images"),
    (classes_around_splits, "cat holds folders for training and for testing"),
    (flat_images, "in no class folder, such as '0.png'"),
    (one_class, "only of 'cat'"),
    (one_class_in_training, "only of 'cat'"),
    (images_and_a_table, "--target=COLUMN for the labels in labels.csv"),
    (a_table_of_training_labels, "--target=COLUMN for the labels in train.csv"),
    (an_archive_of_arrays, "such as .*mnist.npz"),
    (two_training_sets, r"several folders of training images \(train_1, train_2\)"),
    (a_test_set_alone, "no folder train beside testing, validation"),
    (a_test_set_beside_the_classes, "no folder train beside test"),
    (a_flat_test_set_beside_the_classes, "no folder train beside test"),
    (images_of_an_unknown_format, "2 .heic"),
    (one_image_of_a_class, "'emu' has a single example"),
    (nothing, "no images"),
]


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
@pytest.mark.parametrize(("arrange", "message"), REFUSED, ids=[arrange.__name__ for arrange, _ in REFUSED])
def test_folders_that_are_not_clear_are_refused(
    tmp_path: Path, arrange: Any, message: str, options: dict[str, Any]
) -> None:
    arrange(tmp_path / "in")

    assert re.search(message, refusal(tmp_path, tmp_path / "in", **options))


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz", "set.h5", "images.npy", "0.png"])
def test_a_file_that_is_no_dataset_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")

    assert "is a file of another kind" in refusal(tmp_path, tmp_path / name)
    assert "is a file of another kind" in refusal(tmp_path, tmp_path / name, **STREAMED)


def test_a_class_that_links_to_its_own_dataset_is_refused(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "in", 9)
    (path / "all").symlink_to(path)

    assert "link to a folder that contains it" in refusal(tmp_path, path)


def test_a_name_that_is_not_in_unicode_is_refused_as_a_class(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "in", 9)
    os.rename(path / "cat", os.fsencode(path) + b"/\xe9")  # noqa: PTH104

    assert "cannot be the name of a class" in refusal(tmp_path, path)
