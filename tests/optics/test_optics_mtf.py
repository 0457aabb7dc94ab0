"""Figures of merit against closed forms."""

from __future__ import annotations

from math import acos, pi, sqrt

import pytest
import torch

from optics import OpticsError, PointPsf, PupilGrid, PupilToPsf, ThinLens
from optics.elements import zernike_basis
from optics.imaging.mtf import encircled_energy, ideal_mtf, psf_mtf, strehl_ratio
from tests.optics.raw_pupil import Given

LENS = ThinLens(4e-3, 1.0)
GRID = PupilGrid(0.5e-3, 256)
WAVE = 540e-9
NUMBER = LENS.f_number(GRID.diameter_m)
UNIT = WAVE * NUMBER
FLAT = torch.zeros(256, 256, dtype=torch.float64)
ONE = torch.ones(1, dtype=torch.float64)

EXACT = 1e-12
# What 256 samples across the aperture leave of a closed form.
SAMPLED = 1e-3


def whole_period() -> tuple[torch.Tensor, float]:
    """The ideal PSF on 513 points that fill one replica period, so that no light misses the window."""
    pitch = 256 * UNIT / 513
    return PointPsf(GRID, LENS, [WAVE], pitch, 513, dtype=torch.float64)(Given(GRID, FLAT, ONE))[0], pitch


def test_mtf_of_the_ideal_lens() -> None:
    psf, pitch = whole_period()
    curves = psf_mtf(psf, pitch)
    s = curves.frequency_per_m * UNIT
    truth = torch.tensor([2 / pi * (acos(v) - v * sqrt(1 - v * v)) if v < 1 else 0.0 for v in s.tolist()])
    assert (curves.x - truth)[1:].abs().max() < SAMPLED
    assert (curves.y - truth)[1:].abs().max() < SAMPLED
    half = int((s - 0.5).abs().argmin())
    assert s[half] == pytest.approx(0.5, abs=EXACT)
    assert curves.x[half] == pytest.approx(0.3910022190, abs=1e-4)
    # At frequency 0 stands the light in the window: all but what the sharp rim throws beyond one period.
    assert curves.x[0] == pytest.approx(float(psf.sum()), rel=EXACT)
    assert 1 - 0.7 / 256 < curves.x[0] < 1
    assert s[-1] == pytest.approx(1.0, abs=EXACT)
    assert curves.x[-1] < EXACT


def test_ideal_mtf_closed_form() -> None:
    value = ideal_mtf(torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64) / UNIT, WAVE, NUMBER)
    assert value.tolist() == pytest.approx([1, 0.3910022190, 0, 0], abs=1e-10)


def test_mtf_axes_and_pair_of_points() -> None:
    # Two points a cells apart along x: |cos(pi f a)| along x, 1 along y.
    psf = torch.zeros(2, 64, 64, dtype=torch.float64)
    psf[0, 30, 20] = psf[0, 30, 25] = 0.5
    psf[1] = psf[0].T
    curves = psf_mtf(psf, 2e-6)
    assert curves.frequency_per_m[-1] == pytest.approx(1 / 4e-6)
    fringes = (pi * curves.frequency_per_m * 10e-6).cos().abs()
    flat = torch.ones_like(fringes)
    for got, truth in [(curves.x[0], fringes), (curves.y[0], flat), (curves.x[1], flat), (curves.y[1], fringes)]:
        assert (got - truth).abs().max() < EXACT


def test_encircled_energy_at_the_airy_zeros() -> None:
    psf = PupilToPsf(GRID, LENS, [WAVE], 0.05 * UNIT, 135, dtype=torch.float64)(Given(GRID, FLAT, ONE))
    zeros = torch.tensor([1.2196698912665045, 2.233130594381529, 3.238315484166236]) * UNIT
    energy = encircled_energy(psf, 0.05 * UNIT, zeros)
    assert energy.shape == (1, 3)
    assert energy[0].tolist() == pytest.approx([0.8377848691733, 0.9099305, 0.9376475], abs=3e-4)


def test_encircled_energy_of_even_light_is_the_area() -> None:
    psf = torch.full((2, 11, 11), 1 / 121, dtype=torch.float64)
    radii = torch.tensor([0.3, 2.0, 5.5], dtype=torch.float64)
    energy = encircled_energy(psf, 1.0, radii)
    assert torch.allclose(energy, (pi * radii.square() / 121).expand(2, 3), atol=EXACT, rtol=0)


@pytest.mark.parametrize(("term", "strehl"), [(4, 0.8141256), (5, 0.8167569)])
def test_strehl_of_a_fourteenth_wave(term: int, strehl: float) -> None:
    basis = zernike_basis(11, GRID, torch.float64)
    psf = PointPsf(GRID, LENS, [WAVE], 0.1 * UNIT, 9, dtype=torch.float64)
    ratio = strehl_ratio(psf(Given(psf.grid, basis[term - 1] * WAVE / 14, ONE)), psf(Given(psf.grid, FLAT, ONE)))
    assert ratio.tolist() == pytest.approx([strehl], abs=1e-4)


def test_figures_carry_gradients() -> None:
    psf = torch.rand(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    radii = torch.tensor([1.2, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: encircled_energy(p, 1.0, radii), psf)
    assert torch.autograd.gradcheck(lambda p: (psf_mtf(p, 1.0).x, psf_mtf(p, 1.0).y), psf)


SQUARE = torch.ones(9, 9)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: psf_mtf(torch.ones(8, 9), 1e-6), r"psf has shape \(8, 9\)"),
        (lambda: psf_mtf(SQUARE, 0.0), "pitch_m=0.0 must be a positive"),
        (lambda: psf_mtf(0 * SQUARE, 1e-6), "psf holds no light"),
        (lambda: psf_mtf(float("nan") * SQUARE, 1e-6), "not finite"),
        (lambda: encircled_energy(torch.ones(8, 8), 1.0, torch.ones(1)), "8 cells along a side; an odd number"),
        (lambda: encircled_energy(SQUARE, 1.0, torch.tensor([4.6])), "at most 4.5 m, half the window"),
        (lambda: encircled_energy(SQUARE, 1.0, torch.tensor([0.0])), "values above 0"),
        (lambda: strehl_ratio(SQUARE, torch.ones(7, 7)), r"psf \(9, 9\) and ideal \(7, 7\)"),
    ],
)
def test_bad_input(call: object, match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        call()  # type: ignore[operator]
