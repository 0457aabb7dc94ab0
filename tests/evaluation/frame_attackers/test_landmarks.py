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
    noise_sd_px,
    normalised_mean_error,
    rank1_trials,
)
from evaluation.discriminant import fit_discriminant
from evaluation.frame_attackers.landmarks import align_shapes

EYES, FIVE = (36, 45), [36, 45, 30, 48, 54]


def heads(people: int, photos: int, own: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """68 points around a common layout; ``own`` px of personal shape, a little shift and jitter per photo."""
    base = torch.rand(68, 2, generator=torch.Generator().manual_seed(9)) * 30 + 15
    base[36], base[45] = torch.tensor([20.0, 28.0]), torch.tensor([44.0, 28.0])
    generator = torch.Generator().manual_seed(seed)
    person = own * torch.randn(people, 1, 68, 2, generator=generator)
    shift = 1.5 * torch.randn(people, photos, 1, 2, generator=generator)
    jitter = 0.2 * torch.randn(people, photos, 68, 2, generator=generator)
    return (base + person + shift + jitter).reshape(-1, 68, 2), torch.arange(people).repeat_interleave(photos)


def eyes(points: torch.Tensor) -> torch.Tensor:
    return (points[:, EYES[1]] - points[:, EYES[0]]).norm(dim=-1)


def split(people: torch.Tensor, photos: int) -> torch.Tensor:
    return torch.arange(len(people)) % photos < photos // 2


@pytest.mark.parametrize("chosen", [FIVE, list(range(68))])
def test_noise_meets_the_error_exactly(chosen: list[int]) -> None:
    points, _ = heads(80, 2, 1.0, seed=0)
    unit, points = eyes(points), points[:, chosen]
    for nme in (0.0, 0.05, 0.2):
        noisy = add_landmark_noise(points, unit, nme, torch.Generator().manual_seed(1))
        assert normalised_mean_error(noisy, points, unit) == pytest.approx(nme, abs=1e-6)
    error = (add_landmark_noise(points, unit, 0.1, torch.Generator().manual_seed(1)) - points).double()
    assert float(error.std()) == pytest.approx(noise_sd_px(unit, 0.1), rel=0.03)
    assert float(error[..., 0].std()) == pytest.approx(float(error[..., 1].std()), rel=0.06)


def test_error_of_a_known_shift() -> None:
    points, _ = heads(3, 1, 0.0, seed=0)
    unit = eyes(points)
    moved = points + torch.tensor([3.0, 4.0])
    assert normalised_mean_error(moved, points, unit) == pytest.approx(float((5 / unit).mean()), rel=1e-6)


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
    for noise_px in (0.8, 2.0):
        floor = landmark_floor(
            (points, identity), tests[first], tests[~first], noise_px=noise_px, frame_size=64, steps=60
        )
        rates.append(rank1_trials(floor.gallery, people[first], floor.probes, people[~first])[0].mean())
    assert rates[0] > 0.8
    assert 0.1 < rates[1] < rates[0] - 0.2
    blank, _ = heads(20, 8, 0.0, seed=2)
    floor = landmark_floor((points, identity), blank[first], blank[~first], noise_px=1.0, frame_size=64, steps=60)
    assert rank1_trials(floor.gallery, people[first], floor.probes, people[~first])[0].mean() < 0.2  # chance .05


@pytest.mark.parametrize("noise_px", [0.0, 1.0])
def test_five_points_tell_something_and_less_than_all(noise_px: float) -> None:
    points, identity = heads(60, 8, 1.0, seed=1)
    tests, people = heads(30, 8, 1.0, seed=2)
    first = split(people, 8)
    rates = []
    for chosen in (FIVE, list(range(68))):
        train, shown = points[:, chosen], tests[:, chosen]
        floor = landmark_floor(
            (train, identity), shown[first], shown[~first], noise_px=noise_px, frame_size=64, steps=60
        )
        assert np.isfinite(floor.gallery).all()
        rates.append(rank1_trials(floor.gallery, people[first], floor.probes, people[~first])[0].mean())
    assert 5 / 30 < rates[0] <= rates[1]  # chance is 1 / 30
    assert rates[1] > 0.9


def test_faces_that_differ_in_nothing_give_usable_embeddings() -> None:
    points, identity = heads(24, 4, 0.0, seed=3)
    attacker = LandmarkAttacker(64, steps=20).fit(points[:, FIVE], identity, noise_px=1.0)
    assert bool(torch.isfinite(attacker.embed(points[:, FIVE])).all())


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone() -> None:
    points, identity = heads(24, 4, 0.8, seed=3)
    state = torch.random.get_rng_state()
    runs = [LandmarkAttacker(64, seed=5, steps=20).fit(points, identity, noise_px=1.0).embed(points) for _ in range(2)]
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
        points[train], identity[train], noise_px=2.0, validation=(points[~train], identity[~train])
    )
    assert attacker.validation[attacker.chosen] == max(attacker.validation.values())
    # Three discriminants, two networks, and each pair of them.
    assert len(attacker.validation) == 3 + 2 + 3 * 2


