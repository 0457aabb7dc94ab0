"""Attackers joined: a weighted sum of the similarities that each of them finds, as one more attacker."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from codesign.data import Part
from evaluation import embedding_mean, rank_trials, roc_auc, score_matrix

#: People on whom weights are chosen; none of them is tested.
CHOSEN_ON = ("validation", "calibration")
#: Shares that a further attacker may get, and how many are joined at most.
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_MOST = 3
#: What a further attacker must add to the sum of rank-1 and AUC on the people of the choice.
_LEAST_GAIN = 0.002

Embeddings = Mapping[str, Tensor]


@dataclass(frozen=True)
class Fusion:
    """Attackers and their weights, which sum to one.

    Attributes:
        weights: By name of the attacker.
    """

    weights: Mapping[str, float]

    def join(self, embeddings: Mapping[str, Embeddings], part: str) -> Tensor:
        """Joint unit embeddings (N, sum of D) of a part: an inner product is the weighted mean of the cosines.

        Args:
            embeddings: By attacker, then by part; ``calibration`` of each gives the common direction that is taken off.
            part: Which part.
        """
        rows = [
            math.sqrt(weight) * _centred(embeddings[name][part], embeddings[name]["calibration"])
            for name, weight in self.weights.items()
        ]
        return torch.cat(rows, dim=1)


def fuse(embeddings: Mapping[str, Embeddings], parts: Mapping[str, Part]) -> Fusion:
    """Join the strongest attackers, one after the other, as long as people of the choice are named better.

    Args:
        embeddings: By attacker, then by part: at least ``validation`` and ``calibration``.
        parts: The people.
    """
    identity = torch.cat([parts[name].faces.identity for name in CHOSEN_ON])
    gallery = torch.cat([parts[name].gallery for name in CHOSEN_ON])

    def worth(fusion: Fusion) -> float:
        rows = torch.cat([fusion.join(embeddings, name) for name in CHOSEN_ON])
        table = score_matrix(rows[gallery], identity[gallery], rows[~gallery], identity[~gallery])
        return float(rank_trials(table, 1)[0].mean()) + roc_auc(table.genuine, table.impostor)

    alone = {name: worth(Fusion({name: 1.0})) for name in embeddings}
    best = max(alone, key=lambda name: alone[name])
    chosen, reached = Fusion({best: 1.0}), alone[best]
    while len(chosen.weights) < min(_MOST, len(embeddings)):
        trials = [
            Fusion({**{key: (1 - share) * weight for key, weight in chosen.weights.items()}, name: share})
            for name in embeddings
            if name not in chosen.weights
            for share in _SHARES
        ]
        values = [worth(trial) for trial in trials]
        top = max(range(len(trials)), key=lambda index: values[index])
        if values[top] < reached + _LEAST_GAIN:
            break
        chosen, reached = trials[top], values[top]
    return chosen


def _centred(rows: Tensor, calibration: Tensor) -> Tensor:
    centre = torch.from_numpy(embedding_mean(calibration)).to(rows)
    return functional.normalize(functional.normalize(rows, dim=1) - centre, dim=1)
