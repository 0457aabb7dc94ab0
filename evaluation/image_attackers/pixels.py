"""Operations on photographs (N, 3, S, S) in 0..1 that several attackers use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Picture = NDArray[np.uint8]


def each(images: Tensor, change: Callable[[int, Picture], Picture]) -> Tensor:
    """Photographs after ``change(place, (S, S, 3) BGR uint8)``, for operations that OpenCV has one by one."""
    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).flip(-1)
    pictures = [change(place, picture) for place, picture in enumerate(levels.contiguous().cpu().numpy())]
    changed = torch.from_numpy(np.stack(pictures)).flip(-1).permute(0, 3, 1, 2).to(images.dtype).contiguous() / 255
    return changed.to(images.device)


def jpeg(images: Tensor, quality: Sequence[int]) -> Tensor:
    """Photographs written as JPEG of these qualities, one for each, and read again."""

    def change(place: int, picture: Picture) -> Picture:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality[place]])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)

    return each(images, change)


def gaussian_blur(images: Tensor, sd_px: float) -> Tensor:
    """Gaussian blur by ``sd_px`` > 0 pixels; edges go on."""
    radius = math.ceil(3 * sd_px)
    steps = torch.arange(-radius, radius + 1, device=images.device).to(images.dtype)
    line = torch.exp(-steps.square() / (2 * sd_px**2))
    line = (line / line.sum()).expand(images.shape[1], 1, 1, -1)
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    across = functional.conv2d(padded, line, groups=images.shape[1])
    return functional.conv2d(across, line.transpose(-1, -2), groups=images.shape[1])


def resample(images: Tensor, share: float) -> Tensor:
    """Photographs scaled down to ``share`` of their side with anti-aliasing, and back."""
    small = max(1, round(images.shape[-1] * share))
    less = functional.interpolate(images, size=(small, small), mode="bilinear", antialias=True, align_corners=False)
    return functional.interpolate(less, size=tuple(images.shape[-2:]), mode="bilinear", align_corners=False)
