"""Faces found again on the protected photograph by a detector of the attacker's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.image_attackers.base import ImageAttacker
from evaluation.photos import Knowledge, Photos
from faces.detection import Detection
from faces.families import Recogniser
from faces.tiny_detector import TinyFaceDetector


class Detector(Protocol):
    """Anything that finds faces with five points."""

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an image (H, W, 3) RGB uint8."""
        ...


class Realign(ImageAttacker):
    """Aligns by a second detector, on both sides; falls back to the given points where it finds no face there.

    Args:
        make: Makes the detector, when the attacker is fitted.

    Attributes:
        acquired: (N,) bool, whether the detector found the faces of the latest :meth:`embed`. ISO/IEC 19795-1 counts
            the others as failures to acquire; they are not left out.
    """

    name = "realign"
    level = "K1"
    knowledge = "finds and aligns the face again with another detector, then uses the published recogniser"
    budget = "one detection for each photograph"
    control = "photographs that were not changed, with given points that are somewhat off"

    acquired: Tensor

    def __init__(self, make: Callable[[], Detector] = TinyFaceDetector) -> None:
        self._make = make

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Load the detector."""
        self._recogniser, self._detector = recogniser, self._make()

    @torch.no_grad()
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Detect, align and embed; see :meth:`ImageAttacker.embed`."""
        given, pictures = photos.points5, photos.faces.images.permute(0, 2, 3, 1).cpu().numpy()
        found = [self._points(*pair) for pair in zip(pictures, given, strict=True)]
        self.acquired = torch.tensor([points is not None for points in found], dtype=torch.bool, device=given.device)
        points5 = [old if points is None else points for points, old in zip(found, given, strict=True)]
        return self._recogniser.embed(photos.images(), torch.stack(points5) if points5 else given)

    def _points(self, picture: NDArray[np.uint8], given: Tensor) -> Tensor | None:
        """Points (5, 2) of the face that is nearest to the given one, unless it is more than an eye distance away."""
        faces = self._detector.detect(np.ascontiguousarray(picture))
        if not faces:
            return None
        marks = torch.from_numpy(np.stack([face.points5 for face in faces])).to(given.device, given.dtype)
        away = (marks - given).norm(dim=-1).mean(dim=-1)
        nearest = int(away.argmin())
        return marks[nearest] if away[nearest] < (given[1] - given[0]).norm() else None
