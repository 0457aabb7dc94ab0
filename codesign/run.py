"""``optishield train-mask``: faces, design, cameras at equal landmark error, attackers, summary.

Every stage leaves its results in the run folder before it is marked done, so a run that was stopped goes on where it
was and ends with the same figures. Files under ``work/`` are needed only until the run is finished.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign import data, masks, matching, proof
from codesign.attackers import (
    FUSED,
    PLACES,
    attackers_of,
    check_chosen,
    find,
    in_job_order,
    learner_of,
    releases_places,
    with_share,
)
from codesign.auxiliary import store_auxiliary
from codesign.cameras import (
    CPU,
    OPTICS_ABLATIONS,
    CameraSpec,
    baselines,
    build,
    cameras_of,
    clean,
    exposure_of,
    geometry_of,
    ours,
)
from codesign.config import TrainMaskConfig
from codesign.data import Splits
from codesign.errors import CodesignError
from codesign.export import write_model, write_report_arrays
from codesign.files import MASK, load_checked, sha256
from codesign.matching import FinishedCamera
from codesign.photos import evaluate_mask
from codesign.real_people import check_folder
from codesign.records import TrainMaskSummary
from codesign.starts import Designer
from codesign.summary import assemble, floor_errors
from codesign.winners import stage as pairs
from codesign.winners.camera import build_winners
from codesign.winners.design import Faces, WinnersDesigner
from codesign.winners.deviations import file_of, groups
from codesign.winners.stage import FinishedPairs, PairsSpec
from codesign.winners.tolerance import off_design
from evaluation import manifest_hash
from faces import weights
from faces.truth import SOURCES
from ground.devices import stay_on
from ground.pool import derived_seed, run_jobs, threads
from ground.protocols import Progress, RunStore
from sim.camera import MaskPsf

__all__ = ["evaluate_mask", "train_mask"]

#: Threads of what runs in this process, the design above all (jobs have one each): fixed, so that a machine with more
#: cores finds the same mask.
THREADS = 2


def train_mask(
    config: TrainMaskConfig, run: RunStore, *, resume: bool, progress: Progress, device: torch.device | str = CPU
) -> TrainMaskSummary:
    """Design a mask and prove what it hides.

    On one kind of device, equal settings give the same bits, however often the run is stopped and with any number of
    processes. Between kinds of devices figures differ by rounding, which training carries on; so a run stays on the
    kind it was begun on.

    Args:
        config: Everything that decides the result, but for the device.
        run: Run folder; finished stages in it are not done again.
        resume: Whether the folder was opened to go on (a fresh folder has no finished stages, so nothing changes).
        progress: Display.
        device: Where design and attackers are computed.

    Returns:
        The summary, also when the run had ended before.

    Raises:
        CodesignError, OpticsError, FacesError, EvaluationError: With what to change.
    """
    finished = run.stage_done("summary")
    if finished is not None:
        return TrainMaskSummary.from_json(finished["summary"], f"the summary of {run.path}")
    if resume:
        progress.note(f"going on in {run.path}")
    with threads(THREADS):
        return _train_mask(config, run, progress, torch.device(device))


def _train_mask(config: TrainMaskConfig, run: RunStore, progress: Progress, device: torch.device) -> TrainMaskSummary:
    if config.design == "winners" and device.type != "cpu":
        raise CodesignError(
            f"a camera of pairs is computed on the CPU alone; leave --device {device.type} out, or design "
            "the other one with --set design=frame."
        )
    _check_mask(config, run)
    stay_on(run, device.type)
    _check_early(config)
    information, splits = _faces(config, run, progress)
    best_start = _design(config, run, splits, progress, device)
    our = _fixed_cameras(config, run, progress, device)
    _matched_cameras(config, run, our.validation, progress, device)
    if config.design == "winners" and config.proof.tolerances:
        _off_design(config, run, progress)
    _attacks(config, run, splits, our.test, information["hash"], progress, device)
    with progress.stage("summary"):
        summary = assemble(config, run, splits, information)
        write_model(config, run, summary)
        names = write_report_arrays(config, run, splits, summary.best_baseline, best_start)
        summary = summary.model_copy(update={"history_names": tuple(names)})
    run.mark_stage("summary", {"summary": summary.to_json()})
    shutil.rmtree(run.path / "work", ignore_errors=True)
    return summary


def _check_mask(config: TrainMaskConfig, run: RunStore) -> None:
    """Refuse to go on with a mask that is not the one that this run designed."""
    designed = run.stage_done("design")
    if designed is None:
        return
    path = run.path / MASK
    cure = f"put it back, or delete {run.path / 'stages' / 'design.json'} to have it written again by --resume"
    state = load_checked(path, designed.get("mask_sha256"), cure)
    try:
        if config.design == "winners":
            build_winners(config, state, chip=pairs.chip_of(config))
        else:
            masks.load(config.mask, geometry_of(config.optics).grid, masks.split(config.sensor, state)[0])
    except CodesignError as error:
        raise CodesignError(f"{path} cannot be used: {str(error).rstrip('.')}; {cure}.") from error


def _check_early(config: TrainMaskConfig) -> None:
    """Find what would stop the run in its last hour: optics that cannot be sampled, missing weights, no attackers."""
    check_chosen(config)
    geometry = geometry_of(config.optics)
    MaskPsf(geometry, masks.flat(config.mask, geometry.grid)).check()
    build(CameraSpec("bare", "flat", exposure_of(config.sensor)), config)
    build(clean(config), config)
    for family in baselines(config):
        build(family.at(family.worst), config)
    weights.verify("sface")
    if config.faces != "synthetic":
        check_folder(Path(config.faces), config.tune)
        for name in ("yunet", *SOURCES):
            weights.verify(name)


def _once(run: RunStore, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The result of a stage, done now or earlier."""
    done = run.stage_done(name)
    if done is None:
        start = time.monotonic()
        result = {**work(), "seconds": time.monotonic() - start}
        run.mark_stage(name, result)
        done = run.stage_done(name)
    return done or {}


