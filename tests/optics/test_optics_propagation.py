"""Transfer-function propagation against closed forms of scalar diffraction."""

from __future__ import annotations

import cmath
import decimal
from math import atan, exp, pi, sqrt

import pytest
import torch

from optics import OpticsError
from optics.plane import Plane
from optics.propagation import (
    AngularSpectrum,
    BandLimitedAngularSpectrum,
    FreeSpace,
    FresnelTransfer,
    Propagator,
    carrier_turns,
    choose_propagator,
)

WAVE = 550e-9
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
# Of a phase exact in decimal arithmetic: the bits of z / L at one metre, and rounding of the transform.
PHASE = {torch.float32: 2e-6, torch.float64: 2e-9}
EXACT = 1e-10
# The exact transfer function against paraxial closed forms: (L / (pi w0))^2 of the beam used.
PARAXIAL = 1e-5


def axial_turns(frequency_squared: decimal.Decimal, distance_m: float, wavelength_m: float) -> decimal.Decimal:
    """Turns z sqrt(1 / L^2 - f^2) in 60 digits; the arguments are taken bit for bit."""
    wavelength = decimal.Decimal(wavelength_m)
    return decimal.Decimal(distance_m) * (1 / wavelength**2 - frequency_squared).sqrt()


def phasor(turns: decimal.Decimal) -> complex:
    return cmath.exp(2j * pi * float(turns - turns.to_integral_value()))


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize(("rows", "columns"), [(32, 24), (33, 25)])
@pytest.mark.parametrize("index", [1.0, 1.46])
def test_tilted_plane_waves_have_the_exact_phase_up_to_one_metre(
    rows: int, columns: int, index: float, dtype: torch.dtype
) -> None:
    pitch, depths = 2e-6, torch.tensor([2e-3, 0.02, 0.05, 0.2, 1.0], dtype=torch.float64)
    plane = Plane(rows, columns, pitch)
    orders = [(0, 0), (1, 0), (0, -1), (5, 3), (-8, 7), (rows // 3, -columns // 3), (-(rows // 2), columns // 2)]
    grid_y, grid_x = torch.arange(rows).double()[:, None], torch.arange(columns).double()
    waves = torch.stack([torch.exp(2j * pi * (grid_y * m / rows + grid_x * n / columns)) for m, n in orders])
    operator = AngularSpectrum(FreeSpace(plane, plane, WAVE, depths, index=index), periodic=True, dtype=dtype)
    turns = carrier_turns(WAVE, depths, index)
    result = operator(waves[:, None].to(COMPLEX[dtype])).to(torch.complex128)  # (waves, Z, 1, H, W)
    result = result * torch.polar(torch.ones_like(turns), 2 * pi * turns)[:, :, None, None]
    with decimal.localcontext() as context:
        context.prec = 60
        local = decimal.Decimal(WAVE) / decimal.Decimal(index)
        for wave, (m, n), fields in zip(waves, orders, result, strict=True):
            squared = (decimal.Decimal(m) / rows) ** 2 + (decimal.Decimal(n) / columns) ** 2
            squared /= decimal.Decimal(pitch) ** 2
            for z, field in zip(depths.tolist(), fields, strict=True):
                exact = decimal.Decimal(z) * (1 / local**2 - squared).sqrt()
                assert (field[0] - wave * phasor(exact)).abs().max() < PHASE[dtype], (z, m, n)


def test_evanescent_waves_decay_in_both_directions() -> None:
    rows, pitch = 16, 0.2e-6
    plane = Plane(rows, rows, pitch)
    wave = torch.exp(2j * pi * 7 * torch.arange(rows).double() / rows).expand(1, rows, rows)
    frequency = 7 / (rows * pitch)
    decay = exp(-2 * pi * 0.4e-6 * sqrt(frequency**2 - WAVE**-2))
    for z in (0.4e-6, -0.4e-6):
        result = AngularSpectrum(FreeSpace(plane, plane, WAVE, z), periodic=True, dtype=torch.float64)(wave)
        full = result * torch.exp(2j * pi * carrier_turns(WAVE, z))
        assert (full - wave * decay).abs().max() < EXACT


@pytest.mark.parametrize("distance_m", [1.0, 123.456, -7.25])
def test_the_carrier_is_exact_at_any_distance(distance_m: float) -> None:
    with decimal.localcontext() as context:
        context.prec = 60
        turns = axial_turns(decimal.Decimal(0), distance_m, WAVE)
        error = abs(float(turns - turns.to_integral_value()) - float(carrier_turns(WAVE, distance_m)))
    assert min(error, 1 - error) < 1e-15
    assert carrier_turns([WAVE, 2 * WAVE], torch.tensor([0.1, 0.2, 0.3])).shape == (3, 2)
    z = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(carrier_turns(WAVE, z, 1.5).sum(), z)
    assert float(slope) == pytest.approx(1.5 / WAVE, rel=1e-14)


@pytest.mark.parametrize("period_m", [64e-6, 2e-6])
def test_talbot_contrast_at_quarters_of_the_exact_length(period_m: float) -> None:
    # 64 um: 14.89427 mm, where the paraxial 2 a^2 / L is 14.89455 mm. 2 um: 14.26 um against 14.55 um.
    length = WAVE / (1 - sqrt(1 - (WAVE / period_m) ** 2))
    plane = Plane(8, 64, period_m / 32)
    modulation = torch.cos(2 * pi * plane.x_m / period_m).expand(8, 64)
    grating = (1 + 0.2 * modulation)[None].to(torch.complex128)
    depths = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64) * length
    field = AngularSpectrum(FreeSpace(plane, plane, WAVE, depths), periodic=True, dtype=torch.float64)(grating)
    contrast = (field.abs().square() * modulation).mean(dim=(-3, -2, -1)) / 0.2
    assert contrast.tolist() == pytest.approx([1, 0, -1, 1], abs=1e-9)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [(AngularSpectrum, PARAXIAL), (BandLimitedAngularSpectrum, PARAXIAL), (FresnelTransfer, EXACT)],
)
def test_gaussian_beam_width_curvature_and_gouy_phase(method: type[Propagator], tolerance: float) -> None:
    waist, plane = 100e-6, Plane(320, 321, 5e-6)
    rayleigh = pi * waist**2 / WAVE
    squared = plane.y_m**2 + plane.x_m**2
    depths = torch.tensor([-0.5, 0.1, 0.5, 1.0], dtype=torch.float64) * rayleigh
    # Beyond 2e4 per metre the spectrum of the beam is below 1e-17.
    operator = method(FreeSpace(plane, plane, WAVE, depths, bandwidth_per_m=2e4), dtype=torch.float64)
    fields = operator(torch.exp(-squared / waist**2)[None].to(torch.complex128))[:, 0]
    for z, field in zip(depths.tolist(), fields, strict=True):
        width = waist * sqrt(1 + (z / rayleigh) ** 2)
        curvature = 1 / (z * (1 + (rayleigh / z) ** 2))
        gouy = atan(z / rayleigh)
        truth = waist / width * torch.exp(-squared / width**2 + 1j * (pi * squared * curvature / WAVE - gouy))
        assert (field - truth).norm() / truth.norm() < tolerance
        intensity = field.abs().square()
        measured = 2 * ((intensity * plane.x_m**2).sum() / intensity.sum()).sqrt()
        assert float(measured) == pytest.approx(width, rel=tolerance)


