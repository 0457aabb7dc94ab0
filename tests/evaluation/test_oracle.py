"""The landmark-only attacker: exact noise, invariances, and recovery of an optimum that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation import (
    EvaluationError,
    LandmarkAttacker,
    add_landmark_noise,
    landmark_floor,
    normalised_mean_error,
    rank1_trials,
)
from evaluation.oracle import align_shapes, fit_discriminant, noise_sd_px


def heads(people: int, photos: int, own: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """68 points around a common layout; ``own`` px of personal shape, a little shift and jitter per photo."""
    base = torch.rand(68, 2, generator=torch.Generator().manual_seed(9)) * 30 + 15
    base[36], base[45] = torch.tensor([20.0, 28.0]), torch.tensor([44.0, 28.0])
    generator = torch.Generator().manual_seed(seed)
    person = own * torch.randn(people, 1, 68, 2, generator=generator)
    shift = 1.5 * torch.randn(people, photos, 1, 2, generator=generator)
    jitter = 0.2 * torch.randn(people, photos, 68, 2, generator=generator)
    return (base + person + shift + jitter).reshape(-1, 68, 2), torch.arange(people).repeat_interleave(photos)


def split(people: torch.Tensor, photos: int) -> torch.Tensor:
    return torch.arange(len(people)) % photos < photos // 2


def test_noise_meets_the_error_exactly() -> None:
    points, _ = heads(20, 2, 1.0, seed=0)
    for nme in (0.0, 0.05, 0.2):
        noisy = add_landmark_noise(points, nme, torch.Generator().manual_seed(1))
        assert normalised_mean_error(noisy, points) == pytest.approx(nme, abs=1e-6)
    error = (add_landmark_noise(points, 0.1, torch.Generator().manual_seed(1)) - points).double()
    assert float(error.std()) == pytest.approx(noise_sd_px(points, 0.1), rel=0.03)
    assert float(error[..., 0].std()) == pytest.approx(float(error[..., 1].std()), rel=0.06)


def test_error_of_a_known_shift() -> None:
    points, _ = heads(3, 1, 0.0, seed=0)
    eyes = (points[:, 45] - points[:, 36]).norm(dim=-1)
    moved = points + torch.tensor([3.0, 4.0])
    assert normalised_mean_error(moved, points) == pytest.approx(float((5 / eyes).mean()), rel=1e-6)


def test_alignment_undoes_every_similarity() -> None:
    shape = torch.randn(68, 2, generator=torch.Generator().manual_seed(0))
    shape = shape - shape.mean(dim=0)
    angle = torch.tensor([0.3, -1.0, 2.0])
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], -2)
    moved = torch.einsum("nij,pj->npi", turn, shape) * torch.tensor([0.5, 2.0, 7.0])[:, None, None] + 11.0
    torch.testing.assert_close(align_shapes(moved, shape), shape.expand(3, 68, 2), atol=1e-5, rtol=1e-5)


def test_the_discriminant_finds_the_axis_that_carries_identity() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(300), 6)
    rows = rng.normal(size=(1800, 3)) * [1.0, 30.0, 1.0]
    rows[:, 0] += rng.normal(size=300)[label] * 3.0  # between variance 9, within 1: weight sqrt(9 / 19)
    model = fit_discriminant(rows, label, ridge=0.0)
    embedding = model(rows)
    power = embedding.var(axis=0)
    assert power[0] > 20 * power[1:].sum()
    assert model.weights[0] == pytest.approx((9 / 19) ** 0.5, rel=0.03)
    assert abs(np.corrcoef(embedding[:, 0], rows[:, 0])[0, 1]) > 0.99


def test_more_error_tells_less_and_no_identity_tells_nothing() -> None:
    points, identity = heads(60, 8, 0.8, seed=1)
    tests, people = heads(20, 8, 0.8, seed=2)
    first = split(people, 8)
    rates = []
    for nme in (0.05, 0.15):
        floor = landmark_floor((points, identity), tests[first], tests[~first], nme, frame_size=64, steps=60)
        assert floor.nme == pytest.approx(nme, abs=1e-6)
        rates.append(rank1_trials(floor.gallery, people[first], floor.probes, people[~first])[0].mean())
    assert rates[0] > 0.9
    assert 0.1 < rates[1] < rates[0] - 0.2
    blank, _ = heads(20, 8, 0.0, seed=2)
    floor = landmark_floor((points, identity), blank[first], blank[~first], 0.05, frame_size=64, steps=60)
    assert rank1_trials(floor.gallery, people[first], floor.probes, people[~first])[0].mean() < 0.2  # chance .05


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone() -> None:
    points, identity = heads(24, 4, 0.8, seed=3)
    state = torch.random.get_rng_state()
    runs = [LandmarkAttacker(64, seed=5, steps=20).fit(points, identity, nme=0.05).embed(points) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(runs[0].norm(dim=1), torch.ones(len(points), dtype=runs[0].dtype))


def test_confidences_alone_can_give_a_person_away() -> None:
    points, identity = heads(30, 6, 0.0, seed=4)
    level = torch.rand(30, 68, generator=torch.Generator().manual_seed(0))[identity]
    level = level + 0.01 * torch.randn(level.shape, generator=torch.Generator().manual_seed(1))
    train = identity < 20
    attacker = LandmarkAttacker(64, steps=20).fit(points[train], identity[train], confidence=level[train])
    first = split(identity, 6)
    with_, known = attacker.embed(points, level), identity
    rate = rank1_trials(with_[first & ~train], known[first & ~train], with_[~first & ~train], known[~first & ~train])[0]
    assert rate.mean() > 0.9
    with pytest.raises(EvaluationError, match="both in training and in use"):
        attacker.embed(points)


def test_the_learner_best_on_validation_is_chosen() -> None:
    points, identity = heads(30, 4, 0.8, seed=5)
    train = identity < 20
    attacker = LandmarkAttacker(64, steps=10).fit(
        points[train], identity[train], nme=0.1, validation=(points[~train], identity[~train])
    )
    assert attacker.validation[attacker.chosen] == max(attacker.validation.values())
    assert len(attacker.validation) == 5


def test_faulty_input_is_named() -> None:
    points, identity = heads(8, 2, 0.5, seed=6)
    with pytest.raises(EvaluationError, match="call fit first"):
        LandmarkAttacker(64).embed(points)
    with pytest.raises(EvaluationError, match="frame_size is 0"):
        LandmarkAttacker(0)
    with pytest.raises(EvaluationError, match=r"shape \(N, 68, 2\)"):
        add_landmark_noise(points[:, :5], 0.1, torch.Generator())
    with pytest.raises(EvaluationError, match=r"error is -0\.1"):
        add_landmark_noise(points, -0.1, torch.Generator())
    with pytest.raises(EvaluationError, match="also in training"):
        LandmarkAttacker(64).fit(points, identity, validation=(points, identity))
    with pytest.raises(EvaluationError, match="too few to train on"):
        LandmarkAttacker(64).fit(points[:4], identity[:4])
    with pytest.raises(EvaluationError, match="at the same point"):
        normalised_mean_error(points, torch.zeros_like(points))