def _faces(config: TrainMaskConfig, run: RunStore, progress: Progress) -> tuple[dict[str, Any], Splits]:
    def work() -> dict[str, Any]:
        splits, real = data.load_people(config, progress)
        information: dict[str, Any] = {"photographs": None}
        if real is not None:
            information["photographs"] = data.photo_data(real, splits).to_json()
            run.write_json(data.PHOTO_FILES, data.photo_files(real, splits))
        data.store(run, splits)
        store_auxiliary(run, splits, config)
        described = data.manifest(splits)
        run.write_json("data.json", described)
        return information | {"manifest": described, "hash": manifest_hash({**described})}

    information = _once(run, "faces", work)
    return information, {name: data.restore(run.path, name) for name in data.PARTS}


def _design(config: TrainMaskConfig, run: RunStore, splits: Splits, progress: Progress, device: torch.device) -> int:
    """Design the mask; the number of the start that it comes from."""

    def tiles() -> dict[str, Any]:
        people = pairs.designed_with(splits)
        designer = WinnersDesigner(config, Faces(people, splits["validation"].faces), run, progress)
        path = run.write_tensors(MASK, designer.design())
        return {"best_start": 0, "starts": [], "mask_sha256": sha256(path)}

    def work() -> dict[str, Any]:
        designer = Designer(
            config,
            geometry_of(config.optics),
            ours(config).exposure,
            splits["train"].faces,
            splits["validation"].faces,
            run,
            derived_seed(config.seed, "design") % 2**31,
            device,
        )
        found = designer.design(progress)
        path = run.write_tensors(MASK, found.mask)
        return {
            "best_start": found.best_start,
            "starts": [start.to_json() for start in found.starts],
            "mask_sha256": sha256(path),
        }

    return int(_once(run, "design", tiles if config.design == "winners" else work)["best_start"])


