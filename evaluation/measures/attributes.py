"""What protection leaves of use: detection, landmarks, attributes such as expression and gender.

A *share of clean* sets a figure after protection against the same figure before it, paired by person.
"""

from __future__ import annotations

import numpy as np
import torch

from evaluation.errors import EvaluationError
from evaluation.measures.comparisons import Gap, gap_closed
from evaluation.measures.intervals import ICC_FLOOR, Interval, effective_size, korn_graubard, proportion_limits
from evaluation.measures.metrics import Floats, Ints, Values, as_array
from faces.landmarks import nme

SUM_TOLERANCE = 1e-3  # a softmax in float32 over some dozen classes sums to 1 within far less


def detection_rate(detected: Values, identity: Values, *, level: float = 0.95) -> Interval:
    """Share of photos (N,) in which a face is found, with an interval over people."""
    return korn_graubard(detected, identity, level=level)


def share_of_clean(protected: Values, clean: Values, *, level: float = 0.95) -> Gap:
    """Mean figure after protection over the mean before, for instance of detection or attribute accuracy.

    Args:
        protected: (G,) figure of each person (:func:`evaluation.measures.intervals.per_identity`).
        clean: (G,) same people, same order.
        level: Confidence level of Fieller's interval.

    Returns:
        The ratio; NaN with a reason where the clean figure is not clear of zero.
    """
    before = as_array(clean).astype(np.float64)
    after = as_array(protected).astype(np.float64)
    if before.shape != after.shape:
        raise EvaluationError(f"figures must be of the same people; got shapes {after.shape} and {before.shape}.")
    return gap_closed(before, before - after, np.zeros(before.shape), level=level)


def nme_increase(protected: torch.Tensor, clean: torch.Tensor, truth: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Rise of the normalised mean error of landmarks (N, K, 2) read after protection over those read before, (N,).

    ``truth`` and ``unit`` as for :func:`faces.landmarks.nme`. A photo in which no landmarks are found belongs to the
    detection rate; leave it out here on both sides.
    """
    return nme(protected, truth, unit) - nme(clean, truth, unit)


def class_agreement(first: Values, second: Values) -> Floats:
    """Agreement 1 - total variation of two class distributions of each photo, for instance of its expression.

    Args:
        first: (N, K) probabilities before protection.
        second: (N, K) after.

    Returns:
        (N,) in 0..1: the mass that both share.
    """
    one, other = (as_array(values).astype(np.float64) for values in (first, second))
    if one.shape != other.shape or one.ndim != 2 or 0 in one.shape:
        raise EvaluationError(f"distributions must be two tables (N, K) of one shape; got {one.shape}, {other.shape}.")
    for table in (one, other):
        if not ((table >= 0).all() and (np.abs(table.sum(axis=1) - 1) <= SUM_TOLERANCE).all()):
            raise EvaluationError("each row must be probabilities that sum to 1; apply a softmax to logits first.")
    return np.asarray(np.minimum(one, other).sum(axis=1))


def balanced_accuracy(predicted: Values, truth: Values, identity: Values, *, level: float = 0.95) -> Interval:
    """Mean over classes of the share of their photos that are named rightly, with an interval over people.

    Each photo weighs 1 / (classes x photos of its class). The interval is that of
    :func:`evaluation.korn_graubard` carried over to weighted trials: the variance sums, by person, the
    weighted residuals about the rate of their class, and the floor on the intra-class correlation uses the weights.

    Args:
        predicted: (N,) classes, whole numbers.
        truth: (N,) true classes; an attribute that was read from the clean photo serves as truth for the protected one.
        identity: (N,) person of each photo.
        level: Nominal coverage.

    Raises:
        EvaluationError: Fewer than 2 people or 2 classes.
    """
    named, true, who = (_classes(values) for values in (predicted, truth, identity))
    if not (named.shape == true.shape == who.shape):
        raise EvaluationError(f"need one class and person a photo; got {named.shape}, {true.shape} and {who.shape}.")
    kinds, kind = np.unique(true, return_inverse=True)
    people, place = np.unique(who, return_inverse=True)
    if len(kinds) < 2 or len(people) < 2:
        raise EvaluationError(f"need at least 2 classes and 2 people; got {len(kinds)} and {len(people)}.")
    right = (named == true).astype(np.float64)
    photos = np.bincount(kind)
    recall = np.bincount(kind, right) / photos
    weight = 1 / (len(kinds) * photos[kind])
    share = float(recall.mean())
    residual = np.bincount(place, weight * (right - recall[kind]))
    variance = len(people) / (len(people) - 1) * float((residual**2).sum())
    clustered = float((np.bincount(place, weight) ** 2).sum())
    largest = 1 / ((1 - ICC_FLOOR) * float((weight**2).sum()) + ICC_FLOOR * clustered)
    size = np.minimum(effective_size(share, variance, len(people)), largest)
    low, high = proportion_limits(share, size, len(right), len(people), level=level)
    return Interval(share, float(low), float(high), len(people), level)


def _classes(values: Values) -> Ints:
    array = as_array(values)
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.integer):
        raise EvaluationError(f"classes and identities must be rows of whole numbers; got {array.dtype} {array.shape}.")
    return array.astype(np.int64)
