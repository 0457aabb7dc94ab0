"""TIP-IM: discrepancy, gain, greedy choice, steps, maps, and what real recognisers make of the result."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faces.samples import five_points
from faces.synthetic import generate
from protectors.canvas import FACE_SIDE
from protectors.errors import ProtectorError
from protectors.tip_im import LEAST_AFFINE, VARIANCES, TipIm, discrepancy, gain, turned

PEOPLE = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(count: int, side: int) -> Tensor:
    one = torch.tensor(((0.37, 0.41), (0.63, 0.41), (0.5, 0.56), (0.39, 0.7), (0.61, 0.7))) * side
    return one.expand(count, 5, 2)


def unit(values: Tensor) -> Tensor:
    return values / torch.linalg.vector_norm(values, dim=1, keepdim=True)


class Linear:
    """A recogniser of toys: unit vectors of a linear map of 8 x 8 pixels, two of them."""

    def __init__(self) -> None:
        self._maps = [torch.randn(192, size, generator=seeded(size)) for size in (7, 9)]

    def embed(self, images: Tensor, points5: Tensor) -> tuple[Tensor, ...]:
        small = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        return tuple(unit(small @ weight) for weight in self._maps)


def toy(**settings: Any) -> TipIm:
    protector = TipIm(people=PEOPLE, **settings)
    protector._surrogates = Linear()  # type: ignore[assignment]
    return protector


@pytest.fixture(scope="module")
def heads(sface_weights: Path) -> tuple[Tensor, Tensor]:
    """Photos and five points of two people."""
    faces = generate(2, 1, size=112, seed=3, first_identity=40_000_000)
    return faces.images.float() / 255, five_points(faces.landmarks).float()


def protected(protector: TipIm, images: Tensor, points5: Tensor) -> Tensor:
    return protector.protect(images, points5, torch.zeros(len(images), dtype=torch.int64), seeded())


# Discrepancy


def direct(first: np.ndarray, second: np.ndarray) -> float:
    def mean_kernel(x: np.ndarray, y: np.ndarray) -> float:
        total = 0.0
        for one in x:
            for two in y:
                square = ((one - two) ** 2).sum()
                total += sum(math.exp(-square / (2 * variance)) for variance in VARIANCES)
        return total / (len(x) * len(y))

    return mean_kernel(first, first) + mean_kernel(second, second) - 2 * mean_kernel(first, second)


@pytest.mark.parametrize("spread", [1e-3, 0.5, 10, 300])
def test_discrepancy_is_that_of_its_definition(spread: float) -> None:
    first = 255 * torch.rand(5, 48, generator=seeded(), dtype=torch.float64)
    second = first[:4] + spread * torch.randn(4, 48, generator=seeded(1), dtype=torch.float64)
    assert float(discrepancy(first, second)) == pytest.approx(direct(first.numpy(), second.numpy()), rel=1e-9)


def test_gradient_of_discrepancy_is_right() -> None:
    first = 30 * torch.rand(2, 3, generator=seeded(), dtype=torch.float64)
    second = 30 * torch.rand(2, 3, generator=seeded(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda given: discrepancy(given, second), first.requires_grad_(), atol=1e-6)


def test_discrepancy_of_one_photo_saturates() -> None:
    photo = torch.zeros(1, 100)
    values = [float(discrepancy(photo + level, photo)) for level in (0, 1e-4, 1, 30, 255, 1e5)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[-1] == pytest.approx(2 * len(VARIANCES))
    # One level: 100 squared levels.
    assert values[2] == pytest.approx(2 * sum(1 - math.exp(-50 / variance) for variance in VARIANCES), rel=1e-5)
    # A thousand levels make as little difference as none: no slope.
    far = (photo + 1e5).requires_grad_()
    (slope,) = torch.autograd.grad(discrepancy(far, photo), far)
    assert float(slope.abs().max()) == 0


# Gain and greedy choice


def test_gain_by_hand() -> None:
    now, own = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    goals = torch.tensor([[0.0, -1.0], [0.6, 0.8]])
    # To the photo itself 2 (squared), to the nearer goal .36 + .04 = .4.
    squared = gain([now], [own], [goals], squared=True)
    assert float(squared) == pytest.approx(math.log(1 + math.exp(2 - 0.4)), rel=1e-6)
    plain = gain([now, now], [own, own], [goals, goals], squared=False)
    assert float(plain) == pytest.approx(math.log(1 + math.exp(2 * (math.sqrt(2) - math.sqrt(0.4)))), rel=1e-6)


def by_force(protector: TipIm, images: Tensor, steps: int, gamma: float, limit: float, *, sign: bool) -> Tensor:
    """The method written out for a batch of photos, each target and photo in turn, by autograd on the loss itself."""
    recogniser, step = Linear(), float(dict(protector.declaration.settings)["step"]) / 255
    goals = recogniser.embed(protector._working.images, protector._working.points5)
    own = recogniser.embed(images, images)
    now, sums = images.clone(), torch.zeros_like(images)

    def apart(photo: Tensor, number: int, goal: int, *, root: bool = False) -> Tensor:
        total = torch.zeros(())
        for here, before, there in zip(recogniser.embed(photo, photo), own, goals, strict=True):
            squares = (here[0] - there[goal]).square().sum(), (here[0] - before[number]).square().sum()
            total = total + (squares[0].sqrt() - squares[1].sqrt() if root else squares[0] - squares[1])
        return total

    for _ in range(steps):
        following, sums_after = now.clone(), sums.clone()
        for number in range(len(images)):
            found = []
            for goal in range(PEOPLE):
                photo = now[number : number + 1].clone().requires_grad_()
                batch = torch.cat((now[:number], photo, now[number + 1 :]))
                natural = discrepancy(255 * batch.flatten(1), 255 * images.flatten(1))
                # The mean over the batch of the losses of identity, plus the discrepancy.
                loss = apart(photo, number, goal) / len(images) + gamma * natural
                (gradient,) = torch.autograd.grad(loss, photo)
                direction = sums[number : number + 1] + gradient / gradient.abs().mean()
                unit_step = direction.sign() if sign else direction / direction.square().mean().sqrt()
                candidate = (photo.detach() - step * unit_step).clamp(0, 1)
                candidate = images[number] + (candidate - images[number]).clamp(-limit, limit)
                reached = max(-float(apart(candidate, number, each, root=not sign)) for each in range(PEOPLE))
                found.append((math.log(1 + math.exp(reached)), goal, candidate, direction))
            best = max(found, key=lambda each: each[0])
            following[number], sums_after[number] = best[2][0], best[3][0]
        now, sums = following, sums_after
    return now


@pytest.mark.parametrize("gamma", [0.0, 2000.0])
def test_paper_is_the_method_written_out(gamma: float) -> None:
    images = torch.rand(3, 3, 16, 16, generator=seeded(5))
    protector = toy(steps=4, step=5, gamma=gamma)
    found = protector.change(images, points(3, 16), torch.zeros(3, dtype=torch.int64), seeded())
    expected = by_force(protector, images, 4, gamma, 12 / 255, sign=True)
    # A sign may differ where a gradient is nothing but rounding.
    assert float(torch.isclose(found, expected, atol=1e-5).float().mean()) > 0.999


def test_discrepancy_changes_the_result() -> None:
    images = torch.rand(3, 3, 16, 16, generator=seeded(5))
    plain, natural = (
        toy(steps=4, gamma=gamma).change(images, points(3, 16), torch.zeros(3, dtype=torch.int64), seeded())
        for gamma in (0.0, 2000.0)
    )
    assert float((natural - images).square().mean()) < 0.9 * float((plain - images).square().mean())


def test_released_is_the_method_written_out() -> None:
    images = torch.rand(2, 3, 16, 16, generator=seeded(6))
    protector = toy(preset="released", steps=3, affine=0)
    found = protector.change(images, points(2, 16), torch.zeros(2, dtype=torch.int64), seeded())
    torch.testing.assert_close(found, by_force(protector, images, 3, 0, 12 / 255, sign=False), atol=1e-5, rtol=0)


def test_a_released_step_has_its_root_mean_square() -> None:
    images = torch.full((1, 3, 16, 16), 0.5)
    images[:, 0] += 0.01 * torch.rand(16, 16, generator=seeded())  # not grey
    protector = toy(preset="released", steps=1, step=0.18)
    delta = protector.change(images, points(1, 16), torch.zeros(1, dtype=torch.int64), seeded()) - images
    assert float(255 * delta.square().mean().sqrt()) == pytest.approx(0.18, rel=1e-4)


# Random maps


def test_no_map_leaves_photos() -> None:
    images = torch.rand(2, 3, 20, 20, generator=seeded())
    torch.testing.assert_close(turned(images, points(2, 20), 0.0, seeded(1)), images, atol=1e-5, rtol=0)


def test_maps_move_the_face_by_shares_of_its_own_size() -> None:
    count, side, largest = 600, 64, 0.05
    at = points(count, side)
    centre = at.mean(1)
    axis = torch.arange(side)
    squares = (axis[None, :] - centre[:, 0, None]).square()[:, None, :] + (axis - centre[:, 1, None]).square()[
        :, :, None
    ]
    blob = torch.exp(-squares / 8)[:, None].expand(-1, 3, -1, -1)
    moved = turned(blob, at, largest, seeded(4))[:, 0]
    mass = moved.sum((1, 2))
    found = torch.stack(((moved.sum(1) * axis).sum(1) / mass, (moved.sum(2) * axis).sum(1) / mass), 1) - centre
    share = LEAST_AFFINE + (1 - LEAST_AFFINE) * float(torch.rand(2, generator=seeded(4))[0])
    half_face = FACE_SIDE * 0.26 * side / 2
    assert float(found.std()) == pytest.approx(share * largest * half_face, rel=0.1)
    assert float(found.mean()) == pytest.approx(0, abs=0.1)


# The protector


def test_photos_go_to_a_target_and_away_from_themselves(heads: tuple[Tensor, Tensor]) -> None:
    images, points5 = heads
    protector = TipIm(steps=3, step=4, people=2, gamma=0)
    after = protected(protector, images, points5)
    (goals,) = protector._surrogates.embed(protector._working.images, protector._working.points5)
    (before,), (now,) = (protector._surrogates.embed(photos, points5) for photos in (images, after))
    assert bool(((now @ goals.T).amax(1) > (before @ goals.T).amax(1) + 0.1).all())
    assert bool(((now * before).sum(1) < 0.6).all())
    # Noise of the same size does nothing of the kind.
    (noisy,) = protector._surrogates.embed(
        (images + 12 / 255 * torch.randn(images.shape, generator=seeded()).sign()).clamp(0, 1), points5
    )
    assert bool(((noisy @ goals.T).amax(1) < (now @ goals.T).amax(1) - 0.1).all())


@pytest.mark.parametrize("settings", [{}, {"preset": "released"}, {"eot": 2}])
def test_budget_and_region_are_kept(
    heads: tuple[Tensor, Tensor], dlib_resnet_weights: Path, settings: dict[str, Any]
) -> None:
    images, points5 = heads
    small = torch.nn.functional.pad(images, (40, 40, 40, 40), value=0.6)
    after = protected(
        TipIm(steps=1, people=1, surrogates="dlib-resnet", budget="uniform", region="face", **settings),
        small,
        points5 + 40,
    )
    levels = ((after - small) * 255).abs()
    assert 0 < float(levels.max()) < 7.5
    assert float(levels[..., :10, :].max()) < 0.01


def test_steps_are_those_of_paper_and_release() -> None:
    def resolved(**settings: Any) -> dict[str, str]:
        return dict(TipIm(people=PEOPLE, **settings).declaration.settings)

    paper, released = resolved(), resolved(preset="released")
    assert (paper["steps"], paper["batch"]) == ("50", "50")
    assert (released["steps"], released["batch"]) == ("100", "1")
    assert [float(paper["step"]), float(released["step"])] == pytest.approx([1.5, 0.18])
    assert (float(paper["gamma"]), float(released["gamma"])) == (3, 0)


def test_declaration_follows_the_settings() -> None:
    made = [
        TipIm(people=PEOPLE, **settings).declaration
        for settings in ({}, {"gamma": 0.0}, {"batch": 1}, {"preset": "released"}, {"gamma": 0.0, "eot": 1})
    ]
    said = [(each.batch_dependent, each.deterministic) for each in made]
    assert said == [(True, True), (False, True), (False, True), (False, False), (False, False)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "best"}, "takes preset = paper, released, got best"),
        ({"steps": 0}, "takes steps >= 1, got 0"),
        ({"step": 0.0}, "takes step above 0 and up to 255 levels, got 0"),
        ({"gamma": -1.0}, "takes gamma >= 0, got -1"),
        ({"batch": 0}, "takes batch >= 1 photos, got 0"),
        ({"affine": 2.0}, r"takes affine from 0 \(none\) to 1, got 2"),
        ({"people": 0}, "needs people >= 1 to lead photos to, got 0"),
        ({"region": "nose"}, "region = nose must be one of photo, face"),
        ({"budget": "lots"}, "budget = lots must be native"),
        ({"surrogates": "faceres"}, "faceres is kept for judging"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        TipIm(**settings)