def _keep_camera(run: RunStore, camera: FinishedCamera | FinishedPairs, seconds: float) -> None:
    """Files of a finished camera, its line in the metrics, and its mark."""
    name = camera.spec.name
    run.write_tensors(f"proof/{name}/decoder.safetensors", camera.decoder)
    run.write_tensors(f"proof/{name}/released.safetensors", camera.released)
    if camera.signals:
        run.write_tensors(f"work/signals-{name}.safetensors", camera.signals)
    run.log_metrics({"stage": "camera", "camera": name, "nme": camera.nme, "seconds": seconds})
    run.mark_stage(f"camera-{name}", {**camera.to_json(), "seconds": seconds})


@dataclass(frozen=True)
class _Errors:
    """Landmark errors of our camera on validation and test people."""

    validation: float
    test: float


def _fixed_cameras(config: TrainMaskConfig, run: RunStore, progress: Progress, device: torch.device) -> _Errors:
    specs: list[CameraSpec | PairsSpec] = [ours(config), clean(config)]
    if config.design == "winners":
        specs = [clean(config), *(PairsSpec(name) for name in ("ours", *OPTICS_ABLATIONS))]
    left = [spec for spec in specs if run.stage_done(f"camera-{spec.name}") is None]
    jobs = [(run.path, config, spec, device) for spec in left]
    with progress.stage("decoders, ours and clean", len(specs)) as stage:
        stage.advance(len(specs) - len(jobs))
        for _, camera, seconds in run_jobs(_one_camera, jobs, config.workers):
            _keep_camera(run, camera, seconds)
            stage.advance()
    our = run.stage_done("camera-ours") or {}
    return _Errors(our["validation_nme"], our["nme"])


def _one_camera(
    folder: Path, config: TrainMaskConfig, spec: CameraSpec | PairsSpec, device: torch.device
) -> FinishedCamera | FinishedPairs:
    """Job: the decoder of a camera with nothing to tune."""
    if isinstance(spec, PairsSpec):
        return pairs.finished_camera(folder, config, spec)
    return matching.fixed_camera(folder, config, spec, device)


def _matched_cameras(
    config: TrainMaskConfig, run: RunStore, target: float, progress: Progress, device: torch.device
) -> None:
    names = [family.spec.name for family in baselines(config)]
    left = [name for name in names if run.stage_done(f"camera-{name}") is None]
    jobs = [(run.path, config, name, target, device) for name in left]
    with progress.stage("baselines to equal landmark error", len(names)) as stage:
        stage.advance(len(names) - len(jobs))
        for _, camera, seconds in run_jobs(matching.matched_camera, jobs, config.workers):
            stage.note(f"{camera.spec.name} NME {camera.nme:.3f}")
            _keep_camera(run, camera, seconds)
            stage.advance()


def _off_design(config: TrainMaskConfig, run: RunStore, progress: Progress) -> None:
    """What our camera of pairs releases in other light, at other distances, and with errors of making."""
    names = [f"deviating-{group}" for group in range(len(groups()))]
    left = [group for group, name in enumerate(names) if run.stage_done(name) is None]
    with progress.stage("tolerances", len(names)) as stage:
        stage.advance(len(names) - len(left))
        for index, found, seconds in run_jobs(
            off_design, [(run.path, config, group) for group in left], config.workers
        ):
            group = left[index]
            run.write_tensors(f"proof/ours/{file_of(group)}", found)
            run.mark_stage(names[group], {"seconds": seconds})
            stage.advance()


@dataclass(frozen=True)
class _Attack:
    """One job of the proof.

    Attributes:
        camera: Name of the camera; "floor" is landmarks alone.
        attacker: Name of the attacker; of the floor, the error.
        spec: Description of the camera; of the floor, the error.
        share: Share of its people that the attacker gets.
    """

    camera: str
    attacker: str
    spec: Any
    share: float = 1.0

    @property
    def key(self) -> str:
        """Name of its results, below the name of the camera."""
        return self.attacker if self.share == 1.0 else with_share(self.attacker, self.share)


