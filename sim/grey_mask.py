"""A grey mask just in front of the sensor: every pixel has a transmission of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optics import OpticsError, bin_pixels

#: How far a mask that is made from a transmission stays away from 0 and 1, where nothing could be learned any more.
MARGIN = 0.02


class GreyMask(nn.Module):
    """Share of the light that each pixel is given, as the logistic function of trainable or fixed numbers.

    Behind it a pixel of one bit has a threshold of its own: half the transmission is twice the threshold.

    Args:
        logits: (n, n) logarithms of the odds of transmission, arrays [y, x]. A Parameter stays trainable, a plain
            tensor makes a fixed mask.

    Raises:
        OpticsError: If the logits are not a square of finite numbers.
    """

    logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        if logits.ndim != 2 or logits.shape[0] != logits.shape[1] or not bool(torch.isfinite(logits).all()):
            raise OpticsError(f"logits of shape {tuple(logits.shape)} must be a square of finite numbers.")
        if isinstance(logits, nn.Parameter):
            self.logits = logits
        else:
            self.register_buffer("logits", logits)

    def transmission(self) -> Tensor:
        """Share of the light (n, n) that passes to each pixel, 0 to 1."""
        return torch.sigmoid(self.logits)

    def forward(self, samples: int) -> Tensor:
        """Share of the light (samples, samples) that passes to each cell of the image; pixels must divide the cells."""
        block = samples // len(self.logits)
        return self.transmission().repeat_interleave(block, 0).repeat_interleave(block, 1)


def logits_of(transmission: Tensor, pixels: int) -> Tensor:
    """What to start a :class:`GreyMask` from, so that it passes about what something else does.

    Args:
        transmission: (S, S) share of the light that passes to each cell of the image, S a multiple of ``pixels``.
        pixels: Pixels across the window.

    Returns:
        (pixels, pixels); transmissions below :data:`MARGIN` and above one less that are moved there.
    """
    block = transmission.shape[-1] // pixels
    mean = bin_pixels(transmission, block) / block**2
    return torch.logit(mean, eps=MARGIN)
