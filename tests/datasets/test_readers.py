"""Readers of published files, on small files in the published formats."""

import pickle
import tarfile

import numpy as np
import pytest

from datasets import cifar, digits, mnist, svhn
from datasets.matlab import read_mat
from datasets.published import Published
from foundations.errors import DamagedError, EnvironmentFailure
from tests.datasets import published_files as made

TEN = [f"class {i}" for i in range(10)]


def published(root, name="set"):
    return Published(name, root, allow_download=False, report=lambda _: None)


def part(count, channels=3, side=32, classes=10, seed=0):
    return made.images(count, channels, side, seed), made.labels(count, classes, seed)


def assert_split(split, expected):
    x, y = expected
    assert split.images.dtype == np.uint8
    assert split.labels.dtype == np.int64
    np.testing.assert_array_equal(split.images, x)
    np.testing.assert_array_equal(split.labels, y)


def cifar10_batches():
    return {**{f"data_batch_{i}": part(4, seed=i) for i in range(1, 6)}, "test_batch": part(3, seed=9)}


def joined(batches, names):
    return tuple(np.concatenate([batches[name][column] for name in names]) for column in (0, 1))


TRAIN_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", [".", "mnist"])
def test_mnist_is_read_where_torchvision_or_openlth_put_it(tmp_path, suffix, place):
    train, test = part(6, 1, 28), part(4, 1, 28, seed=5)
    made.write_mnist(tmp_path / place, train, test, suffix)

    splits = mnist.read_mnist(published(tmp_path, "mnist"))

    assert_split(splits["train"], train)
    assert_split(splits["test"], test)
    assert splits["train"].class_names == tuple("0123456789")


@pytest.mark.parametrize("cut", [0, 3, 10, 100])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_truncated_idx_file_is_named(tmp_path, cut, suffix):
    made.write_mnist(tmp_path, part(6, 1, 28), part(4, 1, 28), suffix)
    path = tmp_path / "MNIST" / "raw" / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DamagedError, match=path.name):
        mnist.read_mnist(published(tmp_path))


def test_cifar10_is_read_from_the_python_version(tmp_path):
    batches = cifar10_batches()
    made.write_cifar_python(
        tmp_path / "cifar-10-batches-py", batches, ("batches.meta", "label_names", TEN), label_field="labels"
    )

    splits = cifar.read_cifar10(published(tmp_path))

    assert_split(splits["train"], joined(batches, TRAIN_BATCHES))
    assert_split(splits["test"], batches["test_batch"])
    assert splits["test"].class_names == tuple(TEN)


def test_cifar10_is_read_from_the_archive_without_unpacking_it(tmp_path):
    batches = cifar10_batches()
    folder = tmp_path / "elsewhere" / "cifar-10-batches-py"
    made.write_cifar_python(folder, batches, ("batches.meta", "label_names", TEN), label_field="labels")
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-10-batches-py")

    splits = cifar.read_cifar10(published(root))

    assert_split(splits["train"], joined(batches, TRAIN_BATCHES))
    assert [path.name for path in root.iterdir()] == ["cifar-10-python.tar.gz"]


def test_cifar10_is_read_from_the_binary_version(tmp_path):
    batches = cifar10_batches()
    binary = {f"{name}.bin": (x, [y]) for name, (x, y) in batches.items()}
    made.write_cifar_binary(
        tmp_path / "cifar-10-batches-bin", binary, ("batches.meta.txt", [n.replace(" ", "_") for n in TEN])
    )

    splits = cifar.read_cifar10(published(tmp_path))

    assert_split(splits["train"], joined(batches, TRAIN_BATCHES))
    assert_split(splits["test"], batches["test_batch"])


def test_cifar100_has_fine_labels_in_both_versions(tmp_path):
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
        splits = cifar.read_cifar100(published(root))
        assert_split(splits["train"], train)
        assert_split(splits["test"], test)
        assert splits["train"].class_names == tuple(names)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "written by the pickle"), "w"))

    folder = tmp_path / "cifar-10-batches-py"
    made.write_cifar_python(folder, cifar10_batches(), ("batches.meta", "label_names", TEN), label_field="labels")
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Harmful(), "labels": []}))

    with pytest.raises(DamagedError, match="data_batch_3"):
        cifar.read_cifar10(published(tmp_path))
    assert not (tmp_path / "written by the pickle").exists()


