"""Diffractive masks: efficiencies in closed form, exact levels, live gradients."""

from __future__ import annotations

from math import pi, sin
from typing import Any, Literal

import pytest
import torch
from torch import nn

from optics import (
    FUSED_SILICA,
    DiffractiveMask,
    OpticsError,
    PointPsf,
    PupilGrid,
    PupilToPsf,
    ThinLens,
    index_differences,
)
from optics.elements import controls_for_levels
from tests.optics.raw_pupil import Given

GRID = PupilGrid(0.5e-3, 64)
L0 = 550e-9
EXACT = {torch.float64: 1e-12, torch.float32: 2e-5}


def sinc2(x: float) -> float:
    return 1.0 if x == 0 else (sin(pi * x) / (pi * x)) ** 2


def blaze(grid: PupilGrid, levels: int, feature: int, dtype: torch.dtype = torch.float64) -> DiffractiveMask:
    """A staircase rising with x, one period per ``levels`` features."""
    count = grid.samples // feature
    level = (torch.arange(count) % levels).expand(count, count)
    start = controls_for_levels(level, levels)
    mask = DiffractiveMask(grid, levels, design_wavelength_m=L0, feature_samples=feature, start=start, dtype=dtype)
    return mask.eval()


def efficiency(mask: DiffractiveMask, wavelength_m: float, order: int) -> float:
    """Share of light in an order of a grating along x, exactly integrated: each pupil sample is a flat cell."""
    turns = mask.height_m()[0].double() * mask.index_differences([wavelength_m]) / wavelength_m
    period = mask.levels * mask.feature_samples
    x = torch.arange(turns.numel(), dtype=torch.float64) / period
    amplitude = torch.polar(torch.ones_like(x), 2 * pi * (turns - order * x)).mean()
    return float(amplitude.abs() ** 2) * sinc2(order / period)


