"""What lies between two planes: distance, wavelengths and medium; the one description that all propagators take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import cast

import torch

from optics.errors import OpticsError
from optics.plane import Plane


@dataclass(frozen=True, eq=False)
class FreeSpace:
    """Free propagation from one sampled plane to another through a homogeneous medium.

    Attributes:
        input_plane: Where the field is given.
        output_plane: Where it is wanted.
        wavelengths_m: Vacuum wavelengths in metres, one number or L of them; kept as a tuple.
        distance_m: Distance in metres from input to output plane, negative to run back; a tensor of shape (Z,) gives Z
            depths in one call. A tensor that requires a gradient receives one.
        index: Refractive index of the medium, one or one for each wavelength; kept as a tuple.
        bandwidth_per_m: Highest spatial frequency of the field in cycles per metre, which the sampling rules use; None
            takes all that the input plane can hold.

    Raises:
        OpticsError: A wavelength, distance, index or bandwidth is not usable.

    >>> plane = Plane(256, 256, 4e-6)
    >>> space = FreeSpace(plane, plane, 550e-9, 5e-3, index=1.33)
    >>> [round(w * 1e9, 1) for w in space.medium_wavelengths_m]
    [413.5]
    """

    input_plane: Plane
    output_plane: Plane
    wavelengths_m: float | Sequence[float]
    distance_m: float | torch.Tensor
    index: float | Sequence[float] = 1.0
    bandwidth_per_m: float | None = None

    def __post_init__(self) -> None:
        waves = per_wavelength("wavelengths_m", self.wavelengths_m, None)
        object.__setattr__(self, "wavelengths_m", waves)
        object.__setattr__(self, "index", per_wavelength("index", self.index, len(waves)))
        checked_distances(self.distance_m)
        if self.bandwidth_per_m is not None and not (isfinite(self.bandwidth_per_m) and self.bandwidth_per_m > 0):
            raise OpticsError(f"bandwidth_per_m={self.bandwidth_per_m} must be a positive number of cycles per metre.")

    @property
    def waves_m(self) -> tuple[float, ...]:
        """Vacuum wavelengths in metres, L of them."""
        return cast(tuple[float, ...], self.wavelengths_m)

    @property
    def indices(self) -> tuple[float, ...]:
        """Refractive index at each wavelength."""
        return cast(tuple[float, ...], self.index)

    @cached_property
    def medium_wavelengths_m(self) -> tuple[float, ...]:
        """Wavelengths in the medium, L / n, in metres: all that propagation depends on."""
        return tuple(w / n for w, n in zip(self.waves_m, self.indices, strict=True))

    @property
    def distances_m(self) -> tuple[float, ...]:
        """The distances now, in metres."""
        return checked_distances(self.distance_m)

    @property
    def depths(self) -> bool:
        """Whether the distance is a tensor of depths of shape (Z,)."""
        return isinstance(self.distance_m, torch.Tensor) and self.distance_m.ndim == 1

    def nyquist_per_m(self, dim: int) -> float:
        """Return the highest frequency of the field along one axis (0 is y, 1 is x), in cycles per metre."""
        nyquist = 0.5 / self.input_plane.pitches_m[dim]
        return nyquist if self.bandwidth_per_m is None else min(nyquist, self.bandwidth_per_m)

    def reach_m(self, dim: int) -> float:
        """Return the largest sideways distance from an input to an output sample along one axis, in metres."""
        offset = abs(self.output_plane.centre_m[dim] - self.input_plane.centre_m[dim])
        return (self.input_plane.span_m[dim] + self.output_plane.span_m[dim]) / 2 + offset


def per_wavelength(name: str, values: float | Sequence[float] | torch.Tensor, count: int | None) -> tuple[float, ...]:
    """Return positive numbers as a tuple, one for each of ``count`` wavelengths.

    Raises:
        OpticsError: There is none, one is not positive, or their number does not fit.
    """
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    listed = [values] if isinstance(values, (int, float)) else list(values)
    numbers = tuple(float(v) for v in listed)
    if count is not None and len(numbers) == 1:
        numbers = numbers * count
    if not numbers or not all(isfinite(v) and v > 0 for v in numbers):
        raise OpticsError(f"{name}={numbers} must be one or more positive numbers.")
    if count is not None and len(numbers) != count:
        raise OpticsError(f"{name} has {len(numbers)} values for {count} wavelengths_m; give one, or one for each.")
    return numbers


def checked_distances(distance_m: float | torch.Tensor) -> tuple[float, ...]:
    """Return a distance or depths in metres as a tuple.

    Raises:
        OpticsError: The shape or type does not fit, or a distance is not finite.
    """
    if isinstance(distance_m, torch.Tensor):
        if distance_m.ndim > 1 or distance_m.numel() == 0 or not distance_m.is_floating_point():
            raise OpticsError(
                f"distance_m has shape {tuple(distance_m.shape)} and {distance_m.dtype}; a number or real values of "
                "shape (Z,) are needed."
            )
        numbers = tuple(distance_m.detach().double().reshape(-1).tolist())
    else:
        numbers = (float(distance_m),)
    if not all(isfinite(z) for z in numbers):
        raise OpticsError(f"distance_m={numbers} must be finite, in metres.")
    return numbers
