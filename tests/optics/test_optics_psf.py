"""The point-spread function against closed forms of diffraction theory."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.special import j0, j1

from optics import FreeformMask, PointPsf, PupilGrid, PupilToPsf, ThinLens, random_mask
from optics.elements import zernike_basis
from tests.optics.raw_pupil import Given

WAVES = (620e-9, 540e-9, 460e-9)
LENS = ThinLens(4e-3, 1.0)
GRID = PupilGrid(0.5e-3, 256)
GREEN = 540e-9
UNIT = GREEN * LENS.f_number(GRID.diameter_m)  # lambda N in metres
ONE = torch.ones(1, dtype=torch.float64)
FLAT = torch.zeros(256, 256, dtype=torch.float64)

EXACT = 1e-12
# What 256 samples across the aperture leave of a closed form.
SAMPLED = 1e-4
FLOAT32 = 2e-6


def point_psf(pitch_units: float, samples: int) -> PointPsf:
    """Green PSF at points ``pitch_units`` lambda N apart, float64."""
    return PointPsf(GRID, LENS, [GREEN], pitch_units * UNIT, samples, dtype=torch.float64)


def airy_row() -> tuple[np.ndarray, np.ndarray]:
    """Positions in lambda N and field of the flat pupil along +x."""
    field = point_psf(0.02, 401).amplitude(Given(GRID, FLAT, ONE))[0, 200, 200:]
    assert field.imag.abs().max() < EXACT
    return np.arange(201) * 0.02, field.real.numpy()


def test_airy_zeros() -> None:
    position, field = airy_row()
    roots = CubicSpline(position, field).roots(extrapolate=False)
    assert roots == pytest.approx([1.2196698912665045, 2.233130594381529, 3.238315484166236], abs=SAMPLED)


def test_airy_profile_and_peak() -> None:
    position, field = airy_row()
    v = pi * position[1:]
    peak = pi / 4 * (0.02) ** 2  # share of the light in pitch^2 at the centre: area / (lambda d)^2 pitch^2
    assert field[0] ** 2 == pytest.approx(peak, rel=EXACT)
    assert np.abs(field[1:] / field[0] - 2 * j1(v) / v).max() < SAMPLED


def test_airy_encircled_energy() -> None:
    position, field = airy_row()
    ring = CubicSpline(position, field**2 / 0.02**2 * 2 * pi * position)
    for zero, energy in [
        (1.2196698912665045, 0.8377848691733),
        (2.233130594381529, 0.9099305),
        (3.238315484, 0.9376475),
    ]:
        assert float(ring.integrate(0, zero)) == pytest.approx(energy, abs=SAMPLED)


def test_airy_energy_in_a_cell() -> None:
    # A cell of side 2 lambda N against the double integral of the Airy pattern.
    psf = PupilToPsf(GRID, LENS, [GREEN], 2 * UNIT, 1, dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    v = pi * np.hypot(nodes[:, None], nodes)
    integral = float(weights @ (2 * j1(v) / v) ** 2 @ weights) * pi / 4
    assert float(psf(Given(psf.grid, FLAT, ONE))) == pytest.approx(integral, abs=SAMPLED)


@pytest.mark.parametrize("relief", ["flat", "strong"])
def test_energy_over_a_whole_period_is_conserved(relief: str) -> None:
    samples = 101
    period = GREEN * LENS.sensor_distance_m / GRID.pitch_m
    psf = PupilToPsf(GRID, LENS, [GREEN], period / samples, samples, dtype=torch.float64)
    strong = random_mask(GRID, 40, 3e-6, torch.Generator().manual_seed(0), dtype=torch.float64)
    height = FLAT if relief == "flat" else strong.height_m()
    total = float(psf(Given(psf.grid, height, torch.tensor([0.46])), 0.4).sum())
    power = float(GRID.amplitude.square().sum() / GRID.amplitude.sum())
    assert total == pytest.approx(power, rel=EXACT)
    assert 1 - 0.7 / 256 < total < 1


def test_window_holds_its_share_and_misses_the_rest() -> None:
    # Airy energy in a square window grows with it and approaches 1 from below.
    shares = [
        float(PupilToPsf(GRID, LENS, [GREEN], UNIT, k, dtype=torch.float64)(Given(GRID, FLAT, ONE)).sum())
        for k in (3, 9, 51, 201)
    ]
    assert shares == sorted(shares)
    assert shares[0] > 0.8378
    assert 1 - 0.01 < shares[-1] < 1


def test_cells_are_integrals_of_the_point_psf() -> None:
    mask = random_mask(GRID, 16, 1.5e-6, torch.Generator().manual_seed(1), dtype=torch.float64).height_m()
    dn, cells, steps, pitch = torch.tensor([0.46]), 7, 48, 15e-6
    psf = PupilToPsf(GRID, LENS, [GREEN], pitch, cells, dtype=torch.float64)(Given(GRID, mask, dn), 0.6)[0]
    fine = PointPsf(GRID, LENS, [GREEN], pitch / steps, cells * steps + 1, dtype=torch.float64)(
        Given(GRID, mask, dn), 0.6
    )[0]
    simpson = torch.tensor([1.0, *[4.0, 2.0] * (steps // 2 - 1), 4.0, 1.0], dtype=torch.float64) / 3
    windows = fine.unfold(0, steps + 1, steps).unfold(1, steps + 1, steps)
    assert (psf - windows @ simpson @ simpson).abs().max() < 1e-5 * psf.max()


@pytest.mark.parametrize(("term", "strehl"), [(4, 0.8141256), (5, 0.8167569), (7, 0.8162000), (11, 0.8152009)])
def test_strehl_of_a_fourteenth_wave(term: int, strehl: float) -> None:
    psf = point_psf(0.1, 1)
    height = zernike_basis(term, GRID, torch.float64)[-1] * (GREEN / 14 / 0.5)
    ratio = float(psf(Given(psf.grid, height, 0.5 * ONE)) / psf(Given(psf.grid, FLAT, ONE)))
    assert ratio == pytest.approx(strehl, abs=SAMPLED)


def test_on_axis_null_at_one_wave_of_defocus() -> None:
    # W20 = R^2 / 2 (1/z - 1/z0) = one wavelength.
    vergence = 1 / LENS.focus_distance_m + 2 * GREEN / (GRID.diameter_m / 2) ** 2
    psf = point_psf(0.1, 1)
    assert float(psf(Given(psf.grid, FLAT, ONE), 1 / vergence)) < SAMPLED * float(psf(Given(psf.grid, FLAT, ONE)))


@pytest.mark.parametrize(("term", "axis"), [(2, 1), (3, 0)])
def test_tilt_shifts_towards_the_thick_side_by_four_a_lambda_n(term: int, axis: int) -> None:
    waves = 0.75
    height = zernike_basis(term, GRID, torch.float64)[-1] * (waves * GREEN / 0.5)
    psf = point_psf(0.125, 65)(Given(GRID, height, 0.5 * ONE))[0]
    peak = np.unravel_index(int(psf.argmax()), psf.shape)
    offset = [(int(p) - 32) * 0.125 for p in peak]
    assert offset[axis] == pytest.approx(4 * waves)
    assert offset[1 - axis] == 0


def test_axis_is_the_centre_cell_and_the_flat_psf_is_symmetric() -> None:
    psf = PupilToPsf(GRID, LENS, WAVES, 15e-6, 63, dtype=torch.float64)(Given(GRID, FLAT, torch.ones(3)))
    assert psf.shape == (3, 63, 63)
    assert all(int(p.argmax()) == 31 * 63 + 31 for p in psf)
    assert (psf - psf.flip(-1)).abs().max() < EXACT
    assert (psf - psf.mT).abs().max() < EXACT


def test_batches_equal_single_calls() -> None:
    psf = PupilToPsf(GRID, LENS, WAVES, 15e-6, 31, dtype=torch.float64)
    heights = torch.stack([random_mask(GRID, 8, 1e-6, torch.Generator().manual_seed(s)).height_m() for s in (0, 1)])
    dn, distances = torch.tensor([0.456, 0.460, 0.464]), torch.tensor([0.5, 0.9])
    both = psf(Given(psf.grid, heights, dn), distances)
    assert both.shape == (2, 3, 31, 31)
    for k in (0, 1):
        assert (both[k] - psf(Given(psf.grid, heights[k], dn), float(distances[k]))).abs().max() < EXACT
    assert (
        psf(Given(psf.grid, heights[0], dn), distances)[1] - psf(Given(psf.grid, heights[0], dn), float(distances[1]))
    ).abs().max() < EXACT


def test_float32_psf_and_gradient_match_float64() -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        start = torch.randn(24, 24, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        mask = FreeformMask(GRID, 24, 4e-6, start=torch.nn.Parameter(start.to(dtype)), dtype=dtype)
        psf = PupilToPsf(GRID, LENS, WAVES, 15e-6, 63, dtype=dtype)(mask, 0.2)
        psf.square().sum().backward()
        assert mask.controls.grad is not None
        results.append((psf.detach().double(), mask.controls.grad.double()))
    for single, double in zip(*results, strict=True):
        assert (single - double).norm() < FLOAT32 * double.norm()


def test_gradcheck_from_height_to_psf() -> None:
    grid = PupilGrid(0.5e-3, 8)
    height = 1e-7 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dn = torch.tensor([0.46, 0.47], dtype=torch.float64)
    cells = PupilToPsf(grid, LENS, [620e-9, 460e-9], 3e-6, 5, dtype=torch.float64)
    points = PointPsf(grid, LENS, [620e-9, 460e-9], 1.5e-6, 5, dtype=torch.float64)
    scaled = (height * 1e6).requires_grad_()  # micrometres, so that gradcheck's step of 1e-6 is small
    for psf in (cells, points):
        assert torch.autograd.gradcheck(lambda h, psf=psf: psf(Given(psf.grid, h * 1e-6, dn), 0.3), (scaled,))


def test_gradcheck_from_controls_to_psf() -> None:
    grid = PupilGrid(0.5e-3, 16)
    psf = PupilToPsf(grid, LENS, [540e-9], 6e-6, 5, dtype=torch.float64)
    controls = torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask = FreeformMask(grid, 5, 1e-6, start=torch.nn.Parameter(controls), dtype=torch.float64)

    def through(u: torch.Tensor) -> torch.Tensor:
        path = torch.func.functional_call(mask, {"controls": u}, ([540e-9],))
        return psf.from_field(psf.pupil.from_turns(path / 540e-9))

    assert torch.autograd.gradcheck(through, (controls.clone().requires_grad_(),))


def test_defocused_axis_of_a_random_ring_matches_the_hankel_integral() -> None:
    # A rotationally symmetric pupil: U(x) is a Hankel transform, done here by quadrature in the radius.
    grid, waves = PupilGrid(0.5e-3, 256), (0.8, -0.5)
    rho2 = grid.radius.clamp(max=1) ** 2
    height = (waves[0] * rho2 + waves[1] * rho2**2) * (GREEN / 0.5)
    field = point_psf(0.25, 41).amplitude(Given(GRID, height, 0.5 * ONE))[0, 20, 20:].numpy()
    nodes, weights = np.polynomial.legendre.leggauss(200)
    rho = (nodes + 1) / 2
    phase = np.exp(2j * pi * (waves[0] * rho**2 + waves[1] * rho**4))
    position = np.arange(21) * 0.25
    truth = (weights * phase * rho) @ j0(pi * rho[:, None] * position)
    truth *= sqrt(pi / 4) * 0.25  # to the same normalisation: flat, on axis, |U|^2 = pi / 4 pitch^2
    assert np.abs(field - truth).max() < SAMPLED * np.abs(truth).max()


def test_a_field_of_any_origin_gives_the_psf_of_its_element() -> None:
    psf, mask = PupilToPsf(GRID, LENS, WAVES, 15e-6, 31), random_mask(GRID, 8, 1e-6, torch.Generator().manual_seed(4))
    waves = torch.tensor(WAVES, dtype=torch.float64)
    turns = mask.height_m() * (mask.index_differences(WAVES) / waves).float()[:, None, None]
    assert torch.equal(psf(mask, 0.5), psf.from_field(psf.pupil.from_turns(turns, 0.5)))
    # The path in metres says the same as the path in turns.
    assert (mask.path_m(WAVES) / waves[:, None, None] - mask.turns(WAVES)).abs().max() < 1e-6