def test_circular_aperture_on_axis_is_the_exact_rayleigh_sommerfeld_value() -> None:
    # U(0, z) = exp(ikz) - z / s exp(iks), s = sqrt(z^2 + a^2): not paraxial, the rim is seen under up to 13 degrees.
    radius, pitch, samples = 60e-6, 0.6e-6, 1575
    frequency = torch.fft.fftfreq(samples, pitch, dtype=torch.float64)
    radial = (frequency[:, None] ** 2 + frequency**2).sqrt()
    # The disc without the waves beyond Nyquist: a cell average would dim the light from the rim by a tenth.
    spectrum = radius * torch.special.bessel_j1(2 * pi * radius * radial) / radial.clamp(min=1.0)
    spectrum[0, 0] = pi * radius**2
    disc = torch.fft.fftshift(torch.fft.ifft2(spectrum.to(torch.complex128)))[None] / pitch**2
    plane, axis = Plane(samples, samples, pitch), Plane(1, 1, pitch)
    depths = torch.tensor([0.26e-3, 0.4e-3, 0.9e-3], dtype=torch.float64)
    fields = AngularSpectrum(FreeSpace(plane, axis, WAVE, depths), periodic=True, dtype=torch.float64)(disc)
    for z, field in zip(depths.tolist(), fields, strict=True):
        slant = sqrt(z**2 + radius**2)
        truth = 1 - z / slant * cmath.exp(2j * pi * radius**2 / (slant + z) / WAVE)
        # What the missing waves of more than 27 degrees leave.
        assert abs(complex(field.squeeze()) - truth) < 2e-3


