"""Face recognisers: SFace with gradients, and a small network to train on encoded frames.

Each declares what it takes (size, value range, channel order) and returns unit vectors, so that a cosine is a dot
product.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from faces import weights
from faces.errors import FacesError

# Output channels and stride of the 13 depthwise-separable blocks: MobileNet v1 (Howard et al. 2017, table 1) with a
# stem of stride 1.
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def _unit(conv: nn.Conv2d) -> nn.Sequential:
    """Convolution, batch norm, PReLU. MXNet's epsilon of 1e-3 belongs to the published weights."""
    channels = conv.out_channels
    return nn.Sequential(conv, nn.BatchNorm2d(channels, eps=1e-3), nn.PReLU(channels))


def _check_batch(batch: torch.Tensor, channels: int, size: tuple[int, int], name: str) -> None:
    if batch.ndim != 4 or tuple(batch.shape[1:]) != (channels, *size) or not batch.is_floating_point():
        raise FacesError(
            f"{name} takes floating-point images of shape (N, {channels}, {size[0]}, {size[1]}), got "
            f"{tuple(batch.shape)} of {batch.dtype}; align or resize the images first."
        )


class SFace(nn.Module):
    """SFace (Zhong, Deng et al., IEEE TIP 2021) on a MobileNet v1 backbone: 112 x 112 pixels to 128 dimensions.

    The structure and names of the modules follow the published network, so every part can be fine-tuned.
    575 million multiply-adds per image at 112 x 112, 154 million at 56 x 56.

    Args:
        input_size: side of the input in pixels. The published size is 112. With 56 the last feature map has 4 x 4
            cells and is stretched bilinearly to the 7 x 7 that the last layer expects: about four times cheaper, meant
            for fine-tuning (the embeddings differ from those at 112).
    """

    value_range = (0.0, 255.0)
    channel_order = "RGB"
    embedding_dim = 128
    differentiable = True

    def __init__(self, input_size: int = 112) -> None:
        super().__init__()
        if input_size not in (56, 112):
            raise FacesError(f"SFace takes an input_size of 112 or 56 pixels, got {input_size}.")
        self.input_size = (input_size, input_size)
        units = [_unit(nn.Conv2d(3, 32, 3, padding=1, bias=False))]
        channels = 32
        for width, stride in _BLOCKS:
            units.append(_unit(nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)))
            units.append(_unit(nn.Conv2d(channels, width, 1, bias=False)))
            channels = width
        self.backbone = nn.Sequential(*units)
        self.feature_norm: nn.Module = nn.BatchNorm2d(channels, eps=2e-5)
        self.dropout = nn.Dropout(0.4)
        self.project = nn.Linear(channels * 49, self.embedding_dim)
        self.embedding_norm: nn.Module = nn.BatchNorm1d(self.embedding_dim, eps=2e-5)

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        """Last feature map, (N, 1024, 7, 7), of images (N, 3, H, W) in 0..255."""
        _check_batch(batch, 3, self.input_size, "SFace")
        maps: torch.Tensor = self.backbone((batch - 127.5) * (1 / 128))
        if maps.shape[-1] != 7:
            maps = functional.interpolate(maps, size=(7, 7), mode="bilinear", align_corners=False)
        return maps

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Embeddings before normalisation, (N, 128), of aligned RGB images (N, 3, H, W) in 0..255."""
        flat = self.dropout(self.feature_norm(self.features(batch))).flatten(1)
        result: torch.Tensor = self.embedding_norm(self.project(flat))
        return result

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, 128) of aligned RGB images (N, 3, H, W), float in 0..255.

        Raises:
            FacesError: if shape or type differ from what the network takes.
        """
        return functional.normalize(self(batch), dim=1)

    def folded(self) -> SFace:
        """A copy with every batch norm merged into its neighbour: same embeddings, faster, gradients still pass.

        The copy is in eval mode and has no batch norm any more; fine-tune the original.

        Raises:
            FacesError: if this network is folded already.
        """
        result = copy.deepcopy(self).eval()
        norm, last = result.feature_norm, result.embedding_norm
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(last, nn.BatchNorm1d):
            raise FacesError("This network is folded already; fold the original once.")
        units = []
        for unit in result.backbone.children():
            conv, batch_norm, activation = cast(tuple[nn.Conv2d, nn.BatchNorm2d, nn.PReLU], tuple(unit.children()))
            units.append(nn.Sequential(fuse_conv_bn_eval(conv, batch_norm), nn.Identity(), activation))
        result.backbone = nn.Sequential(*units)
        # The norm of the last feature map is an affine map per channel, hence part of the linear layer behind it:
        # a 1 x 1 depthwise convolution with the same numbers shows its gain and shift.
        affine = fuse_conv_bn_eval(_identity_conv(norm.num_features).to(norm.weight.device), norm)
        linear = result.project
        with torch.no_grad():
            per_cell = linear.weight.view(self.embedding_dim, -1, 49)
            linear.bias.add_(per_cell.sum(2) @ cast(torch.Tensor, affine.bias))
            linear.weight.copy_((per_cell * affine.weight.view(1, -1, 1)).flatten(1))
        result.feature_norm = nn.Identity()
        result.project = fuse_linear_bn_eval(linear, last)
        result.embedding_norm = nn.Identity()
        return result


