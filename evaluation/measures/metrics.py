"""Recognition scores and the quantities read from them.

Vocabulary follows ISO/IEC 19795-1:2021: a *genuine* comparison is a probe against the template of its own person,
an *impostor* comparison is a probe against the template of somebody else. Scores are cosines; higher means more alike.
A template is the renormalised mean of the unit embeddings of one person's gallery photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from evaluation.errors import EvaluationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Values = ArrayLike | torch.Tensor


def as_array(values: Values) -> NDArray[np.generic]:
    """Return a NumPy array on the processor, from an array, a sequence or a tensor (graph detached)."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _matrix(values: Values, what: str) -> Floats:
    array = as_array(values).astype(np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise EvaluationError(f"{what} must be a non-empty table (samples, features); got shape {array.shape}.")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise EvaluationError(f"{what} holds values that are not finite in {bad} of {len(array)} rows; mend the model.")
    return array


def _labels(values: Values, count: int, what: str) -> Ints:
    array = as_array(values)
    if array.shape != (count,):
        raise EvaluationError(f"{what} must have one entry for each of {count} samples; got shape {array.shape}.")
    if not np.issubdtype(array.dtype, np.integer):
        raise EvaluationError(f"{what} must be whole numbers; got {array.dtype}.")
    return array.astype(np.int64)


def unit(embeddings: Values, centre: Values | None = None) -> Floats:
    """Scale embeddings to unit length, optionally after removing a common direction.

    Args:
        embeddings: (N, D).
        centre: (D,) mean of *unit* embeddings of people who are in neither gallery nor probes (see
            :func:`embedding_mean`). It is subtracted from the unit embeddings, which are then rescaled.

    Returns:
        (N, D) float64 rows of length one. A row of zeros stays zero: it scores 0 against everybody.
    """
    rows = _matrix(embeddings, "embeddings")
    rows = _rescale(rows)
    if centre is None:
        return rows
    middle = as_array(centre).astype(np.float64)
    if middle.shape != (rows.shape[1],):
        raise EvaluationError(f"centre has shape {middle.shape}; it must be ({rows.shape[1]},), one value a feature.")
    return _rescale(rows - middle)


def _rescale(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def embedding_mean(embeddings: Values) -> Floats:
    """Mean (D,) of unit embeddings (N, D); estimate it on people disjoint from gallery and probes."""
    return np.asarray(unit(embeddings).mean(axis=0))


def cosine_scores(first: Values, second: Values, *, centre: Values | None = None) -> Floats:
    """All cosines (N, M) between the rows of ``first`` (N, D) and of ``second`` (M, D)."""
    left, right = unit(first, centre), unit(second, centre)
    if left.shape[1] != right.shape[1]:
        raise EvaluationError(f"embeddings have {left.shape[1]} and {right.shape[1]} features; use one recogniser.")
    return np.asarray(left @ right.T)


def templates(gallery_emb: Values, gallery_id: Values, *, centre: Values | None = None) -> tuple[Floats, Ints]:
    """One template for each person of the gallery.

    Args:
        gallery_emb: (N, D) embeddings.
        gallery_id: (N,) whole numbers.
        centre: Common direction that is removed first; see :func:`unit`.

    Returns:
        Templates (G, D), the renormalised means, and their identities (G,) in rising order.
    """
    rows = unit(gallery_emb, centre)
    labels = _labels(gallery_id, len(rows), "gallery_id")
    people, place = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(people), rows.shape[1]))
    np.add.at(sums, place, rows)
    return _rescale(sums), people


