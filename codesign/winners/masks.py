"""Reliefs that realise kernels: a start by optimal transport, then descent through the wave model of each tile.

All tiles share lens, aperture and height range. A kernel's two parts are patterns of light on the pixels; on the finer
cells of the scene they are interpolated linearly, which is as much detail as a pixel can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.winners.descent import one_cycle
from ground.pool import threads
from optics import FreeformMask, PupilToPsf, get_material
from optics.elements.masks import controls_for_height, transport_height_m
from sim.camera import Geometry
from sim.winners import split_kernel

#: Phase step between pupil samples, in turns, from which a relief is charged; the sampling check refuses one half.
SLOPE_LIMIT = 0.42
#: Weight of that charge, and peak rate of the controls.
SLOPE_WEIGHT, RATE = 0.3, 0.01


def wanted_psf(pattern: Tensor, geometry: Geometry, pixels: int) -> Tensor:
    """Patterns (..., k, k) of pixels as point-spread functions (..., K, K) of cells, each of sum one.

    Raises:
        CodesignError: The pattern is larger than the window.
    """
    block, cells = geometry.scene_px // pixels, geometry.psf_cells
    side = pattern.shape[-1]
    spread = torch.zeros(*pattern.shape[:-2], side * block, side * block, dtype=pattern.dtype, device=pattern.device)
    spread[..., ::block, ::block] = pattern
    reach = torch.arange(1 - block, block, device=pattern.device)
    line = (1 - reach.abs() / block).to(pattern.dtype)
    kernel = line[:, None] * line
    flat = spread.reshape(-1, 1, side * block, side * block)
    smooth = functional.conv2d(flat, kernel[None, None], padding=block - 1)[..., : side * block, : side * block]
    # The centre of the middle pixel's cell is the optical axis.
    middle, half = (side // 2) * block, cells // 2
    if middle > half:
        raise CodesignError(
            f"kernels of {side} pixels do not fit into the window of {pixels}; lower winners.anchor_radius_px or "
            "winners.follower_radius_px."
        )
    smooth = smooth.reshape(*pattern.shape[:-2], side * block, side * block)
    above, below = half - middle, cells - (half - middle) - side * block
    whole = functional.pad(smooth, (above, below, above, below))
    return whole / whole.sum((-2, -1), keepdim=True)


@dataclass(frozen=True)
class Relief:
    """What became of one tile.

    Attributes:
        controls: (cells, cells) of the free-form mask.
        residual: Root mean square difference of the PSF from the wanted one over the latter's root mean square, over
            all colours.
        light: Share of the light inside the window, mean over colours.
        height_m: Range of the relief inside the aperture in metres.
    """

    controls: Tensor
    residual: float
    light: float
    height_m: float


def mask_of(config: TrainMaskConfig, geometry: Geometry, controls: Tensor) -> FreeformMask:
    """A tile's mask from its controls (cells, cells); a Parameter is trained."""
    settings = config.winners
    material = get_material(config.mask.material)
    return FreeformMask(geometry.grid, settings.relief_cells, settings.max_height_m, material, controls)


def first_controls(config: TrainMaskConfig, geometry: Geometry, kernels: Sequence[Tensor]) -> Tensor:
    """Controls (T, cells, cells) by optimal transport, two tiles for each kernel of channels of kernels (M, k, k).

    Raises:
        OpticsError: The reliefs are taller than ``winners.max_height_m``.
    """
    return torch.cat([_transported(config, geometry, split_kernel(channel).flatten(0, 1)) for channel in kernels])


def _transported(config: TrainMaskConfig, geometry: Geometry, patterns: Tensor) -> Tensor:
    settings = config.winners
    material, wavelength = get_material(config.mask.material), geometry.wavelengths_m[1]
    pitch_m = geometry.cell_m * geometry.scene_px / settings.pixels
    height = transport_height_m(geometry.grid, geometry.lens, patterns, pitch_m, wavelength, material)
    # Corners of the square grid see no light; there the surface goes on level.
    inside = _aperture(geometry)
    tallest = height.masked_fill(~inside, 0).amax((-2, -1), keepdim=True)
    return controls_for_height(torch.minimum(height, tallest), settings.relief_cells, settings.max_height_m)


