"""Made-up summaries of the main job that the application can show: plausible figures, no training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign.records import (
    AblationResult,
    AttackerResult,
    CameraFacts,
    CameraResult,
    CurvePoint,
    Difference,
    EvaluateMaskSummary,
    FloorResult,
    GapResult,
    Gaps,
    GateResult,
    Noise,
    PhotoData,
    Source,
    Timing,
    TrainMaskSummary,
)

WORST = "scratch-recogniser"


def attacker(rank1: float, auc: float, half: float = 0.07) -> AttackerResult:
    """Figures of one attacker with an interval of +- ``half``."""
    return AttackerResult(
        rank1=rank1,
        rank1_ci95=(max(rank1 - half, 0.0), min(rank1 + half, 1.0)),
        auc=auc,
        auc_ci95=(auc - 0.02, min(auc + 0.02, 1.0)),
        target_fmr=0.01,
        tar=rank1 * 0.8,
        tar_ci95=(rank1 * 0.7, rank1 * 0.9),
        fmr=0.01,
        threshold=0.41,
        people=60,
    )


def attackers(top: float) -> dict[str, AttackerResult]:
    """Four attackers, the strongest of which reaches ``top``."""
    return {
        WORST: attacker(top, 0.6 + 0.38 * top),
        "wiener-sface": attacker(top * 0.8, 0.58 + 0.37 * top),
        "unet-inverter": attacker(top * 0.9, 0.59 + 0.37 * top),
        "sface-fine-tuned": attacker(top * 0.4, 0.5 + 0.25 * top),
    }


def camera(nme: float, top: float, **more: Any) -> CameraResult:
    """One camera of the comparison."""
    return CameraResult(
        **{"nme": nme, "attackers": attackers(top), "worst_attacker": WORST, "worst_attacker_auc": WORST, **more}
    )


def gaps(value: float | None, low: float | None, high: float | None, reason: str = "") -> Gaps:
    """A gap closed in rank-1, beside one in AUC."""
    return Gaps(
        rank1=GapResult(value=value, ci95=(low, high), people=60, reason=reason),
        auc=GapResult(value=0.31, ci95=(0.12, 0.49), people=60),
    )


def ablation(lacks: str, low: float = 0.1, high: float = 0.4) -> AblationResult:
    """A camera that lacks one part of ours."""
    found = gaps((low + high) / 2, low, high)
    return AblationResult(lacks=lacks, rank1=Difference(value=0.1, ci95=(0.02, 0.18), p=0.01), gap_closed=found)


def train_summary(**changes: Any) -> TrainMaskSummary:
    """A run of ``train-mask`` on 60 test people, with the fields named here replaced."""
    fields: dict[str, Any] = {
        "mode": "synthetic",
        "run": "2024-05-03 standard seed 0",
        "budget": "standard",
        "seed": 0,
        "identities": {"train": 600, "calibration": 100, "validation": 60, "test": 60},
        "chance_rank1": 1 / 60,
        "nme": 0.098,
        "validation_nme": 0.097,
        "attackers": attackers(0.46),
        "worst_attacker": WORST,
        "knowledge": {WORST: "recogniser trained from scratch on encoded frames of other people"},
        "baselines": {
            "gaussian-blur": camera(0.1, 0.74, parameter="blur_px", value=2.0, mismatch=0.002),
            "mono-pixels": camera(0.101, 0.71, parameter="electrons", value=160.0, mismatch=0.003),
            "low-resolution": camera(0.097, 0.69, parameter="pixels", value=16.0, mismatch=-0.001),
        },
        "best_baseline": "low-resolution",
        "clean": camera(0.051, 0.97),
        "oracle": FloorResult(nme=0.098, rank1=0.14, rank1_ci95=(0.09, 0.2), auc=0.69),
        "curves": [
            CurvePoint(camera="oracle", nme=nme, rank1=rank1, auc=0.55 + rank1)
            for nme, rank1 in ((0.03, 0.3), (0.1, 0.14), (0.2, 0.08))
        ],
        "limits": (
            "Synthetic heads: no statement about photographs of people.",
            "The attackers are those listed; a stronger one may find more.",
        ),
        "config": {"sensor": {"pixels": 32}, "training": {"steps": 1500}},
        "data": {
            "manifest_sha256": "4f" * 32,
            "train": Source(source="synthetic heads", licence="none", images=12000, content_sha256="ab" * 32),
        },
        "gap_closed": gaps(0.42, 0.24, 0.58),
        "ablations": {},
        "throughput": 0.86,
        "noise": Noise(
            electrons_at_white=4000.0,
            full_well_e=1008.0,
            read_noise_e=2.0,
            bits=1,
            relative_noise_at_white=0.07,
            relative_noise_at_mid_grey=0.4,
        ),
        "camera": CameraFacts(
            focal_length_m=8e-3,
            aperture_diameter_m=4e-3,
            object_distance_m=1.0,
            focus_distance_m=1.0,
            frame_width_m=0.24,
            pixels=32,
            colour=False,
            pixel_pitch_m=12e-6,
            mask_material="fused-silica",
            mask_relief_m=1.1e-6,
        ),
        "nme_by_light": {"dark": 0.11, "middle": 0.098, "bright": 0.09},
        "gates": {"clean camera recognises": GateResult(passed=True, reason="rank-1 of the clean camera is 0.970")},
        "findings": {"gap": GateResult(passed=True, reason="lower limit of the gap closed is 0.240")},
        "timing": Timing(faces_s=10, design_s=400, decoders_s=90, baselines_s=200, attackers_s=700),
        "history_names": ("step", "nme", "utility", "identity_bits", "privacy"),
    }
    return TrainMaskSummary(**{**fields, **changes})


def photo_summary(people: int = 12, seed: int = 0, **changes: Any) -> EvaluateMaskSummary:
    """A run of ``evaluate-mask`` on a folder of photographs, with the fields named here replaced."""
    fields: dict[str, Any] = {
        "mode": "photos",
        "run": "photos",
        "budget": "quick",
        "seed": seed,
        "exploratory": people < 30,
        "trained_run": "trained",
        "identities": people,
        "chance_rank1": 1 / people,
        "nme": 0.12,
        "attackers": attackers(0.5),
        "worst_attacker": WORST,
        "clean": camera(0.05, 0.99),
        "limits": ("The camera is simulated; only the faces are photographs.",),
        "data": PhotoData(photographs=80, enrolled=40, left_out=1, images_sha256="cd" * 32),
    }
    return EvaluateMaskSummary(**{**fields, **changes})


def refused(names: Sequence[str]) -> dict[str, GateResult]:
    """Gates that are not met."""
    return {name: GateResult(passed=False, reason=f"{name}: 0.9 above 0.5") for name in names}
