"""Comparisons over the same people: paired differences, the gap that a camera closes, and how many people they need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.errors import EvaluationError
from evaluation.measures.intervals import Interval, check_level, pseudo_values
from evaluation.measures.metrics import Floats, ScoreMatrix, Values, as_array


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference over people, first minus second.

    Attributes:
        difference: Estimate with its t interval.
        p_value: Two-sided sign-flip permutation p.
    """

    difference: Interval
    p_value: float


def paired_difference(
    first: Values, second: Values, *, seed: int = 0, permutations: int = 9999, level: float = 0.95
) -> PairedDifference:
    """Compare two cameras (or attackers) on the same people.

    Args:
        first: (G,) value of each person, in the same order as ``second`` (see :func:`per_identity`).
        second: (G,).
        seed: Seed of the random sign flips; up to 13 people, all flips are enumerated instead.
        permutations: Random flips.
        level: Confidence level of the interval.
    """
    check_level(level)
    one, other = _aligned(first, second)
    gap = one - other
    count = len(gap)
    if count <= 13:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = 1 - 2 * np.random.default_rng(seed).integers(0, 2, (permutations, count))
    # The small allowance keeps rounding from splitting flips that give the same mean.
    reached = int((np.abs(signs @ gap) >= abs(gap.sum()) - 1e-9).sum())
    p_value = reached / len(signs) if count <= 13 else (reached + 1) / (len(signs) + 1)
    mean = float(gap.mean())
    reach = float(stats.t.ppf((1 + level) / 2, count - 1) * gap.std(ddof=1)) / math.sqrt(count)
    return PairedDifference(Interval(mean, mean - reach, mean + reach, count, level), p_value)


def _aligned(*rows: Values) -> list[Floats]:
    arrays = [as_array(row).astype(np.float64) for row in rows]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays) or len(arrays[0]) < 2:
        raise EvaluationError(
            f"values must be rows over the same people, at least 2; got shapes {[a.shape for a in arrays]}."
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise EvaluationError("values of some people are not finite.")
    return arrays


@dataclass(frozen=True)
class Gap:
    """Share of the gap between the best baseline and landmarks alone that a camera closes.

    Attributes:
        value: (baseline - ours) / (baseline - floor), NaN when undefined. 0: no merit; 1: an ideal privacy camera.
        low: Lower limit, NaN when undefined.
        high: Upper limit, NaN when undefined.
        people: Identities behind it.
        reason: Why it is undefined, or "".
        numerator: Baseline - ours.
        denominator: Baseline - floor.
    """

    value: float
    low: float
    high: float
    people: int
    reason: str
    numerator: float
    denominator: float

    @property
    def defined(self) -> bool:
        """Whether the ratio has a bounded interval."""
        return not self.reason

    @property
    def ci(self) -> list[float]:
        """[low, high] as plain numbers, for a report."""
        return [self.low, self.high]


def _fieller(above: Floats, below: Floats, top: float, bottom: float, level: float) -> Gap:
    """Fieller's limits of a ratio of means (J. R. Statist. Soc. B 16, 1954) from paired values of people."""
    check_level(level)
    count = len(above)
    quantile = float(stats.t.ppf((1 + level) / 2, count - 1))
    cov = np.cov(above, below, ddof=1) / count
    reach = quantile * math.sqrt(cov[1, 1])
    if bottom - reach <= 0:
        reason = (
            f"baseline minus floor is {bottom:.3f} with the {level:.0%} interval [{bottom - reach:.3f}, "
            f"{bottom + reach:.3f}], which is not clear of zero: there is no gap to close a share of."
        )
        return Gap(math.nan, math.nan, math.nan, count, reason, top, bottom)
    # Roots of a t^2 - 2 b t + c = 0; a > 0 because the denominator is clear of zero.
    a = bottom**2 - quantile**2 * cov[1, 1]
    b = top * bottom - quantile**2 * cov[0, 1]
    c = top**2 - quantile**2 * cov[0, 0]
    root = math.sqrt(max(b * b - a * c, 0.0))
    return Gap(top / bottom, float((b - root) / a), float((b + root) / a), count, "", top, bottom)


def gap_closed(baseline: Values, ours: Values, floor: Values, *, level: float = 0.95) -> Gap:
    """Gap closed for a rate, from the success of each person under three releases at equal landmark error.

    Args:
        baseline: (G,) success rate of each person at the best baseline camera.
        ours: (G,) at the camera under test, same people in the same order.
        floor: (G,) with landmarks alone.
        level: Confidence level of the interval.

    Returns:
        The ratio with Fieller's interval, in which people are paired; NaN with a reason when the denominator is not
        clear of zero.
    """
    b, o, f = _aligned(baseline, ours, floor)
    return _fieller(b - o, b - f, float((b - o).mean()), float((b - f).mean()), level)


def gap_closed_auc(baseline: ScoreMatrix, ours: ScoreMatrix, floor: ScoreMatrix, *, level: float = 0.95) -> Gap:
    """Gap closed for the area under the ROC curve; jackknife pseudo-values of people take the place of rates."""
    parts = [pseudo_values(matrix) for matrix in (baseline, ours, floor)]
    if any(not np.array_equal(part[0], parts[0][0]) for part in parts):
        raise EvaluationError("the three releases were not attacked with the same people; use one test set.")
    (b, o, f), (area_b, area_o, area_f) = [p[1] for p in parts], [p[2] for p in parts]
    return _fieller(b - o, b - f, area_b - area_o, area_b - area_f, level)


def zero_failure_people(rate: float, *, level: float = 0.95) -> int:
    """People of whom none may fail for a one-sided lower limit of ``rate``: the least n with rate^n <= 1 - level."""
    check_level(level)
    if not 0 < rate < 1:
        raise EvaluationError(f"rate is {rate}; a rate to be shown lies between 0 and 1, for instance 0.95.")
    # The tiny subtraction keeps an exact quotient from being rounded up.
    return math.ceil(math.log1p(-level) / math.log(rate) - 1e-9)


def detectable_difference(sd: float, people: int) -> float:
    """Difference of two protectors that a paired test finds with power .80 at the two-sided .05 level.

    2.8 sd / sqrt(G), with the standard deviation of the difference within people.
    """
    if sd < 0 or people < 2:
        raise EvaluationError(f"need a standard deviation of at least 0 and at least 2 people; got {sd} and {people}.")
    return float(stats.norm.ppf(0.975) + stats.norm.ppf(0.80)) * sd / math.sqrt(people)
