"""The proof: fresh attackers on frozen cameras. A job is one attacker on one camera, a function of files and seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from codesign.cameras import CameraSpec, build
from codesign.config import TrainMaskConfig
from codesign.data import Part, restore
from codesign.decoders import reader
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
from evaluation.frame_attackers.encoded import EncodedFaces
from evaluation.frame_attackers.inverters import UNetInverter, WienerFilter
from evaluation.frame_attackers.recognisers import Attacker, LinearDiscriminant, ScratchRecogniser, SFaceAttacker
from faces.landmarks import released
from faces.recognisers import load_sface
from faces.samples import interocular, linear_to_srgb
from ground.pool import derived_seed
from sim.camera import EncoderCamera

MASK = "mask.safetensors"
LANDMARKS_ONLY = "landmarks-only"
PICTURES = 6
ADAPT_LIMIT = 1000

#: Attackers by falling cost: jobs start in this order, so that no long one is left to the end.
ATTACKERS = (
    "unet-inverter",
    "sface-fine-tuned",
    "wiener-sface-fine-tuned",
    "wiener-sface",
    "scratch-recogniser",
    "linear-discriminant",
    LANDMARKS_ONLY,
)
#: A sharp camera has nothing to restore: what it shows goes to the published recogniser as it is.
CLEAN_ATTACKERS = ("sface-as-published", "scratch-recogniser", "linear-discriminant", LANDMARKS_ONLY)

KNOWLEDGE = {
    "unet-inverter": "knows the camera; learned inverse, then SFace with a closed-form discriminant",
    "sface-fine-tuned": "SFace fine-tuned on encoded frames of other people",
    "wiener-sface-fine-tuned": (
        "knows the exact camera; Wiener restoration, then SFace with its last layer fine-tuned and a closed-form "
        "discriminant"
    ),
    "wiener-sface": "knows the exact camera; Wiener restoration, then SFace as published",
    "scratch-recogniser": "recogniser trained from scratch on encoded frames of other people",
    "linear-discriminant": "closed-form discriminant on encoded frames of other people",
    "sface-as-published": "SFace as published on the frames as they are",
    LANDMARKS_ONLY: "sees only the released landmarks and their confidences",
}


def attackers_of(camera: str) -> tuple[str, ...]:
    """The attackers that a camera has to stand."""
    return CLEAN_ATTACKERS if camera == "clean" else ATTACKERS


def encode(camera: EncoderCamera, part: Part, signal: Tensor) -> EncodedFaces:
    """One part of the split as a camera sees it; ``signal`` is relative (:func:`codesign.decoders.relative_signal`)."""
    faces = part.faces
    return EncodedFaces(signal, faces.identity, faces.capture, part.points5.float(), camera.scene_px, reader(camera))


def shown_scenes(camera: EncoderCamera, part: Part, signal: Tensor, picks: Tensor) -> Tensor:
    """Clean scenes (N, C, S, S) with the channels of the camera, in linear light, as bright as its meter makes them."""
    scenes = part.faces.subset(picks).linear()
    scenes = scenes if camera.exposure.colour else (scenes * camera.weights).sum(1, keepdim=True)
    return scenes * camera.meter_gain(signal[picks].float() * camera.exposure.electrons_at_white)


def wiener(camera: EncoderCamera, train: Part, signal: Tensor) -> WienerFilter:
    """The Wiener filter of a camera, in units in which a white scene is one.

    The noise is shot noise at the mean signal of the training frames, read noise, and rounding to codes.
    """
    exposure = camera.exposure
    white = exposure.electrons_at_white
    step = exposure.full_well_e / (2**exposure.bits - 1)
    picks = torch.arange(0, len(train.faces), max(1, len(train.faces) // 400))
    electrons = signal[picks].float() * white
    shot = float((electrons * camera.meter_gain(electrons)).mean())
    variance = shot + exposure.read_noise_e**2 + step**2 / 12
    scenes = shown_scenes(camera, train, signal, picks)
    return WienerFilter(camera.frame_psf(), exposure.pixels, scenes, variance / white**2)


def _displayed(camera: EncoderCamera, filter_: WienerFilter | None, frames: Tensor) -> Tensor:
    """Frames, restored or not, as a display shows them: what published recognisers were trained on."""
    light = frames * (camera.exposure.full_well_e / camera.exposure.electrons_at_white)
    return linear_to_srgb((light if filter_ is None else filter_(light)).clamp(0.0, 1.0))


def make_attacker(
    name: str, camera: EncoderCamera, train: Part, signal: Tensor, config: TrainMaskConfig, seed: int
) -> Attacker:
    """An attacker that is ready to be fitted; the U-Net is trained here, since its scenes are.

    Args:
        name: one of :data:`ATTACKERS` or ``sface-as-published``, but not landmarks-only.
        camera: the camera.
        train: training people.
        signal: their relative signals.
        config: steps of each attacker.
        seed: of everything random.
    """
    proof, known = config.proof, KNOWLEDGE[name]
    if name == "linear-discriminant":
        return LinearDiscriminant(seed=seed)
    if name == "scratch-recogniser":
        return ScratchRecogniser(seed=seed, steps=proof.scratch_steps)
    if name == "sface-fine-tuned":
        network = load_sface(input_size=56)
        steps = proof.fine_tune_steps
        # Display-encoded frames are what the network was made for; fine-tuning starts nearer to its end.
        return SFaceAttacker(
            name, known, network, seed=seed, steps=steps, restore=lambda frames: _displayed(camera, None, frames)
        )
    if name == "sface-as-published":
        network = load_sface()
        return SFaceAttacker(name, known, network, seed=seed, restore=lambda frames: _displayed(camera, None, frames))
    if name == "unet-inverter":
        inverter = UNetInverter(seed=seed, steps=proof.unet_steps)
        scenes = linear_to_srgb(shown_scenes(camera, train, signal, torch.arange(len(train.faces))).clamp(0.0, 1.0))
        inverter.fit(encode(camera, train, signal), scenes)
        network = load_sface()
        return SFaceAttacker(
            name, known, network, seed=seed, adapt=True, restore=inverter.invert, adapt_limit=ADAPT_LIMIT
        )
    filter_ = wiener(camera, train, signal)
    steps = proof.wiener_fine_tune_steps if name == "wiener-sface-fine-tuned" else 0
    return SFaceAttacker(
        name,
        known,
        load_sface(),
        seed=seed,
        steps=steps,
        last_layer=True,
        adapt=steps > 0,
        restore=lambda frames: _displayed(camera, filter_, frames),
    )


def report_rows(part: Part) -> Tensor:
    """The captures shown in the report: the first probe of each of the first people."""
    probes = torch.nonzero(~part.gallery)[:, 0]
    people = part.faces.identity[probes]
    first = [int(probes[people == person][0]) for person in torch.unique(people)[:PICTURES]]
    return torch.tensor(first)


def attack(folder: Path, config: TrainMaskConfig, spec: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """One job: fit an attacker on the training people, embed calibration and test people.

    Args:
        folder: the run folder; faces, signals and released landmarks are read from it.
        config: configuration of the run.
        spec: the camera.
        name: the attacker.

    Returns:
        ``calibration`` and ``test`` embeddings; restoring attackers add ``pictures`` (n, C, S, S) for the report.
    """
    camera_spec = CameraSpec.from_json(spec)
    seed = derived_seed(config.seed, camera_spec.name, name)
    parts = {part: restore(folder, part) for part in ("train", "calibration", "validation", "test")}
    if name == LANDMARKS_ONLY:
        released = load_file(folder / "proof" / camera_spec.name / "released.safetensors")
        return attack_landmarks(parts, released, config, seed)
    state = load_file(folder / MASK) if camera_spec.kind == "mask" else None
    camera = build(camera_spec, config, state)
    signals = load_file(folder / "work" / f"signals-{camera_spec.name}.safetensors")
    attacker = make_attacker(name, camera, parts["train"], signals["train"], config, seed)
    attacker.fit(encode(camera, parts["train"], signals["train"]))
    result = {
        part: attacker.embed(encode(camera, parts[part], signals[part]), derived_seed(seed, part))
        for part in ("calibration", "test")
    }
    restoring = getattr(attacker, "restore", None)
    if restoring is not None and camera_spec.kind == "mask":
        rows = report_rows(parts["test"])
        frames = reader(camera)(signals["test"][rows], torch.Generator().manual_seed(derived_seed(seed, "pictures")))
        with torch.no_grad():
            result["pictures"] = restoring(frames)
    return result


def attack_landmarks(
    parts: Mapping[str, Part], released: Mapping[str, Tensor], config: TrainMaskConfig, seed: int
) -> dict[str, Tensor]:
    """The attacker who sees what the camera gives away on purpose: released landmarks and their confidences."""
    attacker = LandmarkAttacker(config.optics.scene_px, seed=seed, steps=config.proof.landmark_steps)
    attacker.fit(
        released["landmarks.train"],
        parts["train"].faces.identity,
        confidence=released["confidence.train"],
        validation=(released["landmarks.validation"], parts["validation"].faces.identity),
        validation_confidence=released["confidence.validation"],
    )
    return {
        part: attacker.embed(released[f"landmarks.{part}"], released[f"confidence.{part}"]).float()
        for part in ("calibration", "test")
    }


def attack_floor(folder: Path, config: TrainMaskConfig, error: float) -> dict[str, Tensor]:
    """Landmarks alone with a given error: the floor under every camera that releases landmarks that good."""
    parts = {part: restore(folder, part) for part in ("train", "calibration", "validation", "test")}
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
