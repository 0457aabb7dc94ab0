"""Intervals and tests in which the unit is the person, not the photo.

Photos of one person fail together, so intervals that count photos are far too narrow. Everything here counts, leaves
out or pairs whole people: proportions, areas under the ROC curve, paired differences, the gap closed, and what holds
over all attackers. False match rates and DET curves, whose comparisons have two people, are in :mod:`.bands`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evaluation.errors import EvaluationError
from evaluation.measures.metrics import (
    Floats,
    Ints,
    ScoreMatrix,
    Values,
    as_array,
    rank_trials,
    roc_auc,
    tar_at_threshold,
)
from evaluation.measures.threshold import Threshold

AUC_VARIANCE_FLOOR = 0.1  # least variance between people of the AUC, as a share of area * (1 - area); set by simulation
ICC_FLOOR = 0.3  # least correlation assumed between trials of one person, fixed before any data are seen


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval.

    Attributes:
        value: The estimate.
        low: Lower limit.
        high: Upper limit.
        people: Number of identities behind it.
        level: Nominal coverage.
    """

    value: float
    low: float
    high: float
    people: int
    level: float = 0.95

    @property
    def ci(self) -> list[float]:
        """[low, high] as plain numbers, for a report."""
        return [self.low, self.high]


def check_level(level: float) -> None:
    """Refuse a coverage that does not lie between 0 and 1."""
    if not 0 < level < 1:
        raise EvaluationError(f"level is {level}; a coverage lies between 0 and 1, for instance 0.95.")


def _by_identity(success: Values, identity: Values) -> tuple[Ints, Floats, Floats]:
    wins = as_array(success).astype(np.float64)
    labels = as_array(identity)
    if wins.ndim != 1 or wins.shape != labels.shape or not len(wins):
        raise EvaluationError(f"success and identity must be two equal rows; got {wins.shape} and {labels.shape}.")
    if not ((wins >= 0) & (wins <= 1)).all():
        raise EvaluationError("success must lie between 0 and 1 in every trial.")
    people, place = np.unique(labels, return_inverse=True)
    trials = np.bincount(place).astype(np.float64)
    return np.asarray(people, dtype=np.int64), np.bincount(place, wins).astype(np.float64), trials


def per_identity(success: Values, identity: Values) -> tuple[Ints, Floats]:
    """Mean success of each person: (identities (G,) in rising order, rates (G,))."""
    people, wins, trials = _by_identity(success, identity)
    return people, wins / trials


def korn_graubard(success: Values, identity: Values, *, level: float = 0.95, icc_floor: float = ICC_FLOOR) -> Interval:
    """Interval of a proportion whose trials cluster in people.

    Clopper-Pearson limits at an effective sample size (Korn & Graubard, Survey Methodology 24, 1998): n is the smaller
    of p(1-p)/v with the between-person variance v, and N / (1 + (m - 1) icc_floor) with m trials a person on average;
    it is then scaled by the squared ratio of the t quantiles with N - 1 and G - 1 degrees of freedom. The floor on the
    intra-class correlation keeps the interval honest when few people fail and v cannot be estimated.

    Args:
        success: (N,) outcome of each trial, 0..1.
        identity: (N,) person of each trial.
        level: Nominal coverage.
        icc_floor: Least intra-class correlation assumed.

    Raises:
        EvaluationError: Fewer than 2 people, or shapes that disagree.
    """
    _, wins, trials = _by_identity(success, identity)
    share, low, high = korn_graubard_limits(wins, trials, level=level, icc_floor=icc_floor)
    return Interval(float(share), float(low), float(high), len(wins), level)


def korn_graubard_limits(
    wins: Floats, trials: Floats, *, level: float = 0.95, icc_floor: float = ICC_FLOOR
) -> tuple[Floats, Floats, Floats]:
    """The limits of :func:`korn_graubard` for many samples at once.

    Args:
        wins: (..., G) successes of each person.
        trials: (..., G) trials of each person, at least one.
        level: Nominal coverage.
        icc_floor: Least intra-class correlation assumed.

    Returns:
        Estimates, lower and upper limits, each (...).

    Raises:
        EvaluationError: Fewer than 2 people, a person without trials, or more successes than trials.
    """
    check_level(level)
    if not 0 <= icc_floor <= 1:
        raise EvaluationError(f"icc_floor is {icc_floor}; a correlation floor lies between 0 and 1.")
    wins, trials = np.broadcast_arrays(np.asarray(wins, np.float64), np.asarray(trials, np.float64))
    people = wins.shape[-1] if wins.ndim else 0
    if people < 2:
        raise EvaluationError(f"an interval over people needs at least 2 of them; got {people}.")
    if not ((trials >= 1) & (wins >= 0) & (wins <= trials + 1e-9)).all():
        raise EvaluationError("each person needs at least one trial, and between none and all of them may succeed.")
    total = trials.sum(axis=-1)
    share = wins.sum(axis=-1) / total
    residual = wins - share[..., None] * trials
    variance = people / (people - 1) * (residual**2).sum(axis=-1) / total**2
    size = np.minimum(effective_size(share, variance, people), total / (1 + (total / people - 1) * icc_floor))
    low, high = proportion_limits(share, size, total, people, level=level)
    return share, low, high


