"""Landmarks that a camera releases: which, as heatmaps, their error, and the network that reads them from frames.

Landmarks carry identity. Which of them leave the camera is therefore a choice of its own, a :data:`LandmarkSet`: the
five points that face alignment needs, or all 68.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from faces.errors import FacesError
from faces.samples import five_points

HEATMAP_SIZE = 32

LandmarkSet = Literal["five", "sixty-eight"]
#: Place of each point's counterpart when a face is mirrored.
_MIRRORED: dict[LandmarkSet, tuple[int, ...]] = {
    "five": (1, 0, 2, 4, 3),
    "sixty-eight": (
        *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38,
        37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    ),
}  # fmt: skip


def mirror_order(which: LandmarkSet) -> tuple[int, ...]:
    """Which point of a set takes the place of each one when the face is mirrored.

    Raises:
        FacesError: if there is no such set.
    """
    if which not in _MIRRORED:
        raise FacesError(f"There is no landmark set {which!r}; choose one of {', '.join(_MIRRORED)}.")
    return _MIRRORED[which]


def points_in(which: LandmarkSet) -> int:
    """Number of points of a set.

    Raises:
        FacesError: if there is no such set.
    """
    return len(mirror_order(which))


def released(landmarks68: torch.Tensor, which: LandmarkSet) -> torch.Tensor:
    """The points of a set, out of all landmarks of a face.

    Args:
        landmarks68: (..., 68, 2) pixels, iBUG-68 order.
        which: ``"five"`` for eye centres, nose tip and mouth corners, right side of the subject first
            (:func:`faces.samples.five_points`), or ``"sixty-eight"`` for all.

    Returns:
        (..., K, 2) pixels, K of :func:`points_in`.

    Raises:
        FacesError: if there is no such set, or the shape is another one.
    """
    points = five_points(landmarks68)  # checks the shape for both sets
    return points if points_in(which) == points.shape[-2] else landmarks68


def rescale_points(points: torch.Tensor, size_in: int, size_out: int) -> torch.Tensor:
    """Points of a ``size_in`` square frame in the pixels of a ``size_out`` frame of the same field of view.

    The edges of the frames coincide, not their pixel centres: p -> (p + 1/2) size_out / size_in - 1/2.
    """
    return (points + 0.5) * (size_out / size_in) - 0.5


def gaussian_heatmaps(landmarks: torch.Tensor, size_in: int, size_out: int, sigma: float) -> torch.Tensor:
    """Target heatmaps: a Gaussian of height one around every landmark.

    Args:
        landmarks: (N, K, 2) pixels (x, y) in the ``size_in`` frame; may lie between pixels or outside.
        size_in: side of that frame in pixels.
        size_out: side of the heatmaps in pixels.
        sigma: standard deviation in heatmap pixels.

    Returns:
        (N, K, size_out, size_out) as [y, x].

    Raises:
        FacesError: if a size or sigma is not positive, or the shape is wrong.
    """
    if landmarks.ndim != 3 or landmarks.shape[-1] != 2:
        raise FacesError(f"Landmarks must have shape (N, K, 2), got {tuple(landmarks.shape)}.")
    if size_in < 1 or size_out < 1 or sigma <= 0:
        raise FacesError(
            f"Heatmaps need positive sizes and a positive sigma, got {size_in}, {size_out} and {sigma} pixels."
        )
    at = rescale_points(landmarks, size_in, size_out)
    axis = torch.arange(size_out, dtype=at.dtype, device=at.device)
    bells = torch.exp((axis - at[..., None]).square() / (-2 * sigma**2))  # (N, K, 2, size_out), separable
    return bells[:, :, 1, :, None] * bells[:, :, 0, None, :]


def decode(logits: torch.Tensor, size_in: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates out of heatmap logits by soft-argmax (Sun et al., ECCV 2018, eq. 1); differentiable.

    Args:
        logits: (N, K, h, w).
        size_in: side in pixels of the scene frame that the coordinates refer to.

    Returns:
        Coordinates (N, K, 2) as (x, y) in pixels of the scene frame, and confidences (N, K) in 0..1: the share of the
        heatmap that lies within two heatmap pixels of the decoded point.
    """
    height, width = logits.shape[-2:]
    share = functional.softmax(logits.flatten(2), dim=2).view_as(logits)
    x = torch.arange(width, dtype=logits.dtype, device=logits.device)
    y = torch.arange(height, dtype=logits.dtype, device=logits.device)
    at = torch.stack([(share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1)], dim=-1)
    distance2 = (x - at[..., :1])[:, :, None, :].square() + (y - at[..., 1:])[:, :, :, None].square()
    confidence = (share * (distance2 <= 4.0)).flatten(2).sum(-1)
    scale = torch.tensor([size_in / width, size_in / height], dtype=logits.dtype, device=logits.device)
    return (at + 0.5) * scale - 0.5, confidence


