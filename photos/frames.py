"""Faces of a photo: cut out as the frames that protectors take, and put back at full resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from faces.alignment import similarity
from faces.framing import FRAME_POINTS, LARGEST_ENLARGEMENT, crop_face

#: Sides of a frame in pixels where the method does not ask for another: the larger one for faces that have the
#: resolution, since a finer pattern protects better (docs/decisions/0012-photos-of-people.md).
FRAME_PX, SMALL_FRAME_PX = 224, 112

#: Distance of the eyes of a frame, as a share of its side.
_EYES = FRAME_POINTS[1][0] - FRAME_POINTS[0][0]

#: Pixels of a window that are computed at a time; bounds memory, 24 bytes each.
BAND_PIXELS = 2_000_000

Pixels = NDArray[np.uint8]


def smallest_eye_distance(px: int) -> float:
    """Eye distance in pixels of the photo below which a face is not protected in frames of ``px`` pixels."""
    return _EYES * px / LARGEST_ENLARGEMENT


def eye_distance(points5: NDArray[np.float32]) -> float:
    """Distance of the eyes in pixels, as it would be if the face of this size were seen from the front."""
    turn, _ = similarity(torch.from_numpy(points5).double(), torch.tensor(FRAME_POINTS, dtype=torch.float64))
    return _EYES / float(turn.abs())


def roll_deg(points5: NDArray[np.float32]) -> float:
    """By how much a face is turned clockwise as the picture is seen, -180..180 degrees, 0 for an upright one."""
    turn, _ = similarity(torch.tensor(FRAME_POINTS, dtype=torch.float64), torch.from_numpy(points5).double())
    return math.degrees(math.atan2(float(turn.imag), float(turn.real)))


def upright_turns(points5: NDArray[np.float32]) -> int:
    """Quarter turns, counter-clockwise as ``numpy.rot90`` makes them, after which a face is least turned: 0..3."""
    return round(roll_deg(points5) / 90) % 4


def turned_points(points5: NDArray[np.float32], turns: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Points (..., 2) of a picture of shape (H, W, ...) after ``numpy.rot90(picture, turns)``."""
    x, y = points5[..., 0], points5[..., 1]
    height, width = shape[:2]
    turned = {
        0: (x, y), 1: (y, width - 1 - x), 2: (width - 1 - x, height - 1 - y), 3: (height - 1 - y, x)
    }[turns % 4]  # fmt: skip
    return np.stack(turned, axis=-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Frame:
    """A face as protectors see it, and where it lies on its photo.

    A face that lies sideways or upside down is turned by quarters until it is nearly upright. The frame turned back,
    ``numpy.rot90(pixels, -turns)``, lies on the photo: pixel of the frame = scale * pixel of the photo + shift.

    Attributes:
        pixels: (S, S, 3) uint8, sRGB-encoded; black outside the photo.
        points5: (5, 2) in ``pixels``.
        scale: Pixels of the frame in one of the photo.
        shift: (2,) x, y.
        turns: Quarter turns, counter-clockwise, from the photo to the frame.
    """

    pixels: Pixels
    points5: NDArray[np.float32]
    scale: float
    shift: NDArray[np.float64]
    turns: int = 0

    def window(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Top, bottom, left, right of the photo's pixels (H, W, ...) that lie in the frame."""
        first = np.ceil((-0.5 - self.shift) / self.scale)
        last = np.floor((len(self.pixels) - 0.5 - self.shift) / self.scale) + 1
        left, top = (int(v) for v in np.clip(first, 0, [shape[1], shape[0]]))
        right, bottom = (int(v) for v in np.clip(last, 0, [shape[1], shape[0]]))
        return top, bottom, left, right

    def centre(self) -> NDArray[np.float64]:
        """The middle of the frame (x, y) in pixels of the photo."""
        return ((len(self.pixels) - 1) / 2 - self.shift) / self.scale

    def turned_back(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pixels of the frame (S, S, 3) as they lie on the photo."""
        return np.rot90(pixels, -self.turns).astype(np.float32)


def cut_frame(image: Pixels, points5: NDArray[np.float32], px: int) -> Frame:
    """The frame of a face, as :func:`faces.framing.crop_face` cuts it, after as many quarter turns as it needs.

    Args:
        image: (H, W, 3).
        points5: (5, 2) points of the face.
        px: Side of the frame in pixels.

    Raises:
        FacesError: The face is too small (:func:`smallest_eye_distance`).
    """
    eyes = eye_distance(points5)
    # Only the surroundings are handed on: the photo may be a turned view, which would be copied whole. The frame
    # reaches 2.1 eye distances from the mean of the points at most.
    low = np.clip(np.floor(points5.mean(0) - 2.2 * eyes - 2), 0, None).astype(int)
    high = np.ceil(points5.mean(0) + 2.2 * eyes + 2).astype(int) + 1
    part = image[low[1] : high[1], low[0] : high[0]]
    turns = upright_turns(points5)
    near = turned_points((points5 - low).astype(np.float32), turns, part.shape)
    pixels, points, _ = crop_face(np.ascontiguousarray(np.rot90(part, turns)), near, px)
    scale = _EYES * px / eyes
    back = turned_points(points, -turns, pixels.shape)
    return Frame(pixels, points, scale, back.mean(0) - scale * points5.mean(0, dtype=np.float64), turns)


def paste(image: Pixels, frames: Sequence[Frame], protected: Sequence[Pixels], *, additive: bool) -> Pixels:
    """A photo (H, W, 3) with protected frames in it.

    Frames are enlarged linearly (or reduced by area where the photo shows the face smaller than the frame), so a
    budget of the largest change is kept. Where frames of neighbours overlap, a pixel belongs to the face whose centre
    is nearest in units of the faces' sizes; it is changed once.

    Args:
        image: (H, W, 3); stays as it is.
        frames: Frames that were cut from this image.
        protected: (S, S, 3) uint8 of each.
        additive: Add what was changed and keep the detail of the photo; otherwise the enlarged frame takes the place of
            the photo up to a sharp edge, so that no detail which the method removed comes back.
    """
    result = np.array(image, order="C")
    windows = [frame.window(image.shape) for frame in frames]
    for index, (frame, after) in enumerate(zip(frames, protected, strict=True)):
        top, bottom, left, right = windows[index]
        rivals = [
            other
            for other, near in zip(frames, windows, strict=True)
            if other is not frame and near[0] < bottom and near[1] > top and near[2] < right and near[3] > left
        ]
        values = frame.turned_back(after) - (frame.turned_back(frame.pixels) if additive else 0)
        across = _weights(left, right, frame, 0) @ values
        step = max(1, BAND_PIXELS // max(1, right - left))
        for row in range(top, bottom, step):
            end = min(row + step, bottom)
            new = np.tensordot(_weights(row, end, frame, 1), across, axes=1)
            old = result[row:end, left:right]
            new = np.clip(np.rint(new + old if additive else new), 0, 255).astype(np.uint8)
            own = _owned(frame, rivals, (row, end, left, right))
            old[own] = new[own]
    return result


def _weights(start: int, stop: int, frame: Frame, axis: int) -> NDArray[np.float32]:
    """Weight (stop - start, S) of each pixel of the frame in those of the photo along x (0) or y (1)."""
    at = frame.scale * np.arange(start, stop) + frame.shift[axis]
    near = 1 - np.abs(at[:, None] - np.arange(len(frame.pixels))) / max(1.0, frame.scale)
    weights = np.clip(near, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _owned(frame: Frame, rivals: Sequence[Frame], part: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Which pixels of a part (top, bottom, left, right) belong to a face rather than to its rivals."""
    top, bottom, left, right = part
    rows, columns = np.arange(top, bottom)[:, None], np.arange(left, right)[None, :]

    def distance(face: Frame) -> NDArray[np.float64]:
        x, y = face.centre()
        # Pixels of the frame, not of the photo: a small face beside a large one keeps its share.
        return ((columns - x) ** 2 + (rows - y) ** 2) * face.scale**2

    own = np.ones((bottom - top, right - left), dtype=bool)
    for rival in rivals:
        first, last, start, end = rival.window((bottom, right))
        inside = (rows >= first) & (rows < last) & (columns >= start) & (columns < end)
        own &= ~(inside & (distance(rival) < distance(frame)))
    return own
