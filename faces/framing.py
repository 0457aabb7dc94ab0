"""How large faces are in square frames and where they lie, and how much that varies from picture to picture."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faces.alignment import similarity
from faces.errors import FacesError
from faces.samples import linear_to_srgb, srgb_to_linear

#: Where the five points of a straight synthetic head lie, as fractions of the frame: eye distance .265 of the width,
#: eyes above the middle. Photos are scaled and shifted to match, so both sources fill the frame alike.
FRAME_POINTS = ((0.3675, 0.410), (0.6325, 0.410), (0.500, 0.564), (0.392, 0.700), (0.608, 0.700))

#: A face is refused if it would have to be enlarged by more than this.
LARGEST_ENLARGEMENT = 2.0

#: A drawn place is never further from the mean than this many standard deviations along each of its axes, which takes
#: one per cent off the spread.
_CLIP = 2.5


@dataclass(frozen=True)
class Placement:
    """One face in its frame.

    Attributes:
        size: Its size; 1 is that of :data:`FRAME_POINTS`.
        offset: (x, y) of the mean of its five points from that of :data:`FRAME_POINTS`, as shares of the frame.
    """

    size: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Framing:
    """A distribution of placements, normal in the logarithm of the size and the two offsets.

    Attributes:
        mean: (3,) log of the size, offset x, offset y.
        axes: (3, 3) lower triangular; ``axes @ axes.T`` is their covariance. All zero: every face at the mean.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    axes: tuple[tuple[float, ...], ...] = ((0.0, 0.0, 0.0),) * 3

    @classmethod
    def of(cls, points5: Tensor, side_px: int) -> Framing:
        """The distribution that some faces have in their frames.

        Args:
            points5: (N, 5, 2) pixels, at least 8 faces.
            side_px: Side of the frames.

        Raises:
            FacesError: There are fewer faces, or their places do not vary.
        """
        if len(points5) < 8:
            raise FacesError(f"a framing is measured on at least 8 faces, got {len(points5)}; give more of them.")
        rows = placements(points5, side_px)
        covariance = np.cov(rows.T)
        try:
            axes = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError as error:
            raise FacesError("all faces have one size or place, so no spread can be measured; align them.") from error
        # Rounded, so that the last bits of a sum, which differ between machines, do not move a pixel.
        mean = tuple(round(float(value), 5) for value in rows.mean(0))
        return cls(mean, tuple(tuple(round(float(value), 5) for value in row) for row in axes))

    def draw(self, key: bytes) -> Placement:
        """The placement of one picture, decided by a key of its own: the same key, the same place."""
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
        drawn = np.clip(rng.standard_normal(3), -_CLIP, _CLIP)
        log_size, x, y = np.array(self.mean) + np.array(self.axes) @ drawn
        return Placement(float(np.exp(log_size)), (float(x), float(y)))


ALIGNED = Framing()
"""Every face at the one place of :data:`FRAME_POINTS`."""


def crop_face(
    image: NDArray[np.uint8], points5: NDArray[np.float32], size: int, place: Placement = Placement()
) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
    """Cuts a square frame around a face so that its five points fall near those of a framing, without rotation.

    Args:
        image: (H, W, 3) RGB, sRGB-encoded.
        points5: (5, 2) eye centres, nose tip, mouth corners in pixels.
        size: side of the frame in pixels.
        place: size and place of the face in it; default: near :data:`faces.framing.FRAME_POINTS`.

    Returns:
        The frame (size, size, 3), the points in it, and the share of it that lies outside the image (black:
        repeated or mirrored edges raised the similarity of strangers in a recogniser from .09 to .21).

    Raises:
        FacesError: if the face is too small for that size.
    """
    scale, shift = fit(points5, size, place)
    if scale > LARGEST_ENLARGEMENT:
        raise FacesError(
            f"the face is too small: an eye distance of about {0.265 * size / scale:.0f} pixels would be enlarged "
            f"{scale:.1f} times for frames of {size} pixels (at most {LARGEST_ENLARGEMENT:g})"
        )
    # Sampled at about the resolution of the photo, then averaged over blocks: no aliasing at any reduction.
    fine = max(1, math.ceil(1 / scale - 0.01))
    step = 1 / (fine * scale)
    start = (0.5 / fine - 0.5 - shift) / scale
    matrix = np.array([[step, 0, start[0]], [0, step, start[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    big = cv2.warpAffine(image, matrix, (size * fine, size * fine), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    table = srgb_to_linear(torch.arange(256, dtype=torch.float64) / 255).float().numpy()
    light = table[big].reshape(size, fine, size, fine, 3).mean(axis=(1, 3))
    frame = (linear_to_srgb(torch.from_numpy(light)) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    corners = (np.array([[-0.5], [size - 0.5]]) - shift) / scale
    limits = np.array([image.shape[1], image.shape[0]]) - 0.5
    inside = np.clip(corners, -0.5, limits)
    covered = float(np.prod(inside[1] - inside[0]) / np.prod(corners[1] - corners[0]))
    return frame, (points5 * scale + shift).astype(np.float32), 1 - covered


def fit(points5: NDArray[np.float32], size: int, place: Placement = Placement()) -> tuple[float, NDArray[np.float64]]:
    """Scale and shift (2,) that bring a face to its place: pixel of the frame = scale * pixel of the image + shift.

    Args:
        points5: (5, 2) pixels of the image.
        size: Side of the frame in pixels.
        place: Size and place of the face in it.
    """
    target = np.array(FRAME_POINTS) * size - 0.5
    turn, _ = similarity(torch.from_numpy(points5).double(), torch.from_numpy(target))
    scale = float(turn.abs()) * place.size
    return scale, target.mean(0) + np.array(place.offset) * size - scale * points5.mean(0)


def placements(points5: Tensor, side_px: int) -> NDArray[np.float64]:
    """Log of the size and the offsets (N, 3) of faces in square frames; see :class:`Placement`.

    Args:
        points5: (N, 5, 2) pixels.
        side_px: Side of the frames.
    """
    target = torch.tensor(FRAME_POINTS, dtype=torch.float64) * side_px - 0.5
    points = points5.detach().cpu().double()
    turn, _ = similarity(points, target)
    offset = (points.mean(1) - target.mean(0)) / side_px
    return torch.cat([-turn.abs().log()[:, None], offset], dim=1).numpy()
