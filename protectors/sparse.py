"""A few pixels, chosen and coloured so that a photo is not recognised: by gradients, or for 1 to a few by evolution.

The gradient search grows a set of pixels and then refines their colours, a projected-gradient method under L0 as those
of Croce, Hein, "Sparse and Imperceivable Adversarial Attacks", ICCV 2019. The evolution is that of Su, Vargas, Sakurai,
"One Pixel Attack for Fooling Deep Neural Networks", IEEE TEVC 2019, for embeddings instead of classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from faces.protection import Declaration, Threat
from protectors import drawing
from protectors.base import TOP_LEVEL, PhotoProtector
from protectors.canvas import Canvas, check_region, linf_levels
from protectors.descent import Climb, Objective, check_iteration
from protectors.errors import ProtectorError
from protectors.largest import check_largest
from protectors.surrogates import Surrogates

#: Most pixels for which evolution is chosen where nothing is said.
FEW = 2

#: Steps of each search where nothing is said: gradients, generations.
STEPS = {"gradient": 48, "evolution": 20}

#: Share of the gradient steps in which pixels are added; in the others their colours are refined.
GROWING = 2 / 3

#: First and last step of refinement, as shares of the range of a value.
FIRST_STEP, LAST_STEP = 0.5, 0.05

#: Weight of the difference of two candidates in a child of a third (Su et al.).
DIFFERENTIAL_WEIGHT = 0.5

#: Largest value of the noise beside which the first gradient is taken: a photo is nearest to itself, so its own is 0.
START = 8 / TOP_LEVEL


class Sparse(PhotoProtector):
    """At most so many pixels of a photo are changed, each to any colour within the budget.

    Pixels are those of the photo given. Where it was reduced first and the change enlarged, each becomes a blob as wide
    as the factor.

    Args:
        pixels: most pixels to change.
        search: "gradient" or "evolution"; default: evolution for 1 or 2 pixels, gradient for more.
        budget: "native" is any colour; "uniform" or a number bounds each value.
        steps: gradients, or generations; default: 48 gradients or 20 generations.
        population: candidates of the evolution; each generation costs as many forward passes a photo.
        surrogates: recognisers that are attacked, joined by "+".
        region: "face" or "photo", where pixels may be.

    Raises:
        ProtectorError: A setting is out of range.
    """

    about = Declaration(
        name="sparse",
        title="a few pixels",
        summary="Recolours a few pixels of the face.",
        source="own",
        threats=frozenset({Threat.dodge}),
        deterministic=False,
        additive=True,
    )
    chunk = 8

    def __init__(
        self,
        *,
        pixels: int = 64,
        search: str | None = None,
        budget: str = "native",
        steps: int | None = None,
        population: int = 50,
        surrogates: str = "sface",
        region: str = "face",
    ) -> None:
        if pixels < 1:
            raise ProtectorError(f"sparse takes pixels >= 1, got {pixels}.")
        if search is None:
            search = "evolution" if pixels <= FEW else "gradient"
        if search not in STEPS:
            raise ProtectorError(f"sparse searches by {' or '.join(STEPS)}, got search={search}.")
        steps = STEPS[search] if steps is None else steps
        check_iteration("sparse", steps=steps)
        if population < 4:
            raise ProtectorError(f"sparse takes a population >= 4 (a child has three parents), got {population}.")
        check_largest("sparse", pixels=pixels, population=population)
        check_region(region)
        self._surrogates, self._region = Surrogates(surrogates), region
        super().__init__(
            self._surrogates.names,
            pixels=pixels, search=search, budget=budget, steps=steps, population=population, surrogates=surrogates,
            region=region,
        )  # fmt: skip
        self._pixels, self._search, self._steps, self._population = pixels, search, steps, population
        self._levels = None if budget == "native" else linf_levels(budget, 1.0)

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        """Photos with a few pixels changed; see :meth:`PhotoProtector.change`."""
        images = images.detach()
        canvas = Canvas(images, points5, region=self._region, levels=self._levels)
        pixels = min(self._pixels, canvas.side**2)
        with torch.no_grad():
            own = self._surrogates.embed(images, points5)

        def apart(photos: Tensor, points: Tensor) -> Tensor:
            # Evolution looks at several candidates of each photo, one photo after the other.
            times = len(photos) // len(images)
            now = self._surrogates.embed(photos.clamp(0, 1), points)
            return torch.stack(
                [-(here * before.repeat_interleave(times, 0)).sum(1) for here, before in zip(now, own, strict=True)]
            ).mean(0)

        if self._search == "gradient":
            delta = grown(canvas, Climb(canvas, points5, apart, generator), pixels, self._steps, generator)
        else:
            delta = self._evolved(images, points5, apart, pixels, generator)
        return canvas.add(delta)

    def _evolved(
        self, images: Tensor, points5: Tensor, objective: Objective, pixels: int, generator: torch.Generator
    ) -> Tensor:
        """Perturbation (N, 3, R, R) of the best candidate of each photo."""
        count = len(images)

        def canvas_of(times: int) -> Canvas:
            photos, points = (given.repeat_interleave(times, 0) for given in (images, points5))
            return Canvas(photos, points, region=self._region, levels=self._levels)

        def score(found: Tensor) -> Tensor:
            with torch.no_grad():
                drawn = many.add(speckled(many, found.flatten(0, 1).unflatten(1, (pixels, 5))))
                return objective(drawn, points5.repeat_interleave(self._population, 0)).unflatten(0, (count, -1))

        many = canvas_of(self._population)
        best = evolved(score, count, self._population, 5 * pixels, self._steps, generator, images.device)
        return speckled(canvas_of(1), best.unflatten(1, (pixels, 5)))


def grown(canvas: Canvas, climb: Climb, pixels: int, steps: int, generator: torch.Generator) -> Tensor:
    """Perturbation (N, 3, R, R) of so many pixels that raises an objective, by its gradients.

    In the first steps those pixels are added whose best colour promises most by the gradient, and all colours are
    refined by steps along the sign of the gradient; then colours are refined alone, in ever smaller steps.

    Args:
        canvas: photos and budget.
        climb: gradient of the objective.
        pixels: at most R * R.
        steps: gradients.
        generator: Source of the noise beside which the first gradient is taken.
    """
    zeros = canvas.zeros()
    low, high = canvas.project(zeros - 1), canvas.project(zeros + 1)
    chosen = torch.zeros(len(zeros), canvas.side**2, dtype=torch.bool, device=zeros.device)
    growing = max(1, round(GROWING * steps))
    sizes = [FIRST_STEP] * growing + torch.linspace(FIRST_STEP, LAST_STEP, steps - growing).tolist()
    delta = canvas.project(START * drawing.around_zero(zeros.shape, generator, zeros))
    for step, size in enumerate(sizes):
        gradient = climb.gradient(delta)
        held = chosen.unflatten(1, zeros.shape[-2:])[:, None]
        delta = torch.where(held, torch.clamp(delta + size * gradient.sign(), low, high), 0)
        if step < growing:
            corner = torch.where(gradient > 0, high, low)
            gain = (gradient * corner).sum(1).flatten(1).masked_fill(chosen, -torch.inf)
            more = pixels * (step + 1) // growing - pixels * step // growing
            picked = torch.zeros_like(chosen).scatter_(1, gain.topk(more).indices, True)
            chosen |= picked
            delta = torch.where(picked.unflatten(1, zeros.shape[-2:])[:, None], corner, delta)
    return canvas.project(delta)


def speckled(canvas: Canvas, found: Tensor) -> Tensor:
    """Perturbation (N, 3, R, R) of pixels (N, K, 5): row, column, and colour within the budget, each as a share 0..1.

    Of pixels at the same place one counts.
    """
    zeros, side = canvas.zeros(), canvas.side
    low, high = canvas.project(zeros - 1), canvas.project(zeros + 1)
    row, column = (found[..., :2] * side).long().clamp_max(side - 1).unbind(-1)
    photo = torch.arange(len(found), device=found.device)[:, None]
    least, most = (bound[photo, :, row, column] for bound in (low, high))
    delta = zeros.permute(0, 2, 3, 1).index_put((photo, row, column), least + found[..., 2:] * (most - least))
    return canvas.project(delta.permute(0, 3, 1, 2))


def evolved(
    score: Callable[[Tensor], Tensor], count: int, population: int, numbers: int, generations: int,
    generator: torch.Generator, device: torch.device | None = None,
) -> Tensor:  # fmt: skip
    """Differential evolution of many problems at once: points (N, D) of the unit cube with a high score.

    A child is a + F (b - c) of three other candidates, cut to the cube, and takes the place of its parent where it
    scores higher; there is no crossover (Su et al.).

    Args:
        score: Gives the scores (N, P) of candidates (N, P, D).
        count: N, problems.
        population: P, candidates of each, at least 4.
        numbers: D.
        generations: Number of times that children are made.
        generator: Source of the candidates and their parents.
        device: Where candidates lie; default: the processor.
    """
    like = torch.empty(0, device=device)
    found = drawing.uniform((count, population, numbers), generator, like)
    scores = score(found)
    itself = torch.eye(population, dtype=torch.bool, device=like.device)
    row = torch.arange(count, device=like.device)
    for _ in range(generations):
        order = drawing.uniform((count, population, population), generator, like).masked_fill(itself, torch.inf)
        a, b, c = (found[row[:, None], other] for other in order.argsort(-1)[..., :3].unbind(-1))
        child = (a + DIFFERENTIAL_WEIGHT * (b - c)).clamp(0, 1)
        now = score(child)
        better = now > scores
        found, scores = torch.where(better[..., None], child, found), torch.where(better, now, scores)
    return found[row, scores.argmax(1)]
