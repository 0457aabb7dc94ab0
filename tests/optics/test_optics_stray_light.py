"""Stray light: where it goes, and that none is made or lost."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad
from scipy.ndimage import zoom

from optics import OpticsError, convolve
from optics.imaging import Ghost, add_ghosts, harvey_scatter, veiling_glare

EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}
ADJOINT = 1e-10


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_veil_lifts_black_and_keeps_the_light() -> None:
    images = torch.zeros(2, 3, 8, 10, dtype=torch.float64)
    images[0, 1, :, :5] = 4.0  # half the frame is bright, so its mean is 2
    out = veiling_glare(images, 0.1)
    assert float(out[0, 1, 3, 8]) == pytest.approx(0.2)
    assert float(out[0, 1, 3, 2]) == pytest.approx(3.8)
    assert float(out.sum()) == pytest.approx(float(images.sum()))
    assert out[0, 0].abs().max() == 0


def law(slope: float, shoulder: float, distance: float) -> tuple[float, object]:
    """Total over the half-space by quadrature, and the density per area of the sensor."""
    theta = np.linspace(0, pi / 2, 2_000_001)
    b = np.sin(theta)
    values = (1 + (b / shoulder) ** 2) ** (slope / 2) * 2 * pi * b * np.cos(theta)
    total = float(np.trapezoid(values, theta))

    def density(y: float, x: float) -> float:
        r2 = x * x + y * y
        cosine2 = distance**2 / (r2 + distance**2)
        b2 = 1 - cosine2
        # Power per solid angle goes with cos(theta); an area of the sensor is seen under cos^3(theta) / d^2.
        return (1 + b2 / shoulder**2) ** (slope / 2) * cosine2**2 / distance**2

    return total, density


@pytest.mark.parametrize(("slope", "shoulder"), [(-1.5, 0.002), (-2.0, 0.01), (-3.0, 0.0006)])
def test_harvey_scatter_is_the_integral_over_each_cell(slope: float, shoulder: float) -> None:
    kernel = harvey_scatter(0.02, shoulder, slope, 4e-3, 4e-6, 41, dtype=torch.float64)
    total, density = law(slope, shoulder, 4e-3)
    for row, column in ((20, 21), (23, 18), (0, 40)):
        x, y = (column - 20) * 4e-6, (row - 20) * 4e-6
        cell, _ = dblquad(density, x - 2e-6, x + 2e-6, y - 2e-6, y + 2e-6, epsabs=0, epsrel=1e-10)
        assert float(kernel[row, column]) == pytest.approx(0.02 * cell / total, rel=1e-6)
    cell, _ = dblquad(density, -2e-6, 2e-6, -2e-6, 2e-6, epsabs=0, epsrel=1e-10)
    assert float(kernel[20, 20]) == pytest.approx(0.98 + 0.02 * cell / total, rel=1e-7)
    assert torch.equal(kernel, kernel.flip(0))
    assert (kernel - kernel.T).abs().max() < EXACT[torch.float64]


def test_a_wide_window_holds_all_scattered_light() -> None:
    kernel = harvey_scatter(0.5, 0.2, -3.0, 1e-3, 3e-4, 401, dtype=torch.float64)
    # Out to r = 60 d: b = 0.99986.
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-4)
    assert float(kernel.sum()) < 1


def test_scatter_of_a_bright_lamp_falls_with_the_slope() -> None:
    kernel = harvey_scatter(0.02, 0.001, -2.0, 4e-3, 4e-6, 101, dtype=torch.float64)
    lamp = torch.zeros(1, 1, 101, 101, dtype=torch.float64)
    lamp[0, 0, 50, 50] = 1e6
    veil = convolve(lamp, kernel[None])[0, 0]
    assert float(veil[50, 90] / veil[50, 70]) == pytest.approx((1 + 20**2) / (1 + 40**2), rel=0.01)


def test_a_turned_ghost_of_the_same_size_is_exact() -> None:
    images = rand(2, 3, 9, 12)
    out = add_ghosts(images, [Ghost(0.04, -1.0)])
    assert (out - 0.96 * images - 0.04 * images.flip(-1, -2)).abs().max() < EXACT[torch.float64]


def test_scaling_moves_the_exact_area() -> None:
    images = rand(1, 1, 6, 8)
    double = add_ghosts(images, [Ghost(1.0, 2.0)])[0, 0].numpy()
    # The middle of the frame, each pixel spread over 2 x 2.
    assert np.abs(double - zoom(images[0, 0].numpy(), 2, order=0)[3:9, 4:12] / 4).max() < EXACT[torch.float64]
    half = add_ghosts(images, [Ghost(1.0, 0.5)])[0, 0]
    # 6 x 8 pixels become 3 x 4 about the middle.
    assert float(half.sum()) == pytest.approx(float(images.sum()))
    # The six rows come to rest from 1.5 to 4.5 along the edges of rows, half a row each.
    rows = images[0, 0].sum(dim=1)
    assert half.sum(dim=1).tolist() == pytest.approx(
        [0, float(rows[0]), float(rows[1:3].sum()), float(rows[3:5].sum()), float(rows[5]), 0]
    )


@pytest.mark.parametrize("scale", [-0.37, 0.5, 0.93])
@pytest.mark.parametrize("blur", [0.0, 0.7, 3.3])
def test_ghosts_keep_the_light_while_it_stays_in_the_frame(scale: float, blur: float) -> None:
    images = torch.zeros(1, 2, 31, 40, dtype=torch.float64)
    images[..., 10:20, 12:30] = rand(1, 2, 10, 18)
    out = add_ghosts(images, [Ghost(0.03, scale, blur), Ghost(0.01, -0.8, 2.0)])
    assert float(out.sum()) == pytest.approx(float(images.sum()), rel=EXACT[torch.float64])


def test_a_defocused_ghost_is_an_even_disc() -> None:
    images = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    images[0, 0, 20, 25] = 1
    out = add_ghosts(images, [Ghost(0.5, -1.0, 13.0)])[0, 0]
    out[20, 25] -= 0.5
    assert float(out[20, 15]) == pytest.approx(0.5 / (pi * 6.5**2))
    assert float(out[20, 9]) == pytest.approx(0.5 * 0.98 / (pi * 6.5**2), rel=0.03)  # the rim, almost wholly inside
    assert float(out[20, 8]) == pytest.approx(0, abs=EXACT[torch.float64])
    y = torch.arange(41, dtype=torch.float64)
    # The variance of an even disc of radius a is a^2 / 4 per axis, and of the cells 1/12 less.
    assert float((out.sum(dim=1) * (y - 20) ** 2).sum() / 0.5) == pytest.approx(6.5**2 / 4 + 1 / 12, rel=0.01)


def test_ghosts_are_linear_batched_and_have_an_adjoint() -> None:
    ghosts = [Ghost(0.03, -0.6, 3.0), Ghost(0.02, 1.7)]
    x, y = rand(3, 2, 12, 15).requires_grad_(), rand(3, 2, 12, 15, seed=1)
    (adjoint,) = torch.autograd.grad((add_ghosts(x, ghosts) * y).sum(), x)
    z = rand(3, 2, 12, 15, seed=2)
    assert float((add_ghosts(z, ghosts) * y).sum()) == pytest.approx(float((z * adjoint).sum()), rel=ADJOINT)
    loop = torch.cat([add_ghosts(one[None], ghosts) for one in z])
    assert (add_ghosts(z, ghosts) - loop).abs().max() < EXACT[torch.float64]
    apart = add_ghosts(z, ghosts[:1]) + add_ghosts(z, ghosts[1:]) - z
    assert (add_ghosts(z, ghosts) - apart).abs().max() < EXACT[torch.float64]
    assert (add_ghosts(z.float(), ghosts) - add_ghosts(z, ghosts)).abs().max() < EXACT[torch.float32]
    assert torch.equal(add_ghosts(z, []), z)


def test_refusals() -> None:
    with pytest.raises(OpticsError, match=r"share=1\.5 must lie from 0 to 1"):
        veiling_glare(rand(1, 1, 2, 2), 1.5)
    with pytest.raises(OpticsError, match="sensor_distance_m=0 must be a positive length"):
        harvey_scatter(0.1, 0.01, -2.0, 0, 4e-6, 5)
    with pytest.raises(OpticsError, match="samples=4 must be odd"):
        harvey_scatter(0.1, 0.01, -2.0, 4e-3, 4e-6, 4)
    with pytest.raises(OpticsError, match=r"slope=0\.0 must be negative"):
        harvey_scatter(0.1, 0.01, 0.0, 4e-3, 4e-6, 5)
    with pytest.raises(OpticsError, match=r"shoulder=0\.0001 is 4e-07 m on the sensor, less than half a cell"):
        harvey_scatter(0.1, 1e-4, -2.0, 4e-3, 4e-6, 5)
    with pytest.raises(OpticsError, match="scale=0 must be a finite number other than 0"):
        Ghost(0.1, 0)
    with pytest.raises(OpticsError, match="blur_px=-1 must be zero or a positive"):
        Ghost(0.1, 1, -1)
    with pytest.raises(OpticsError, match=r"add up to 1\.2, more than all light; reduce share"):
        add_ghosts(rand(1, 1, 4, 4), [Ghost(0.6, 1.0), Ghost(0.6, -1.0)])
    with pytest.raises(OpticsError, match=r"images has shape \(4, 4\); \(N, C, H, W\) is needed"):
        add_ghosts(rand(4, 4), [])
