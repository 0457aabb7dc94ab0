"""From many wavelengths to the channels of a camera: explicit spectral weights.

A channel adds up electrons: ``response[c, l] = illuminant(l) filter_c(l) efficiency(l) dl`` with the trapezoid widths
dl of the wavelengths given. The PSF of a channel is the mean of the PSFs of its wavelengths by that response; it stays
a share of the light, now of the light that the channel detects. Nothing is divided by the sum of a PSF.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from optics.errors import OpticsError


def spectral_response(
    wavelengths_m: Sequence[float],
    illuminant: torch.Tensor,
    filters: torch.Tensor,
    efficiency: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the electrons of each channel and wavelength, for weighing PSFs and for white balance (sum over l).

    Args:
        wavelengths_m: Vacuum wavelengths in metres, L of them, ascending; they may be unevenly spaced. One alone
            counts with width 1.
        illuminant: Photons (not watts) per metre of wavelength that reach the camera, any unit, shape (L,).
        filters: Transmission of each channel, shape (C, L).
        efficiency: Electrons per photon, shape (L,); None counts every photon.

    Returns:
        Shape (C, L), of the type and on the device of ``filters``, with its gradient.

    Raises:
        OpticsError: A shape does not fit, the wavelengths do not ascend, or a value is negative or not finite.
    """
    waves = torch.tensor([float(w) for w in wavelengths_m], dtype=torch.float64)
    if not len(waves) or not bool((waves > 0).all()) or not bool((waves.diff() > 0).all()):
        raise OpticsError(f"wavelengths_m={tuple(waves.tolist())} must be positive and ascend; sort wavelengths_m.")
    count = len(waves)
    if filters.ndim != 2 or filters.shape[1] != count:
        raise OpticsError(f"filters has shape {tuple(filters.shape)}; (C, {count}) is needed for {count} wavelengths.")
    factors = {"illuminant": illuminant} if efficiency is None else {"illuminant": illuminant, "efficiency": efficiency}
    for name, value in factors.items():
        if tuple(value.shape) != (count,):
            raise OpticsError(f"{name} has shape {tuple(value.shape)}; ({count},) is needed for {count} wavelengths.")
    for name, value in {**factors, "filters": filters}.items():
        _check_light(name, value)
    width = filters.new_ones(count) if count == 1 else _trapezoid(waves).to(filters)
    response = filters * illuminant.to(filters) * width
    return response if efficiency is None else response * efficiency.to(filters)


def spectral_weights(
    wavelengths_m: Sequence[float],
    illuminant: torch.Tensor,
    filters: torch.Tensor,
    efficiency: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return :func:`spectral_response` with each channel's total taken as 1: the weights of a PSF, shape (C, L).

    Raises:
        OpticsError: As for :func:`spectral_response`, or a channel sees no light at all.
    """
    response = spectral_response(wavelengths_m, illuminant, filters, efficiency)
    total = response.sum(dim=1, keepdim=True)
    if not bool((total > 0).all()):
        dark = (total[:, 0] <= 0).nonzero()[:, 0].tolist()
        raise OpticsError(f"channels {dark} see no light; change filters, or leave these channels out.")
    return response / total


def polychromatic_psf(psf: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Add up the PSFs of many wavelengths into channels, ``out_c = sum_l weights[c, l] psf_l``.

    Args:
        psf: PSF of each wavelength, shape (..., L, K, K), for example from :class:`optics.PupilToPsf`.
        weights: Shape (C, L), from :func:`spectral_weights`, not negative.

    Returns:
        Shape (..., C, K, K). The light in a channel is the weighted sum of the light in the wavelengths.

    Raises:
        OpticsError: The shapes do not fit, or a weight is negative or not finite.
    """
    if psf.ndim < 3 or weights.ndim != 2 or psf.shape[-3] != weights.shape[1]:
        raise OpticsError(
            f"weights of shape {tuple(weights.shape)} does not fit psf of shape {tuple(psf.shape)}; (C, L) and "
            "(..., L, K, K) are needed."
        )
    _check_light("weights", weights)
    return (weights.to(psf) @ psf.flatten(-2)).unflatten(-1, psf.shape[-2:])


def _check_light(name: str, value: torch.Tensor) -> None:
    if not bool((torch.isfinite(value) & (value >= 0)).all()):
        raise OpticsError(f"{name} has values that are negative or not finite; light adds, so change {name}.")


def _trapezoid(waves: torch.Tensor) -> torch.Tensor:
    """Width of each wavelength in metres by the trapezoid rule, shape (L,)."""
    steps = waves.diff() / 2
    width = torch.zeros_like(waves)
    width[:-1] += steps
    width[1:] += steps
    return width
