"""How much a protected photo still resembles its original, in the eyes of recognisers that the method did not use.

The question is the easiest one for an attacker: the same photo, once as it was and once protected. Who cannot match
these two may still match other photos of the person, retrain on protected ones, or use another recogniser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from faces.detection import FaceDetector
from faces.families import load_recogniser, recogniser_names
from faces.protection import Declaration
from photos.errors import PhotoError
from photos.files import pillow
from photos.frames import Pixels, cut_frame, eye_distance, same_face, smallest_eye_distance

#: Cosines from which a recogniser counts as matching: docs/decisions/0011-verify-thresholds.md.
THRESHOLDS = {"sface": 0.29, "dlib-resnet": 0.88, "faceres": 0.56}

#: What is said with every result.
LIMITS = "Other recognisers, and these retrained on protected photos, may still succeed."

#: Sides of the frames in which faces are compared; each face takes the largest that it has the resolution for.
_SIDES = (224, 112, 56, 28)

#: Half the side of the part of a photo that is compressed and reduced, in eye distances.
_REACH = 3.5

_AS_SAVED, _JPEG, _HALF = "as saved", "JPEG 75", "half size"


@dataclass(frozen=True)
class Check:
    """One face, one recogniser, one condition.

    Attributes:
        recogniser: its name.
        condition: what happened to the photo after it was written.
        similarity: cosine with the original.
        threshold: see :data:`THRESHOLDS`.
        found: whether the detector found the face in that condition; otherwise its old place was looked at.
    """

    recogniser: str
    condition: str
    similarity: float
    threshold: float
    found: bool

    @property
    def matched(self) -> bool:
        """Whether the face was recognised."""
        return self.similarity >= self.threshold


@dataclass(frozen=True)
class _View:
    pixels: Pixels
    points5: NDArray[np.float32]
    condition: str
    found: bool


_Embed = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def judges(method: Declaration) -> list[str]:
    """Recognisers that a method did not use, as it declares.

    Raises:
        PhotoError: It does not state which it uses.
    """
    used = method.surrogates
    if used is None:
        raise PhotoError(f"{method.name} does not state which recognisers it uses, so nothing unseen can judge it.")
    return [name for name in recogniser_names() if name not in used]


class Verifier:
    """Compares protected faces with their originals.

    Args:
        names: recognisers.
        detector: finds the faces again.
    """

    def __init__(self, names: Sequence[str], detector: FaceDetector) -> None:
        self._recognisers = [load_recogniser(name) for name in names]
        self._detector = detector

    def checks(self, original: Pixels, protected: Pixels, faces: Sequence[NDArray[np.float32]]) -> list[list[Check]]:
        """Checks of every face.

        Args:
            original: (H, W, 3), upright.
            protected: the same photo as it was written.
            faces: (5, 2) points of each face in the original.
        """
        seen = [list(self._views(original, protected, points)) for points in faces]
        flat = [view for views in seen for view in views]
        found: list[list[Check]] = [[] for _ in faces]
        for recogniser in self._recognisers:
            embedded = iter(self._embedded(recogniser.embed, flat))
            for face, views in enumerate(seen):
                # The first view is the original, the others are compared with it.
                first, *others = [next(embedded) for _ in views]
                found[face] += [
                    Check(
                        recogniser.name, view.condition, float(first @ other), THRESHOLDS[recogniser.name], view.found
                    )
                    for view, other in zip(views[1:], others, strict=True)
                ]
        return found

    def _views(self, original: Pixels, protected: Pixels, points5: NDArray[np.float32]) -> Iterator[_View]:
        reach = _REACH * eye_distance(points5)
        low = np.clip(np.floor(points5.mean(0) - reach), 0, None).astype(int)
        high = np.ceil(points5.mean(0) + reach).astype(int)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        near = (points5 - low).astype(np.float32)
        before, after = (np.ascontiguousarray(photo[window]) for photo in (original, protected))
        yield _View(before, near, "original", True)
        small = cv2.resize(after, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        factor = np.array([small.shape[1] / after.shape[1], small.shape[0] / after.shape[0]])
        for condition, part, expected in (
            (_AS_SAVED, after, near),
            (_JPEG, _compressed(after), near),
            (_HALF, np.asarray(small, np.uint8), ((near + 0.5) * factor - 0.5).astype(np.float32)),
        ):
            again = self._found(part, expected)
            yield _View(part, expected if again is None else again, condition, again is not None)

    def _found(self, part: Pixels, points5: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Points of the face whose eyes and mouth lie where they are expected."""
        box = _box(points5)
        near = [face for face in self._detector.detect(part) if same_face(_box(face.points5), box)]
        return min(near, key=lambda face: float(np.abs(face.points5 - points5).max())).points5 if near else None

    def _embedded(self, embed: _Embed, views: Sequence[_View]) -> list[torch.Tensor]:
        """Unit vectors of the views in their order; those with frames of one side go through the network together."""
        result: dict[int, torch.Tensor] = {}
        sides = [_side(view.points5) for view in views]
        for px in set(sides):
            rows = [row for row, side in enumerate(sides) if side == px]
            frames = [cut_frame(views[row].pixels, views[row].points5, px) for row in rows]
            images = torch.from_numpy(np.stack([frame.pixels for frame in frames])).permute(0, 3, 1, 2).float() / 255
            with torch.no_grad():
                vectors = embed(images, torch.from_numpy(np.stack([frame.points5 for frame in frames])))
            result.update(zip(rows, vectors, strict=True))
        return [result[row] for row in range(len(views))]


def _side(points5: NDArray[np.float32]) -> int:
    return next((px for px in _SIDES if eye_distance(points5) >= smallest_eye_distance(px)), _SIDES[-1])


def _box(points5: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([points5.min(0), np.ptp(points5, axis=0)])


def _compressed(pixels: Pixels) -> Pixels:
    """As many services store it: JPEG of quality 75, colour at half the resolution."""
    library, stream = pillow(), BytesIO()
    library.fromarray(pixels).save(stream, "JPEG", quality=75, subsampling=2)
    return np.array(library.open(stream))
