"""What one attacker reaches, and what holds over all attackers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.measures.intervals import ICC_FLOOR, Interval, auc_interval, korn_graubard
from evaluation.measures.metrics import Floats, ScoreMatrix, Values, rank_trials, tar_at_threshold
from evaluation.measures.threshold import Threshold


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


def pooled_summary(matrix: ScoreMatrix, probes: int, *, level: float = 0.95) -> dict[str, object]:
    """Rank-1 and AUC of one attacker who pools the probes of each person, as plain numbers with their intervals.

    Args:
        matrix: One row for each person (:func:`evaluation.measures.metrics.pooled_score_matrix`).
        probes: Probes of each person that were pooled.
        level: Nominal coverage.
    """
    rank1, area = korn_graubard(*rank_trials(matrix, 1), level=level), auc_interval(matrix, level=level)
    return {
        "probes": probes,
        "rank1": rank1.value,
        "rank1_ci95": rank1.ci,
        "auc": area.value,
        "auc_ci95": area.ci,
        "people": rank1.people,
    }
