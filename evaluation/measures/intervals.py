"""Intervals in which the unit is the person, not the photo: proportions, and areas under the ROC curve.

Photos of one person fail together, so intervals that count photos are far too narrow. Everything here counts or
leaves out whole people. False match rates and DET curves, whose comparisons have two people, are in :mod:`.bands`;
what compares cameras is in :mod:`.comparisons`, and what holds over all attackers in :mod:`.attackers`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evaluation.errors import EvaluationError
from evaluation.measures.metrics import Floats, Ints, ScoreMatrix, Values, as_array, roc_auc

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


def pseudo_values(matrix: ScoreMatrix) -> tuple[Ints, Floats, float]:
    """Probed people (G,), the jackknife pseudo-value of the AUC of each (G,), and the AUC itself.

    Raises:
        EvaluationError: As for :func:`leave_one_out_auc`.
    """
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
    people, pseudo, area = pseudo_values(matrix)
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
