"""Fresnel and Fraunhofer diffraction against closed forms."""

from __future__ import annotations

import cmath
from math import pi, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.special import fresnel

from optics import PupilGrid
from optics.plane import Plane
from optics.propagation import (
    AngularSpectrum,
    BandLimitedAngularSpectrum,
    Fraunhofer,
    FreeSpace,
    FresnelTransfer,
    FresnelTransform,
    Propagator,
    choose_propagator,
)

WAVE = 550e-9
EXACT = 1e-10
# What samples 4 um apart leave of an integral over a sharp edge.
SAMPLED = 1e-3
WAYS = ["matrix", "chirp"]


def fresnel_integral(u: torch.Tensor) -> torch.Tensor:
    """Integral of exp(i pi t^2 / 2) from 0 to u."""
    s, c = fresnel(u.numpy())
    return torch.from_numpy(c + 1j * s)


@pytest.mark.parametrize("way", WAYS)
def test_square_aperture_is_a_product_of_fresnel_integrals(way: str) -> None:
    z, plane = 0.2, Plane(300, 300, 4e-6)
    out = Plane(101, 90, (9e-6, 7e-6), (-50e-6, 120e-6))
    operator = FresnelTransform(FreeSpace(plane, out, WAVE, z), method=way, dtype=torch.float64)  # type: ignore[arg-type]
    field = operator(torch.ones(1, 300, 300, dtype=torch.complex128))[0]
    scale = sqrt(2 / (WAVE * z))
    parts = [
        fresnel_integral((x + 0.6e-3) * scale) - fresnel_integral((x - 0.6e-3) * scale) for x in (out.y_m, out.x_m)
    ]
    assert (field - parts[0] * parts[1] / 2j).abs().max() < SAMPLED


def test_knife_edge() -> None:
    # The far rims fall off smoothly over a millimetre, which sends no light back to the edge at x = 0.
    z, plane = 50e-3, Plane(600, 900, 4e-6)

    def fall(x: torch.Tensor, half: float) -> torch.Tensor:
        return (1 - torch.special.erf((x.abs() - half) / 0.15e-3)) / 2

    aperture = (fall(plane.y_m, 0.75e-3) * fall(plane.x_m, 1.3e-3) * (plane.x_m > 0))[None].to(torch.complex128)
    line = Plane(1, 801, 1e-6)
    intensity = FresnelTransform(FreeSpace(plane, line, WAVE, z), dtype=torch.float64)(aperture)[0, 0].abs().square()
    w = (line.x_m[0] * sqrt(2 / (WAVE * z))).numpy()
    spline = CubicSpline(w, intensity.numpy())
    assert float(spline(0.0)) == pytest.approx(0.25, abs=SAMPLED)
    turning = [r for r in spline.derivative().roots(extrapolate=False) if 1 < r < 2]
    assert turning == pytest.approx([1.2171983, 1.8725165], abs=2 * SAMPLED)
    assert spline(turning) == pytest.approx([1.3704429, 0.7782510], abs=SAMPLED)
    assert np.all(np.diff(intensity.numpy()[w < -0.5]) > 0)  # dark side: no fringes


def test_circular_aperture_on_axis() -> None:
    pupil, radius = PupilGrid(0.5e-3, 400), 0.25e-3
    plane, axis = Plane(400, 400, pupil.pitch_m), Plane(1, 1, 1e-6)
    depths = torch.tensor([0.05, 0.0711, 0.1], dtype=torch.float64)
    fields = FresnelTransform(FreeSpace(plane, axis, WAVE, depths), dtype=torch.float64)(
        pupil.amplitude[None].to(torch.complex128)
    )
    for z, field in zip(depths.tolist(), fields, strict=True):
        slant = sqrt(z**2 + radius**2)
        truth = 1 - z / slant * cmath.exp(2j * pi * radius**2 / (slant + z) / WAVE)
        assert abs(complex(field.squeeze()) - truth) < SAMPLED


@pytest.mark.parametrize("way", WAYS)
def test_airy_zeros_in_the_focus_of_a_lens(way: str) -> None:
    pupil, focal_length = PupilGrid(0.5e-3, 256), 4e-3
    unit = WAVE * focal_length / 0.5e-3
    out = Plane(1, 201, 0.02 * unit, (0.0, 2 * unit))
    plane = Plane(256, 256, pupil.pitch_m)
    operator = Fraunhofer(FreeSpace(plane, out, WAVE, focal_length), lens=True, method=way, dtype=torch.float64)  # type: ignore[arg-type]
    field = operator(pupil.amplitude[None].to(torch.complex128))[0, 0]
    curvature = torch.exp(1j * pi * out.x_m[0] ** 2 / (WAVE * focal_length)) / 1j
    profile = field / curvature
    assert profile.imag.abs().max() / profile.real.max() < EXACT
    roots = CubicSpline(out.x_m[0].numpy() / unit, profile.real.numpy()).roots(extrapolate=False)
    assert roots == pytest.approx([1.2196698912665045, 2.233130594381529, 3.238315484166236], abs=1e-4)
    assert float(profile.real[0]) == pytest.approx(pupil.area_m2 / (WAVE * focal_length), rel=EXACT)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("rows", "columns"), [(20, 21), (7, 12)])
