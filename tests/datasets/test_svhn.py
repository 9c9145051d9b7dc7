from pathlib import Path

import numpy as np
import pytest

from datasets.sources.svhn import SVHN, SVHN_EXTRA
from foundations.errors import DamagedError
from tests.datasets import published_files as made
from tests.datasets.published_files import assert_split, part, source_files


def test_svhn_is_read_from_matlab_files_with_zero_as_zero(tmp_path: Path) -> None:
    train, test = part(6), part(4, seed=7)
    train[1][0] = 0
    made.write_svhn(tmp_path / "train_32x32.mat", *train)
    made.write_svhn(tmp_path / "test_32x32.mat", *test)

    splits = SVHN.read(source_files(tmp_path))

    assert_split(splits["train"], train)
    assert_split(splits["test"], test)


def test_svhn_with_extra_has_the_extra_images_after_the_others(tmp_path: Path) -> None:
    train, extra, test = part(4), part(5, seed=3), part(2, seed=7)
    for name, content in (("train", train), ("extra", extra), ("test", test)):
        made.write_svhn(tmp_path / f"{name}_32x32.mat", *content)

    splits = SVHN_EXTRA.read(source_files(tmp_path))

    assert_split(splits["train"], tuple(np.concatenate(both) for both in zip(train, extra, strict=True)))
    assert_split(splits["test"], test)


@pytest.mark.parametrize("cut", [50, 140, 1000])
def test_a_truncated_matlab_file_is_named(tmp_path: Path, cut: int) -> None:
    made.write_svhn(tmp_path / "train_32x32.mat", *part(6))
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DamagedError, match=path.name):
        SVHN.read(source_files(tmp_path))


def test_matlab_labels_without_images_are_refused(tmp_path: Path) -> None:
    made.write_mat(tmp_path / "train_32x32.mat", {"y": np.ones((3, 1), np.uint8)})

    with pytest.raises(DamagedError, match="holds no images X"):
        SVHN.read(source_files(tmp_path))
