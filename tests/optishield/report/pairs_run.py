"""A made-up run of the camera of pairs: plausible figures, drawn arrays, no training."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign.records import (
    AblationResult,
    AttackerResult,
    CameraResult,
    ChannelFacts,
    Difference,
    ExposurePoint,
    GapResult,
    Gaps,
    LearningPoint,
    PooledResult,
    Surface,
    TrainMaskSummary,
    WinnersFacts,
)
from tests.optishield.summaries import attacker, train_summary

#: Pixels across a tile, samples across the scene, cells across a PSF.
PIXELS, SCENE, CELLS = 16, 32, 21
CHANNEL = (0, 0, 0, 0, 1)
#: Top, left, height, width; the second counts from the anchor's winner.
WINDOWS = ((4, 3, 8, 10), (-5, -4, 4, 5))


def pooled_attacker(rank1: float, auc: float, pooled: float) -> AttackerResult:
    """Figures of one attacker, with those of five pictures of each person."""
    together = PooledResult(probes=5, rank1=pooled, rank1_ci95=(pooled - 0.05, pooled + 0.05), auc=auc, people=60)
    return attacker(rank1, auc).model_copy(update={"pooled": together})


def _fields(result: AttackerResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in type(result).model_fields}


def _no_gap() -> Gaps:
    return Gaps(rank1=GapResult(value=None, reason=""), auc=GapResult(value=None, reason=""))


def ablation(lacks: str, error: float) -> AblationResult:
    """A camera with other optics, whose landmark error is larger by ``error``."""
    change = Difference(value=error, ci95=(error - 0.03, error + 0.03), p=0.001)
    return AblationResult(lacks=lacks, rank1=Difference(value=0.01), error=change, gap_closed=_no_gap())


def summary(**changes: Any) -> TrainMaskSummary:
    """A run that designed a camera of four pairs for the face and one for an eye."""
    ours = {"winner-places": pooled_attacker(0.07, 0.61, 0.15), "landmarks-only": pooled_attacker(0.05, 0.62, 0.2)}
    both = {"attackers": ours, "worst_attacker": "winner-places", "worst_attacker_pooled": "landmarks-only"}
    bare, unlearned = (CameraResult(nme=nme, ablation="optics", **both) for nme in (0.283, 0.191))
    made = train_summary()
    channels = (
        ChannelFacts(name="face", pairs=4, places=80, kernel_error=0.081),
        ChannelFacts(name="left-eye", pairs=1, places=20, kernel_error=0.052),
    )
    fields: dict[str, Any] = {
        "attackers": ours,
        "worst_attacker": "winner-places",
        "baselines": {**made.baselines, "bare-lens": bare, "unlearned-pairs": unlearned},
        "ablations": {
            "bare-lens": ablation("the masks", 0.185),
            "unlearned-pairs": ablation("the learning of the masks", 0.093),
        },
        "camera": made.camera.model_copy(update={"pixels": PIXELS, "mask_relief_m": 31e-6}),
        "winners": WinnersFacts(
            tiles=10, bits=11.6, array_width_m=9.6e-3, residual_mean=0.21, residual_worst=0.34, channels=channels
        ),
        "surfaces": (
            Surface(name="scene", camera="clean", attacker="sface-as-published", rank1=0.97, auc=0.99, pooled_rank1=1),
            Surface(name="places of the winners", camera="ours", attacker="winner-places", rank1=0.07, auc=0.61),
            Surface(name="released landmarks", camera="ours", attacker="landmarks-only", rank1=0.05, auc=0.62),
        ),
        "learning_curve": (
            LearningPoint(attacker="winner-places", trained_on=400, **_fields(ours["winner-places"])),
            LearningPoint(attacker="winner-places", trained_on=1600, **_fields(ours["winner-places"])),
        ),
        "exposures": (
            ExposurePoint(attacker="winner-places", exposures=25, **_fields(pooled_attacker(0.08, 0.62, 0.2))),
        ),
        "history_names": (),
    }
    return train_summary(**{**fields, **changes})


def arrays(faces: int = 2) -> dict[str, np.ndarray]:
    """Arrays of the shapes that such a run leaves."""
    rng = np.random.default_rng(1)
    pairs = len(CHANNEL)
    tiles = 2 * pairs
    psf = rng.random((tiles, 3, CELLS, CELLS))
    psf /= psf.sum((2, 3), keepdims=True)
    places = np.array([[[7, 8], [5, 5]], [[8, 7], [6, 4]]])[:faces]
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    bowl = 3e-5 * (x**2 + y**2)
    found = {
        "scenes": rng.random((faces, SCENE, SCENE, 3)),
        "landmarks_true": rng.uniform(8, 24, (faces, 5, 2)),
        "landmarks_pred": rng.uniform(8, 24, (faces, 5, 2)),
        "heatmaps": rng.random((faces, SCENE, SCENE)),
        "frames_ours": np.zeros((faces, PIXELS, PIXELS, 1)),
        "frames_clean": rng.random((faces, SCENE, SCENE, 3)),
        "frames_low-resolution": rng.random((faces, 8, 8, 3)),
        "pairs_height_m": bowl + 1e-6 * rng.random((tiles, 24, 24)),
        "pairs_psf": psf,
        "pairs_light": rng.random((tiles, PIXELS, PIXELS)),
        "pairs_ratio": rng.normal(size=(pairs, PIXELS, PIXELS)),
        "pairs_drive": rng.normal(size=(faces, len(WINDOWS), PIXELS, PIXELS)),
        "pairs_channel": np.array(CHANNEL),
        "pairs_windows": np.array(WINDOWS),
        "places": places,
        "filter_weights": np.array([0.2, 0.7, 0.1]),
        "psf_pitch_m": np.array(1.1e-6),
        "pupil_diameter_m": np.array(5e-4),
        "wavelengths_m": np.array([620e-9, 540e-9, 460e-9]),
    }
    for number, (_, _, height, width) in enumerate(WINDOWS):
        found[f"pairs_bias_{number}"] = rng.normal(size=(height, width))
    return found
