"""dlib's face recogniser: a residual network trained with a metric loss, 150 x 150 pixels to 128 dimensions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from faces.published import check_images, load_network

#: Where the five points lie in the 150 x 150 chip: means over the lid points, nose tip and mouth corners of the mean
#: face of dlib's 68-point alignment at its padding of 1/4, in pixels.
CHIP_POINTS = ((47.55, 46.60), (100.48, 46.60), (74.01, 76.56), (50.41, 103.02), (97.61, 103.02))

# Width and number of residual blocks behind the first of each stage; the first halves the map, except in stage 32.
_STAGES = ((32, 3), (64, 3), (128, 2), (256, 2))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; when it halves the map, the shortcut is an average over 2 x 2 cells.

    Branches of unequal size or width are padded with zeros, at the right, the bottom and the end.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1 if stride == 1 else 0)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, width, H', W') of maps (N, channels, H, W); H' is about H / stride."""
        y = self.conv2(functional.relu(self.conv1(x)))
        if self.stride == 2:
            x = functional.avg_pool2d(x, 2)
            y = functional.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = functional.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return functional.relu(x + y)


class DlibResNet(nn.Module):
    """The network of ``dlib_face_recognition_resnet_model_v1`` (King, JMLR 2009; example dnn_face_recognition_ex).

    29 convolutions, He et al. (CVPR 2016) with half the filters. Batch norm is folded into the convolutions.
    """

    value_range = (0.0, 255.0)
    channel_order = "RGB"
    input_size = (150, 150)
    embedding_dim = 128
    differentiable = True

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]).view(3, 1, 1), persistent=False)
        self.conv32_down = nn.Conv2d(3, 32, 7, 2)
        names = []
        channels = 32
        for width, count in _STAGES:
            if width > 32:
                names.append(f"conv{width}_down")
                self.add_module(names[-1], ResidualBlock(channels, width, 2))
            for k in range(1, count + 1):
                names.append(f"conv{width}_{k}")
                self.add_module(names[-1], ResidualBlock(width, width, 1))
            channels = width
        names.append("conv256_down_out")
        self.add_module(names[-1], ResidualBlock(channels, channels, 2))
        self._order = tuple(names)
        self.fc = nn.Linear(channels, self.embedding_dim, bias=False)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Embeddings (N, 128) of aligned RGB images (N, 3, 150, 150) in 0..255.

        dlib calls two faces the same below a distance of .6 of these vectors, whose length is about 1.4.

        Raises:
            FacesError: if the images have another shape.
        """
        check_images(batch, self.input_size, "dlib's recogniser")
        maps = functional.max_pool2d(functional.relu(self.conv32_down((batch - self.mean) / 256)), 3, 2)
        for name in self._order:
            maps = self.get_submodule(name)(maps)
        result: torch.Tensor = self.fc(maps.mean((2, 3)))
        return result


def load_dlib_resnet(path: Path | None = None) -> DlibResNet:
    """The network with its published weights, in eval mode.

    Args:
        path: weight file (safetensors) as written by ``optishield weights fetch dlib-resnet``; default: the cache.

    Raises:
        FacesError: if the weights are missing or damaged.
    """
    return load_network(DlibResNet(), "dlib-resnet", path)
