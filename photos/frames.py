"""Faces of a photo: found at any size, cut out as the frames that protectors take, and put back at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from faces.alignment import similarity
from faces.detection import Detection, FaceDetector
from faces.folders import FRAME_POINTS, LARGEST_ENLARGEMENT, crop_face

#: Sides of a frame in pixels where the method does not ask for another: the larger one for faces that have the
#: resolution, since a finer pattern protects better (docs/decisions/0012-photos-of-people.md).
FRAME_PX, SMALL_FRAME_PX = 224, 112

#: Distance of the eyes of a frame, as a share of its side.
_EYES = FRAME_POINTS[1][0] - FRAME_POINTS[0][0]

#: A photo larger than this is searched in tiles too; the detector reduces neither by more than two.
TILE_PX, TILE_OVERLAP_PX = 2048, 512

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


def find_faces(detector: FaceDetector, image: Pixels) -> list[Detection]:
    """Faces of a photo (H, W, 3), largest first, small ones in large photos included.

    The detector reduces a large photo until small faces vanish, so such a photo is also searched tile by tile. Tiles
    overlap: a face of up to ``TILE_OVERLAP_PX`` lies whole in one of them, and a larger one is seen in the whole photo.
    """
    found = detector.detect(image)
    height, width = image.shape[:2]
    if max(height, width) > TILE_PX:
        for top, left in product(_starts(height), _starts(width)):
            tile = image[top : top + TILE_PX, left : left + TILE_PX]
            found += [
                _moved(face, left, top)
                for face in detector.detect(np.ascontiguousarray(tile))
                if _whole(face.box, (left, top), tile.shape[1::-1], (width, height))
            ]
    kept: list[Detection] = []
    for face in sorted(found, key=lambda one: -float(one.box[2] * one.box[3])):
        if not any(same_face(face.box, other.box) for other in kept):
            kept.append(face)
    return kept


def same_face(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether two boxes (left, top, width, height) share half of the smaller one's area."""
    near = np.maximum(first[:2], second[:2])
    far = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.clip(far - near, 0, None)))
    return shared > 0.5 * float(min(np.prod(first[2:]), np.prod(second[2:])))


def _starts(side: int) -> list[int]:
    """Where tiles begin: evenly, the last one at the end of the photo."""
    count = 1 + max(0, -(-(side - TILE_PX) // (TILE_PX - TILE_OVERLAP_PX)))
    return [round(k * (side - TILE_PX) / (count - 1)) for k in range(count)] if count > 1 else [0]


def _moved(face: Detection, left: int, top: int) -> Detection:
    corner = np.array([left, top], dtype=np.float32)
    return Detection(np.concatenate([face.box[:2] + corner, face.box[2:]]), face.points5 + corner, face.score)


def _whole(box: NDArray[np.float32], corner: Sequence[int], size: Sequence[int], photo: Sequence[int]) -> bool:
    """Whether a box in a tile is cut by none of the tile's edges, those of the photo apart."""
    near = (box[:2] > 0) | (np.array(corner) == 0)
    far = (box[:2] + box[2:] < np.array(size)) | (np.array(corner) + np.array(size) == np.array(photo))
    return bool(near.all() and far.all())


@dataclass(frozen=True, eq=False)
class Frame:
    """A face as protectors see it, and where it lies on its photo: frame pixel = scale * photo pixel + shift.

    Attributes:
        pixels: (S, S, 3) uint8, sRGB-encoded; black outside the photo.
        points5: (5, 2) in the frame.
        scale: pixels of the frame in one of the photo.
        shift: (2,) x, y.
    """

    pixels: Pixels
    points5: NDArray[np.float32]
    scale: float
    shift: NDArray[np.float64]

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


def cut_frame(image: Pixels, points5: NDArray[np.float32], px: int) -> Frame:
    """The frame of a face, as :func:`faces.folders.crop_face` cuts it.

    Raises:
        FacesError: the face is too small (:func:`smallest_eye_distance`).
    """
    eyes = eye_distance(points5)
    # Only the surroundings are handed on: the photo may be a turned view, which would be copied whole. The frame
    # reaches 2.1 eye distances from the mean of the points at most.
    low = np.clip(np.floor(points5.mean(0) - 2.2 * eyes - 2), 0, None).astype(int)
    high = np.ceil(points5.mean(0) + 2.2 * eyes + 2).astype(int) + 1
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    pixels, points, _ = crop_face(part, (points5 - low).astype(np.float32), px)
    scale = _EYES * px / eyes
    return Frame(pixels, points, scale, points.mean(0) - scale * points5.mean(0, dtype=np.float64))


def paste(image: Pixels, frames: Sequence[Frame], protected: Sequence[Pixels], *, additive: bool) -> None:
    """Put protected frames back into their photo, in place.

    Frames are enlarged linearly (or reduced by area where the photo shows the face smaller than the frame), so a
    budget of the largest change is kept. Where frames of neighbours overlap, a pixel belongs to the face whose centre
    is nearest in units of the faces' sizes; it is changed once.

    Args:
        image: (H, W, 3), changed.
        frames: cut from this image.
        protected: (S, S, 3) uint8 of each.
        additive: add what was changed and keep the detail of the photo; otherwise the enlarged frame takes the place of
            the photo up to a sharp edge, so that no detail which the method removed comes back.
    """
    windows = [frame.window(image.shape) for frame in frames]
    for index, (frame, after) in enumerate(zip(frames, protected, strict=True)):
        top, bottom, left, right = windows[index]
        rivals = [
            other
            for other, near in zip(frames, windows, strict=True)
            if other is not frame and near[0] < bottom and near[1] > top and near[2] < right and near[3] > left
        ]
        values = after.astype(np.float32) - (frame.pixels.astype(np.float32) if additive else 0)
        across = _weights(left, right, frame, 0) @ values
        step = max(1, BAND_PIXELS // max(1, right - left))
        for row in range(top, bottom, step):
            end = min(row + step, bottom)
            new = np.tensordot(_weights(row, end, frame, 1), across, axes=1)
            old = image[row:end, left:right]
            new = np.clip(np.rint(new + old if additive else new), 0, 255).astype(np.uint8)
            own = _owned(frame, rivals, (row, end, left, right))
            old[own] = new[own]


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
