"""Attackers on protected photographs, by level of knowledge; :func:`make_attacker` gives one with its budget.

A recogniser that the protector never saw is no attacker of its own: run these with such a recogniser.
"""

from __future__ import annotations

from collections.abc import Callable

from evaluation.errors import EvaluationError
from evaluation.image_attackers.base import ImageAttacker, Restoration, Tier
from evaluation.image_attackers.discriminants import LinearProtected, PixelsDiscriminant
from evaluation.image_attackers.fine_tuned import EndToEnd, FineTuned
from evaluation.image_attackers.known_blur import KnownPsf
from evaluation.image_attackers.preprocess import Preprocess
from evaluation.image_attackers.published import AsPublished
from evaluation.image_attackers.purifier import Purifier
from evaluation.image_attackers.realign import Realign
from evaluation.image_attackers.restorers import GenericRestorer, Restorer
from evaluation.image_attackers.scratch import ScratchProtected
from evaluation.image_attackers.subtract import SubtractAverage
from evaluation.image_attackers.views import FlipTta
from evaluation.labels import Level

__all__ = [
    "ImageAttacker",
    "Level",
    "Restoration",
    "Tier",
    "attacker_names",
    "make_attacker",
]

_TIERS: tuple[Tier, ...] = ("smoke", "standard", "full")


def _linear_protected(most: int) -> ImageAttacker:
    return LinearProtected(
        AsPublished(),
        name="linear-protected",
        level="K2",
        knowledge="owns the protector; closed-form discriminant on embeddings of clean and protected people",
        control="a fixed change of the pixels that moves embeddings along with it",
        most=most,
    )


def _known_psf_linear(most: int) -> ImageAttacker:
    return LinearProtected(
        KnownPsf(most=most),
        name="known-psf-linear",
        level="K3",
        knowledge="owns the optics; Wiener filter, then closed-form discriminant on clean and restored people",
        control="a mild blur without noise",
        most=most,
    )


# One figure for each tier. Validation probes and training photographs that are embedded: embeddings dominate.
_PROBES = {"smoke": 24, "standard": 400, "full": 2000}
_ROWS = {"smoke": 60, "standard": 2000, "full": 8000}
_SQUARES = {"smoke": (30, 6, 48), "standard": (800, 8, 64), "full": (6000, 16, 96)}


def _squares(tier: Tier) -> dict[str, int]:
    steps, batch, patch = _SQUARES[tier]
    return {"steps": steps, "batch": batch, "patch": patch}


def _guided(tier: Tier) -> dict[str, int]:
    # Gradients through the recogniser cost ten times what the U-Net costs.
    return {"steps": 300 if tier == "standard" else 2000, "batch": 8}


_MAKERS: dict[str, Callable[[Tier], ImageAttacker]] = {
    "as-published": lambda tier: AsPublished(),
    "video-average-4": lambda tier: AsPublished(frames=4),
    "video-average-16": lambda tier: AsPublished(frames=16),
    "preprocess": lambda tier: Preprocess(_PROBES[tier]),
    "flip-tta": lambda tier: FlipTta(),
    "realign": lambda tier: Realign(),
    "generic-restorer": lambda tier: GenericRestorer(**_squares(tier)),
    "purifier": lambda tier: Purifier(
        **_squares(tier), backward=(1,) if tier == "smoke" else (1, 4), most=_PROBES[tier]
    ),
    "restorer": lambda tier: Restorer(**_squares(tier)) if tier == "smoke" else Restorer(**_guided(tier), guide=0.1),
    "linear-protected": lambda tier: _linear_protected(_ROWS[tier]),
    "fine-tuned-protected": lambda tier: FineTuned(
        steps={"smoke": 20, "standard": 600, "full": 3000}[tier], batch=32, most=min(_ROWS[tier], 4000)
    ),
    "end-to-end-protected": lambda tier: EndToEnd(
        steps={"smoke": 3, "standard": 300, "full": 2000}[tier],
        batch=8 if tier == "smoke" else 24,
        most=_PROBES[tier],
    ),
    "scratch-protected": lambda tier: ScratchProtected(
        steps={"smoke": 60, "standard": 1500, "full": 6000}[tier],
        batch=32 if tier == "smoke" else 64,
        size={"smoke": 32, "standard": 48, "full": 64}[tier],
    ),
    "pixels-discriminant": lambda tier: PixelsDiscriminant(
        size=16 if tier == "smoke" else 24, most={"smoke": 200, "standard": 2000, "full": 8000}[tier]
    ),
    "known-psf": lambda tier: KnownPsf(most=_PROBES[tier]),
    "known-psf-wrong-10": lambda tier: KnownPsf(most=_PROBES[tier], wrong=0.1),
    "known-psf-wrong-20": lambda tier: KnownPsf(most=_PROBES[tier], wrong=0.2),
    "known-psf-linear": lambda tier: _known_psf_linear(_ROWS[tier]),
    "subtract-average": lambda tier: SubtractAverage(),
}


def attacker_names() -> tuple[str, ...]:
    """Names that :func:`make_attacker` takes, weaker knowledge first."""
    return tuple(_MAKERS)


def make_attacker(name: str, tier: Tier = "standard") -> ImageAttacker:
    """An attacker with the budget of a tier: "smoke" proves that it runs, "standard" and "full" that it tried.

    Raises:
        EvaluationError: Name or tier is unknown.
    """
    if name not in _MAKERS:
        raise EvaluationError(f"There is no attacker {name!r}; choose one of {', '.join(_MAKERS)}.")
    if tier not in _TIERS:
        raise EvaluationError(f"There is no tier {tier!r}; choose one of {', '.join(_TIERS)}.")
    return _MAKERS[name](tier)
