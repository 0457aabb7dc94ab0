"""Changes the number of pixels of a picture without losing or making light."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def area_matrix(source: int, target: int) -> Tensor:
    """Shares (target, source), float64, of source pixels in each of ``target`` pixels across the same width.

    Row i holds the lengths by which pixel i covers the source pixels, in units of its own width; rows sum to 1.
    """
    first = torch.arange(target, dtype=torch.float64)[:, None] * (source / target)
    other = torch.arange(source, dtype=torch.float64)[None, :]
    covered = torch.minimum(first + source / target, other + 1) - torch.maximum(first, other)
    return covered.clamp_min(0.0) * (target / source)


def area_resample(images: Tensor, size: int) -> Tensor:
    """Images (N, C, S, S) on ``size`` x ``size`` pixels: each holds the mean over the square it covers.

    Downwards this is binning, upwards each pixel becomes a block; ratios need not be whole. Light is kept where the
    images are linear light.
    """
    if size == images.shape[-1]:
        return images
    share = area_matrix(images.shape[-1], size).to(images)
    return share @ images @ share.T
