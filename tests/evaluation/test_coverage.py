"""Coverage of the intervals in the cells where intervals over photos fail: few people, high rates, alike photos."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from evaluation import (
    EvaluationError,
    Interval,
    ScoreMatrix,
    det_band,
    det_curve,
    detectable_difference,
    false_match_interval,
    freeze_threshold,
    holm,
    korn_graubard,
    korn_graubard_limits,
    least_protection,
    zero_failure_people,
)
from evaluation.statistics import DYAD_CORRELATION_FLOOR

CELLS = list(itertools.product((20, 50), (0.8, 0.95, 0.98), (4, 10), (0.2, 0.6)))
REPLICATES = 2000


def beta_binomial(people: int, share: float, photos: int, icc: float, seed: int) -> np.ndarray:
    """Successes (REPLICATES, people) of people whose own rate follows a beta distribution with that ICC."""
    rng = np.random.default_rng(seed)
    shape = (1 - icc) / icc
    rate = rng.beta(share * shape, (1 - share) * shape, (REPLICATES, people))
    return rng.binomial(photos, rate).astype(np.float64)


def wilson(wins: np.ndarray, photos: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's limits as if every photo were a person of its own."""
    count, z = wins.shape[1] * photos, stats.norm.ppf(0.975)
    share = wins.sum(axis=1) / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - reach, middle + reach


def coverage(method: str, icc_floor: float = 0.3) -> list[float]:
    result = []
    for seed, (people, share, photos, icc) in enumerate(CELLS):
        wins = beta_binomial(people, share, photos, icc, seed)
        if method == "wilson":
            low, high = wilson(wins, photos)
        else:
            _, low, high = korn_graubard_limits(wins, np.full(people, photos), icc_floor=icc_floor)
        result.append(float(np.mean((low <= share) & (share <= high))))
    return result


def test_korn_graubard_with_a_correlation_floor_is_honest_in_every_hard_cell() -> None:
    found = dict(zip(CELLS, coverage("korn-graubard"), strict=True))
    assert {cell: value for cell, value in found.items() if value < 0.93} == {}


def test_the_simulation_can_fail_wilson_on_photos_does() -> None:
    assert min(coverage("wilson")) < 0.8


def test_the_floor_is_what_keeps_the_hardest_cell_honest() -> None:
    bare, floored = coverage("korn-graubard", icc_floor=0.0), coverage("korn-graubard")
    assert min(bare) < 0.93 <= min(floored)


def test_many_samples_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(3)
    trials = rng.integers(1, 9, (50, 12))
    wins = rng.binomial(trials, rng.choice([0.0, 0.5, 0.95, 1.0], (50, 1)))
    together = np.transpose(korn_graubard_limits(wins.astype(float), trials.astype(float)))
    for row, won, tried in zip(together, wins, trials, strict=True):
        success = np.concatenate([np.arange(t) < w for w, t in zip(won, tried, strict=True)])
        alone = korn_graubard(success, np.repeat(np.arange(12), tried))
        assert row.tolist() == [alone.value, *alone.ci]


def test_the_sampling_plan_has_its_published_lower_limit() -> None:
    # 50 people, 10 photos each, ICC .3, .95 observed: the two-sided lower limit is .897. Integer counts whose
    # between-person variance does not exceed that of ICC .3 leave the floor to decide.
    wins = np.array([10.0] * 25 + [9.0] * 25)
    _, low, _ = korn_graubard_limits(wins, np.full(50, 10.0))
    assert float(low) == pytest.approx(0.897, abs=5e-4)


def test_zero_failing_people_needed() -> None:
    assert [zero_failure_people(rate) for rate in (0.90, 0.95, 0.99)] == [29, 59, 299]
    assert zero_failure_people(0.5, level=0.75) == 2  # 0.5^2 = 0.25 exactly
    with pytest.raises(EvaluationError, match="rate is 1"):
        zero_failure_people(1.0)


def test_the_detectable_difference_has_power_80_percent() -> None:
    gap = detectable_difference(0.3, 50)
    assert gap == pytest.approx(2.8 * 0.3 / 50**0.5, rel=1e-3)
    draws = np.random.default_rng(0).normal(gap, 0.3, (4000, 50))
    assert np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.025)
    with pytest.raises(EvaluationError, match="at least 2 people"):
        detectable_difference(0.3, 1)


