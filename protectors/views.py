"""Random views of a photo as it may arrive at a recogniser: for expectation over transformation, and input diversity.

Athalye et al., "Synthesizing Robust Adversarial Examples", ICML 2018 (expectation over transformation); Xie et al.,
"Improving Transferability of Adversarial Examples with Input Diversity", CVPR 2019 (diverse input).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from protectors import drawing
from protectors.errors import ProtectorError

#: What another detector and another crop do to the five points: standard deviation of each, and of a common shift and
#: log scale, in eye distances.
POINT_SD = 0.03
SHIFT_SD = 0.05
SCALE_SD = 0.05
#: Ranges of what is drawn, uniformly.
REDUCED_TO = (0.5, 1.0)
BLUR_SD_PX = (0.3, 1.2)
JPEG_QUALITY = (50.0, 95.0)
DIVERSE_TO = (0.9, 1.0)


def seen(images: Tensor, points5: Tensor, draw: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Photos and points of one view: cropped anew, and in turn untouched, reduced in size, blurred, or compressed.

    Args:
        images: (N, 3, S, S); gradients pass.
        points5: (N, 5, 2).
        draw: number of the view; it decides what is done beside the crop, so that few draws cover everything.
        generator: Source of sizes and strengths.

    Returns:
        images of the same shape, points of the same shape.

    Raises:
        ProtectorError: Compression needs a package that is not installed.
    """
    changes: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (_same, _reduced, _blurred, _compressed)
    return changes[draw % len(changes)](images, generator), cropped(points5, generator)


def cropped(points5: Tensor, generator: torch.Generator) -> Tensor:
    """Points (N, 5, 2) as another detector would see them, so that the aligned crop is another one."""
    eyes = torch.linalg.vector_norm(points5[:, 1] - points5[:, 0], dim=-1)[:, None, None]
    centre = points5.mean(1, keepdim=True)
    count = len(points5)
    noise = drawing.normal(points5.shape, generator, points5) * POINT_SD
    shift = drawing.normal((count, 1, 2), generator, points5) * SHIFT_SD
    scale = torch.exp(drawing.normal((count, 1, 1), generator, points5) * SCALE_SD)
    return centre + (points5 - centre) * scale + (noise + shift) * eyes


def diverse(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Diverse input: with this probability photos are reduced to 90..100 % and set at a random place on black.

    One draw holds for the batch.
    """
    side = images.shape[-1]
    if drawing.one(generator) >= probability:
        return images
    reduced = drawing.one_whole(int(side * DIVERSE_TO[0]), side + 1, generator)
    left, top = (drawing.one_whole(0, side - reduced + 1, generator) for _ in range(2))
    small = functional.interpolate(images, size=(reduced, reduced), mode="bilinear", antialias=True)
    return functional.pad(small, (left, side - reduced - left, top, side - reduced - top))


def _uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * drawing.one(generator)


def _same(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def _reduced(images: Tensor, generator: torch.Generator) -> Tensor:
    side = images.shape[-1]
    small = max(1, round(side * _uniform(REDUCED_TO, generator)))
    reduced = functional.interpolate(images, size=(small, small), mode="bilinear", antialias=True)
    return functional.interpolate(reduced, size=(side, side), mode="bilinear")


def _blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    sd = _uniform(BLUR_SD_PX, generator)
    half = min(4, images.shape[-1] - 1)
    weight = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sd) ** 2)
    weight = (weight / weight.sum()).to(images)
    wide = functional.pad(images, (half,) * 4, mode="replicate").flatten(0, 1)[:, None]
    rows = functional.conv2d(wide, weight[None, None, None, :])
    return functional.conv2d(rows, weight[None, None, :, None])[:, 0].unflatten(0, images.shape[:2])


def _compressed(images: Tensor, generator: torch.Generator) -> Tensor:
    try:
        from kornia.enhance import jpeg_codec_differentiable
    except ImportError as error:
        raise ProtectorError("JPEG views need kornia; run: pip install 'optishield[protect]'") from error
    quality = images.new_full((len(images),), _uniform(JPEG_QUALITY, generator))
    side = images.shape[-1]
    # The codec takes whole blocks of 16.
    more = -side % 16
    whole = functional.pad(images.clamp(0, 1), (0, more, 0, more), mode="replicate")
    return jpeg_codec_differentiable(whole, quality)[..., :side, :side]
