"""Simple operations that wash out small perturbations; the best one is chosen on people of the attacker's own.

JPEG, grey and bit depth undo many poisons (Liu, Zhao and Larson, "Image Shortcut Squeezing", ICML 2023); the others are
the customary first attempts against perturbations (Xu, Evans and Qi, "Feature Squeezing", NDSS 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from torch import Tensor

from evaluation.image_attackers import pixels
from evaluation.image_attackers.base import Restoration, Validation, best, checked
from evaluation.photos import Knowledge
from faces.families import Recogniser


@dataclass(frozen=True)
class Transform:
    """A named operation on photographs (N, 3, S, S) in 0..1."""

    name: str
    apply: Callable[[Tensor], Tensor]


def _jpeg(images: Tensor, quality: int) -> Tensor:
    return pixels.jpeg(images, [quality] * len(images))


def _bits(images: Tensor, bits: int) -> Tensor:
    return (images * (2**bits - 1)).round() / (2**bits - 1)


def _grey(images: Tensor) -> Tensor:
    luma = images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (images * luma).sum(dim=1, keepdim=True).expand_as(images)


def _median(images: Tensor) -> Tensor:
    return pixels.each(images, lambda _, picture: np.asarray(cv2.medianBlur(picture, 3), dtype=np.uint8))


def _non_local_means(images: Tensor) -> Tensor:
    def change(_: int, picture: pixels.Picture) -> pixels.Picture:
        return np.asarray(cv2.fastNlMeansDenoisingColored(picture, None, 5, 5, 5, 15), dtype=np.uint8)

    return pixels.each(images, change)


TRANSFORMS: tuple[Transform, ...] = (
    Transform("none", lambda images: images),
    *(Transform(f"jpeg-{quality}", partial(_jpeg, quality=quality)) for quality in (90, 75, 50, 30, 10)),
    *(Transform(f"resize-{share}", partial(pixels.resample, share=share)) for share in (0.75, 0.5, 0.25)),
    *(Transform(f"blur-{sd}", partial(pixels.gaussian_blur, sd_px=sd)) for sd in (0.7, 1.5)),
    *(Transform(f"bits-{bits}", partial(_bits, bits=bits)) for bits in (5, 4, 3)),
    Transform("grey", _grey),
    Transform("median-3", _median),
    Transform("non-local-means", _non_local_means),
)


class Preprocess(Restoration):
    """One operation of :data:`TRANSFORMS` on protected photographs, and on clean ones too if that helps.

    Both choices are made once, on validation people: first the operation, applied to protected probes only; then
    whether the clean gallery goes through it as well.

    Args:
        most: Validation probes that are tried.

    Attributes:
        chosen: The operation that was chosen; it is set by :meth:`fit`.
        both_sides: Whether clean photographs go through the operation, too.
    """

    name = "preprocess"
    level = "K1"
    knowledge = "tries compression, rescaling, blur, bit depth, grey and denoising on other people; keeps the best"
    control = "high-frequency noise that smoothing removes"

    def __init__(self, most: int) -> None:
        self.most = most
        self.budget = f"{len(TRANSFORMS)} operations on at most {most} probes"

    def fit(self, recogniser: Recogniser, knowledge: Knowledge) -> None:
        """Choose; see :meth:`ImageAttacker.fit`."""
        checked(knowledge)
        self._recogniser = recogniser
        validation = Validation(knowledge, self.most)
        self.both_sides = False
        gallery = self.embed(validation.gallery, protected=False)

        def score(transform: Transform) -> tuple[float, float]:
            self.chosen = transform
            return validation.score(gallery, self.embed(validation.probes, protected=True))

        self.chosen = best(TRANSFORMS, score)
        probes = self.embed(validation.probes, protected=True)

        def sides(both: bool) -> tuple[float, float]:
            self.both_sides = both
            return validation.score(self.embed(validation.gallery, protected=False), probes)

        self.both_sides = best((False, True), sides)

    def restore(self, images: Tensor) -> Tensor:
        """The chosen operation; see :meth:`Restoration.restore`."""
        return self.chosen.apply(images)

    def clean(self, images: Tensor) -> Tensor:
        """The same operation if both sides go through it."""
        return self.chosen.apply(images) if self.both_sides else images
