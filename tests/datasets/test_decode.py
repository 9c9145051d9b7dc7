from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.decode import SEVERAL_FRAMES, TURNED, check_header, decode, image_suffixes

PIXELS = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
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


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP", "PPM", "TGA", "QOI"])
def test_an_image_of_a_format_without_loss_is_decoded_to_its_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}

    found = decode(encoded(Image.fromarray(PIXELS), kind, **options))

    assert found.permute(1, 2, 0).numpy().tolist() == PIXELS.tolist()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    blob = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)

    found = decode(blob)

    assert found.shape == (3, 8, 8)
    assert found[:, 0, 0].tolist() == [255, 0, 0]
    assert SEVERAL_FRAMES in check_header(blob)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_exif_orientation_is_noted_and_not_applied(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (8, 16))

    assert decode(encoded(image, kind, exif=exif)).shape == (3, 16, 8)
    assert check_header(encoded(image, kind, exif=exif)) == (TURNED,)
    assert check_header(encoded(image, kind)) == ()


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "PNG"])
def test_of_16_bits_of_gray_the_upper_8_are_kept_in_any_format(kind: str) -> None:
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + PIXELS[..., 1]

    assert decode(encoded(Image.fromarray(deep), kind)).numpy().tolist() == [PIXELS[..., 0].tolist()] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_whose_range_is_unknown_are_refused(dtype: type[np.generic]) -> None:
    blob = encoded(Image.fromarray(PIXELS[..., 0].astype(dtype)), "TIFF")

    with pytest.raises(ValueError, match="floating-point numbers or have 32 bits"):
        decode(blob)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_decoded_to_colors(kind: str) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red, up to the profile

    red, green, blue = decode(encoded(image, kind))[:, 4, 4].tolist()

    assert red > 200 and green < 60 and blue < 60


def test_formats_that_are_not_decoded_are_no_images() -> None:
    known = image_suffixes()

    assert {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"} <= known
    assert not known & {".h5", ".mpg", ".eps", ".ps", ".pdf", ".txt", ".csv", ".npy"}
    with pytest.raises(ValueError, match="not an image"):
        check_header(encoded(Image.fromarray(PIXELS), "EPS"))
