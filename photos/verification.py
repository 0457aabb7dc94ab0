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
from faces.families import load_recogniser, matching_from, recogniser_names
from faces.protection import Declaration
from photos.errors import PhotoError
from photos.files import pillow
from photos.finding import find_again
from photos.frames import (
    Pixels,
    cut_frame,
    eye_distance,
    smallest_eye_distance,
    turned_points,
    upright_turns,
)

#: What is said with every result.
LIMITS = "Other recognisers, and these retrained on protected photos, may still succeed."

#: Sides of the frames in which faces are compared; each face takes the largest that it has the resolution for.
_SIDES = (224, 112, 56, 28)

#: Half the side of the part of a photo that is compressed and reduced, in eye distances.
_REACH = 3.5

_AS_SAVED, _JPEG, _HALF = "as saved", "JPEG 75", "half size"


@dataclass(frozen=True)
class Comparison:
    """A protected face beside its original: one recogniser, one condition.

    Attributes:
        recogniser: Name of the recogniser.
        condition: What happened to the photo after it was written.
        similarity: Cosine with the original.
        threshold: Cosine from which the recogniser counts as matching (:attr:`faces.families.Recogniser.matches_from`).
        found: Whether the detector found the face in that condition; otherwise its old place was looked at.
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
    """Recognisers that may judge a method: those that it did not use, as it declares.

    Raises:
        PhotoError: It does not state which it uses, or it used all of them.
        FacesError: There is no threshold for one of them.
    """
    if method.surrogates is None:
        raise PhotoError(
            f"{method.name} does not state which recognisers it uses, so nothing unseen can judge it; leave --verify "
            "out."
        )
    left = [name for name in recogniser_names() if name not in method.surrogates]
    if not left:
        raise PhotoError(
            f"{method.name} uses all of the recognisers {', '.join(recogniser_names())}, so nothing unseen can judge "
            "it; leave --verify out, or give it fewer."
        )
    for name in left:
        matching_from(name)
    return left


class Verifier:
    """Compares protected faces with their originals.

    Args:
        names: Names of the recognisers.
        detector: Finds the faces again.
        device: Where the recognisers compute.

    Raises:
        FacesError: There is no such recogniser, it has no threshold, or its weights are missing.
    """

    def __init__(self, names: Sequence[str], detector: FaceDetector, device: torch.device | None = None) -> None:
        self._device = torch.device("cpu") if device is None else device
        self._thresholds = {name: matching_from(name) for name in names}
        self._recognisers = [load_recogniser(name) for name in names]
        for recogniser in self._recognisers:
            recogniser.network.to(self._device)
        self._detector = detector

    def comparisons(
        self, original: Pixels, protected: Pixels, faces: Sequence[NDArray[np.float32]]
    ) -> list[tuple[Comparison, ...]]:
        """Every face beside its original, by each recogniser in each condition.

        Args:
            original: (H, W, 3), upright.
            protected: The same photo as it was written.
            faces: (5, 2) points of each face in the original.
        """
        seen = [list(self._views(original, protected, points)) for points in faces]
        flat = [view for views in seen for view in views]
        found: list[list[Comparison]] = [[] for _ in faces]
        for recogniser in self._recognisers:
            threshold = self._thresholds[recogniser.name]
            embedded = iter(self._embedded(recogniser.embed, flat))
            for face, views in enumerate(seen):
                # The first view is the original, the others are compared with it.
                first, *others = [next(embedded) for _ in views]
                found[face] += [
                    Comparison(recogniser.name, view.condition, float(first @ other), threshold, view.found)
                    for view, other in zip(views[1:], others, strict=True)
                ]
        return [tuple(one) for one in found]

    def _views(self, original: Pixels, protected: Pixels, points5: NDArray[np.float32]) -> Iterator[_View]:
        reach = _REACH * eye_distance(points5)
        low = np.clip(np.floor(points5.mean(0) - reach), 0, None).astype(int)
        high = np.ceil(points5.mean(0) + reach).astype(int)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        # Turned upright, because the detector is not made for faces that lie on their side.
        turns = upright_turns(points5)
        near = turned_points((points5 - low).astype(np.float32), turns, original[window].shape)
        before, after = (np.ascontiguousarray(np.rot90(photo[window], turns)) for photo in (original, protected))
        yield _View(before, near, "original", True)
        small = cv2.resize(after, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        factor = np.array([small.shape[1] / after.shape[1], small.shape[0] / after.shape[0]])
        for condition, part, expected in (
            (_AS_SAVED, after, near),
            (_JPEG, _compressed(after), near),
            (_HALF, np.asarray(small, np.uint8), ((near + 0.5) * factor - 0.5).astype(np.float32)),
        ):
            again = find_again(self._detector, part, expected)
            yield _View(part, expected if again is None else again, condition, again is not None)

    def _embedded(self, embed: _Embed, views: Sequence[_View]) -> list[torch.Tensor]:
        """Unit vectors of the views in their order; those with frames of one side go through the network together."""
        result: dict[int, torch.Tensor] = {}
        sides = [_side(view.points5) for view in views]
        for px in set(sides):
            rows = [row for row, side in enumerate(sides) if side == px]
            frames = [cut_frame(views[row].pixels, views[row].points5, px) for row in rows]
            images = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(self._device)
            points5 = torch.from_numpy(np.stack([frame.points5 for frame in frames])).to(self._device)
            with torch.no_grad():
                vectors = embed(images.permute(0, 3, 1, 2).float() / 255, points5)
            result.update(zip(rows, vectors, strict=True))
        return [result[row] for row in range(len(views))]


def _side(points5: NDArray[np.float32]) -> int:
    return next((px for px in _SIDES if eye_distance(points5) >= smallest_eye_distance(px)), _SIDES[-1])


def _compressed(pixels: Pixels) -> Pixels:
    """As many services store it: JPEG of quality 75, colour at half the resolution."""
    library, stream = pillow(), BytesIO()
    library.fromarray(pixels).save(stream, "JPEG", quality=75, subsampling=2)
    return np.array(library.open(stream))
