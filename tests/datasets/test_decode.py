from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.decode import decode

PIXELS = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    image.save(target, kind)
    return target.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_an_image_of_any_mode_is_decoded_to_colors(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)

    found = decode(encoded(image))

    assert found.dtype == torch.uint8
    assert found.permute(1, 2, 0).numpy().tolist() == np.array(image.convert("RGB")).tolist()


def test_of_16_bits_of_gray_the_upper_8_are_kept() -> None:
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + PIXELS[..., 1]

    assert decode(encoded(Image.fromarray(deep))).numpy().tolist() == [PIXELS[..., 0].tolist()] * 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_that_is_not_whole_is_refused_and_does_not_end_the_process(kind: str) -> None:
    whole = encoded(Image.fromarray(PIXELS), kind)

    for byte in range(len(whole)):
        try:
            decode(whole[:byte] + bytes([whole[byte] ^ 0x55]) + whole[byte + 1 :])
        except ValueError:
            continue
    with pytest.raises(ValueError, match="not a whole image"):
        decode(whole[: len(whole) // 2])
