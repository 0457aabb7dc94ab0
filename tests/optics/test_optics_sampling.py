"""Sampling rules refuse what they must, and say what to change."""

from __future__ import annotations

import pytest
import torch

from optics import FlatMask, OpticsError, PointPsf, PupilGrid, PupilToPsf, ThinLens, check_sampling, random_mask
from tests.optics.raw_pupil import Given

WAVES = (620e-9, 540e-9, 460e-9)
LENS = ThinLens(4e-3, 1.0)
DN = torch.tensor([0.457, 0.460, 0.464])


def test_numbers_of_a_valid_camera() -> None:
    grid = PupilGrid(0.5e-3, 256)
    slope = 0.01
    report = check_sampling(grid, LENS, WAVES, 15e-6, 63, Given(grid, slope * grid.x_m, DN), 1.0)
    assert report.window_m == pytest.approx(945e-6)
    assert report.period_m == pytest.approx(460e-9 * LENS.sensor_distance_m / grid.pitch_m)
    assert report.nyquist_pitch_m == pytest.approx(460e-9 * LENS.sensor_distance_m / 1e-3)
    assert report.phase_step_turns == pytest.approx(slope * 0.464 * grid.pitch_m / 460e-9, rel=1e-6)


def test_a_window_wider_than_the_replica_distance_is_refused() -> None:
    message = r"raise PupilGrid samples from 128 to 256, or samples to 31 or less"
    with pytest.raises(OpticsError, match=message):
        PupilToPsf(PupilGrid(0.5e-3, 128), LENS, WAVES, 15e-6, 63)
    PupilToPsf(PupilGrid(0.5e-3, 256), LENS, WAVES, 15e-6, 63)
    PupilToPsf(PupilGrid(0.5e-3, 128), LENS, WAVES, 15e-6, 31)


def test_a_mask_too_steep_for_the_pupil_samples_is_refused() -> None:
    grid = PupilGrid(0.5e-3, 64)
    psf = PupilToPsf(grid, LENS, WAVES, 15e-6, 15)
    steep = random_mask(grid, 40, 20e-6, torch.Generator().manual_seed(0)).height_m()
    with pytest.raises(OpticsError, match=r"steps by .* turns .*limit 0.5.*raise PupilGrid samples from 64 to about"):
        psf.check(Given(psf.grid, steep, DN))
    step = psf.check(Given(psf.grid, 0.01 * steep, DN)).phase_step_turns
    assert step is not None
    assert step < 0.5


def test_defocus_too_strong_for_the_pupil_samples_is_refused() -> None:
    psf = PupilToPsf(PupilGrid(0.5e-3, 16), LENS, WAVES, 5e-6, 11)
    flat = torch.zeros(16, 16)
    with pytest.raises(OpticsError, match="defocus of object_distance_m weaker"):
        psf.check(Given(psf.grid, flat, DN), 0.02)
    # r (1/z - 1/z0) du / wavelength at the rim, one half pitch inside it.
    step = psf.check(Given(psf.grid, flat, DN), 0.2).phase_step_turns
    assert step == pytest.approx(0.25e-3 * 4 * (0.5e-3 / 16) / 460e-9, rel=0.15)


def test_point_samples_coarser_than_nyquist_are_refused() -> None:
    grid = PupilGrid(0.5e-3, 256)
    with pytest.raises(OpticsError, match=r"pitch_m=2e-06 is coarser than the Nyquist pitch 1.84739e-06 m"):
        PointPsf(grid, LENS, WAVES, 2e-6, 63)
    PointPsf(grid, LENS, WAVES, 1.8e-6, 63)


@pytest.mark.parametrize(
    ("waves", "pitch", "samples", "message"),
    [
        (WAVES, 15e-6, 62, "samples=62 must be odd"),
        (WAVES, 0.0, 63, "pitch_m=0.0 must be"),
        ((), 15e-6, 63, r"wavelengths_m=\(\) must be"),
        ((540e-9, -1.0), 15e-6, 63, "wavelengths_m=.* must be one or more positive"),
    ],
)
def test_invalid_arguments_are_refused(waves: tuple[float, ...], pitch: float, samples: int, message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        PupilToPsf(PupilGrid(0.5e-3, 256), LENS, waves, pitch, samples)


def test_an_element_on_another_pupil_is_refused() -> None:
    grid, other = PupilGrid(0.5e-3, 256), FlatMask(PupilGrid(0.5e-3, 128))
    with pytest.raises(OpticsError, match=r"the element lies on PupilGrid\(.*samples=128\) but the pupil"):
        check_sampling(grid, LENS, WAVES, 15e-6, 63, other)
    with pytest.raises(OpticsError, match="build both on one grid"):
        PupilToPsf(grid, LENS, WAVES, 15e-6, 63)(other)
