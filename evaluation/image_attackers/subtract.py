"""A perturbation that is the same for many photographs is found by averaging, and taken off."""

from __future__ import annotations

from torch import Tensor

from evaluation.image_attackers.base import Restoration, checked
from evaluation.photos import Knowledge
from faces.families import Recogniser


class SubtractAverage(Restoration):
    """Takes off the mean difference between protected and clean photographs of the attacker's own people."""

    name = "subtract-average"
    level = "K3"
    knowledge = "owns the protector with its key; takes off the mean perturbation, then uses the published recogniser"
    budget = "one average"
    control = "one additive mask for all photographs"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Average the perturbation; see :meth:`ImageAttacker.fit`."""
        checked(knowledge)
        self._recogniser = recogniser
        change = knowledge.train_protected.faces.images.float() - knowledge.train.faces.images.float()
        self.mean = change.mean(dim=0) / 255

    def restore(self, images: Tensor) -> Tensor:
        """Without the mean perturbation; see :meth:`Restoration.restore`."""
        return (images - self.mean).clamp(0, 1)
