"""The base of all phase masks: a relief of a transparent material in the pupil.

Every mask is a pupil element with ``height_m()`` of shape (P, P) in metres, arrays [y, x], and the material it is made
of; all light passes. What is trained is decided by the tensor handed in: an ``nn.Parameter`` (or nothing) becomes a
trainable parameter, a plain tensor a fixed buffer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from optics.checks import check_wavelengths
from optics.elements.base import PupilElement
from optics.materials import FUSED_SILICA, Material, index_differences
from optics.pupil import PupilGrid


class PhaseMask(PupilElement):
    """Base of all masks: a height map h and a material of index n, with the path error ``h (n - n_air)``.

    Args:
        grid: Pupil.
        material: Material of the mask.
        dtype: torch.float32 or torch.float64, the type of the height.
    """

    def __init__(self, grid: PupilGrid, material: Material = FUSED_SILICA, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(grid, dtype)
        self.material = material

    def height_m(self) -> torch.Tensor:
        """Return the height in metres, shape (P, P)."""
        raise NotImplementedError

    def index_differences(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the index of the mask over that of air at each vacuum wavelength, float64 of shape (L,)."""
        return index_differences(self.material, wavelengths_m)

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the path error ``h (n - n_air)`` in metres at each vacuum wavelength, shape (L, P, P)."""
        height = self.height_m()
        differences = self.index_differences(check_wavelengths(wavelengths_m)).to(height)
        return height * differences[:, None, None]

    def turns(self, wavelengths_m: Sequence[float], dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the path error in wavelengths, shape (L, P, P); see :meth:`optics.elements.PupilElement.turns`."""
        waves = check_wavelengths(wavelengths_m)
        height = self.height_m()
        height = height if dtype is None else height.to(dtype)
        # The quotient in float64: one rounding instead of two.
        differences = self.index_differences(waves)
        per_metre = (differences / differences.new_tensor(waves)).to(height)
        return height.unsqueeze(-3) * per_metre[:, None, None]


class FlatMask(PhaseMask):
    """No relief: the bare lens."""

    _height: torch.Tensor

    def __init__(
        self, grid: PupilGrid, material: Material = FUSED_SILICA, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(grid, material, dtype)
        self.register_buffer("_height", torch.zeros(grid.samples, grid.samples, dtype=dtype), persistent=False)

    def height_m(self) -> torch.Tensor:
        """Return zeros, shape (P, P)."""
        return self._height
