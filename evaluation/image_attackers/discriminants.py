"""Closed-form attackers: what separates people, clean and protected together, in embeddings or in plain pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evaluation.discriminant import Discriminant, fit_discriminant
from evaluation.frame_attackers.encoded import face_crop
from evaluation.image_attackers.base import CHUNK, ImageAttacker, Validation, best, checked, thin
from evaluation.labels import Level
from evaluation.measures.metrics import Floats
from evaluation.photos import Knowledge, Photos
from faces.families import Recogniser

#: Shares of the mean within-person variance that are tried as ridge.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class CrossDomain:
    """Maps features of clean and of protected photographs into one space.

    Attributes:
        middle: (2, D) mean of the clean and of the protected training features; each side is seen about its own.
        linear: The map, or None to leave the features as they are.
    """

    middle: Floats
    linear: Discriminant | None

    def __call__(self, rows: Tensor, *, protected: bool) -> Tensor:
        """Unit vectors (N, D) of features (N, D)."""
        centred = rows.double().cpu().numpy() - self.middle[int(protected)]
        mapped = torch.from_numpy(centred if self.linear is None else self.linear(centred))
        return functional.normalize(mapped.to(rows.device, torch.float32), dim=1)


def fit_cross_domain(
    clean: Tensor, protected: Tensor, identity: Tensor, gallery: Tensor, probes: Tensor, validation: Validation
) -> CrossDomain:
    """Two-covariance discriminant over both sides; its ridge, or no map at all, is chosen on validation people.

    Args:
        clean: (N, D) features of clean training photographs.
        protected: (N, D) of the same, protected.
        identity: (N,) labels.
        gallery: Features of the validation gallery.
        probes: Features of the validation probes.
        validation: The validation people whose features these are.
    """
    first, second = clean.double().cpu().numpy(), protected.double().cpu().numpy()
    middle = np.stack([first.mean(axis=0), second.mean(axis=0)])
    rows, labels = np.concatenate([first - middle[0], second - middle[1]]), np.tile(identity.cpu().numpy(), 2)
    candidates = [CrossDomain(middle, None)]
    candidates += [CrossDomain(middle, fit_discriminant(rows, labels, ridge=ridge)) for ridge in RIDGES]
    return best(
        candidates,
        lambda each: validation.score(each(gallery, protected=False), each(probes, protected=True)),
    )


class LinearProtected(ImageAttacker):
    """Discriminant on the embeddings of another attacker.

    Args:
        inner: Attacker whose embeddings are mapped; it is fitted as well.
        name: Short name.
        knowledge: What the attacker knows, as a sentence.
        control: The positive control; see :class:`ImageAttacker`.
        most: Training photographs of each side, and validation probes, that are embedded.
    """

    def __init__(self, inner: ImageAttacker, *, name: str, level: Level, knowledge: str, control: str, most: int):
        self.name, self.level, self.knowledge, self.control = name, level, knowledge, control
        self.inner, self.most, self.frames = inner, most, inner.frames
        self.budget = f"closed form on at most {most} photographs of each side, {len(RIDGES) + 1} settings"

    def inapplicable(self, knowledge: Knowledge, recogniser: Recogniser) -> str | None:
        """As the attacker whose embeddings it maps."""
        return self.inner.inapplicable(knowledge, recogniser)

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Fit the inner attacker, then the map; see :meth:`ImageAttacker.fit`."""
        place, _ = checked(knowledge)
        self.inner.fit(recogniser, knowledge)
        pick = thin(knowledge.train, self.most)
        validation = Validation(knowledge, self.most)
        self._map = fit_cross_domain(
            self.inner.embed(knowledge.train.subset(pick), protected=False),
            self.inner.embed(knowledge.train_protected.subset(pick), protected=True),
            place[pick],
            self.inner.embed(validation.gallery, protected=False),
            self.inner.embed(validation.probes, protected=True),
            validation,
        )

    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Map the embeddings of the inner attacker; see :meth:`ImageAttacker.embed`."""
        return self._map(self.inner.embed(photos, protected=protected), protected=protected)


class PixelsDiscriminant(ImageAttacker):
    """Discriminant on aligned pixels: needs no recogniser, and seconds.

    Args:
        size: Side of the crop in pixels.
        most: Training photographs of each side, and validation probes, that are used.
        face_scale: Below 1 the crop shows more around the face (hair, jaw).
    """

    name = "pixels-discriminant"
    level = "K2"
    knowledge = "owns the protector; closed-form discriminant on aligned pixels of clean and protected people"
    control = "light pixelation"

    def __init__(self, *, size: int, most: int, face_scale: float = 0.8) -> None:
        self.size, self.most, self.face_scale = size, most, face_scale
        self.budget = (
            f"closed form on {size} x {size} pixels of at most {most} photographs of each side, "
            f"{len(RIDGES) + 1} settings"
        )

    def _rows(self, photos: Photos) -> Tensor:
        images, points = photos.images(), photos.points5
        crops = [
            face_crop(image, marks, images.shape[-1], self.size, self.face_scale)
            for image, marks in zip(images.split(CHUNK), points.split(CHUNK), strict=True)
        ]
        return torch.cat(crops).flatten(1)

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Fit the map; see :meth:`ImageAttacker.fit`."""
        place, _ = checked(knowledge)
        pick = thin(knowledge.train, self.most)
        validation = Validation(knowledge, self.most)
        self._map = fit_cross_domain(
            self._rows(knowledge.train.subset(pick)),
            self._rows(knowledge.train_protected.subset(pick)),
            place[pick],
            self._rows(validation.gallery),
            self._rows(validation.probes),
            validation,
        )

    def embed(self, photos: Photos, *, protected: bool) -> Tensor:
        """Map aligned pixels; see :meth:`ImageAttacker.embed`."""
        return self._map(self._rows(photos), protected=protected)
