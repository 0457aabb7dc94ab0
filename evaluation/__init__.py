"""Recognition measures, frozen thresholds, person-level statistics and the landmark-only floor."""

from __future__ import annotations

from evaluation.errors import EvaluationError
from evaluation.metrics import (
    ScoreMatrix,
    cosine_scores,
    eer,
    embedding_mean,
    rank1_trials,
    rank_k,
    rank_trials,
    roc_auc,
    score_matrix,
    tar_at_threshold,
    templates,
    verification_scores,
)
from evaluation.oracle import (
    LandmarkAttacker,
    LandmarkFloor,
    add_landmark_noise,
    landmark_floor,
    noise_sd_px,
    normalised_mean_error,
)
from evaluation.statistics import (
    Gap,
    Interval,
    PairedDifference,
    WorstAttacker,
    attacker_summary,
    auc_interval,
    gap_closed,
    gap_closed_auc,
    korn_graubard,
    paired_difference,
    per_identity,
    worst_attacker,
)
from evaluation.threshold import Threshold, freeze_threshold, manifest_hash

__all__ = [
    "EvaluationError",
    "Gap",
    "Interval",
    "LandmarkAttacker",
    "LandmarkFloor",
    "PairedDifference",
    "ScoreMatrix",
    "Threshold",
    "WorstAttacker",
    "add_landmark_noise",
    "attacker_summary",
    "auc_interval",
    "cosine_scores",
    "eer",
    "embedding_mean",
    "freeze_threshold",
    "gap_closed",
    "gap_closed_auc",
    "korn_graubard",
    "landmark_floor",
    "manifest_hash",
    "noise_sd_px",
    "normalised_mean_error",
    "paired_difference",
    "per_identity",
    "rank1_trials",
    "rank_k",
    "rank_trials",
    "roc_auc",
    "score_matrix",
    "tar_at_threshold",
    "templates",
    "verification_scores",
    "worst_attacker",
]
