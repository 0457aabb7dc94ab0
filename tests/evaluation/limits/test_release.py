"""Release with noise and its certified limits against closed forms, quadrature and optimal attackers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from evaluation.errors import EvaluationError
from evaluation.limits import clip_to_ball, noisy_release, release_bound, tar_bound

EXACT = 1e-12
PRINTED = 6e-4  # the reference prints three decimals


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


# Neyman-Pearson.


@pytest.mark.parametrize(("frames", "tar"), [(1, 0.034), (16, 0.37), (64, 0.95)])
def test_tar_table(frames: int, tar: float) -> None:
    assert float(tar_bound(0.01, 0.5, frames)) == pytest.approx(tar, abs=5e-3 if frames > 1 else PRINTED)
    assert float(tar_bound(0.01, 0.5, frames)) == pytest.approx(
        norm.cdf(norm.ppf(0.01) + math.sqrt(frames) * 0.5), rel=EXACT
    )


def test_tar_bound_at_the_ends_and_its_gradient() -> None:
    assert tar_bound(torch.tensor([0.0, 1.0]), 3.0).tolist() == [0.0, 1.0]
    delta = torch.tensor([0.1, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: tar_bound(0.01, d, 4), delta)


# Clip and noise.


def test_clipped_vectors_are_within_two_radii_whatever_comes_in() -> None:
    mean = normal(7, seed=1)
    vectors = torch.cat([normal(200, 7) * 1e3, normal(200, 7, seed=2), mean[None]])
    clipped = clip_to_ball(vectors, mean, 1.5)
    assert float(torch.cdist(clipped, clipped).max()) <= 3.0 * (1 + EXACT)
    distance = (vectors - mean).norm(dim=1)
    inside = distance <= 1.5
    assert 0 < int(inside.sum()) < 401
    assert torch.allclose(clipped[inside], vectors[inside], rtol=0, atol=EXACT)
    moved = (vectors - mean)[~inside] * (1.5 / distance[~inside])[:, None] + mean
    assert torch.allclose(clipped[~inside], moved, rtol=0, atol=EXACT)


def test_clip_passes_gradients() -> None:
    vectors = (normal(4, 3) * torch.tensor([[0.1], [0.2], [9.0], [30.0]])).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: clip_to_ball(v, torch.zeros(3), 1.0), vectors)


def test_release_adds_the_stated_noise_repeatably() -> None:
    vectors = torch.zeros(40_000, 3)
    released = noisy_release(vectors, torch.ones(3), 10.0, 0.7, rng())
    assert released.dtype == torch.float64
    assert released.std(dim=0).numpy() == pytest.approx([0.7] * 3, rel=0.02)
    assert released.mean(dim=0).numpy() == pytest.approx([0.0] * 3, abs=0.02)
    assert torch.equal(released, noisy_release(vectors, torch.ones(3), 10.0, 0.7, rng()))


def test_likelihood_ratio_attains_the_tar_bound_for_two_clipped_scenes() -> None:
    frames, trials, radius, noise_sd, fmr = 4, 100_000, 0.3, 0.8, 0.01
    mean, axis = normal(5, seed=1), torch.nn.functional.normalize(normal(5, seed=2), dim=0)
    statistic = []
    for side in (1.0, -1.0):  # both scenes lie far outside the ball, on opposite sides
        vectors = (mean + side * 50 * axis).expand(trials * frames, 5)
        released = noisy_release(vectors, mean, radius, noise_sd, rng(int(side) + 2))
        # The log likelihood ratio is this up to a factor.
        statistic.append(((released - mean) @ axis).reshape(trials, frames).sum(dim=1))
    mated, impostor = statistic
    # The exact threshold of the test: the sum of T impostor frames is N(-T C, T sigma^2).
    threshold = -frames * radius - math.sqrt(frames) * noise_sd * norm.ppf(fmr)
    bound = float(tar_bound(fmr, 2 * radius / noise_sd, frames))
    spread = math.sqrt(bound * (1 - bound) / trials)
    assert float((mated > threshold).double().mean()) == pytest.approx(bound, abs=5 * spread)
    assert float((impostor > threshold).double().mean()) == pytest.approx(fmr, abs=5 * math.sqrt(fmr / trials))


def test_release_bound_of_two_people_is_attained_by_opposite_points() -> None:
    # The nearest of two points 2 C apart: Phi(sqrt(T) C / sigma).
    for ratio, frames in ((0.2, 1), (0.7, 4), (2.0, 2)):
        assert release_bound(ratio, 1.0, 10, 2, frames) == pytest.approx(norm.cdf(math.sqrt(frames) * ratio), rel=EXACT)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 2.5])
def test_release_bound_with_many_people_is_the_volume_of_the_blurred_ball(ratio: float) -> None:
    # With 1e9 people in few dimensions the second limit counts: w / M by Steiner's formula and by quadrature.
    people = 10**9
    flat = ratio / math.sqrt(2 * math.pi)
    assert release_bound(ratio * 3, 3.0, 1, people) * people == pytest.approx(1 + 2 * flat, rel=1e-10)
    disc = 1 + ratio * math.sqrt(math.pi / 2) + ratio**2 / 2
    assert release_bound(ratio, 1.0, 2, people) * people == pytest.approx(disc, rel=1e-10)
    assert release_bound(ratio, 1.0, 2, people, 3) * people == pytest.approx(disc**3, rel=1e-10)
    ball = quad(lambda s: s**4 * math.exp(-(max(s - ratio, 0) ** 2) / 2), 0, ratio + 40, points=[ratio])[0]
    area = 8 * math.pi**2 / 3  # of the unit sphere in five dimensions
    volume = area * ball / (2 * math.pi) ** 2.5
    assert release_bound(ratio, 1.0, 5, people) * people == pytest.approx(volume, rel=1e-8)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 3.0])
def test_release_bound_exceeds_the_best_attack_on_a_simplex(ratio: float) -> None:
    # Equidistant people on the sphere are as hard to protect as orthogonal signals of norm s.
    people = 50
    signal = ratio / math.sqrt(1 - 1 / people)
    best = quad(lambda x: norm.pdf(x - signal) * norm.cdf(x) ** (people - 1), -10, 15)[0]
    bound = release_bound(ratio, 1.0, people - 1, people)
    assert best < bound < 1.15 * best


def test_release_bound_stays_in_range() -> None:
    assert release_bound(1e-9, 1.0, 10, 50) == pytest.approx(1 / 50, rel=1e-6)
    assert release_bound(1e6, 1.0, 10, 50) == 1.0
    # Heatmaps have many components: the first limit alone counts, without overflow in the second.
    assert release_bound(1.0, 1.0, 200_000, 50) == pytest.approx(norm.cdf(norm.ppf(1 / 50) + 1), rel=EXACT)
    values = [release_bound(0.5, 1.0, 4, 50, frames) for frames in (1, 2, 8, 32, 128)]
    assert all(one < other for one, other in pairwise(values))


# Refusals.


def test_wrong_numbers_of_a_release_are_refused() -> None:
    ones = torch.ones(2, dtype=torch.float64)
    with pytest.raises(EvaluationError, match="frames=0 must be at least 1"):
        tar_bound(0.01, 1.0, 0)
    with pytest.raises(EvaluationError, match="fmr holds values outside 0 to 1"):
        tar_bound(1.2, 1.0)
    with pytest.raises(EvaluationError, match=r"delta has the negative value -1\.0"):
        tar_bound(0.1, -1.0)
    with pytest.raises(EvaluationError, match=r"radius=0\.0 must be a positive number"):
        clip_to_ball(torch.ones(1, 2), ones, 0.0)
    with pytest.raises(EvaluationError, match="vectors holds values that are not finite"):
        noisy_release(torch.tensor([[math.nan, 0.0]]), ones, 1.0, 1.0, rng())
    with pytest.raises(EvaluationError, match=r"vectors of shape \(1, 3\) and mean of shape \(2,\) do not fit"):
        clip_to_ball(torch.ones(1, 3), ones, 1.0)
    with pytest.raises(EvaluationError, match=r"noise_sd=0\.0 must be a positive number"):
        noisy_release(torch.ones(1, 2), ones, 1.0, 0.0, rng())
    with pytest.raises(EvaluationError, match="dimension=0 must be at least 1"):
        release_bound(1.0, 1.0, 0, 50)
