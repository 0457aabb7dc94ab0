"""How far protected pictures are from clean ones: structure, error, budget, deep features.

Pictures are float tensors (N, C, H, W) in 0..``peak``, in the same coding on both sides (sRGB as it is shown). Each
measure but the kernel distance gives one value for each picture and passes gradients; float64 inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.errors import EvaluationError

#: Side and standard deviation in pixels of the window of :func:`ssim`, and its two constants (Wang et al. 2004).
WINDOW, WINDOW_SD, K1, K2 = 11, 1.5, 0.01, 0.03

Features = Callable[[Tensor], Sequence[Tensor]]


def _pictures(first: Tensor, second: Tensor, peak: float = 1.0) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape or first.ndim != 4 or 0 in first.shape:
        raise EvaluationError(
            f"pictures must be two batches (N, C, H, W) of one shape; got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    if not (first.is_floating_point() and second.is_floating_point()):
        raise EvaluationError(f"pictures must be floating-point; got {first.dtype} and {second.dtype}; divide by 255.")
    if not peak > 0:
        raise EvaluationError(f"peak is {peak}; it is the value of white, for instance 1 or 255.")
    return first.double(), second.double()


def ssim(first: Tensor, second: Tensor, *, peak: float = 1.0) -> Tensor:
    """Structural similarity (Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13, 2004, eq. 13), -1..1.

    Gaussian window of 11 x 11 pixels with a standard deviation of 1.5 and population moments. Only windows that lie
    wholly inside the picture count ("valid"): nothing is reflected or padded at the rim. Mean over positions and
    channels.

    Args:
        first: (N, C, H, W), H and W at least 11.
        second: Same shape.
        peak: Value of white.

    Returns:
        (N,) float64.
    """
    x, y = _pictures(first, second, peak)
    count, channels, height, width = x.shape
    if min(height, width) < WINDOW:
        raise EvaluationError(f"structural similarity needs {WINDOW} x {WINDOW} pixels; got {height} x {width}.")
    at = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    row = torch.softmax(-(at**2) / (2 * WINDOW_SD**2), dim=0)

    def blur(picture: Tensor) -> Tensor:
        plane = picture.reshape(count * channels, 1, height, width)
        return functional.conv2d(functional.conv2d(plane, row.view(1, 1, 1, -1)), row.view(1, 1, -1, 1))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).reshape(count, -1).mean(dim=1)


def dssim(first: Tensor, second: Tensor, *, peak: float = 1.0) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2, (N,), 0..1; the budget of Fawkes."""
    return (1 - ssim(first, second, peak=peak)) / 2


def psnr(first: Tensor, second: Tensor, *, peak: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio 10 log10(peak^2 / mean squared error) of each picture, (N,) dB; equal ones: inf."""
    x, y = _pictures(first, second, peak)
    return 10 * torch.log10(peak**2 / (x - y).square().mean(dim=(1, 2, 3)))


def linf_distance(first: Tensor, second: Tensor) -> Tensor:
    """Largest change of any value of each picture, (N,), in units of the pictures."""
    x, y = _pictures(first, second)
    return (x - y).abs().amax(dim=(1, 2, 3))


def l2_distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean length of the change of each picture over all its values, (N,), in units of the pictures."""
    x, y = _pictures(first, second)
    return torch.linalg.vector_norm((x - y).flatten(1), dim=1)


def deep_feature_distance(first: Tensor, second: Tensor, features: Features) -> Tensor:
    """Deep feature distance (LPIPS-type, uncalibrated).

    Feature vectors are scaled to unit length at each position, and their squared distances averaged over positions and
    then over layers: Zhang et al. (CVPR 2018, eq. 1) with equal weights in place of those they fitted to human
    judgements. Values are therefore comparable under one ``features`` only, and not with published LPIPS.

    Args:
        first: (N, C, H, W) in the value range that ``features`` takes.
        second: Same shape.
        features: Gives the maps (N, C_l, H_l, W_l) of one or more layers.

    Returns:
        (N,) float64 in 0..4: twice the mean of 1 - cosine.
    """
    _pictures(first, second)
    layers, others = list(features(first)), list(features(second))
    if not layers or len(layers) != len(others):
        raise EvaluationError(f"features must give the same layers, at least one; got {len(layers)}, {len(others)}.")
    distances = []
    for one, other in zip(layers, others, strict=True):
        x, y = _pictures(one, other)
        x, y = functional.normalize(x, dim=1), functional.normalize(y, dim=1)
        distances.append((x - y).square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(distances).mean(dim=0)


@dataclass(frozen=True)
class KernelDistance:
    """Kernel inception distance over random subsets.

    Attributes:
        value: Mean over subsets.
        sd: Standard deviation over subsets.
        subsets: Their number.
        subset_size: Samples of each side in a subset.
    """

    value: float
    sd: float
    subsets: int
    subset_size: int


def kernel_distance(
    first: Tensor, second: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID; Binkowski et al., ICLR 2018).

    For fewer than about 2,000 pictures in place of the Frechet distance, whose bias is large there. It is zero on
    average for two samples of one distribution, hence sometimes negative.

    Args:
        first: (N, D) features of one set of pictures.
        second: (M, D) of the other, by the same network.
        subsets: Number of subsets, at least 2.
        subset_size: Number of samples in a subset, at least 2 and at most N and M.
        seed: Seed for the subsets, which are drawn without replacement.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise EvaluationError(
            f"features must be two tables (N, D) with one D; got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    most = min(len(first), len(second))
    if subsets < 2 or not 2 <= subset_size <= most:
        raise EvaluationError(
            f"need at least 2 subsets of 2 to {most} samples; got {subsets} of {subset_size}; set subset_size."
        )
    x, y = first.double(), second.double()
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        rows = x[torch.randperm(len(x), generator=generator)[:subset_size].to(x.device)]
        others = y[torch.randperm(len(y), generator=generator)[:subset_size].to(y.device)]
        values.append(_squared_discrepancy(rows, others))
    drawn = torch.stack(values)
    return KernelDistance(float(drawn.mean()), float(drawn.std()), subsets, subset_size)


def _squared_discrepancy(x: Tensor, y: Tensor) -> Tensor:
    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.T / one.shape[1] + 1) ** 3

    def between_different(one: Tensor) -> Tensor:
        table = kernel(one, one)
        return (table.sum() - table.diagonal().sum()) / (len(one) * (len(one) - 1))

    return between_different(x) + between_different(y) - 2 * kernel(x, y).mean()
