"""Light that reaches the sensor by other ways than the image: veiling glare, surface scatter, ghosts.

Each function takes its light from the image and says where it goes: what is not lost at the border of the frame is
kept, to rounding. All are linear in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite, log1p, pi

import numpy as np
import torch

from optics.errors import OpticsError
from optics.imaging.convolve import convolve
from optics.pupil import disc_area_from_axes

# Gauss-Legendre points along a cell; exact to 1e-9 of a cell's light while the shoulder is half a cell or more.
_POINTS = 12


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise OpticsError(f"{name}={share} must lie from 0 to 1.")


def veiling_glare(images: torch.Tensor, share: float) -> torch.Tensor:
    """Spread a share of the light evenly over the frame, ``(1 - share) image + share mean(image)``.

    This is the veil that ISO 9358 measures as the glare index. The light of a frame stays the same.

    Args:
        images: Shape (..., H, W).
        share: Share of the light that becomes veil, 0 to 1.

    Raises:
        OpticsError: The share is out of range.
    """
    _check_share("share", share)
    return (1 - share) * images + share * images.mean(dim=(-2, -1), keepdim=True)


def harvey_scatter(
    share: float,
    shoulder: float,
    slope: float,
    sensor_distance_m: float,
    pitch_m: float,
    samples: int,
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return the PSF of light scattered by surface roughness, to convolve the image with after its own PSF.

    The Harvey-Shack law of scatter in direction cosines b from the specular ray, ``(1 + (b / shoulder)^2)^(slope / 2)``
    (J. E. Harvey, Light-Scattering Characteristics of Optical Surfaces, thesis, University of Arizona (1976)), scaled
    so that the whole half-space (b up to 1) receives ``share``. On the sensor ``b = r / sqrt(r^2 + d^2)``. Each cell
    holds the integral over it; the rest of the light, ``1 - share``, stays in the middle cell.

    Args:
        share: Total integrated scatter, 0 to 1.
        shoulder: Direction cosine below which the scatter is flat, at least half a cell.
        slope: Exponent of the fall-off, negative, typically -1 to -3.
        sensor_distance_m: Distance from the pupil to the sensor in metres.
        pitch_m: Side of an image cell in metres.
        samples: Cells K along one side of the window, odd.
        dtype: Type of the result; the work is done in float64.

    Returns:
        Shape (K, K); 1 minus the sum is scattered beyond the window.

    Raises:
        OpticsError: An argument is out of range.
    """
    _check_share("share", share)
    for name, value in (("sensor_distance_m", sensor_distance_m), ("pitch_m", pitch_m)):
        if not (isfinite(value) and value > 0):
            raise OpticsError(f"{name}={value} must be a positive length in metres.")
    if samples < 1 or samples % 2 == 0:
        raise OpticsError(f"samples={samples} must be odd, so that the middle is the centre of a cell.")
    if not (isfinite(slope) and slope < 0):
        raise OpticsError(f"slope={slope} must be negative: scatter falls off with the angle.")
    if not (isfinite(shoulder) and shoulder * sensor_distance_m >= pitch_m / 2):
        raise OpticsError(
            f"shoulder={shoulder:g} is {shoulder * sensor_distance_m:g} m on the sensor, less than half a cell of "
            f"{pitch_m:g} m, where scatter cannot be told from the image; raise shoulder or reduce pitch_m."
        )
    order = slope / 2 + 1
    # Integral of the law over the unit disc of direction cosines.
    growth = log1p(1 / shoulder**2)
    total = pi * shoulder**2 * (growth if abs(order) < 1e-12 else float(np.expm1(order * growth)) / order)
    node, weight = np.polynomial.legendre.leggauss(_POINTS)
    # One quadrant; the rest by symmetry.
    axis = torch.from_numpy(np.arange(samples // 2 + 1)[:, None] + node / 2) * (pitch_m / sensor_distance_m)
    quadrant = axis.new_zeros(len(axis), len(axis))
    for k in range(_POINTS):  # one column of points at a time bounds the memory to 12 planes
        tangent2 = axis[:, k, None, None] ** 2 + axis**2
        law = (1 + tangent2 / ((1 + tangent2) * shoulder**2)) ** (slope / 2) / (1 + tangent2) ** 2
        quadrant += (weight[k] / 2) * (law @ torch.from_numpy(weight / 2))
    quadrant = quadrant * (share / total * (pitch_m / sensor_distance_m) ** 2)
    index = (torch.arange(samples) - samples // 2).abs()
    kernel = quadrant[index[:, None], index]
    kernel[samples // 2, samples // 2] += 1 - share
    return kernel.to(dtype)


@dataclass(frozen=True)
class Ghost:
    """A second image by two reflections inside the lens.

    Attributes:
        share: Share of the light in it (about the product of the two reflectances).
        scale: Its size over that of the image about the middle of the frame; negative turns it by half a turn.
        blur_px: Diameter of its disc of defocus in pixels; 0 is sharp.
    """

    share: float
    scale: float
    blur_px: float = 0.0

    def __post_init__(self) -> None:
        _check_share("share", self.share)
        if not (isfinite(self.scale) and self.scale != 0):
            raise OpticsError(f"scale={self.scale} must be a finite number other than 0.")
        if not (isfinite(self.blur_px) and self.blur_px >= 0):
            raise OpticsError(f"blur_px={self.blur_px} must be zero or a positive number of pixels.")


def add_ghosts(images: torch.Tensor, ghosts: Sequence[Ghost]) -> torch.Tensor:
    """Take the light of the ghosts from the image and add them, scaled, turned and out of focus.

    Scaling moves the exact area of each pixel, so light is kept; what falls beyond the frame is lost.

    Args:
        images: Light per pixel, shape (N, C, H, W).
        ghosts: The ghosts; their shares add up to at most 1.

    Returns:
        Shape (N, C, H, W).

    Raises:
        OpticsError: The shape does not fit, or there are more ghosts than light.
    """
    if images.ndim != 4:
        raise OpticsError(f"images has shape {tuple(images.shape)}; (N, C, H, W) is needed.")
    taken = sum(ghost.share for ghost in ghosts)
    if taken > 1:
        raise OpticsError(f"the shares of the ghosts add up to {taken:g}, more than all light; reduce share.")
    if not ghosts:
        return images
    (count, channels, height, width), number = images.shape, len(ghosts)
    rows = torch.stack([_scale_matrix(height, g.scale) * g.share for g in ghosts]).to(images)
    columns = torch.stack([_scale_matrix(width, g.scale) for g in ghosts]).to(images)
    copies = rows[:, None, None] @ images @ columns.mT[:, None, None]  # (G, N, C, H, W)
    side = 2 * max(ceil((max(g.blur_px, 1.0) - 1) / 2) for g in ghosts) + 1
    discs = torch.stack([_disc_kernel(g.blur_px, side) for g in ghosts]).to(images)
    # Each ghost is a set of channels with a kernel of its own.
    stack = copies.movedim(0, 1).flatten(1, 2)
    blurred = convolve(stack, discs.repeat_interleave(channels, dim=0)).reshape(count, number, channels, height, width)
    return (1 - taken) * images + blurred.sum(dim=1)


def _scale_matrix(size: int, scale: float) -> torch.Tensor:
    """Share of each pixel (column) that lands in each pixel (row) after scaling about the middle, float64."""
    edges = torch.arange(size + 1, dtype=torch.float64) - size / 2
    ends = edges * scale
    low, high = torch.minimum(ends[1:], ends[:-1]), torch.maximum(ends[1:], ends[:-1])
    overlap = torch.minimum(edges[1:, None], high) - torch.maximum(edges[:-1, None], low)
    return overlap.clamp(min=0) / abs(scale)


def _disc_kernel(diameter: float, side: int) -> torch.Tensor:
    """Even disc of light by the exact area in each cell, float64 of shape (side, side), sum 1."""
    if diameter == 0:
        kernel = torch.zeros(side, side, dtype=torch.float64)
        kernel[side // 2, side // 2] = 1
        return kernel
    edges = (torch.arange(side + 1, dtype=torch.float64) - side / 2) * (2 / diameter)
    corner = disc_area_from_axes(edges, edges[:, None])
    return corner.diff(dim=0).diff(dim=1) / pi
