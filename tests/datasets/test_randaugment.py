"""RandAugment against torchvision's, image by image."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from datasets.augmentations.operations import OPERATIONS, operated

NAMES = list(v2.RandAugment._AUGMENTATION_SPACE)


def by_torchvision(image: torch.Tensor, number: int, turned: bool, magnitude: int) -> torch.Tensor:
    """Return an image after one operation of torchvision's RandAugment."""
    transform, name = v2.RandAugment(magnitude=magnitude), NAMES[number]
    of_bins, has_direction = v2.RandAugment._AUGMENTATION_SPACE[name]
    strengths = of_bins(31, *image.shape[1:])
    strength = 0.0 if strengths is None else float(strengths[magnitude])
    strength *= -1 if turned and has_direction else 1
    found = transform._apply_image_or_video_transform(image, name, strength, transform.interpolation, transform._fill)
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("magnitude", [0, 9, 14, 30])
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_are_those_of_torchvision(magnitude: int, channels: int) -> None:
    assert [has_direction for _, has_direction in OPERATIONS] == [
        has_direction for _, has_direction in v2.RandAugment._AUGMENTATION_SPACE.values()
    ]
    stream = torch.Generator().manual_seed(magnitude)
    images = torch.randint(256, (84, channels, 10, 12), generator=stream, dtype=torch.uint8)
    chosen = torch.stack([torch.arange(84) % 14, torch.randint(14, (84,), generator=stream)], 1)
    turned = torch.randint(2, (84, 2), generator=stream).bool()

    found = operated(images, chosen, turned, magnitude)

    for number, image in enumerate(images):
        expected = image
        for operation, other_way in zip(chosen[number].tolist(), turned[number].tolist(), strict=True):
            expected = by_torchvision(expected, operation, other_way, magnitude)
        assert torch.equal(found[number], expected), [NAMES[each] for each in chosen[number]]
