"""Methods with one mask for each person: made once from a few photos, then added to any other in no time."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from protectors.base import TOP_LEVEL, PhotoProtector
from protectors.canvas import Canvas
from protectors.errors import ProtectorError


class PersonProtector(PhotoProtector):
    """A protector that adds the mask of the person shown. A subclass implements :meth:`masks`.

    Masks belong to the frame, so photos must be framed as those shown to :meth:`fit` were, and have their size; unless
    :meth:`pattern` places them otherwise.

    Args:
        surrogates: Recognisers that are used, as for :class:`PhotoProtector`.
        levels: L-infinity budget in whole levels.
        settings: Settings that change the result, as for :class:`PhotoProtector`.

    Attributes:
        mask_px: R where all masks have one size, or None where they have the size of the photos.
        variants: (V,) where a person has V masks of which :meth:`pattern` chooses; () where it has one.
    """

    mask_px: int | None = None
    variants: tuple[int, ...] = ()

    def __init__(self, surrogates: tuple[str, ...], /, *, levels: int, **settings: float | str | None) -> None:
        super().__init__(surrogates, **settings)
        self._levels = levels
        self._people = torch.zeros(0, dtype=torch.int64)
        self._masks = torch.zeros(0, 3, 1, 1)

    @abstractmethod
    def masks(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Masks (K, *variants, 3, R, R) of the K people, in rising order of their numbers; checked arguments."""

    def usable(self, masks: Tensor) -> Tensor:
        """Which masks (M, 3, R, R) can change a photo, (M,) bool; here, those that move some value by half a level."""
        return masks.flatten(1).abs().amax(1) * TOP_LEVEL > 0.5

    def pattern(self, images: Tensor, points5: Tensor, masks: Tensor) -> Tensor:
        """What is added to photos, before it is cut to the budget; here, the mask as it is.

        Args:
            images: (N, 3, S, S).
            points5: (N, 5, 2).
            masks: (N, *variants, 3, R, R) of the people shown.

        Raises:
            ProtectorError: Photos are of another size than those shown to :meth:`fit`.
        """
        if images.shape[-1] != masks.shape[-1]:
            raise ProtectorError(
                f"{self.about.name} was shown photos of {masks.shape[-1]} pixels and cannot protect photos of "
                f"{images.shape[-1]}; resize them, or enrol with photos of that size."
            )
        return masks

    def prepare(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:
        """Make the masks of these people; those of others are forgotten.

        Raises:
            ProtectorError: There is no photo, or a mask was found that changes nothing.
        """
        if len(images) == 0:
            raise ProtectorError(f"{self.about.name} needs at least one photo of each person, got none.")
        people, masks = torch.unique(identity), self.masks(images, points5, identity, generator).detach()
        idle = people[~self._each_usable(masks)].tolist()
        if idle:
            raise ProtectorError(
                f"{self.about.name} found a mask that changes nothing for {len(idle)} of {len(people)} people; show "
                "other photos of them, or more."
            )
        self._people, self._masks = people, masks

    def _each_usable(self, masks: Tensor) -> Tensor:
        """Whether all variants of a mask (K, *variants, 3, R, R) can change a photo, (K,) bool."""
        each = self.usable(masks.reshape(-1, *masks.shape[-3:]))
        return each.reshape(len(masks), math.prod(self.variants)).all(1)

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Photos with the mask of the person; see :meth:`PhotoProtector.change`.

        Raises:
            ProtectorError: A person was not shown before, or the masks do not fit the photos.
        """
        strangers = sorted(set(identity.tolist()) - set(self._people.tolist()))
        if strangers:
            raise ProtectorError(
                f"{self.about.name} must see a person before it protects them: it was not shown "
                f"{', '.join(map(str, strangers[:5]))}; call fit with photos of them, or enrol them."
            )
        people, masks = self._people.to(identity.device), self._masks.to(images.device)
        masks = masks[torch.searchsorted(people, identity)]
        pattern = self.pattern(images.detach(), points5, masks)
        return images + Canvas(images, points5, levels=self._levels).project(pattern)

    def enrolment(self) -> dict[str, Tensor]:
        """What must be kept to protect these people again: ``people`` (K,) int64, ``masks`` (K, *variants, 3, R, R)."""
        return {"people": self._people.clone(), "masks": self._masks.clone()}

    def enrol(self, kept: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`enrolment` gave, instead of :meth:`fit`.

        Raises:
            ProtectorError: Something else was given, or masks that would leave every photo as it is.
        """
        people, masks = kept.get("people"), kept.get("masks")
        if (
            people is None or masks is None or people.dtype != torch.int64 or masks.dtype != torch.float32
            or masks.shape != (len(people), *self.variants, 3, *masks.shape[-1:] * 2)
            or not bool(torch.isfinite(masks).all()) or not bool((people[1:] > people[:-1]).all())
        ):  # fmt: skip
            raise ProtectorError(f"this is no enrolment of {self.about.name}; enrol the person again.")
        if self.mask_px is not None and len(masks) and masks.shape[-1] != self.mask_px:
            raise ProtectorError(
                f"{self.about.name} takes masks of {self.mask_px} pixels, and this enrolment has one of "
                f"{masks.shape[-1]}; enrol the person again."
            )
        if not bool(self._each_usable(masks).all()):
            raise ProtectorError(
                f"this enrolment of {self.about.name} holds a mask that would leave every photo as it is; enrol the "
                "person again."
            )
        self._people, self._masks = people.clone(), masks.clone()


def whole_people(identity: Tensor, photos: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Photos in parts of whole people: rows (n,), and (n,) whose each is, from 0 up in each part.

    Args:
        identity: (N,) int64; people come in rising order.
        photos: most photos of a part, unless a single person has more.
    """
    people, counts = torch.unique(identity, return_counts=True)
    for part in people.split(max(1, photos // int(counts.max()))):
        rows = torch.nonzero(torch.isin(identity, part))[:, 0]
        yield rows, torch.searchsorted(part, identity[rows])


def person_mean(values: Tensor, people: Tensor) -> Tensor:
    """Means (K, ...) of what belongs to the photos (N, ...) of each person, ``people`` (N,) numbering them from 0."""
    counts = torch.bincount(people)
    total = values.new_zeros(len(counts), *values.shape[1:]).index_add_(0, people, values)
    return total / counts.reshape(-1, *[1] * (values.ndim - 1))


def covered(images: Tensor, points5: Tensor, people: Tensor, region: str) -> Tensor:
    """Where in the frame (K, 3, S, S) a person's mask may be, 1 or 0: the region of any of the photos."""
    canvas = Canvas(torch.zeros_like(images), points5, region=region)
    return (person_mean(canvas.add(torch.ones_like(canvas.zeros())), people) > 0).to(images)
