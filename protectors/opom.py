"""One cloak per person that leads away from everything the person's own photos span (OPOM), and FI-UAP."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.base import TOP_LEVEL, with_given
from protectors.canvas import Canvas, check_region, linf_levels
from protectors.descent import Climb, Momentum, check_iteration
from protectors.errors import ProtectorError
from protectors.hulls import Hulls
from protectors.person import PersonProtector, covered, person_mean, whole_people
from protectors.surrogates import Surrogates

#: Budget, and change of each value in a step, in 1/255.
NATIVE_LEVELS, STEP_LEVELS = 8, 1

#: What a protected photo is led away from.
HULLS = ("convex", "affine", "centre", "self")


@dataclass(frozen=True)
class _Preset:
    steps: int
    centre_steps: int
    momentum: float


_PRESETS = {
    "released": _Preset(steps=16, centre_steps=5, momentum=0.0),
    "paper": _Preset(steps=16, centre_steps=0, momentum=0.0),
    "transfer": _Preset(steps=100, centre_steps=5, momentum=1.0),
}


class Opom(PersonProtector):
    """Max over |delta| <= eps of the sum over a person's photos x of D(f(x + delta), H), one delta for all of them.

    D is the mean square of the difference between an embedding and the nearest point to it in H, what the embeddings of
    the person's clean photos span; that point is found anew in each step and held fixed in the gradient. Each step
    moves the mask by 1/255 along the sign of the mean gradient over the person's photos, from a random start; what the
    ends of the range cut off a photo counts as not added, and the mask is the mean of what is left. Several recognisers
    add up.

    Presets are "released"; "paper", without the first steps from the centre; and "transfer", 100 steps along summed
    gradients. The release also drops features inside the residual layers of its recogniser there; that is left out,
    since the default recogniser has no such layers. Its recogniser, a ResNet-50 trained on CASIA-WebFace, is replaced.

    Args:
        preset: "released", "paper" or "transfer".
        hull: "convex", "affine" or "centre" (the mean) of all the person's embeddings; or "self", the embedding of the
            photo itself, which is FI-UAP, the baseline of the paper.
        budget: "native" (8/255), "uniform" or a number.
        steps: steps of 1/255.
        centre_steps: Number of first steps that lead away from the centre instead of the convex hull.
        momentum: decay of summed gradients, 0 for none.
        surrogates: recognisers that are attacked, joined by "+".
        eot: random views a step, 0 for the photo itself.
        region: "photo", or "face" for the part of the frame in which the faces shown lie.
        diversity: probability of diverse input.

    Raises:
        ProtectorError: A setting is out of range.
    """

    about = Declaration(
        name="opom",
        title="one cloak per person, away from the hull of its photos",
        summary="Adds one pattern per person that leads away from all that the photos of that person have in common.",
        source="Zhong and Deng, IEEE TPAMI 2022",
        threats=frozenset({Threat.dodge}),
        stores="a mask of each person",
        differentiable=True,
        person_specific=True,
        presets=tuple(_PRESETS),
        additive=True,
    )

    def __init__(
        self,
        *,
        preset: str = "released",
        hull: str = "convex",
        budget: str = "native",
        steps: int | None = None,
        centre_steps: int | None = None,
        momentum: float | None = None,
        surrogates: str = "sface",
        eot: int = 0,
        region: str = "photo",
        diversity: float = 0.0,
    ) -> None:
        if preset not in _PRESETS:
            raise ProtectorError(f"opom takes preset = {', '.join(_PRESETS)}, got {preset}.")
        if hull not in HULLS:
            raise ProtectorError(f"opom takes hull = {', '.join(HULLS)}, got {hull}.")
        chosen = with_given(_PRESETS[preset], steps=steps, centre_steps=centre_steps, momentum=momentum)
        self._steps, self._centre_steps, self._momentum = chosen.steps, chosen.centre_steps, chosen.momentum
        check_iteration("opom", steps=self._steps, eot=eot, diversity=diversity)
        check_region(region)
        if not 0 <= self._centre_steps <= self._steps:
            raise ProtectorError(
                f"opom takes centre_steps from 0 to the number of steps, {self._steps}, got {self._centre_steps}."
            )
        if not 0 <= self._momentum <= 1:
            raise ProtectorError(f"opom takes momentum as a decay, 0..1, got {self._momentum:g}.")
        self._surrogates = Surrogates(surrogates)
        super().__init__(
            self._surrogates.names,
            levels=linf_levels(budget, NATIVE_LEVELS / TOP_LEVEL), preset=preset, hull=hull, budget=budget,
            steps=self._steps, centre_steps=self._centre_steps, momentum=self._momentum, surrogates=surrogates, eot=eot,
            region=region, diversity=diversity,
        )  # fmt: skip
        self._hull, self._eot, self._region, self._diversity = hull, eot, region, diversity

    def masks(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Cloaks (K, 3, S, S) of the people shown; see :meth:`PersonProtector.masks`."""
        parts = whole_people(identity, self.chunk)
        return torch.cat([self._cloaks(images[rows], points5[rows], people, generator) for rows, people in parts])

    def _cloaks(self, images: Tensor, points5: Tensor, people: Tensor, generator: torch.Generator) -> Tensor:
        """Cloaks of people numbered from 0 in ``people`` (N,), whose photos are worked on together."""
        canvas = Canvas(images, points5, levels=self._levels)
        inside = covered(images, points5, people, self._region)
        clean = self._surrogates.embed(images, points5)
        hulls = [Hulls(features, people) for features in clean]
        hull = self._hull

        def objective(shown: Tensor, at: Tensor) -> Tensor:
            total = shown.new_zeros(len(shown))
            for spanned, own, features in zip(hulls, clean, self._surrogates.embed(shown, at), strict=True):
                total = total + (features - _nearest(hull, spanned, own, features, people)).square().mean(1)
            return total

        climb = Climb(canvas, points5, objective, generator, eot=self._eot, diversity=self._diversity)
        momentum = Momentum(self._momentum)
        delta = inside * drawing.around_zero(inside.shape, generator, inside) * (self._levels / TOP_LEVEL)
        for step in self.steps(self._steps):
            hull = "centre" if self._hull == "convex" and step < self._centre_steps else self._hull
            direction = momentum(person_mean(climb.gradient(delta[people]), people)).sign()
            moved = delta + inside * direction * (STEP_LEVELS / TOP_LEVEL)
            delta = person_mean(canvas.project(moved[people]), people)
        return delta


def _nearest(hull: str, spanned: Hulls, own: Tensor, features: Tensor, people: Tensor) -> Tensor:
    """What embeddings (N, D) are led away from, (N, D)."""
    if hull == "self":
        return own
    if hull == "centre":
        return spanned.nearest_centre(features, people)
    if hull == "affine":
        return spanned.nearest_affine(features, people)
    return spanned.nearest_convex(features, people)
