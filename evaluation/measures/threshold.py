"""A decision threshold that is set once, on people of its own, and then kept."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.measures.metrics import Floats, Values, as_array


@dataclass(frozen=True)
class Threshold:
    """A frozen threshold; a score matches when it is *above* ``value``.

    Attributes:
        alpha: The false match rate that is aimed at.
        value: The threshold, in units of the score.
        n: Number of impostor scores on which it was set.
        manifest_hash: Hex sha256 of the manifest it belongs to (data, split, weights), or "" if none was given.
    """

    alpha: float
    value: float
    n: int
    manifest_hash: str = ""

    @property
    def supported(self) -> bool:
        """Whether n reaches 30 / alpha, the customary "rule of 30" for a false match rate."""
        return self.n * self.alpha >= 30

    def accepts(self, scores: Values) -> np.ndarray:
        """Decision for each score (bool, same shape)."""
        return np.asarray(as_array(scores).astype(np.float64) > self.value)


def manifest_hash(manifest: dict[str, object]) -> str:
    """Hex sha256 of a manifest of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def freeze_threshold(impostor: Values, alpha: float = 0.01, *, manifest_hash: str = "") -> Threshold:
    """Set the threshold for a false match rate on calibration impostors.

    The value is the ceil((n + 1)(1 - alpha))-th smallest impostor score. For exchangeable scores a new impostor then
    exceeds it with probability at most alpha (split-conformal quantile; Vovk et al., 2005).

    Args:
        impostor: Impostor scores (any shape) of people who are not tested.
        alpha: False match rate, 0 < alpha < 1.
        manifest_hash: Hash of the manifest it belongs to; see :class:`Threshold`.

    Raises:
        EvaluationError: Alpha outside (0, 1), scores not finite, or too few of them to reach alpha at all.
    """
    if not 0 < alpha < 1:
        raise EvaluationError(f"alpha is {alpha}; a false match rate lies between 0 and 1.")
    scores: Floats = np.sort(as_array(impostor).astype(np.float64).ravel())
    if not np.isfinite(scores).all():
        raise EvaluationError("calibration scores hold values that are not finite.")
    n = len(scores)
    # The tiny subtraction keeps an exact product such as 100 * 0.99 from being rounded up to the next rank.
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    if rank > n or rank < 1:
        need = math.ceil(1 / alpha - 1 - 1e-9)
        raise EvaluationError(
            f"{n} impostor scores cannot set a false match rate of {alpha}; give at least {need}, "
            f"better {math.ceil(30 / alpha)}."
        )
    return Threshold(alpha, float(scores[rank - 1]), n, manifest_hash)
