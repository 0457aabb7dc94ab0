"""The controls against scipy, block means and the budgets they state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from faces.protection import Protector
from faces.samples import linear_to_srgb, srgb_to_linear
from optics import convolve
from protectors.blur import EYE_DISTANCE, GaussianBlur
from protectors.errors import ProtectorError
from protectors.identity import Identity
from protectors.noise import Noise
from protectors.pixelate import Pixelate

HALF_LEVEL = 0.5 / 255 + 1e-6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def protected(protector: Protector, images: Tensor, seed: int = 0) -> Tensor:
    count = len(images)
    return protector.protect(images, torch.zeros(count, 5, 2), torch.zeros(count, dtype=torch.int64), seeded(seed))


def levels(count: int, side: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (count, 3, side, side), generator=seeded(seed)) / 255


def test_identity_returns_the_photos() -> None:
    images = levels(2, 32)
    assert torch.equal(protected(Identity(), images), images)


# Blur


@pytest.mark.parametrize(("sd", "px"), [(0.1, 128), (0.1, 64), (0.3, 64)])
def test_blur_agrees_with_scipy_in_linear_light(sd: float, px: int) -> None:
    images = levels(2, px)
    # Scipy samples the bell; a pixel integrates it, which adds the variance of a pixel.
    sigma = np.hypot(sd * 0.265 * px, 12**-0.5)
    light = srgb_to_linear(images).double().numpy()
    blurred = ndimage.gaussian_filter(light, (0, 0, sigma, sigma), mode="nearest", truncate=6)
    expected = linear_to_srgb(torch.from_numpy(blurred)).float()
    found = protected(GaussianBlur(sd=sd, px=px), images)
    torch.testing.assert_close(found, expected, atol=HALF_LEVEL + 1e-4, rtol=0)


def test_eye_distance_is_that_of_the_frames() -> None:
    assert pytest.approx(0.265) == EYE_DISTANCE


def test_known_blur_is_what_happens_to_a_point() -> None:
    protector = GaussianBlur(px=65)
    images = torch.zeros(1, 3, 65, 65)
    images[..., 32, 32] = 1
    assert protector.blur is not None
    half = protector.blur.psf.shape[-1] // 2
    shown = protected(protector, images)[0, :, 32 - half : 33 + half, 32 - half : 33 + half]
    torch.testing.assert_close(shown, linear_to_srgb(protector.blur.psf), atol=HALF_LEVEL, rtol=0)
    torch.testing.assert_close(protector.blur.psf.sum((-2, -1)), torch.ones(3))
    assert protector.blur.planes == 3


def test_blur_as_wide_as_the_photo_keeps_to_its_point_spread_function() -> None:
    protector = GaussianBlur(sd=2, px=16)
    assert protector.blur is not None
    assert tuple(protector.blur.psf.shape) == (3, 15, 15)
    images = levels(1, 16)
    wide = torch.nn.functional.pad(srgb_to_linear(images), (7,) * 4, mode="replicate")
    expected = linear_to_srgb(convolve(wide, protector.blur.psf)[..., 7:23, 7:23])
    torch.testing.assert_close(protected(protector, images), expected, atol=HALF_LEVEL, rtol=0)


def test_blur_leaves_even_photos_even_to_the_edge() -> None:
    images = torch.full((1, 3, 64, 64), 77 / 255)
    assert torch.equal(protected(GaussianBlur(px=64, sd=0.5), images), images)


# Pixelation


def test_mosaic_is_the_mean_of_linear_light_in_blocks() -> None:
    images = levels(2, 48)
    light = srgb_to_linear(images).numpy().reshape(2, 3, 16, 3, 16, 3)
    expected = linear_to_srgb(torch.from_numpy(light.mean(axis=(3, 5)).repeat(3, 2).repeat(3, 3)))
    torch.testing.assert_close(protected(Pixelate(cells=16), images), expected, atol=HALF_LEVEL, rtol=0)


def test_cells_that_share_a_pixel_share_it_evenly() -> None:
    # Light 0, 1, 1/4 in a row: the two cells of one and a half pixels hold 1/3 and 1/2.
    row = linear_to_srgb(torch.tensor([0.0, 1.0, 0.25]))
    found = protected(Pixelate(cells=2), row.expand(1, 3, 3, 3).clone())
    expected = linear_to_srgb(torch.tensor([1 / 3, 5 / 12, 1 / 2]))
    torch.testing.assert_close(found[0, 0, 1], expected, atol=HALF_LEVEL, rtol=0)


def test_mosaic_as_fine_as_the_photo_is_the_photo() -> None:
    images = levels(1, 20)
    assert torch.equal(protected(Pixelate(cells=20), images), images)
    with pytest.raises(ProtectorError, match=r"photos of 21 pixels or more .*'cells': '21'.*, got 20"):
        protected(Pixelate(cells=21), images)


# Noise


@pytest.mark.parametrize(("linf", "most"), [(0.03, 7), (8 / 255, 8), (0.0314, 8), (0.0313, 7), (1 / 255, 1)])
def test_uniform_noise_takes_all_levels_of_its_budget_alike(linf: float, most: int) -> None:
    images = torch.full((4, 3, 48, 48), 128 / 255)
    steps = ((protected(Noise(linf=linf), images) - images) * 255).round().long()
    assert int(steps.abs().max()) == most
    counts = torch.bincount((steps + most).flatten(), minlength=2 * most + 1)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_uniform_noise_never_leaves_its_budget_at_black_and_white() -> None:
    images = levels(2, 32)
    change = protected(Noise(linf=0.1), images) - images
    assert float(change.abs().max()) <= 0.1


def test_gaussian_noise_has_its_norm_in_each_photo() -> None:
    images = torch.full((5, 3, 64, 64), 100 / 255)
    change = protected(Noise(l2=2.0), images) - images
    # Rounding adds a twelfth of a squared level to the square of each of the 12288 values.
    expected = (2.0**2 + 12288 / 12 / 255**2) ** 0.5
    torch.testing.assert_close(change.flatten(1).norm(dim=1), torch.full((5,), expected), atol=0, rtol=5e-3)
    spread = change.flatten() / change.std()
    assert abs(float(spread.pow(4).mean()) - 3) < 0.1
    assert abs(float(spread.mean())) < 0.02


# Settings


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianBlur(sd=0), r"0 < sd <= 2 eye distances, got 0"),
        (lambda: GaussianBlur(sd=3), r"0 < sd <= 2 eye distances, got 3"),
        (lambda: GaussianBlur(px=4), r"px >= 8 pixels, got 4"),
        (lambda: Pixelate(cells=0), r"cells >= 1, got 0"),
        (lambda: Noise(), r"one budget: linf"),
        (lambda: Noise(linf=0.1, l2=1), r"one budget: linf"),
        (lambda: Noise(linf=0.001), r"linf from 1/255 .* to 1, got 0\.001"),
        (lambda: Noise(linf=1.5), r"linf from 1/255 .* to 1, got 1\.5"),
        (lambda: Noise(l2=0), r"l2 > 0, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ProtectorError, match=words):
        make()
