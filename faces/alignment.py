"""Aligns faces to the standard crop of recognisers: batched, differentiable."""

from __future__ import annotations

import torch
from torch.nn import functional

from faces.errors import FacesError

#: Eye centres, nose tip and mouth corners (x, y), image left first, in the 112 x 112 crop of ArcFace (Deng et al.
#: 2019) that SFace was trained on. Pixel centres lie at integers.
TEMPLATE_112 = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


def template(size: int = 112) -> torch.Tensor:
    """The five template points (5, 2), float64, in a crop of ``size`` x ``size`` pixels.

    Scaling keeps the edges of the crop, not its pixel centres: p -> (p + 1/2) size / 112 - 1/2.
    """
    if size < 1:
        raise FacesError(f"the aligned size must be at least 1 pixel, got {size}.")
    return (torch.tensor(TEMPLATE_112, dtype=torch.float64) + 0.5) * (size / 112) - 0.5


def similarity(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least-squares similarity that maps points onto points: ``target ~ a source + b`` in complex numbers.

    Umeyama (IEEE PAMI 1991) for two dimensions without reflection: with centred points s and t,
    a = sum(conj(s) t) / sum(|s|^2). Rotation is arg(a), scale is |a|.

    Args:
        source: (..., P, 2) as (x, y).
        target: (..., P, 2), broadcast against ``source``.

    Returns:
        a and b, complex, of the batch shape.

    Raises:
        FacesError: if points are not finite or all source points of a face coincide.
    """
    z = torch.view_as_complex(source.contiguous())
    w = torch.view_as_complex(target.contiguous())
    z_mean, w_mean = z.mean(-1), w.mean(-1)
    z0, w0 = z - z_mean[..., None], w - w_mean[..., None]
    spread = (z0.real.square() + z0.imag.square()).sum(-1)
    if not bool(torch.isfinite(spread).all()):
        raise FacesError("alignment needs finite points; leave out faces whose points are unknown (NaN).")
    if bool((spread <= 0).any()):
        raise FacesError("all five points of a face coincide, so it has no size; check the detector's output.")
    a = (z0.conj() * w0).sum(-1) / spread
    return a, w_mean - a * z_mean


def align(
    images: torch.Tensor, points5: torch.Tensor, size: int = 112, target: torch.Tensor | None = None
) -> torch.Tensor:
    """Crops faces so that their five points fall on a template in the least-squares sense.

    Differentiable in the images and in the points. Bilinear; black outside the image.

    Args:
        images: (N, C, H, W), floating point, any range.
        points5: (N, 5, 2) pixels (x, y): eye centres, nose tip, mouth corners, image left first.
        size: side of the result in pixels.
        target: (5, 2) where the points should lie in the result, in its pixels, or (N, 5, 2) for each its own; default:
            :func:`template`, that of ArcFace and SFace.

    Returns:
        (N, C, size, size).

    Raises:
        FacesError: if shapes do not fit or points are unusable.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise FacesError(f"align takes floating-point images (N, C, H, W), got {tuple(images.shape)} {images.dtype}.")
    if tuple(points5.shape) != (images.shape[0], 5, 2):
        raise FacesError(f"align needs points of shape ({images.shape[0]}, 5, 2), got {tuple(points5.shape)}.")
    # The fit is solved in double precision: it costs nothing and keeps 112-pixel crops exact to 1e-6 pixel.
    goal = template(size) if target is None else target
    a, b = similarity(points5.double(), goal.to(points5.device, torch.float64))
    steps = torch.arange(size, dtype=torch.float64, device=images.device)
    crop = torch.complex(steps[None, :].expand(size, size), steps[:, None].expand(size, size))
    at = (crop - b[:, None, None]) / a[:, None, None]
    height, width = images.shape[-2:]
    grid = torch.stack([(2 * at.real + 1) / width - 1, (2 * at.imag + 1) / height - 1], dim=-1)
    return functional.grid_sample(
        images, grid.to(images.dtype), mode="bilinear", padding_mode="zeros", align_corners=False
    )
