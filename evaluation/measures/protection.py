"""What protection takes from an attacker: dodging, impersonation, open-set search, poisoning and linkage.

Vocabulary follows ISO/IEC 19795-1:2021. The threshold is frozen on clean photos of other people
(:func:`evaluation.freeze_threshold`) and never set on protected scores. Comparisons are of *different* photos
of a person, never of a photo with its own protected copy. All intervals are over people.

A photo on which the attacker finds no face is a failure to acquire (FTA). It is never left out: the attacker falls back
to the box or landmarks of the original if they are known (:class:`Acquisition`), and guesses if they are not. The rate
of failures is a figure of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.measures.comparisons import Gap, gap_closed
from evaluation.measures.intervals import Interval, auc_interval, korn_graubard
from evaluation.measures.metrics import Bools, Floats, ScoreMatrix, Values, as_array, rank_trials, score_matrix
from evaluation.measures.threshold import Threshold, freeze_threshold

#: False positive identification rates at which an open set is reported, the strictest (NIST FRTE 1:N) first.
FPIR = (0.003, 0.01, 0.05)


def _mask(values: Values, what: str, count: int | None = None) -> Bools:
    array = as_array(values)
    if array.ndim != 1 or array.dtype != np.bool_ or (count is not None and len(array) != count):
        size = "" if count is None else f" of {count}"
        raise EvaluationError(f"{what} must be a row{size} of true and false; got {array.dtype} {array.shape}.")
    return np.asarray(array, dtype=np.bool_)


@dataclass(frozen=True)
class Acquisition:
    """How the attacker gets at the face in each photo.

    Attributes:
        detected: (N,) whether it finds the face in what it was given.
        original: (N,) whether it knows box or landmarks from the photo before protection.
    """

    detected: Bools
    original: Bools

    def __post_init__(self) -> None:
        _mask(self.original, "original", len(_mask(self.detected, "detected")))

    @property
    def acquired(self) -> Bools:
        """(N,) photos that the primary attacker can use; in the others it guesses."""
        return np.asarray(self.detected | self.original)

    def failure_rate(self, identity: Values, *, level: float = 0.95) -> Interval:
        """FTA: share of photos in which no face is found, before any fallback."""
        return korn_graubard(~self.detected, identity, level=level)


def credited(success: Values, acquired: Values, chance: float) -> Floats:
    """Success (N,) of an attacker who guesses where it has no face.

    Args:
        success: (N,) outcomes in 0..1; what stands where nothing was acquired does not matter.
        acquired: (N,) see :class:`Acquisition`.
        chance: Success of a guess: 1/M in a gallery of M people, the false match rate in verification.
    """
    if not 0 <= chance <= 1:
        raise EvaluationError(f"chance is {chance}; the success of a guess lies between 0 and 1.")
    outcome = as_array(success).astype(np.float64)
    return np.where(_mask(acquired, "acquired", len(outcome)), outcome, chance)


def matches(scores: Values, threshold: Threshold, *, acquired: Values | None = None) -> Floats:
    """Decision (N,) of each comparison: 1 above the threshold, else 0; a guess matches with probability alpha.

    Args:
        scores: (N,) of genuine comparisons, or of comparisons with the target of an impersonation.
        threshold: Frozen.
        acquired: (N,) see :class:`Acquisition`; default: all.

    Raises:
        EvaluationError: A score that counts is not finite.
    """
    values = as_array(scores).astype(np.float64)
    if values.ndim != 1:
        raise EvaluationError(f"scores must be a row, one for each comparison; got shape {values.shape}.")
    used = np.ones(len(values), bool) if acquired is None else _mask(acquired, "acquired", len(values))
    if not np.isfinite(values[used]).all():
        raise EvaluationError("scores hold values that are not finite; mark photos without a face as not acquired.")
    return credited(threshold.accepts(values), used, threshold.alpha)


def psr(matched: Values, identity: Values, *, level: float = 0.95) -> Interval:
    """Raw protection success rate, P[s <= tau] over genuine comparisons (the false non-match rate of the attack).

    It counts as success what the recogniser misses without any protection; :func:`psr_net` does not.

    Args:
        matched: (N,) of :func:`matches`, genuine comparisons with protection.
        identity: (N,) person of each.
        level: Nominal coverage.
    """
    return korn_graubard(1 - as_array(matched).astype(np.float64), identity, level=level)


def psr_net(matched: Values, matched_clean: Values, identity: Values, *, level: float = 0.95) -> Interval:
    """Net protection success rate: 1 - P[match protected and match clean] / P[match clean].

    Both are read on the same pairs, so this is the share of pairs, among those that match clean, that no longer match;
    the interval is Korn and Graubard's on these pairs. Without protection it is 0.

    Args:
        matched: (N,) of :func:`matches`, genuine comparisons with protection.
        matched_clean: (N,) bool, the same comparisons without; a photo that is not acquired clean does not match.
        identity: (N,) person of each.
        level: Nominal coverage.

    Raises:
        EvaluationError: Fewer than 2 people are matched clean, so that there is nothing to protect.
    """
    outcome, labels = as_array(matched).astype(np.float64), as_array(identity)
    clean = _mask(matched_clean, "matched_clean", len(outcome))
    if labels.shape != outcome.shape:
        raise EvaluationError(f"identity must have one entry for each of {len(outcome)} pairs; got {labels.shape}.")
    people = len(np.unique(labels[clean]))
    if people < 2:
        raise EvaluationError(
            f"{people} people are matched without protection, so a net rate has no denominator; use a recogniser that "
            "works on these photos."
        )
    return korn_graubard(1 - outcome[clean], labels[clean], level=level)


def targeted_impersonation(matched_target: Values, identity: Values, *, level: float = 0.95) -> Interval:
    """ASR_T: share of protected photos that match their target, another person.

    The literature reports it as "protection success rate"; it is not one, as a photo may match both the target and its
    owner. Compare it with the figure of the clean photos, and use a photo of the target that the protector never saw.

    Args:
        matched_target: (N,) of :func:`matches`, protected photo against the target's.
        identity: (N,) person who is protected.
        level: Nominal coverage.
    """
    return korn_graubard(matched_target, identity, level=level)


def supported_fpir(searches: int) -> float | None:
    """Strictest rate of :data:`FPIR` that independent non-mated searches support, or None.

    Rule of 30: at least 30 false positives must be expected, that is 10,000 searches for .003, 3,000 for .01 and 600
    for .05. Searches of one person, or with near-copies of one photo, are not independent.
    """
    return next((rate for rate in FPIR if searches * rate >= 30 - 1e-9), None)


def identification_threshold(non_mated: Values, fpir: float, *, manifest_hash: str = "") -> Threshold:
    """Threshold for a false positive identification rate, from the best score of each non-mated search.

    Args:
        non_mated: (Q, M) scores of people who are not enrolled (and not tested) against M templates, clean.
        fpir: Rate aimed at.
        manifest_hash: Hash of the manifest; see :class:`evaluation.measures.threshold.Threshold`.
    """
    return freeze_threshold(_searches(non_mated).max(axis=1), fpir, manifest_hash=manifest_hash)


def false_positive_identification(
    non_mated: Values, identity: Values, threshold: Threshold, *, level: float = 0.95
) -> Interval:
    """FPIR(M, T): share of non-mated searches that return anybody above the threshold.

    Args:
        non_mated: (Q, M) scores of people who are not enrolled against M templates.
        identity: (Q,) who is searched for.
        threshold: Threshold from :func:`identification_threshold`.
        level: Nominal coverage.
    """
    return korn_graubard(threshold.accepts(_searches(non_mated).max(axis=1)), identity, level=level)


def false_negative_identification(
    mated: ScoreMatrix, threshold: Threshold, *, candidates: int = 1, level: float = 0.95
) -> Interval:
    """FNIR(M, R, T): share of mated searches whose mate is not among the R best, or not above the threshold.

    Args:
        mated: Probes of enrolled people against all M templates.
        threshold: Threshold from :func:`identification_threshold`.
        candidates: R, 1..M, length of the list that the search returns.
        level: Nominal coverage.
    """
    listed, identity = rank_trials(mated, candidates)
    return korn_graubard(~(listed & threshold.accepts(mated.genuine)), identity, level=level)


def _searches(scores: Values) -> Floats:
    table = as_array(scores).astype(np.float64)
    if table.ndim != 2 or 0 in table.shape or not np.isfinite(table).all():
        raise EvaluationError(f"searches must be a finite, non-empty table (searches, templates); got {table.shape}.")
    return table


def poisoning_effect(clean: Values, poisoned: Values, chance: float, *, level: float = 0.95) -> Gap:
    """(Acc_clean - Acc_P) / (Acc_clean - chance): what training on protected photos costs on *clean* test photos.

    1: the poisoned recogniser guesses; 0: it learnt as well as from clean photos.

    Args:
        clean: (G,) accuracy on each person's clean test photos after training on clean photos
            (:func:`evaluation.measures.intervals.per_identity`).
        poisoned: (G,) after training on protected photos; same people, same order.
        chance: Accuracy of a guess.
        level: Confidence level of Fieller's interval, in which people are paired.
    """
    if not 0 <= chance < 1:
        raise EvaluationError(f"chance is {chance}; the accuracy of a guess lies between 0 and 1.")
    accuracy = as_array(clean).astype(np.float64)
    return gap_closed(accuracy, poisoned, np.full(accuracy.shape, chance), level=level)


def linkability(
    gallery_emb: Values, gallery_id: Values, probe_emb: Values, probe_id: Values, *, level: float = 0.95
) -> Interval:
    """AUC of telling whether two *protected* releases show one person; 0.5 is unlinkable.

    Args:
        gallery_emb: (N, D) embeddings of protected photos.
        gallery_id: (N,).
        probe_emb: (P, D) embeddings of other protected photos of the same people.
        probe_id: (P,).
        level: Nominal coverage.
    """
    return auc_interval(score_matrix(gallery_emb, gallery_id, probe_emb, probe_id), level=level)