def _aperture(geometry: Geometry) -> Tensor:
    u = geometry.grid.coordinate_m
    return (u[:, None] ** 2 + u**2) <= (geometry.grid.diameter_m / 2) ** 2


def realise(config: TrainMaskConfig, geometry: Geometry, wanted: Tensor, controls: Tensor) -> Relief:
    """Job: descend from first controls towards a point-spread function, one tile.

    Args:
        config: Configuration of the run.
        geometry: Lens and window.
        wanted: (K, K).
        controls: (cells, cells) to start from.

    Raises:
        OpticsError: The result is not sampled finely enough.
    """
    with threads(1):
        return _realise(config, geometry, wanted.float(), nn.Parameter(controls.float().clone()))


def _realise(config: TrainMaskConfig, geometry: Geometry, wanted: Tensor, controls: nn.Parameter) -> Relief:
    mask = mask_of(config, geometry, controls)
    to_psf = PupilToPsf(geometry.grid, geometry.lens, geometry.wavelengths_m, geometry.cell_m, geometry.psf_cells)
    differences = mask.index_differences(geometry.wavelengths_m)
    turns = differences / differences.new_tensor(geometry.wavelengths_m)
    per_metre, inside = float(turns.max()), _aperture(geometry)
    power = wanted.square().sum() * len(geometry.wavelengths_m)
    optimiser = torch.optim.Adam([controls], lr=RATE)
    steps = config.winners.relief_steps
    best, kept = torch.inf, controls.detach().clone()
    for step in range(steps + 1):
        psf = to_psf(mask, geometry.object_distance_m)
        residual = (psf - wanted).square().sum() / power
        height = mask.height_m() * per_metre
        loss = residual + SLOPE_WEIGHT * _too_steep(height, inside)
        if float(loss.detach()) < best:
            best, kept = float(loss.detach()), controls.detach().clone()
        if step == steps:
            break
        for group in optimiser.param_groups:
            group["lr"] = RATE * one_cycle(step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        controls.copy_(kept)
        psf = to_psf(mask, geometry.object_distance_m)
        to_psf.check(mask, geometry.object_distance_m)
        seen = mask.height_m()[inside]
        return Relief(
            kept,
            float(((psf - wanted).square().sum() / power).sqrt()),
            float(psf.sum((-2, -1)).mean()),
            float(seen.max() - seen.min()),
        )


def _too_steep(height: Tensor, inside: Tensor) -> Tensor:
    """Sum of squares by which phase steps inside the aperture exceed what is free of charge, in turns."""
    total = height.new_zeros(())
    for dim in (0, 1):
        step = height.diff(dim=dim).abs()
        lit = inside.narrow(dim, 0, inside.shape[dim] - 1) & inside.narrow(dim, 1, inside.shape[dim] - 1)
        total = total + functional.relu(step - SLOPE_LIMIT)[lit].square().sum()
    return total


def tile_patterns(kernels: Sequence[Tensor], geometry: Geometry, pixels: int) -> Tensor:
    """Wanted point-spread functions (T, K, K) of all tiles, two for each kernel, of channels of kernels (M, k, k)."""
    found = []
    for channel in kernels:
        found.append(wanted_psf(split_kernel(channel), geometry, pixels).flatten(0, 1))
    return torch.cat(found)


def masks_of(config: TrainMaskConfig, geometry: Geometry, state: Mapping[str, Tensor]) -> list[FreeformMask]:
    """The fixed masks of all tiles from the stored design.

    Raises:
        CodesignError: The stored tensor does not hold such masks.
    """
    cells = config.winners.relief_cells
    controls = state.get("controls")
    if controls is None or controls.ndim != 3 or tuple(controls.shape[1:]) != (cells, cells):
        found = None if controls is None else tuple(controls.shape)
        raise CodesignError(
            f"the masks of this configuration are controls of shape (tiles, {cells}, {cells}), but the stored ones "
            f"have the shape {found}; use the mask file of this run."
        )
    return [mask_of(config, geometry, one) for one in controls]