@pytest.mark.parametrize(
    ("levels", "expected"), [(2, 0.4052847346), (4, 0.8105694691), (8, 0.9496412), (16, 0.9872148)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_blazed_grating_sends_sinc2_into_the_first_order(levels: int, expected: float, dtype: torch.dtype) -> None:
    mask = blaze(GRID, levels, 2, dtype)
    assert efficiency(mask, L0, 1) == pytest.approx(sinc2(1 / levels), rel=EXACT[dtype])
    assert sinc2(1 / levels) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("levels", [2, 4, 8, 16])
def test_efficiency_through_the_whole_camera_is_within_half_a_percent(levels: int) -> None:
    # Light in a cell of a third of the spacing around the spot at +L d / period, against that of a flat mask around the
    # axis. Tails of the other orders fall into the cell too: 0.35 % for two levels, less for more.
    grid, lens, period = PupilGrid(1e-3, 512), ThinLens(20e-3, 1.0), 64
    spacing = L0 * lens.sensor_distance_m / (period * grid.pitch_m)
    to_psf = PupilToPsf(grid, lens, [L0], spacing / 3, 15, dtype=torch.float64)
    mask = blaze(grid, levels, period // levels)
    psf = to_psf(mask)[0].sum(0)
    flat = to_psf(Given(to_psf.grid, torch.zeros_like(mask.height_m()), [0.4]))[0].sum(0)
    share = float(psf[10] / flat[7]) * sinc2(1 / period)
    assert share == pytest.approx(sinc2(1 / levels), rel=5e-3)


def test_binary_half_wave_grating() -> None:
    mask = blaze(GRID, 2, 4)
    assert efficiency(mask, L0, 1) == pytest.approx(4 / pi**2, rel=1e-12)
    assert efficiency(mask, L0, -1) == pytest.approx(4 / pi**2, rel=1e-12)
    assert efficiency(mask, L0, 0) < 1e-24


@pytest.mark.parametrize("wavelength_m", [460e-9, 633e-9])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_detuned_blaze(wavelength_m: float, order: int) -> None:
    # Depth of a turns: eta_m = sinc^2(m / N) [sin(pi (a - m)) / (N sin(pi (a - m) / N))]^2.
    levels, mask = 8, blaze(GRID, 8, 2)
    index = index_differences(FUSED_SILICA, [wavelength_m, L0])
    offset = L0 / wavelength_m * float(index[0] / index[1]) - order
    expected = sinc2(order / levels) * (sin(pi * offset) / (levels * sin(pi * offset / levels))) ** 2
    assert efficiency(mask, wavelength_m, order) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(sinc2(offset), abs=0.06)  # the continuous blaze


@pytest.mark.parametrize("quantisation", ["straight-through", "gumbel"])
@pytest.mark.parametrize("levels", [2, 4, 8, 16])
def test_gradient_reaches_every_feature(levels: int, quantisation: Literal["straight-through", "gumbel"]) -> None:
    grid, lens = PupilGrid(0.2e-3, 32), ThinLens(4e-3, 1.0)
    generator = torch.Generator().manual_seed(4)
    start = nn.Parameter(torch.randn(16, 16, generator=generator))
    mask = DiffractiveMask(
        grid, levels, design_wavelength_m=L0, feature_samples=2, quantisation=quantisation, generator=generator,
        start=start,
    )  # fmt: skip
    to_psf = PointPsf(grid, lens, [L0], 2e-6, 31)
    psf = to_psf(mask)[0]
    psf[10, 20].backward()
    seen = grid.amplitude.reshape(16, 2, 16, 2).sum((1, 3)) > 0
    assert start.grad is not None
    assert bool(torch.isfinite(start.grad).all())
    assert float((start.grad[seen] != 0).float().mean()) > 0.97
    assert start.grad[~seen].abs().max() == 0
    assert float(start.grad.abs().max()) > 1e-6 * float(psf.detach().max())


@pytest.mark.parametrize("levels", [2, 4, 8, 16])
def test_straight_through_gradient_is_that_of_the_continuous_level(levels: int) -> None:
    controls = nn.Parameter(torch.linspace(-3, 3, 1024, dtype=torch.float64).reshape(32, 32))
    mask = DiffractiveMask(GRID, levels, max_height_m=1e-6, feature_samples=2, start=controls, dtype=torch.float64)
    weight = torch.rand(64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (mask.height_m() * weight).sum().backward()
    sigmoid = torch.sigmoid(controls.detach())
    slope = 1e-6 / (levels - 1) * levels * sigmoid * (1 - sigmoid)
    expected = slope * weight.reshape(32, 2, 32, 2).sum((1, 3))
    assert controls.grad is not None
    assert torch.allclose(controls.grad, expected, rtol=1e-12)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_levels_are_exact(mode: str) -> None:
    controls = torch.randn(32, 32, generator=torch.Generator().manual_seed(5)) * 3
    mask = DiffractiveMask(GRID, 8, max_height_m=1.4e-6, feature_samples=2, start=controls).train(mode == "train")
    level = mask.level_map()
    assert sorted(level.unique().tolist()) == list(range(8))
    assert torch.equal(mask.height_m()[::2, ::2], level.float() * mask.step_m)
    assert torch.equal(mask.height_m()[1::2, 1::2], mask.height_m()[::2, ::2])
    assert float(mask.height_m().max()) == pytest.approx(1.4e-6, rel=1e-6)


def test_all_levels_are_reached_and_come_back() -> None:
    level = torch.arange(16).expand(16, 16).flatten().reshape(16, 16)
    start = controls_for_levels(level, 16)
    mask = DiffractiveMask(GRID, 16, design_wavelength_m=L0, feature_samples=4, start=start)
    assert torch.equal(mask.level_map(), level)
    assert mask.height_m()[0].argmax() == 60  # x runs along the last axis


def test_gumbel_approaches_the_levels_and_follows_its_generator() -> None:
    controls = torch.randn(32, 32, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def build(seed: int, temperature: float) -> DiffractiveMask:
        return DiffractiveMask(
            GRID, 4, max_height_m=3e-6, feature_samples=2, quantisation="gumbel", temperature=temperature,
            generator=torch.Generator().manual_seed(seed), start=controls, dtype=torch.float64,
        )  # fmt: skip

    exact = build(1, 0.5).eval().height_m()
    assert torch.equal(exact, build(2, 0.5).eval().height_m())
    cold, warm = build(1, 1e-4).height_m(), build(1, 0.5).height_m()
    assert float(((cold - exact).abs() < 1e-12).double().mean()) > 0.99
    assert float((warm - exact).abs().mean()) > 1e-8
    assert torch.equal(warm, build(1, 0.5).height_m())
    assert not torch.equal(warm, build(2, 0.5).height_m())


def test_gumbel_gradient_matches_differences() -> None:
    controls = torch.randn(8, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def level(value: torch.Tensor) -> torch.Tensor:
        mask = DiffractiveMask(
            GRID, 8, max_height_m=7.0, feature_samples=8, quantisation="gumbel",
            generator=torch.Generator().manual_seed(3), start=torch.zeros(8, 8), dtype=torch.float64,
        )  # fmt: skip
        return torch.func.functional_call(mask, {"controls": value}, ([L0],))

    assert torch.autograd.gradcheck(level, (controls.requires_grad_(),))


def test_sizes_in_metres_and_heights() -> None:
    mask = DiffractiveMask(GRID, 4, design_wavelength_m=L0, feature_m=4 * GRID.pitch_m)
    assert (mask.features, mask.feature_samples) == (16, 4)
    assert mask.feature_m == pytest.approx(4 * GRID.pitch_m)
    difference = float(index_differences(FUSED_SILICA, [L0])[0])
    assert 4 * mask.step_m * difference == pytest.approx(L0)
    assert mask.max_height_m == pytest.approx(3 * mask.step_m)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 1}, "levels=1 makes no relief"),
        ({"max_height_m": None}, "pass either max_height_m or design_wavelength_m"),
        ({"design_wavelength_m": L0}, "pass either max_height_m or design_wavelength_m"),
        ({"max_height_m": -1e-6}, "max_height_m=-1e-06 must be a positive height"),
        ({"feature_samples": None}, "pass either feature_samples or feature_m"),
        ({"feature_samples": 3}, "a feature of 3 pupil samples does not fill the 64 samples of the pupil"),
        ({"feature_samples": None, "feature_m": 1e-5}, "feature_m=1e-05 is 1.28 samples of the pupil"),
        ({"feature_samples": None, "feature_m": -1.0}, "feature_m=-1.0 must be a positive length"),
        ({"quantisation": "round"}, "quantisation='round' is unknown"),
        ({"quantisation": "gumbel"}, "pass generator"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"start": torch.full((32, 32), torch.nan)}, "controls has 1024 of 1024 values that are NaN"),
        ({"start": torch.zeros(4, 4)}, r"controls has shape \(4, 4\) but \(32, 32\) is needed"),
        ({"start": nn.Parameter(torch.zeros(32, 32).double())}, "controls is a Parameter of torch.float64 but dtype"),
    ],
)
def test_impossible_masks_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"levels": 4, "max_height_m": 1e-6, "feature_samples": 2} | change
    with pytest.raises(OpticsError, match=message):
        DiffractiveMask(GRID, **arguments)


def test_levels_out_of_range_are_refused() -> None:
    with pytest.raises(OpticsError, match="level spans 0 to 4; with levels=4 it must stay within 0 to 3"):
        controls_for_levels(torch.arange(5), 4)
