"""Test-time augmentation: several views of one face, one embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.image_attackers.base import ImageAttacker
from evaluation.photos import Knowledge, Photos
from faces.families import Recogniser

#: Whether the view is mirrored, and how much more of the surroundings it shows than the standard crop.
VIEWS = ((False, 1.0), (True, 1.0), (False, 1.06), (True, 0.94))

# In a mirrored photograph the eyes and the corners of the mouth change places.
_MIRRORED = [1, 0, 2, 4, 3]


class FlipTta(ImageAttacker):
    """Mean of unit embeddings over mirror images and slightly smaller and larger crops, on both sides."""

    name = "flip-tta"
    level = "K1"
    knowledge = "averages the published recogniser over mirrored, narrower and wider crops"
    budget = f"{len(VIEWS)} views"
    control = "photographs that were not changed"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Nothing to learn."""
        self._recogniser = recogniser

    @torch.no_grad()
    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Embed all views; see :meth:`ImageAttacker.embed`."""
        images, points = photos.images(), photos.points5
        across = images.shape[-1] - 1
        flipped = torch.stack([across - points[:, _MIRRORED, 0], points[:, _MIRRORED, 1]], dim=-1)
        rows = []
        for mirror, width in VIEWS:
            marks = flipped if mirror else points
            centre = marks.mean(dim=1, keepdim=True)
            rows.append(
                self._recogniser.embed(images.flip(-1) if mirror else images, centre + width * (marks - centre))
            )
        return functional.normalize(torch.stack(rows).sum(0), dim=1)
