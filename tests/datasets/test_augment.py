"""Batched augmentation against torchvision's v2 transforms, image by image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from datasets import augment


def images(count=6, channels=3, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([(1, 28, 28), (3, 32, 32), (3, 9, 14)]),
)
def test_crop_and_flip_equal_torchvision(draws, shape):
    x = images(len(draws), *shape)
    offsets = torch.tensor([draw[:2] for draw in draws])
    flips = torch.tensor([draw[2] for draw in draws])

    cropped = [
        v2.crop(v2.pad(image, [4]), top, left, *shape[1:]) for image, (top, left, _) in zip(x, draws, strict=True)
    ]
    flipped = [v2.horizontal_flip(image) if f else image for image, (_, _, f) in zip(cropped, draws, strict=True)]

    assert torch.equal(augment.pad_crop(x, offsets, 4), torch.stack(cropped))
    assert torch.equal(augment.flip(torch.stack(cropped), flips), torch.stack(flipped))
    assert torch.equal(augment.pad_crop_flip(x, offsets, flips, 4), torch.stack(flipped))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=8))
def test_mirrored_offsets_exchange_crop_and_flip(draws):
    x = images(len(draws))
    offsets, flips = torch.tensor([draw[:2] for draw in draws]), torch.tensor([draw[2] for draw in draws])

    flip_first = augment.pad_crop(augment.flip(x, flips), offsets, 4)

    assert torch.equal(augment.pad_crop_flip(x, augment.mirrored(offsets, flips, 4), flips, 4), flip_first)


def test_the_middle_window_is_the_image():
    x = images()

    assert torch.equal(augment.pad_crop(x, torch.full((6, 2), 4), 4), x)


def test_rotation_equals_torchvision():
    x = images(8)
    turns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])

    expected = torch.stack([v2.rotate(image, 90.0 * turn) for image, turn in zip(x, turns.tolist(), strict=True)])

    assert torch.equal(augment.rotate(x, turns), expected)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
def test_blur_equals_torchvision_in_float_and_is_close_to_its_integer_kernel(factor):
    x = images()

    def blurred(image):
        for side in (32 // factor, 32):
            image = v2.resize(image, [side, side], InterpolationMode.BILINEAR, antialias=True).round()
        return image

    in_float = torch.stack([blurred(image.float()) for image in x])
    in_integers = torch.stack([blurred(image) for image in x])

    result = augment.blur(x, factor)
    assert torch.equal(result, in_float.to(torch.uint8))
    assert (result.int() - in_integers.int()).abs().max() <= 2


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("mean", "std"), [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((-0.021, -0.0354, -0.0376), (1.21, 1.20, 1.25))]
)
def test_normalization_equals_torchvision(memory_format, mean, std):
    x = images()
    expected = torch.stack([v2.normalize(v2.to_dtype(image, torch.float32, scale=True), mean, std) for image in x])

    result = augment.normalize(x, *augment.normalization(mean, std, torch.device("cpu")), memory_format)

    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


def test_arguments_are_not_changed():
    x = images()
    before = x.clone()
    offsets, flips = torch.zeros(6, 2, dtype=torch.int64), torch.ones(6, dtype=torch.bool)

    augment.pad_crop_flip(x, offsets, flips, 4)
    augment.rotate(x, torch.ones(6, dtype=torch.int64))
    augment.blur(x, 2)
    augment.normalize(x, torch.ones(1, 3, 1, 1), torch.ones(1, 3, 1, 1), torch.channels_last)

    assert torch.equal(x, before)
