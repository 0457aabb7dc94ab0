"""Fresnel diffraction: the paraxial approximation, by transfer function or by one scaled transform.

The two are good at opposite ends: the transfer function at short distances, the single transform at long ones.
"""

from __future__ import annotations

from math import hypot

import torch

from optics.propagation.free_space import FreeSpace
from optics.propagation.propagator import SLACK, Margin, Propagator, SamplingError
from optics.propagation.single import SingleTransform
from optics.propagation.transfer import TransferPropagator

# Largest phase in turns that the paraxial approximation may leave out.
_PARAXIAL_TURNS = 0.1


def _paraxial_margin(operator: Propagator) -> Margin:
    """Margin of the phase left out, ``(n z / L) (1 - sqrt(1 - s) - s / 2)``, at the steepest ray that matters."""
    space = operator.space
    sine_limit = _steepest_sine(space)
    wavelength = min(space.medium_wavelengths_m)
    across = hypot(space.reach_m(0), space.reach_m(1))
    worst, at = 0.0, 0.0
    for distance in map(abs, operator.distances_m):
        sine = min(sine_limit, across / hypot(across, distance) if distance else 0.0, 1.0)
        s = sine**2
        turns = distance / wavelength * s**2 / (2 * (1 + (1 - s) ** 0.5) ** 2)
        worst, at = max((worst, at), (turns, distance))
    if not worst <= _PARAXIAL_TURNS * SLACK:
        raise SamplingError(
            f"the paraxial approximation leaves out {worst:.3g} turns of phase (limit {_PARAXIAL_TURNS:g}) for rays "
            f"{across:.3g} m aside at distance_m={at:g}; make the planes smaller, state a smaller "
            "bandwidth_per_m, or use AngularSpectrum or BandLimitedAngularSpectrum."
        )
    return Margin("turns left out by the paraxial approximation", worst, _PARAXIAL_TURNS)


def _steepest_sine(space: FreeSpace) -> float:
    frequency = hypot(space.nyquist_per_m(0), space.nyquist_per_m(1))
    if space.bandwidth_per_m is not None:
        frequency = min(frequency, space.bandwidth_per_m)
    return frequency * max(space.medium_wavelengths_m)


class FresnelTransfer(TransferPropagator):
    """Fresnel diffraction by the transfer function ``exp(-i pi L z f^2 / n)`` (Goodman, eq. 4-20).

    Arguments and errors: :class:`optics.propagation.Propagator` and
    :class:`optics.propagation.transfer.TransferPropagator`; the paraxial error must stay below 0.1 turn for the rays
    that reach the output plane.
    """

    _alternatives = "FresnelTransform"

    def check(self) -> tuple[Margin, ...]:
        """Return the margins of wrap-round (unless periodic) and of the paraxial approximation.

        Raises:
            OpticsError: A rule is broken.
        """
        if self.periodic:
            # The field goes on beyond the planes, so their size bounds no angle.
            return super().check()
        return (*super().check(), _paraxial_margin(self))

    def _aside_m(self, wavelength_m: float, distance_m: float, frequency: float, squared: float) -> float:
        return wavelength_m * distance_m * frequency

    def _turns(
        self, wavelength_m: torch.Tensor, distance_m: torch.Tensor, squared: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return wavelength_m * distance_m * squared * -0.5, None


class FresnelTransform(SingleTransform):
    """Fresnel diffraction as one sum with the kernel ``n / (i L z) exp(i pi |x' - x|^2 n / (L z))`` (Goodman, 4-14).

    The output plane may have any pitch and centre: the sum is a scaled transform with a quadratic phase on either side,
    done axis by axis as a matrix product or chirp-z transform. The sampled field repeats its angles every ``L / (n p)``
    for input pitch p; copies must not reach the output: ``f + r n / (L z) <= 1 / p`` for the highest frequency f of
    the field and the largest sideways distance r between samples. For a field up to Nyquist that is just where the
    transfer functions, padded twice, must stop.

    Args:
        space: Planes, wavelengths, distance and medium.
        method: "matrix", "chirp", or "auto" by cost.
        dtype: torch.float32 or torch.float64.

    Raises:
        OpticsError: An argument is invalid, or a sampling rule is broken; the message names what to change.
    """

    _curved = True

    def check(self) -> tuple[Margin, ...]:
        """Return the margins of copies along y and x and of the paraxial approximation.

        Raises:
            OpticsError: A rule is broken.
        """
        return (self._copy_margin(0), self._copy_margin(1), _paraxial_margin(self))
