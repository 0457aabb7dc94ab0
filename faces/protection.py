"""What a protector is: the one protocol that software protectors and the optical encoder share.

It stands in this room, below ``protectors`` and ``evaluation``, so that each knows the protocol and neither knows the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from faces.errors import FacesError


class Threat(StrEnum):
    """What a protector claims to prevent."""

    poison = "poison"
    """Protected photos in a training set or gallery spoil the recognition of clean ones."""
    dodge = "dodge"
    """A protected photo is not matched with clean photos of the same person."""
    impersonate = "impersonate"
    """A protected photo is matched with somebody else, chosen beforehand."""
    attribute = "attribute"
    """A protected photo hides an attribute, for example gender."""
    sensor = "sensor"
    """Nobody who holds what the sensor recorded can tell who it shows."""


@dataclass(frozen=True)
class Declaration:
    """What a protector says of itself before it is measured.

    Attributes:
        name: short name on the command line.
        title: a few words for people.
        source: paper (authors, venue, year), or "control" or "own".
        threats: what it claims to prevent.
        auxiliary_data: data it needs beside the photo, or "none".
        stores: what it keeps of a person between calls, or "nothing".
        deterministic: same photo, same result, whatever the generator.
        differentiable: gradients pass from result to photo.
        person_specific: :meth:`Protector.fit` must see photos of the person first.
        control: a control of the evaluation rather than a protection anybody should use.
        presets: names of its sets of hyper-parameters, the default first; empty where there is but one.
        additive: it adds a small pattern, which may be made on a reduced photo, enlarged and added to the large one.
        batch_dependent: a result depends on the other photos of the batch, not on its own photo alone.
        settings: every setting that changes the result, as (name, value as text); part of the cache key.
        surrogates: The recognisers whose gradients or scores the method uses with these settings, while it is made,
            fitted or protects: names of :mod:`faces.families`, or ``other:NAME`` for one that is not listed there; ()
            where it uses none. Recognisers named here do not count as unseen when the method is judged. None means
            "not stated" and is allowed only in a declaration without settings, where the settings decide.
        summary: One sentence for somebody who chooses a method: what it does to a photo.
        recommended: Whether a user who only wants a photo protected should start with it.
        example: Settings with which it can be made where the defaults do not suffice, as in ``linf=0.03``.
    """

    name: str
    title: str
    source: str
    threats: frozenset[Threat]
    auxiliary_data: str = "none"
    stores: str = "nothing"
    deterministic: bool = True
    differentiable: bool = False
    person_specific: bool = False
    control: bool = False
    presets: tuple[str, ...] = ()
    additive: bool = False
    batch_dependent: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    surrogates: tuple[str, ...] | None = None
    summary: str = ""
    recommended: bool = False
    example: str = ""


@dataclass(frozen=True)
class KnownBlur:
    """What an attacker who owns the same optics knows of them.

    Attributes:
        psf: (C, K, K) share of the light of a point in each pixel of the photo's own grid, K odd, C of 1 or 3;
            it acts on linear light.
        noise_sd: standard deviation of the noise in linear light, 1 = white, at mid grey.
        planes: 3 for a colour camera, 1 for a monochrome one.
    """

    psf: Tensor
    noise_sd: float
    planes: int


@dataclass(frozen=True)
class Target:
    """People as one of whom a protected photo wants to pass, in photos that the protector did not use.

    Attributes:
        images: (M, 3, S, S) float32 in 0..1, sRGB-encoded.
        points5: (M, 5, 2) as in :meth:`Protector.protect`.
        identity: (M,) int64; success is to be accepted as any of these people.
    """

    images: Tensor
    points5: Tensor
    identity: Tensor


@runtime_checkable
class Protector(Protocol):
    """A way to make photographs harder to recognise.

    Images are (N, 3, S, S) float32 in 0..1, sRGB-encoded, RGB; results have the same shape and hold whole 8-bit levels
    (multiples of 1/255), as they would be saved.
    """

    @property
    def declaration(self) -> Declaration:
        """What it is and claims; ``surrogates`` is stated."""
        ...

    @property
    def photo_px(self) -> int | None:
        """Side S of the photos that it is made for, or None where it takes any."""
        ...

    def fit(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> None:
        """Prepare for the people shown; only where ``person_specific``. Photos are not those protected later."""
        ...

    def protect(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Protected photos.

        Args:
            images: (N, 3, S, S).
            points5: (N, 5, 2) eye centres, nose tip, mouth corners in pixels.
            identity: (N,) int64.
            generator: Source of all random numbers drawn here.

        Raises:
            FaceFailed: One of the photos cannot be protected with these settings, for example because no change keeps
                the bound that was asked for. The others may be protected without it.
        """
        ...

    @property
    def blur(self) -> KnownBlur | None:
        """The optics that an attacker may know, or None when the protector is no blur."""
        ...

    @property
    def target(self) -> Target | None:
        """The people whom protected photos should resemble, or None when there are none."""
        ...


@runtime_checkable
class NeedsPixels(Protocol):
    """A protector that takes photos only from some side on; optional."""

    @property
    def least_px(self) -> int:
        """Smallest side S of the photos that its settings take."""
        ...


def check_side(protector: Protector, px: int) -> None:
    """See whether a protector takes photos of a side, before any photo is touched.

    Args:
        protector: The method with its settings.
        px: Side of the photos in pixels.

    Raises:
        FacesError: It is made for others.
    """
    name, side = protector.declaration.name, protector.photo_px
    if side is not None and side != px:
        raise FacesError(f"{name} is made for photos of {side} pixels, and these have {px}; set px={px} in its name.")
    if isinstance(protector, NeedsPixels) and protector.least_px > px:
        raise FacesError(
            f"{name} with the settings {dict(protector.declaration.settings)} takes photos of {protector.least_px} "
            f"pixels or more, and these have {px}; change its settings."
        )


@runtime_checkable
class Enrolling(Protocol):
    """A person-specific protector whose preparation can be kept and taken up again, in place of a new ``fit``."""

    def enrolment(self) -> dict[str, Tensor]:
        """What must be kept of the people who were shown, as named tensors."""
        ...

    def enrol(self, kept: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`enrolment` gave.

        Raises:
            ValueError: Something else was given; a subclass of it that names what is wrong.
        """
        ...


@runtime_checkable
class Watched(Protocol):
    """A protector that tells while it works how far it is; optional.

    Attributes:
        watch: Set by whoever wants to know, and called with the share of the present ``fit`` or ``protect`` that is
            done, rising to 1; None for nobody.
    """

    watch: Callable[[float], None] | None
