"""Perturbations with their distributions: numbers and random surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite, sqrt
from typing import Literal, Protocol

import torch

from optics.errors import OpticsError
from optics.pupil import PupilGrid


class Perturbation(Protocol):
    """What :func:`monte_carlo` and :func:`sensitivities` need of a tolerance; all have mean zero."""

    @property
    def name(self) -> str:
        """Name under which the system receives the perturbation."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one draw; () is a number."""

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Return one draw, float64."""

    def deviation(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the standard deviation of ``sum(gradient * draw)``: (M, *shape) to (M,)."""


@dataclass(frozen=True)
class Tolerance:
    """A number with an error of mean zero.

    Attributes:
        name: Name of the parameter in the system.
        spread: Standard deviation of the normal law, or half the width of the uniform one, in the SI unit of the name.
        law: ``"normal"`` or ``"uniform"``.
    """

    name: str
    spread: float
    law: Literal["normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        if not (isfinite(self.spread) and self.spread >= 0):
            raise OpticsError(f"spread={self.spread} of {self.name!r} must be zero or a positive number.")
        if self.law not in ("normal", "uniform"):
            raise OpticsError(f"law={self.law!r} of {self.name!r} must be 'normal' or 'uniform'.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one draw: a number."""
        return ()

    @property
    def standard_deviation(self) -> float:
        """Standard deviation, ``spread`` or ``spread / sqrt(3)``."""
        return self.spread if self.law == "normal" else self.spread / sqrt(3)

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Return one draw, a float64 number."""
        if self.law == "normal":
            return self.spread * torch.randn((), generator=generator, dtype=torch.float64, device=generator.device)
        return self.spread * (2 * torch.rand((), generator=generator, dtype=torch.float64, device=generator.device) - 1)

    def deviation(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the standard deviation of ``gradient * draw``, shape (M,)."""
        return gradient.abs() * self.standard_deviation


class SurfaceTolerance:
    """A random error of the height, normal and stationary, of correlation ``rms_m^2 exp(-(r / correlation_m)^2)``.

    White noise on a grid that is larger than the pupil, filtered by a Gaussian: no wrap-around, and exactly the same
    RMS in every cell. The RMS is that of all draws: a correlation length near the diameter leaves less of it within
    one draw, the rest being piston.

    Args:
        grid: Pupil.
        rms_m: RMS height error in metres.
        correlation_m: Distance at which the correlation is 1/e, in metres; 0 is white roughness, one independent value
            per cell.
        name: Name in the system; ``"figure_m"`` or ``"roughness_m"`` for a :class:`ToleranceCamera`.

    Raises:
        OpticsError: A length is impossible, or the correlation length exceeds the diameter.
    """

    shape: tuple[int, ...]

    def __init__(self, grid: PupilGrid, rms_m: float, correlation_m: float = 0.0, name: str = "figure_m") -> None:
        if not (isfinite(rms_m) and rms_m >= 0):
            raise OpticsError(f"rms_m={rms_m} of {name!r} must be zero or a positive height in metres.")
        if not 0 <= correlation_m <= grid.diameter_m:
            raise OpticsError(
                f"correlation_m={correlation_m} of {name!r} must lie from 0 to the diameter {grid.diameter_m:g} m; a "
                "longer error is piston and tilt."
            )
        self.name = name
        self.rms_m = rms_m
        self.correlation_m = correlation_m
        self.shape = (grid.samples, grid.samples)
        # exp(-2 (x / c)^2) correlated with itself is exp(-(x / c)^2); three lengths out it is 1.5e-8.
        margin = ceil(3 * correlation_m / grid.pitch_m)
        cells = torch.arange(grid.samples + 2 * margin, dtype=torch.float64) - margin
        away = (cells - torch.arange(grid.samples, dtype=torch.float64)[:, None]) * grid.pitch_m
        weight = (-2 * (away / correlation_m).square()).exp() if correlation_m > 0 else (away == 0).double()
        self._filter = weight / weight.square().sum(dim=1, keepdim=True).sqrt()

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Return one height map in metres, float64 of shape (P, P)."""
        side, device = self._filter.shape[1], generator.device
        white = torch.randn(side, side, generator=generator, dtype=torch.float64, device=device)
        across = self._filter.to(device)
        return self.rms_m * (across @ white @ across.T)

    def deviation(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the standard deviation of the linear response to the surface, (M, P, P) to (M,): exact, no draws."""
        across = self._filter.to(gradient)
        return self.rms_m * (across.T @ gradient @ across).flatten(-2).norm(dim=-1)
