"""Data sets that users add, in memory and streamed, up to their batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datasets.added.added import register_added
from datasets.hparams import DatasetHparams
from datasets.loading.batches import Batch
from datasets.loading.loader import open_loader
from datasets.prepared import ensure_prepared, fingerprint
from datasets.registry import DATASETS
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from tests.datasets import published_files as made
from tests.datasets.loading import add, unnormalized


def arrays(
    count: int, classes: int = 3, side: int = 12, channels: int = 3, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    return made.images(count, channels, side, seed), np.arange(count) % classes


def batch_of_all(root: Path, name: str = "mine", split: str = "test", **hparams: Any) -> Batch:
    described = DatasetHparams(dataset_name=name, batch_size=10_000, **hparams)
    loader = open_loader(described, root / "datasets", workers=0)
    return next(loader.test_batches() if split == "test" else loader.train_batches(0))


def test_arrays_with_a_test_set_become_a_dataset(tmp_path: Path) -> None:
    train, test = arrays(30), arrays(9, seed=1)
    path = tmp_path / "arrays.npz"
    np.savez(path, train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1])

    lines = add(tmp_path, path, augmentation="pad4_crop_flip")

    spec = DATASETS.find("mine")
    assert (spec.num_train, spec.num_test, spec.num_classes, spec.input_shape) == (30, 9, 3, (3, 12, 12))
    assert spec.augmentation.spelling == "pad4_crop_flip"
    assert spec.mean == pytest.approx((train[0] / 255).mean(axis=(0, 2, 3)), abs=1e-4)
    assert spec.std == pytest.approx((train[0] / 255).std(axis=(0, 2, 3)), abs=1e-4)
    x, y = batch_of_all(tmp_path)
    np.testing.assert_array_equal(unnormalized(x).numpy(), test[0])
    assert y.tolist() == test[1].tolist()
    assert lines == ["added mine: 30 training and 9 test images, 3 classes"]


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_a_pair_of_arrays_is_split_in_ten(tmp_path: Path, layout: str) -> None:
    images, labels = arrays(40, channels=1 if layout == "NHW" else 3)
    stored = {"NHW": images[:, 0], "NHWC": images.transpose(0, 2, 3, 1), "NCHW": images}[layout]
    np.save(tmp_path / "images.npy", stored)
    np.save(tmp_path / "labels.npy", labels.astype(np.int32))

    add(tmp_path, tmp_path)

    (x, y), (train_x, train_y) = batch_of_all(tmp_path), batch_of_all(tmp_path, split="train")
    assert (len(y), len(train_y)) == (4, 36)
    together = np.concatenate([unnormalized(x).numpy(), unnormalized(train_x).numpy()])
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in images)


def test_folders_of_images_become_a_dataset(tmp_path: Path) -> None:
    train = made.write_image_folders(tmp_path / "pictures" / "train", ["cat", "dog"], 4, size=(20, 20), suffix="png")
    test = made.write_image_folders(tmp_path / "pictures" / "val", ["cat", "dog"], 2, (20, 20), seed=7, suffix="png")

    add(tmp_path, tmp_path / "pictures")

    x, y = batch_of_all(tmp_path)
    expected = np.stack([array.transpose(2, 0, 1) for array in test.values()])
    np.testing.assert_array_equal(unnormalized(x).numpy(), expected)
    assert y.tolist() == [0, 0, 1, 1]
    assert DATASETS.find("mine").num_train == len(train)


def test_folders_without_a_test_set_always_hold_out_the_same_tenth(tmp_path: Path) -> None:
    made.write_image_folders(tmp_path / "pictures", ["a", "b", "c"], 10, size=(8, 8), suffix="png")

    add(tmp_path, tmp_path / "pictures", "one")
    add(tmp_path, tmp_path / "pictures", "two")

    assert (DATASETS.find("one").num_train, DATASETS.find("one").num_test) == (27, 3)
    assert torch.equal(batch_of_all(tmp_path, "one")[0], batch_of_all(tmp_path, "two")[0])
    assert fingerprint("one", tmp_path / "datasets") == fingerprint("two", tmp_path / "datasets")


def test_images_of_several_sizes_need_a_size_and_are_resized_to_it(tmp_path: Path) -> None:
    made.write_image_folders(tmp_path / "pictures", ["a", "b"], 3, size=(20, 30), suffix="png")
    made.write_image_folders(tmp_path / "pictures", ["c"], 3, size=(40, 25), suffix="png")

    with pytest.raises(UsageError, match=r"^image_size: it is needed"):
        add(tmp_path, tmp_path / "pictures")
    add(tmp_path, tmp_path / "pictures", image_size=16)

    assert DATASETS.find("mine").input_shape == (3, 16, 16)


def test_an_added_dataset_is_known_to_another_process_through_its_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])
    add(tmp_path, tmp_path / "a.npz")
    known = vars(DATASETS.find("mine"))
    register_added(tmp_path / "another folder")
    with pytest.raises(UsageError, match="'mine' is not a valid value"):
        DATASETS.find("mine")

    register_added(tmp_path / "datasets")

    assert vars(DATASETS.find("mine")) == known
    assert DatasetHparams(dataset_name="mine", batch_size=4).normalized(1).iterations_per_epoch == 5


def test_a_damaged_added_dataset_is_not_known_or_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])
    add(tmp_path, tmp_path / "a.npz")
    path = tmp_path / "datasets" / "mine" / "test.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedError, match=str(path)):
        batch_of_all(tmp_path)

    path.unlink()
    with pytest.raises(EnvironmentFailure, match="datasets add mine PATH"):
        ensure_prepared("mine", tmp_path / "datasets", allow_download=True, report=print)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "'cifar10' is a dataset already"),
        ("../up", "cannot be the name of a dataset"),
        ("With Space", "cannot be the name of a dataset"),
        ("", "cannot be the name of a dataset"),
    ],
)
def test_names_that_are_taken_or_not_valid_are_refused(tmp_path: Path, name: str, message: str) -> None:
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])

    with pytest.raises(UsageError, match=message):
        add(tmp_path, tmp_path / "a.npz", name)


def test_a_dataset_is_not_replaced(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=arrays(20)[0], labels=arrays(20)[1])
    add(tmp_path, tmp_path / "a.npz")

    with pytest.raises(UsageError, match="There is a dataset 'mine' already"):
        add(tmp_path, tmp_path / "a.npz")


BAD_ARRAYS = [
    ({"images": np.zeros((4, 8, 8), np.float32), "labels": np.zeros(4, int)}, "must be uint8"),
    ({"images": np.zeros((4, 8, 8, 5), np.uint8), "labels": np.zeros(4, int)}, "neither 1 nor 3 channels"),
    ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(3, int)}, "must be integers"),
    ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(4)}, "must be integers"),
    ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.full(4, -1)}, "one class, '-1'"),
    ({"images": np.zeros((1, 8, 8), np.uint8), "labels": np.zeros(1, int)}, "one class, '0'"),
    ({"pictures": np.zeros((4, 8, 8), np.uint8)}, "holds the arrays pictures; it takes .* images and labels"),
]


@pytest.mark.parametrize(("content", "message"), BAD_ARRAYS)
def test_arrays_that_are_not_images_are_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **content)

    with pytest.raises(UsageError, match=message):
        add(tmp_path, tmp_path / "a.npz")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([print], dtype=object), allow_pickle=True)
    np.save(tmp_path / "labels.npy", np.zeros(1, int))

    with pytest.raises(UsageError, match="cannot be read"):
        add(tmp_path, tmp_path)


def test_a_path_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="no images in folders of two classes or more"):
        add(tmp_path, tmp_path / "empty")
    with pytest.raises(EnvironmentFailure, match="does not exist"):
        add(tmp_path, tmp_path / "nowhere")


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    written = made.write_image_folders(tmp_path / "pictures", ["a", "b"], 3, size=(8, 8))
    broken = next(iter(written))
    broken.write_bytes(broken.read_bytes()[:30])

    with pytest.raises(UsageError, match=broken.name):
        add(tmp_path, tmp_path / "pictures")


def test_streaming_needs_a_size_and_an_augmentation_that_suits(tmp_path: Path) -> None:
    made.write_image_folders(tmp_path / "p", ["a", "b"], 2, size=(8, 8))

    with pytest.raises(UsageError, match=r"^image_size: it is needed"):
        add(tmp_path, tmp_path / "p", in_memory=False)
    with pytest.raises(
        UsageError,
        match=r"^augmentation: 'pad4_crop_flip' .* [Cc]hoose from none, resized_crop_flip, resized_crop_jitter_flip, ",
    ):
        add(tmp_path, tmp_path / "p", in_memory=False, image_size=8, augmentation="pad4_crop_flip")