@dataclass(frozen=True)
class ScoreMatrix:
    """Every probe against every template.

    Attributes:
        scores: (P, G) cosines.
        probe_id: (P,) identity of each probe.
        template_id: (G,) identity of each template, each once.
    """

    scores: Floats
    probe_id: Ints
    template_id: Ints

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.probe_id), len(self.template_id)):
            raise EvaluationError(
                f"scores have shape {self.scores.shape}, but there are {len(self.probe_id)} probes and "
                f"{len(self.template_id)} templates."
            )
        if not np.isfinite(self.scores).all():
            raise EvaluationError("scores hold values that are not finite.")
        if len(np.unique(self.template_id)) != len(self.template_id):
            raise EvaluationError("template_id names a person twice; average the gallery photos of a person first.")
        if len(self.template_id) < 2:
            raise EvaluationError("the gallery holds fewer than 2 people; identification needs at least 2.")
        lost = np.setdiff1d(self.probe_id, self.template_id)
        if len(lost):
            raise EvaluationError(f"{len(lost)} probe identities have no template (first: {lost[0]}); enrol them.")

    @property
    def own(self) -> Bools:
        """(P, G) true where the probe meets its own template."""
        return np.asarray(self.probe_id[:, None] == self.template_id[None, :])

    @property
    def genuine(self) -> Floats:
        """(P,) score of each probe with its own template."""
        return self.scores[self.own]

    @property
    def impostor(self) -> Floats:
        """(P * (G - 1),) scores with all other templates, probe by probe."""
        return self.scores[~self.own]

    @property
    def rank(self) -> Ints:
        """(P,) rank of the own template, 1 is best. Equal scores go to the earlier template, as argmax does."""
        own = self.own
        mine = self.genuine[:, None]
        column = own.argmax(axis=1)[:, None]
        earlier = np.arange(len(self.template_id))[None, :] < column
        ahead = (self.scores > mine) | ((self.scores == mine) & earlier)
        return np.asarray(1 + ahead.sum(axis=1), dtype=np.int64)


def score_matrix(
    gallery_emb: Values, gallery_id: Values, probe_emb: Values, probe_id: Values, *, centre: Values | None = None
) -> ScoreMatrix:
    """Average the gallery into templates and compare every probe with every template.

    Args:
        gallery_emb: (N, D) embeddings.
        gallery_id: (N,) whole numbers.
        probe_emb: (P, D) embeddings.
        probe_id: (P,) whole numbers.
        centre: Common direction that is removed first; see :func:`unit`.

    Raises:
        EvaluationError: Shapes disagree, values are not finite, or a probe's person is not enrolled.
    """
    known, people = templates(gallery_emb, gallery_id, centre=centre)
    probes = unit(probe_emb, centre)
    if probes.shape[1] != known.shape[1]:
        raise EvaluationError(f"gallery has {known.shape[1]} features, probes {probes.shape[1]}; use one recogniser.")
    return ScoreMatrix(probes @ known.T, _labels(probe_id, len(probes), "probe_id"), people)


def pooled_score_matrix(
    gallery_emb: Values, gallery_id: Values, probe_emb: Values, probe_id: Values, *, centre: Values | None = None
) -> ScoreMatrix:
    """As :func:`score_matrix`, with all probes of a person averaged into one: an attacker who knows them to be of one.

    The pictures that a phone, a tracker or a doorbell takes of somebody come together, so the unit of a decision is
    rarely a single frame.
    """
    known, people = templates(gallery_emb, gallery_id, centre=centre)
    asked, who = templates(probe_emb, probe_id, centre=centre)
    if asked.shape[1] != known.shape[1]:
        raise EvaluationError(f"gallery has {known.shape[1]} features, probes {asked.shape[1]}; use one recogniser.")
    return ScoreMatrix(asked @ known.T, who, people)


def rank1_trials(
    gallery_emb: Values, gallery_id: Values, probe_emb: Values, probe_id: Values, *, centre: Values | None = None
) -> tuple[Bools, Ints]:
    """Closed-set identification: is the own template the best? Returns (success (P,), identity (P,))."""
    return rank_trials(score_matrix(gallery_emb, gallery_id, probe_emb, probe_id, centre=centre), 1)