def heatmap_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy between target heatmaps, scaled to sum one, and the softmax of the logits, in nats.

    A landmark so far outside the frame that its target vanishes contributes nothing.

    Args:
        logits: (N, K, h, w).
        targets: (N, K, h, w), non-negative, e.g. of :func:`gaussian_heatmaps`.
    """
    wanted = targets.flatten(2)
    wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-6)
    return -(wanted * functional.log_softmax(logits.flatten(2), dim=2)).sum(-1).mean()


def nme(predicted: torch.Tensor, truth: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Normalised mean error per face: mean point distance over a length of that face.

    Args:
        predicted: (N, K, 2) pixels.
        truth: (N, K, 2) pixels of the same frame.
        unit: (N,) pixels, the distance of the outer eye corners (:func:`faces.samples.interocular`, as in the 300-W
            benchmark), whichever points are measured.

    Returns:
        (N,), 0.05 = five per cent of the interocular distance.

    Raises:
        FacesError: if shapes do not fit, or an interocular distance is zero or unknown (NaN).
    """
    if predicted.shape != truth.shape or truth.ndim != 3 or unit.shape != truth.shape[:1]:
        raise FacesError(
            f"The error needs two sets of shape (N, K, 2) and N units, got {tuple(predicted.shape)}, "
            f"{tuple(truth.shape)} and {tuple(unit.shape)}."
        )
    if not bool((unit > 0).all()):
        raise FacesError(
            f"{int((~(unit > 0)).sum())} of {len(unit)} faces have no true interocular distance; leave out faces "
            "whose landmarks are unknown."
        )
    return torch.linalg.vector_norm(predicted - truth, dim=-1).mean(-1) / unit


def _conv(channels: int, width: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
        nn.GroupNorm(8, width),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two normalised 3 x 3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(width, width), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.GroupNorm(8, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.body(x))


class _Global(nn.Module):
    """Lets every cell of the coarsest map see all others, through a narrow bottleneck (a learned face shape)."""

    def __init__(self, numbers: int, rank: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(numbers, rank), nn.ReLU(inplace=True), nn.Linear(rank, numbers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y.view_as(x)


class HeatmapDecoder(nn.Module):
    """Reads landmark heatmaps from an encoded frame: a U-Net (Ronneberger et al. 2015) with a global bottleneck.

    The maps shrink from 32 x 32 to 4 x 4, where a fully connected bottleneck mixes all cells, since a coded frame may
    hold blurred or superposed copies of the face: evidence for a landmark can lie anywhere. 20 million multiply-adds
    per frame at the default width. Frames of another size than 32 are brought to 32 after the first convolution.

    Args:
        in_channels: channels of the frame (1 for a monochrome sensor).
        size: side of the frame in pixels, 8 to 64.
        width: channels at full resolution, a multiple of 8; cost grows with its square.
        scene_size: side in pixels of the scene frame that :meth:`landmarks` refers to.
        points: heatmaps, one for each point of the set it releases (:func:`points_in`).
    """

    def __init__(self, in_channels: int, size: int, width: int = 16, scene_size: int = 64, *, points: int = 5) -> None:
        super().__init__()
        if in_channels < 1 or not 8 <= size <= 64 or width < 8 or width % 8 or scene_size < 1 or points < 1:
            raise FacesError(
                "HeatmapDecoder takes in_channels >= 1, 8 <= size <= 64, width a positive multiple of 8, "
                f"scene_size >= 1 and points >= 1, got {in_channels}, {size}, {width}, {scene_size} and {points}."
            )
        self.in_channels, self.size, self.scene_size, self.points = in_channels, size, scene_size, points
        w0, w1, w2, w3 = width, 2 * width, 3 * width, 6 * width
        self.stem = _conv(in_channels, w0, stride=2 if size > 48 else 1)
        self.down1 = nn.Sequential(_conv(w0, w1, 2), _conv(w1, w1))
        self.down2 = nn.Sequential(_conv(w1, w2, 2), _Residual(w2))
        self.down3 = nn.Sequential(_conv(w2, w3, 2), _Residual(w3), _Global(w3 * 16, 128))
        self.up2 = nn.Sequential(_conv(w3 + w2, w2, kernel=1), _conv(w2, w2))
        self.up1 = nn.Sequential(_conv(w2 + w1, w1, kernel=1), _conv(w1, w1))
        self.up0 = nn.Sequential(_conv(w1 + w0, w0, kernel=1), _conv(w0, w0))
        self.out = nn.Conv2d(w0, points, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Logits (N, points, 32, 32) over the field of view of frames (N, in_channels, size, size), values near 0..1.

        Raises:
            FacesError: if the frames have another shape.
        """
        if frames.ndim != 4 or tuple(frames.shape[1:]) != (self.in_channels, self.size, self.size):
            raise FacesError(
                f"This decoder reads frames of shape (N, {self.in_channels}, {self.size}, {self.size}), got "
                f"{tuple(frames.shape)}; build it for the sensor that delivers the frames."
            )
        x0 = self.stem(frames - 0.5)
        if x0.shape[-1] != HEATMAP_SIZE:
            x0 = functional.interpolate(x0, size=(HEATMAP_SIZE, HEATMAP_SIZE), mode="bilinear", align_corners=False)
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        y2 = self.up2(torch.cat([_double(x3), x2], 1))
        y1 = self.up1(torch.cat([_double(y2), x1], 1))
        y0 = self.up0(torch.cat([_double(y1), x0], 1))
        logits: torch.Tensor = self.out(y0)
        return logits

    def landmarks(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coordinates (N, K, 2) in pixels of the scene frame, and confidences (N, K), of encoded frames."""
        return decode(self(frames), self.scene_size)


def _double(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