def test_far_field_of_an_off_centre_slit_is_the_dirichlet_kernel(rows: int, columns: int, way: str) -> None:
    plane, z, index = Plane(rows, columns, (5e-6, 4e-6), (30e-6, -20e-6)), 1.0, 1.33
    out = Plane(33, 40, (0.9e-3, 1.1e-3), (2e-3, 5e-3))
    operator = Fraunhofer(FreeSpace(plane, out, WAVE, z, index=index), method=way, dtype=torch.float64)  # type: ignore[arg-type]
    field = operator(torch.ones(1, rows, columns, dtype=torch.complex128))[0]
    truth = torch.ones(33, 40, dtype=torch.complex128) * index / (1j * WAVE * z) * plane.area_m2
    for x, n, pitch, centre in ((out.y_m, rows, 5e-6, 30e-6), (out.x_m, columns, 4e-6, -20e-6)):
        cycles = x * index / (WAVE * z)
        kernel = n * torch.sinc(n * pitch * cycles) / torch.sinc(pitch * cycles)
        truth = truth * kernel * torch.exp(-2j * pi * centre * cycles + 1j * pi * x * cycles)
    assert (field - truth).abs().max() / truth.abs().max() < EXACT


@pytest.mark.parametrize("way", WAYS)
def test_single_transform_carries_the_gaussian_beam_anywhere(way: str) -> None:
    waist, z, index = 60e-6, 0.3, 1.5
    plane, out = Plane(120, 121, 5e-6), Plane(50, 64, (30e-6, 40e-6), (0.2e-3, -0.5e-3))
    beam = torch.exp(-(plane.y_m**2 + plane.x_m**2) / waist**2)[None].to(torch.complex128)
    q = 1 + 1j * z * WAVE / index / (pi * waist**2)
    truth = torch.exp(-(out.y_m**2 + out.x_m**2) / (waist**2 * q)) / q
    operator = FresnelTransform(FreeSpace(plane, out, WAVE, z, index=index), method=way, dtype=torch.float64)  # type: ignore[arg-type]
    assert (operator(beam)[0] - truth).abs().max() < EXACT


@pytest.mark.parametrize("distance_m", [0.2, 1.0])
@pytest.mark.parametrize("way", WAYS)
def test_single_precision_of_the_single_transform(distance_m: float, way: str) -> None:
    plane, out = Plane(512, 512, 4e-6), Plane(200, 512, 4e-6, (0.3e-3, 0.1e-3))
    field = torch.randn(1, 512, 512, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))
    single, double = (
        FresnelTransform(FreeSpace(plane, out, WAVE, distance_m), method=way, dtype=dtype)  # type: ignore[arg-type]
        for dtype in (torch.float32, torch.float64)
    )
    truth = double(field)
    assert (single(field.to(torch.complex64)) - truth).norm() / truth.norm() < 1e-6


def tilted_beam(plane: Plane, f_y: float, f_x: float) -> torch.Tensor:
    squared = plane.y_m**2 + plane.x_m**2
    return torch.exp(-squared / 80e-6**2 + 2j * pi * (f_y * plane.y_m + f_x * plane.x_m))[None]


@pytest.mark.parametrize(
    ("method", "bandwidth_per_m", "options"),
    [
        (AngularSpectrum, None, {"padded": (800, 800)}),
        (BandLimitedAngularSpectrum, None, {}),
        (FresnelTransfer, None, {"padded": (800, 800)}),
        (FresnelTransform, 3e4, {}),
        (Fraunhofer, 3e4, {"lens": True}),
    ],
)
def test_positive_frequency_leans_right_and_down(
    method: type[Propagator], bandwidth_per_m: float | None, options: dict[str, Any]
) -> None:
    plane, z = Plane(120, 100, 5e-6), 25e-3
    out = Plane(140, 120, 5e-6)
    space = FreeSpace(plane, out, WAVE, z, bandwidth_per_m=bandwidth_per_m)
    field = method(space, dtype=torch.float64, **options)(tilted_beam(plane, 4e3, -9e3))[0]
    intensity = field.abs().square()
    for axis, frequency in ((out.y_m, 4e3), (out.x_m, -9e3)):
        assert float((intensity * axis).sum() / intensity.sum()) == pytest.approx(WAVE * z * frequency, rel=2e-3)


def test_the_methods_agree_where_two_are_valid() -> None:
    # A smooth field that stays within the planes; only the paraxial error and the band limit tell them apart.
    plane, z = Plane(200, 200, 5e-6), 60e-3
    field = tilted_beam(plane, 2e3, 3e3)
    exact = AngularSpectrum(FreeSpace(plane, plane, WAVE, z), padded=(1600, 1600), dtype=torch.float64)(field)
    for method in (BandLimitedAngularSpectrum, FresnelTransform):
        other = method(FreeSpace(plane, plane, WAVE, z), dtype=torch.float64)(field)
        assert (other - exact).norm() / exact.norm() < 1e-4, method
    chosen = choose_propagator(FreeSpace(plane, plane, WAVE, z), dtype=torch.float64)
    assert isinstance(chosen, FresnelTransform)