@pytest.mark.parametrize("batch", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_truncated_or_missing_cifar_batch_is_named(tmp_path, batch):
    folder = tmp_path / "cifar-10-batches-py"
    made.write_cifar_python(folder, cifar10_batches(), ("batches.meta", "label_names", TEN), label_field="labels")
    (folder / batch).write_bytes((folder / batch).read_bytes()[:40])
    with pytest.raises(DamagedError, match=batch):
        cifar.read_cifar10(published(tmp_path))

    (folder / batch).unlink()
    with pytest.raises(DamagedError, match=batch):
        cifar.read_cifar10(published(tmp_path))


def test_a_cifar_batch_with_too_few_labels_is_refused(tmp_path):
    batches = cifar10_batches()
    batches["data_batch_1"] = (batches["data_batch_1"][0], [1])
    made.write_cifar_python(
        tmp_path / "cifar-10-batches-py", batches, ("batches.meta", "label_names", TEN), label_field="labels"
    )

    with pytest.raises(DamagedError, match="one label for each image"):
        cifar.read_cifar10(published(tmp_path))


def test_a_truncated_archive_is_named(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b\x08 not really gzip")

    with pytest.raises(DamagedError, match=r"cifar-10-python\.tar\.gz"):
        cifar.read_cifar10(published(tmp_path))


def test_svhn_is_read_from_matlab_files_with_zero_as_zero(tmp_path):
    train, test = part(6), part(4, seed=7)
    train[1][0] = 0
    made.write_svhn(tmp_path / "train_32x32.mat", *train)
    made.write_svhn(tmp_path / "test_32x32.mat", *test)

    splits = svhn.read(published(tmp_path))

    assert_split(splits["train"], train)
    assert_split(splits["test"], test)


def test_matlab_matrices_are_read_compressed_or_not_and_of_any_number(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "bcd": np.linspace(0, 1, 4).reshape(4, 1)}
    for compressed in (True, False):
        made.write_mat(tmp_path / "file.mat", arrays, compressed)

        content = read_mat(tmp_path / "file.mat")

        assert list(content) == ["a", "bcd"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(content[name], array)


def test_svhn_with_extra_has_the_extra_images_after_the_others(tmp_path):
    train, extra, test = part(4), part(5, seed=3), part(2, seed=7)
    for name, content in (("train", train), ("extra", extra), ("test", test)):
        made.write_svhn(tmp_path / f"{name}_32x32.mat", *content)

    splits = svhn.read_with_extra(published(tmp_path))

    assert_split(splits["train"], tuple(np.concatenate(both) for both in zip(train, extra, strict=True)))
    assert_split(splits["test"], test)


def test_fashion_mnist_is_read_from_its_own_folder(tmp_path):
    train, test = part(6, 1, 28), part(4, 1, 28, seed=5)
    made.write_mnist(tmp_path, train, test, ".gz", folder="FashionMNIST")

    splits = mnist.read_fashion_mnist(published(tmp_path))

    assert_split(splits["train"], train)
    assert_split(splits["test"], test)
    assert splits["test"].class_names[0] == "T-shirt/top"


def test_matlab_structures_and_texts_are_read(tmp_path):
    rows = [{"ILSVRC2012_ID": 7, "WNID": "n01440764"}, {"ILSVRC2012_ID": 12, "WNID": "n02"}]
    made.write_mat(tmp_path / "meta.mat", {"synsets": rows})

    synsets = read_mat(tmp_path / "meta.mat")["synsets"]

    assert [synset["WNID"] for synset in synsets] == ["n01440764", "n02"]
    assert [int(synset["ILSVRC2012_ID"].item()) for synset in synsets] == [7, 12]


@pytest.mark.parametrize("cut", [50, 140, 1000])
def test_a_truncated_matlab_file_is_named(tmp_path, cut):
    made.write_svhn(tmp_path / "train_32x32.mat", *part(6))
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DamagedError, match=path.name):
        svhn.read(published(tmp_path))


def test_matlab_labels_without_images_are_refused(tmp_path):
    made.write_mat(tmp_path / "train_32x32.mat", {"y": np.ones((3, 1), np.uint8)})

    with pytest.raises(DamagedError, match="holds no images X"):
        svhn.read(published(tmp_path))


def test_digits_are_the_published_scans(tmp_path):
    splits = digits.read(published(tmp_path))

    assert splits["train"].images.shape == (1437, 1, 8, 8)
    assert splits["test"].images.shape == (360, 1, 8, 8)
    counts = np.bincount(np.concatenate([splits["train"].labels, splits["test"].labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set(np.unique(splits["train"].images)) == {round(255 * level / 16) for level in range(17)}


def test_missing_files_without_permission_to_download_name_the_places_in_three_lines(tmp_path):
    with pytest.raises(EnvironmentFailure) as caught:
        cifar.read_cifar10(published(tmp_path, "cifar10"))

    message = str(caught.value)
    assert str(tmp_path) in message
    assert str(tmp_path / "cifar10") in message
    assert "cifar-10-batches-py" in message
    assert "forbidden" in message
    assert len(message.splitlines()) <= 3
