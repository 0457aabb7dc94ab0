"""Off-axis points: the cos^4 law, two-aperture vignetting, Seidel aberrations, all against closed forms."""

from __future__ import annotations

from math import acos, inf, pi, sqrt

import numpy as np
import pytest
import torch

from optics import FlatMask, OffAxis, OpticsError, PointPsf, PupilGrid, PupilToPsf, Seidel, ThinLens
from optics.imaging import ClearAperture
from tests.optics.raw_pupil import Given

EXACT = 1e-12
# What 128 samples across the aperture, or a finite window, leave of a closed form.
SAMPLED = 2e-3
FLOAT32 = 1e-6

GRID, LENS = PupilGrid(0.5e-3, 128), ThinLens(4e-3, 1.0)
D = LENS.sensor_distance_m
FULL = 2e-3
GREEN = 540e-9
NO_MASK = FlatMask(GRID, dtype=torch.float64)
ONE = torch.ones(1, dtype=torch.float64)


def points(*xy: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = torch.tensor(xy, dtype=torch.float64)
    return pairs[:, 0], pairs[:, 1]


def off_axis(seidel: Seidel | None = None, stop: ClearAperture | None = None, grid: PupilGrid = GRID) -> OffAxis:
    return OffAxis(grid, LENS, FULL, seidel=seidel, clear_aperture=stop, dtype=torch.float64)


def cos4(x_m: float, y_m: float) -> float:
    return 1 / (1 + (x_m**2 + y_m**2) / D**2) ** 2


FIELD = [(0.0, 0.0), (1e-3, 0.0), (0.0, -2e-3), (-1.2e-3, 1.6e-3), (3e-3, 2e-3)]


def test_illumination_is_cos4() -> None:
    assert off_axis().relative_illumination(*points(*FIELD)).tolist() == pytest.approx(
        [cos4(*p) for p in FIELD], rel=EXACT
    )


def test_the_psf_adds_up_to_cos4() -> None:
    to_psf = PupilToPsf(GRID, LENS, [GREEN], 4e-6, 101, dtype=torch.float64)
    psf = off_axis().psf(to_psf, NO_MASK, *points(*FIELD[:4]))
    light = psf.sum(dim=(-3, -2, -1))
    assert (light / light[0]).tolist() == pytest.approx([cos4(*p) for p in FIELD[:4]], rel=SAMPLED)


def test_nothing_changes_on_the_axis() -> None:
    model = off_axis(Seidel(w131_m=1e-6, w222_m=1e-6, w220_m=1e-6, w311_m=1e-6))
    on_axis = points((0.0, 0.0))
    inside = GRID.amplitude > 0
    assert (model.transmission(*on_axis)[0, 0][inside] - 1).abs().max() < EXACT * 1e3
    assert model.wavefront_m(*on_axis).abs().max() == 0
    plane = torch.rand(128, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (model.foreshorten(plane, *on_axis)[0] - plane).abs().max() < EXACT


@pytest.mark.parametrize("turned", [False, True])
def test_the_pupil_is_an_ellipse_of_cos3_along_the_field_and_cos_across(turned: bool) -> None:
    cosine = 1 / sqrt(2)  # r = d, 45 degrees
    grid = PupilGrid(1e-3, 256)
    model = off_axis(grid=grid)
    share = model.transmission(*points((0.0, D) if turned else (D, 0.0)))[0, 0] * grid.amplitude
    share = share.T if turned else share
    x2, y2 = ((share * axis**2).sum() / share.sum() for axis in (grid.x_m, grid.y_m))
    # The variance of an even ellipse is a quarter of its semi-axis squared.
    assert float(x2) == pytest.approx((cosine**3 * 0.5e-3) ** 2 / 4, rel=2e-4)
    assert float(y2) == pytest.approx((cosine * 0.5e-3) ** 2 / 4, rel=2e-4)


def test_the_airy_disc_widens_by_1_over_cos3_along_the_field_and_1_over_cos_across() -> None:
    cosine = 1 / sqrt(1.25)
    model = off_axis(grid=PupilGrid(0.5e-3, 256))
    x, y = points((D / 2, 0.0))
    fine = PointPsf(model.grid, LENS, [GREEN], 0.02 * GREEN * D / 0.5e-3, 201, dtype=torch.float64)
    psf = fine(Given(model.grid, torch.zeros(256, 256), ONE, transmission=model.transmission(x, y)))[0, 0]
    for row, wider in ((psf[100, 100:], cosine**-3), (psf[100:, 100], 1 / cosine)):
        dark = int((row[1:-1] < row[:-2]).logical_and(row[1:-1] <= row[2:]).nonzero()[0]) + 1
        assert dark * 0.02 == pytest.approx(1.2196698912665045 * wider, abs=0.011)


def test_foreshortening_maps_the_mask() -> None:
    model = off_axis()
    slope = 1 / sqrt(1.25)
    # A map linear in x and y stays linear, steeper by 1 / cos^3 along the field and 1 / cos across.
    plane = 3 * GRID.x_m + 5 * GRID.y_m
    out = model.foreshorten(plane, *points((0.0, D / 2)))[0]
    middle = slice(40, 88)
    truth = (3 * GRID.x_m / slope + 5 * GRID.y_m / slope**3)[middle, middle]
    assert (out[middle, middle] - truth).abs().max() < EXACT


def lens_area(r: float, s: float, c: float) -> float:
    """Area common to circles of radii r and s with centres c apart."""
    if c <= abs(r - s):
        return pi * min(r, s) ** 2
    if c >= r + s:
        return 0.0
    a = r * r * acos((c * c + r * r - s * s) / (2 * c * r)) + s * s * acos((c * c + s * s - r * r) / (2 * c * s))
    return a - 0.5 * sqrt((-c + r + s) * (c + r - s) * (c - r + s) * (c + r + s))


@pytest.mark.parametrize("distance", [1e-3, -2e-3])
@pytest.mark.parametrize("x_m", [0.4e-3, 0.8e-3, 1.2e-3, 3e-3])
def test_vignetting_is_the_overlap_of_two_circles(distance: float, x_m: float) -> None:
    # The stop, projected onto the pupil from the image point (behind) or from the object (in front).
    shrink = 1 - distance / D if distance > 0 else 1 + distance / LENS.focus_distance_m
    radius, centre = 0.24e-3 / shrink, abs(x_m * distance / D / shrink)
    truth = cos4(x_m, 0) * lens_area(0.25e-3, radius, centre) / (pi * 0.25e-3**2)
    model = off_axis(stop=ClearAperture(0.48e-3, distance))
    assert float(model.relative_illumination(*points((x_m, 0.0)))) == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize(("distance", "side"), [(1e-3, -1), (-2e-3, 1)])
def test_a_stop_behind_cuts_the_outer_half_and_one_in_front_the_inner_half(distance: float, side: int) -> None:
    # A ray to an image at +x that leaves the pupil at +x is further out behind the pupil, so it is cut there.
    share = off_axis(stop=ClearAperture(0.5e-3, distance)).transmission(*points((1e-3, 0.0)))[0, 0] * GRID.amplitude
    assert side * float((share * GRID.x_m).sum()) > 0
    assert abs(float((share * GRID.y_m).sum())) < EXACT


def test_wavefront_at_the_rim_is_the_sum_of_the_terms() -> None:
    # Small angles, so that the pupil point is the grid point; then the five terms by hand.
    lens, grid = ThinLens(4.0, inf), PupilGrid(1e-3, 64)
    seidel = Seidel(1e-6, 2e-6, 3e-6, 4e-6, 5e-6)
    model = OffAxis(grid, lens, 1e-5, seidel=seidel, dtype=torch.float64)
    x, y = points((0.3e-5, -0.4e-5))
    rho, phi, h = grid.radius, grid.angle - float(np.arctan2(-0.4, 0.3)), 0.5
    along = rho * phi.cos()
    truth = 1e-6 * rho**4 + 2e-6 * h * rho**2 * along + 3e-6 * (h * along) ** 2 + 4e-6 * (h * rho) ** 2
    truth = truth + 5e-6 * h**3 * along
    inside = grid.radius < 0.95
    assert (model.wavefront_m(x, y)[0, 0] - truth)[inside].abs().max() < EXACT


@pytest.mark.parametrize(("seidel", "slope"), [(Seidel(w131_m=0.2e-6), 1.0), (Seidel(w311_m=0.2e-6), 1.0)])
@pytest.mark.parametrize("direction", [(1, 0), (0, -1)])
def test_coma_and_distortion_move_the_light_outwards(seidel: Seidel, slope: float, direction: tuple[int, int]) -> None:
    # The centroid of a PSF is d times the mean slope of the wavefront: for u^2 (h.u) it is 4 <u_x^2> = 1 over the rim.
    lens = ThinLens(0.4, inf)
    to_psf = PupilToPsf(PupilGrid(20e-3, 128), lens, [GREEN], 4e-6, 201, dtype=torch.float64)
    model = OffAxis(to_psf.grid, lens, FULL, seidel=seidel, dtype=torch.float64)
    flat = FlatMask(to_psf.grid, dtype=torch.float64)
    psf = model.psf(to_psf, flat, *points((direction[0] * FULL, direction[1] * FULL)))[0, 0]
    axis = (torch.arange(201, dtype=torch.float64) - 100) * 4e-6
    # The core only: the far light of a sharp rim is symmetric and noisy in its first moment.
    x, y = float((psf.sum(dim=0) * axis).sum()), float((psf.sum(dim=1) * axis).sum())
    shift = slope * 0.2e-6 / 10e-3 * lens.sensor_distance_m
    assert (x, y) == pytest.approx((direction[0] * shift, direction[1] * shift), rel=0.02, abs=1e-8)


def test_astigmatism_blurs_along_the_field_and_curvature_both_ways() -> None:
    x, y = points((0.0, FULL))
    to_psf = PupilToPsf(GRID, LENS, [GREEN], 4e-6, 61, dtype=torch.float64)
    axis2 = (torch.arange(61, dtype=torch.float64) - 30) ** 2

    def spread(seidel: Seidel) -> tuple[float, float]:
        psf = off_axis(seidel).psf(to_psf, NO_MASK, x, y)[0, 0]
        return float((psf.sum(dim=0) * axis2).sum()), float((psf.sum(dim=1) * axis2).sum())

    plain, astigmatic, curved = spread(Seidel()), spread(Seidel(w222_m=1e-6)), spread(Seidel(w220_m=1e-6))
    assert astigmatic[1] > 1.5 * plain[1]
    assert astigmatic[0] == pytest.approx(plain[0], rel=0.05)
    assert min(curved[0] / plain[0], curved[1] / plain[1]) > 1.5


def test_a_batch_is_a_loop_and_float32_is_near() -> None:
    model = off_axis(Seidel(w131_m=1e-6), ClearAperture(0.5e-3, 1e-3))
    single = OffAxis(GRID, LENS, FULL, seidel=model.seidel, clear_aperture=model.clear_aperture)
    both, apart = points(*FIELD), [points(p) for p in FIELD]
    for name in ("transmission", "wavefront_m"):
        batch = getattr(model, name)(*both)
        loop = torch.cat([getattr(model, name)(*p) for p in apart])
        # A cell of which the rim leaves a billionth divides two small numbers.
        assert (batch - loop).abs().max() < 1e-9 * float(batch.abs().max())
        near = getattr(single, name)(*both)
        assert near.dtype == torch.float32
        assert (near - batch).abs().max() < FLOAT32 * float(batch.abs().max())


def test_the_gradient_reaches_the_mask_and_the_wavelengths_are_kept() -> None:
    to_psf = PupilToPsf(GRID, LENS, [GREEN, 460e-9], 4e-6, 31, dtype=torch.float64)
    height = (1e-7 * GRID.radius).requires_grad_()
    psf = off_axis(Seidel(w131_m=1e-7)).psf(to_psf, Given(GRID, height, torch.ones(2)), *points(*FIELD), 0.7)
    assert psf.shape == (5, 2, 31, 31)
    (gradient,) = torch.autograd.grad(psf[3, 1, 15, 15], height)
    step = torch.zeros_like(height)
    step[70, 50] = 1e-10
    model = off_axis(Seidel(w131_m=1e-7))
    values = [
        model.psf(to_psf, Given(GRID, height.detach() + sign * step, torch.ones(2)), *points(*FIELD), 0.7)[3, 1, 15, 15]
        for sign in (1, -1)
    ]
    assert float(gradient[70, 50]) == pytest.approx(float(values[0] - values[1]) / 2e-10, rel=1e-4)


def test_refusals() -> None:
    with pytest.raises(OpticsError, match="w131_m=nan must be a finite path"):
        Seidel(w131_m=float("nan"))
    with pytest.raises(OpticsError, match="diameter_m=0 must be a positive length"):
        ClearAperture(0, 1e-3)
    with pytest.raises(OpticsError, match="distance_m=inf must be a finite length"):
        ClearAperture(1e-3, inf)
    with pytest.raises(OpticsError, match="full_field_m=-1 must be a positive length"):
        OffAxis(GRID, LENS, -1)
    with pytest.raises(OpticsError, match=r"distance_m=0\.01 of the clear aperture must lie between"):
        OffAxis(GRID, LENS, FULL, clear_aperture=ClearAperture(1e-3, 0.01))
    model = off_axis()
    with pytest.raises(OpticsError, match=r"x_m and y_m have the shapes \(2,\) and \(1,\); both must be \(B,\)"):
        model.transmission(torch.zeros(2), torch.zeros(1))
    with pytest.raises(OpticsError, match="x_m or y_m has values that are not finite"):
        model.wavefront_m(torch.tensor([inf]), torch.zeros(1))
    with pytest.raises(OpticsError, match=r"plane has shape \(8, 8\); this pupil needs \(128, 128\)"):
        model.foreshorten(torch.zeros(8, 8), torch.zeros(1), torch.zeros(1))
    other = PupilToPsf(PupilGrid(0.4e-3, 128), LENS, [GREEN], 4e-6, 31)
    with pytest.raises(OpticsError, match=r"to_psf has PupilGrid\(diameter_m=0.0004.*build both with the same"):
        model.psf(other, NO_MASK, *points((0.0, 0.0)))
