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

#: What is drawn is never further from the mean than this many standard deviations along each of its axes, which takes
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
    """How placements follow from the pose of a face, and how they vary beside that: linear laws and a normal rest.

    A head that turns in front of a camera moves its face within the frame. So the place of a face depends on its pose,
    in photographs as in rendered heads, and where both are to be alike it is drawn for the pose that the face has.

    Attributes:
        mean: (3,) log of the size, offset x, offset y of a face of pose (0, 0).
        turned: (3, 2) what the two numbers of :func:`pose` add to them.
        axes: (3, 3) lower triangular; ``axes @ axes.T`` is the covariance of the rest. All zero: none.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    turned: tuple[tuple[float, ...], ...] = ((0.0, 0.0),) * 3
    axes: tuple[tuple[float, ...], ...] = ((0.0, 0.0, 0.0),) * 3

    @classmethod
    def of(cls, points5: Tensor, side_px: int) -> Framing:
        """The laws that some faces follow in their frames, by least squares.

        Args:
            points5: (N, 5, 2) pixels, at least 8 faces.
            side_px: Side of the frames.

        Raises:
            FacesError: There are fewer faces, or their places do not vary.
        """
        if len(points5) < 8:
            raise FacesError(f"a framing is measured on at least 8 faces, got {len(points5)}; give more of them.")
        rows, known = placements(points5, side_px), pose(points5)
        known = np.hstack([np.ones((len(known), 1)), known])
        laws = np.linalg.lstsq(known, rows, rcond=None)[0]
        rest = rows - known @ laws
        if not (rest.std(0) > 1e-6).all():
            raise FacesError("all these faces have one size or place, so no spread can be measured; align them.")
        axes = np.linalg.cholesky(np.cov(rest.T))
        return cls(_rounded(laws[0]), tuple(map(_rounded, laws[1:].T)), tuple(map(_rounded, axes)))

    def draw(self, points5: NDArray[np.float32], key: bytes) -> Placement:
        """The placement of one picture, decided by its pose and a key of its own: the same key, the same place.

        Args:
            points5: (5, 2) pixels of the picture.
            key: Decides the part that is random.
        """
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
        drawn = np.clip(rng.standard_normal(3), -_CLIP, _CLIP)
        law = np.array(self.mean) + np.array(self.turned) @ pose(torch.from_numpy(points5)[None])[0]
        log_size, x, y = law + np.array(self.axes) @ drawn
        return Placement(float(np.exp(log_size)), (float(x), float(y)))


ALIGNED = Framing()
"""Every face at the one place of :data:`FRAME_POINTS`."""

HEADS = Framing(
    (-0.0721, -0.001, -0.1867),
    ((-0.0196, 0.1564), (0.9845, 0.0038), (-0.0019, 0.3447)),
    ((0.108, 0.0, 0.0), (0.0001, 0.0504, 0.0), (0.0176, 0.0009, 0.0566)),
)
"""The framing of the generator of synthetic heads (:mod:`faces.synthetic`), measured on 5980 of them."""


def _rounded(row: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in row)


def pose(points5: Tensor) -> NDArray[np.float64]:
    """Where the nose tip lies across and along the way from the eyes to the mouth (N, 2): yaw and pitch, roughly.

    Across is a share of the length of eye distance and that way together (root of the sum of squares), positive to
    image right for an upright head; along is a share of that way.

    Args:
        points5: (N, 5, 2) pixels.
    """
    points = points5.detach().cpu().double()
    eyes, mouth = points[:, :2].mean(1), points[:, 3:].mean(1)
    down, between = mouth - eyes, points[:, 1] - points[:, 0]
    length = down.norm(dim=-1)
    axis = down / length[:, None]
    side = torch.stack([axis[:, 1], -axis[:, 0]], dim=-1)
    nose = points[:, 2] - eyes
    across = (nose * side).sum(-1) / (length.square() + between.square().sum(-1)).sqrt()
    return torch.stack([across, (nose * axis).sum(-1) / length], dim=1).numpy()


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
    table = srgb_to_linear(torch.from_numpy(np.arange(256) / 255)).float().numpy()
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
    points = points5.detach().cpu().double()
    target = points.new_tensor(FRAME_POINTS) * side_px - 0.5
    turn, _ = similarity(points, target)
    offset = (points.mean(1) - target.mean(0)) / side_px
    return torch.cat([-turn.abs().log()[:, None], offset], dim=1).numpy()
