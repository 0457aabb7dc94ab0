"""Small networks of face-api (face-api.js 2018): age and gender, expressions, 68 landmarks; 112 x 112 pixels each.

They judge what a protected picture still serves for, and they may be differentiated like any other network.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from faces.alignment import align, similarity
from faces.published import SameConv2d, SeparableConv2d, check_images, load_network

#: Side of the chip in pixels.
CHIP_SIZE = 112

#: Where eye centres, nose tip and mouth corners lie in the chip. The networks were trained on the square around the 68
#: landmarks, enlarged by a fifth; these are the mean places in that square on upright synthetic heads.
CHIP_POINTS = ((35.5, 26.1), (75.5, 26.1), (55.5, 50.2), (38.8, 71.0), (72.2, 71.0))

#: Order of the outputs of :class:`ExpressionNet`.
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


def chips(images: torch.Tensor, points5: torch.Tensor) -> torch.Tensor:
    """The crop that these networks take, (N, 3, 112, 112), of images (N, 3, S, S), in the same value range.

    Args:
        images: floating point.
        points5: (N, 5, 2) pixels (x, y): eye centres, nose tip, mouth corners, image left first.

    Raises:
        FacesError: if shapes do not fit or points are unusable.
    """
    return align(images, points5, CHIP_SIZE, torch.tensor(CHIP_POINTS, dtype=torch.float64))


class _Chip(nn.Module):
    """What the networks take, and the mean subtraction common to them."""

    value_range = (0.0, 255.0)
    channel_order = "RGB"
    input_size = (CHIP_SIZE, CHIP_SIZE)
    differentiable = True

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]).view(3, 1, 1), persistent=False)

    def normalised(self, batch: torch.Tensor) -> torch.Tensor:
        """Input of the first convolution."""
        check_images(batch, self.input_size, type(self).__name__)
        return (batch - self.mean) / 255


class _Dense(nn.Module):
    """Four convolutions, each fed with the sum of all before it (after Huang et al., CVPR 2017); halves the map."""

    def __init__(self, channels: int, width: int, *, first: bool = False) -> None:
        super().__init__()
        self.conv0 = SameConv2d(channels, width, 3, 2) if first else SeparableConv2d(channels, width, 2)
        self.conv1 = SeparableConv2d(width, width)
        self.conv2 = SeparableConv2d(width, width)
        self.conv3 = SeparableConv2d(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = functional.relu(self.conv0(x))
        total = total + self.conv1(total)
        total = total + self.conv2(functional.relu(total))
        return functional.relu(total + self.conv3(functional.relu(total)))


class _DenseNet(_Chip):
    """Four dense blocks, mean over the map, one linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.dense0 = _Dense(3, 32, first=True)
        self.dense1 = _Dense(32, 64)
        self.dense2 = _Dense(64, 128)
        self.dense3 = _Dense(128, 256)
        self.fc = nn.Linear(256, outputs)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        maps = self.dense3(self.dense2(self.dense1(self.dense0(self.normalised(batch)))))
        result: torch.Tensor = self.fc(maps.mean((2, 3)))
        return result


class ExpressionNet(_DenseNet):
    """Tells seven expressions apart."""

    def __init__(self) -> None:
        super().__init__(len(EXPRESSIONS))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (N, 7), in the order of :data:`EXPRESSIONS`, of chips (N, 3, 112, 112), RGB in 0..255."""
        return super().forward(batch)


class LandmarkNet68(_DenseNet):
    """Finds the 68 landmarks of the iBUG order."""

    def __init__(self) -> None:
        super().__init__(136)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Landmarks (N, 68, 2) in pixels (x, y) of chips (N, 3, 112, 112), RGB in 0..255."""
        share = super().forward(batch).view(-1, 68, 2)
        return share * CHIP_SIZE - 0.5

    def landmarks(self, images: torch.Tensor, points5: torch.Tensor) -> torch.Tensor:
        """Landmarks (N, 68, 2) in pixels of the images that the faces were cut from.

        Args:
            images: (N, 3, S, S), RGB in 0..255.
            points5: (N, 5, 2) pixels; where to cut. They need not be exact.

        Raises:
            FacesError: if shapes do not fit or points are unusable.
        """
        goal = torch.tensor(CHIP_POINTS, dtype=torch.float64, device=points5.device)
        turn, shift = similarity(points5.double(), goal)
        found = torch.view_as_complex(self(chips(images, points5)).double().contiguous())
        back = torch.view_as_real((found - shift[:, None]) / turn[:, None])
        return back.to(images.dtype)


