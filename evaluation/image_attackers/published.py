"""The recogniser as published."""

from __future__ import annotations

import torch
from torch import Tensor

from evaluation.image_attackers.base import ImageAttacker
from evaluation.labels import Level
from evaluation.photos import Knowledge, Photos
from faces.families import Recogniser


class AsPublished(ImageAttacker):
    """Looks with the recogniser as it is, at one photograph or at the average of several of the same scene.

    Args:
        frames: Captures in the average.
    """

    level: Level = "K0"
    budget = "none"

    def __init__(self, frames: int = 1) -> None:
        self.frames = frames
        if frames == 1:
            self.name = "as-published"
            self.knowledge = "uses the published recogniser as it is"
            self.control = "photographs that were not changed"
        else:
            self.name = f"video-average-{frames}"
            self.knowledge = f"averages {frames} frames of a still scene, then uses the published recogniser"
            self.control = "independent noise that hides a single frame and not the average"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Nothing to learn."""
        self._recogniser = recogniser

    @torch.no_grad()
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Embed the photographs as they are; see :meth:`ImageAttacker.embed`."""
        return self._recogniser.embed(photos.images(), photos.points5)
