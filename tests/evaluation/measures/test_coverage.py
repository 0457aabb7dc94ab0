"""Coverage of the intervals in the cells where intervals over photos fail: few people, high rates, alike photos."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from evaluation import (
    EvaluationError,
    Interval,
    detectable_difference,
    holm,
    korn_graubard,
    korn_graubard_limits,
    least_protection,
    zero_failure_people,
)

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
