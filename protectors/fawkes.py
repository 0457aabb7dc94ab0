"""Cloaks that move a photo far in feature space within a budget of structural dissimilarity (Fawkes)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.auxiliary import auxiliary_faces
from protectors.base import TOP_LEVEL, PhotoProtector, refuse, whole_levels, with_given
from protectors.canvas import Canvas, check_region, linf_levels
from protectors.descent import Climb, check_iteration
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.person import person_mean
from protectors.similarity import GAUSSIAN_WINDOW, dssim
from protectors.surrogates import Surrogates

#: Values lie in 0..1 as tanh(.) / TANH + .5, so that no value can leave the range.
TANH = 2 - 1e-6

#: Photos that are worked on together; bounds memory.
PART = 16

#: Photos of each other person.
CAPTURES = 3

#: "released-0.3": the target is one of so many people, drawn at random; multiple of the difference of means that a
#: photo is moved by; share of its rate that the optimiser keeps after each third of the steps.
FURTHEST, STRETCH, DECAY = 20, 2.0, 0.8

#: "released": step along the sign of the first gradient, in the argument of tanh.
FIRST_STEP = 0.01

#: "released": weight of the distance. It changes outside these shares of the budget, from up to this value, and back
#: from no less than its inverse.
NEAR, FAR, MOST = 0.9, 1.1, 129


@dataclass(frozen=True)
class _Mode:
    """Budget of DSSIM, steps, rate of the optimiser, recognisers."""

    dssim: float
    steps: int
    rate: float
    surrogates: str


@dataclass(frozen=True)
class _Preset:
    """``weight`` and ``power`` of what DSSIM exceeds its budget by; ``slack``: multiple of the budget up to which a
    result is kept; ``start``: largest value of the first change; ``levels``: largest change of a value, if any.
    """

    modes: dict[str, _Mode]
    mode: str
    targeted: bool
    weight: float
    power: int
    slack: float
    start: float
    levels: int | None = None


_BOTH = "sface+dlib-resnet"
_PRESETS = {
    "released": _Preset(
        modes={
            "low": _Mode(0.004, 40, 25, "sface"),
            "mid": _Mode(0.012, 75, 20, _BOTH),
            "high": _Mode(0.017, 150, 15, _BOTH),
        },
        mode="low", targeted=False, weight=1e7, power=2, slack=FAR, start=1e-4, levels=15,
    ),
    "paper": _Preset(
        modes={"standard": _Mode(0.007, 200, 0.5, "sface")},
        mode="standard", targeted=True, weight=1e3, power=1, slack=1.0, start=0.0,
    ),
    "released-0.3": _Preset(
        modes={
            "min": _Mode(0.002, 20, 40, "sface"),
            "low": _Mode(0.003, 50, 35, "sface"),
            "mid": _Mode(0.005, 200, 20, "sface"),
            "high": _Mode(0.008, 500, 10, "sface"),
            "ultra": _Mode(0.01, 1000, 8, "sface"),
        },
        mode="low", targeted=True, weight=1e9, power=2, slack=FAR, start=1e-6,
    ),
}  # fmt: skip


class Fawkes(PhotoProtector):
    """Cloaks for photos that somebody else will train or enrol a recogniser with.

    "released" is version 1.0.2: minimise 1e7 max(DSSIM - th, 0)^2 - k |f(x') - f(x)|^2, away from the photo itself and
    to nobody; k follows :func:`scheduled`. "paper": minimise |f(x') - f(x_T)| + 1e3 max(DSSIM - th, 0), with x_T a
    photo of the person who is furthest from all photos of the user. "released-0.3": minimise 1e9 max(DSSIM - th, 0)^2 +
    |f(x') - t| / |t|, with t the embedding moved by twice the way from the mean of the user's photos to that of a
    person drawn among the 20 furthest. Several recognisers add up. Embeddings are unit vectors.

    The releases search in the argument of tanh, by Adadelta. Of the paper, optimiser, rate (Adam, half a level), steps
    and the weight of the penalty are ours, and x_T is the photo nearest to the mean of its person. Of all iterates
    that keep 1.1 th (paper: th) after rounding to whole levels, the furthest is returned (targeted: the nearest to its
    goal); version 0.3 had no such check. DSSIM = (1 - SSIM) / 2, with Gaussian windows of 11 x 11 pixels and a standard
    deviation of 1.5, K1 = .01 and K2 = .03, each channel: that of the releases. The recognisers are not theirs.

    Targets are chosen for each person from all photos of that person in the call. A step costs a forward and a backward
    pass of each recogniser, and DSSIM with its gradient.

    Args:
        preset: "released", "paper" or "released-0.3".
        mode: "low", "mid" or "high" (released); "min", "low", "mid", "high" or "ultra" (released-0.3); "standard"
            (paper). It sets the next three, and the recognisers: two of them from "mid" of "released".
        dssim: th, budget of dissimilarity; with region "face" of that part of the photo.
        steps: steps.
        rate: rate of the optimiser; of Adam in levels.
        surrogates: recognisers, joined by "+".
        budget: largest change of a value: "native" is 15/255 for "released" and none otherwise; "uniform" or a number.
        auxiliary: "synthetic", or a folder of photos of people, for the targets.
        people: Number of people among whom targets are chosen.
        eot: random views a step, 0 for the photo itself.
        region: "photo", or "face" for a square around the face.

    Raises:
        ProtectorError: A setting is out of range.
        FacesError: The folder cannot be used.
    """

    about = Declaration(
        name="fawkes",
        title="cloak within a budget of dissimilarity, against training",
        summary="Cloaks photos so that a recogniser which is trained or enrolled with them learns a wrong face.",
        source="Shan et al., USENIX Security 2020",
        threats=frozenset({Threat.poison}),
        deterministic=False,
        presets=tuple(_PRESETS),
        additive=True,
    )
    # Targets depend on all photos of a person, so the call is divided below.
    chunk = sys.maxsize

    def __init__(
        self,
        *,
        preset: str = "released",
        mode: str | None = None,
        dssim: float | None = None,
        steps: int | None = None,
        rate: float | None = None,
        surrogates: str | None = None,
        budget: str = "native",
        auxiliary: str = "synthetic",
        people: int = 40,
        eot: int = 0,
        region: str = "photo",
    ) -> None:
        if preset not in _PRESETS:
            raise ProtectorError(f"fawkes takes preset = {', '.join(_PRESETS)}, got {preset}.")
        self._name, self._preset = preset, _PRESETS[preset]
        mode = self._preset.mode if mode is None else mode
        if mode not in self._preset.modes:
            raise ProtectorError(f"fawkes, preset {preset}, takes mode = {', '.join(self._preset.modes)}, got {mode}.")
        chosen = with_given(self._preset.modes[mode], dssim=dssim, steps=steps, rate=rate, surrogates=surrogates)
        self._dssim, self._steps, self._rate, surrogates = chosen.dssim, chosen.steps, chosen.rate, chosen.surrogates
        check_iteration("fawkes", steps=self._steps, eot=eot)
        check_region(region)
        if not 0 < self._dssim < 0.5:
            raise ProtectorError(f"fawkes takes dssim between 0 and .5, got {self._dssim:g}.")
        if not self._rate > 0:
            raise ProtectorError(f"fawkes takes rate > 0, got {self._rate:g}.")
        if people < 1:
            raise ProtectorError(f"fawkes needs people >= 1 to choose a target among, got {people}.")
        check_largest("fawkes", rate=self._rate, people=people)
        self._levels = self._preset.levels if budget == "native" else linf_levels(budget, 1.0)
        self._surrogates, self._eot, self._region = Surrogates(surrogates), eot, region
        targeted = self._preset.targeted
        self._known: dict[torch.device, tuple[list[Tensor], Tensor, list[Tensor]]] = {}
        self._others = auxiliary_faces(auxiliary, people=people, captures=CAPTURES) if targeted else None
        super().__init__(
            self._surrogates.names,
            preset=preset, mode=mode, dssim=self._dssim, steps=self._steps, rate=self._rate, surrogates=surrogates,
            budget=budget, auxiliary=None if self._others is None else self._others.content_hash[:16],
            people=people if targeted else None, eot=eot, region=region,
        )  # fmt: skip
        if targeted:
            self.declaration = replace(
                self.declaration,
                auxiliary_data="photos of other people, synthetic unless given",
                batch_dependent=True,
                deterministic=preset == "paper" and not eot,
            )

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Cloaked photos; see :meth:`PhotoProtector.change`.

        Raises:
            ProtectorError: The photos are too small.
            FaceFailed: No change of a photo was found that keeps the budget.
        """
        images = images.detach()
        with torch.no_grad():
            own = self._surrogates.embed(images, points5)
            goals = self._goals(own, identity, generator)
        parts, found = [], []
        for rows in torch.arange(len(images), device=images.device).split(PART):
            canvas = Canvas(images[rows], points5[rows], region=self._region, levels=self._levels)
            if canvas.side < GAUSSIAN_WINDOW:
                raise ProtectorError(
                    f"fawkes compares windows of {GAUSSIAN_WINDOW} pixels, and {self._region} is {canvas.side} pixels "
                    "wide; enlarge the photos."
                )
            delta, kept = self._cloaks(canvas, points5[rows], [goal[rows] for goal in goals], generator)
            parts.append(canvas.add(delta))
            found.append(kept)
        refuse(
            ~torch.cat(found),
            f"fawkes found no change of this face that keeps dssim = {self._dssim:g} in {self._steps} steps; choose a "
            "higher mode, or raise dssim or steps.",
        )
        return torch.cat(parts)

    def _cloaks(
        self, canvas: Canvas, points5: Tensor, goals: Sequence[Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Best perturbations (N, 3, R, R) within the budget, and whether there was any, (N,)."""
        before = canvas.crop(canvas.images)
        saved_before = whole_levels(before)
        climb = Climb(canvas, points5, lambda photos, at: self._value(photos, at, goals), generator, eot=self._eot)
        change, optimiser = self._optimiser(before, generator)
        argument = torch.atanh((before - 0.5) * TANH)
        best, highest = torch.zeros_like(before), before.new_full((len(before),), -torch.inf)
        weight, outside = before.new_ones(len(before)), before.new_ones(len(before))
        for step in self.steps(self._steps):
            if self._name == "released-0.3" and step > 1 and (step - 1) % max(1, self._steps // 3) == 0:
                optimiser.param_groups[0]["lr"] *= DECAY
            with torch.enable_grad():
                drawn = change if self._name == "paper" else torch.tanh(argument + change) / TANH + 0.5 - before
                delta = canvas.project(drawn)
                saved = whole_levels(before + delta)
                # In single precision flat windows are off by a percent of the smallest budgets.
                apart = dssim(before.double(), saved.double(), gaussian=True).to(before)
                excess = (apart - self._dssim).clamp_min(0) ** self._preset.power
                (penalty,) = torch.autograd.grad(self._preset.weight * excess.sum(), delta, retain_graph=True)
            value, gradient = climb.evaluated(delta)
            changed = (saved != saved_before).flatten(1).any(1)
            better = changed & (apart <= self._preset.slack * self._dssim) & (value > highest)
            best = torch.where(better[:, None, None, None], delta.detach(), best)
            highest = torch.where(better, value, highest)
            slope = canvas.greyed(penalty) - weight[:, None, None, None] * gradient
            (change.grad,) = torch.autograd.grad(delta, change, slope)
            optimiser.step()
            if self._name == "paper":
                change.data = canvas.project(change.data)
            if self._name == "released":
                if step == 0:
                    change.data -= FIRST_STEP * change.grad.sign()
                weight, outside = scheduled(weight, outside, apart.detach() / self._dssim)
        return best, highest.isfinite()

    def _optimiser(self, before: Tensor, generator: torch.Generator) -> tuple[Tensor, torch.optim.Optimizer]:
        """What is searched for, like ``before``, and the optimiser that moves it."""
        if self._name == "paper":
            change = torch.zeros_like(before).requires_grad_()
            return change, torch.optim.Adam([change], lr=self._rate / TOP_LEVEL)
        start = torch.full_like(before, self._preset.start)
        if self._name == "released":
            start *= drawing.around_zero(before.shape, generator, before)
        change = start.requires_grad_()
        # Constants of Keras, and of TensorFlow 1.
        eps = 1e-7 if self._name == "released" else 1e-8
        return change, torch.optim.Adadelta([change], lr=self._rate, rho=0.95, eps=eps)

    def _value(self, photos: Tensor, points5: Tensor, goals: Sequence[Tensor]) -> Tensor:
        """What is raised, (N,): squared distance from the photos, or nearness to the goals."""
        total = photos.new_zeros(len(photos))
        for now, goal in zip(self._surrogates.embed(photos, points5), goals, strict=True):
            if self._preset.targeted:
                length = torch.linalg.vector_norm(goal, dim=1)
                total = total - torch.linalg.vector_norm(now - goal, dim=1) / length
            else:
                total = total + (now - goal).square().sum(1)
        return total

    def _goals(self, own: Sequence[Tensor], identity: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Embeddings (N, D) of each recogniser that photos are led to, or away from."""
        if self._others is None:
            return list(own)
        others, whose, centres = self._embedded(own[0].device)
        _, people = torch.unique(identity, return_inverse=True)
        ranked = nearest_distances(own, people, centres).argsort(1, descending=True)
        if self._name == "paper":
            chosen = ranked[:, 0][people]
            off = torch.stack(
                [
                    torch.linalg.vector_norm(found - centre[whose], dim=1)
                    for found, centre in zip(others, centres, strict=True)
                ]
            ).sum(0)
            shown = torch.stack([off.masked_fill(whose != each, torch.inf).argmin() for each in range(len(centres[0]))])
            return [found[shown[chosen]] for found in others]
        pick = drawing.whole(0, min(FURTHEST, ranked.shape[1]), (len(ranked),), generator, ranked)
        chosen = ranked.gather(1, pick[:, None])[:, 0][people]
        return [
            now + STRETCH * (centre[chosen] - person_mean(now, people)[people])
            for now, centre in zip(own, centres, strict=True)
        ]

    def _embedded(self, device: torch.device) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Of the other people: embeddings (M, D) of each recogniser, whose they are (M,), and their means (K, D)."""
        if device in self._known:
            return self._known[device]
        assert self._others is not None
        others = self._others.to(device)
        with torch.no_grad():
            found = list(self._surrogates.embed(others.images, others.points5))
        _, whose = torch.unique(others.identity, return_inverse=True)
        self._known[device] = found, whose, [person_mean(features, whose) for features in found]
        return self._known[device]


def nearest_distances(own: Sequence[Tensor], people: Tensor, centres: Sequence[Tensor]) -> Tensor:
    """Distance (U, K) of each other person's mean to the nearest photo of each user, summed over recognisers.

    Args:
        own: embeddings (N, D) of the users' photos, one tensor for each recogniser.
        people: (N,) whose each is, numbered from 0.
        centres: (K, D) mean embeddings of the other people.
    """
    apart = torch.stack([torch.cdist(now, centre) for now, centre in zip(own, centres, strict=True)]).sum(0)
    nearest = apart.new_full((int(people.max()) + 1, apart.shape[1]), torch.inf)
    return nearest.scatter_reduce(0, people[:, None].expand_as(apart), apart, "amin")


def scheduled(weight: Tensor, outside: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Weights k of the distance after a step (version 1.0.2): far below the budget they double, far above they halve.

    They start again from 1 where the direction changes, near the budget, and beyond 256 or below 1/256.

    Args:
        weight: (N,), 1 at first.
        outside: (N,), 1 while doubling, also at first; -1 while halving; 0 between.
        share: (N,), DSSIM as a share of its budget.

    Returns:
        the new ``weight`` and ``outside``.
    """
    more = (share <= NEAR) & (weight <= MOST)
    less = (share >= FAR) & (weight >= 1 / MOST)
    turned = (more & (outside == -1)) | (less & (outside == 1))
    stepped = torch.where(more, 2 * weight, torch.where(less, weight / 2, 1))
    return torch.where(turned, 1, stepped), more.to(weight) - less.to(weight)
