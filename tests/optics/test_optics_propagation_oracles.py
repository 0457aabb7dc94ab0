"""Agreement with two independent libraries, float64; the tolerance of each quantity stands in one table.

Both keep the carrier exp(ikz), which is taken out here, and both centre a grid as ``Plane`` does.
"""

from __future__ import annotations

import hcipy
import numpy as np
import pytest
import torch
import torchoptics

from optics.plane import Plane
from optics.propagation import (
    AngularSpectrum,
    BandLimitedAngularSpectrum,
    Fraunhofer,
    FreeSpace,
    FresnelTransfer,
    FresnelTransform,
    Propagator,
    carrier_turns,
)

WAVE = 550e-9
# Relative L2 difference of the complex fields.
TOLERANCE = {
    # The same sum, and the rounding of kz z (1e5 rad) in the other library.
    "transfer function": 1e-10,
    "Fresnel sum": 1e-10,
    "Fraunhofer sum": 1e-12,
    # Exact impulse response against the paraxial one, rays up to 25 mrad.
    "paraxial": 1e-4,
    # Exact impulse response against the transfer function cut to its band, at 10 Fresnel zones.
    "band limit": 2e-3,
}
# Unlike pitches, odd and even counts, moved by whole samples (8, 5): torchoptics can cut nothing else without error.
SOURCE = Plane(128, 121, (4e-6, 5e-6), (8e-6, -5e-6))
TARGET = Plane(100, 141, (4e-6, 5e-6), (40e-6, 20e-6))
SQUARE = Plane(128, 128, 4e-6)


def structure(plane: Plane) -> torch.Tensor:
    """A spot off-centre, longer along x, crossed by slanted fringes, leaning to +x."""
    y, x, side = plane.y_m, plane.x_m, 0.5e-3
    spot = torch.exp(-((x - 0.05 * side) ** 2 + (1.4 * y + 0.1 * side) ** 2) / (0.12 * side) ** 2)
    fringes = 1 + 0.5 * torch.cos(2 * torch.pi * (x + 2 * y) / (0.08 * side))
    return (spot * fringes * torch.exp(6j * torch.pi * x / side))[None]


def difference(other: torch.Tensor, ours: torch.Tensor, distance_m: float) -> float:
    without_carrier = other * torch.exp(-2j * torch.pi * carrier_turns(WAVE, distance_m))
    return float((without_carrier - ours).norm() / ours.norm())


@pytest.mark.parametrize(
    ("method", "theirs", "distance_m", "quantity"),
    [
        (AngularSpectrum, "ASM", 2e-3, "transfer function"),
        (AngularSpectrum, "ASM", 5e-3, "transfer function"),
        (FresnelTransfer, "ASM_FRESNEL", 2e-3, "transfer function"),
        (FresnelTransform, "DIM_FRESNEL", 20e-3, "Fresnel sum"),
        (FresnelTransform, "DIM_FRESNEL", 50e-3, "Fresnel sum"),
        (FresnelTransform, "DIM", 20e-3, "paraxial"),
        (FresnelTransform, "DIM", 50e-3, "paraxial"),
        (BandLimitedAngularSpectrum, "DIM", 50e-3, "band limit"),
    ],
)
def test_torchoptics(method: type[Propagator], theirs: str, distance_m: float, quantity: str) -> None:
    field = structure(SOURCE)
    start = torchoptics.Field(field[0], wavelength=WAVE, z=0, spacing=SOURCE.pitches_m, offset=SOURCE.centre_m)
    end = start.propagate(
        TARGET.shape,
        distance_m,
        spacing=TARGET.pitches_m,
        offset=TARGET.centre_m,
        propagation_method=theirs,
        asm_pad=(256, 256),
        interpolation_mode="nearest",
    )
    ours = method(FreeSpace(SOURCE, TARGET, WAVE, distance_m), dtype=torch.float64)(field)[0]
    assert difference(end.data, ours, distance_m) < TOLERANCE[quantity]


@pytest.mark.parametrize(
    ("method", "theirs", "distance_m", "quantity"),
    [
        (AngularSpectrum, hcipy.AngularSpectrumPropagator, 2e-3, "transfer function"),
        (FresnelTransfer, hcipy.FresnelPropagator, 2e-3, "transfer function"),
        (FresnelTransform, hcipy.FresnelPropagator, 20e-3, "Fresnel sum"),
        (FresnelTransform, hcipy.FresnelPropagator, 50e-3, "Fresnel sum"),
        (FresnelTransform, hcipy.AngularSpectrumPropagator, 50e-3, "paraxial"),
        (BandLimitedAngularSpectrum, hcipy.AngularSpectrumPropagator, 50e-3, "band limit"),
    ],
)
def test_hcipy(method: type[Propagator], theirs: type, distance_m: float, quantity: str) -> None:
    field = structure(SQUARE)
    # By default hcipy averages its kernel over each sample, which dims steep light by a thousandth; not so with 1.
    end = theirs(hcipy_grid(), distance_m, num_oversampling=1)(hcipy_wavefront(field))
    ours = method(FreeSpace(SQUARE, SQUARE, WAVE, distance_m), dtype=torch.float64)(field)[0]
    assert difference(as_tensor(end), ours, distance_m) < TOLERANCE[quantity]


def test_hcipy_focal_plane() -> None:
    field, focal_length, focus = structure(SQUARE), 0.1, Plane(50, 60, (8e-6, 10e-6))
    grid = hcipy.make_uniform_grid([60, 50], [60 * 10e-6, 50 * 8e-6])
    end = hcipy.FraunhoferPropagator(hcipy_grid(), grid, focal_length=focal_length)(hcipy_wavefront(field))
    ours = Fraunhofer(FreeSpace(SQUARE, focus, WAVE, focal_length), lens=True, dtype=torch.float64)(field)[0]
    # hcipy leaves the curvature of the focal plane out.
    flat = ours * torch.exp(-1j * torch.pi * (focus.y_m**2 + focus.x_m**2) / (WAVE * focal_length))
    assert (as_tensor(end) - flat).norm() / flat.norm() < TOLERANCE["Fraunhofer sum"]


def hcipy_grid() -> hcipy.CartesianGrid:
    return hcipy.make_pupil_grid(SQUARE.columns, SQUARE.columns * SQUARE.pitches_m[1])


def hcipy_wavefront(field: torch.Tensor) -> hcipy.Wavefront:
    return hcipy.Wavefront(hcipy.Field(field[0].numpy().ravel(), hcipy_grid()), WAVE)


def as_tensor(wavefront: hcipy.Wavefront) -> torch.Tensor:
    return torch.from_numpy(np.array(wavefront.electric_field.shaped))