def test_holm_against_a_worked_example_and_the_definition() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    values = np.random.default_rng(1).random(7) ** 3
    order = np.argsort(values)
    for place, index in enumerate(order):
        step = max(min(1.0, (7 - j) * values[order[j]]) for j in range(place + 1))
        assert holm(values)[index] == pytest.approx(step)
    assert holm([]).shape == (0,)
    with pytest.raises(EvaluationError, match="between 0 and 1"):
        holm([0.5, 1.5])


def test_what_withstands_all_attackers_is_the_least_lower_limit() -> None:
    rates = {"a": Interval(0.9, 0.7, 0.95, 30), "b": Interval(0.8, 0.75, 0.9, 30), "c": Interval(0.99, 0.9, 1.0, 30)}
    least = least_protection(rates)
    assert (least.name, least.rate, least.low_of_all) == ("b", rates["b"], 0.7)
    with pytest.raises(EvaluationError, match="no attacker"):
        least_protection({})


def gallery(people: int, photos: int, seed: int, common: float = 0.5, noise: float = 0.6) -> ScoreMatrix:
    """Scores of Gaussian faces; some people lie nearer to the middle of all and match strangers more often."""
    rng, dim = np.random.default_rng(seed), 32
    own = rng.normal(size=(people, 1, dim)) / dim**0.5
    own[..., 0] += common * 0.5 * np.abs(rng.normal(size=(people, 1)))
    faces = own + noise * rng.normal(size=(people, photos + 3, dim)) / dim**0.5
    probes, known = faces[:, 3:].reshape(-1, dim), faces[:, :3].mean(axis=1)
    probes, known = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (probes, known))
    return ScoreMatrix(probes @ known.T, np.repeat(np.arange(people), photos), np.arange(people))


def test_the_false_match_interval_covers_and_photos_alone_would_not() -> None:
    truth = np.concatenate([gallery(700, 1, seed).impostor for seed in (900, 901)])
    for people, alpha in ((20, 0.1), (50, 0.01), (50, 0.1)):
        threshold = float(np.quantile(truth, 1 - alpha))
        matrices = [gallery(people, 4, seed) for seed in range(200)]
        found = [false_match_interval(matrix, threshold) for matrix in matrices]
        assert np.mean([i.low <= alpha <= i.high for i in found]) >= 0.93, (people, alpha)
        counts = [(int((m.impostor > threshold).sum()), m.impostor.size) for m in matrices]
        naive = [stats.binomtest(*count).proportion_ci(method="wilson") for count in counts]
        assert np.mean([i.low <= alpha <= i.high for i in naive]) < 0.8, (people, alpha)


def test_the_false_match_variance_is_the_sum_over_comparisons_that_share_a_person() -> None:
    matrix = gallery(9, 2, 4, common=4.0)
    threshold = float(np.quantile(matrix.impostor, 0.7))
    pairs = [(p, t) for p in range(18) for t in range(9) if matrix.probe_id[p] != t]
    people = [{int(matrix.probe_id[p]), t} for p, t in pairs]
    error = np.array([float(matrix.scores[pair] > threshold) for pair in pairs])
    residual = error - error.mean()
    variance = sum(
        residual[i] * residual[j] for i in range(len(pairs)) for j in range(len(pairs)) if people[i] & people[j]
    ) / len(pairs) ** 2  # fmt: skip
    size = error.mean() * (1 - error.mean()) / (variance * 9 / 8)
    # 36 pairs of people with 4 comparisons each, 8 such pairs for each person.
    floor = 144**2 / ((1 - 2 * DYAD_CORRELATION_FLOOR) * 36 * 16 + DYAD_CORRELATION_FLOOR * 9 * 32**2)
    assert size < floor
    size *= (stats.t.ppf(0.975, 143) / stats.t.ppf(0.975, 8)) ** 2
    low = stats.beta.ppf(0.025, error.mean() * size, (1 - error.mean()) * size + 1)
    found = false_match_interval(matrix, threshold)
    assert (found.value, found.low) == pytest.approx((error.mean(), low))


def test_without_any_false_match_the_upper_limit_still_counts_people() -> None:
    matrix = gallery(100, 2, 5)
    found = false_match_interval(matrix, 2.0)
    weight = (1 - 2 * DYAD_CORRELATION_FLOOR) * 4950 * 16 + DYAD_CORRELATION_FLOOR * 100 * 396**2
    size = 19800**2 / weight * (stats.t.ppf(0.975, 19799) / stats.t.ppf(0.975, 99)) ** 2
    assert found.ci == pytest.approx([0.0, 1 - 0.025 ** (1 / size)])
    assert found.high < 0.01  # a threshold set for one per cent is not confirmed by silence
    with pytest.raises(EvaluationError, match="who are probed; got 1"):
        false_match_interval(ScoreMatrix(np.eye(2)[:1], np.zeros(1, int), np.arange(2)), 0.5)