def test_few_points_are_told_apart_by_products_of_their_coordinates() -> None:
    """People who differ only in how two coordinates go together, which no linear map of them can tell."""
    generator = torch.Generator().manual_seed(0)
    sign = torch.where(torch.arange(60) // 6 % 2 == 0, 1.0, -1.0).repeat_interleave(20)
    x = torch.randn(1200, generator=generator)
    points = torch.stack([x, sign * x + 0.1 * torch.randn(1200, generator=generator)], dim=1)[:, None] + 32
    identity = torch.arange(60).repeat_interleave(20)
    attacker = LandmarkAttacker(64, steps=2).fit(points, identity)
    linear, products = (attacker.validation[f"discriminant on {name}"][1] for name in ("both", "products"))
    assert linear < 0.6
    assert products > 0.65  # half of all impostors are of the same sign, so .75 is the most


def test_whole_numbered_coordinates_of_one_to_four_points_can_be_attacked() -> None:
    points, identity = heads(30, 6, 4.0, seed=7)
    for count in (1, 2, 4):
        shown = points[:, FIVE[:count]].round()
        rows = LandmarkAttacker(64, steps=5).fit(shown, identity).embed(shown.long())
        assert bool(torch.isfinite(rows).all())
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows), dtype=rows.dtype))


def test_faulty_input_is_named() -> None:
    points, identity = heads(8, 2, 0.5, seed=6)
    with pytest.raises(EvaluationError, match="call fit first"):
        LandmarkAttacker(64).embed(points)
    with pytest.raises(EvaluationError, match="frame_size is 0"):
        LandmarkAttacker(0)
    unit = eyes(points)
    with pytest.raises(EvaluationError, match=r"shape \(N, K, 2\)"):
        add_landmark_noise(points[0], unit, 0.1, torch.Generator())
    with pytest.raises(EvaluationError, match=r"16 faces need 16 eye distances; got the shape \(1,\)"):
        add_landmark_noise(points, unit[:1], 0.1, torch.Generator())
    with pytest.raises(EvaluationError, match="at least one point"):
        LandmarkAttacker(64).fit(points[:, :0], identity)
    with pytest.raises(EvaluationError, match=r"noise of -1\.0 pixels"):
        LandmarkAttacker(64).fit(points, identity, noise_px=-1.0)
    with pytest.raises(EvaluationError, match="trained on 5 points; got 68"):
        LandmarkAttacker(64, steps=2).fit(points[:, FIVE], identity).embed(points)
    with pytest.raises(EvaluationError, match=r"error is -0\.1"):
        add_landmark_noise(points, unit, -0.1, torch.Generator())
    with pytest.raises(EvaluationError, match="also in training"):
        LandmarkAttacker(64).fit(points, identity, validation=(points, identity))
    with pytest.raises(EvaluationError, match="too few to train on"):
        LandmarkAttacker(64).fit(points[:4], identity[:4])
    with pytest.raises(EvaluationError, match="at the same point"):
        normalised_mean_error(points, points, torch.zeros(len(points)))
