"""Deformable mirror and spatial light modulator."""

from __future__ import annotations

from math import pi, sin
from typing import Any

import pytest
import torch
from torch import nn

from optics import OpticsError, PointPsf, PupilGrid, ThinLens
from optics.elements import (
    DeformableMirror,
    SpatialLightModulator,
    ZernikeWavefront,
    gaussian_influence,
    linear_phase_table,
)
from tests.optics.raw_pupil import Given

GRID, LENS, L0 = PupilGrid(2e-3, 64), ThinLens(20e-3, 1.0), 532e-9
F64 = torch.float64


def rough(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def mirror(limit: float = 1e-5, commands: torch.Tensor | None = None, actuators: int = 5) -> DeformableMirror:
    influence = gaussian_influence(GRID, actuators, 2e-3 / (actuators - 1), 0.15, F64)
    return DeformableMirror(GRID, influence, limit, commands, dtype=F64)


def test_influence_is_1_at_the_actuator_and_the_coupling_at_its_neighbour() -> None:
    # An odd grid whose samples meet the lattice: 5 actuators, 8 samples apart.
    grid = PupilGrid(33e-5, 33)
    influence = gaussian_influence(grid, 5, 8e-5, 0.2, F64)
    assert influence.shape == (25, 33, 33)
    assert float(influence[12, 16, 16]) == pytest.approx(1.0)
    assert float(influence[12, 16, 24]) == pytest.approx(0.2)
    assert float(influence[12, 8, 8]) == pytest.approx(0.04)
    assert float(influence[13, 16, 24]) == pytest.approx(1.0)  # the next one lies to the right
    assert float(influence[17, 24, 16]) == pytest.approx(1.0)  # five on: one row down


def test_path_is_twice_the_sum_of_influences_and_commands_are_clipped() -> None:
    commands = rough(25) * 1e-7
    element = mirror(commands=commands)
    direct = 2 * sum(c * f for c, f in zip(commands, element.influence, strict=True))
    assert (element.path_m([L0, 633e-9])[1] - direct).abs().max() < 1e-20
    loud = torch.full((2, 25), 3e-5, dtype=F64)
    assert torch.equal(element.surface_m(loud), element.surface_m(loud / 3))
    assert element.surface_m(loud).shape == (2, 64, 64)
    assert torch.equal(element.surface_m(loud * 0.1)[1], element.surface_m(loud[1] * 0.1))


def test_commands_to_surface_is_linear_with_its_adjoint() -> None:
    element, x, y = mirror(), rough(25, seed=2).mul(1e-6).requires_grad_(), rough(64, 64, seed=3)
    surface = element.surface_m(x)
    (adjoint,) = torch.autograd.grad((surface * y).sum(), x)
    expected = torch.einsum("aij,ij->a", element.influence, y)
    assert torch.allclose(adjoint, expected, rtol=1e-10, atol=0)
    assert float(x.detach() @ adjoint) == pytest.approx(float((surface * y).sum().detach()), rel=1e-10)


def test_fit_returns_the_commands_that_made_a_wavefront() -> None:
    element, commands = mirror(), rough(3, 25, seed=4) * 1e-6
    wavefront = 2 * element.surface_m(commands)
    found = element.fit(wavefront)
    assert (found - commands).abs().max() < 1e-14
    assert torch.allclose(element.fit(wavefront[1]), found[1], rtol=1e-9, atol=1e-18)


def test_fit_within_limits_meets_the_optimality_conditions() -> None:
    limit = 1.5e-6
    element = mirror(limit)
    wavefront = 2 * (element.influence.flatten(1).mT @ (rough(25, seed=5) * 3e-6)).reshape(64, 64)
    commands = element.fit(wavefront)
    scaled = commands / limit
    assert float(scaled.abs().max()) <= 1
    low, high = scaled < -1 + 1e-9, scaled > 1 - 1e-9
    assert bool(low.any()) and bool(high.any())
    weight = GRID.amplitude
    residual = wavefront - 2 * element.surface_m(commands)
    slope = torch.einsum("aij,ij->a", element.influence, residual * weight)  # falls of the error per unit of command
    scale = float(torch.einsum("aij,ij->a", element.influence, wavefront.abs() * weight).max())
    assert float(slope[~low & ~high].abs().max()) < 1e-6 * scale
    assert float(slope[high].min()) > 0
    assert float(slope[low].max()) < 0


def test_mirror_corrects_astigmatism_and_restores_the_peak() -> None:
    wavefront = ZernikeWavefront(GRID, torch.tensor([0.0] * 5 + [1.5e-7], dtype=F64), dtype=F64).path_m([L0])
    element = mirror(actuators=9)
    commands = element.fit(-wavefront[0])
    to_psf, zeros = PointPsf(GRID, LENS, [L0], 2e-6, 3, dtype=F64), torch.zeros(64, 64, dtype=F64)
    corrected = wavefront + 2 * element.surface_m(commands)
    flat = float(to_psf(Given(GRID, zeros, [0.0]))[0, 1, 1])
    peaks = (to_psf(Given(GRID, zeros, [0.0], wavefront_m=w))[0, 1, 1] for w in (wavefront, corrected))
    strehl = [float(peak) / flat for peak in peaks]
    assert strehl[0] < 0.2
    assert strehl[1] > 0.99


def test_impossible_mirrors_are_refused() -> None:
    influence = gaussian_influence(GRID, 2, 1e-3, 0.15)
    with pytest.raises(OpticsError, match="max_command_m=0 must be"):
        DeformableMirror(GRID, influence, 0)
    with pytest.raises(OpticsError, match=r"influence has shape \(64, 64\)"):
        DeformableMirror(GRID, influence[0], 1e-6)
    with pytest.raises(OpticsError, match=r"influence has shape \(4, 8, 8\) but \(4, 64, 64\) is needed"):
        DeformableMirror(GRID, influence[:, :8, :8], 1e-6)
    with pytest.raises(OpticsError, match="influence has 16384 of 16384 values that are NaN"):
        DeformableMirror(GRID, influence * torch.nan, 1e-6)
    with pytest.raises(OpticsError, match=r"commands_m reaches 2e-06 m but max_command_m=1e-06"):
        DeformableMirror(GRID, influence, 1e-6, torch.full((4,), 2e-6))
    element = DeformableMirror(GRID, influence, 1e-6)
    with pytest.raises(OpticsError, match=r"commands_m has shape \(5,\) for 4 actuators"):
        element.surface_m(torch.zeros(5))
    with pytest.raises(OpticsError, match=r"wavefront_m has shape \(8, 8\)"):
        element.fit(torch.zeros(8, 8))
    with pytest.raises(OpticsError, match="wavefront_m has 4096 of 4096 values"):
        element.fit(torch.full((64, 64), torch.nan))
    with pytest.raises(OpticsError, match="actuators=0 must be"):
        gaussian_influence(GRID, 0, 1e-3, 0.1)
    with pytest.raises(OpticsError, match="pitch_m=-1 must be"):
        gaussian_influence(GRID, 2, -1, 0.1)
    with pytest.raises(OpticsError, match="coupling=1 must be between 0 and 1"):
        gaussian_influence(GRID, 2, 1e-3, 1)


def slm(samples: int = 4, **change: Any) -> SpatialLightModulator:
    arguments: dict[str, Any] = {"phase_table_rad": linear_phase_table(8), "wavelength_m": L0, "dtype": F64}
    return SpatialLightModulator(GRID, samples * GRID.pitch_m, **(arguments | change))


def on_axis(element: SpatialLightModulator, wave: float = L0) -> float:
    to_psf, zeros = PointPsf(GRID, LENS, [wave], 2e-6, 1, dtype=F64), torch.zeros(64, 64, dtype=F64)
    psf = to_psf(element)
    return float(psf[0, 0, 0].detach() / to_psf(Given(to_psf.grid, zeros, [0.0]))[0, 0, 0])


@pytest.mark.parametrize("samples", [1, 4, 16])
@pytest.mark.parametrize("fill", [1.0, 0.93, 0.5])
def test_absorbing_dead_zone_leaves_the_square_of_the_fill_factor_on_axis(samples: int, fill: float) -> None:
    # The mean over a pixel is F; a grey rim meets pixels unevenly, so a whole number of them is averaged instead.
    factor = slm(samples, fill_factor=fill).transmission()
    mean = 1.0 if factor is None else float(factor[:samples, :samples].mean())
    assert mean == pytest.approx(fill, rel=1e-12)
    if samples == 1:
        assert on_axis(slm(samples, fill_factor=fill)) == pytest.approx(fill**2, rel=1e-12)


@pytest.mark.parametrize("phase", [0.0, pi / 2, pi, 5.0])
def test_unmodulated_dead_zone_interferes_with_the_active_area(phase: float) -> None:
    fill = 0.9
    level = torch.full((64, 64), phase / (2 * pi) * 256, dtype=F64)
    element = slm(1, fill_factor=fill, dead_zone="unmodulated", drive=level)
    given = float(element.phase_rad()[0, 0])
    field = fill * torch.polar(torch.tensor(1.0, dtype=F64), torch.tensor(given, dtype=F64)) + (1 - fill)
    assert on_axis(element) == pytest.approx(float(field.abs() ** 2), rel=1e-9)
    path, factor = element.path_m([L0]), element.transmission([L0])
    assert factor is not None
    here = torch.polar(factor[0, 5, 5], 2 * pi * path[0, 5, 5] / L0)
    assert float((here - field).abs()) < 1e-9


def test_dead_zone_gives_pixel_orders() -> None:
    # 8 samples a pixel, the middle 6 active: order k of one axis is sin(6 x) / (8 sin x), x = pi k / 8.
    factor = slm(8, fill_factor=(6 / 8) ** 2).transmission()
    assert factor is not None
    assert sorted(factor.unique().tolist()) == [0.0, 1.0]
    row = factor[12, :8]
    for k in (1, 2, 3):
        wave = torch.polar(torch.ones(8, dtype=F64), 2 * pi * k * torch.arange(8, dtype=F64) / 8)
        expected = sin(6 * pi * k / 8) / (8 * sin(pi * k / 8))
        assert float((row * wave).mean().abs()) == pytest.approx(abs(expected), abs=1e-12)


def test_phase_scales_with_wavelength_and_dispersion() -> None:
    drive = torch.full((16, 16), 64.0, dtype=F64)  # a quarter turn
    path = slm(drive=drive).path_m([L0, 2 * L0])
    assert torch.allclose(path, torch.tensor(L0 / 4, dtype=F64))
    liquid = slm(drive=drive, dispersion=lambda w: (L0 / w) ** 0.5).path_m([4 * L0])
    assert torch.allclose(liquid, torch.tensor(L0 / 8, dtype=F64))


def test_table_is_looked_up_exactly_and_its_slope_is_the_gradient() -> None:
    table = torch.tensor([0.0, 0.3, 1.1, 1.4, 2.9, 3.0, 4.5, 6.1], dtype=F64)
    values = torch.tensor([[0.0, 0.4, 0.6, 2.5], [3.2, 6.9, 9.0, -2.0]], dtype=F64).repeat(2, 1)
    drive = nn.Parameter(values.repeat(4, 4)[:16, :16].contiguous())
    element = slm(phase_table_rad=table, drive=drive)
    assert element.phase_rad()[:2, :4].detach().tolist() == [[0.0, 0.0, 0.3, 1.1], [1.4, 6.1, 6.1, 0.0]]
    assert element.grey_levels()[:2, :4].tolist() == [[0, 0, 1, 2], [3, 7, 7, 0]]
    element.phase_rad().sum().backward()
    slopes = torch.tensor([[0.3, 0.3, 0.3, 0.3], [1.5, 1.6, 0.0, 0.0]], dtype=F64)
    assert drive.grad is not None
    assert torch.allclose(drive.grad[:2, :4], slopes)
    assert float(slm().drive[0, 0].detach()) == 127.5


@pytest.mark.parametrize("falling", [False, True])
def test_drive_for_inverts_a_measured_table(falling: bool) -> None:
    level = torch.linspace(0, 1, 256, dtype=F64)
    table = 0.4 + 6.0 * level + 0.25 * (2 * pi * level).sin() * level
    element = slm(phase_table_rad=table.flip(0) if falling else table)
    wanted = torch.linspace(0.4, 6.4, 50, dtype=F64) + 4 * pi
    drive = element.drive_for(wanted)
    got = element.table[drive.round().long()]
    assert (got - (wanted - 4 * pi)).abs().max() < 0.5 * float(table.diff().max()) * 1.01
    # Beyond the reach of 6 of 6.28 radians the nearer end is taken.
    ends = element.drive_for(torch.tensor([0.4 - 0.05, 6.4 + 0.05], dtype=F64))
    assert (element.table[ends.long()] - torch.tensor([0.4, 6.4], dtype=F64)).abs().max() < 1e-9


def test_gradient_reaches_the_panel_through_the_psf() -> None:
    to_psf = PointPsf(GRID, LENS, [L0, 633e-9], 2.5e-6, 15)
    for dead_zone in ("absorbing", "unmodulated"):
        drive = nn.Parameter(torch.rand(16, 16, generator=torch.Generator().manual_seed(3)) * 255)
        element = slm(fill_factor=0.9, dead_zone=dead_zone, drive=drive, dtype=torch.float32)
        psf = to_psf(element)
        psf[0, 4, 9].backward()
        assert drive.grad is not None
        assert bool(torch.isfinite(drive.grad).all())
        assert float(drive.grad.ne(0).float().mean()) > 0.8


def test_single_agrees_with_double() -> None:
    drive = torch.rand(16, 16, generator=torch.Generator().manual_seed(5)) * 255
    double, single = (slm(fill_factor=0.8, dead_zone="unmodulated", drive=drive, dtype=d) for d in (F64, torch.float32))
    assert (double.path_m([L0]) - single.path_m([L0])).abs().max() < 1e-6 * L0
    exact, rounded = double.transmission([L0]), single.transmission([L0])
    assert exact is not None
    assert rounded is not None
    assert (exact - rounded).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fill_factor": 0.0}, "fill_factor=0.0 must be above 0"),
        ({"dead_zone": "mirror"}, "dead_zone='mirror' is unknown"),
        ({"wavelength_m": -1.0}, r"wavelengths_m=\(-1.0,\) must be"),
        ({"phase_table_rad": torch.zeros(5)}, r"phase_table_rad has shape \(5,\); it needs 2\^bits entries"),
        ({"phase_table_rad": torch.tensor([0.0, 1.0, 0.5, 2.0])}, "phase_table_rad is not monotone"),
        ({"phase_table_rad": torch.zeros(4)}, "phase_table_rad is not monotone"),
        ({"phase_table_rad": torch.tensor([0.0, torch.nan])}, "phase_table_rad has 1 of 2 values that are NaN"),
        ({"drive": torch.zeros(4, 4)}, r"drive has shape \(4, 4\) but \(16, 16\) is needed"),
        ({"drive": torch.full((16, 16), torch.nan)}, "drive has 256 of 256 values that are NaN"),
        ({"samples": 3}, "a pixel of 3 pupil samples does not fill the 64 samples"),
        ({"samples": 1.5}, "pixel_pitch_m=4.6875e-05 is 1.5 samples of the pupil"),
        ({"dispersion": lambda w: 2.0}, "dispersion gives 2 at wavelength_m=5.32e-07; it must be 1"),
    ],
)
def test_impossible_panels_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        slm(**change)


def test_impossible_requests_to_a_panel_are_refused() -> None:
    with pytest.raises(OpticsError, match="pass wavelengths_m"):
        slm(fill_factor=0.9, dead_zone="unmodulated").transmission()
    with pytest.raises(OpticsError, match="phase_rad has 1 of 1 values"):
        slm().drive_for(torch.tensor([torch.inf]))
    with pytest.raises(OpticsError, match="bits=0 must be between 1 and 16"):
        linear_phase_table(0)
    nowhere = slm(dispersion=lambda w: 1.0 if w == L0 else float("nan"))
    with pytest.raises(OpticsError, match=r"dispersion gives .* it must be finite"):
        nowhere.path_m([633e-9])
