"""Figures of merit of a PSF: modulation transfer (MTF), encircled energy, Strehl ratio.

The transfer function along x is the Fourier transform of the line spread ``sum_y PSF`` (J. W. Goodman, Introduction to
Fourier Optics, ch. 6). PSFs are shares of the transmitted light, so nothing is divided by a sum: that would spread the
light that misses the window over all frequencies. An ideal lens with a circular pupil has, with s = f lambda N,
``MTF(s) = 2/pi (acos s - s sqrt(1 - s^2))`` up to the cut-off s = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, pi

import torch

from optics.errors import OpticsError
from optics.pupil import disc_area_from_axes


@dataclass(frozen=True, eq=False)
class Mtf:
    """Modulation transfer along both axes, as :func:`psf_mtf` returns it.

    Attributes:
        frequency_per_m: Spatial frequency on the sensor in cycles per metre, float64 of shape (F,), from 0.
        x: Contrast of fringes that change along x, shape (..., F); at frequency 0 the light in the window.
        y: The same along y.
    """

    frequency_per_m: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor


def psf_mtf(psf: torch.Tensor, pitch_m: float) -> Mtf:
    """Return the MTF of a PSF along x and y.

    Frequencies run from 0 to half a cycle per cell in steps of ``1 / (K pitch_m)``. Cells of :class:`optics.PupilToPsf`
    are integrals, so their MTF includes the factor ``sinc(f pitch_m)`` of the cell; points of :class:`optics.PointPsf`
    have none. Light that misses the window is missing here too, and its share bounds the error. Light far out acts on
    low frequencies, so a window of one replica period leaves an error at frequency 0 only.

    Args:
        psf: PSF of shape (..., K, K), shares of the transmitted light.
        pitch_m: Distance of its cells or points in metres.

    Returns:
        A :class:`Mtf`: ``frequency_per_m`` of shape (F,), F = K // 2 + 1, and the contrast ``x`` and ``y`` along both
        axes, each of shape (..., F).

    Raises:
        OpticsError: The PSF is empty, or an argument is invalid.

    >>> point = torch.zeros(5, 5)
    >>> point[2, 2] = 1.0  # all light in one cell: every frequency passes
    >>> mtf = psf_mtf(point, 2e-6)
    >>> mtf.frequency_per_m.round().tolist(), mtf.x.tolist()
    ([0.0, 100000.0, 200000.0], [1.0, 1.0, 1.0])
    """
    _check(psf, pitch_m)
    frequency = torch.fft.rfftfreq(psf.shape[-1], pitch_m, dtype=torch.float64, device=psf.device)
    along_x, along_y = (torch.fft.rfft(psf.sum(dim=d)).abs() for d in (-2, -1))
    return Mtf(frequency, along_x, along_y)


def ideal_mtf(frequency_per_m: torch.Tensor, wavelength_m: float, f_number: float) -> torch.Tensor:
    """Return the MTF of an ideal lens with a circular pupil; it is 0.3910022190 at half the cut-off.

    Args:
        frequency_per_m: Spatial frequencies on the sensor in cycles per metre, any shape.
        wavelength_m: Vacuum wavelength in metres.
        f_number: Distance of the sensor over the diameter of the pupil.

    Returns:
        Contrast 0 to 1, the shape of ``frequency_per_m``.

    >>> cut_off = 1 / (540e-9 * 8)
    >>> [round(c, 3) for c in ideal_mtf(torch.tensor([0.0, cut_off / 2, cut_off]), 540e-9, 8).tolist()]
    [1.0, 0.391, 0.0]
    """
    s = (frequency_per_m * (wavelength_m * f_number)).abs().clamp(max=1.0)
    return (s.acos() - s * (1 - s * s).sqrt()) * (2 / pi)


def encircled_energy(psf: torch.Tensor, pitch_m: float, radius_m: torch.Tensor) -> torch.Tensor:
    """Return the share of the transmitted light within circles around the optical axis.

    A cell that a circle cuts counts with the share of its area inside.

    Args:
        psf: PSF of shape (..., K, K), K odd; shares of the transmitted light.
        pitch_m: Side of a cell in metres.
        radius_m: Radii in metres, shape (R,), at most half the window.

    Returns:
        Tensor of shape (..., R).

    Raises:
        OpticsError: A circle leaves the window, K is even, or an argument is invalid.
    """
    _check(psf, pitch_m)
    count = psf.shape[-1]
    if count % 2 == 0:
        raise OpticsError(f"psf has {count} cells along a side; an odd number puts the axis on a cell.")
    edges = (torch.arange(count + 1, dtype=torch.float64, device=psf.device) - count / 2) * pitch_m
    radii = radius_m.to(edges)
    if radii.ndim != 1 or not bool(((radii > 0) & (radii <= edges[-1] * (1 + 1e-9))).all()):
        raise OpticsError(
            f"radius_m must be of shape (R,) with values above 0 and at most {float(edges[-1]):g} m, half the "
            "window; compute a larger window or reduce radius_m."
        )
    scaled = edges / radii[:, None]
    corner = disc_area_from_axes(scaled[:, None, :], scaled[:, :, None])
    shares = corner.diff(dim=1).diff(dim=2) * (radii / pitch_m).square()[:, None, None]
    return torch.einsum("...yx,ryx->...r", psf, shares.to(psf.dtype))


def strehl_ratio(psf: torch.Tensor, ideal: torch.Tensor) -> torch.Tensor:
    """Return the peak of a PSF over that of the same lens without error, in the same cells.

    Args:
        psf: PSF of shape (..., K, K).
        ideal: PSF of the ideal lens, a shape that broadcasts against it.

    Returns:
        Shape (...), one ratio per PSF.

    Raises:
        OpticsError: The windows differ, or a PSF is empty.

    >>> from optics import FlatMask, PupilGrid, PupilToPsf, ThinLens
    >>> grid = PupilGrid(1e-3, 64)
    >>> to_psf = PupilToPsf(grid, ThinLens(4e-3, 0.3), [540e-9], pitch_m=0.5e-6, samples=31)
    >>> lens = FlatMask(grid)
    >>> bool(strehl_ratio(to_psf(lens, 0.25), to_psf(lens, 0.3)) < 1)  # out of focus
    True
    """
    if psf.shape[-2:] != ideal.shape[-2:]:
        raise OpticsError(f"psf {tuple(psf.shape)} and ideal {tuple(ideal.shape)} must have the same window of cells.")
    _check(psf, 1.0)
    _check(ideal, 1.0)
    return psf.amax(dim=(-2, -1)) / ideal.amax(dim=(-2, -1))


def _check(psf: torch.Tensor, pitch_m: float) -> None:
    if psf.ndim < 2 or psf.shape[-1] != psf.shape[-2]:
        raise OpticsError(f"psf has shape {tuple(psf.shape)}; pass (..., K, K).")
    if not (isfinite(pitch_m) and pitch_m > 0):
        raise OpticsError(f"pitch_m={pitch_m} must be a positive length in metres.")
    total = psf.sum(dim=(-2, -1))
    if not bool((torch.isfinite(total) & (total > 0)).all()):
        raise OpticsError("psf holds no light, or values that are not finite; check the mask and the window.")
