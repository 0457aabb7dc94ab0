"""Methods with one mask for each person: made once from a few photos, then added to any other in no time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from protectors.base import PhotoProtector
from protectors.canvas import Canvas
from protectors.errors import ProtectorError


class PersonProtector(PhotoProtector):
    """A protector that adds the mask of the person shown. A subclass implements :meth:`masks`.

    Masks belong to the frame, so photos must be framed as those shown to :meth:`fit` were, and have their size.

    Args:
        levels: L-infinity budget in whole levels.
        settings: see :class:`PhotoProtector`.
    """

    def __init__(self, *, levels: int, **settings: float | str | None) -> None:
        super().__init__(**settings)
        self._levels = levels
        self._people = torch.zeros(0, dtype=torch.int64)
        self._masks = torch.zeros(0, 3, 1, 1)

    @abstractmethod
    def masks(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """One mask (K, 3, S, S) of each of the K people, in rising order of their numbers; checked arguments."""

    def prepare(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:
        """Make the masks of these people; those of others are forgotten.

        Raises:
            ProtectorError: There is no photo.
        """
        if len(images) == 0:
            raise ProtectorError(f"{self.about.name} needs at least one photo of each person, got none.")
        self._people = torch.unique(identity)
        self._masks = self.masks(images, points5, identity, generator).detach()

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Photos with the mask of the person; see :meth:`PhotoProtector.change`.

        Raises:
            ProtectorError: A person was not shown before, or photos are of another size than those shown.
        """
        strangers = sorted(set(identity.tolist()) - set(self._people.tolist()))
        if strangers:
            raise ProtectorError(
                f"{self.about.name} must see a person before it protects them: it was not shown "
                f"{', '.join(map(str, strangers[:5]))}; call fit with photos of them, or enrol them."
            )
        if images.shape[-1] != self._masks.shape[-1]:
            raise ProtectorError(
                f"{self.about.name} was shown photos of {self._masks.shape[-1]} pixels and cannot protect photos of "
                f"{images.shape[-1]}; resize them, or enrol with photos of that size."
            )
        masks = self._masks[torch.searchsorted(self._people, identity)]
        return images + Canvas(images, points5, levels=self._levels).project(masks)

    def enrolment(self) -> dict[str, Tensor]:
        """What must be kept to protect these people again: ``people`` (K,) int64 and ``masks`` (K, 3, S, S)."""
        return {"people": self._people.clone(), "masks": self._masks.clone()}

    def enrol(self, kept: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`enrolment` gave, instead of :meth:`fit`.

        Raises:
            ProtectorError: Something else was given.
        """
        people, masks = kept.get("people"), kept.get("masks")
        if (
            people is None or masks is None or people.dtype != torch.int64 or masks.dtype != torch.float32
            or masks.ndim != 4 or masks.shape[:2] != (len(people), 3) or masks.shape[2] != masks.shape[3]
            or not bool(torch.isfinite(masks).all()) or not bool((people[1:] > people[:-1]).all())
        ):  # fmt: skip
            raise ProtectorError(f"this is no enrolment of {self.about.name}; enrol the person again.")
        self._people, self._masks = people.clone(), masks.clone()
