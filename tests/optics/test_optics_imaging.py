"""Blur and binning against direct sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from optics import OpticsError, bin_pixels, convolve

FLOAT64 = 1e-10


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width", "side"), [(20, 31, 7), (16, 16, 1), (12, 9, 41), (33, 32, 31)])
def test_equals_direct_convolution(height: int, width: int, side: int) -> None:
    images, psf = rand(2, 3, height, width), rand(3, side, side, seed=1)
    blurred = convolve(images, psf)
    assert blurred.shape == images.shape
    for n in range(2):
        for c in range(3):
            full = convolve2d(images[n, c].numpy(), psf[c].numpy(), mode="full")
            half = side // 2
            assert (
                np.abs(blurred[n, c].numpy() - full[half : half + height, half : half + width]).max()
                < FLOAT64 * side**2
            )


def test_a_bright_pixel_becomes_the_psf_not_its_mirror_image() -> None:
    images, psf = torch.zeros(1, 1, 21, 21, dtype=torch.float64), rand(1, 5, 5)
    images[0, 0, 9, 12] = 1
    assert (convolve(images, psf)[0, 0, 7:12, 10:15] - psf[0]).abs().max() < FLOAT64


@pytest.mark.parametrize("corner", [(0, 0), (0, 23), (23, 0), (23, 23)])
def test_light_at_the_border_does_not_come_back_on_the_other_side(corner: tuple[int, int]) -> None:
    images, psf = torch.zeros(1, 1, 24, 24, dtype=torch.float64), rand(1, 9, 9) + 1
    images[0, 0, corner[0], corner[1]] = 1
    blurred = convolve(images, psf)[0, 0]
    rows, columns = (torch.arange(24) - c for c in corner)
    far = (rows[:, None].abs() > 4) | (columns.abs() > 4)
    assert blurred[far].abs().max() < FLOAT64
    assert float(blurred[~far].min()) > 0.9


def test_one_psf_per_image() -> None:
    images, psf = rand(3, 2, 16, 16), rand(3, 2, 7, 7, seed=2)
    both = convolve(images, psf)
    for n in range(3):
        assert (both[n] - convolve(images[n : n + 1], psf[n])[0]).abs().max() < FLOAT64


def test_adjoint_is_convolution_with_the_turned_psf() -> None:
    psf = rand(3, 9, 9, seed=1)
    x, y = rand(2, 3, 17, 22).requires_grad_(), rand(2, 3, 17, 22, seed=3)
    forward = (convolve(x, psf) * y).sum()
    backward = (x * convolve(y, psf.flip(-1, -2))).sum()
    assert float(forward.detach()) == pytest.approx(float(backward.detach()), rel=FLOAT64)
    (by_autograd,) = torch.autograd.grad(forward, x)
    assert float((x.detach() * by_autograd).sum()) == pytest.approx(float(forward.detach()), rel=FLOAT64)


def test_gradcheck_of_image_and_psf() -> None:
    images, psf = rand(1, 2, 5, 6).requires_grad_(), rand(2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(convolve, (images, psf))


def test_binning_adds_light() -> None:
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert bin_pixels(images, 2).flatten().tolist() == [10.0, 18.0, 42.0, 50.0]
    assert torch.equal(bin_pixels(images, 1), images)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OpticsError, match=r"images has shape \(3, 8, 8\)"):
        convolve(rand(3, 8, 8), rand(3, 3, 3))
    with pytest.raises(OpticsError, match=r"psf has shape \(3, 4, 4\); .* odd K"):
        convolve(rand(1, 3, 8, 8), rand(3, 4, 4))
    with pytest.raises(OpticsError, match=r"does not fit images of shape \(1, 3, 8, 8\)"):
        convolve(rand(1, 3, 8, 8), rand(1, 3, 3))
    with pytest.raises(OpticsError, match="factor=3 does not divide a frame of 8 x 8"):
        bin_pixels(rand(1, 1, 8, 8), 3)