def _identity_conv(channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    nn.init.ones_(conv.weight)
    return conv.eval()


def load_sface(path: Path | None = None, *, input_size: int = 112) -> SFace:
    """SFace with its published weights, in eval mode.

    Args:
        path: weight file (safetensors) as written by ``optishield weights fetch sface``; default: the cache.
        input_size: 112, or 56 for cheap fine-tuning, see :class:`SFace`.

    Raises:
        FacesError: if the weights are missing or damaged.
    """
    file = weights.verify("sface") if path is None else path
    network = SFace(input_size)
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise FacesError(f"{file} does not hold SFace ({reason}); run: optishield weights fetch sface") from error
    return network.eval()


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(channels, width, 1, bias=False)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm1(self.first(x)), inplace=True)
        return functional.relu(self.norm2(self.second(y)) + self.shortcut(x), inplace=True)


class SmallRecogniser(nn.Module):
    """Compact residual network to be trained from scratch on encoded frames.

    Batch norm throughout: in a few hundred steps it learns far more than with group norm. Use batches of 16 or more,
    and eval mode for embeddings. Multiply-adds per frame with the
    default width, monochrome: 6.8, 12.3, 27.8, 12.7, 28.5 and 12.7 million at 8, 16, 24, 32, 48 and 64 pixels.

    Args:
        in_channels: channels of the frame (1 for a monochrome sensor).
        size: side of the frame in pixels, 8 to 128. Frames above 24 pixels are halved once more, those above 48 twice.
        width: channels of the first stage, a multiple of 8; later stages have 2, 4 times as many.
        embedding_dim: length of the embedding.
    """

    differentiable = True
    value_range = (0.0, 1.0)

    def __init__(self, in_channels: int, size: int, width: int = 24, embedding_dim: int = 128) -> None:
        super().__init__()
        if not 8 <= size <= 128 or width < 8 or width % 8 or in_channels < 1 or embedding_dim < 1:
            raise FacesError(
                "SmallRecogniser takes in_channels >= 1, 8 <= size <= 128, width a positive multiple of 8 and "
                f"embedding_dim >= 1, got {in_channels}, {size}, {width} and {embedding_dim}."
            )
        self.input_size = (size, size)
        self.in_channels = in_channels
        self.embedding_dim = embedding_dim
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, 2 if size > 48 else 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential(
            _Residual(width, width, 2 if size > 24 else 1),
            _Residual(width, 2 * width, 2),
            _Residual(2 * width, 2 * width, 1),
            _Residual(2 * width, 4 * width, 2 if size > 12 else 1),
            _Residual(4 * width, 4 * width, 1),
        )
        with torch.no_grad():
            cells = self.stages(self.stem(torch.zeros(1, in_channels, size, size)))[0].numel()
        # Flattened, not averaged: where a feature lies carries identity.
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(cells, embedding_dim, bias=False))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Embeddings before normalisation, (N, embedding_dim), of frames (N, in_channels, size, size) in 0..1."""
        _check_batch(batch, self.in_channels, self.input_size, "SmallRecogniser")
        result: torch.Tensor = self.head(self.stages(self.stem(batch - 0.5)))
        return result

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, embedding_dim) of frames (N, in_channels, size, size), float in 0..1."""
        return functional.normalize(self(batch), dim=1)


class CosineHead(nn.Module):
    """Margin softmax over cosines, for training a recogniser; thrown away afterwards.

    Args:
        embedding_dim: length of the embeddings.
        classes: number of people.
        margin: additive margin (radians for ``arc``, cosine for ``cos``).
        scale: factor on the cosines before the softmax.
        kind: ``cos`` (CosFace, Wang et al. 2018, eq. 4) or ``arc`` (ArcFace, Deng et al. 2019, eq. 3).
        learn_scale: whether the scale is trained (in the log domain, so it stays positive).
    """

    def __init__(
        self,
        embedding_dim: int,
        classes: int,
        *,
        margin: float = 0.25,
        scale: float = 24.0,
        kind: str = "cos",
        learn_scale: bool = False,
    ) -> None:
        super().__init__()
        if kind not in ("cos", "arc"):
            raise FacesError(f"CosineHead knows the kinds 'cos' and 'arc', got {kind!r}.")
        if not 0 <= margin < 1 or scale <= 0:
            raise FacesError(f"CosineHead takes 0 <= margin < 1 and scale > 0, got {margin} and {scale}.")
        self.margin = margin
        self.kind = kind
        self.weight = nn.Parameter(torch.empty(classes, embedding_dim))
        nn.init.normal_(self.weight, std=embedding_dim**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn_scale)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (N, classes); with ``labels`` (N,) the margin is taken off the true class (training)."""
        cosines = functional.linear(functional.normalize(embeddings, dim=1), functional.normalize(self.weight, dim=1))
        if labels is not None and self.margin > 0:
            true = cosines.gather(1, labels[:, None])
            if self.kind == "cos":
                lowered = true - self.margin
            else:
                # cos(angle + margin) is used while it falls; beyond, a straight line goes on falling (as in ArcFace's
                # published code).
                sine = torch.sqrt((1 - true.square()).clamp_min(1e-7))
                lowered = true * math.cos(self.margin) - sine * math.sin(self.margin)
                lowered = torch.where(
                    true > -math.cos(self.margin), lowered, true - math.sin(self.margin) * self.margin
                )
            cosines = cosines.scatter(1, labels[:, None], lowered)
        return cosines * self.log_scale.exp()

    def loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy with the margin."""
        return functional.cross_entropy(self(embeddings, labels), labels)
