"""Photographs with what an evaluation needs to know of them, and what an attacker is given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evaluation.errors import EvaluationError
from faces.protection import KnownBlur
from faces.samples import FaceSet


@dataclass(frozen=True)
class Photos:
    """One part of a split.

    Attributes:
        faces: Images (N, 3, S, S) uint8 with identities and captures.
        points5: (N, 5, 2) eye centres, nose tip and mouth corners, true or detected on the *clean* photo.
        gallery: (N,) bool, enrolled; the others are probes, from other captures of the same people.
    """

    faces: FaceSet
    points5: Tensor
    gallery: Tensor

    def __post_init__(self) -> None:
        count = len(self.faces)
        if tuple(self.points5.shape) != (count, 5, 2) or tuple(self.gallery.shape) != (count,):
            raise EvaluationError(
                f"{count} photographs need points5 of shape ({count}, 5, 2) and gallery of ({count},), got "
                f"{tuple(self.points5.shape)} and {tuple(self.gallery.shape)}."
            )

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def identity(self) -> Tensor:
        """(N,) int64."""
        return self.faces.identity

    @property
    def people(self) -> int:
        """Number of identities."""
        return len(torch.unique(self.faces.identity))

    def images(self) -> Tensor:
        """(N, 3, S, S) float32 sRGB in 0..1."""
        return self.faces.images.float() / 255.0

    def subset(self, pick: Tensor) -> Photos:
        """The photographs at these positions (or where a boolean mask is true)."""
        return Photos(self.faces.subset(pick), self.points5[pick], self.gallery[pick])

    def to(self, device: torch.device | str) -> Photos:
        """The same photographs on another device."""
        faces = replace(
            self.faces,
            images=self.faces.images.to(device),
            identity=self.faces.identity.to(device),
            capture=self.faces.capture.to(device),
            landmarks=self.faces.landmarks.to(device),
            regions=None if self.faces.regions is None else self.faces.regions.to(device),
        )
        return Photos(faces, self.points5.to(device), self.gallery.to(device))

    def with_images(self, images: Tensor) -> Photos:
        """The same people in other pictures, (N, 3, S, S) float in 0..1, for instance protected ones."""
        levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        return replace(self, faces=replace(self.faces, images=levels, regions=None))


@dataclass(frozen=True)
class Knowledge:
    """What an attacker is given. Nothing here shows a person of the test or of the calibration.

    Attributes:
        train: People of the attacker's own, clean.
        train_protected: The same photographs, protected, in the same order: the attacker owns the tool.
        validation: Further people of the attacker's own, clean, for choosing among settings.
        validation_protected: The validation photographs, protected.
        blur: The optics of the protector, or None if it has none.
        seed: Seed for all random numbers that the attacker draws.
    """

    train: Photos
    train_protected: Photos
    validation: Photos
    validation_protected: Photos
    blur: KnownBlur | None
    seed: int
