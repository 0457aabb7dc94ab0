"""The proof: fresh attackers on frozen cameras. A job is one attacker on one camera, a function of files and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign.attackers import Target, encode, find
from codesign.cameras import CPU, CameraSpec, build
from codesign.config import TrainMaskConfig
from codesign.crowd import crowd
from codesign.data import ATTACKERS, DEALT, PARTS, Part, restore
from codesign.decoders import reader
from codesign.errors import CodesignError
from codesign.files import MASK, load_tensors
from codesign.fusion import fuse
from evaluation import (
    LandmarkAttacker,
    ScoreMatrix,
    Threshold,
    add_landmark_noise,
    attacker_summary,
    embedding_mean,
    freeze_threshold,
    noise_sd_px,
    pooled_score_matrix,
    pooled_summary,
    score_matrix,
)
from evaluation.frame_attackers.recognisers import Attacker
from faces.landmarks import released
from faces.samples import interocular
from ground.pool import derived_seed
from sim.camera import EncoderCamera

#: Captures that the report shows.
PICTURES = 6
#: Parts that an attacker embeds: weights of a fusion are chosen on the first, thresholds set on the second.
EMBEDDED = ("validation", "calibration", "test")


def report_rows(part: Part) -> Tensor:
    """The captures shown in the report: the first probe of each of the first people."""
    probes = torch.nonzero(~part.gallery)[:, 0]
    people = part.faces.identity[probes]
    first = [int(probes[people == person][0]) for person in torch.unique(people)[:PICTURES]]
    return torch.tensor(first, device=probes.device)


def attack(
    folder: Path,
    config: TrainMaskConfig,
    spec: Mapping[str, Any],
    name: str,
    device: torch.device = CPU,
    share: float = 1.0,
) -> dict[str, Tensor]:
    """One job: fit an attacker on the training people, embed validation, calibration and test people.

    Args:
        folder: Run folder; faces, signals and released landmarks are read from it.
        config: Configuration of the run.
        spec: The camera.
        name: The attacker, a row of :data:`codesign.attackers.ATTACKERS`.
        device: Where it is computed.
        share: Share of its people that an attacker who trains on the whole crowd gets.

    Returns:
        Embeddings of the parts of :data:`EMBEDDED`, and of several exposures under :func:`averaged` where the row says
        so; attackers whose reconstructions are shown add ``pictures`` (n, C, S, S) of our own camera.

    Raises:
        CodesignError: If a file is missing or damaged.
    """
    row, seed = find(name), derived_seed(config.seed, spec["name"], name)
    parts = {part: restore(folder, part) for part in DEALT}
    if row.make is None:
        known = load_tensors(folder / "proof" / spec["name"] / "released.safetensors")
        parts |= {ATTACKERS: restore(folder, ATTACKERS)} if f"landmarks.{ATTACKERS}" in known else {}
        return attack_landmarks(parts, known, config, seed)
    camera_spec = CameraSpec.from_json(spec)
    state = load_tensors(folder / MASK) if camera_spec.kind == "mask" else None
    camera = build(camera_spec, config, state, device)
    stored = load_tensors(folder / "work" / f"signals-{camera_spec.name}.safetensors")
    signals = {part: signal.to(device) for part, signal in stored.items()}
    attacker = row.make(row, Target(camera, parts["train"], signals["train"], config, seed))
    if row.crowd:
        attacker.fit(crowd(folder, config, camera, parts["train"], signals, share))
    else:
        attacker.fit(encode(camera, parts["train"], signals["train"]))
    result: dict[str, Tensor] = {}
    for part in EMBEDDED:
        faces = encode(camera, parts[part], signals[part])
        result[part] = attacker.embed(faces, derived_seed(seed, part)).cpu()
        if row.averages and camera_spec.kind == "mask" and share == 1.0:
            shots = attacker.embed_exposures(faces, derived_seed(seed, part, "exposures"), config.proof.exposures)
            result[averaged(part)] = shots.cpu()
    if row.restores and camera_spec.kind == "mask":
        restored = pictures(attacker, camera, parts["test"], signals["test"], derived_seed(seed, "pictures"))
        result["pictures"] = restored.cpu()
    return result


def averaged(part: str) -> str:
    """Name under which embeddings of several exposures of each capture of a part are kept."""
    return f"{part}.exposures"


def join(
    embeddings: Mapping[str, Mapping[str, Tensor]], parts: Mapping[str, Part]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The strongest attackers on a camera as one.

    Args:
        embeddings: What :func:`attack` returned, by attacker.
        parts: The people.

    Returns:
        Joint embeddings, as those of one attacker, and the weight of each attacker that takes part.
    """
    fusion = fuse(embeddings, parts)
    result = {part: fusion.join(embeddings, part) for part in EMBEDDED}
    if all(averaged("test") in embeddings[name] for name in fusion.weights):
        shots = {name: {part: embeddings[name][averaged(part)] for part in EMBEDDED} for name in fusion.weights}
        result |= {averaged(part): fusion.join(shots, part) for part in EMBEDDED}
    return result, dict(fusion.weights)


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
    """The attacker who sees what the camera gives away on purpose: landmarks, and confidences if it has them."""
    attacker = LandmarkAttacker(config.optics.scene_px, seed=seed, steps=config.proof.landmark_steps)
    own = [name for name in ("train", ATTACKERS) if name in parts]
    told = "confidence.train" in known
    attacker.fit(
        torch.cat([known[f"landmarks.{name}"] for name in own]),
        torch.cat([parts[name].faces.identity for name in own]),
        confidence=torch.cat([known[f"confidence.{name}"] for name in own]) if told else None,
        validation=(known["landmarks.validation"], parts["validation"].faces.identity),
        validation_confidence=known.get("confidence.validation"),
    )
    return {
        part: attacker.embed(known[f"landmarks.{part}"], known.get(f"confidence.{part}")).float() for part in EMBEDDED
    }


