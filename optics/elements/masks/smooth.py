"""Smooth masks: a sum of Zernike terms, and a free-form relief of cubic splines."""

from __future__ import annotations

from math import isfinite

import torch
from torch import nn

from optics.elements.masks.base import PhaseMask
from optics.elements.zernike import ZernikeBasis
from optics.errors import OpticsError
from optics.materials import FUSED_SILICA, Material
from optics.pupil import PupilGrid
from optics.tensors import hold


class ZernikeMask(PhaseMask):
    """Height as a sum of Zernike terms, ``h = sum_j c_j Z_j`` (Noll 1 to n_terms, orthonormal on the aperture).

    A coefficient is the RMS height of its term in metres. They are of order 1e-7, so a step size of about 1e-8 suits
    Adam.

    Args:
        grid: Pupil.
        n_terms: Number of terms, from piston.
        coefficients_m: Parameter (trained) or tensor (fixed) of shape (n_terms,); None starts a trained flat mask.
        material: Material of the mask.
        dtype: Type of coefficients and basis.
    """

    coefficients_m: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        n_terms: int,
        coefficients_m: torch.Tensor | None = None,
        material: Material = FUSED_SILICA,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, material, dtype)
        start = nn.Parameter(torch.zeros(n_terms, dtype=dtype)) if coefficients_m is None else coefficients_m
        hold(self, "coefficients_m", start, (n_terms,), dtype)
        self.basis = ZernikeBasis(n_terms, grid, dtype)
        self._follow(coefficients_m)

    def height_m(self) -> torch.Tensor:
        """Return the height in metres, shape (P, P); it may be negative (a pit below the reference plane)."""
        height: torch.Tensor = self.basis(self.coefficients_m)
        return height


class FreeformMask(PhaseMask):
    """A smooth free-form relief within a height range.

    Unbounded controls on a coarse grid make a uniform cubic B-spline surface u (twice differentiable, a partition of
    unity), and ``h = max_height_m * sigmoid(u)``, so the range holds whatever the optimiser does. A control acts on
    about 4 / (cells - 3) of the diameter. Controls are of order 1: a step size of 0.01 to 0.1 suits Adam.

    Args:
        grid: Pupil.
        cells: Controls along one side of the aperture (at least 4).
        max_height_m: Upper end of the height range; the lower end is 0.
        material: Material of the mask.
        start: Controls u, Parameter (trained) or tensor (fixed) of shape (cells, cells); None starts a trained flat
            mask at half height.
        dtype: Type of controls and splines.

    >>> mask = FreeformMask(PupilGrid(1e-3, 32), cells=8, max_height_m=2e-6)
    >>> len(list(mask.parameters())), round(float(mask.height_m().detach().mean()) * 1e6, 6)  # trained, at half height
    (1, 1.0)
    """

    controls: torch.Tensor
    splines: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        cells: int,
        max_height_m: float,
        material: Material = FUSED_SILICA,
        start: torch.Tensor | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, material, dtype)
        if cells < 4:
            raise OpticsError(f"cells={cells} is too few for a cubic spline; use at least 4.")
        if not (isfinite(max_height_m) and max_height_m > 0):
            raise OpticsError(f"max_height_m={max_height_m} must be a positive height in metres.")
        self.max_height_m = max_height_m
        controls = nn.Parameter(torch.zeros(cells, cells, dtype=dtype)) if start is None else start
        hold(self, "controls", controls, (cells, cells), dtype)
        self.register_buffer("splines", cubic_splines(grid.samples, cells).to(dtype), persistent=False)
        self._follow(start)

    def height_m(self) -> torch.Tensor:
        """Return the height in metres, shape (P, P), between 0 and ``max_height_m``."""
        return self.max_height_m * torch.sigmoid(self.splines @ self.controls @ self.splines.T)


def cubic_splines(samples: int, cells: int) -> torch.Tensor:
    """Values of the uniform cubic B-splines at the cell centres of the pupil, float64 of shape (P, cells)."""
    position = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples * (cells - 3)
    distance = (position[:, None] + 1 - torch.arange(cells, dtype=torch.float64)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def random_mask(
    grid: PupilGrid,
    cells: int,
    max_height_m: float,
    generator: torch.Generator,
    material: Material = FUSED_SILICA,
    *,
    spread: float = 2.0,
    dtype: torch.dtype = torch.float32,
) -> FreeformMask:
    """Return a fixed free-form mask with random relief.

    Args:
        grid: Pupil.
        cells: Controls along one side.
        max_height_m: Height range in metres.
        generator: Source of the normal controls; the same state gives the same mask.
        material: Material of the mask.
        spread: Standard deviation of the controls.
        dtype: Type of the mask.
    """
    controls = torch.randn(cells, cells, generator=generator, dtype=torch.float64) * spread
    return FreeformMask(grid, cells, max_height_m, material, start=controls, dtype=dtype)
