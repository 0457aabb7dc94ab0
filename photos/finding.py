"""Finds the faces of a photo: at any size, and however the photo or a head is turned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from faces.detection import SURE_SCORE, Detection, FaceDetector, UnsureError
from photos.frames import Pixels, turned_points

#: A photo larger than this is searched in tiles too; the detector reduces neither by more than two.
TILE_PX, TILE_OVERLAP_PX = 2048, 512

#: Least score, in its own turn, of a face that was not seen in the photo as it is: three more looks are three more
#: chances to be wrong.
TURNED_SCORE = 0.85


@dataclass(frozen=True, eq=False)
class FoundFace:
    """A face on a photo.

    Attributes:
        seen: Where it is, in pixels of the photo.
        doubt: Why its points cannot be relied on; None where they can.
    """

    seen: Detection
    doubt: str | None = None


def find_faces(detector: FaceDetector, image: Pixels) -> list[FoundFace]:
    """Faces of a photo (H, W, 3), largest first, small ones in large photos and turned ones included.

    The photo is searched in four turns. The detector reduces a large photo until small faces vanish, so such a photo is
    also searched tile by tile: as it is, and in the turns in which faces were seen that are sure to lie that way, or,
    where nothing else was seen at all, in every turn. Each face then has the turn in which it is seen best.
    """
    turned = [list(_whole_photo(detector, image, turns)) for turns in range(4)]
    tiled = max(image.shape[:2]) > TILE_PX
    as_it_is = turned[0] + (list(_tiles(detector, image, 0)) if tiled else [])
    others = []
    for turns in range(1, 4):
        others += turned[turns]
        if tiled and (not as_it_is or any(face.score >= SURE_SCORE for face in turned[turns])):
            others += _tiles(detector, image, turns)
    faces = []
    for candidate in _distinct(as_it_is + others):
        settled = _settled(detector, image, candidate)
        if settled.seen.score >= TURNED_SCORE or any(same_face(candidate.box, seen.box) for seen in as_it_is):
            faces.append(settled)
    # Seen anew in their own turn, two places can turn out to be one face.
    kept: list[FoundFace] = []
    for face in sorted(faces, key=lambda one: (one.doubt is None, one.seen.score), reverse=True):
        if not any(same_face(face.seen.box, other.seen.box) for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda one: -float(one.seen.box[2] * one.seen.box[3]))


def find_again(detector: FaceDetector, image: Pixels, points5: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Points (5, 2) of the face whose eyes and mouth lie where they are expected; None if it is seen no more.

    Args:
        detector: Finds the face.
        image: (H, W, 3), turned so that the face is nearly upright.
        points5: Where its points are expected.
    """
    box = _box(points5)
    near = [face for face in detector.detect(image) if same_face(_box(face.points5), box)]
    if not near:
        return None
    nearest = min(near, key=lambda face: float(np.abs(face.points5 - points5).max()))
    settled = _settled(detector, image, nearest)
    return (nearest if settled.doubt else settled.seen).points5


def same_face(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether two boxes (left, top, width, height) share half of the smaller one's area."""
    near = np.maximum(first[:2], second[:2])
    far = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.clip(far - near, 0, None)))
    return shared > 0.5 * float(min(np.prod(first[2:]), np.prod(second[2:])))


def _distinct(found: Sequence[Detection]) -> list[Detection]:
    kept: list[Detection] = []
    for face in sorted(found, key=lambda one: one.score, reverse=True):
        if not any(same_face(face.box, other.box) for other in kept):
            kept.append(face)
    return kept


def _settled(detector: FaceDetector, image: Pixels, face: Detection) -> FoundFace:
    try:
        return FoundFace(detector.settle(image, face))
    except UnsureError as error:
        return FoundFace(face, str(error))


def _whole_photo(detector: FaceDetector, image: Pixels, turns: int) -> Iterator[Detection]:
    view = np.ascontiguousarray(np.rot90(image, turns))
    for face in detector.detect(view):
        yield _turned_back(face, turns, view.shape)


def _tiles(detector: FaceDetector, image: Pixels, turns: int) -> Iterator[Detection]:
    """Faces in tiles of a photo, turned by quarters.

    Tiles overlap: a face of up to ``TILE_OVERLAP_PX`` lies whole in one of them, and a larger one is seen in the whole
    photo.
    """
    height, width = image.shape[:2]
    for top, left in product(_starts(height), _starts(width)):
        tile = image[top : top + TILE_PX, left : left + TILE_PX]
        view = np.ascontiguousarray(np.rot90(tile, turns))
        for seen in detector.detect(view):
            face = _turned_back(seen, turns, view.shape)
            if _whole(face.box, (left, top), tile.shape[1::-1], (width, height)):
                corner = np.array([left, top], dtype=np.float32)
                box = np.concatenate([face.box[:2] + corner, face.box[2:]])
                yield Detection(box, face.points5 + corner, face.score)


def _turned_back(face: Detection, turns: int, shape: Sequence[int]) -> Detection:
    """A face of the view (H, W, ...) that ``numpy.rot90`` made by ``turns``, as it lies on the picture itself."""
    left, top, width, height = face.box
    # Edges lie half a pixel outside the centres of pixels.
    corners = np.array([[left, top], [left + width, top + height]], dtype=np.float32) - 0.5
    corners = turned_points(corners, -turns, shape) + 0.5
    box = np.concatenate([corners.min(0), np.ptp(corners, axis=0)]).astype(np.float32)
    return Detection(box, turned_points(face.points5, -turns, shape), face.score)


def _starts(side: int) -> list[int]:
    """Where tiles begin: evenly, the last one at the end of the photo."""
    count = 1 + max(0, -(-(side - TILE_PX) // (TILE_PX - TILE_OVERLAP_PX)))
    return [round(k * (side - TILE_PX) / (count - 1)) for k in range(count)] if count > 1 else [0]


def _whole(box: NDArray[np.float32], corner: Sequence[int], size: Sequence[int], photo: Sequence[int]) -> bool:
    """Whether a box in a tile is cut by none of the tile's edges, those of the photo apart."""
    near = (box[:2] > 0) | (np.array(corner) == 0)
    far = (box[:2] + box[2:] < np.array(size)) | (np.array(corner) + np.array(size) == np.array(photo))
    return bool(near.all() and far.all())


def _box(points5: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([points5.min(0), np.ptp(points5, axis=0)])
