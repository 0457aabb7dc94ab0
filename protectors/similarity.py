"""Structural similarity that can be differentiated."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Side of the window, and the constants (K1 L)^2 and (K2 L)^2 with L = 1 (Wang et al. 2004).
WINDOW, C1, C2 = 7, 0.01**2, 0.03**2

#: Side and standard deviation of the Gaussian window, in pixels.
GAUSSIAN_WINDOW, GAUSSIAN_SD = 11, 1.5


def ssim(first: Tensor, second: Tensor, *, gaussian: bool = False) -> Tensor:
    """Mean structural similarity (N,) of images (N, C, H, W) in 0..1 (Wang et al., IEEE TIP 2004).

    Windows of 7 x 7 pixels of equal weight that lie wholly inside, sample covariances, mean over windows and channels:
    what scikit-image computes by default. With ``gaussian`` windows of 11 x 11 pixels, a standard deviation of 1.5 and
    population covariances: those of the original, and of TensorFlow.
    """
    count = WINDOW**2
    unbiased = 1.0 if gaussian else count / (count - 1)
    mean = _gaussian_mean if gaussian else _flat_mean

    one, two = mean(first), mean(second)
    spread = (mean(first * first) - one * one + mean(second * second) - two * two) * unbiased
    common = (mean(first * second) - one * two) * unbiased
    light = (2 * one * two + C1) / (one * one + two * two + C1)
    return (light * (2 * common + C2) / (spread + C2)).mean(dim=(1, 2, 3))


def dssim(first: Tensor, second: Tensor, *, gaussian: bool = False) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2, (N,)."""
    return (1 - ssim(first, second, gaussian=gaussian)) / 2


def _flat_mean(values: Tensor) -> Tensor:
    return functional.avg_pool2d(values, WINDOW, stride=1)


def _gaussian_mean(values: Tensor) -> Tensor:
    at = torch.arange(GAUSSIAN_WINDOW, dtype=values.dtype, device=values.device) - GAUSSIAN_WINDOW // 2
    weight = torch.softmax(-0.5 * (at / GAUSSIAN_SD) ** 2, 0)
    planes = values.flatten(0, 1)[:, None]
    rows = functional.conv2d(planes, weight[None, None, None, :])
    return functional.conv2d(rows, weight[None, None, :, None])[:, 0].unflatten(0, values.shape[:2])
