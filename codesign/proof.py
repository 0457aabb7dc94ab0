"""The proof: fresh attackers on frozen cameras. A job is one attacker on one camera, a function of files and seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign.attackers import Target, encode, find
from codesign.cameras import CPU, CameraSpec, build
from codesign.config import TrainMaskConfig
from codesign.data import PARTS, Part, restore
from codesign.decoders import reader
from codesign.errors import CodesignError
from codesign.files import MASK, load_tensors
from evaluation import (
    LandmarkAttacker,
    ScoreMatrix,
    Threshold,
    add_landmark_noise,
    attacker_summary,
    embedding_mean,
    freeze_threshold,
    noise_sd_px,
    score_matrix,
)
from evaluation.frame_attackers.recognisers import Attacker
from faces.landmarks import released
from faces.samples import interocular
from ground.pool import derived_seed
from sim.camera import EncoderCamera

#: Captures that the report shows.
PICTURES = 6


def report_rows(part: Part) -> Tensor:
    """The captures shown in the report: the first probe of each of the first people."""
    probes = torch.nonzero(~part.gallery)[:, 0]
    people = part.faces.identity[probes]
    first = [int(probes[people == person][0]) for person in torch.unique(people)[:PICTURES]]
    return torch.tensor(first, device=probes.device)


def attack(
    folder: Path, config: TrainMaskConfig, spec: Mapping[str, Any], name: str, device: torch.device = CPU
) -> dict[str, Tensor]:
    """One job: fit an attacker on the training people, embed calibration and test people.

    Args:
        folder: Run folder; faces, signals and released landmarks are read from it.
        config: Configuration of the run.
        spec: The camera.
        name: The attacker, a row of :data:`codesign.attackers.ATTACKERS`.
        device: Where it is computed.

    Returns:
        ``calibration`` and ``test`` embeddings; attackers whose reconstructions are shown add ``pictures``
        (n, C, S, S) of our own camera.

    Raises:
        CodesignError: If a file is missing or damaged.
    """
    camera_spec, row = CameraSpec.from_json(spec), find(name)
    seed = derived_seed(config.seed, camera_spec.name, name)
    parts = {part: restore(folder, part) for part in PARTS}
    if row.make is None:
        known = load_tensors(folder / "proof" / camera_spec.name / "released.safetensors")
        return attack_landmarks(parts, known, config, seed)
    state = load_tensors(folder / MASK) if camera_spec.kind == "mask" else None
    camera = build(camera_spec, config, state, device)
    stored = load_tensors(folder / "work" / f"signals-{camera_spec.name}.safetensors")
    signals = {part: signal.to(device) for part, signal in stored.items()}
    attacker = row.make(row, Target(camera, parts["train"], signals["train"], config, seed))
    attacker.fit(encode(camera, parts["train"], signals["train"]))
    result = {
        part: attacker.embed(encode(camera, parts[part], signals[part]), derived_seed(seed, part)).cpu()
        for part in ("calibration", "test")
    }
    if row.restores and camera_spec.kind == "mask":
        restored = pictures(attacker, camera, parts["test"], signals["test"], derived_seed(seed, "pictures"))
        result["pictures"] = restored.cpu()
    return result


@torch.no_grad()
def pictures(attacker: Attacker, camera: EncoderCamera, test: Part, signal: Tensor, seed: int) -> Tensor:
    """What an attacker restores of the captures that the report shows, (n, C, S, S)."""
    restoring = getattr(attacker, "restore", None)
    if restoring is None:
        raise CodesignError(f"{attacker.name} restores nothing; its row in codesign.attackers must not say so.")
    frames = reader(camera)(signal[report_rows(test)], torch.Generator().manual_seed(seed))
    shown: Tensor = restoring(frames)
    return shown


def attack_landmarks(
    parts: Mapping[str, Part], known: Mapping[str, Tensor], config: TrainMaskConfig, seed: int
) -> dict[str, Tensor]:
    """The attacker who sees what the camera gives away on purpose: released landmarks and their confidences."""
    attacker = LandmarkAttacker(config.optics.scene_px, seed=seed, steps=config.proof.landmark_steps)
    attacker.fit(
        known["landmarks.train"],
        parts["train"].faces.identity,
        confidence=known["confidence.train"],
        validation=(known["landmarks.validation"], parts["validation"].faces.identity),
        validation_confidence=known["confidence.validation"],
    )
    return {
        part: attacker.embed(known[f"landmarks.{part}"], known[f"confidence.{part}"]).float()
        for part in ("calibration", "test")
    }


def attack_floor(folder: Path, config: TrainMaskConfig, error: float) -> dict[str, Tensor]:
    """Landmarks alone with a given error: the floor under every camera that releases landmarks that good."""
    parts = {part: restore(folder, part) for part in PARTS}
    seed = derived_seed(config.seed, "floor", f"{error:.4f}")
    attacker = LandmarkAttacker(config.optics.scene_px, seed=seed, steps=config.proof.landmark_steps)
    points = {name: released(part.faces.landmarks, config.landmarks) for name, part in parts.items()}
    unit = {name: interocular(part.faces.landmarks) for name, part in parts.items()}
    attacker.fit(
        points["train"],
        parts["train"].faces.identity,
        noise_px=noise_sd_px(unit["train"], error),
        validation=(points["validation"], parts["validation"].faces.identity),
    )
    generator = torch.Generator().manual_seed(derived_seed(seed, "release"))
    return {
        part: attacker.embed(add_landmark_noise(points[part], unit[part], error, generator)).float()
        for part in ("calibration", "test")
    }


def scores(embeddings: Mapping[str, Tensor], parts: Mapping[str, Part]) -> tuple[ScoreMatrix, ScoreMatrix]:
    """Score tables of calibration and test people, centred with the mean of the calibration people."""
    centre = embedding_mean(embeddings["calibration"])
    tables = []
    for name in ("calibration", "test"):
        part, rows = parts[name], embeddings[name]
        gallery, people = part.gallery, part.faces.identity
        tables.append(score_matrix(rows[gallery], people[gallery], rows[~gallery], people[~gallery], centre=centre))
    return tables[0], tables[1]


def judge(
    embeddings: Mapping[str, Tensor], parts: Mapping[str, Part], fmr: float, manifest_hash: str
) -> tuple[dict[str, Any], ScoreMatrix, Threshold]:
    """Figures of one job: threshold frozen on calibration impostors, then rank-1, AUC and accept rate on the test."""
    calibration, test = scores(embeddings, parts)
    threshold = freeze_threshold(calibration.impostor, fmr, manifest_hash=manifest_hash)
    return dict(attacker_summary(test, threshold)), test, threshold