class _Reduction(nn.Module):
    """Two separable convolutions, max over 3 x 3 cells at stride 2, and a convolution 1 x 1 as the shortcut."""

    def __init__(self, channels: int, width: int, *, activate: bool = True) -> None:
        super().__init__()
        self.activate = activate
        self.separable_conv0 = SeparableConv2d(channels, width)
        self.separable_conv1 = SeparableConv2d(width, width)
        self.expansion_conv = nn.Conv2d(channels, width, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.separable_conv0(functional.relu(x) if self.activate else x)
        y = self.separable_conv1(functional.relu(y))
        # The last window of an even map reaches over its edge, as in TensorFlow.
        result: torch.Tensor = functional.max_pool2d(y, 3, 2, ceil_mode=True) + self.expansion_conv(x)
        return result


class _Main(nn.Module):
    """Three separable convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.separable_conv0 = SeparableConv2d(width, width)
        self.separable_conv1 = SeparableConv2d(width, width)
        self.separable_conv2 = SeparableConv2d(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.separable_conv0(functional.relu(x))
        y = self.separable_conv1(functional.relu(y))
        result: torch.Tensor = x + self.separable_conv2(functional.relu(y))
        return result


class AgeGenderNet(_Chip):
    """Estimates age and gender: a small Xception (Chollet, CVPR 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.entry_flow = nn.ModuleDict(
            {
                "conv_in": SameConv2d(3, 32, 3, 2),
                "reduction_block_0": _Reduction(32, 64, activate=False),
                "reduction_block_1": _Reduction(64, 128),
            }
        )
        self.middle_flow = nn.ModuleDict({"main_block_0": _Main(128), "main_block_1": _Main(128)})
        self.exit_flow = nn.ModuleDict(
            {"reduction_block": _Reduction(128, 256), "separable_conv": SeparableConv2d(256, 512)}
        )
        self.fc = nn.ModuleDict({"age": nn.Linear(512, 1), "gender": nn.Linear(512, 2)})

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ages in years (N,) and logits for male, female (N, 2), of chips (N, 3, 112, 112), RGB in 0..255."""
        entry, middle, last = self.entry_flow, self.middle_flow, self.exit_flow
        maps = functional.relu(entry["conv_in"](self.normalised(batch)))
        maps = entry["reduction_block_1"](entry["reduction_block_0"](maps))
        maps = middle["main_block_1"](middle["main_block_0"](maps))
        mean = functional.relu(last["separable_conv"](last["reduction_block"](maps))).mean((2, 3))
        return self.fc["age"](mean)[:, 0], self.fc["gender"](mean)


def load_expression_net(path: Path | None = None) -> ExpressionNet:
    """The network with its published weights, in eval mode; ``path`` as in :func:`faces.published.load_network`."""
    return load_network(ExpressionNet(), "face-expression", path)


def load_landmark_net(path: Path | None = None) -> LandmarkNet68:
    """The network with its published weights, in eval mode; ``path`` as in :func:`faces.published.load_network`."""
    return load_network(LandmarkNet68(), "face-landmark-68", path)


def load_age_gender_net(path: Path | None = None) -> AgeGenderNet:
    """The network with its published weights, in eval mode; ``path`` as in :func:`faces.published.load_network`."""
    return load_network(AgeGenderNet(), "age-gender", path)