def test_the_det_curve_is_the_definition_at_every_threshold() -> None:
    rng = np.random.default_rng(6)
    genuine, impostor = rng.integers(3, 9, 40) / 10, rng.integers(0, 7, 60) / 10
    curve = det_curve(genuine, impostor)
    assert (curve.threshold[0], curve.fmr[0], curve.fnmr[0], curve.fmr[-1], curve.fnmr[-1]) == (-np.inf, 1, 0, 0, 1)
    for cut, fmr, fnmr in zip(curve.threshold, curve.fmr, curve.fnmr, strict=True):
        assert fmr == pytest.approx(np.mean(impostor > cut))
        assert fnmr == pytest.approx(np.mean(genuine <= cut))


def by_hand(matrix: ScoreMatrix, kept: np.ndarray, rate: float) -> float:
    """FNMR at the lowest threshold with that FMR, among the people who are kept."""
    rows = kept[matrix.probe_id]
    part = ScoreMatrix(matrix.scores[rows][:, kept], matrix.probe_id[rows], matrix.template_id[kept])
    curve = det_curve(part.genuine, part.impostor)
    return float(curve.fnmr[curve.fmr <= rate + 1e-12].min())


def test_the_band_is_what_resampling_people_by_hand_gives() -> None:
    matrix = gallery(12, 3, 7, noise=1.5)
    matrix = ScoreMatrix(np.round(matrix.scores, 2), matrix.probe_id, matrix.template_id)
    rates = np.array([0.0, 0.02, 0.1, 0.29, 1.0])
    band = det_band(matrix, rates, replicates=60, seed=5)
    everybody = np.ones(12, dtype=bool)
    np.testing.assert_allclose(band.fnmr, [by_hand(matrix, everybody, rate) for rate in rates])
    draws = np.random.default_rng(5).integers(0, 2, (60, 12)).astype(bool)
    assert draws.sum(axis=1).min() >= 2
    table = np.array([[by_hand(matrix, kept, rate) for rate in rates] for kept in draws])
    assert (table[:, :4].std(axis=0) > 0.01).all()  # or zeros would be compared with zeros
    np.testing.assert_allclose([band.low, band.high], np.quantile(table, [0.025, 0.975], axis=0))
    assert (band.fnmr[-1], band.high[-1], band.people) == (0.0, 0.0, 12)


def test_the_band_covers_the_curve_away_from_zero_and_not_near_it() -> None:
    for noise, honest in ((1.5, True), (1.0, False)):
        truth = [gallery(300, 4, seed, noise=noise) for seed in range(910, 930)]
        cut = np.quantile(np.concatenate([m.impostor for m in truth]), 0.9)
        missed = float(np.concatenate([m.genuine <= cut for m in truth]).mean())  # .115 and .004
        bands = [det_band(gallery(40, 2, seed, noise=noise), [0.1], replicates=200, seed=seed) for seed in range(300)]
        covered = float(np.mean([band.low[0] <= missed <= band.high[0] for band in bands]))
        # 300 samples: .92 is the nominal .95 less 2.4 standard errors.
        assert covered >= 0.92 if honest else covered < 0.8, (noise, covered)


def test_the_band_does_not_depend_on_its_blocks() -> None:
    big, rates = gallery(60, 20, 1, noise=1.5), (0.01, 0.1)  # 70,800 impostors: blocks of 20 replicates
    draws = np.random.default_rng(2).integers(0, 2, (40, 60)).astype(bool)
    table = np.array([[by_hand(big, kept, rate) for rate in rates] for kept in draws])
    assert (table.std(axis=0) > 0.01).all()
    band = det_band(big, rates, replicates=40, seed=2)
    np.testing.assert_allclose([band.low, band.high], np.quantile(table, [0.025, 0.975], axis=0))
    with pytest.raises(EvaluationError, match="false match rates between 0 and 1"):
        det_band(big, [1.5])


def test_a_threshold_frozen_on_others_is_confirmed_by_the_interval() -> None:
    threshold = freeze_threshold(gallery(200, 3, 920).impostor, 0.01)
    inside = [false_match_interval(gallery(60, 4, seed), threshold.value) for seed in range(30)]
    assert np.mean([i.low <= 0.01 <= i.high for i in inside]) >= 0.9
    loose = false_match_interval(gallery(60, 4, 1), threshold.value - 0.15)
    assert loose.low > 0.01
