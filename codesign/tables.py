"""Score tables of a finished run, read when they are asked for, and figures that may be missing."""

from __future__ import annotations

import math

from codesign.data import Splits
from codesign.proof import pooled_scores, scores
from codesign.records import CameraResult
from evaluation import ScoreMatrix, per_identity, rank_trials
from evaluation.measures.metrics import Floats
from ground.protocols import RunStore


def measured(value: float | None) -> float:
    """A figure as a number; NaN where it is not defined."""
    return math.nan if value is None else value


class Tables:
    """Score tables of attackers, read from the run folder when asked for.

    Args:
        run: The run folder.
        splits: The people.
        pooled: Whether all probes of a person are pooled into one.
    """

    def __init__(self, run: RunStore, splits: Splits, *, pooled: bool = False) -> None:
        self.run, self.splits, self.pooled = run, splits, pooled

    def __call__(self, camera: str, attacker: str) -> ScoreMatrix:
        """Scores of the test people that an attacker on a camera gave."""
        embeddings = self.run.read_tensors(f"proof/{camera}/{attacker}.safetensors")
        return pooled_scores(embeddings, self.splits) if self.pooled else scores(embeddings, self.splits)[1]

    def worst(self, camera: CameraResult) -> tuple[str, str]:
        """The strongest attackers on a camera by rank-1 and by AUC."""
        if self.pooled:
            names = camera.worst_attacker_pooled, camera.worst_attacker_pooled_auc
        else:
            names = camera.worst_attacker, camera.worst_attacker_auc
        return names[0] or camera.worst_attacker, names[1] or camera.worst_attacker

    def rates(self, camera: str, attacker: str) -> Floats:
        """Success of each test person."""
        return per_identity(*rank_trials(self(camera, attacker), 1))[1]
