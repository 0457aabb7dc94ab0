"""The colour mosaic against OpenCV, the paper's own formulas and exact images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from optics import OpticsError
from optics.sensor import demosaic, sample_mosaic, spread_mosaic
from optics.sensor.mosaic import Method, Pattern

EXACT = {torch.float64: 1e-12, torch.float32: 2e-6}
PATTERNS: tuple[Pattern, ...] = ("RGGB", "BGGR", "GRBG", "GBRG")
METHODS: tuple[Method, ...] = ("malvar", "bilinear")


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pixel_keeps_the_channel_of_its_filter(pattern: Pattern) -> None:
    images = rand(2, 3, 5, 7)
    mosaic = sample_mosaic(images, pattern)
    for y in range(5):
        for x in range(7):
            channel = "RGB".index(pattern[2 * (y % 2) + x % 2])
            assert torch.equal(mosaic[:, 0, y, x], images[:, channel, y, x])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_spreading_is_the_adjoint_of_sampling(pattern: Pattern) -> None:
    x, y = rand(2, 3, 6, 9), rand(2, 1, 6, 9, seed=1)
    left, right = (sample_mosaic(x, pattern) * y).sum(), (x * spread_mosaic(y, pattern)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-10)
    assert torch.equal(sample_mosaic(spread_mosaic(y, pattern), pattern), y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_constant_and_linear_images_come_back(pattern: Pattern, method: Method) -> None:
    colour = rand(3)[:, None, None].expand(1, 3, 12, 16)
    out = demosaic(sample_mosaic(colour, pattern), pattern, method)
    assert (out - colour).abs().max() < EXACT[torch.float64]
    slopes, y, x = rand(3, 2, seed=1), torch.arange(12.0)[:, None], torch.arange(16.0)
    ramp = colour + slopes[:, :1, None] * y + slopes[:, 1:, None] * x
    out = demosaic(sample_mosaic(ramp, pattern), pattern, method)
    assert (out - ramp)[..., 2:-2, 2:-2].abs().max() < EXACT[torch.float64] * 100


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bilinear_is_that_of_opencv(pattern: Pattern) -> None:
    raw = np.random.default_rng(0).integers(0, 65536, (20, 24), dtype=np.uint16)
    theirs = cv2.cvtColor(raw, getattr(cv2, f"COLOR_Bayer{pattern}2RGB")).astype(float)
    ours = demosaic(torch.from_numpy(raw.astype(float))[None, None], pattern, "bilinear")[0].numpy()
    # OpenCV rounds to whole numbers and treats the border in its own way.
    assert np.abs(ours.transpose(1, 2, 0) - theirs)[1:-1, 1:-1].max() <= 0.5


@pytest.mark.parametrize("pattern", PATTERNS)
def test_malvar_is_bilinear_plus_the_gain_times_the_laplacian_of_the_pixels_own_channel(pattern: Pattern) -> None:
    raw = rand(14, 18)
    ours = demosaic(raw[None, None], pattern)[0]
    bilinear = demosaic(raw[None, None], pattern, "bilinear")[0]
    gain = {"green": 1 / 2, "at green": 5 / 8, "opposite": 3 / 4}  # alpha, beta and gamma of the paper
    for y in range(2, 12):
        for x in range(2, 16):
            own = pattern[2 * (y % 2) + x % 2]
            for c, channel in enumerate("RGB"):
                here = raw[y, x]
                far_x, far_y = raw[y, x - 2] + raw[y, x + 2], raw[y - 2, x] + raw[y + 2, x]
                near = raw[y - 1, x - 1] + raw[y - 1, x + 1] + raw[y + 1, x - 1] + raw[y + 1, x + 1]
                if channel == own:
                    truth = here
                elif own != "G":
                    kind = "green" if channel == "G" else "opposite"
                    truth = bilinear[c, y, x] + gain[kind] * (here - (far_x + far_y) / 4)
                else:
                    # At green: the mean over the nine greens around, those across the pair count against (fig. 2).
                    beside = pattern[2 * (y % 2) + 1 - x % 2] == channel
                    along, across = (far_x, far_y) if beside else (far_y, far_x)
                    laplacian = here - (near + along - across / 2) / 5
                    truth = bilinear[c, y, x] + gain["at green"] * laplacian
                assert float(ours[c, y, x]) == pytest.approx(float(truth), abs=EXACT[torch.float64])


@pytest.mark.parametrize("method", METHODS)
def test_measured_values_stay_and_light_is_not_made(method: Method) -> None:
    raw = rand(1, 1, 10, 12)
    assert torch.equal(sample_mosaic(demosaic(raw, "GRBG", method), "GRBG"), raw)


@pytest.mark.parametrize("method", METHODS)
def test_batch_float32_and_gradient(method: Method) -> None:
    raw = rand(3, 1, 8, 6)
    out = demosaic(raw, "BGGR", method)
    assert (out - torch.cat([demosaic(one[None], "BGGR", method) for one in raw])).abs().max() < EXACT[torch.float64]
    single = demosaic(raw.float(), "BGGR", method)
    assert single.dtype == torch.float32
    assert (single - out).abs().max() < EXACT[torch.float32]
    small = rand(1, 1, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: demosaic(raw, "RGGB", method), (small,))


def test_refusals() -> None:
    with pytest.raises(OpticsError, match=r"images has shape \(1, 1, 4, 4\); \(N, 3, H, W\) is needed"):
        sample_mosaic(rand(1, 1, 4, 4))
    with pytest.raises(OpticsError, match=r"mosaic has shape \(1, 3, 4, 4\); \(N, 1, H, W\) is needed"):
        spread_mosaic(rand(1, 3, 4, 4))
    with pytest.raises(OpticsError, match="pattern='RGBG' must be one of RGGB, BGGR, GRBG, GBRG"):
        sample_mosaic(rand(1, 3, 4, 4), "RGBG")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match="pattern='rggb' must be one of"):
        demosaic(rand(1, 1, 4, 4), "rggb")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match="method='ahd' must be one of malvar, bilinear"):
        demosaic(rand(1, 1, 4, 4), method="ahd")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match="mosaic is 5 x 4 pixels; even sides of at least 4"):
        demosaic(rand(1, 1, 5, 4))
