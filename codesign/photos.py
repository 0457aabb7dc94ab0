"""A trained mask in front of photographs: what its attackers recognise of people they have never seen."""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign import cameras, data
from codesign.attackers import FUSED, PLACES, attackers_of, releases_places, restorers
from codesign.auxiliary import store_auxiliary
from codesign.cameras import CPU, CameraSpec, build, displayed
from codesign.config import TrainMaskConfig
from codesign.data import Part
from codesign.decoders import Decoder, new_decoder, relative_signal, release
from codesign.errors import CodesignError
from codesign.export import channels_at_end, decoded
from codesign.files import MASK, load_tensors
from codesign.limits import ON_THE_CHIP
from codesign.proof import attack, join, judge, pooled_scores, report_rows
from codesign.real_people import FIRST_JUDGED, RealPeople, deal, joined, photo_limits, read_real
from codesign.records import AttackerResult, CameraResult, EvaluateMaskSummary, PooledResult
from codesign.summary import surfaces_of
from codesign.winners import stage as pairs
from codesign.winners.photographs import StoredPairs
from codesign.winners.stage import PairsSpec
from evaluation import (
    auc_interval,
    embedding_mean,
    korn_graubard,
    manifest_hash,
    pooled_summary,
    rank_trials,
    score_matrix,
)
from evaluation.measures.gates import LEAST_PEOPLE
from faces.folders import FolderFaces
from faces.landmarks import released
from faces.splits import check_disjoint
from ground.pool import derived_seed, run_jobs
from ground.protocols import Progress, RunStore
from sim.camera import EncoderCamera

CAMERAS = ("ours", "clean")
#: Share of the photographs of each person that is enrolled.
ENROLLED = 0.5
#: Arrays of the run's own report that are about the optics and show nobody.
OPTICS_ARRAYS = (
    "mask_height_m", "pupil_diameter_m", "psf", "psf_pitch_m", "wavelengths_m", "pairs_height_m", "pairs_psf",
    "pairs_channel", "pairs_windows", "filter_weights",
)  # fmt: skip
LIMITS = (
    "The camera is simulated; only the faces are photographs. Photographs bring the blur, light and compression of the "
    "camera that took them.",
    "One exposure of each photograph: an attacker who averages T exposures has noise lower by the square root of T.",
)
UNTUNED = (
    "Attackers were trained on the people of the run seen through this camera and meet these photographs for the first "
    "time: one who trains on such photographs can be stronger (--tune).",
    "Rank-1 and the area under the ROC curve only: thresholds set on other people are not carried over to these "
    "(--tune sets new ones).",
)


