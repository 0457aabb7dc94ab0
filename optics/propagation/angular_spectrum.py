"""The angular spectrum method: the exact transfer function of free space for scalar waves."""

from __future__ import annotations

import torch

from optics.propagation.transfer import TransferPropagator, exact_aside_m


class AngularSpectrum(TransferPropagator):
    """Angular spectrum of plane waves (J. W. Goodman, Introduction to Fourier Optics, section 3.10).

    With ``s = (L f / n)^2`` the carrier-free phase is ``(kz - k) z = -k z s / (1 + sqrt(1 - s))``, which has no
    cancellation; it is reduced to one turn in float64, so a float32 field is right to rounding at any distance.
    Evanescent waves (s > 1) decay as ``exp(-k |z| sqrt(s - 1))``.

    Arguments and errors: :class:`optics.propagation.Propagator` and
    :class:`optics.propagation.transfer.TransferPropagator`.
    """

    def _aside_m(self, wavelength_m: float, distance_m: float, frequency: float, squared: float) -> float:
        return exact_aside_m(wavelength_m, distance_m, frequency, squared)

    def _turns(
        self, wavelength_m: torch.Tensor, distance_m: torch.Tensor, squared: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        s = wavelength_m.square() * squared
        waves = distance_m / wavelength_m
        cosine = (1 - s).clamp(min=0).sqrt()
        turns = -(s.clamp(max=1) / (1 + cosine)) * waves
        if not bool((s > 1).any()):
            return turns, None
        return turns, (-2 * torch.pi * (s - 1).clamp(min=0).sqrt() * waves.abs()).exp()