def attack_floor(folder: Path, config: TrainMaskConfig, error: float) -> dict[str, Tensor]:
    """Landmarks alone with a given error: the floor under every camera that releases landmarks that good."""
    parts = {part: restore(folder, part) for part in PARTS}
    seed = derived_seed(config.seed, "floor", f"{error:.4f}")
    attacker = LandmarkAttacker(config.optics.scene_px, seed=seed, steps=config.proof.landmark_steps)
    points = {name: released(part.faces.landmarks, config.landmarks) for name, part in parts.items()}
    unit = {name: interocular(part.faces.landmarks) for name, part in parts.items()}
    own = ("train", ATTACKERS)
    attacker.fit(
        torch.cat([points[name] for name in own]),
        torch.cat([parts[name].faces.identity for name in own]),
        noise_px=noise_sd_px(torch.cat([unit[name] for name in own]), error),
        validation=(points["validation"], parts["validation"].faces.identity),
    )
    generator = torch.Generator().manual_seed(derived_seed(seed, "release"))
    return {
        part: attacker.embed(add_landmark_noise(points[part], unit[part], error, generator)).float()
        for part in EMBEDDED
    }


def _tables(
    embeddings: Mapping[str, Tensor],
    parts: Mapping[str, Part],
    compare: Callable[..., ScoreMatrix],
    names: Sequence[str],
) -> list[ScoreMatrix]:
    """Score tables of parts, centred with the mean of the calibration people."""
    centre, tables = embedding_mean(embeddings["calibration"]), []
    for name in names:
        part, rows = parts[name], embeddings[name]
        gallery, people = part.gallery, part.faces.identity
        tables.append(compare(rows[gallery], people[gallery], rows[~gallery], people[~gallery], centre=centre))
    return tables


def scores(embeddings: Mapping[str, Tensor], parts: Mapping[str, Part]) -> tuple[ScoreMatrix, ScoreMatrix]:
    """Score tables of calibration and test people, centred with the mean of the calibration people."""
    calibration, test = _tables(embeddings, parts, score_matrix, ("calibration", "test"))
    return calibration, test


def pooled_scores(embeddings: Mapping[str, Tensor], parts: Mapping[str, Part]) -> ScoreMatrix:
    """Score table of the test people with all probes of a person pooled into one."""
    return _tables(embeddings, parts, pooled_score_matrix, ("test",))[0]


def judge(
    embeddings: Mapping[str, Tensor], parts: Mapping[str, Part], fmr: float, manifest_hash: str
) -> tuple[dict[str, Any], ScoreMatrix, Threshold]:
    """Figures of one job: threshold frozen on calibration impostors, then rank-1, AUC and accept rate on the test.

    ``pooled`` holds rank-1 and AUC once more, with all probes of each person pooled.
    """
    calibration, test = scores(embeddings, parts)
    threshold = freeze_threshold(calibration.impostor, fmr, manifest_hash=manifest_hash)
    probes = int((~parts["test"].gallery).sum()) // len(test.template_id)
    pooled = pooled_summary(pooled_scores(embeddings, parts), probes)
    return {**attacker_summary(test, threshold), "pooled": pooled}, test, threshold
