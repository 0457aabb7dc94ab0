"""One test for each known way in which simulators of privacy cameras went wrong.

1. Wavelengths interfere with one another. 2. The mask's phase is not k (n - 1) h. 3. Zernike terms live on another disc
than the pupil. 4. The bare lens is out of focus already. 5. The scene has the wrong size on the sensor.
"""

from __future__ import annotations

from math import cos, pi

import numpy as np
import pytest
import torch

from optics import FUSED_SILICA, PointPsf, PupilGrid, PupilToPsf, ThinLens, index_differences, random_mask
from optics.elements import zernike_basis
from tests.optics.raw_pupil import Given

WAVES = (620e-9, 540e-9, 460e-9)
LENS = ThinLens(4e-3, 1.0)
GRID = PupilGrid(0.5e-3, 256)
FLAT = torch.zeros(256, 256, dtype=torch.float64)
# Fraunhofer lines C, d, F with Malitson's indices of fused silica; air has the same index to 2e-6 at all three.
LINES = (656.2725e-9, 587.5618e-9, 486.1327e-9)
PUBLISHED = (1.456367, 1.458464, 1.463126)
AIR_INDEX = 1.000277
SILICA = index_differences(FUSED_SILICA, WAVES)


def peak_m(rows: torch.Tensor, pitch_m: float) -> torch.Tensor:
    """Place of the maximum of each row in metres from the middle sample, by a parabola through three samples."""
    top = rows.argmax(-1, keepdim=True)
    left, centre, right = (rows.gather(-1, top + k).squeeze(-1) for k in (-1, 0, 1))
    fraction = (left - right) / (left - 2 * centre + right) / 2
    return (top.squeeze(-1) - rows.shape[-1] // 2 + fraction) * pitch_m


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_defect_1_wavelengths_do_not_mix(dtype: torch.dtype) -> None:
    psf = PupilToPsf(GRID, LENS, WAVES, 15e-6, 63, dtype=dtype)
    height = random_mask(GRID, 16, 2e-6, torch.Generator().manual_seed(0), dtype=dtype).height_m()
    base = psf(Given(psf.grid, height, SILICA))
    changed = psf(Given(psf.grid, height, SILICA * torch.tensor([1.0, 1.0, 1.7])))
    assert torch.equal(base[:2], changed[:2])
    assert (base[2] - changed[2]).abs().max() > 1e-3
    # Each channel is that of a camera for this wavelength alone, and each keeps its whole energy.
    for k, wave in enumerate(WAVES):
        alone = PupilToPsf(GRID, LENS, [wave], 15e-6, 63, dtype=dtype)(Given(GRID, height, SILICA[k : k + 1]))
        assert (alone[0] - base[k]).abs().max() < (1e-6 if dtype == torch.float32 else 1e-12)
    assert float(psf(Given(psf.grid, torch.zeros_like(height), SILICA)).sum((-1, -2)).min()) > 0.99


def test_defect_2_phase_is_that_of_the_glass() -> None:
    # Half the aperture raised by h: on the axis the halves interfere as cos^2(pi (n - 1) h / wavelength).
    step = 0.4e-6
    height = torch.where(GRID.x_m > 0, step, 0.0)
    psf = PointPsf(GRID, LENS, LINES, 1e-6, 1, dtype=torch.float64)
    dn = index_differences(FUSED_SILICA, LINES)
    ratio = (psf(Given(psf.grid, height, dn)) / psf(Given(psf.grid, FLAT, dn))).flatten().tolist()
    for value, n, wave in zip(ratio, PUBLISHED, LINES, strict=True):
        assert value == pytest.approx(cos(pi * (n - AIR_INDEX) * step / wave) ** 2, abs=1e-5)


def test_defect_2_dispersion_bends_blue_more_than_red() -> None:
    # A wedge deflects by (n - 1) slope whatever the wavelength; only the index makes a difference.
    slope, pitch = 0.05, 0.5e-6
    psf = PointPsf(GRID, LENS, LINES, pitch, 401, dtype=torch.float64)
    shift = peak_m(psf(Given(psf.grid, slope * GRID.x_m, index_differences(FUSED_SILICA, LINES)))[:, 200], pitch)
    expected = (torch.tensor(PUBLISHED, dtype=torch.float64) - AIR_INDEX) * slope * LENS.sensor_distance_m
    assert (shift - expected).abs().max() < 0.01e-6
    assert shift[0] < shift[1] < shift[2]


def test_defect_3_zernike_terms_are_orthonormal_on_the_pupil_in_use() -> None:
    basis = zernike_basis(36, GRID, torch.float64).flatten(1)
    weight = (GRID.amplitude / GRID.amplitude.sum()).flatten()
    gram = (basis * weight) @ basis.T
    assert (gram - torch.eye(36, dtype=torch.float64)).abs().max() < 2e-3
    # 300 terms are 300 modes: none is nearly spanned by the others.
    many = zernike_basis(300, GRID, torch.float64).flatten(1)
    assert float(torch.linalg.eigvalsh((many * weight) @ many.T).min()) > 0.9


def test_defect_4_bare_lens_is_sharp_in_focus() -> None:
    unit = WAVES[1] * LENS.f_number(GRID.diameter_m)
    psf = PointPsf(GRID, LENS, WAVES[1:2], 0.05 * unit, 61, dtype=torch.float64)
    lens = Given(GRID, FLAT, SILICA[1:2])
    row = psf(lens)[0, 30, 30:]
    half = float(np.interp(0.5, (row / row[0]).flip(0).numpy(), np.arange(30, -1, -1) * 0.05))
    assert 2 * half == pytest.approx(1.028993969962188, abs=1e-3)  # full width at half maximum in lambda N
    assert torch.equal(
        psf(Given(psf.grid, FLAT, SILICA[1:2]), LENS.focus_distance_m), psf(Given(psf.grid, FLAT, SILICA[1:2]))
    )


@pytest.mark.parametrize("distance", [0.3, 0.25])
def test_defect_4_defocus_disc_has_its_geometric_size(distance: float) -> None:
    # More than eleven waves of defocus, so that diffraction blurs the rim of the disc by a few percent at most.
    lens, grid, pitch, samples = ThinLens(49.5e-3, 5.0), PupilGrid(4e-3, 512), 4e-6, 241
    expected = grid.diameter_m * lens.sensor_distance_m * (1 / distance - 1 / 5.0)
    psf = PupilToPsf(grid, lens, [540e-9], pitch, samples, dtype=torch.float64)
    disc = psf(Given(psf.grid, torch.zeros(512, 512), [0.46]), distance)[0]
    # A uniform disc holds half its light within diameter / sqrt(2).
    axis = (torch.arange(samples, dtype=torch.float64) - samples // 2) * pitch
    radius, order = (axis[:, None] ** 2 + axis**2).sqrt().flatten().sort()
    light = disc.flatten()[order].cumsum(0)
    half = float(radius[int((light < 0.5).sum())])
    assert 2 * half * 2**0.5 == pytest.approx(expected, rel=0.015)
    assert float(light[int((radius < 0.55 * expected).sum())]) > 0.975


def test_defect_5_a_face_covers_the_right_number_of_pixels() -> None:
    # 182 mm of face 0.75 m before a 49.5 mm lens on 3.713103 um pixels: 3267 pixels, not 256.
    lens = ThinLens(49.5e-3, 5.0)
    assert lens.image_size_m(0.182, 0.75) / 3.713103e-6 == pytest.approx(3267.377, abs=1e-3)
    # 0.2 m of head at 0.7 m in the small camera: 76 cells of 15 um.
    assert LENS.image_size_m(0.2, 0.7) / 15e-6 == pytest.approx(0.2 * 4.016064257e-3 / 0.7 / 15e-6, rel=1e-9)


def test_defect_5_a_point_off_the_axis_lands_where_the_magnification_says() -> None:
    # A point X beside the axis at distance z adds the path x X / z over the pupil.
    distance, offset, pitch = 0.8, 0.03, 5e-6
    psf = PointPsf(GRID, LENS, WAVES[1:2], 1e-6, 401, dtype=torch.float64)
    spot = psf(Given(psf.grid, GRID.x_m * (offset / distance), [1.0]), distance)[0]
    column = int(spot.argmax()) % 401
    assert (column - 200) * 1e-6 == pytest.approx(LENS.image_size_m(offset, distance), abs=0.1 * pitch + 0.5e-6)
