"""What the published networks share: TensorFlow's padding, separable convolutions, loading."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from faces import weights
from faces.errors import FacesError

Network = TypeVar("Network", bound=nn.Module)


class SameConv2d(nn.Conv2d):
    """Convolution of odd kernel with the padding "same" of TensorFlow, for maps of even size at stride 2.

    At stride 2 an even map is padded more at the right and bottom than at the left and top: for 3 x 3 there alone.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True):
        super().__init__(channels, width, kernel, stride, groups=groups, bias=bias)
        total = max(kernel - stride, 0)
        before = total // 2
        self._pad = (before, total - before, before, total - before)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filtered maps (N, width, ceil(H / stride), ceil(W / stride)) of maps (N, channels, H, W)."""
        return super().forward(functional.pad(x, self._pad))


class SeparableConv2d(nn.Module):
    """A depthwise 3 x 3 and a pointwise 1 x 1 convolution with nothing in between (Chollet, CVPR 2017)."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = SameConv2d(channels, channels, 3, stride, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filtered maps (N, width, ceil(H / stride), ceil(W / stride)) of maps (N, channels, H, W)."""
        result: torch.Tensor = self.pointwise(self.depthwise(x))
        return result


def check_images(batch: torch.Tensor, size: tuple[int, int], name: str) -> None:
    """Refuses everything but floating-point images (N, 3, height, width).

    Raises:
        FacesError: if shape or type differ.
    """
    if batch.ndim != 4 or tuple(batch.shape[1:]) != (3, *size) or not batch.is_floating_point():
        raise FacesError(
            f"{name} takes floating-point images of shape (N, 3, {size[0]}, {size[1]}), got {tuple(batch.shape)} of "
            f"{batch.dtype}; align or resize the images first."
        )


def load_network(network: Network, name: str, path: Path | None = None) -> Network:
    """Fills a network with the weights registered under a name; returns it in eval mode.

    Args:
        network: A network of the class that the weights belong to.
        name: registered name, see :mod:`faces.weights`.
        path: weight file (safetensors) as written by ``optishield weights fetch``; default: the cache.

    Raises:
        FacesError: if the weights are missing or damaged.
    """
    file = weights.verify(name) if path is None else path
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise FacesError(
            f"{file} does not hold the weights {name!r} ({reason}); run: optishield weights fetch {name}"
        ) from error
    return network.eval()
