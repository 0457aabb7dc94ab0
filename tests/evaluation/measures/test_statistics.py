"""Intervals over people: formulas against independent references, coverage by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from evaluation import (
    EvaluationError,
    ScoreMatrix,
    attacker_summary,
    auc_interval,
    freeze_threshold,
    gap_closed,
    gap_closed_auc,
    korn_graubard,
    paired_difference,
    per_identity,
    roc_auc,
    score_matrix,
    worst_attacker,
)
from evaluation.measures.intervals import leave_one_out_auc


def world(people: int, photos: int, spread: float, seed: int, dim: int = 16) -> ScoreMatrix:
    """Gaussian embeddings; some people are steadier than others. Half of the photos are the gallery."""
    rng = np.random.default_rng(seed)
    own = spread * np.exp(0.3 * rng.normal(size=(people, 1, 1)))
    faces = rng.normal(size=(people, 1, dim)) + own * rng.normal(size=(people, 2 * photos, dim))
    label = np.repeat(np.arange(people) + 5, photos)
    return score_matrix(faces[:, :photos].reshape(-1, dim), label, faces[:, photos:].reshape(-1, dim), label)


def test_one_trial_a_person_gives_clopper_pearson() -> None:
    # With one trial each v = p(1-p)/(G-1), hence n = G - 1, and both t quantiles agree.
    interval = korn_graubard([1] * 30 + [0] * 10, np.arange(40))
    low, high = stats.beta.ppf(0.025, 0.75 * 39, 0.25 * 39 + 1), stats.beta.ppf(0.975, 0.75 * 39 + 1, 0.25 * 39)
    assert (interval.value, interval.people) == (0.75, 40)
    assert interval.ci == pytest.approx([low, high])


def test_identical_photos_of_a_person_count_once_at_most() -> None:
    identity = np.repeat(np.arange(20), 10)
    success = np.repeat([1] * 15 + [0] * 5, 10)
    wide = korn_graubard(success, identity)
    once = korn_graubard([1] * 15 + [0] * 5, np.arange(20))
    narrow = stats.binomtest(150, 200).proportion_ci()
    assert wide.high - wide.low >= once.high - once.low > 2 * (narrow.high - narrow.low)


def test_no_failure_at_all_uses_the_correlation_floor() -> None:
    interval = korn_graubard(np.ones(200), np.repeat(np.arange(20), 10))
    # n = min(G, 200 / (1 + 9 * 0.3)) = 20, then the ratio of t quantiles.
    size = 20 * (stats.t.ppf(0.975, 199) / stats.t.ppf(0.975, 19)) ** 2
    assert interval.ci == pytest.approx([0.025 ** (1 / size), 1.0])


def test_the_stated_coverage_is_kept_for_clustered_trials() -> None:
    rng = np.random.default_rng(0)
    for people, photos, share, icc in [(20, 10, 0.8, 0.6), (20, 4, 0.95, 0.2), (50, 10, 0.95, 0.6), (100, 4, 0.3, 0.3)]:
        shape = (1 - icc) / icc
        rate = rng.beta(share * shape, (1 - share) * shape, (400, people))
        wins = rng.random((400, people, photos)) < rate[..., None]
        identity = np.repeat(np.arange(people), photos)
        intervals = [korn_graubard(row.ravel(), identity) for row in wins]
        covered = np.mean([i.low <= share <= i.high for i in intervals])
        naive = [stats.binomtest(int(row.sum()), row.size).proportion_ci(method="wilson") for row in wins]
        assert covered >= 0.925, (people, photos, share, icc, covered)
        assert covered >= np.mean([i.low <= share <= i.high for i in naive])


def test_leaving_out_a_person_equals_recomputing() -> None:
    matrix = world(9, 3, 1.5, seed=1)
    matrix = ScoreMatrix(np.round(matrix.scores, 1)[:-2], matrix.probe_id[:-2], matrix.template_id)  # ties, uneven
    people, areas = leave_one_out_auc(matrix)
    for person, area in zip(people, areas, strict=True):
        rows, columns = matrix.probe_id != person, matrix.template_id != person
        part = ScoreMatrix(matrix.scores[rows][:, columns], matrix.probe_id[rows], matrix.template_id[columns])
        assert area == pytest.approx(roc_auc(part.genuine, part.impostor), abs=1e-12)


def test_the_auc_interval_stays_short_one_swap_away_from_one() -> None:
    people = np.arange(60)
    scores = np.where(np.eye(60, dtype=bool), 0.9, 0.1)
    scores[0, 0], scores[0, 1] = 0.5, 0.6  # one impostor of 3540 is ahead, of one probe of 60
    interval = auc_interval(ScoreMatrix(scores, people, people))
    assert interval.value == pytest.approx(1 - 1 / (60 * 3540), abs=1e-9)
    # A proportion with no exception in 30 people has the lower limit .025 ** (1 / 30).
    assert interval.low == pytest.approx(0.025 ** (1 / 30), abs=5e-3)
    assert interval.high > interval.value


def test_the_auc_interval_keeps_its_coverage() -> None:
    for people, spread in ((20, 0.8), (20, 1.2), (60, 1.2)):
        big = [world(500, 4, spread, seed=1000 + i) for i in range(4)]
        truth = float(np.mean([roc_auc(m.genuine, m.impostor) for m in big]))
        intervals = [auc_interval(world(people, 4, spread, seed=i)) for i in range(200)]
        covered = np.mean([i.low <= truth <= i.high for i in intervals])
        assert 0.925 <= covered <= 0.995, (people, spread, covered)


def test_an_auc_of_equal_people_keeps_the_floor_on_its_variance() -> None:
    # Every person does equally well, so the jackknife sees next to no variance between them.
    people = np.arange(40)
    scores = np.where(np.eye(40, dtype=bool), 0.5, np.linspace(0.0, 0.52, 40)[(people[:, None] - people[None]) % 40])
    interval = auc_interval(ScoreMatrix(scores, people, people))
    width = 2 * stats.t.ppf(0.975, 39) * (0.1 / (interval.value * (1 - interval.value)) / 40) ** 0.5
    logit = np.log([interval.high / (1 - interval.high), interval.low / (1 - interval.low)])
    assert logit[0] - logit[1] == pytest.approx(width)


def test_a_perfect_auc_has_a_one_sided_interval() -> None:
    people = np.arange(10)
    interval = auc_interval(ScoreMatrix(np.eye(10), people, people))
    assert (interval.value, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(0.025 ** (1 / 10))


def test_rates_by_person() -> None:
    people, rates = per_identity([True, False, True, True], [4, 4, 2, 4])
    assert people.tolist() == [2, 4]
    assert rates.tolist() == pytest.approx([1.0, 2 / 3])


def test_sign_flip_p_equals_the_enumeration_of_all_flips() -> None:
    gap = np.array([0.3, 0.1, -0.05, 0.4, 0.2, 0.0, 0.25])
    means = [abs(np.dot(signs, gap)) for signs in itertools.product([1, -1], repeat=7)]
    expected = np.mean([m >= abs(gap.sum()) - 1e-9 for m in means])
    result = paired_difference(gap + 0.5, np.full(7, 0.5))
    assert result.p_value == pytest.approx(expected)
    reference = stats.ttest_1samp(gap, 0.0).confidence_interval()
    assert result.difference.ci == pytest.approx([reference.low, reference.high])


def test_random_flips_agree_with_scipy_and_repeat() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random(30), rng.random(30) + 0.12
    result = paired_difference(first, second, seed=3, permutations=49999)
    reference = stats.permutation_test(
        (first, second), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", n_resamples=49999,
        vectorized=True, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert result.p_value == pytest.approx(reference.pvalue, abs=0.02)
    assert paired_difference(first, second, seed=3, permutations=49999) == result


def test_the_gap_is_the_ratio_and_fieller_solves_its_own_equation() -> None:
    rng = np.random.default_rng(5)
    floor = rng.random(40) * 0.2
    baseline = floor + 0.5 + 0.2 * rng.normal(size=40)
    ours = floor + 0.2 + 0.2 * rng.normal(size=40)
    gap = gap_closed(baseline, ours, floor)
    assert gap.defined
    assert gap.value == pytest.approx((baseline - ours).mean() / (baseline - floor).mean())
    for limit in gap.ci:  # each limit is a ratio that a t test just rejects
        residual = (baseline - ours) - limit * (baseline - floor)
        assert abs(stats.ttest_1samp(residual, 0.0).statistic) == pytest.approx(stats.t.ppf(0.975, 39))
    assert gap.low < gap.value < gap.high


def test_no_merit_is_zero_and_the_floor_itself_is_one() -> None:
    rng = np.random.default_rng(6)
    floor, baseline = rng.random(30) * 0.1, 0.8 + 0.1 * rng.random(30)
    assert gap_closed(baseline, baseline, floor).value == 0.0
    assert gap_closed(baseline, floor, floor).ci == pytest.approx([1.0, 1.0])


def test_a_gap_without_a_denominator_is_undefined_with_a_reason() -> None:
    rng = np.random.default_rng(7)
    floor = rng.random(20)
    baseline = rng.permutation(floor)
    gap = gap_closed(baseline, floor, floor)
    assert not gap.defined
    assert math.isnan(gap.value)
    assert math.isnan(gap.low)
    assert "not clear of zero" in gap.reason
    assert not gap_closed(floor, floor, floor + 0.5).defined  # a floor above the baseline


def test_the_interval_of_the_gap_keeps_its_coverage() -> None:
    rng = np.random.default_rng(8)
    hits = []
    for _ in range(400):
        skill = rng.beta(2, 2, 60)
        rates = [rng.binomial(8, np.clip(skill * f, 0, 1)) / 8 for f in (1.0, 0.6, 0.2)]
        gap = gap_closed(*rates)
        hits.append(gap.low <= 0.5 <= gap.high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_the_gap_in_auc_follows_the_areas() -> None:
    matrices = [world(40, 4, spread, seed=2) for spread in (0.8, 1.8, 3.0)]
    b, o, f = (roc_auc(m.genuine, m.impostor) for m in matrices)
    gap = gap_closed_auc(*matrices)
    assert gap.value == pytest.approx((b - o) / (b - f))
    assert gap.low < gap.value < gap.high
    with pytest.raises(EvaluationError, match="same people"):
        gap_closed_auc(matrices[0], matrices[1], world(30, 4, 3.0, seed=2))


def test_the_worst_attacker_is_the_headline() -> None:
    identity = np.repeat(np.arange(20), 5)
    rng = np.random.default_rng(9)
    trials = {name: (rng.random(100) < p, identity) for name, p in {"a": 0.1, "b": 0.5, "c": 0.2}.items()}
    worst = worst_attacker(trials)
    assert worst.name == "b"
    assert worst.rate == korn_graubard(*trials["b"])
    assert worst.upper_of_all == max(i.high for i in worst.rates.values())
    with pytest.raises(EvaluationError, match="no attacker"):
        worst_attacker({})


def test_the_summary_of_an_attacker_has_the_figures_of_its_parts() -> None:
    matrix, other = world(30, 4, 1.0, seed=3), world(40, 4, 1.0, seed=4)
    threshold = freeze_threshold(other.impostor, 0.01)
    summary = attacker_summary(matrix, threshold)
    assert summary["rank1"] == pytest.approx((matrix.rank == 1).mean())
    assert summary["auc"] == roc_auc(matrix.genuine, matrix.impostor)
    assert summary["tar_at_fmr_0.01"] == (matrix.genuine > threshold.value).mean()
    assert summary["auc_ci95"] == auc_interval(matrix).ci


def test_faulty_input_is_named() -> None:
    with pytest.raises(EvaluationError, match="at least 2 of them"):
        korn_graubard([1, 0], [3, 3])
    with pytest.raises(EvaluationError, match="between 0 and 1 in every trial"):
        korn_graubard([2.0, 0.0], [0, 1])
    with pytest.raises(EvaluationError, match="level is 95"):
        korn_graubard([1, 0], [0, 1], level=95)
    with pytest.raises(EvaluationError, match="icc_floor is 2"):
        korn_graubard([1, 0], [0, 1], icc_floor=2)
    with pytest.raises(EvaluationError, match="same people"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(EvaluationError, match="not finite"):
        gap_closed([1.0, np.nan], [0.0, 0.0], [0.0, 0.0])
    with pytest.raises(EvaluationError, match="at least 3 probed people"):
        auc_interval(ScoreMatrix(np.eye(2), np.arange(2), np.arange(2)))
