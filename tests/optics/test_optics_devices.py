"""Everything runs where its input lies: on the CPU, on a CUDA device if there is one, and on torch's meta device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from optics import (
    AngularSpectrum,
    DiffractiveMask,
    ElementStack,
    FieldStop,
    FreeformMask,
    FreeSpace,
    OffAxis,
    Plane,
    PointPsf,
    PupilElement,
    PupilGrid,
    PupilToPsf,
    Seidel,
    Sensor,
    SensorSpec,
    ThinLens,
    ToleranceCamera,
    ZernikeMask,
    bin_pixels,
    convolve,
    encircled_energy,
    psf_mtf,
    random_mask,
)
from optics.elements import (
    BoundedHeight,
    DeformableMirror,
    FixedCode,
    MeasuredHeight,
    MeasuredWavefront,
    SpatialLightModulator,
    TrainedCode,
    ZernikeWavefront,
    gaussian_influence,
    linear_phase_table,
)
from optics.imaging import (
    BrownConrady,
    ClearAperture,
    DistortionWarp,
    FieldGrid,
    Ghost,
    LowRankBlur,
    PatchBlur,
    add_ghosts,
    expose,
    motion_psf,
    polychromatic_psf,
    spectral_weights,
    veiling_glare,
)
from optics.propagation import FresnelTransform
from optics.sensor import FixedPattern, demosaic, sample_mosaic

GRID, LENS, WAVES = PupilGrid(0.5e-3, 32), ThinLens(4e-3, 1.0), (620e-9, 540e-9)
PLANE = Plane(16, 16, 4e-6)
# Sums of the same numbers in another order.
SINGLE = 1e-5

Where = torch.device


def random(where: Where, *shape: int, seed: int = 0) -> torch.Tensor:
    """The same numbers on every device."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(where)


def mask(where: Where) -> FreeformMask:
    return random_mask(GRID, 8, 1e-6, torch.Generator().manual_seed(0)).to(where)


def stack(where: Where) -> torch.Tensor:
    panel = SpatialLightModulator(GRID, GRID.diameter_m / 8, linear_phase_table(8), 540e-9, fill_factor=0.9)
    mirror = DeformableMirror(GRID, gaussian_influence(GRID, 3, 0.2e-3, 0.15), 1e-6)
    code = FixedCode(GRID, torch.full((4, 4), 0.5))
    elements = ElementStack(ZernikeMask(GRID, 6), DiffractiveMask(GRID, 4, max_height_m=1e-6, feature_samples=2))
    whole = ElementStack(elements, code, mirror, panel).to(where)
    return PupilToPsf(GRID, LENS, WAVES, 4e-6, 9).to(where)(whole, 0.7)


def off_axis(where: Where) -> torch.Tensor:
    model = OffAxis(GRID, LENS, 1e-3, seidel=Seidel(w131_m=1e-7), clear_aperture=ClearAperture(0.5e-3, 1e-3)).to(where)
    points = torch.tensor([0.0, 4e-4], device=where), torch.tensor([0.0, -3e-4], device=where)
    return model.psf(PupilToPsf(GRID, LENS, WAVES, 4e-6, 9).to(where), mask(where), *points, 0.7)


def sensor(where: Where) -> torch.Tensor:
    spec = SensorSpec(dark_current_e_s=5.0, exposure_s=0.1, pattern=FixedPattern(0, 2.0, 0.01, 0.1, 100.0))
    return Sensor(spec).to(where).expected_dn(1000 * random(where, 1, 3, 8, 8))


def varying(kind: type[PatchBlur | LowRankBlur], where: Where) -> torch.Tensor:
    field = FieldGrid.even(16, 16, 2, 2)
    return kind(field, random(where, 4, 1, 5, 5) / 25)(random(where, 1, 1, 16, 16))


