"""Linear discriminant in the two-covariance model (Ioffe, "Probabilistic LDA", ECCV 2006), in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evaluation.errors import EvaluationError
from evaluation.measures.metrics import Floats


@dataclass(frozen=True)
class Discriminant:
    """Linear map whose cosine approximates the two-covariance log-likelihood ratio.

    Attributes:
        mean: Mean (D,) of the training rows.
        axes: Discriminant directions (D, D), the strongest first; the variance within a person is 1 on each.
        weights: Factor of each axis, (D,).
    """

    mean: Floats
    axes: Floats
    weights: Floats

    def __call__(self, rows: Floats) -> Floats:
        """Embeddings (N, D), not normalised, of rows (N, D)."""
        return (rows - self.mean) @ self.axes * self.weights

    def embed(self, rows: Tensor) -> Tensor:
        """Unit vectors (N, D), float32 on the device of the rows, of rows (N, D); computed in float64 on the CPU."""
        mapped = torch.from_numpy(self(rows.detach().double().cpu().numpy()))
        return functional.normalize(mapped.to(rows.device, torch.float32), dim=1)


def fit_discriminant(rows: Floats, identity: np.ndarray, ridge: float = 1e-3) -> Discriminant:
    """Two-covariance discriminant from labelled rows (N, D).

    Within-person scatter is whitened; in the eigenbasis of the between-person covariance, with variance b_k per axis
    against a within variance of 1, the product term of the log-likelihood ratio of "same person" has the weight
    b_k / (1 + 2 b_k). Axes are scaled by its square root, so that an inner product is that term.

    Args:
        rows: Features.
        identity: Whole number for each row; at least two people, one of them with two rows.
        ridge: Share of the mean within variance added to every axis.
    """
    people, place, count = np.unique(identity, return_inverse=True, return_counts=True)
    if len(people) < 2 or count.max() < 2:
        raise EvaluationError("training needs at least 2 people and one of them with 2 captures.")
    mean = rows.mean(axis=0)
    scale = rows.std(axis=0).mean() or 1.0
    centred = (rows - mean) / scale
    sums = np.zeros((len(people), rows.shape[1]))
    np.add.at(sums, place, centred)
    means = sums / count[:, None]
    within = centred - means[place]
    sw = within.T @ within / max(len(rows) - len(people), 1)
    sw += (ridge * np.trace(sw) / len(sw) + 1e-9) * np.eye(len(sw))
    # Means of n noisy rows carry sw / n of within-person variance; it is taken off the between-person part.
    sb = means.T @ means / len(people) - sw * float((1 / count).mean())
    value, vector = np.linalg.eigh(sw)
    whiten = vector / np.sqrt(value)
    between, axes = np.linalg.eigh(whiten.T @ sb @ whiten)
    between = np.clip(between, 0.0, None)
    # Strongest axis first.
    return Discriminant(mean, (whiten @ axes / scale)[:, ::-1], np.sqrt(between / (1 + 2 * between))[::-1])
