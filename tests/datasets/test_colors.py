"""Colours of batches against torchvision, image by image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as theirs

from datasets.augmentations import colors
from datasets.augmentations.resized_crop_jitter_flip import RESIZED_CROP_JITTER_FLIP
from datasets.hparams import DatasetHparams
from datasets.loading.batches import Batch, LoaderConfig
from datasets.loading.loader import open_loader
from tests.datasets import published_files as made
from tests.datasets.loading import add, joined, unnormalized

PAIRS = [
    (colors.brightened, theirs.adjust_brightness, [0.6, 0.9, 1.4]),
    (colors.contrasted, theirs.adjust_contrast, [0.6, 0.9, 1.4]),
    (colors.saturated, theirs.adjust_saturation, [0.6, 0.9, 1.4]),
    (colors.hue_shifted, theirs.adjust_hue, [-0.4, 0.0, 0.35]),
]


def images(count: int = 3) -> Tensor:
    """Return noise, in which some pixels are grey, black or white."""
    found = torch.randint(0, 256, (count, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found[:, :, 0, :10] = found[:, :1, 0, :10]
    found[:, :, 1, :10] = 0
    found[:, :, 1, 10:20] = 255
    return found


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.uint8
    difference = (found.int() - expected.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.05


@pytest.mark.parametrize(("ours", "reference", "amounts"), PAIRS)
def test_a_change_is_torchvisions(ours: Callable[..., Tensor], reference: Any, amounts: list[float]) -> None:
    x = images()
    expected = torch.stack([reference(image, amount) for image, amount in zip(x, amounts, strict=True)])

    assert_close(ours(x, torch.tensor(amounts)), expected)


def test_grey_is_torchvisions() -> None:
    assert_close(colors.grey(images()), theirs.rgb_to_grayscale(images()))


def test_each_image_is_changed_by_its_own_amounts_in_its_own_order() -> None:
    x, functions = images(), [reference for _, reference, _ in PAIRS]
    amounts = torch.tensor([[0.7, 1.3, 0.8, 0.2], [1.4, 0.6, 1.2, -0.3], [1.0, 1.0, 1.0, 0.0]])
    orders = torch.tensor([[3, 1, 0, 2], [0, 2, 1, 3], [0, 1, 2, 3]])
    before = x.clone()

    found = colors.jittered(x, torch.tensor([False, True, False]), amounts, orders)

    assert torch.equal(x, before)
    for number, expected in enumerate(images()):
        if number == 1:
            expected = theirs.rgb_to_grayscale(expected, num_output_channels=3)
        for place in orders[number].tolist():
            expected = functions[place](expected, float(amounts[number, place]))
        assert (found[number].int() - expected.int()).abs().max() <= 4  # a level at each change, enlarged by the next


def test_colors_do_not_depend_on_the_rest_of_the_batch() -> None:
    x = images(8)
    greys, amounts = torch.arange(8) % 3 == 0, 0.6 + 0.8 * torch.rand(8, 4, generator=torch.Generator().manual_seed(1))
    orders = torch.stack([torch.roll(torch.arange(4), shift) for shift in range(8)])

    whole = colors.jittered(x, greys, amounts - torch.tensor([0, 0, 0, 1.0]), orders)
    parts = [
        colors.jittered(
            x[i : i + 1], greys[i : i + 1], (amounts - torch.tensor([0, 0, 0, 1.0]))[i : i + 1], orders[i : i + 1]
        )
        for i in range(8)
    ]

    assert torch.equal(whole, torch.cat(parts))


def epoch(root: Path, augmentation: str, **flags: Any) -> Batch:
    hparams = DatasetHparams(dataset_name="mine", augment_as=augmentation, **flags)
    return joined(open_loader(hparams, root / "datasets", LoaderConfig(), workers=0).train_batches(3))


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_with_jitter_has_the_crops_of_one_without_in_other_colors(tmp_path: Path, in_memory: bool) -> None:
    for split in ("train", "test"):
        made.write_image_folders(tmp_path / "p" / split, ["a", "b"], 20, size=(30, 30), seed=len(split))
    add(tmp_path, tmp_path / "p", in_memory=in_memory, image_size=16, augmentation="resized_crop_flip")

    plain, plain_labels = epoch(tmp_path, "resized_crop_flip")
    varied, labels = epoch(tmp_path, "resized_crop_jitter_flip")

    assert torch.equal(labels, plain_labels)
    assert all(not torch.equal(image, other) for image, other in zip(varied, plain, strict=True))
    pixels = unnormalized(varied).int()
    greys = (pixels.amax(1) - pixels.amin(1)).amax((1, 2)) == 0
    assert 2 <= int(greys.sum()) <= 16  # of 40, one in five
    assert torch.equal(varied, epoch(tmp_path, "resized_crop_jitter_flip", batch_size=7)[0])


def test_amounts_are_those_of_synaptic_flow() -> None:
    """White stays white in other hues, so only brightness and contrast change its brightness: 0.6 at least."""
    white = torch.full((400, 3, 2, 2), 255, dtype=torch.uint8)
    stream = torch.Generator().manual_seed(0)

    batches = RESIZED_CROP_JITTER_FLIP.draw(400, white, DatasetHparams(dataset_name="cifar10"), stream)
    found = batches(torch.arange(400), slice(0, 400))[:, 0, 0, 0].double() / 255

    assert found.min() == pytest.approx(0.6, abs=0.01)
    assert (found > 0.98).double().mean() == pytest.approx(0.5, abs=0.08)  # made brighter, which white cannot be
