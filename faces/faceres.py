"""HSE-FaceRes: MobileNet trained to tell the people of VGGFace2 apart, 224 x 224 pixels to 1024 dimensions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from faces.published import SameConv2d, check_images, load_network

# Widths of the 13 depthwise-separable blocks of MobileNet v1 (Howard et al. 2017, table 1). A block halves the map
# where the width doubles, except the first.
_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


class FaceRes(nn.Module):
    """The descriptor of HSE-FaceRes (Savchenko, PeerJ Computer Science 5:e197, 2019).

    MobileNet v1 trained with a softmax over the people of VGGFace2; the descriptor is the mean over the last feature
    map, so no number of it is negative. Batch norm is folded into the convolutions; heads for age and gender, which sit
    on the same descriptor, are left out.
    """

    value_range = (0.0, 255.0)
    channel_order = "BGR"
    input_size = (224, 224)
    embedding_dim = 1024
    differentiable = True

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1), persistent=False)
        convs = [SameConv2d(3, 32, 3, 2)]
        channels = 32
        for width in _WIDTHS:
            stride = 2 if width == 2 * channels and channels > 32 else 1
            convs += [SameConv2d(channels, channels, 3, stride, groups=channels), SameConv2d(channels, width, 1)]
            channels = width
        self.backbone = nn.Sequential(*(nn.Sequential(conv, nn.ReLU6()) for conv in convs))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Descriptors (N, 1024), before normalisation, of face images (N, 3, 224, 224), BGR in 0..255.

        Raises:
            FacesError: if the images have another shape.
        """
        check_images(batch, self.input_size, "HSE-FaceRes")
        maps: torch.Tensor = self.backbone(batch - self.mean)
        return maps.mean((2, 3))


def load_faceres(path: Path | None = None) -> FaceRes:
    """The network with its published weights, in eval mode.

    Args:
        path: weight file (safetensors) as written by ``optishield weights fetch faceres``; default: the cache.

    Raises:
        FacesError: if the weights are missing or damaged.
    """
    return load_network(FaceRes(), "faceres", path)
