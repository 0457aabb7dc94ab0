"""A deformable mirror: influence functions, command limits and the least-squares fit of a wavefront.

The surface is ``s = sum_a c_a f_a`` with commands c in metres and influence functions f without unit (1 at the actuator
for a Gaussian). Light crosses the displacement twice, ``W = 2 s`` at normal incidence; a surface counts positive where
it retreats from the light, so that light is late there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log

import torch
from torch import nn

from optics.checks import check_finite, check_wavelengths
from optics.elements.base import PupilElement
from optics.errors import OpticsError
from optics.pupil import PupilGrid

# Command patterns that move the surface by less than this share of the strongest are left at rest by a fit.
_RANK_TOLERANCE = 1e-6


class DeformableMirror(PupilElement):
    """A mirror in the pupil whose surface follows its actuators.

    Args:
        grid: Pupil.
        influence: Influence functions, metres of surface per metre of command, shape (A, P, P); see
            :func:`gaussian_influence`, or measured ones.
        max_command_m: Largest absolute command in metres; commands beyond it are clipped (their gradient is 0), as the
            driver clips them.
        commands_m: Parameter (trained) or tensor (fixed) of shape (A,); None starts trained commands at rest.
        dtype: Type of commands and influence functions; these take A P^2 numbers of memory.
    """

    influence: torch.Tensor
    commands_m: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        influence: torch.Tensor,
        max_command_m: float,
        commands_m: torch.Tensor | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(grid, dtype)
        if not (isfinite(max_command_m) and max_command_m > 0):
            raise OpticsError(f"max_command_m={max_command_m} must be a positive length in metres.")
        if influence.ndim != 3 or influence.shape[0] < 1:
            raise OpticsError(f"influence has shape {tuple(influence.shape)}; it must be (A, P, P) with A >= 1.")
        self.max_command_m = max_command_m
        self._hold("influence", influence.detach(), (influence.shape[0], grid.samples, grid.samples))
        count = influence.shape[0]
        start = nn.Parameter(torch.zeros(count, dtype=dtype)) if commands_m is None else commands_m
        self._hold("commands_m", start, (count,))
        self._follow(influence)
        largest = float(self.commands_m.detach().abs().max())
        if largest > max_command_m * (1 + 1e-6):
            raise OpticsError(
                f"commands_m reaches {largest:g} m but max_command_m={max_command_m:g}; reduce commands_m."
            )

    def surface_m(self, commands_m: torch.Tensor | None = None) -> torch.Tensor:
        """Return the surface in metres, shape (P, P), or (..., P, P) for commands of shape (..., A)."""
        commands = self.commands_m if commands_m is None else commands_m.to(self.influence)
        if commands.shape[-1:] != self.influence.shape[:1]:
            raise OpticsError(
                f"commands_m has shape {tuple(commands.shape)} for {self.influence.shape[0]} actuators; pass (..., A)."
            )
        flat = commands.clamp(-self.max_command_m, self.max_command_m) @ self.influence.flatten(1)
        return flat.reshape(*commands.shape[:-1], *self.influence.shape[1:])

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the path error in metres, twice the surface, shape (L, P, P)."""
        return (2 * self.surface_m()).expand(len(check_wavelengths(wavelengths_m)), -1, -1)

    def fit(self, wavefront_m: torch.Tensor) -> torch.Tensor:
        """Return the commands within the limit whose path error is closest to a wavefront over the aperture.

        Least squares weighted by the share of each cell in the aperture, in float64; where the free solution leaves the
        limit, the bounded problem is solved exactly (P. B. Stark, R. L. Parker, Comput. Stat. 10, 129 (1995), by
        scipy). To cancel an aberration, fit its negative.

        Args:
            wavefront_m: Path error in metres, shape (..., P, P).

        Returns:
            Commands in metres, shape (..., A), without gradient.
        """
        if tuple(wavefront_m.shape[-2:]) != tuple(self.influence.shape[1:]):
            raise OpticsError(
                f"wavefront_m has shape {tuple(wavefront_m.shape)}; this pupil needs (..., {self.grid.samples}, "
                f"{self.grid.samples})."
            )
        check_finite("wavefront_m", wavefront_m)
        with torch.no_grad():
            weight = self.grid.amplitude.to(self.influence.device).sqrt().flatten()
            matrix = (2 * self.influence.double().flatten(1) * weight).mT
            target = (wavefront_m.double().flatten(-2).reshape(-1, weight.numel()) * weight).mT
            orthogonal, triangle = torch.linalg.qr(matrix)
            reduced = orthogonal.mT @ target
            inverse = torch.linalg.pinv(triangle, rtol=_RANK_TOLERANCE)
            commands = (inverse @ reduced).mT
            for row in (commands.abs().amax(-1) > self.max_command_m).nonzero().flatten().tolist():
                commands[row] = _bounded(triangle, reduced[:, row], self.max_command_m)
        return commands.reshape(*wavefront_m.shape[:-2], -1).to(self.influence.dtype)


def _bounded(matrix: torch.Tensor, target: torch.Tensor, limit: float) -> torch.Tensor:
    """Least-squares solution of ``matrix x = target`` with each ``|x|`` at most ``limit``, on their device."""
    # Imported where it is used: scipy.optimize takes longer to load than this whole room.
    from scipy.optimize import lsq_linear

    # In units of the limit, so that the solver's tolerances suit.
    scaled = matrix.cpu().numpy() * limit
    solution = lsq_linear(
        scaled, target.cpu().numpy(), (-1.0, 1.0), method="bvls", tol=1e-12, max_iter=10 * len(scaled)
    )
    return torch.from_numpy(solution.x * limit).to(matrix)


def gaussian_influence(
    grid: PupilGrid, actuators: int, pitch_m: float, coupling: float, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Return Gaussian influence functions of a square lattice centred on the axis.

    ``f(r) = coupling^((r / pitch)^2)``: 1 at the actuator, ``coupling`` at its neighbour (R. K. Tyson, Principles of
    Adaptive Optics, ch. 6).

    Args:
        grid: Pupil.
        actuators: Actuators along one side of the lattice.
        pitch_m: Distance of actuators in metres.
        coupling: Share of a stroke that reaches the neighbour, between 0 and 1 (0.05 to 0.3 for real mirrors).
        dtype: Type of the result.

    Returns:
        Tensor of shape (actuators^2, P, P); rows of actuators run down, within a row to the right.
    """
    if actuators < 1:
        raise OpticsError(f"actuators={actuators} must be at least 1.")
    if not (isfinite(pitch_m) and pitch_m > 0):
        raise OpticsError(f"pitch_m={pitch_m} must be a positive length in metres.")
    if not 0 < coupling < 1:
        raise OpticsError(f"coupling={coupling} must be between 0 and 1, for example 0.15.")
    place = (torch.arange(actuators, dtype=torch.float64) - (actuators - 1) / 2) * pitch_m
    axis = torch.exp(log(coupling) * ((grid.coordinate_m - place[:, None]) / pitch_m).square()).to(dtype)
    return (axis[:, None, :, None] * axis[None, :, None, :]).flatten(0, 1)
