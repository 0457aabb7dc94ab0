"""Protection measures against hand-worked numbers and the definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from evaluation import (
    Acquisition,
    EvaluationError,
    ScoreMatrix,
    Threshold,
    auc_interval,
    credited,
    false_negative_identification,
    false_positive_identification,
    identification_threshold,
    korn_graubard,
    linkability,
    matches,
    poisoning_effect,
    psr,
    psr_net,
    rank_trials,
    roc_auc,
    score_matrix,
    supported_fpir,
    targeted_impersonation,
)

TAU = Threshold(0.01, 0.5, 5000)


def test_the_raw_rate_counts_scores_up_to_the_threshold() -> None:
    scores, people = [0.2, 0.5, 0.6, 0.9, 0.4, 0.8], [1, 1, 1, 2, 2, 2]
    rate = psr(matches(scores, TAU), people)
    assert rate.value == pytest.approx(3 / 6)  # a score equal to the threshold does not match
    assert rate == korn_graubard([1, 1, 0, 0, 1, 0], people)


def test_the_net_rate_is_one_minus_the_ratio_of_probabilities() -> None:
    rng = np.random.default_rng(0)
    clean, protected = rng.random(400) < 0.8, rng.random(400) < 0.3
    people = np.repeat(np.arange(40), 10)
    rate = psr_net(protected.astype(float), clean, people)
    assert rate.value == pytest.approx(1 - np.mean(protected & clean) / np.mean(clean))
    assert rate == korn_graubard(~protected[clean], people[clean])


def test_a_weak_recogniser_raises_the_raw_rate_and_not_the_net_one() -> None:
    people = np.repeat(np.arange(20), 5)
    clean = np.tile([True, False, True, False, False], 20)
    unchanged = clean.astype(float)  # the identity protector
    assert psr(unchanged, people).value == pytest.approx(0.6)
    assert psr_net(unchanged, clean, people).value == 0.0
    # Pairs that match only after protection change neither numerator nor denominator.
    assert psr_net(np.ones(100), clean, people).value == 0.0


def test_people_whose_photos_never_match_clean_are_not_in_the_net_rate() -> None:
    people, clean = [1, 1, 2, 2, 3, 3], np.array([True, True, True, False, False, False])
    rate = psr_net(np.array([0.0, 1, 0, 0, 0, 0]), clean, people)
    assert rate.value == pytest.approx(2 / 3)
    assert rate.people == 2
    with pytest.raises(EvaluationError, match="1 people are matched without protection"):
        psr_net(np.zeros(6), np.array([True, True, False, False, False, False]), people)
    with pytest.raises(EvaluationError, match="row of 6 of true and false"):
        psr_net(np.zeros(6), np.ones(6), people)
    with pytest.raises(EvaluationError, match="identity must have one entry for each of 6"):
        psr_net(np.zeros(6), clean, [1, 2])


def test_a_photo_without_a_face_falls_back_then_guesses_and_is_never_skipped() -> None:
    found = Acquisition(np.array([True, False, False, False]), np.array([False, True, False, False]))
    assert found.acquired.tolist() == [True, True, False, False]
    failed = found.failure_rate([1, 1, 2, 2])
    assert failed == korn_graubard([0, 1, 1, 1], [1, 1, 2, 2])
    scores = [0.9, 0.1, np.nan, 0.9]
    assert matches(scores, TAU, acquired=found.acquired).tolist() == [1.0, 0.0, 0.01, 0.01]
    assert psr(matches(scores, TAU, acquired=found.acquired), [1, 1, 2, 2]).value == pytest.approx(1 - 1.02 / 4)
    assert credited([True, False, True, False], found.acquired, 1 / 50).tolist() == [1.0, 0.0, 0.02, 0.02]


def test_a_failed_attacker_cannot_pass_for_protection() -> None:
    # Skipping would give 0 of 1 protected; guessing at chance gives what a blind attacker gets, no more and no less.
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(30), 4)
    lost = np.zeros(120, dtype=bool)
    blind = credited(rng.random(120) < 0.9, lost, 1 / 30)
    assert korn_graubard(blind, people).value == pytest.approx(1 / 30)


def test_impersonation_is_a_match_with_the_target() -> None:
    rate = targeted_impersonation(matches(torch.tensor([0.6, 0.7, 0.1, 0.2]), TAU), [1, 1, 2, 2])
    assert rate.value == 0.5


@pytest.mark.parametrize(
    ("searches", "rate"),
    [(10000, 0.003), (9999, 0.01), (3000, 0.01), (2999, 0.05), (600, 0.05), (599, None)],
)
def test_the_false_positive_rate_that_so_many_searches_support(searches: int, rate: float | None) -> None:
    assert supported_fpir(searches) == rate


def test_open_set_rates_are_the_definitions_written_out() -> None:
    rng = np.random.default_rng(2)
    mates = ScoreMatrix(
        rng.random((60, 10)) + np.repeat(np.eye(10), 6, axis=0) * 0.6, np.repeat(np.arange(10), 6), np.arange(10)
    )
    strangers, who = rng.random((80, 10)), np.repeat(np.arange(20), 4) + 100
    cut = Threshold(0.05, 0.97, 1000)
    alarms = [any(score > 0.97 for score in row) for row in strangers]
    assert 0 < np.mean(alarms) < 1
    assert false_positive_identification(strangers, who, cut) == korn_graubard(alarms, who)
    for candidates in (1, 3, 10):
        missed = []
        for row, person in zip(mates.scores, mates.probe_id, strict=True):
            listed = np.argsort(-row)[:candidates]
            missed.append(not (person in listed and row[person] > 0.97))
        found = false_negative_identification(mates, cut, candidates=candidates)
        assert 0 < found.value < 1
        assert found == korn_graubard(missed, mates.probe_id)


def test_without_a_threshold_the_open_set_is_the_closed_one() -> None:
    rng = np.random.default_rng(3)
    mates = ScoreMatrix(rng.normal(size=(40, 8)), np.repeat(np.arange(8), 5), np.arange(8))
    missed = false_negative_identification(mates, Threshold(0.05, -np.inf, 100))
    assert missed.value == pytest.approx(1 - rank_trials(mates, 1)[0].mean())


def test_the_identification_threshold_is_set_on_the_best_score_of_a_search() -> None:
    # 1000 templates with uniform scores: the best of a search follows u^1000.
    rng = np.random.default_rng(4)
    cut = identification_threshold(rng.random((3000, 1000)), 0.01, manifest_hash="m")
    assert cut.value == pytest.approx(0.99 ** (1 / 1000), abs=2e-6)
    assert (cut.alpha, cut.n, cut.manifest_hash) == (0.01, 3000, "m")
    alarms = false_positive_identification(rng.random((2000, 1000)), np.arange(2000), cut)
    assert alarms.low < 0.01 < alarms.high
    with pytest.raises(EvaluationError, match="finite, non-empty table"):
        identification_threshold(np.zeros(5), 0.01)


def test_poisoning_is_the_share_of_what_can_be_lost() -> None:
    clean, poisoned = np.array([0.9, 1.0, 0.8, 0.9]), np.array([0.5, 0.3, 0.2, 0.6])
    effect = poisoning_effect(clean, poisoned, 0.1)
    assert effect.value == pytest.approx((0.9 - 0.4) / (0.9 - 0.1))
    for limit in effect.ci:  # Fieller: each limit is a ratio that a t test just rejects
        residual = (clean - poisoned) - limit * (clean - 0.1)
        assert abs(stats.ttest_1samp(residual, 0.0).statistic) == pytest.approx(stats.t.ppf(0.975, 3))
    assert poisoning_effect(clean, clean, 0.1).value == 0.0
    assert poisoning_effect(clean, np.full(4, 0.1), 0.1).value == pytest.approx(1.0)
    assert not poisoning_effect([0.1, 0.12, 0.08, 0.1], poisoned, 0.1).defined  # a recogniser that had learnt nothing
    with pytest.raises(EvaluationError, match="chance is 1"):
        poisoning_effect(clean, poisoned, 1)


def test_linkability_separates_a_signature_from_noise() -> None:
    rng = np.random.default_rng(5)
    people = np.repeat(np.arange(40), 2)
    cloak = rng.normal(size=(40, 16))[people]  # each person's photos get the same perturbation
    linked = linkability(cloak + rng.normal(size=(80, 16)), people, cloak + rng.normal(size=(80, 16)), people)
    first, second = rng.normal(size=(2, 80, 16))
    free = linkability(first, people, second, people)
    matrix = score_matrix(first, people, second, people)
    assert free == auc_interval(matrix)
    assert free.value == roc_auc(matrix.genuine, matrix.impostor)
    assert free.low < 0.5 < free.high < 0.65 < linked.low


def test_faulty_input_is_named() -> None:
    with pytest.raises(EvaluationError, match="mark photos without a face"):
        matches([0.2, np.nan], TAU)
    with pytest.raises(EvaluationError, match="scores must be a row"):
        matches(np.zeros((2, 2)), TAU)
    with pytest.raises(EvaluationError, match="acquired must be a row of 2 of true and false"):
        matches([0.2, 0.3], TAU, acquired=np.array([True]))
    with pytest.raises(EvaluationError, match="original must be a row of 2"):
        Acquisition(np.array([True, False]), np.array([True]))
    with pytest.raises(EvaluationError, match="chance is 2"):
        credited([1.0], np.array([True]), 2)
