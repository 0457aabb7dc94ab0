"""What all propagation operators share: geometry, checks of arguments, depths, and the linear map and its adjoint.

Conventions: a field is the complex amplitude without the carrier. With wavelength L in vacuum, index n and distance z
the full field in the output plane is ``exp(2 pi i n z / L)`` times the result (:func:`carrier_turns` gives that phase).
Light that leans towards +x carries ``exp(+2 pi i f x)`` with f > 0. A negative distance runs back: it undoes a positive
one for propagating waves, and lets evanescent waves decay too, so nothing grows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from optics.errors import OpticsError
from optics.plane import Plane
from optics.propagation.cache import kernel_cache
from optics.propagation.free_space import FreeSpace, checked_distances, per_wavelength

# One part in 1e9, so a geometry set exactly to a limit is not refused for its last bit.
SLACK = 1 + 1e-9

_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class SamplingError(OpticsError):
    """The arguments are sound, and a sampling rule of this method forbids the geometry."""


@dataclass(frozen=True)
class Margin:
    """One sampling rule of an operator: ``value`` must not exceed ``limit``.

    Attributes:
        rule: What is compared, with its unit.
        value: What this geometry has.
        limit: What the operator can bear.
    """

    rule: str
    value: float
    limit: float

    def __str__(self) -> str:
        return f"{self.rule} {self.value:.4g} (limit {self.limit:.4g})"


def carrier_turns(
    wavelengths_m: float | Sequence[float],
    distance_m: float | torch.Tensor,
    index: float | Sequence[float] = 1.0,
) -> torch.Tensor:
    """Return the phase n z / L of the carrier that all operators leave out, in turns.

    Whole turns are removed from the exact ratio of the numbers given (rational arithmetic), so a distance of many
    metres loses nothing. Multiply a result by ``exp(2 pi i turns)[..., None, None]`` for the full field.

    Args:
        wavelengths_m: Vacuum wavelengths in metres, L of them.
        distance_m: Distance in metres, or depths of shape (Z,); may carry a gradient.
        index: Index of the medium, one or one for each wavelength.

    Returns:
        Turns in [-0.5, 0.5], float64 of shape (L,) or (Z, L).

    Raises:
        OpticsError: An argument is invalid.

    >>> carrier_turns(500e-9, 1e-3 + 125e-9).round(decimals=6).tolist()  # 2000.25 wavelengths
    [0.25]
    """
    waves = per_wavelength("wavelengths_m", wavelengths_m, None)
    indices = per_wavelength("index", index, len(waves))
    rows = []
    for z in checked_distances(distance_m):
        exact = [Fraction(z) * Fraction(n) / Fraction(w) for w, n in zip(waves, indices, strict=True)]
        rows.append([float(turns - round(turns)) for turns in exact])
    if not isinstance(distance_m, torch.Tensor):
        return torch.tensor(rows[0], dtype=torch.float64)
    turns = distance_m.new_tensor(rows, dtype=torch.float64)
    if distance_m.requires_grad:
        slope = turns.new_tensor([n / w for w, n in zip(waves, indices, strict=True)])
        live = distance_m.double().reshape(-1, 1)
        turns = turns + (live - live.detach()) * slope
    return turns if distance_m.ndim else turns[0]


def wrapped_phasor(turns: torch.Tensor, dtype: torch.dtype, size: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``size exp(2 pi i turns)``; whole turns go in float64, so ``dtype`` may be float32."""
    angle = ((turns - turns.detach().round()) * (2 * torch.pi)).to(dtype)
    # Vectorised sine and cosine; torch.polar calls the scalar ones and takes twice as long.
    cosine, sine = angle.cos(), angle.sin()
    if size is not None:
        size = size.to(dtype)
        cosine, sine = cosine * size, sine * size
    return torch.complex(cosine, sine)


