"""Batched transforms against torchvision's v2 transforms, image by image."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as v2

from datasets.augmentations import transforms


def images(count: int = 6, channels: int = 3, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([(1, 28, 28), (3, 32, 32), (3, 9, 14)]),
)
def test_crop_and_flip_equal_torchvision(draws: list[tuple[int, int, bool]], shape: tuple[int, int, int]) -> None:
    x = images(len(draws), *shape)
    offsets = torch.tensor([draw[:2] for draw in draws])
    flips = torch.tensor([draw[2] for draw in draws])

    cropped = [
        v2.crop(v2.pad(image, [4]), top, left, *shape[1:]) for image, (top, left, _) in zip(x, draws, strict=True)
    ]
    flipped = [v2.horizontal_flip(image) if f else image for image, (_, _, f) in zip(cropped, draws, strict=True)]

    assert torch.equal(transforms.pad_crop(x, offsets, 4), torch.stack(cropped))
    assert torch.equal(transforms.flip(torch.stack(cropped), flips), torch.stack(flipped))
    in_channels_last = x.contiguous(memory_format=torch.channels_last)
    together = transforms.flip(transforms.pad_crop(in_channels_last, offsets, 4), flips)
    assert torch.equal(together, torch.stack(flipped))
    assert together.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=8))
def test_mirrored_offsets_exchange_crop_and_flip(draws: list[tuple[int, int, bool]]) -> None:
    x = images(len(draws))
    offsets, flips = torch.tensor([draw[:2] for draw in draws]), torch.tensor([draw[2] for draw in draws])

    flip_first = transforms.pad_crop(transforms.flip(x, flips), offsets, 4)

    assert torch.equal(
        transforms.flip(transforms.pad_crop(x, transforms.mirrored(offsets, flips, 4), 4), flips), flip_first
    )


def test_the_middle_window_is_the_image() -> None:
    x = images()

    assert torch.equal(transforms.pad_crop(x, torch.full((6, 2), 4), 4), x)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
def test_taking_images_is_indexing_in_their_memory_format(memory_format: torch.memory_format, channels: int) -> None:
    x = transforms.in_format(images(9, channels), memory_format)
    assert x.is_contiguous(memory_format=memory_format)
    assert torch.equal(x, images(9, channels))
    numbers = torch.tensor([8, 0, 3, 3])

    taken = transforms.take(x, numbers)

    assert torch.equal(taken, x[numbers])
    assert taken.is_contiguous(memory_format=memory_format)


def test_rotation_equals_torchvision() -> None:
    x = images(8)
    turns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])

    expected = torch.stack([v2.rotate(image, 90.0 * turn) for image, turn in zip(x, turns.tolist(), strict=True)])

    assert torch.equal(transforms.rotate(x, turns), expected)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
def test_blur_equals_torchvision_in_float_and_is_close_to_its_integer_kernel(factor: int) -> None:
    x = images()

    def blurred(image: Tensor) -> Tensor:
        for side in (32 // factor, 32):
            image = v2.resize(image, [side, side], InterpolationMode.BILINEAR, antialias=True).round()
        return image

    in_float = torch.stack([blurred(image.float()) for image in x])
    in_integers = torch.stack([blurred(image) for image in x])

    result = transforms.blur(x, factor)
    assert torch.equal(result, in_float.to(torch.uint8))
    assert (result.int() - in_integers.int()).abs().max() <= 2


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("mean", "std"), [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((-0.021, -0.0354, -0.0376), (1.21, 1.20, 1.25))]
)
def test_normalization_equals_torchvision(memory_format: torch.memory_format, mean: Any, std: Any) -> None:
    x = images()
    expected = torch.stack([v2.normalize(v2.to_dtype(image, torch.float32, scale=True), mean, std) for image in x])

    constants = transforms.normalization(mean, std, (32, 32), torch.device("cpu"), memory_format)
    result = transforms.normalize(x.contiguous(memory_format=memory_format), *constants)

    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


OPENLTH, TORCHVISION = (0.1, 1.25), (0.08, 4 / 3)
"""The smallest area and the largest aspect of random resized crops."""


def boxes_of(count: int, height: int, width: int, seed: int = 0, crops: tuple[float, float] = OPENLTH) -> Tensor:
    draws = torch.rand(count, transforms.BOX_DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return transforms.random_boxes(draws, torch.full((count,), height), torch.full((count,), width), *crops)


@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, (64, 64)), (50, 70, (32, 48)), (32, 32, (48, 40))])
def test_resized_crop_equals_torchvision_in_float_and_is_close_to_its_integer_kernel(
    height: int, width: int, size: tuple[int, int]
) -> None:
    x = images(12, 3, height, width)
    boxes = boxes_of(12, height, width)

    def cropped(image: Tensor, box: list[int]) -> Tensor:
        return v2.resized_crop(image, *box, list(size), InterpolationMode.BILINEAR, antialias=True)

    pairs = list(zip(x, boxes.tolist(), strict=True))
    in_float = torch.stack([cropped(image.float(), box) for image, box in pairs])
    in_integers = torch.stack([cropped(image, box) for image, box in pairs])

    result = transforms.resized_crop(x, boxes, size)
    assert result.dtype == torch.uint8
    assert (result.float() - in_float).abs().max() <= 0.501  # rounded
    assert (result.int() - in_integers.int()).abs().max() <= 2


def test_a_box_of_the_whole_image_and_its_size_is_the_image() -> None:
    x = images(4, 3, 20, 30)

    assert torch.equal(transforms.resized_crop(x, torch.tensor([[0, 0, 20, 30]] * 4), (20, 30)), x)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 1000))
def test_boxes_lie_inside_images_of_any_size(height: int, width: int, seed: int) -> None:
    top, left, box_height, box_width = boxes_of(50, height, width, seed).unbind(1)

    assert (torch.stack([top, left]) >= 0).all()
    assert (torch.stack([box_height, box_width]) >= 1).all()
    assert (top + box_height <= height).all()
    assert (left + box_width <= width).all()


@pytest.mark.parametrize(
    ("crops", "transform"),
    [
        (OPENLTH, RandomResizedCrop(10, scale=(0.1, 1.0), ratio=(0.8, 1.25))),
        (TORCHVISION, RandomResizedCrop(10)),
        ((0.2, 4 / 3), RandomResizedCrop(10, scale=(0.2, 1.0))),
    ],
    ids=["openlth", "torchvision and grasp", "synflow"],
)
def test_boxes_are_distributed_like_torchvisions(crops: tuple[float, float], transform: RandomResizedCrop) -> None:
    height, width, count = 90, 120, 4000
    ours = boxes_of(count, height, width, crops=crops).double()
    image = torch.zeros(3, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [transform.make_params([image]) for _ in range(count)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).double()

    areas = [boxes[:, 2] * boxes[:, 3] / (height * width) for boxes in (ours, theirs)]
    aspects = [(boxes[:, 3] / boxes[:, 2]).log() for boxes in (ours, theirs)]
    for one, other in (areas, aspects, (ours[:, 0], theirs[:, 0]), (ours[:, 1], theirs[:, 1])):
        noise = (one.var() / count + other.var() / count).sqrt()
        assert (one.mean() - other.mean()).abs() < 4 * noise
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.06)


def test_an_image_too_long_for_any_try_gives_its_middle() -> None:
    boxes = boxes_of(5, 10, 1000)

    wide_enough = boxes[:, 3] > 0
    assert wide_enough.all()
    assert (boxes[:, 3] / boxes[:, 2] <= 1.3).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [3, 128, 129])
def test_all_images_and_then_all_of_them_mirrored(memory_format: torch.memory_format, count: int) -> None:
    x = images(count, 3, 4, 6)

    both = transforms.with_mirrored(x, memory_format)

    assert both.is_contiguous(memory_format=memory_format)
    assert torch.equal(both[:count], x)
    assert torch.equal(both[count:], v2.horizontal_flip(x))


def test_an_empty_slice_of_a_batch_stays_empty() -> None:
    x, numbers, flips = images(3)[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)

    for result in (
        transforms.take(images(3), numbers),
        transforms.pad_crop(x, torch.zeros(0, 2, dtype=torch.int64), 4),
        transforms.flip(x, flips),
        transforms.rotate(x, numbers),
        transforms.resized_crop(x, torch.zeros(0, 4, dtype=torch.int64), (32, 32)),
    ):
        assert result.shape == (0, 3, 32, 32)


def test_arguments_are_not_changed() -> None:
    x = images()
    before = x.clone()
    offsets, flips = torch.zeros(6, 2, dtype=torch.int64), torch.ones(6, dtype=torch.bool)

    transforms.pad_crop(x, offsets, 4)
    transforms.flip(x, flips)
    transforms.rotate(x, torch.ones(6, dtype=torch.int64))
    transforms.blur(x, 2)
    transforms.normalize(x, torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 32))

    assert torch.equal(x, before)
