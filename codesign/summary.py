"""The summary of a run: every figure with its interval, what was compared, and what the comparison cannot say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from codesign.attackers import attackers_of, find, learner_of, releases_places, with_share
from codesign.awake import ALIVE, adversaries_alive
from codesign.cameras import build, cameras_of, geometry_of, ours, relief_m
from codesign.config import TrainMaskConfig
from codesign.crowd import chosen_people
from codesign.data import ATTACKERS, Splits
from codesign.limits import limits_of
from codesign.proof import EMBEDDED, averaged, judge
from codesign.records import (
    AblationResult,
    AttackerResult,
    CameraFacts,
    CameraResult,
    CurvePoint,
    Difference,
    ExposurePoint,
    FloorResult,
    GapResult,
    Gaps,
    GateResult,
    LearningPoint,
    Noise,
    PhotoData,
    PooledResult,
    Round,
    Source,
    Surface,
    Timing,
    TrainMaskSummary,
)
from codesign.tables import Tables, measured
from codesign.winners import facts as pairs
from codesign.winners.deviations import groups
from codesign.winners.tolerance import tolerance_rows
from evaluation import (
    Gap,
    gap_closed,
    gap_closed_auc,
    paired_difference,
)
from evaluation.measures.metrics import Floats
from faces.landmarks import nme, released
from faces.samples import FaceSet, interocular
from ground.protocols import RunStore
from sim.camera import METERED_GREY

CLEAN_RANK1, LARGEST_NME = 0.90, 0.10
OTHER_FLOORS = (0.5, 2.0)
CHUNK = 256


def floor_errors(config: TrainMaskConfig, error: float) -> list[float]:
    """Landmark errors at which landmarks alone are attacked: ours first, then others for the curve."""
    factors = (1.0,) if config.budget == "smoke" else (1.0, *OTHER_FLOORS)
    return [round(error * factor, 4) for factor in factors]


def assemble(
    config: TrainMaskConfig, run: RunStore, splits: Splits, information: Mapping[str, Any]
) -> TrainMaskSummary:
    """Read all finished stages and put the summary together.

    Args:
        config: Configuration of the run.
        run: The run folder with all cameras and attackers done.
        splits: The people.
        information: Result of the stage ``faces``.
    """
    cameras = {name: _camera(config, run, name) for name in cameras_of(config)}
    names = [name for name in cameras if name not in ("ours", "clean")]
    our, clean = cameras["ours"], cameras["clean"]
    floors = floor_errors(config, measured(our.nme))
    floor = f"{floors[0]:.4f}"
    tables = Tables(run, splits)
    best = most_private(cameras, names)
    gap = _gaps(tables, cameras, best, floor) if best is not None else None
    gates, findings = judgement(config, our, clean, cameras[best] if best is not None else None, gap)
    design = run.stage_done("design") or {}
    if config.design == "frame":
        (findings if config.budget == "smoke" else gates)[ALIVE] = adversaries_alive(config, run, design["best_start"])
    ablations = {
        name: AblationResult(
            lacks=cameras[name].ablation,
            rank1=_gain(tables, cameras[name], our, name),
            gap_closed=_gaps(tables, cameras, name, floor),
            error=_error_without(config, run, splits, name) if releases_places(config, name) else None,
        )
        for name in names
        if cameras[name].ablation
    }
    summary = TrainMaskSummary(
        run=run.path.name,
        mode="synthetic" if config.faces == "synthetic" else "photos",
        budget=config.budget,
        seed=config.seed,
        identities={name: len(set(part.faces.identity.tolist())) for name, part in splits.items()},
        chance_rank1=1 / len(set(splits["test"].faces.identity.tolist())),
        nme=our.nme,
        validation_nme=our.validation_nme,
        attackers=our.attackers,
        worst_attacker=our.worst_attacker,
        knowledge={name: find(name).knows for name in {**our.attackers, **clean.attackers}},
        baselines={name: cameras[name] for name in names},
        best_baseline=best,
        clean=clean,
        oracle=FloorResult(nme=floors[0], **_fields(_attack(run, "floor", floor))),
        curves=tuple(
            CurvePoint(camera="oracle", nme=error, **_fields(_attack(run, "floor", f"{error:.4f}")))
            for error in sorted(floors)
        ),
        config=config.model_dump(mode="json"),
        data={"manifest_sha256": information["hash"], **_sources(information["manifest"])},
        gap_closed=gap,
        gap_closed_pooled=_gaps(Tables(run, splits, pooled=True), cameras, best, floor) if best is not None else None,
        learning_curve=_learning_curve(config, run, splits),
        exposures=_exposures(config, run, splits, our, information["hash"]),
        ablations=ablations,
        nme_by_light=_nme_by_light(config, run, splits),
        surfaces=surfaces_of(config, our, clean),
        tolerances=tolerance_rows(config, run, splits)
        if config.design == "winners" and config.proof.tolerances
        else (),
        gates=gates,
        findings=findings,
        timing=_timing(config, run, cameras, floors),
        photographs=PhotoData.from_json(information["photographs"], "the photographs of the run")
        if information.get("photographs")
        else None,
        **_physics(config, run),
    )
    return summary.model_copy(update={"limits": tuple(limits_of(config, run, splits, summary))})


def _fields(result: AttackerResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in type(result).model_fields}


def _attack(run: RunStore, camera: str, attacker: str) -> AttackerResult:
    name = f"attack-{camera}-{attacker}"
    return AttackerResult.from_json((run.stage_done(name) or {}).get("figures"), f"the stage {name} of {run.path}")


def _camera(config: TrainMaskConfig, run: RunStore, name: str) -> CameraResult:
    """One row of the comparison."""
    done = run.stage_done(f"camera-{name}") or {}
    names = attackers_of(name, config.proof.attackers, places=releases_places(config, name))
    attackers = {attacker: _attack(run, name, attacker) for attacker in names}
    pooled = {key: result.pooled.order for key, result in attackers.items() if result.pooled is not None}
    return CameraResult(
        nme=done["nme"],
        validation_nme=done["validation_nme"],
        attackers=attackers,
        worst_attacker=max(attackers, key=lambda key: attackers[key].order),
        worst_attacker_auc=max(attackers, key=lambda key: attackers[key].order[1]),
        worst_attacker_pooled=max(pooled, key=lambda key: pooled[key], default=None),
        worst_attacker_pooled_auc=max(pooled, key=lambda key: pooled[key][1], default=None),
        ablation=done.get("ablation", ""),
        sensor=done["spec"].get("exposure"),
        parameter=done.get("parameter"),
        value=done.get("value"),
        mismatch=done.get("mismatch"),
        rounds=tuple(Round(**entry) for entry in done.get("rounds", ())),
    )


def most_private(cameras: Mapping[str, CameraResult], names: Sequence[str]) -> str | None:
    """The baseline whose worst attacker names the fewest people; ablations of our own camera do not count."""
    rivals = [name for name in names if not cameras[name].ablation]
    return min(rivals, key=lambda name: cameras[name].worst.order[0]) if rivals else None


def _plain(gap: Gap) -> GapResult:
    return GapResult(
        value=gap.value,
        ci95=gap.ci,
        people=gap.people,
        reason=gap.reason,
        numerator=gap.numerator,
        denominator=gap.denominator,
    )


def _gaps(tables: Tables, cameras: Mapping[str, CameraResult], best: str, floor: str) -> Gaps:
    """Share of the gap closed; each camera is represented by its own worst attacker, for each measure anew."""
    base, our = tables.worst(cameras[best]), tables.worst(cameras["ours"])
    rank1 = gap_closed(tables.rates(best, base[0]), tables.rates("ours", our[0]), tables.rates("floor", floor))
    auc = gap_closed_auc(tables(best, base[1]), tables("ours", our[1]), tables("floor", floor))
    return Gaps(rank1=_plain(rank1), auc=_plain(auc))


def _learning_curve(config: TrainMaskConfig, run: RunStore, splits: Splits) -> tuple[LearningPoint, ...]:
    """The learned attacker on our camera, trained with a part of its people and with all of them."""
    learner = learner_of(config)
    if learner not in config.proof.attackers:
        return ()
    people = sum(len(set(splits[name].faces.identity.tolist())) for name in ("train", ATTACKERS))
    shares = [*sorted({share for share in config.proof.learning_curve if share < 1.0}), 1.0]
    return tuple(
        LearningPoint(
            attacker=learner,
            trained_on=chosen_people(people, share),
            **_fields(_attack(run, "ours", learner if share == 1.0 else with_share(learner, share))),
        )
        for share in shares
    )


def _exposures(
    config: TrainMaskConfig, run: RunStore, splits: Splits, our: CameraResult, manifest: str
) -> tuple[ExposurePoint, ...]:
    """The strongest attacker on our camera that can average exposures, with one and with several of each face."""
    strongest = sorted(our.attackers, key=lambda name: our.attackers[name].order, reverse=True)
    for name in strongest:
        tensors = run.read_tensors(f"proof/ours/{name}.safetensors")
        if averaged("test") not in tensors:
            continue
        several = {part: tensors[averaged(part)] for part in EMBEDDED}
        figures = AttackerResult.from_json(judge(several, splits, config.proof.fmr, manifest)[0], "exposures")
        return (
            ExposurePoint(attacker=name, exposures=1, **_fields(our.attackers[name])),
            ExposurePoint(attacker=name, exposures=config.proof.exposures, **_fields(figures)),
        )
    return ()


def _gain(tables: Tables, bare: CameraResult, our: CameraResult, name: str) -> Difference:
    """What a part of our camera takes off the worst rank-1: the camera without it, at equal error, minus ours."""
    found = paired_difference(tables.rates(name, bare.worst_attacker), tables.rates("ours", our.worst_attacker))
    return Difference(value=found.difference.value, ci95=found.difference.ci, p=found.p_value)


def _error_without(config: TrainMaskConfig, run: RunStore, splits: Splits, name: str) -> Difference:
    """Landmark error of a camera less ours, paired over people."""
    faces = splits["test"].faces
    true, unit = released(faces.landmarks, config.landmarks), interocular(faces.landmarks)

    def errors(camera: str) -> Floats:
        points = run.read_tensors(f"proof/{camera}/released.safetensors")["landmarks.test"]
        errors = nme(points, true, unit).double()
        return torch.stack([errors[faces.identity == person].mean() for person in torch.unique(faces.identity)]).numpy()

    found = paired_difference(errors(name), errors("ours"))
    return Difference(value=found.difference.value, ci95=found.difference.ci, p=found.p_value)


def surfaces_of(config: TrainMaskConfig, our: CameraResult, clean: CameraResult) -> tuple[Surface, ...]:
    """From the scene to what is released, each with its strongest attacker.

    Args:
        config: Configuration of the run.
        our: The designed camera.
        clean: The clean camera.
    """

    def surface(name: str, camera: str, attacker: str, found: AttackerResult, pooled: PooledResult | None) -> Surface:
        return Surface(
            name=name, camera=camera, attacker=attacker, rank1=found.rank1, rank1_ci95=found.rank1_ci95,
            auc=found.auc, pooled_rank1=None if pooled is None else pooled.rank1,
        )  # fmt: skip

    end = "places of the winners" if releases_places(config, "ours") else "frame of the sensor"
    found = [surface("scene", "clean", clean.worst_attacker, clean.worst, clean.worst_pooled)]
    found.append(surface(end, "ours", our.worst_attacker, our.worst, our.worst_pooled))
    if "landmarks-only" in our.attackers:
        landmarks = our.attackers["landmarks-only"]
        found.append(surface("released landmarks", "ours", "landmarks-only", landmarks, landmarks.pooled))
    return tuple(found)


def _sources(manifest: Mapping[str, Any]) -> dict[str, Source]:
    return {
        name: Source(**{key: part[key] for key in ("source", "licence", "images", "content_sha256")})
        for name, part in manifest.items()
    }


def _physics(config: TrainMaskConfig, run: RunStore) -> dict[str, Any]:
    """The fields ``throughput``, ``noise`` and ``camera`` of the summary, and those of a camera of pairs."""
    if config.design == "winners":
        return pairs.physics(config, run)
    camera = build(ours(config), config, run.read_tensors("mask.safetensors"))
    geometry, sensor = geometry_of(config.optics), config.sensor
    height = relief_m(camera)
    white = sensor.electrons_at_white
    rounding = (sensor.full_well_e / (2**sensor.bits - 1)) ** 2 / 12

    def relative(level: float) -> float:
        electrons = level * white
        return math.sqrt(electrons + sensor.read_noise_e**2 + rounding) / electrons

    return {
        # A clear dielectric relief absorbs nothing; light is lost only beyond the window.
        "throughput": float(camera.psf.sum(dim=(-2, -1)).mean()),
        "noise": Noise(
            electrons_at_white=white,
            full_well_e=sensor.full_well_e,
            read_noise_e=sensor.read_noise_e,
            bits=sensor.bits,
            relative_noise_at_white=relative(1.0),
            relative_noise_at_mid_grey=relative(METERED_GREY),
        ),
        "camera": CameraFacts(
            focal_length_m=config.optics.focal_length_m,
            aperture_diameter_m=config.optics.aperture_diameter_m,
            object_distance_m=config.optics.object_distance_m,
            focus_distance_m=config.optics.focus_distance_m,
            frame_width_m=config.optics.frame_width_m,
            pixels=sensor.pixels,
            colour=sensor.colour,
            pixel_pitch_m=geometry.cell_m * config.optics.scene_px / sensor.pixels,
            mask_material=config.mask.material,
            mask_relief_m=float(height.max() - height.min()),
        ),
    }


@torch.no_grad()
def _nme_by_light(config: TrainMaskConfig, run: RunStore, splits: Splits) -> dict[str, float]:
    """Our landmark error for the darkest, middle and brightest third of the test frames.

    A mean over all faces hides a camera that fails on dark faces or in dim light; what the centre of the window sends
    to the sensor decides.
    """
    faces = splits["test"].faces
    light = _light(config, run, faces)
    points = run.read_tensors("proof/ours/released.safetensors")["landmarks.test"]
    error = nme(points, released(faces.landmarks, config.landmarks), interocular(faces.landmarks))
    thirds = error[light.argsort()].tensor_split(3)
    return {name: float(third.mean()) for name, third in zip(("dark", "middle", "bright"), thirds, strict=True)}


def _light(config: TrainMaskConfig, run: RunStore, faces: FaceSet) -> Tensor:
    """Light (N,) that the centre of the window sends to the sensor."""
    if config.design == "winners":
        return pairs.light_at_centre(config, faces)
    camera = build(ours(config), config, run.read_tensors("mask.safetensors"))
    parts = torch.arange(len(faces)).split(CHUNK)
    return torch.cat([(camera.signal(faces.subset(part).linear()) * camera.meter).sum(dim=(1, 2, 3)) for part in parts])


def judgement(
    config: TrainMaskConfig, our: CameraResult, clean: CameraResult, best: CameraResult | None, gap: Gaps | None
) -> tuple[dict[str, GateResult], dict[str, GateResult]]:
    """Gates, without which nothing may be claimed, and findings, which are the claim itself.

    Args:
        config: Configuration of the run. The budget ``smoke`` shows only that the machinery runs, so what would be a
            gate is a finding there.
        our: The designed camera.
        clean: The clean camera, which has to recognise people, or the attackers prove nothing.
        best: The best baseline, if the run has one.
        gap: The gap closed, measured from it.
    """
    recognised, error = measured(clean.worst.rank1), measured(our.nme)
    gates = {
        "clean camera recognises": GateResult(
            passed=recognised >= CLEAN_RANK1,
            reason=f"rank-1 of the clean camera is {recognised:.3f}, at least {CLEAN_RANK1} is needed",
        ),
        "landmark error": GateResult(
            passed=error <= LARGEST_NME, reason=f"NME is {error:.3f}, at most {LARGEST_NME} is needed"
        ),
    }
    findings: dict[str, GateResult] = {}
    if config.budget == "smoke":
        gates, findings = {}, gates
    if best is not None and gap is not None:
        high, low = measured(our.worst.rank1_ci95[1]), measured(best.worst.rank1_ci95[0])
        findings["separation"] = GateResult(
            passed=high < low,
            reason=f"worst rank-1: ours up to {high:.3f}, the best baseline from {low:.3f} (95 % intervals)",
        )
        lower = measured(gap.rank1.ci95[0])
        findings["gap"] = GateResult(
            passed=lower > 0, reason=gap.rank1.reason or f"lower limit of the gap closed is {lower:.3f}"
        )
    return gates, findings


def _timing(config: TrainMaskConfig, run: RunStore, cameras: Iterable[str], floors: Iterable[float]) -> Timing:
    """Seconds of each stage; jobs that ran side by side are added up."""

    def seconds(name: str) -> float:
        return float((run.stage_done(name) or {}).get("seconds", 0.0))

    names = list(cameras)
    chosen, learner = config.proof.attackers, learner_of(config)
    attacks = sum(
        seconds(f"attack-{camera}-{name}")
        for camera in names
        for name in attackers_of(camera, chosen, places=releases_places(config, camera))
    )
    attacks += sum(seconds(f"attack-ours-{with_share(learner, share)}") for share in config.proof.learning_curve)
    return Timing(
        faces_s=seconds("faces"),
        design_s=seconds("design"),
        decoders_s=seconds("camera-ours") + seconds("camera-clean"),
        baselines_s=sum(seconds(f"camera-{name}") for name in names if name not in ("ours", "clean")),
        attackers_s=attacks + sum(seconds(f"attack-floor-{error:.4f}") for error in floors),
        tolerances_s=sum(seconds(f"deviating-{group}") for group in range(len(groups()))),
    )
