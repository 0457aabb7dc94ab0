"""A trained mask in front of photographs: what its attackers recognise of people they have never seen."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from codesign import cameras, data
from codesign.attackers import attackers_of, restorers
from codesign.cameras import CPU, CameraSpec, build, displayed
from codesign.config import TrainMaskConfig
from codesign.data import Part
from codesign.decoders import Decoder, new_decoder, relative_signal, release
from codesign.errors import CodesignError
from codesign.export import channels_at_end, decoded
from codesign.files import MASK, load_tensors
from codesign.proof import attack, report_rows
from codesign.records import AttackerResult, CameraResult, EvaluateMaskSummary, PhotoData
from evaluation import auc_interval, embedding_mean, korn_graubard, rank_trials, score_matrix
from evaluation.measures.gates import LEAST_PEOPLE
from evaluation.people import enrolled
from faces.folders import FolderFaces, load_folder
from faces.samples import five_points
from faces.splits import check_disjoint
from ground.pool import derived_seed, run_jobs
from ground.protocols import Progress, RunStore
from sim.camera import EncoderCamera

CAMERAS = ("ours", "clean")
#: Arrays of the run's own report that are about the optics and show nobody.
OPTICS_ARRAYS = ("mask_height_m", "pupil_diameter_m", "psf", "psf_pitch_m", "wavelengths_m")
LIMITS = (
    "The camera is simulated; only the faces are photographs. Photographs bring the blur, light and compression of the "
    "camera that took them.",
    "Attackers were trained on synthetic heads seen through this camera, as in the run, and meet photographs for the "
    "first time: one who trains on photographs can be stronger.",
    "One exposure of each photograph: an attacker who averages T exposures has noise lower by the square root of T.",
    "Rank-1 and the area under the ROC curve only. Thresholds set on synthetic heads are not carried over to "
    "photographs, and there are too few people to set new ones.",
    "The error of the decoder is measured against a detector's five points, whose own error is about .05 to .2 of the "
    "eye distance.",
)


def evaluate_mask(
    run_dir: Path,
    faces_dir: Path,
    result: RunStore,
    pictures: bool,
    seed: int,
    progress: Progress,
    device: torch.device = CPU,
) -> EvaluateMaskSummary:
    """Judge the mask of a finished run on a folder of photographs.

    The attackers of the run are trained again on its synthetic training people, with its budget, and applied to the
    photographs through the designed mask and through the clean camera. Of each person, the first half of the
    photographs by file name is enrolled, the others are probes.

    Args:
        run_dir: Folder of a finished training run.
        faces_dir: Folder that holds one folder of photographs for each person.
        result: Folder for the arrays of the report; working files are removed again.
        pictures: Whether photographs may enter the report.
        seed: Seed for attackers and exposures.
        progress: Display.
        device: Where everything is computed.

    Returns:
        The summary, exploratory below thirty people.

    Raises:
        CodesignError: If the run is not finished, or a file of it is missing or damaged.
        FacesError: If the photographs cannot be used, or somebody on them was trained on.
    """
    config = _finished(run_dir)
    with progress.stage("photographs") as stage:
        folder = load_folder(faces_dir, config.optics.scene_px)
        stage.note(f"{len(folder.faces)} used, {len(folder.refused)} left out")
    splits = _known_people(run_dir, config, progress)
    check_disjoint({**{name: part.faces for name, part in splits.items()}, "photographs": folder.faces})
    photos = Part(folder.faces, folder.points5, enrolled(folder.faces, 0.5))
    seeded = config.model_copy(update={"seed": seed})
    parts = {**splits, "test": photos}
    specs = {spec.name: spec for spec in (cameras.ours(seeded), cameras.clean(seeded))}
    try:
        errors = {
            spec.name: _prepare(run_dir, seeded, spec, parts, result, progress, device) for spec in specs.values()
        }
        embeddings = _attack(seeded, specs, result, progress, device)
    finally:
        # Photographs are left in the result folder only where they were asked for: in the report.
        for name in ("work", "proof"):
            shutil.rmtree(result.path / name, ignore_errors=True)
        (result.path / MASK).unlink(missing_ok=True)
    blocks = {name: _camera_result(errors[name], found, photos) for name, found in embeddings.items()}
    restored = {name: rows["pictures"] for name, rows in embeddings["ours"].items() if "pictures" in rows}
    result.write_tensors("report.safetensors", _arrays(run_dir, seeded, specs, photos, restored, pictures))
    people = len(torch.unique(folder.faces.identity))
    return EvaluateMaskSummary(
        mode="photos",
        exploratory=people < LEAST_PEOPLE,
        trained_run=run_dir.resolve().name,
        identities=people,
        chance_rank1=1 / people,
        nme=blocks["ours"].nme,
        attackers=blocks["ours"].attackers,
        worst_attacker=blocks["ours"].worst_attacker,
        clean=blocks["clean"],
        verdict=_verdict(errors),
        limits=(_described(folder, people), *LIMITS),
        budget=config.budget,
        seed=seed,
        data=PhotoData(
            photographs=len(folder.faces),
            enrolled=int(photos.gallery.sum()),
            left_out=len(folder.refused),
            images_sha256=data.manifest({"photographs": photos})["photographs"]["images_sha256"],
        ),
        left_out=tuple(f"{refusal.file.name}: {refusal.reason}" for refusal in folder.refused),
    )


def _finished(run_dir: Path) -> TrainMaskConfig:
    """Configuration of a run that has ended."""
    needed = ["config.toml", "summary.json", "data.json", MASK]
    needed += [f"proof/{camera}/{file}.safetensors" for camera in CAMERAS for file in ("decoder", "released")]
    missing = [name for name in needed if not (run_dir / name).is_file()]
    if missing:
        raise CodesignError(
            f"{run_dir} is not a finished training run (it has no {missing[0]}); finish it with "
            "train-mask --resume, or name another run."
        )
    return TrainMaskConfig.model_validate(tomllib.loads((run_dir / "config.toml").read_text(encoding="utf-8")))


def _known_people(run_dir: Path, config: TrainMaskConfig, progress: Progress) -> dict[str, Part]:
    """The people of the run but those of its test, checked to be the same pictures."""
    splits = {name: part for name, part in data.load_splits(config, progress).items() if name != "test"}
    stored, found = json.loads((run_dir / "data.json").read_text(encoding="utf-8")), data.manifest(splits)
    for name in splits:
        if stored[name]["images_sha256"] != found[name]["images_sha256"]:
            raise CodesignError(
                f"the faces of the part {name!r} are not those that {run_dir} was trained with; use the version of the "
                "program (or the folder of photographs) of that run, or train again."
            )
    return splits


def _prepare(
    run_dir: Path,
    config: TrainMaskConfig,
    spec: CameraSpec,
    parts: dict[str, Part],
    result: RunStore,
    progress: Progress,
    device: torch.device,
) -> float:
    """Lay out the files that attackers read, with photographs in the place of the test people.

    Returns:
        Error of the decoder on the photographs: mean distance of five points over the eye distance, both by detector.
    """
    state = load_tensors(run_dir / MASK)
    if not result.has(MASK):
        data.store(result, parts)
        result.write_tensors(MASK, state)
    camera = build(spec, config, state, device)
    with progress.stage(f"faces through the camera {spec.name}", len(parts)) as stage:
        signals = {}
        for name, part in parts.items():
            signals[name] = relative_signal(camera, part.faces).cpu()
            stage.advance()
    result.write_tensors(f"work/signals-{spec.name}.safetensors", signals)
    decoder = _decoder(run_dir, config, spec, camera)
    seen = release(decoder, camera, signals["test"].to(device), derived_seed(config.seed, "release", "photographs"))
    released = load_tensors(run_dir / "proof" / spec.name / "released.safetensors")
    landmarks = seen.landmarks.cpu()
    released |= {"landmarks.test": landmarks, "confidence.test": seen.confidence.cpu()}
    result.write_tensors(f"proof/{spec.name}/released.safetensors", released)
    truth = parts["test"].points5
    found = landmarks if config.landmarks == "five" else five_points(landmarks)
    distance = (found - truth).norm(dim=-1).mean(-1) / (truth[:, 1] - truth[:, 0]).norm(dim=-1)
    return float(distance.mean())


def _decoder(run_dir: Path, config: TrainMaskConfig, spec: CameraSpec, camera: EncoderCamera) -> Decoder:
    decoder = new_decoder(camera, config.decoder, config.landmarks)
    decoder.load_state_dict(load_tensors(run_dir / "proof" / spec.name / "decoder.safetensors"))
    return decoder


def _attack(
    config: TrainMaskConfig,
    specs: Mapping[str, CameraSpec],
    result: RunStore,
    progress: Progress,
    device: torch.device,
) -> dict[str, dict[str, dict[str, Tensor]]]:
    """Embeddings by camera and attacker."""
    wanted = [(name, attacker) for name in specs for attacker in attackers_of(name)]
    found: dict[str, dict[str, dict[str, Tensor]]] = {name: {} for name in specs}
    with progress.stage("attackers", len(wanted)) as stage:
        arguments = [(result.path, config, specs[name].to_json(), attacker, device) for name, attacker in wanted]
        for index, embeddings, seconds in run_jobs(attack, arguments, config.workers):
            name, attacker = wanted[index]
            found[name][attacker] = embeddings
            result.log_metrics({"stage": "attack", "camera": name, "attacker": attacker, "seconds": seconds})
            stage.note(f"{name}, {attacker}")
            stage.advance()
    return {name: {key: found[name][key] for key in attackers_of(name)} for name in specs}


def _camera_result(error: float, embeddings: Mapping[str, Mapping[str, Tensor]], photos: Part) -> CameraResult:
    """Rank-1 and area under the curve of each attacker of a camera, and the worst of them."""
    attackers: dict[str, AttackerResult] = {}
    gallery, people = photos.gallery, photos.faces.identity
    for name, found in embeddings.items():
        rows, centre = found["test"], embedding_mean(found["calibration"])
        table = score_matrix(rows[gallery], people[gallery], rows[~gallery], people[~gallery], centre=centre)
        rank1, area = korn_graubard(*rank_trials(table, 1)), auc_interval(table)
        attackers[name] = AttackerResult(
            rank1=rank1.value, rank1_ci95=rank1.ci, auc=area.value, auc_ci95=area.ci, people=rank1.people
        )
    worst = max(attackers, key=lambda key: attackers[key].order)
    return CameraResult(nme=error, attackers=attackers, worst_attacker=worst)


def _verdict(errors: Mapping[str, float]) -> str:
    return (
        f"The decoder finds eyes, nose and mouth corners with an error of {errors['ours']:.2f} of the eye distance "
        f"({errors['clean']:.2f} through the clean camera), measured against a detector on the photographs."
    )


def _described(folder: FolderFaces, people: int) -> str:
    """What was tested, as the first of the limits."""
    text = f"{len(folder.faces)} photographs of {people} people"
    if folder.refused:
        text += f"; {len(folder.refused)} more could not be used (reasons in summary.json under left_out)"
    return (
        f"{text}. On average {float(folder.padding.mean()):.0%} of a frame lies outside its photograph and is black; "
        "the synthetic heads of the training fill their frames."
    )


def _arrays(
    run_dir: Path,
    config: TrainMaskConfig,
    specs: Mapping[str, CameraSpec],
    photos: Part,
    restored: Mapping[str, Tensor],
    pictures: bool,
) -> dict[str, Tensor]:
    """Arrays of the report: the optics as the run drew them, and photographs if they are wanted."""
    drawn = load_tensors(run_dir / "report.safetensors")
    arrays = {name: drawn[name] for name in OPTICS_ARRAYS if name in drawn}
    if not pictures:
        return arrays
    rows = report_rows(photos)
    scenes = photos.faces.subset(rows).linear()
    arrays["scenes"] = channels_at_end(scenes)
    if config.landmarks == "five":
        arrays["landmarks_true"] = photos.points5[rows]
    state = load_tensors(run_dir / MASK)
    for name, spec in specs.items():
        camera = build(spec, config, state)
        generator = torch.Generator().manual_seed(derived_seed(config.seed, "report", name))
        with torch.no_grad():
            frames = camera.read(camera.signal(scenes), generator)
        arrays[f"frames_{name}"] = channels_at_end(displayed(spec.exposure, frames))
        if name == "ours":
            arrays |= decoded(_decoder(run_dir, config, spec, camera), frames)
    for key, attacker in restorers().items():
        if attacker in restored:
            arrays[f"reconstructions_{key}"] = channels_at_end(restored[attacker].clamp(0, 1))
    return arrays
