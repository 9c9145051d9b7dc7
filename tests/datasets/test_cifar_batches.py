"""CIFAR-10 and CIFAR-100, on small files in the published formats."""

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.sources.cifar10 import CIFAR10
from datasets.sources.cifar100 import CIFAR100
from foundations.errors import DamagedError, EnvironmentFailure
from tests.datasets import published_files as made
from tests.datasets.published_files import assert_split, part, source_files

TEN = [f"class {i}" for i in range(10)]


def cifar10_batches() -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    return {**{f"data_batch_{i}": part(4, seed=i) for i in range(1, 6)}, "test_batch": part(3, seed=9)}


def joined(batches: dict[str, tuple[NDArray[Any], NDArray[Any]]], names: list[str]) -> tuple[NDArray[Any], ...]:
    return tuple(np.concatenate([batches[name][column] for name in names]) for column in (0, 1))


TRAIN_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def test_cifar10_is_read_from_the_python_version(tmp_path: Path) -> None:
    batches = cifar10_batches()
    made.write_cifar_python(
        tmp_path / "cifar-10-batches-py", batches, ("batches.meta", "label_names", TEN), label_field="labels"
    )

    splits = CIFAR10.read(source_files(tmp_path))

    assert_split(splits["train"], joined(batches, TRAIN_BATCHES))
    assert_split(splits["test"], batches["test_batch"])
    assert splits["test"].class_names == tuple(TEN)


def test_cifar10_is_read_from_the_archive_without_unpacking_it(tmp_path: Path) -> None:
    batches = cifar10_batches()
    folder = tmp_path / "elsewhere" / "cifar-10-batches-py"
    made.write_cifar_python(folder, batches, ("batches.meta", "label_names", TEN), label_field="labels")
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-10-batches-py")

    splits = CIFAR10.read(source_files(root))

    assert_split(splits["train"], joined(batches, TRAIN_BATCHES))
    assert [path.name for path in root.iterdir()] == ["cifar-10-python.tar.gz"]


def test_cifar10_is_read_from_the_binary_version(tmp_path: Path) -> None:
    batches = cifar10_batches()
    binary = {f"{name}.bin": (x, [y]) for name, (x, y) in batches.items()}
    made.write_cifar_binary(
        tmp_path / "cifar-10-batches-bin", binary, ("batches.meta.txt", [n.replace(" ", "_") for n in TEN])
    )

    splits = CIFAR10.read(source_files(tmp_path))

    assert_split(splits["train"], joined(batches, TRAIN_BATCHES))
    assert_split(splits["test"], batches["test_batch"])


def test_cifar100_has_fine_labels_in_both_versions(tmp_path: Path) -> None:
    train, test = part(6, classes=100), part(4, classes=100, seed=3)
    names = [f"fine{i}" for i in range(100)]
    made.write_cifar_python(
        tmp_path / "a" / "cifar-100-python",
        {"train": train, "test": test},
        ("meta", "fine_label_names", names),
        label_field="fine_labels",
    )
    coarse = np.zeros(10, np.uint8)
    made.write_cifar_binary(
        tmp_path / "b" / "cifar-100-binary",
        {"train.bin": (train[0], [coarse[:6], train[1]]), "test.bin": (test[0], [coarse[:4], test[1]])},
        ("fine_label_names.txt", names),
    )

    for root in (tmp_path / "a", tmp_path / "b"):
        splits = CIFAR100.read(source_files(root))
        assert_split(splits["train"], train)
        assert_split(splits["test"], test)
        assert splits["train"].class_names == tuple(names)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "written by the pickle"), "w"))

    folder = tmp_path / "cifar-10-batches-py"
    made.write_cifar_python(folder, cifar10_batches(), ("batches.meta", "label_names", TEN), label_field="labels")
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Harmful(), "labels": []}))

    with pytest.raises(DamagedError, match="data_batch_3"):
        CIFAR10.read(source_files(tmp_path))
    assert not (tmp_path / "written by the pickle").exists()


@pytest.mark.parametrize("batch", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_truncated_or_missing_cifar_batch_is_named(tmp_path: Path, batch: str) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    made.write_cifar_python(folder, cifar10_batches(), ("batches.meta", "label_names", TEN), label_field="labels")
    (folder / batch).write_bytes((folder / batch).read_bytes()[:40])
    with pytest.raises(DamagedError, match=batch):
        CIFAR10.read(source_files(tmp_path))

    (folder / batch).unlink()
    with pytest.raises(DamagedError, match=batch):
        CIFAR10.read(source_files(tmp_path))


def test_a_cifar_batch_with_too_few_labels_is_refused(tmp_path: Path) -> None:
    batches = cifar10_batches()
    batches["data_batch_1"] = (batches["data_batch_1"][0], np.array([1]))
    made.write_cifar_python(
        tmp_path / "cifar-10-batches-py", batches, ("batches.meta", "label_names", TEN), label_field="labels"
    )

    with pytest.raises(DamagedError, match="one label for each image"):
        CIFAR10.read(source_files(tmp_path))


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b\x08 not really gzip")

    with pytest.raises(DamagedError, match=r"cifar-10-python\.tar\.gz"):
        CIFAR10.read(source_files(tmp_path))


def test_missing_files_without_permission_to_download_name_the_places_in_three_lines(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        CIFAR10.read(source_files(tmp_path, "cifar10"))

    message = str(caught.value)
    assert str(tmp_path) in message
    assert str(tmp_path / "cifar10") in message
    assert "cifar-10-batches-py" in message
    assert "forbidden" in message
    assert len(message.splitlines()) <= 3
