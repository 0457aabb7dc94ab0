"""Face detection with five points: YuNet through OpenCV."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faces import weights
from faces.errors import FacesError

#: Longest side in pixels that the detector is given: beyond it time grows and large faces leave its trained range
#: (about 10 to 300 pixels, says its publisher).
_LONGEST_SIDE = 1024
#: Side of the second, coarser pass over an image without a hit: finds faces that fill a large photo.
_COARSE_SIDE = 320
#: Score from which a face that was seen upright is taken for upright. Of 15 faces in 24 turns each, the right turn had
#: .93 to .96, and every turn that was off by more than 60 degrees at most .91, whatever the detector made of it.
SURE_SCORE = 0.93
#: By how much a face that lies turned must be seen better in its own turn than in any other.
SURE_MARGIN = 0.02
#: Turns in degrees at which a face is looked at to find out which way up it is.
_TURNS_DEG = tuple(range(0, 360, 45))
#: A turn that is this far away is another one.
_OTHER_TURN_DEG = 60.0
#: Side of the window, twice the face, in which the points of every face are found again. With a face of 250 pixels
#: the points of a photo and of its mirror image differ least (.045 of the eye distance; .14 at 112 pixels).
_WINDOW_SIDE = 500


@dataclass(frozen=True)
class Detection:
    """One face.

    Attributes:
        box: (4,) left, top, width, height in pixels of the given image.
        points5: (5, 2) eye centres, nose tip and mouth corners (x, y), image left first, pixel centres at integers.
        score: confidence, 0..1.
    """

    box: NDArray[np.float32]
    points5: NDArray[np.float32]
    score: float

    @property
    def roll_deg(self) -> float:
        """By how much the head is turned clockwise as the image is seen, -180..180 degrees: 0 is upright."""
        # From the middle of the mouth to that of the eyes, which also a face in profile shows apart.
        x, y = self.points5[:2].mean(0) - self.points5[3:].mean(0)
        return math.degrees(math.atan2(float(x), -float(y)))


class UnsureError(FacesError):
    """A face of which cannot be told which way up it is."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) RGB uint8, turned upright as its EXIF orientation says.

    Raises:
        FacesError: if the file is missing or no readable image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FacesError(f"Cannot read {path} ({error.strerror}).") from error
    return decode_image(data, path)


def decode_image(content: bytes, path: Path) -> NDArray[np.uint8]:
    """The content of an image file as :func:`read_image` reads it; ``path`` is what it is called in errors.

    Raises:
        FacesError: if it is no readable image.
    """
    data = np.frombuffer(content, dtype=np.uint8)
    # IMREAD_COLOR applies the EXIF orientation; imdecode rather than imread for paths outside the code page.
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise FacesError(f"{path} is not a readable image ({error.err}); convert it to JPEG or PNG.") from error
    if image is None:
        raise FacesError(f"{path} is not a readable image ({data.size} bytes); convert it to JPEG or PNG.")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def turned(first: Detection, second: Detection) -> float:
    """By how many degrees one face is turned against another, 0..180."""
    return abs((first.roll_deg - second.roll_deg + 180) % 360 - 180)