def evaluate_mask(
    run_dir: Path,
    faces_dir: Path,
    result: RunStore,
    pictures: bool,
    seed: int,
    progress: Progress,
    device: torch.device = CPU,
    tune: str = "",
) -> EvaluateMaskSummary:
    """Judge the mask of a finished run on a folder of photographs.

    The attackers of the run are trained again on its training people, with its budget, and applied to the photographs
    through the designed mask and through the clean camera. Of each person, the first half of the photographs by file
    name is enrolled, the others are probes. Whoever the run has trained on, or set thresholds with, is left out.

    Args:
        run_dir: Folder of a finished training run.
        faces_dir: Folder that holds one folder of photographs for each person.
        result: Folder for the arrays of the report; working files are removed again.
        pictures: Whether photographs may enter the report.
        seed: Seed for attackers and exposures.
        progress: Display.
        device: Where everything is computed.
        tune: People of the folder on whom attackers are trained too, and thresholds are set
            (:func:`faces.splits.named_people`); all others are tested. "": everybody is tested.

    Returns:
        The summary, exploratory below thirty people.

    Raises:
        CodesignError: If the run is not finished, a file of it is missing or damaged, or too few people are there.
        FacesError: If the photographs cannot be used, or somebody on them was trained on.
    """
    config = _finished(run_dir)
    splits = _known_people(run_dir, config, progress)
    real, known = _unseen(run_dir, read_real(faces_dir, config.optics.scene_px, progress, FIRST_JUDGED))
    parts = _parts(splits, real, tune, seed)
    check_disjoint({name: part.faces for name, part in parts.items()})
    photos = parts["test"]
    job = _Judgement(run_dir, config, seed, parts, splits, result, progress, device)
    try:
        # With the seed of the run, which its synthetic people were drawn with.
        store_auxiliary(result, parts, config)
        data.store(result, dict(parts))
        result.write_tensors(MASK, load_tensors(run_dir / MASK))
        errors = {name: _prepare(job, spec) for name, spec in job.specs.items()}
        embeddings = _attack(job)
    finally:
        # Photographs are left in the result folder only where they were asked for: in the report.
        for name in ("work", "proof"):
            shutil.rmtree(result.path / name, ignore_errors=True)
        (result.path / MASK).unlink(missing_ok=True)
    fmr = config.proof.fmr if tune else None
    blocks = {name: _camera_result(errors[name], found, parts, fmr) for name, found in embeddings.items()}
    restored = {name: rows["pictures"] for name, rows in embeddings["ours"].items() if "pictures" in rows}
    arrays = _arrays(job, restored, pictures)
    result.write_tensors("report.safetensors", {name: value.contiguous() for name, value in arrays.items()})
    facts = data.photo_data(real, parts, known)
    return EvaluateMaskSummary(
        mode="photos",
        exploratory=photos.people < LEAST_PEOPLE,
        trained_run=run_dir.resolve().name,
        identities=photos.people,
        chance_rank1=1 / photos.people,
        nme=blocks["ours"].nme,
        attackers=blocks["ours"].attackers,
        worst_attacker=blocks["ours"].worst_attacker,
        clean=blocks["clean"],
        verdict=_verdict(errors, *_own_test(run_dir)),
        limits=(
            _described(real.folder, photos),
            *LIMITS,
            *(ON_THE_CHIP if releases_places(config, "ours") else ()),
            *(() if tune else UNTUNED),
            *photo_limits(facts),
        ),
        surfaces=surfaces_of(config, blocks["ours"], blocks["clean"]),
        budget=config.budget,
        seed=seed,
        data=facts,
        left_out=tuple(f"{refusal.file.name}: {refusal.reason}" for refusal in real.folder.refused),
    )


@dataclass(frozen=True)
class _Judgement:
    """One judgement: the run, the people, and where its files go.

    Attributes:
        run_dir: Folder of the run.
        trained: Its configuration.
        seed: Seed for attackers and exposures.
        parts: Everybody, photographs among them.
        splits: The people of the run, but for its test.
        result: Folder of the judgement.
        progress: Display.
        device: Where everything is computed.
    """

    run_dir: Path
    trained: TrainMaskConfig
    seed: int
    parts: Mapping[str, Part]
    splits: Mapping[str, Part]
    result: RunStore
    progress: Progress
    device: torch.device

    @property
    def config(self) -> TrainMaskConfig:
        """The configuration of the run with the seed of this judgement; tolerances are a matter of the run."""
        proof = self.trained.proof.model_copy(update={"tolerances": False})
        return self.trained.model_copy(update={"seed": self.seed, "proof": proof})

    @property
    def specs(self) -> dict[str, CameraSpec | PairsSpec]:
        """The designed camera and the clean one."""
        places = releases_places(self.trained, "ours")
        return {"ours": PairsSpec("ours") if places else cameras.ours(self.config), "clean": cameras.clean(self.config)}

    @property
    def own(self) -> dict[str, int]:
        """Captures of each part that are of the run, which has released their landmarks; they come first."""
        kept = {name for name, part in self.parts.items() if name == "train" or part is self.splits.get(name)}
        return {name: len(self.splits[name]) if name in kept else 0 for name in self.parts}


def _unseen(run_dir: Path, real: RealPeople) -> tuple[RealPeople, int]:
    """The people whom the run has not seen before its test, and how many others there are."""
    path = run_dir / data.PHOTO_FILES
    if not path.is_file():
        return real, 0
    stored = json.loads(path.read_text(encoding="utf-8"))
    seen = {digest for name, digests in stored.items() if name != "test" for digest in digests}
    faces = real.folder.faces
    hidden = {
        faces.names[number]
        for number, digest in zip(faces.identity.tolist(), real.folder.sha256, strict=True)
        if digest in seen
    }
    if len(hidden) > len(faces.names) - 2:
        raise CodesignError(
            f"{run_dir} was trained with {len(hidden)} of the {len(faces.names)} people of {faces.source}, so fewer "
            "than two are left to be tested; give photographs of other people."
        )
    return real.without(hidden), len(hidden)


