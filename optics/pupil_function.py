"""The complex field in the pupil, with phases reduced to turns.

The path error of mask and defocus in wavelengths, ``t = h (n - 1) / wavelength + W / wavelength``, never contains the
carrier (the thousands of turns from pupil to sensor, which every point shares), and whole turns are removed before the
sine and cosine; float32 then keeps about 1e-6 rad.
"""

from __future__ import annotations

import torch
from torch import nn

from optics.errors import OpticsError
from optics.lens import ThinLens
from optics.pupil import PupilGrid


class PupilFunction(nn.Module):
    """Field ``A exp(2 pi i t)`` for each wavelength, from a mask height and an object distance.

    Args:
        grid: Pupil.
        lens: Ideal lens behind it.
        wavelengths_m: Vacuum wavelengths in metres.
        dtype: Real type of the result.
    """

    amplitude: torch.Tensor
    radius_squared_m2: torch.Tensor

    def __init__(self, grid: PupilGrid, lens: ThinLens, wavelengths_m: tuple[float, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.grid = grid
        self.lens = lens
        self.wavelengths_m = wavelengths_m
        self.register_buffer("amplitude", grid.amplitude.to(dtype), persistent=False)
        # Kept in float64: the defocus is computed once per call on one plane, and cancellation-free in any case.
        self.register_buffer("radius_squared_m2", grid.radius_squared_m2, persistent=False)

    def turns(
        self,
        height_m: torch.Tensor,
        index_difference: torch.Tensor,
        object_distance_m: float | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the path error in wavelengths, not reduced, shape (L, P, P) or (B, L, P, P)."""
        samples, count = self.grid.samples, len(self.wavelengths_m)
        if height_m.ndim not in (2, 3) or tuple(height_m.shape[-2:]) != (samples, samples):
            raise OpticsError(
                f"height_m has shape {tuple(height_m.shape)}; this pupil needs ({samples}, {samples}) or "
                f"(B, {samples}, {samples})."
            )
        if tuple(index_difference.shape) != (count,):
            raise OpticsError(
                f"index_difference has shape {tuple(index_difference.shape)} for {count} wavelengths; pass one value "
                "per wavelength."
            )
        dtype = self.amplitude.dtype
        wavelengths = torch.tensor(self.wavelengths_m, dtype=torch.float64)
        per_metre = (index_difference.double() / wavelengths).to(dtype)
        turns = height_m.to(dtype).unsqueeze(-3) * per_metre[:, None, None]
        if object_distance_m is not None:
            opd = self.lens.defocus_opd_m(self.radius_squared_m2, object_distance_m).unsqueeze(-3)
            turns = turns + (opd / wavelengths[:, None, None]).to(dtype)
        return turns

    def forward(
        self,
        height_m: torch.Tensor,
        index_difference: torch.Tensor,
        object_distance_m: float | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the complex field, shape (L, P, P) or (B, L, P, P)."""
        turns = self.turns(height_m, index_difference, object_distance_m)
        phase = (turns - turns.detach().round()) * (2 * torch.pi)
        return torch.complex(self.amplitude * phase.cos(), self.amplitude * phase.sin())