def rank_trials(matrix: ScoreMatrix, k: int) -> tuple[Bools, Ints]:
    """Success of each probe at rank k (own template among the k best), and the probe identities."""
    if not 1 <= k <= len(matrix.template_id):
        raise EvaluationError(f"rank {k} is outside 1..{len(matrix.template_id)}, the number of templates.")
    return np.asarray(matrix.rank <= k), matrix.probe_id


def rank_k(matrix: ScoreMatrix, k: int) -> float:
    """Share of probes whose own template is among the k best."""
    return float(rank_trials(matrix, k)[0].mean())


def verification_scores(
    gallery_emb: Values, gallery_id: Values, probe_emb: Values, probe_id: Values, *, centre: Values | None = None
) -> tuple[Floats, Floats]:
    """Genuine scores (P,) and impostor scores (P * (G - 1),) of probes against templates."""
    matrix = score_matrix(gallery_emb, gallery_id, probe_emb, probe_id, centre=centre)
    return matrix.genuine, matrix.impostor


def _pair(genuine: Values, impostor: Values) -> tuple[Floats, Floats]:
    first = as_array(genuine).astype(np.float64).ravel()
    second = as_array(impostor).astype(np.float64).ravel()
    if not len(first) or not len(second):
        raise EvaluationError(f"need genuine and impostor scores; got {len(first)} and {len(second)}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise EvaluationError("scores hold values that are not finite.")
    return first, second


def roc_auc(genuine: Values, impostor: Values) -> float:
    """Area under the ROC curve: P(genuine > impostor) + P(equal) / 2 (the Mann-Whitney statistic)."""
    first, second = _pair(genuine, impostor)
    second = np.sort(second)
    below = np.searchsorted(second, first, "left").astype(np.float64)
    upto = np.searchsorted(second, first, "right")
    return float((below + upto).mean() / (2 * len(second)))


def tar_at_threshold(genuine: Values, threshold: float) -> float:
    """True accept rate: share of genuine scores above the threshold (1 - FNMR)."""
    scores = as_array(genuine).astype(np.float64)
    if not scores.size:
        raise EvaluationError("no genuine scores given.")
    return float((scores > threshold).mean())


def eer(genuine: Values, impostor: Values) -> float:
    """Equal error rate (descriptive only): where the false match and false non-match rates cross.

    The ROC is taken as the polygon through its operating points, so the crossing may lie between two of them.
    """
    first, second = (np.sort(x) for x in _pair(genuine, impostor))
    cuts = np.unique(np.concatenate([first, second]))
    missed = np.concatenate([[0.0], np.searchsorted(first, cuts, "right") / len(first)])
    matched = np.concatenate([[1.0], 1 - np.searchsorted(second, cuts, "right") / len(second)])
    gap = missed - matched
    at = int(np.argmax(gap >= 0))
    share = -gap[at - 1] / (gap[at] - gap[at - 1])
    return float(missed[at - 1] + share * (missed[at] - missed[at - 1]))


@dataclass(frozen=True)
class Det:
    """Detection error trade-off: both errors at every threshold that changes one (ISO/IEC 19795-1:2021).

    Attributes:
        threshold: (K,) rising; a score matches when it is above. The first is minus infinity: everything matches.
        fmr: (K,) false match rate, falling from 1 to 0.
        fnmr: (K,) false non-match rate, rising from 0 to 1.
    """

    threshold: Floats
    fmr: Floats
    fnmr: Floats


def det_curve(genuine: Values, impostor: Values) -> Det:
    """The DET curve of genuine and impostor scores (any shape): exact, with one point for each distinct score."""
    first, second = (np.sort(x) for x in _pair(genuine, impostor))
    cuts = np.concatenate([[-np.inf], np.unique(np.concatenate([first, second]))])
    fmr = 1 - np.searchsorted(second, cuts, "right") / len(second)
    fnmr = np.searchsorted(first, cuts, "right") / len(first)
    return Det(cuts, np.asarray(fmr), np.asarray(fnmr))