def _one_attack(
    folder: Path, config: TrainMaskConfig, camera: Any, name: str, device: torch.device, share: float
) -> dict[str, Tensor]:
    """Job: an attacker on a camera (its description), or landmarks alone at an error (a number)."""
    if isinstance(camera, float):
        return proof.attack_floor(folder, config, camera)
    if name == PLACES:
        return pairs.attack_places(folder, config, camera["name"], share)
    return proof.attack(folder, config, camera, name, device, share)


def _wanted(config: TrainMaskConfig, specs: Mapping[str, Any], error: float) -> list[_Attack]:
    """All jobs, the longest first."""
    chosen = config.proof.attackers
    learner = learner_of(config)
    shares = [share for share in config.proof.learning_curve if share < 1.0] if learner in chosen else []
    jobs = [_Attack("ours", learner, specs["ours"], share) for share in shares]
    jobs += [
        _Attack(camera, name, spec)
        for name in in_job_order()
        for camera, spec in specs.items()
        if name in attackers_of(camera, chosen, places=releases_places(config, camera))
        and find(name).sees != "embeddings"
    ]
    jobs.sort(key=lambda job: -find(job.attacker).cost)
    return jobs + [_Attack("floor", f"{value:.4f}", value) for value in floor_errors(config, error)]


def _attacks(
    config: TrainMaskConfig,
    run: RunStore,
    splits: Splits,
    error: float,
    manifest: str,
    progress: Progress,
    device: torch.device,
) -> None:
    specs = {name: (run.stage_done(f"camera-{name}") or {})["spec"] for name in cameras_of(config)}
    wanted = _wanted(config, specs, error)
    jobs = [job for job in wanted if run.stage_done(f"attack-{job.camera}-{job.key}") is None]
    with progress.stage("attackers", len(wanted)) as stage:
        stage.advance(len(wanted) - len(jobs))
        arguments = [(run.path, config, job.spec, job.attacker, device, job.share) for job in jobs]
        for index, tensors, seconds in run_jobs(_one_attack, arguments, config.workers):
            job = jobs[index]
            figures = _keep_attack(config, run, splits, job.camera, job.key, tensors, manifest, seconds, {})
            stage.note(f"{job.camera}, {job.key}: rank-1 {figures['rank1']:.2f}")
            stage.advance()
    for camera in specs:
        names = attackers_of(camera, config.proof.attackers, places=releases_places(config, camera))
        if FUSED not in names or run.stage_done(f"attack-{camera}-{FUSED}") is not None:
            continue
        start = time.monotonic()
        found = {name: run.read_tensors(f"proof/{camera}/{name}.safetensors") for name in names if name != FUSED}
        tensors, weights = proof.join(found, splits)
        seconds = time.monotonic() - start
        _keep_attack(config, run, splits, camera, FUSED, tensors, manifest, seconds, {"weights": weights})


def _keep_attack(
    config: TrainMaskConfig,
    run: RunStore,
    splits: Splits,
    camera: str,
    key: str,
    tensors: dict[str, Tensor],
    manifest: str,
    seconds: float,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Judge the embeddings of one attacker; leave them, their figures, and a line in the metrics."""
    figures, _, _ = proof.judge(tensors, splits, config.proof.fmr, manifest)
    run.write_tensors(f"proof/{camera}/{key}.safetensors", tensors)
    run.log_metrics({
        "stage": "attack", "camera": camera, "attacker": key, "rank1": figures["rank1"],
        "pooled_rank1": figures["pooled"]["rank1"], "auc": figures["auc"], "seconds": seconds,
    })  # fmt: skip
    run.mark_stage(f"attack-{camera}-{key}", {"figures": {**figures, **more}, "seconds": seconds})
    return figures
