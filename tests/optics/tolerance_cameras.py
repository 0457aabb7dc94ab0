"""Cameras with tolerances that several test files share."""

from __future__ import annotations

from typing import Any

import torch

from optics import FUSED_SILICA, PhaseMask, PupilGrid, PupilToPsf, ThinLens, ToleranceCamera, random_mask

GRID, LENS, WAVE = PupilGrid(0.5e-3, 64), ThinLens(4e-3, 1.0), 540e-9
FIELD = {torch.float32: 2e-6, torch.float64: 1e-12}


class MapMask(PhaseMask):
    """A height map as it is."""

    height: torch.Tensor

    def __init__(self, grid: PupilGrid, height: torch.Tensor) -> None:
        super().__init__(grid, FUSED_SILICA)
        self.register_buffer("height", height)

    def height_m(self) -> torch.Tensor:
        return self.height


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def number(value: float, trials: int = 1) -> torch.Tensor:
    return torch.full((trials,), value, dtype=torch.float64)


def to_psf(
    grid: PupilGrid = GRID,
    lens: ThinLens = LENS,
    waves: tuple[float, ...] = (WAVE,),
    pitch_m: float = 2e-6,
    samples: int = 31,
    dtype: torch.dtype = torch.float64,
) -> PupilToPsf:
    return PupilToPsf(grid, lens, waves, pitch_m, samples, dtype=dtype)


def camera(height: torch.Tensor | None = None, **kind: Any) -> ToleranceCamera:
    """One wavelength and a mask of this height, or flat."""
    height = torch.zeros(64, 64, dtype=torch.float64) if height is None else height
    return ToleranceCamera(MapMask(GRID, height), to_psf(), **kind)


def axis_camera(height: torch.Tensor | None = None, **kind: Any) -> ToleranceCamera:
    """One cell, much smaller than the Airy disc: the intensity on the axis."""
    height = torch.zeros(64, 64, dtype=torch.float64) if height is None else height
    return ToleranceCamera(MapMask(GRID, height), to_psf(pitch_m=1e-8, samples=1), **kind)


def relief(seed: int = 1) -> torch.Tensor:
    return random_mask(GRID, 10, 1.0e-6, generator(seed), dtype=torch.float64).height_m()


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference over the largest value of b."""
    return float((a - b).detach().abs().max() / b.abs().max())