def _parts(splits: Mapping[str, Part], real: RealPeople, tune: str, seed: int) -> dict[str, Part]:
    """The parts of a judgement: those of the run, and photographs as the test; with ``tune``, in all of them."""
    if not tune:
        everybody = real.part(torch.unique(real.folder.faces.identity))
        return {**splits, "test": data.part_of(everybody, ENROLLED)}
    sets = deal(real, tune, seed)
    sets["train"] = joined(splits["train"].faces, sets["train"])
    return {**splits, **{name: data.part_of(faces, ENROLLED) for name, faces in sets.items()}}


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


def _prepare(job: _Judgement, spec: CameraSpec | PairsSpec) -> float:
    """Lay out the files that attackers read, with photographs in the place of the test people, and wherever else.

    Returns:
        Error of the decoder on the photographs of the test.
    """
    if isinstance(spec, PairsSpec):
        with job.progress.stage(f"faces through the camera {spec.name}"):
            camera = StoredPairs.load(job.run_dir, job.trained)
            known, error = camera.told(job.parts, job.own, job.config, job.seed)
    else:
        known, error = _through(job, spec)
    job.result.write_tensors(f"proof/{spec.name}/released.safetensors", known)
    return error


def _through(job: _Judgement, spec: CameraSpec) -> tuple[dict[str, Tensor], float]:
    """Leave the signals of everybody; returns released landmarks, and the error on the photographs of the test."""
    config = job.config
    camera = build(spec, config, load_tensors(job.run_dir / MASK), job.device)
    decoder = _decoder(job.run_dir, config, spec, camera)
    known = load_tensors(job.run_dir / "proof" / spec.name / "released.safetensors")
    signals, own = {}, job.own
    with job.progress.stage(f"faces through the camera {spec.name}", len(job.parts)) as stage:
        for name, part in job.parts.items():
            if name == data.ATTACKERS and spec.name == "clean":
                stage.advance()
                continue  # as in the run
            signal = relative_signal(camera, part.faces)
            signals[name] = signal.cpu()
            first = own[name]
            if first < len(part):
                seed = derived_seed(config.seed, "release", "photographs", name)
                seen = release(decoder, camera, signal[first:], seed)
                for key, found in (("landmarks", seen.landmarks), ("confidence", seen.confidence)):
                    before = known[f"{key}.{name}"][:first]
                    known[f"{key}.{name}"] = torch.cat([before, found.cpu()])
            if name == "test":
                error = seen.error(part, config.landmarks)
            stage.advance()
    job.result.write_tensors(f"work/signals-{spec.name}.safetensors", signals)
    return known, error


def _decoder(run_dir: Path, config: TrainMaskConfig, spec: CameraSpec, camera: EncoderCamera) -> Decoder:
    decoder = new_decoder(camera, config.decoder, config.landmarks)
    decoder.load_state_dict(load_tensors(run_dir / "proof" / spec.name / "decoder.safetensors"))
    return decoder


def _one_attack(
    folder: Path, config: TrainMaskConfig, spec: Mapping[str, Any], name: str, device: torch.device
) -> dict[str, Tensor]:
    """Job: an attacker on a camera."""
    if name == PLACES:
        return pairs.attack_places(folder, config, spec["name"])
    return attack(folder, config, spec, name, device)


def _attack(job: _Judgement) -> dict[str, dict[str, dict[str, Tensor]]]:
    """Embeddings by camera and attacker."""
    config, specs = job.config, job.specs
    names = {name: attackers_of(name, config.proof.attackers, places=releases_places(config, name)) for name in specs}
    wanted = [(name, attacker) for name in specs for attacker in names[name] if attacker != FUSED]
    found: dict[str, dict[str, dict[str, Tensor]]] = {name: {} for name in specs}
    with job.progress.stage("attackers", len(wanted)) as stage:
        arguments = [
            (job.result.path, config, specs[name].to_json(), attacker, job.device) for name, attacker in wanted
        ]
        for index, embeddings, seconds in run_jobs(_one_attack, arguments, config.workers):
            name, attacker = wanted[index]
            found[name][attacker] = embeddings
            job.result.log_metrics({"stage": "attack", "camera": name, "attacker": attacker, "seconds": seconds})
            stage.note(f"{name}, {attacker}")
            stage.advance()
    for name in specs:
        if FUSED in names[name]:
            found[name][FUSED] = join(found[name], job.parts)[0]
    return {name: {key: found[name][key] for key in names[name]} for name in specs}


