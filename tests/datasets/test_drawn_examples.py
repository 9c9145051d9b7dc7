from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.hparams import DatasetHparams
from datasets.loading.batches import Loader, LoaderConfig
from datasets.loading.loader import open_loader
from foundations.errors import UsageError
from tests.datasets import published_files as made
from tests.datasets.loading import add


def loader(folder: Path, name: str = "digits", **flags: Any) -> Loader:
    return open_loader(DatasetHparams.of({"dataset_name": name, **flags}), folder, LoaderConfig(), workers=0)


def images_of(x: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(image.flatten().tolist()) for image in x)


def test_examples_are_drawn_from_all_classes_together_and_shuffled_in_each_pass(digits: Path) -> None:
    of_pass = loader(digits).drawn_examples(7, seed=0)
    (x, y), (again, _) = of_pass(0).read(), of_pass(1).read()

    assert len(set(images_of(x))) == len(y) == 70
    assert y.bincount(minlength=10).tolist() != [7] * 10
    assert images_of(again) == images_of(x)
    assert not torch.equal(again, x)


def test_a_pass_is_a_function_of_the_seed_and_its_number(digits: Path) -> None:
    x, y = loader(digits, batch_size=7).drawn_examples(3, seed=5)(2).read()
    same, other = loader(digits).drawn_examples(3, seed=5)(2).read(), loader(digits).drawn_examples(3, seed=6)(2).read()

    assert torch.equal(x, same[0])
    assert torch.equal(y, same[1])
    assert not torch.equal(x, other[0])


@pytest.mark.parametrize("in_memory", [True, False])
def test_each_pass_augments_the_same_images_anew(tmp_path: Path, in_memory: bool) -> None:
    for split, seed in (("train", 0), ("test", 500)):
        made.write_image_folders(tmp_path / "p" / split, ["a", "b"], 6, size=(30, 30), seed=seed)
    add(tmp_path, tmp_path / "p", in_memory=in_memory, image_size=16, augmentation="resized_crop_flip")
    varied = loader(tmp_path / "datasets", "mine").drawn_examples(5, seed=1)
    plain = loader(tmp_path / "datasets", "mine", do_not_augment=True).drawn_examples(5, seed=1)

    first, second = (set(images_of(varied(number).read()[0])) for number in (0, 1))

    assert len(first) == len(second) == 10
    assert not first & second
    assert images_of(plain(0).read()[0]) == images_of(plain(1).read()[0])
    assert torch.equal(plain(0).read()[1], varied(0).read()[1])


def test_too_few_examples_are_refused(digits: Path) -> None:
    with pytest.raises(
        UsageError, match="1440 examples are asked for, but there are 1437 in the training set of 'digits'"
    ):
        loader(digits).drawn_examples(144, seed=0)
