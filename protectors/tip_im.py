"""Each photo is led to whichever of ten people it reaches best, step by step, with the batch kept natural (TIP-IM)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.auxiliary import targets as target_people
from protectors.base import TOP_LEVEL, PhotoProtector, with_given
from protectors.canvas import FACE_SIDE, Canvas, check_region, linf_levels
from protectors.descent import check_iteration, unit_l2, unit_mean
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.surrogates import Surrogates
from protectors.views import seen

#: Budget in 1/255.
NATIVE_LEVELS = 12

#: Variances of the Gaussian kernels of the discrepancy, in squared levels.
VARIANCES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 5, 10, 15, 20, 25, 30, 35, 100, 1e3, 1e4, 1e5, 1e6)

#: Smallest standard deviation of random maps, as a share of the largest.
LEAST_AFFINE = 0.1


@dataclass(frozen=True)
class _Preset:
    """``reach``: how far all steps together could go, in budgets; ``sign``: whether steps go along the sign or have a
    Euclidean length; ``squared``: whether distances are squared when candidates are compared.
    """

    steps: int
    reach: float
    sign: bool
    squared: bool
    gamma: float
    batch: int
    affine: float


_PRESETS = {
    "paper": _Preset(steps=50, reach=6.25, sign=True, squared=True, gamma=3.0, batch=50, affine=0.0),
    "released": _Preset(steps=100, reach=1.5, sign=False, squared=False, gamma=0.0, batch=1, affine=0.1),
}


class TipIm(PhotoProtector):
    """Minimise mean(D(x', t) - D(x', x)) + gamma MMD(X', X) over the box of the budget, t chosen anew in each step.

    The mean is over the photos x of a batch X. D is the squared distance of embeddings, summed over recognisers; MMD is
    :func:`discrepancy` on levels 0..255. Each step adds to the momentum of a photo, for each target in
    turn, the gradient divided by its mean absolute value, moves the photo along the result, and keeps the candidate
    with the largest gain (:func:`gain`, eq. 7). As in the release the discrepancy takes part in the candidates and not
    in the gain. Embeddings are unit vectors, so the loss is linear in them: all targets share one forward pass.

    A step costs a photo, for each recogniser, one forward pass, and for each of the k targets one backward and one
    forward pass: with k = 10, "paper" takes 550 forward and 500 backward passes, "released" twice as many.

    Presets are "paper": 50 steps of 1.5/255 along the sign, batches of 50; and "released": 100 steps whose root mean
    square is .18/255, one photo at a time, no discrepancy, seen through random affine maps. With another budget or
    number of steps, these steps scale so that all together reach as many budgets. The paper does not say which gamma
    its tables of success used; 3 is the most natural of its table of qualities. The values of MMD there are those of
    the squared form without the square root of its eq. 3: they stay just below 2 * 19 / 50, so this form is used.

    The fewer photos in a batch, the more the discrepancy weighs; of a single photo it is a distance to its original
    that saturates. Targets are one photo of each person, as in the paper; the original is one photo of the user.

    Args:
        preset: "paper" or "released".
        budget: "native" (12/255), "uniform" or a number.
        steps: steps.
        step: size of a step in levels, largest change (sign) or root mean square (Euclidean).
        gamma: weight of the discrepancy; the paper goes from 0 to 3.
        batch: photos whose discrepancy is taken together.
        affine: largest standard deviation of random affine maps and rotations; each step draws its own from a tenth of
            it up. 0: none.
        people: k, number of target people.
        surrogates: recognisers that are attacked, joined by "+".
        targets: "synthetic", or a folder of photos of people.
        eot: random views a step, each with k backward passes more; 0: the photo itself.
        region: "photo" or "face", where the change may be.

    Raises:
        ProtectorError: A setting is out of range.
        FacesError: The folder cannot be used.
    """

    about = Declaration(
        name="tip-im",
        title="led to the easiest of ten people, batch kept natural",
        summary="Leads each photo to whichever of ten other people it reaches most easily.",
        source="Yang et al., ICCV 2021",
        threats=frozenset({Threat.dodge, Threat.impersonate}),
        auxiliary_data="a photo of each of ten target people, synthetic unless given",
        presets=tuple(_PRESETS),
        additive=True,
        batch_dependent=True,
    )

    def __init__(
        self,
        *,
        preset: str = "paper",
        budget: str = "native",
        steps: int | None = None,
        step: float | None = None,
        gamma: float | None = None,
        batch: int | None = None,
        affine: float | None = None,
        people: int = 10,
        surrogates: str = "sface",
        targets: str = "synthetic",
        eot: int = 0,
        region: str = "photo",
    ) -> None:
        if preset not in _PRESETS:
            raise ProtectorError(f"tip-im takes preset = {', '.join(_PRESETS)}, got {preset}.")
        self._preset = chosen = with_given(_PRESETS[preset], steps=steps, gamma=gamma, batch=batch, affine=affine)
        self._levels = linf_levels(budget, NATIVE_LEVELS / TOP_LEVEL)
        self._steps, self._gamma, self._affine, batch = chosen.steps, chosen.gamma, chosen.affine, chosen.batch
        check_iteration("tip-im", steps=self._steps, eot=eot)
        check_region(region)
        self._step = chosen.reach * self._levels / self._steps if step is None else step
        if not 0 < self._step <= TOP_LEVEL:
            raise ProtectorError(f"tip-im takes step above 0 and up to {TOP_LEVEL} levels, got {self._step:g}.")
        if not self._gamma >= 0:
            raise ProtectorError(f"tip-im takes gamma >= 0, got {self._gamma:g}.")
        if batch < 1:
            raise ProtectorError(f"tip-im takes batch >= 1 photos, got {batch}.")
        if not 0 <= self._affine <= 1:
            raise ProtectorError(f"tip-im takes affine from 0 (none) to 1, got {self._affine:g}.")
        if people < 1:
            raise ProtectorError(f"tip-im needs people >= 1 to lead photos to, got {people}.")
        check_largest("tip-im", gamma=self._gamma, batch=batch, people=people)
        self._surrogates, self._eot, self._region = Surrogates(surrogates), eot, region
        self._working, self.target = target_people(targets, people=people, captures=1)
        super().__init__(
            self._surrogates.names,
            preset=preset, budget=budget, steps=self._steps, step=self._step, gamma=self._gamma, batch=batch,
            affine=self._affine, people=people, surrogates=surrogates, targets=self._working.content_hash[:16], eot=eot,
            region=region,
        )  # fmt: skip
        self.chunk = batch
        self.declaration = replace(
            self.declaration,
            batch_dependent=self._gamma > 0 and batch > 1,
            deterministic=not (eot or self._affine),
        )

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Photos led to others; see :meth:`PhotoProtector.change`."""
        images = images.detach()
        canvas = Canvas(images, points5, region=self._region, levels=self._levels)
        with torch.no_grad():
            own = self._surrogates.embed(images, points5)
            working = self._working.to(images.device)
            goals = self._surrogates.embed(working.images, working.points5)
        delta, momentum = canvas.zeros(), canvas.zeros()
        for step in self.steps(self._steps):
            gradients = [torch.zeros_like(delta) for _ in goals[0]]
            for view in range(max(1, self._eot)):
                draw = step * self._eot + view
                self._add_gradients(gradients, canvas, delta, points5, own, goals, draw, generator)
            natural = self._gamma * self._unnatural(canvas, delta)
            best = images.new_full((len(images),), -torch.inf)
            moved, kept = delta, momentum
            for gradient in gradients:
                direction = momentum + unit_mean(canvas.greyed(gradient / max(1, self._eot) + natural))
                candidate = canvas.project(delta - self._step / TOP_LEVEL * self._unit(direction))
                with torch.no_grad():
                    now = self._surrogates.embed(canvas.add(candidate).clamp(0, 1), points5)
                gained = gain(now, own, goals, squared=self._preset.squared)
                better = gained > best
                best = torch.where(better, gained, best)
                better = better[:, None, None, None]
                moved, kept = torch.where(better, candidate, moved), torch.where(better, direction, kept)
            delta, momentum = moved, kept
        return canvas.add(delta)

    def _add_gradients(
        self,
        gradients: list[Tensor],
        canvas: Canvas,
        delta: Tensor,
        points5: Tensor,
        own: Sequence[Tensor],
        goals: Sequence[Tensor],
        draw: int,
        generator: torch.Generator,
    ) -> None:
        """Add to each target's gradient (N, 3, R, R) that of D(x', t) - D(x', x), through one view."""
        with torch.enable_grad():
            moved = delta.detach().requires_grad_()
            images, points = canvas.add(moved), points5
            if self._affine:
                images = turned(images, points5, self._affine, generator)
            if self._eot:
                images, points = seen(images, points5, draw, generator)
            now = self._surrogates.embed(images, points)
        last = len(gradients) - 1
        for number, total in enumerate(gradients):
            # Of unit vectors |f - t|^2 - |f - x|^2 = 2 f (x - t), whose derivative by f does not depend on f.
            pull = [2 * (before - goal[number]) for before, goal in zip(own, goals, strict=True)]
            (found,) = torch.autograd.grad(now, moved, pull, retain_graph=number < last)
            total += found

    def _unnatural(self, canvas: Canvas, delta: Tensor) -> Tensor:
        """Gradient (N, 3, R, R) of the discrepancy, times N: the loss of the identities is a mean over the batch."""
        if not self._gamma:
            return torch.zeros_like(delta)
        with torch.enable_grad():
            moved = delta.detach().requires_grad_()
            now, before = (photos.flatten(1) * TOP_LEVEL for photos in (canvas.add(moved), canvas.images))
            (found,) = torch.autograd.grad(len(delta) * discrepancy(now, before), moved)
        return found

    def _unit(self, direction: Tensor) -> Tensor:
        """Direction (N, 3, R, R) of largest value 1, or of root mean square 1."""
        if self._preset.sign:
            return direction.sign()
        return unit_l2(direction) * math.sqrt(direction[0].numel())


def gain(now: Sequence[Tensor], own: Sequence[Tensor], goals: Sequence[Tensor], *, squared: bool) -> Tensor:
    """Gain (N,) = log(1 + max_t exp(D(x', x) - D(x', t))) of candidates (Yang et al., eq. 7).

    Args:
        now: embeddings (N, D) of the candidates, one tensor for each recogniser.
        own: those of the photos, (N, D).
        goals: those of the targets, (K, D).
        squared: whether D is the squared distance (paper) or the distance (release), summed over recognisers.
    """
    apart = now[0].new_zeros(len(now[0]), len(goals[0]))
    for here, before, there in zip(now, own, goals, strict=True):
        from_own = torch.linalg.vector_norm(here - before, dim=1, keepdim=True)
        from_goals = torch.linalg.vector_norm(here[:, None] - there, dim=2)
        apart += from_own.square() - from_goals.square() if squared else from_own - from_goals
    return torch.log1p(apart.amax(1).exp())


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of vectors, biased (each vector is also compared with itself).

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), with k the sum of Gaussians exp(-|x - y|^2 / (2 v)) over
    :data:`VARIANCES` (Gretton et al., JMLR 2012, eq. 5). It is below 2 * 19 / N where pairs of different photos cancel.

    Args:
        first: (N, P) levels 0..255; gradients pass.
        second: (M, P).
    """
    variances = first.new_tensor(VARIANCES)[:, None, None]

    def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
        # Differences before squares: photos are close to their originals, compared with their norms.
        squares = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.exp(-squares / (2 * variances)).sum(0).mean()

    return mean_kernel(first, first) + mean_kernel(second, second) - 2 * mean_kernel(first, second)


def turned(images: Tensor, points5: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """Photos through random affine maps and rotations about the face, black where nothing was.

    The release applies them to aligned crops. Here the unit of shifts is half the square around the face, so that they
    do not grow with what else is on the photo.

    Args:
        images: (N, 3, S, S); gradients pass.
        points5: (N, 5, 2).
        largest: standard deviation of the entries of the map and of the angle in radians, each drawn between a tenth of
            this and this, for the batch.
        generator: Source of deviations, maps and angles.
    """
    count, side = len(images), images.shape[-1]
    of_map, of_angle = largest * (LEAST_AFFINE + (1 - LEAST_AFFINE) * drawing.uniform((2,), generator, images))
    drawn = of_map * drawing.normal((count, 2, 3), generator, images)
    angle = of_angle * drawing.normal((count,), generator, images)
    sine, cosine = angle.sin(), angle.cos()
    rotation = torch.stack((torch.stack((cosine, sine), -1), torch.stack((-sine, cosine), -1)), -2)
    matrix = (torch.eye(2).to(images) + drawn[..., :2]) @ rotation
    # In the coordinates of the grid, -1..1 over the photo.
    centre = (2 * points5.mean(1) + 1) / side - 1
    eyes = torch.linalg.vector_norm(points5[:, 1] - points5[:, 0], dim=-1)
    shift = drawn[..., 2] * (FACE_SIDE * eyes / side)[:, None]
    offset = centre + shift - (matrix @ centre[..., None])[..., 0]
    grid = functional.affine_grid(torch.cat((matrix, offset[..., None]), -1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