def _camera_result(
    error: float, embeddings: Mapping[str, Mapping[str, Tensor]], parts: Mapping[str, Part], fmr: float | None
) -> CameraResult:
    """Figures of each attacker of a camera, and the worst of them; accept rates where thresholds are set at a rate."""
    attackers: dict[str, AttackerResult] = {}
    for name, found in embeddings.items():
        if fmr is not None:
            figures, _, _ = judge(found, parts, fmr, manifest_hash({**data.manifest(parts)}))
            attackers[name] = AttackerResult.from_json(figures, f"the attacker {name}")
            continue
        photos, rows, centre = parts["test"], found["test"], embedding_mean(found["calibration"])
        gallery, people = photos.gallery, photos.identity
        table = score_matrix(rows[gallery], people[gallery], rows[~gallery], people[~gallery], centre=centre)
        probes = int((~gallery).sum()) // photos.people
        rank1, area = korn_graubard(*rank_trials(table, 1)), auc_interval(table)
        pooled = pooled_summary(pooled_scores(found, parts), probes)
        attackers[name] = AttackerResult(
            rank1=rank1.value,
            rank1_ci95=rank1.ci,
            auc=area.value,
            auc_ci95=area.ci,
            people=rank1.people,
            pooled=PooledResult.from_json(pooled, "pooled probes"),
        )
    worst = max(attackers, key=lambda key: attackers[key].order)
    return CameraResult(nme=error, attackers=attackers, worst_attacker=worst)


def _own_test(run_dir: Path) -> tuple[str, CameraResult]:
    """Which faces the run was tested on, and what its attackers got there from the designed camera."""
    path = run_dir / "summary.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    row = {key: stored.get(key) for key in ("nme", "attackers", "worst_attacker")}
    return str(stored.get("mode")), CameraResult.from_json(row, str(path))


def _verdict(errors: Mapping[str, float], mode: str, own: CameraResult) -> str:
    whom = "synthetic heads" if mode == "synthetic" else "photographs"
    rank1, area = (math.nan if value is None else value for value in (own.worst.rank1, own.worst.auc))
    return (
        f"The decoder finds eyes, nose and mouth corners with an error of {errors['ours']:.2f} of the outer eye "
        f"distance ({errors['clean']:.2f} through the clean camera), measured against two landmark networks on the "
        f"photographs. On the {whom} of its own test the strongest attacker had a rank-1 of {rank1:.2f} and an area of "
        f"{area:.2f}, among {own.worst.people} people."
    )


def _described(folder: FolderFaces, photos: Part) -> str:
    """What was tested, as the first of the limits."""
    text = f"{len(photos)} photographs of {photos.people} people are tested"
    if folder.refused:
        text += f"; {len(folder.refused)} more could not be used (reasons in summary.json under left_out)"
    return (
        f"{text}. On average {float(folder.padding.mean()):.0%} of a frame lies outside its photograph and is black; "
        "the synthetic heads of the training fill their frames."
    )


def _arrays(job: _Judgement, restored: Mapping[str, Tensor], pictures: bool) -> dict[str, Tensor]:
    """Arrays of the report: the optics as the run drew them, and photographs if they are wanted."""
    drawn = load_tensors(job.run_dir / "report.safetensors")
    arrays = {name: drawn[name] for name in OPTICS_ARRAYS if name in drawn}
    if not pictures:
        return arrays
    config, photos = job.config, job.parts["test"]
    shown = photos.faces.subset(report_rows(photos))
    scenes = shown.linear()
    arrays["scenes"] = channels_at_end(scenes)
    arrays["landmarks_true"] = released(shown.landmarks, config.landmarks)
    state = load_tensors(job.run_dir / MASK)
    for name, spec in job.specs.items():
        if isinstance(spec, PairsSpec):
            arrays |= StoredPairs.load(job.run_dir, job.trained).shown(shown, config, config.seed)
            continue
        camera = build(spec, config, state)
        generator = torch.Generator().manual_seed(derived_seed(config.seed, "report", name))
        with torch.no_grad():
            frames = camera.read(camera.signal(scenes), generator)
        arrays[f"frames_{name}"] = channels_at_end(displayed(spec.exposure, frames))
        if name == "ours":
            arrays |= decoded(_decoder(job.run_dir, config, spec, camera), frames)
    for key, attacker in restorers().items():
        if attacker in restored:
            arrays[f"reconstructions_{key}"] = channels_at_end(restored[attacker].clamp(0, 1))
    return arrays
