"""An element made of plain tensors, for tests that ask for a certain path or transmission."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from optics import PupilElement, PupilGrid


class Given(PupilElement):
    """A height times an index difference, a path on top and a transmission; gradients and batches pass.

    Args:
        grid: Pupil.
        height_m: Shape (P, P) or (B, P, P).
        index_difference: Shape (L,).
        wavefront_m: Shape (P, P), (L, P, P) or (B, L, P, P).
        transmission: The same shapes.
    """

    def __init__(
        self,
        grid: PupilGrid,
        height_m: torch.Tensor,
        index_difference: torch.Tensor | Sequence[float],
        *,
        wavefront_m: torch.Tensor | None = None,
        transmission: torch.Tensor | None = None,
    ) -> None:
        super().__init__(grid, torch.float64)
        self.given = height_m, torch.as_tensor(index_difference, dtype=torch.float64), wavefront_m, transmission

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        height, index, wavefront, _ = self.given
        path = height.double().unsqueeze(-3) * index.to(height.device)[:, None, None]
        return path if wavefront is None else path + wavefront

    def transmission(self, wavelengths_m: Sequence[float] | None = None) -> torch.Tensor | None:
        return self.given[3]
