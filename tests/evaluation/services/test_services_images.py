"""Encoding of images, read back by another decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from evaluation.errors import EvaluationError
from evaluation.services import Limits, encode_images


def test_png_holds_exactly_the_rounded_levels() -> None:
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    for image, file in zip(images, encode_images(images), strict=True):
        levels = np.rint(imread(io.BytesIO(file), format="png") * 255)  # (H, W, RGB)
        np.testing.assert_array_equal(levels, np.rint(image.double().numpy() * 255).transpose(1, 2, 0))


def test_jpeg_keeps_colours_and_orientation() -> None:
    # Red on top of blue, halves of whole blocks, so that JPEG changes little.
    image = np.zeros((1, 3, 32, 16), dtype=np.float32)
    image[0, 0, :16], image[0, 2, 16:] = 1, 1
    (file,) = encode_images(image, "jpeg", quality=100)
    pixels = imread(io.BytesIO(file), format="jpeg")
    np.testing.assert_allclose(pixels[4, 8], (255, 0, 0), atol=6)
    np.testing.assert_allclose(pixels[28, 8], (0, 0, 255), atol=6)
    assert len(encode_images(np.random.default_rng(0).random((1, 3, 64, 64)), "jpeg", quality=10)[0]) < 2000


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 8, 8), dtype=np.uint8), r"got \(1, 3, 8, 8\) of uint8; divide uint8 by 255"),
        (np.zeros((3, 8, 8)), r"must be floating-point \(N, 3, H, W\), got \(3, 8, 8\)"),
        (np.zeros((1, 1, 8, 8)), r"got \(1, 1, 8, 8\)"),
        (np.full((1, 3, 8, 8), 1.01), r"outside 0\.\.1 or not finite; clamp"),
        (np.full((1, 3, 8, 8), np.nan), r"outside 0\.\.1 or not finite; clamp"),
    ],
)
def test_images_that_cannot_be_encoded(images: np.ndarray, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        encode_images(images)


def test_settings_of_the_encoder() -> None:
    with pytest.raises(EvaluationError, match="'gif'; choose one of png, jpeg"):
        encode_images(np.zeros((1, 3, 8, 8)), "gif")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="quality is 0; JPEG takes 1 to 100"):
        encode_images(np.zeros((1, 3, 8, 8)), "jpeg", quality=0)
    assert encode_images(np.zeros((0, 3, 8, 8))) == []


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_files_that_are_no_images(data: bytes) -> None:
    with pytest.raises(EvaluationError, match="photo is no readable PNG or JPEG file; encode it with encode_images"):
        Limits(1, 1000).check(data, "photo", "anybody")
