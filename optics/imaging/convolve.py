"""Incoherent image formation: blur by the PSF, light per pixel."""

from __future__ import annotations

import torch

from optics.errors import OpticsError
from optics.fft import fast_length, irfft2, rfft2


def convolve(images: torch.Tensor, psf: torch.Tensor) -> torch.Tensor:
    """Blur images with a PSF: linear convolution, darkness outside the frame, result of the same size.

    ``out[y, x] = sum_{i, j} psf[c + i, c + j] images[y - i, x - j]`` with c = K // 2: a single bright pixel becomes the
    PSF, not its mirror image. The transform has ``N + (K - 1) / 2`` points: what wraps around falls into rows and
    columns that are cut off.

    Args:
        images: Shape (N, C, H, W).
        psf: Shape (C, K, K), or (N, C, K, K) for one PSF per image; K odd.

    Returns:
        Shape (N, C, H, W). Rounding may leave values of about -1e-7 of the largest.

    Raises:
        OpticsError: The shapes do not fit.

    >>> star = torch.zeros(1, 1, 5, 5)
    >>> star[0, 0, 2, 2] = 1.0
    >>> psf = torch.arange(9.0).reshape(1, 3, 3)
    >>> convolve(star, psf)[0, 0, 1:4, 1:4].round().tolist() == psf[0].tolist()
    True
    """
    if images.ndim != 4:
        raise OpticsError(f"images has shape {tuple(images.shape)}; (N, C, H, W) is needed.")
    side = psf.shape[-1]
    if psf.ndim not in (3, 4) or psf.shape[-2] != side or side % 2 == 0:
        raise OpticsError(f"psf has shape {tuple(psf.shape)}; (C, K, K) or (N, C, K, K) with odd K is needed.")
    if psf.shape[-3] != images.shape[1] or (psf.ndim == 4 and psf.shape[0] not in (1, images.shape[0])):
        raise OpticsError(
            f"psf of shape {tuple(psf.shape)} does not fit images of shape {tuple(images.shape)}; their channels (and "
            "counts, if psf has four dimensions) must agree."
        )
    height, width = images.shape[-2:]
    half = side // 2
    size = (fast_length(max(height + half, side)), fast_length(max(width + half, side)))
    blurred = irfft2(rfft2(images, size) * rfft2(psf, size), size)
    return blurred[..., half : half + height, half : half + width]


def bin_pixels(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Add up blocks of ``factor`` x ``factor`` cells into pixels: light adds, it is not averaged.

    Args:
        images: Shape (..., H, W).
        factor: Cells per pixel along one side.

    Returns:
        Shape (..., H / factor, W / factor).

    Raises:
        OpticsError: The factor does not divide the frame.

    >>> bin_pixels(torch.ones(4, 4), 2).tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    height, width = images.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise OpticsError(f"factor={factor} does not divide a frame of {height} x {width} cells; change factor.")
    blocks = images.reshape(*images.shape[:-2], height // factor, factor, width // factor, factor)
    return blocks.sum(dim=(-3, -1))
