"""MNIST and Fashion-MNIST, on small files in the idx format."""

from pathlib import Path

import pytest

from datasets.sources.fashion_mnist import FASHION_MNIST
from datasets.sources.mnist import MNIST
from foundations.errors import DamagedError
from tests.datasets import published_files as made
from tests.datasets.published_files import assert_split, part, source_files


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", [".", "mnist"])
def test_mnist_is_read_where_torchvision_or_openlth_put_it(tmp_path: Path, suffix: str, place: str) -> None:
    train, test = part(6, 1, 28), part(4, 1, 28, seed=5)
    made.write_mnist(tmp_path / place, train, test, suffix)

    splits = MNIST.read(source_files(tmp_path, "mnist"))

    assert_split(splits["train"], train)
    assert_split(splits["test"], test)
    assert splits["train"].class_names == tuple("0123456789")


@pytest.mark.parametrize("cut", [0, 3, 10, 100])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_truncated_idx_file_is_named(tmp_path: Path, cut: int, suffix: str) -> None:
    made.write_mnist(tmp_path, part(6, 1, 28), part(4, 1, 28), suffix)
    path = tmp_path / "MNIST" / "raw" / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DamagedError, match=path.name):
        MNIST.read(source_files(tmp_path))


def test_fashion_mnist_is_read_from_its_own_folder(tmp_path: Path) -> None:
    train, test = part(6, 1, 28), part(4, 1, 28, seed=5)
    made.write_mnist(tmp_path, train, test, ".gz", folder="FashionMNIST")

    splits = FASHION_MNIST.read(source_files(tmp_path))

    assert_split(splits["train"], train)
    assert_split(splits["test"], test)
    assert splits["test"].class_names[0] == "T-shirt/top"
