"""Move, turn and stretch a height map by cubic splines."""

from __future__ import annotations

import torch
from torch import nn

from optics.pupil import PupilGrid


class CubicResampler(nn.Module):
    """Interpolation of maps on a pupil grid by natural cubic splines.

    The spline passes through every cell exactly and is twice differentiable, so the derivative at rest is that of the
    relief and not a one-sided difference, as bilinear interpolation gives (M. Unser, IEEE Signal Process. Mag. 16(6),
    22 (1999)). Beyond the outermost cell centres the map goes on with the value of the nearest one.

    Args:
        grid: Pupil grid of the maps.
    """

    inverse: torch.Tensor
    coordinate_m: torch.Tensor

    def __init__(self, grid: PupilGrid) -> None:
        super().__init__()
        self.pitch_m = grid.pitch_m
        self.register_buffer("coordinate_m", grid.coordinate_m, persistent=False)
        # Samples from coefficients: (1, 4, 1) / 6, and at the ends 1, where the second difference vanishes.
        ones = torch.ones(grid.samples, dtype=torch.float64)
        matrix = torch.diag(ones * 4) + torch.diag(ones[1:], 1) + torch.diag(ones[1:], -1)
        matrix[0], matrix[-1] = 0.0, 0.0
        matrix[0, 0], matrix[-1, -1] = 6.0, 6.0
        self.register_buffer("inverse", torch.linalg.inv(matrix / 6), persistent=False)

    def forward(
        self,
        maps: torch.Tensor,
        x_m: torch.Tensor | None = None,
        y_m: torch.Tensor | None = None,
        turn_rad: torch.Tensor | None = None,
        growth: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the maps stretched by ``1 + growth``, turned from +x towards +y, then moved by (x, y).

        Args:
            maps: Shape (1, P, P) or (B, P, P).
            x_m: Move to the right in metres, shape (B,); None is zero.
            y_m: Move downwards in metres, shape (B,).
            turn_rad: Angle in radians, shape (B,).
            growth: Relative stretch, shape (B,).

        Returns:
            Maps of shape (B, P, P).
        """
        side, x, y = len(self.coordinate_m), self.coordinate_m, self.coordinate_m[:, None]
        given = torch.broadcast_tensors(
            *(self.inverse.new_zeros(1) if v is None else v for v in (x_m, y_m, turn_rad, growth))
        )
        move_x, move_y, turn, stretch = (v[:, None, None] for v in given)
        # Where the material at each cell comes from, in cells.
        right, down = (x - move_x) / (1 + stretch), (y - move_y) / (1 + stretch)
        scale, middle = 1 / self.pitch_m, (side - 1) / 2
        column = (right * turn.cos() + down * turn.sin()) * scale + middle
        row = (down * turn.cos() - right * turn.sin()) * scale + middle
        left, across = _taps(column, side)
        top, along = _taps(row, side)

        inverse = self.inverse.to(maps.dtype)
        inner = inverse @ maps @ inverse.mT
        coefficients = _extend(_extend(inner).mT).mT
        taps = torch.arange(4, device=maps.device)
        index = (top[:, None, None] + taps[:, None, None, None]) * (side + 2)
        index = index + left[:, None, None] + taps[:, None, None]
        trials = max(len(left), len(maps))
        flat = coefficients.flatten(1).expand(trials, -1)
        values = flat.gather(1, index.expand(trials, -1, -1, -1, -1).flatten(1)).reshape(trials, 4, 4, side, side)
        rows = (values * across.to(maps.dtype)[:, None]).sum(dim=2)
        return (rows * along.to(maps.dtype)).sum(dim=1)


def _taps(position: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First of four coefficients (of the extended row) and their weights (B, 4, P, P) at positions (B, P, P)."""
    inside = position.clamp(0.0, side - 1.0)
    first = inside.detach().floor().clamp(max=side - 2)
    s = inside - first
    r = 1 - s
    weights = (r**3 / 6, 2 / 3 - s**2 + s**3 / 2, 2 / 3 - r**2 + r**3 / 2, s**3 / 6)
    return first.long(), torch.stack(weights, dim=1)


def _extend(rows: torch.Tensor) -> torch.Tensor:
    """One more coefficient at both ends of the last axis, by a straight line."""
    before = 2 * rows[..., :1] - rows[..., 1:2]
    after = 2 * rows[..., -1:] - rows[..., -2:-1]
    return torch.cat((before, rows, after), dim=-1)
