"""A sampled plane across the optical axis: where the samples of a field lie.

The samples are point values on a regular grid. ``centre_m`` is the middle of the grid, so an odd count has a sample on
it and an even count has it half-way between two samples, as :class:`optics.PupilGrid` has.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import cast

import torch

from optics.errors import OpticsError


@dataclass(frozen=True)
class Plane:
    """A regular grid of samples; arrays are [y, x], x right, y down.

    Attributes:
        rows: Samples along y.
        columns: Samples along x.
        pitch_m: Distance of neighbouring samples in metres: one number, or (y, x). Kept as (y, x).
        centre_m: Position (y, x) of the middle of the grid in metres, measured from the optical axis.

    Raises:
        OpticsError: A count, pitch or position is not usable.
    """

    rows: int
    columns: int
    pitch_m: float | tuple[float, float]
    centre_m: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, count in (("rows", self.rows), ("columns", self.columns)):
            if not isinstance(count, int) or count < 1:
                raise OpticsError(f"{name}={count} must be a whole number of samples, at least 1.")
        pitch = self.pitch_m if isinstance(self.pitch_m, tuple) else (self.pitch_m, self.pitch_m)
        if len(pitch) != 2 or not all(isfinite(p) and p > 0 for p in pitch):
            raise OpticsError(f"pitch_m={self.pitch_m} must be a positive length in metres, or a pair (y, x) of them.")
        if len(self.centre_m) != 2 or not all(isfinite(c) for c in self.centre_m):
            raise OpticsError(f"centre_m={self.centre_m} must be a pair (y, x) of finite positions in metres.")
        object.__setattr__(self, "pitch_m", (float(pitch[0]), float(pitch[1])))
        object.__setattr__(self, "centre_m", (float(self.centre_m[0]), float(self.centre_m[1])))

    @property
    def shape(self) -> tuple[int, int]:
        """Samples (rows, columns)."""
        return (self.rows, self.columns)

    @property
    def pitches_m(self) -> tuple[float, float]:
        """Pitch (y, x) in metres."""
        return cast(tuple[float, float], self.pitch_m)

    @property
    def span_m(self) -> tuple[float, float]:
        """Distance (y, x) from the first to the last sample in metres."""
        (rows, columns), (y, x) = self.shape, self.pitches_m
        return ((rows - 1) * y, (columns - 1) * x)

    @property
    def first_m(self) -> tuple[float, float]:
        """Position (y, x) of the sample [0, 0] in metres."""
        (height, width), (y, x) = self.span_m, self.centre_m
        return (y - height / 2, x - width / 2)

    @property
    def area_m2(self) -> float:
        """Area of one cell, which turns a sum over samples into an integral, in square metres."""
        y, x = self.pitches_m
        return y * x

    @property
    def y_m(self) -> torch.Tensor:
        """Positions of the rows in metres, float64 of shape (rows, 1)."""
        return self._axis(0)[:, None]

    @property
    def x_m(self) -> torch.Tensor:
        """Positions of the columns in metres, float64 of shape (1, columns)."""
        return self._axis(1)[None, :]

    def _axis(self, dim: int) -> torch.Tensor:
        # Counted from the middle, so a symmetric grid has exactly symmetric positions.
        index = torch.arange(self.shape[dim], dtype=torch.float64) - (self.shape[dim] - 1) / 2
        return index * self.pitches_m[dim] + self.centre_m[dim]