@pytest.mark.parametrize("rows", [31, 32])
def test_energy_is_conserved_and_the_way_back_undoes_the_way(rows: int) -> None:
    plane = Plane(rows, 30, (2e-6, 3e-6))
    field = torch.randn(2, 2, rows, 30, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    waves = [450e-9, 650e-9]
    there = AngularSpectrum(FreeSpace(plane, plane, waves, 0.7), periodic=True, dtype=torch.float64)
    back = AngularSpectrum(FreeSpace(plane, plane, waves, -0.7), periodic=True, dtype=torch.float64)
    assert there(field).norm() == pytest.approx(float(field.norm()), rel=1e-12)
    assert (back(there(field)) - field).abs().max() < EXACT


def test_a_beam_keeps_its_energy_in_a_larger_plane_and_comes_back() -> None:
    small, large = Plane(64, 64, 4e-6), Plane(200, 201, 4e-6, (10e-6, -7e-6))
    beam = torch.exp(-(small.y_m**2 + small.x_m**2) / 20e-6**2)[None].to(torch.complex128)
    options = {"dtype": torch.float64}
    out = AngularSpectrum(FreeSpace(small, large, WAVE, 4e-3, bandwidth_per_m=1e5), **options)(beam)  # type: ignore[arg-type]
    assert float(out.norm()) == pytest.approx(float(beam.norm()), rel=1e-9)
    home = AngularSpectrum(FreeSpace(large, small, WAVE, -4e-3, bandwidth_per_m=1e5), **options)(out)  # type: ignore[arg-type]
    assert (home - beam).abs().max() < 1e-8


def test_moved_output_plane_is_a_cut_of_a_larger_one() -> None:
    plane = Plane(24, 20, 3e-6)
    field = torch.randn(1, 24, 20, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    options = {"padded": (180, 180), "dtype": torch.float64}
    whole = AngularSpectrum(FreeSpace(plane, Plane(64, 80, 3e-6), WAVE, 1e-3), **options)(field)  # type: ignore[arg-type]
    for rows, columns, top, left in [(10, 11, 3, 60), (24, 20, 40, 0)]:
        centre = ((top + (rows - 1) / 2 - 31.5) * 3e-6, (left + (columns - 1) / 2 - 39.5) * 3e-6)
        part = Plane(rows, columns, 3e-6, centre)
        for method in (AngularSpectrum, BandLimitedAngularSpectrum):
            cut = method(FreeSpace(plane, part, WAVE, 1e-3), **options)(field)  # type: ignore[arg-type]
            assert (cut - whole[..., top : top + rows, left : left + columns]).abs().max() < EXACT


@pytest.mark.parametrize("way", ["matrix", "chirp"])
def test_output_of_another_pitch_is_the_same_field_sampled_finer(way: str) -> None:
    plane, fine = Plane(40, 41, 4e-6), Plane(79, 81, 2e-6, (3e-6, 0.0))
    field = torch.randn(2, 40, 41, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    waves = [450e-9, 650e-9]
    options = {"padded": (90, 90), "dtype": torch.float64}
    scaled = AngularSpectrum(FreeSpace(plane, fine, waves, 1e-3), method=way, **options)(field)  # type: ignore[arg-type]
    coarse = Plane(40, 41, 4e-6, (3e-6, 0.0))
    # 3 um is three quarters of a sample: the coarse plane is reached by a phase, the fine one by summing the series.
    same = AngularSpectrum(FreeSpace(plane, coarse, waves, 1e-3), **options)(field)  # type: ignore[arg-type]
    assert (scaled[..., ::2, ::2] - same).abs().max() < EXACT


def test_finer_output_plane_shows_the_gaussian_beam_between_the_samples() -> None:
    waist, plane, fine = 30e-6, Plane(64, 64, 5e-6), Plane(50, 40, (1.3e-6, 0.9e-6), (12e-6, -20e-6))
    beam = torch.exp(-(plane.y_m**2 + plane.x_m**2) / waist**2)[None].to(torch.complex128)
    z = 3e-3
    operator = FresnelTransfer(FreeSpace(plane, fine, WAVE, z, bandwidth_per_m=7e4), dtype=torch.float64)
    q = 1 + 1j * z * WAVE / (pi * waist**2)
    truth = torch.exp(-(fine.y_m**2 + fine.x_m**2) / (waist**2 * q)) / q
    assert (operator(beam)[0] - truth).abs().max() < 1e-9


@pytest.mark.parametrize("distance_m", [2e-3, 20e-3, 50e-3, 200e-3, 1.0])
def test_single_precision_stays_within_1e_5_to_one_metre(distance_m: float) -> None:
    plane = Plane(512, 512, 4e-6)
    field = torch.randn(1, 512, 512, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))
    for periodic in (True, False):
        single, double = (
            AngularSpectrum(FreeSpace(plane, plane, WAVE, distance_m), periodic=True, dtype=dtype)
            if periodic
            else choose_propagator(FreeSpace(plane, plane, WAVE, distance_m), dtype=dtype)
            for dtype in COMPLEX
        )
        truth = double(field)
        assert (single(field.to(torch.complex64)) - truth).norm() / truth.norm() < 1e-6


def test_band_limit_keeps_what_the_padded_plane_can_hold_and_nothing_else() -> None:
    # Local frequency of a wave: it moves z tan(angle) aside; the limit is the padded period less the reach.
    plane = Plane(128, 128, 2e-6)
    operator = BandLimitedAngularSpectrum(FreeSpace(plane, plane, WAVE, 3e-3), dtype=torch.float64)
    order = torch.fft.fftfreq(operator.padded[0], 2e-6, dtype=torch.float64)
    sine = (WAVE * order).abs()
    passes = 3e-3 * sine / (1 - sine**2).sqrt() <= (operator.padded[0] - 127) * 2e-6
    kernel = operator._kernel(torch.zeros(1, dtype=torch.complex128)).transfer[0]
    assert bool(passes.any()) and not bool(passes.all())
    assert bool(((kernel[0].abs() > 0.5) == passes).all())
    assert bool(((kernel[:, 0].abs() > 0.5) == passes).all())
    with pytest.raises(OpticsError, match="the finest waves of input_plane move"):
        AngularSpectrum(FreeSpace(plane, plane, WAVE, 3e-3))


def test_off_centre_band_limit_follows_the_steep_light_into_the_window() -> None:
    # A beam tilted by f = 1.2e5 / m lands z tan(angle) aside, in a window far off the axis.
    plane, z, frequency = Plane(128, 128, 2e-6), 20e-3, 1.2e5
    aside = z * WAVE * frequency / sqrt(1 - (WAVE * frequency) ** 2)
    beam = torch.exp(-(plane.y_m**2 + plane.x_m**2) / 50e-6**2 + 2j * pi * frequency * plane.x_m)[None]
    window = Plane(128, 128, 3e-6, (0.0, aside))
    out = BandLimitedAngularSpectrum(FreeSpace(plane, window, WAVE, z), dtype=torch.float64)(beam)[0].abs().square()
    assert float((out * window.x_m).sum() / out.sum()) == pytest.approx(aside, abs=0.5e-6)
    assert float(out.sum()) * window.area_m2 == pytest.approx(
        float(beam.abs().square().sum()) * plane.area_m2, rel=1e-3
    )