CASES: dict[str, Callable[[Where], torch.Tensor]] = {
    "cells": lambda d: PupilToPsf(GRID, LENS, WAVES, 4e-6, 9).to(d)(mask(d), 0.7),
    "points": lambda d: PointPsf(GRID, LENS, WAVES, 1e-6, 9).to(d)(mask(d), torch.tensor([0.5, 2.0], device=d)),
    "a stack of elements": stack,
    "off the axis": off_axis,
    "tolerances": lambda d: ToleranceCamera(mask(d), PupilToPsf(GRID, LENS, WAVES, 4e-6, 9).to(d))({
        "decentre_x_m": torch.tensor([1e-6], device=d), "wavelength_m": torch.tensor([1e-9], device=d),
    }),
    "angular spectrum": lambda d: AngularSpectrum(FreeSpace(PLANE, PLANE, WAVES, 1e-4))(
        torch.complex(random(d, 2, 16, 16), random(d, 2, 16, 16, seed=1))
    ),
    "Fresnel transform": lambda d: FresnelTransform(FreeSpace(PLANE, PLANE, WAVES, 5e-3))(
        torch.complex(random(d, 2, 16, 16), random(d, 2, 16, 16, seed=1))
    ),
    "blur": lambda d: bin_pixels(convolve(random(d, 1, 3, 16, 16), random(d, 3, 5, 5)), 2),
    "patches": lambda d: varying(PatchBlur, d),
    "low rank": lambda d: varying(LowRankBlur, d),
    "distortion": lambda d: DistortionWarp(BrownConrady(k1=0.05), 16, 16, 30.0).to(d)(random(d, 1, 1, 16, 16)),
    "motion": lambda d: motion_psf(random(d, 5), random(d, 5, seed=1), 5),
    "shutter": lambda d: expose(random(d, 4, 1, 1, 8, 8), 1e-3, 2e-3, 1e-4),
    "ghosts": lambda d: add_ghosts(veiling_glare(random(d, 1, 1, 16, 16), 0.1), [Ghost(0.01, -0.8, 3.0)]),
    "spectrum": lambda d: polychromatic_psf(
        random(d, 2, 5, 5), spectral_weights(WAVES[::-1], torch.ones(2, device=d), random(d, 3, 2))
    ),
    "transfer": lambda d: psf_mtf(random(d, 1, 9, 9), 2e-6).x,
    "energy": lambda d: encircled_energy(random(d, 1, 9, 9), 2e-6, torch.tensor([4e-6], device=d)),
    "sensor": sensor,
    "mosaic": lambda d: demosaic(sample_mosaic(random(d, 1, 3, 8, 8))),
    "field stop": lambda d: FieldStop(0.5, 0.5, 0.3, 0.4, 0.02).transmission(16, device=d),
}  # fmt: skip
# These look at values (a rank, a fold, a sum that must not be 0), which a tensor without values cannot answer.
LOOKS_AT_VALUES = {
    "a stack of elements",
    "patches",
    "angular spectrum",
    "off the axis",
    "tolerances",
    "low rank",
    "motion",
    "spectrum",
    "transfer",
    "energy",
    "points",
}


@pytest.mark.parametrize("name", CASES)
def test_the_result_lies_where_the_input_lies_and_is_the_same(name: str, device: torch.device) -> None:
    result, expected = CASES[name](device), CASES[name](torch.device("cpu"))
    assert result.device.type == device.type
    assert result.dtype == expected.dtype
    difference = float((result.detach().cpu() - expected.detach()).abs().max())
    assert difference <= SINGLE * float(expected.detach().abs().max())


@pytest.mark.parametrize("name", sorted(set(CASES) - LOOKS_AT_VALUES))
def test_nothing_is_made_on_another_device(name: str) -> None:
    # Tensors of the meta device have no values and do not mix with others: a forgotten device= is an error here.
    result, expected = CASES[name](torch.device("meta")), CASES[name](torch.device("cpu"))
    assert result.device.type == "meta"
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


ELEMENTS: dict[str, Callable[[Where], PupilElement]] = {
    "Zernike mask": lambda d: ZernikeMask(GRID, 6, random(d, 6) * 1e-7),
    "free form": lambda d: FreeformMask(GRID, 8, 1e-6, start=random(d, 8, 8)),
    "bounded": lambda d: BoundedHeight(GRID, 1e-6, 0.1, start=random(d, 32, 32)),
    "measured": lambda d: MeasuredHeight(GRID, random(d, 20, 20) * 1e-6, pitch_m=30e-6),
    "steps": lambda d: DiffractiveMask(GRID, 4, max_height_m=1e-6, feature_samples=4, start=random(d, 8, 8)),
    "code": lambda d: FixedCode(GRID, random(d, 4, 4)),
    "trained code": lambda d: TrainedCode(GRID, 4, start=random(d, 4, 4)),
    "wavefront": lambda d: ZernikeWavefront(GRID, random(d, 6) * 1e-7, "osa"),
    "map": lambda d: MeasuredWavefront(GRID, random(d, 32, 32) * 1e-7),
    "mirror": lambda d: DeformableMirror(GRID, gaussian_influence(GRID, 3, 0.2e-3, 0.15).to(d), 1e-6),
    "panel": lambda d: SpatialLightModulator(
        GRID, GRID.diameter_m / 8, linear_phase_table(8), 540e-9, fill_factor=0.9, drive=255 * random(d, 8, 8)
    ),
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_an_element_lies_where_the_tensor_lies_that_it_is_made_of(name: str, device: torch.device) -> None:
    element = ELEMENTS[name](device)
    held = [*element.parameters(), *element.buffers()]
    assert held and all(tensor.device.type == device.type for tensor in held)
    psf = PupilToPsf(GRID, LENS, WAVES, 4e-6, 9).to(device)(element)
    assert psf.device.type == device.type and bool(psf.isfinite().all())