def effective_size(share: ArrayLike, variance: ArrayLike, people: int) -> Floats:
    """Independent trials p(1-p)/v whose proportion would vary as this one; v = 0, "cannot be estimated": G."""
    share, variance = np.asarray(share, np.float64), np.asarray(variance, np.float64)
    known = variance > 1e-15
    return np.where(known, share * (1 - share) / np.where(known, variance, 1.0), float(people))


def proportion_limits(
    share: ArrayLike, size: ArrayLike, total: ArrayLike, people: int, *, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Clopper-Pearson limits of a proportion at an effective sample size estimated from people.

    Args:
        share: (...) the estimate.
        size: (...) independent trials with the same variance; it is scaled by the squared ratio of the t quantiles
            with total - 1 and G - 1 degrees of freedom.
        total: (...) trials, the most that size may count for.
        people: G, at least 2.
        level: Nominal coverage.

    Returns:
        Lower and upper limits (...).
    """
    tail, most = (1 + level) / 2, np.asarray(total, np.float64)
    scale = (stats.t.ppf(tail, most - 1) / stats.t.ppf(tail, people - 1)) ** 2
    return _clopper_pearson(np.asarray(share, np.float64), np.minimum(most, size * scale), level)


def _clopper_pearson(share: Floats, size: Floats, level: float) -> tuple[Floats, Floats]:
    wins, tail = np.asarray(share * size), (1 - level) / 2
    lost = size - wins
    some, missing = wins > 1e-12, lost > 1e-12
    low = np.where(some, stats.beta.ppf(tail, np.where(some, wins, 1.0), lost + 1), 0.0)
    high = np.where(missing, stats.beta.ppf(1 - tail, wins + 1, np.where(missing, lost, 1.0)), 1.0)
    return low, high


def leave_one_out_auc(matrix: ScoreMatrix) -> tuple[Ints, Floats]:
    """AUC with each probed person left out, both as probe and as template.

    Returns the probed identities (G,) and the areas (G,). Each area is exact; it follows from three sums over the full
    comparison table by inclusion and exclusion, so the cost is that of sorting the scores about twice.

    Raises:
        EvaluationError: Fewer than 3 people are probed, or the gallery is too small to leave a person out.
    """
    people, place = np.unique(matrix.probe_id, return_inverse=True)
    if len(people) < 3 or len(matrix.template_id) < 3:
        raise EvaluationError(f"leaving one person out needs at least 3 probed people; got {len(people)}.")
    own, genuine = matrix.own, matrix.genuine
    impostor = np.sort(matrix.impostor)
    sorted_genuine = np.sort(genuine)
    beaten = (np.searchsorted(impostor, genuine, "left") + np.searchsorted(impostor, genuine, "right")) / 2
    lower = np.searchsorted(sorted_genuine, matrix.scores, "left") / 2
    upper = np.searchsorted(sorted_genuine, matrix.scores, "right") / 2
    above = np.where(own, 0.0, len(genuine) - lower - upper)
    total = float(beaten.sum())
    width = len(matrix.template_id) - 1
    probes = np.bincount(place)
    columns = np.searchsorted(matrix.template_id, people)
    as_genuine = np.bincount(place, beaten)
    as_probe = np.bincount(place, above.sum(axis=1))
    as_template = above.sum(axis=0)[columns]
    twice = np.zeros(len(people))
    for g, column in enumerate(columns):
        mine = place == g
        met = np.concatenate([matrix.scores[mine][~own[mine]], matrix.scores[~mine, column]])
        twice[g] = roc_auc(genuine[mine], met) * probes[g] * len(met)
    pairs = (len(genuine) - probes) * ((len(genuine) - probes) * (width - 1.0))
    return people, np.asarray((total - as_genuine - as_probe - as_template + twice) / pairs)


def _pseudo_values(matrix: ScoreMatrix) -> tuple[Ints, Floats, float]:
    area = roc_auc(matrix.genuine, matrix.impostor)
    people, left_out = leave_one_out_auc(matrix)
    return people, len(people) * area - (len(people) - 1) * left_out, area


def auc_interval(matrix: ScoreMatrix, *, level: float = 0.95) -> Interval:
    """Interval of the area under the ROC curve by leaving people out.

    The jackknife variance is carried to the logit scale (delta method) and used with the t quantile of G - 1 degrees
    of freedom. In simulations with Gaussian embeddings this covers better at 20 to 150 people than the percentile
    bootstrap over people, which is too narrow. Near 1 the area hangs on a few hard people, and a sample without one
    has too small a variance; a floor, ``AUC_VARIANCE_FLOOR``, keeps such intervals from being too short. At an area of
    exactly 0 or 1 the limits are those of a proportion without exception in G people.
    """
    check_level(level)
    people, pseudo, area = _pseudo_values(matrix)
    count = len(people)
    variance = max(float(pseudo.var(ddof=1)), AUC_VARIANCE_FLOOR * area * (1 - area))
    if area * (1 - area) < 1e-12:
        low, high = _clopper_pearson(np.asarray(area), np.asarray(float(count)), level)
        return Interval(area, float(low), float(high), count, level)
    reach = float(stats.t.ppf((1 + level) / 2, count - 1)) * math.sqrt(variance / count) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    ends = [float(1 / (1 + np.exp(-(middle + side * reach)))) for side in (-1, 1)]
    # Very close to 0 or 1 the delta method gives all of 0..1. The area of a person lies in 0..1 and acts twice, as
    # probe and as template, so the limits of a proportion in half as many people are never too narrow.
    low, high = _clopper_pearson(np.asarray(area), np.asarray(count / 2), level)
    return Interval(area, max(ends[0], float(low)), min(ends[1], float(high)), count, level)


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
    parts = [_pseudo_values(matrix) for matrix in (baseline, ours, floor)]
    if any(not np.array_equal(part[0], parts[0][0]) for part in parts):
        raise EvaluationError("the three releases were not attacked with the same people; use one test set.")
    (b, o, f), (area_b, area_o, area_f) = [p[1] for p in parts], [p[2] for p in parts]
    return _fieller(b - o, b - f, area_b - area_o, area_b - area_f, level)


@dataclass(frozen=True)
class WorstAttacker:
    """The attacker with the highest success, and what can be said about all of them at once.

    Attributes:
        name: Attacker with the highest rate (ties: the higher upper limit).
        rate: Its interval, the headline.
        upper_of_all: The largest upper limit of any attacker. "No attacker exceeds x" holds at the stated level
            without a correction for their number (intersection-union; Berger, Technometrics 24, 1982).
        rates: Every attacker.
    """

    name: str
    rate: Interval
    upper_of_all: float
    rates: dict[str, Interval]


def worst_attacker(
    trials: Mapping[str, tuple[Values, Values]], *, level: float = 0.95, icc_floor: float = ICC_FLOOR
) -> WorstAttacker:
    """Pick the worst attacker from (success, identity) trials of each."""
    if not trials:
        raise EvaluationError("no attacker was given; protection is only ever against attackers that were run.")
    rates = {name: korn_graubard(*trial, level=level, icc_floor=icc_floor) for name, trial in trials.items()}
    name = max(rates, key=lambda key: (rates[key].value, rates[key].high))
    return WorstAttacker(name, rates[name], max(rate.high for rate in rates.values()), rates)


@dataclass(frozen=True)
class LeastProtection:
    """The attacker against whom least is protected, and what holds against all of them at once.

    Attributes:
        name: Attacker with the lowest protection rate (ties: the lower lower limit).
        rate: Its interval.
        low_of_all: The least lower limit of any attacker. "At least x is protected against each of them" holds at the
            stated level without a correction for their number (intersection-union; Berger, Technometrics 24, 1982).
        rates: Every attacker.
    """

    name: str
    rate: Interval
    low_of_all: float
    rates: dict[str, Interval]


def least_protection(rates: Mapping[str, Interval]) -> LeastProtection:
    """What withstands all attackers, from the protection rate (for instance PSR_net) under each."""
    if not rates:
        raise EvaluationError("no attacker was given; protection is only ever against attackers that were run.")
    name = min(rates, key=lambda key: (rates[key].value, rates[key].low))
    return LeastProtection(name, rates[name], min(rate.low for rate in rates.values()), dict(rates))


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """p-values (K,) adjusted for their number, in the given order (Holm, Scand. J. Statist. 6, 1979).

    For "some attacker succeeds" and for rankings; a claim about *all* attackers needs none (:func:`least_protection`).
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise EvaluationError("p-values must be a row of numbers between 0 and 1.")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


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


def attacker_summary(matrix: ScoreMatrix, threshold: Threshold, *, level: float = 0.95) -> dict[str, object]:
    """All figures of one attacker as plain numbers: rank-1, AUC and true accept rate with their intervals."""
    success, identity = rank_trials(matrix, 1)
    rank1, area = korn_graubard(success, identity, level=level), auc_interval(matrix, level=level)
    accepted = korn_graubard(threshold.accepts(matrix.genuine), matrix.probe_id, level=level)
    tar = f"tar_at_fmr_{threshold.alpha:g}"
    return {
        "rank1": rank1.value,
        "rank1_ci95": rank1.ci,
        "auc": area.value,
        "auc_ci95": area.ci,
        tar: tar_at_threshold(matrix.genuine, threshold.value),
        f"{tar}_ci95": accepted.ci,
        "fmr": float(threshold.accepts(matrix.impostor).mean()),
        "threshold": threshold.value,
        "people": rank1.people,
    }
