"""Limits of false match rates and DET curves against sums and resampling by hand; coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evaluation import EvaluationError, ScoreMatrix, det_band, det_curve, false_match_interval, freeze_threshold
from evaluation.measures.bands import DYAD_CORRELATION_FLOOR


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