class FaceDetector:
    """YuNet (Wu et al., Machine Intelligence Research 2023) as shipped by the OpenCV Zoo, int8 block-quantised.

    Every face is detected twice: in the image, and again in a window in which it has the size that suits the network.
    The points stay coarse: expect .05 to .2 of the eye distance.

    Args:
        model: the detector's ONNX file; default: the cache, see ``optishield weights fetch yunet``.
        upscale: factor by which images are enlarged before the first pass, so that small faces are found.
        threshold: lowest score that counts as a face.

    Raises:
        FacesError: if the weights are missing or damaged, or an argument is out of range.
    """

    def __init__(self, model: Path | None = None, *, upscale: float = 2.0, threshold: float = 0.7) -> None:
        if upscale <= 0 or not 0 < threshold < 1:
            raise FacesError(f"The detector needs upscale > 0 and 0 < threshold < 1, got {upscale} and {threshold}.")
        path = weights.verify("yunet") if model is None else model
        self._upscale = upscale
        level = cv2.utils.logging.getLogLevel()
        # OpenCV 5 warns on every load that it ignores the choice of a device.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), threshold)
        except cv2.error as error:
            raise FacesError(f"OpenCV cannot load the detector {path} ({error.err}).") from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an image (H, W, 3) RGB uint8, largest first; an empty list if there is none.

        Raises:
            FacesError: if the image has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 1:
            raise FacesError(f"The detector takes (H, W, 3) uint8 RGB images, got {image.shape} of {image.dtype}.")
        longest = max(image.shape[:2])
        fine = min(self._upscale, _LONGEST_SIDE / longest)
        found = self._at_scale(image, fine)
        if not found and fine * longest > 2 * _COARSE_SIDE:
            found = self._at_scale(image, _COARSE_SIDE / longest)
        found = [self._refine(image, face) for face in found]
        return sorted(found, key=lambda face: -float(face.box[2] * face.box[3]))

    def settle(self, image: NDArray[np.uint8], face: Detection) -> Detection:
        """The same face with points that are right however the head is turned.

        The detector also finds faces that lie on their side or upside down, but puts eyes and mouth where an upright
        face would have them. So the face is looked at in several turns, and the one that is seen best counts.

        Args:
            image: (H, W, 3) RGB uint8.
            face: A detection in this image.

        Raises:
            UnsureError: It is seen as well in another turn.
        """
        if face.score >= SURE_SCORE:
            return face
        seen = [face] + [one for turn in _TURNS_DEG if (one := self.look(image, face, turn)) is not None]
        best = max(seen, key=lambda one: one.score)
        # Once more as it is turned, since the turns are coarse.
        again = self.look(image, best, best.roll_deg)
        if again is not None and again.score >= best.score - SURE_MARGIN and turned(again, best) < _OTHER_TURN_DEG:
            best = again
        others = [one.score for one in seen if turned(one, best) > _OTHER_TURN_DEG]
        # Nearly all faces in photographs are upright, so only the others must stand out.
        if abs(best.roll_deg) > _OTHER_TURN_DEG and others and best.score < max(others) + SURE_MARGIN:
            raise UnsureError(
                f"which way up the face at ({best.points5[:, 0].mean():.0f}, {best.points5[:, 1].mean():.0f}) is "
                f"cannot be told (scores {best.score:.2f} and {max(others):.2f}); turn the photo upright"
            )
        return best

    def look(self, image: NDArray[np.uint8], face: Detection, turn_deg: float) -> Detection | None:
        """A face as it is seen in a window around it, turned counter-clockwise; None if none is seen there.

        Args:
            image: (H, W, 3) RGB uint8.
            face: Where to look, and how large the face is.
            turn_deg: Turn of the window; a head turned clockwise by so much is upright in it.
        """
        side = 2 * float(max(face.box[2], face.box[3]))
        centre = (face.box[:2] + face.box[2:] / 2).astype(np.float64) - 0.5
        # The surroundings first, reduced by area where they are large: turning alone would alias.
        low = np.clip(np.floor(centre - 0.75 * side), 0, None).astype(int)
        high = np.ceil(centre + 0.75 * side).astype(int) + 1
        part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
        scale = _WINDOW_SIDE / side
        if scale < 1:
            size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
            factor = np.array(size) / part.shape[1::-1]
            part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
        else:
            factor = np.ones(2)
        # Pixel of the window = matrix @ pixel of the image + shift.
        turn, rest = math.radians(turn_deg), max(1.0, scale)
        turning = rest * np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        middle = (_WINDOW_SIDE - 1) / 2
        inside = (centre - low + 0.5) * factor - 0.5
        window = cv2.warpAffine(
            part, np.hstack([turning, (middle - turning @ inside)[:, None]]), (_WINDOW_SIDE, _WINDOW_SIDE)
        )
        matrix = turning * factor
        shift = middle - matrix @ centre
        found = self._at_scale(np.asarray(window, np.uint8), 1.0)
        near = [one for one in found if bool((np.abs(one.box[:2] + one.box[2:] / 2 - middle) < one.box[2:] / 2).all())]
        if not near:
            return None
        best = max(near, key=lambda one: one.score)
        back = np.linalg.inv(matrix)
        points5 = ((best.points5 - shift) @ back.T).astype(np.float32)
        corner = (best.box[:2] + best.box[2:] / 2 - 0.5 - shift) @ back.T + 0.5 - best.box[2:] / scale / 2
        box = np.concatenate([corner, best.box[2:] / scale]).astype(np.float32)
        return Detection(box, points5, best.score)

    def _refine(self, image: NDArray[np.uint8], face: Detection) -> Detection:
        """The same face as seen in a window around it; the first detection where the window shows none."""
        side = 2 * float(max(face.box[2], face.box[3]))
        left, top = (int(v) for v in np.floor(face.box[:2] + face.box[2:] / 2 - side / 2))
        right, bottom = left + math.ceil(side), top + math.ceil(side)
        left, top = max(left, 0), max(top, 0)
        window = image[top:bottom, left:right]
        corner = np.array([left, top], dtype=np.float32)
        centre = face.box[:2] + face.box[2:] / 2 - corner
        again = [
            other
            for other in self._at_scale(window, _WINDOW_SIDE / side)
            if bool((np.abs(other.box[:2] + other.box[2:] / 2 - centre) < face.box[2:] / 4).all())
        ]
        if not again:
            return face
        best = max(again, key=lambda other: other.score)
        box = best.box.copy()
        box[:2] += corner
        return Detection(box=box, points5=best.points5 + corner, score=max(best.score, face.score))

    def _at_scale(self, image: NDArray[np.uint8], scale: float) -> list[Detection]:
        height, width = (max(1, math.ceil(side * scale)) for side in image.shape[:2])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image[..., ::-1], (width, height), interpolation=method)
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(resized)
        if rows is None:
            return []
        # Edges of the two frames coincide, hence the half pixel for points; boxes are edges and lengths.
        factor = np.array([image.shape[1] / width, image.shape[0] / height], dtype=np.float32)
        return [
            Detection(
                box=(row[:4] * np.tile(factor, 2)).astype(np.float32),
                points5=((row[4:14].reshape(5, 2) + 0.5) * factor - 0.5).astype(np.float32),
                score=float(row[14]),
            )
            for row in np.asarray(rows, dtype=np.float32)
            if np.isfinite(row).all()
        ]
