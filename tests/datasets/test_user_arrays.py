"""Arrays that users bring, by any usual names and with any labels: read rightly, or refused in words."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.prepared import fingerprint, load_split, read_header, split_path
from datasets.registry import DATASETS
from foundations.errors import UsageError
from tests.datasets import published_files as made
from tests.datasets.loading import add

X = made.images(60, 3, 12)
Y = np.repeat(np.arange(3), 20)
FOUR: dict[str, Any] = {"train_images": X, "train_labels": Y, "test_images": X[::4], "test_labels": Y[::4]}


def add_arrays(root: Path, name: str = "mine", **arrays: Any) -> list[str]:
    np.savez(root / f"{name}.npz", **arrays)
    return add(root, root / f"{name}.npz", name)


def refusal(root: Path, **arrays: Any) -> str:
    """Return the error of adding arrays, which must write nothing."""
    with pytest.raises(UsageError) as error:
        add_arrays(root, **arrays)
    assert not list(root.rglob("*.safetensors"))
    return str(error.value)


def class_names(root: Path, name: str = "mine") -> list[str]:
    return read_header(split_path(name, "train", root / "datasets")).metadata["class_names"].split(",")


def labels(root: Path) -> list[int]:
    """Return the labels of the training set and the test set."""
    return [label for split in ("train", "test") for label in load_split("mine", split, root / "datasets")[1].tolist()]


def test_labels_from_zero_give_the_same_dataset_as_ever(tmp_path: Path) -> None:
    add_arrays(tmp_path, "pair", images=X, labels=Y)
    add_arrays(tmp_path, "four", train_images=X, train_labels=Y, test_images=X[:9], test_labels=Y[:9])

    assert [fingerprint(name, tmp_path / "datasets") for name in ("pair", "four")] == [
        "1c211a54f5f554f1bbe084e1905b75db9f82289677e01ec97bf61d642dd74139",
        "8e218697a50c784eba4e6e12f058b46fd1253d79ccc7b6d53fe622c68fd76e7a",
    ]
    assert class_names(tmp_path, "pair") == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (Y + 1, ["1", "2", "3"]),
        (np.where(Y == 0, 0, 7), ["0", "7"]),
        (np.where(Y == 0, 1, -1), ["-1", "1"]),
        (Y == 1, ["False", "True"]),
        (Y.astype(np.uint8), ["0", "1", "2"]),
        (Y + 9_876_543_210, ["9876543210", "9876543211", "9876543212"]),
        (Y.astype(np.uint64) + np.uint64(2**63), [str(2**63 + number) for number in range(3)]),
        (np.array(["cat", "dog", "猫"])[Y], ["cat", "dog", "猫"]),
        (np.array([b"cat", b"dog", b"emu"])[Y], ["cat", "dog", "emu"]),
    ],
)
@pytest.mark.parametrize("is_column", [False, True])
def test_the_values_of_labels_are_the_names_of_the_classes(
    tmp_path: Path, given: NDArray[Any], names: list[str], is_column: bool
) -> None:
    shown = [value.decode() if isinstance(value, bytes) else str(value) for value in given.tolist()]
    given = given[:, None] if is_column else given

    add_arrays(tmp_path, train_images=X, train_labels=given, test_images=X[::4], test_labels=given[::4])

    assert DATASETS.find("mine").num_classes == len(names)
    assert class_names(tmp_path) == names
    assert [names[label] for label in labels(tmp_path)] == shown + shown[::4]


def test_a_pair_with_labels_from_one_is_split_like_one_from_zero(tmp_path: Path) -> None:
    add_arrays(tmp_path, "zero", images=X, labels=Y)
    add_arrays(tmp_path, "one", images=X, labels=Y + 1)

    assert fingerprint("one", tmp_path / "datasets") == fingerprint("zero", tmp_path / "datasets")


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_val", "y_val"),
        ("xtrain", "ytrain", "xtest", "ytest"),
        ("trainX", "trainY", "testX", "testY"),
        ("train_x", "train_y", "dev_x", "dev_y"),
        ("trainImages", "trainLabels", "testImages", "testLabels"),
        ("images_train", "labels_train", "images_test", "labels_test"),
        ("train_data", "train_targets", "valid_data", "valid_targets"),
        ("x", "y"),
        ("data", "target"),
        ("train_images", "train_labels"),
    ],
)
@pytest.mark.parametrize("is_file", [True, False])
def test_arrays_are_known_by_their_usual_names(tmp_path: Path, names: tuple[str, ...], is_file: bool) -> None:
    arrays: dict[str, Any] = dict(zip(names, (X, Y[:, None], X[::4], Y[::4]), strict=False))
    if is_file:
        add_arrays(tmp_path, **arrays)
    else:
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        add(tmp_path, tmp_path)

    spec = DATASETS.find("mine")
    assert (spec.num_train, spec.num_test) == ((60, 15) if len(names) == 4 else (54, 6))
    assert class_names(tmp_path) == ["0", "1", "2"]


def test_arrays_that_are_not_read_are_named(tmp_path: Path) -> None:
    lines = add_arrays(tmp_path, **FOUR, val_images=X, val_labels=Y, class_names=np.array(["a", "b", "c"]))

    assert "not read: class_names, val_images, val_labels" in lines
    assert DATASETS.find("mine").num_test == 15


def test_a_class_that_the_test_arrays_lack_is_named(tmp_path: Path) -> None:
    lines = add_arrays(tmp_path, **{**FOUR, "test_labels": Y[::4] % 2})

    assert "the test set holds no examples of '2'" in lines


def test_images_that_could_have_channels_first_or_last_are_read_as_first_with_a_word(tmp_path: Path) -> None:
    lines = add_arrays(tmp_path, **{**FOUR, "train_images": X[:, :, :3, :3], "test_images": X[::4, :, :3, :3]})

    assert sum("read as (N, C, H, W)" in line for line in lines) == 2
    np.testing.assert_array_equal(load_split("mine", "train", tmp_path / "datasets")[0].numpy(), X[:, :, :3, :3])


def test_arrays_beside_class_folders_are_skipped_as_files(tmp_path: Path) -> None:
    made.write_image_folders(tmp_path / "in", ["a", "b"], 9, size=(8, 8), suffix="png")
    np.save(tmp_path / "in" / "mean.npy", np.zeros(3))

    lines = add(tmp_path, tmp_path / "in")

    assert "skipped 1 file: 1 .npy" in lines


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"test_labels": Y[::4] + 2}, "test labels '3', '4' are none of the training labels"),
    ({"train_labels": Y * 0, "test_labels": Y[::4] * 0}, "one class, '0'"),
    ({"train_labels": Y.astype(float)}, r"train_labels are float64 .*labels.astype\('int64'\)"),
    ({"train_labels": np.eye(3, dtype=int)[Y]}, r"labels.argmax\(1\)"),
    ({"train_labels": Y[:50]}, r"must be integers \(60,\)"),
    ({"train_labels": Y.astype(object)}, "train_labels.*Python objects; save .* dtype=str"),
    ({"train_labels": np.array(["a,b", "c", "d"])[Y], "test_labels": np.array(["c"] * 15)}, "'a,b' cannot be the name"),
    ({"train_labels": np.array(["a\x1b", "c", "d"])[Y], "test_labels": np.array(["c"] * 15)}, "cannot be the name"),
    ({"train_images": (X / 255).astype(np.float32)}, r"train_images are float32 .*\(images \* 255\)"),
    ({"train_images": X.astype(np.int64)}, r"images.astype\('uint8'\)"),
    ({"train_images": X - 128.0}, r"uint8 .*These run from -128 to 127"),
    ({"train_images": X > 128}, r"bool .*\(images \* 255\)"),
    ({"train_images": X.astype(object)}, "train_images.*cannot be read"),
    ({"train_images": np.full((60, 8, 8, 4), 7, np.uint8)}, r"images\[\.\.\., :3\]"),
    ({"train_images": X.reshape(60, -1)}, r"uint8 \(60, 432\); .*N, H, W"),
    ({"train_images": X[:, :, :0]}, "no pixels"),
    ({"train_images": X[:, :, :8]}, r"differ in shape: \(3, 8, 12\) and \(3, 12, 12\)"),
    ({"test_labels": None}, "lacks the other half of test_images"),
    ({"train_labels": None}, "lacks the other half of train_images"),
    ({"train_images": None, "train_labels": None}, "lacks training images and labels"),
    ({"x_train": X}, "train_images and x_train could both be the images"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_arrays_that_are_not_images_and_labels_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    arrays = {name: array for name, array in {**FOUR, **changes}.items() if array is not None}

    assert re.search(message, refusal(tmp_path, **arrays))


def test_a_class_with_one_example_is_refused_where_a_test_set_is_held_out(tmp_path: Path) -> None:
    given = np.array([*Y[:-1], 10])

    assert "'10' has a single example" in refusal(tmp_path, images=X, labels=given)


def test_where_a_random_tenth_misses_a_class_an_example_of_it_is_held_out(tmp_path: Path) -> None:
    add_arrays(tmp_path, images=X, labels=np.arange(60) % 3)

    for split, count in (("train", 54), ("test", 6)):
        found = load_split("mine", split, tmp_path / "datasets")[1]
        assert len(found) == count and found.unique().tolist() == [0, 1, 2]


def test_more_classes_than_a_header_holds_are_refused(tmp_path: Path) -> None:
    given = np.arange(150_000) + 10**9

    error = refusal(tmp_path, images=np.zeros((150_000, 1, 1), np.uint8), labels=given)

    assert "150,000 classes are too many" in error


def test_names_that_mean_nothing_are_refused_with_those_that_do(tmp_path: Path) -> None:
    error = refusal(tmp_path, arr_0=X, arr_1=Y)

    assert "arr_0, arr_1" in error
    assert all(name in error for name in ("train_images", "x_train", "images and labels"))


def test_arrays_cannot_be_streamed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **FOUR)

    with pytest.raises(UsageError, match=r"a\.npz holds arrays, which are read into memory"):
        add(tmp_path, tmp_path / "a.npz", in_memory=False, image_size=12)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 truncated"])
def test_a_file_that_is_no_archive_is_not_called_an_array_of_objects(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)

    with pytest.raises(UsageError, match=r"a\.npz is not a whole \.npz file"):
        add(tmp_path, tmp_path / "a.npz")


@pytest.mark.parametrize("array", [np.zeros((9, 4), np.complex64), np.zeros(9), np.zeros((9, 2, 3), np.int32)])
def test_arrays_that_no_reader_takes_are_refused_with_all_that_are_read(tmp_path: Path, array: NDArray[Any]) -> None:
    np.savez(tmp_path / "a.npz", x=array, y=np.arange(9) % 2)

    with pytest.raises(UsageError, match=r"vectors are numbers \(N, F\), series floats \(N, C, T\); images must be"):
        add(tmp_path, tmp_path / "a.npz")