class Propagator(nn.Module, ABC):
    """A linear map between fields on two planes, prepared once and used often.

    It holds no tensors but a ``distance_m`` with a gradient: the kernels live in :data:`kernel_cache`, on the device of
    the field, and operators of one geometry share them. A distance with a gradient has its kernel built at each call.

    Args:
        space: Planes, wavelengths, distance and medium.
        dtype: torch.float32 or torch.float64, the precision of the complex field.

    Raises:
        OpticsError: An argument is invalid, or a sampling rule is broken; the message names what to change.
    """

    distance_m: torch.Tensor | None

    def __init__(self, space: FreeSpace, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if dtype not in _COMPLEX:
            raise OpticsError(f"dtype={dtype} is not supported; use torch.float32 or torch.float64.")
        self.space = space
        self.dtype = dtype
        self.complex_dtype = _COMPLEX[dtype]
        self._fixed_m = space.distances_m
        live = space.distance_m
        # A live tensor is kept as it is; a Parameter thereby becomes one of this module.
        self.distance_m = live if isinstance(live, torch.Tensor) and live.requires_grad else None

    @property
    def distances_m(self) -> tuple[float, ...]:
        """The distances now, in metres."""
        return self._fixed_m if self.distance_m is None else checked_distances(self.distance_m)

    @abstractmethod
    def check(self) -> tuple[Margin, ...]:
        """Return how far each sampling rule is from its limit.

        Raises:
            OpticsError: A rule is broken.
        """

    @abstractmethod
    def _build(self, wavelength_m: torch.Tensor, distance_m: torch.Tensor) -> Any:
        """Build the kernel from float64 tensors (L, 1, 1) and () or (Z, 1, 1, 1) on the device it is used on."""

    @abstractmethod
    def _geometry(self) -> Hashable:
        """What the kernel depends on beside wavelengths, distances, planes and dtype."""

    @abstractmethod
    def _forward(self, field: torch.Tensor, kernel: Any) -> torch.Tensor:
        """Apply the kernel to (..., L, H, W), or (..., 1, L, H, W) with depths."""

    @abstractmethod
    def _adjoint(self, field: torch.Tensor, kernel: Any) -> torch.Tensor:
        """Apply the adjoint; with depths the result is summed over them already, keeping the dimension."""

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        """Return the field in the output plane.

        Args:
            field: Complex field in the input plane, shape (..., L, H, W), of this operator's precision.

        Returns:
            Shape (..., L, H', W'), or (..., Z, L, H', W') with depths.

        Raises:
            OpticsError: Shape, dtype or device do not fit, or a live distance breaks a sampling rule.
        """
        self._check_field(field, self.space.input_plane, "input_plane")
        return self._forward(field.unsqueeze(-4) if self.space.depths else field, self._kernel(field))

    def adjoint(self, field: torch.Tensor) -> torch.Tensor:
        """Apply the adjoint A*, for which ``<A x, y> = <x, A* y>`` in plain sums over samples.

        Args:
            field: Complex field in the output plane, shape (..., L, H', W'), or (..., Z, L, H', W') with depths.

        Returns:
            Shape (..., L, H, W); contributions of all depths are added.

        Raises:
            OpticsError: As for :meth:`forward`.
        """
        self._check_field(
            field, self.space.output_plane, "output_plane", len(self.distances_m) if self.space.depths else None
        )
        result = self._adjoint(field, self._kernel(field))
        return result.squeeze(-4) if self.space.depths else result

    def extra_repr(self) -> str:
        """Geometry, for ``print``."""
        lengths = f"wavelengths_m={self.space.waves_m}, distances_m={self.distances_m}"
        return f"{self.space.input_plane} -> {self.space.output_plane}, {lengths}"

    def _kernel(self, field: torch.Tensor) -> Any:
        waves = field.new_tensor(self.space.medium_wavelengths_m, dtype=torch.float64)[:, None, None]
        if self.distance_m is not None:
            if self.distance_m.device != field.device:
                raise OpticsError(
                    f"the field is on {field.device} and distance_m on {self.distance_m.device}; move one of them."
                )
            self.check()
            return self._build(waves, self._shaped(self.distance_m.double()))
        key = (
            type(self),
            self.space.input_plane,
            self.space.output_plane,
            self.space.medium_wavelengths_m,
            self._fixed_m,
            self.space.depths,
        )

        def build() -> Any:
            distance = waves.new_tensor(self._fixed_m)
            return self._build(waves, self._shaped(distance if self.space.depths else distance[0]))

        return kernel_cache.get((*key, self._geometry(), self.dtype, str(field.device)), build)

    def _shaped(self, distance_m: torch.Tensor) -> torch.Tensor:
        return distance_m.reshape(-1, 1, 1, 1) if self.space.depths else distance_m.reshape(())

    def _check_field(self, field: torch.Tensor, plane: Plane, name: str, depths: int | None = None) -> None:
        expected: tuple[int, ...] = (len(self.space.waves_m), plane.rows, plane.columns)
        if depths is not None:
            expected = (depths, *expected)
        if tuple(field.shape[-len(expected) :]) != expected:
            raise OpticsError(
                f"the field has shape {tuple(field.shape)}; its last dimensions must be {expected}, from wavelengths_m "
                f"and {name}{' and distance_m' if depths is not None else ''}."
            )
        if field.dtype != self.complex_dtype:
            raise OpticsError(
                f"the field is {field.dtype} and the operator {self.complex_dtype}; convert the field, or build the "
                f"operator with another dtype than {self.dtype}."
            )
