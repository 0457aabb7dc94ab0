"""A recogniser that has seen nothing but the attacker's people, clean and protected ("parrot" training)."""

from __future__ import annotations

import torch
from torch import Tensor

from evaluation.frame_attackers.encoded import face_crop, mirrored, shaken
from evaluation.image_attackers.base import CHUNK, ImageAttacker, checked
from evaluation.photos import Knowledge, Photos
from evaluation.training import fit_classifier, fresh_classifier
from faces.families import Recogniser


class ScratchProtected(ImageAttacker):
    """A residual network trained from scratch with a margin softmax (parrot training: Newton, Sweeney and Malin 2005).

    Args:
        steps: Training steps.
        batch: Photographs in a step, half of them protected on average.
        size: Side of the crop in pixels.
        face_scale: Below 1 the crop shows more around the face (hair, jaw).
    """

    name = "scratch-protected"
    level = "K2"
    knowledge = "owns the protector; trains a recogniser from scratch on clean and protected people"
    control = "light pixelation"

    def __init__(self, *, steps: int, batch: int, size: int, face_scale: float = 0.8) -> None:
        self.steps, self.batch, self.size, self.face_scale = steps, batch, size, face_scale
        self.budget = f"{steps} steps of {batch} crops of {size} x {size} pixels"

    def _crop(self, images: Tensor, points5: Tensor) -> Tensor:
        crop = face_crop(images, points5, images.shape[-1], self.size, self.face_scale)
        return crop.contiguous(memory_format=torch.channels_last)

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Train network and head; the head is thrown away. See :meth:`ImageAttacker.fit`."""
        place, people = checked(knowledge)
        generator = torch.Generator().manual_seed(knowledge.seed)
        levels = torch.cat([knowledge.train.faces.images, knowledge.train_protected.faces.images])
        points, labels = knowledge.train.points5.repeat(2, 1, 1), place.repeat(2).to(levels.device)
        self.network, head = fresh_classifier(3, self.size, people, seed=knowledge.seed, device=levels.device)

        def crops(pick: Tensor, generator: torch.Generator) -> Tensor:
            shown = self._crop(levels[pick].float() / 255, shaken(points[pick], generator))
            return mirrored(shown, generator)

        fit_classifier(self.network, head, crops, labels, steps=self.steps, batch=self.batch, generator=generator)

    @torch.no_grad()
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Embed aligned crops; see :meth:`ImageAttacker.embed`."""
        parts = zip(photos.images().split(CHUNK), photos.points5.split(CHUNK), strict=True)
        return torch.cat([self.network.embed(self._crop(images, points)) for images, points in parts])
