"""The summary of a run: every figure with its interval, what was compared, and what the comparison cannot say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from codesign.attackers import attackers_of, find
from codesign.cameras import baselines, build, geometry_of, ours, relief_m
from codesign.config import TrainMaskConfig
from codesign.data import Splits
from codesign.proof import scores
from evaluation import (
    Gap,
    ScoreMatrix,
    gap_closed,
    gap_closed_auc,
    paired_difference,
    per_identity,
    rank_trials,
)
from faces.landmarks import nme, released
from faces.samples import interocular
from ground.protocols import RunStore

CLEAN_RANK1, LARGEST_NME = 0.90, 0.10
MID_GREY = 0.18
OTHER_FLOORS = (0.5, 2.0)
CHUNK = 256


def floor_errors(config: TrainMaskConfig, error: float) -> list[float]:
    """Landmark errors at which landmarks alone are attacked: ours first, then others for the curve."""
    factors = (1.0,) if config.budget == "smoke" else (1.0, *OTHER_FLOORS)
    return [round(error * factor, 4) for factor in factors]


def assemble(config: TrainMaskConfig, run: RunStore, splits: Splits, information: Mapping[str, Any]) -> dict[str, Any]:
    """Read all finished stages and put the summary together.

    Args:
        config: configuration of the run.
        run: the run folder with all cameras and attackers done.
        splits: the people.
        information: result of the stage ``faces``.
    """
    names = [family.spec.name for family in baselines(config)]
    cameras = {name: _camera(run, name) for name in ["ours", "clean", *names]}
    our, clean = cameras["ours"], cameras["clean"]
    floors = floor_errors(config, our["nme"])
    floor = {**_figures(run, "floor", f"{floors[0]:.4f}"), "nme": floors[0]}
    rivals = {name: cameras[name] for name in names if not cameras[name]["ablation"]}
    best = min(rivals, key=lambda name: _worst_rate(rivals[name])) if rivals else None
    test = len(set(splits["test"].faces.identity.tolist()))
    summary: dict[str, Any] = {
        "run": run.path.name,
        "mode": "synthetic" if config.faces == "synthetic" else "photos",
        "budget": config.budget,
        "seed": config.seed,
        "identities": {name: len(set(part.faces.identity.tolist())) for name, part in splits.items()},
        "chance_rank1": 1 / test,
        "nme": our["nme"],
        "validation_nme": our["validation_nme"],
        "attackers": our["attackers"],
        "worst_attacker": our["worst_attacker"],
        "knowledge": {name: find(name).knows for name in {**our["attackers"], **clean["attackers"]}},
        "baselines": {name: cameras[name] for name in names},
        "best_baseline": best,
        "clean": clean,
        "oracle": floor,
        "curves": [
            {"camera": "oracle", "nme": error, **_figures(run, "floor", f"{error:.4f}")} for error in sorted(floors)
        ],
        "verdict": "",
        "config": config.model_dump(mode="json"),
        "data": {"manifest_sha256": information["hash"], **_sources(information["manifest"])},
    }
    tables = _Tables(run, splits)
    if best is not None:
        summary["gap_closed"] = _gaps(tables, cameras, best, f"{floors[0]:.4f}")
    summary["ablations"] = {
        name: {
            "lacks": cameras[name]["ablation"],
            **_gain(tables, cameras[name], our, name),
            "gap_closed": _gaps(tables, cameras, name, f"{floors[0]:.4f}"),
        }
        for name in names
        if cameras[name]["ablation"]
    }
    summary |= _physics(config, run)
    summary["nme_by_light"] = _nme_by_light(config, run, splits)
    gates, findings = _judgement(config, summary, cameras, best)
    summary |= {"gates": gates, "findings": findings, "limits": _limits(config, information, summary)}
    summary["timing"] = _timing(run, cameras, floors)
    return summary


def _figures(run: RunStore, camera: str, attacker: str) -> dict[str, Any]:
    return dict((run.stage_done(f"attack-{camera}-{attacker}") or {})["figures"])


def _camera(run: RunStore, name: str) -> dict[str, Any]:
    """One row of the comparison."""
    done = run.stage_done(f"camera-{name}") or {}
    attackers = {attacker: _figures(run, name, attacker) for attacker in attackers_of(name)}
    row: dict[str, Any] = {
        "nme": done["nme"],
        "validation_nme": done["validation_nme"],
        "attackers": attackers,
        "worst_attacker": max(attackers, key=lambda key: (attackers[key]["rank1"], attackers[key]["auc"])),
        "worst_attacker_auc": max(attackers, key=lambda key: attackers[key]["auc"]),
        "ablation": done.get("ablation", ""),
        "sensor": done["spec"]["exposure"],
    }
    for key in ("parameter", "value", "mismatch", "rounds"):
        if key in done:
            row[key] = done[key]
    return row


def _worst_rate(camera: Mapping[str, Any]) -> float:
    return float(camera["attackers"][camera["worst_attacker"]]["rank1"])


class _Tables:
    """Score tables of attackers, read from the run folder when asked for."""

    def __init__(self, run: RunStore, splits: Splits) -> None:
        self.run, self.splits = run, splits

    def __call__(self, camera: str, attacker: str) -> ScoreMatrix:
        return scores(self.run.read_tensors(f"proof/{camera}/{attacker}.safetensors"), self.splits)[1]

    def rates(self, camera: str, attacker: str) -> Any:
        """Success of each test person."""
        return per_identity(*rank_trials(self(camera, attacker), 1))[1]


def _plain(gap: Gap) -> dict[str, Any]:
    return {
        "value": gap.value, "ci95": gap.ci, "people": gap.people, "reason": gap.reason, "numerator": gap.numerator,
        "denominator": gap.denominator,
    }  # fmt: skip


def _gaps(tables: _Tables, cameras: Mapping[str, Any], best: str, floor: str) -> dict[str, Any]:
    """Share of the gap closed; each camera is represented by its own worst attacker, for each measure anew."""
    base, our = cameras[best], cameras["ours"]
    rank1 = gap_closed(
        tables.rates(best, base["worst_attacker"]),
        tables.rates("ours", our["worst_attacker"]),
        tables.rates("floor", floor),
    )
    auc = gap_closed_auc(
        tables(best, base["worst_attacker_auc"]),
        tables("ours", our["worst_attacker_auc"]),
        tables("floor", floor),
    )
    return {"rank1": _plain(rank1), "auc": _plain(auc)}


def _gain(tables: _Tables, bare: Mapping[str, Any], our: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a part of our camera takes off the worst rank-1: the camera without it, at equal error, minus ours."""
    difference = paired_difference(
        tables.rates(name, bare["worst_attacker"]), tables.rates("ours", our["worst_attacker"])
    )
    return {"rank1": {"value": difference.difference.value, "ci95": difference.difference.ci, "p": difference.p_value}}


def _sources(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: part[key] for key in ("source", "licence", "images", "content_sha256")}
        for name, part in manifest.items()
    }


def _physics(config: TrainMaskConfig, run: RunStore) -> dict[str, Any]:
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
        "noise": {
            "electrons_at_white": white,
            "full_well_e": sensor.full_well_e,
            "read_noise_e": sensor.read_noise_e,
            "bits": sensor.bits,
            "relative_noise_at_white": relative(1.0),
            "relative_noise_at_mid_grey": relative(MID_GREY),
        },
        "camera": {
            "focal_length_m": config.optics.focal_length_m,
            "aperture_diameter_m": config.optics.aperture_diameter_m,
            "object_distance_m": config.optics.object_distance_m,
            "focus_distance_m": config.optics.focus_distance_m,
            "frame_width_m": config.optics.frame_width_m,
            "pixels": sensor.pixels,
            "colour": sensor.colour,
            "pixel_pitch_m": geometry.cell_m * config.optics.scene_px / sensor.pixels,
            "mask_material": config.mask.material,
            "mask_relief_m": float(height.max() - height.min()),
        },
    }


@torch.no_grad()
def _nme_by_light(config: TrainMaskConfig, run: RunStore, splits: Splits) -> dict[str, float]:
    """Our landmark error for the darkest, middle and brightest third of the test frames.

    A mean over all faces hides a camera that fails on dark faces or in dim light; what the centre of the window sends
    to the sensor decides.
    """
    faces = splits["test"].faces
    camera = build(ours(config), config, run.read_tensors("mask.safetensors"))
    light = torch.cat([
        (camera.signal(faces.subset(part).linear()) * camera.meter).sum(dim=(1, 2, 3))
        for part in torch.arange(len(faces)).split(CHUNK)
    ])  # fmt: skip
    points = run.read_tensors("proof/ours/released.safetensors")["landmarks.test"]
    error = nme(points, released(faces.landmarks, config.landmarks), interocular(faces.landmarks))
    thirds = error[light.argsort()].tensor_split(3)
    return {name: float(third.mean()) for name, third in zip(("dark", "middle", "bright"), thirds, strict=True)}


def _judgement(
    config: TrainMaskConfig, summary: Mapping[str, Any], cameras: Mapping[str, Any], best: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gates, without which nothing may be claimed, and findings, which are the claim itself."""
    clean, error = _worst_rate(cameras["clean"]), summary["nme"]
    gates = {
        "splits disjoint": {"passed": True, "reason": "no person and no picture is in two parts"},
        "clean camera recognises": {
            "passed": clean >= CLEAN_RANK1,
            "reason": f"rank-1 of the clean camera is {clean:.3f}, at least {CLEAN_RANK1} is needed",
        },
        "landmark error": {
            "passed": error <= LARGEST_NME,
            "reason": f"NME is {error:.3f}, at most {LARGEST_NME} is needed",
        },
    }
    findings: dict[str, Any] = {}
    if config.budget == "smoke":
        # Six training steps can only show that the machinery runs.
        findings |= {name: gates.pop(name) for name in ("clean camera recognises", "landmark error")}
    if best is not None:
        high = summary["attackers"][summary["worst_attacker"]]["rank1_ci95"][1]
        low = cameras[best]["attackers"][cameras[best]["worst_attacker"]]["rank1_ci95"][0]
        findings["separation"] = {
            "passed": high < low,
            "reason": f"worst rank-1: ours up to {high:.3f}, {best} from {low:.3f} (95 % intervals)",
        }
        lower = summary["gap_closed"]["rank1"]["ci95"][0]
        findings["gap"] = {
            "passed": lower > 0,
            "reason": summary["gap_closed"]["rank1"]["reason"] or f"lower limit of the gap closed is {lower:.3f}",
        }
    return gates, findings


def _limits(config: TrainMaskConfig, information: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    found = [
        "Simulation only: no mask was made and no light was measured.",
        "One exposure of each face: an attacker who averages T frames of a still face lowers the noise by sqrt(T).",
        "All faces stand at one distance; a mask with relief acts differently at others.",
        "Colour is represented by three wavelengths; the light of a face covers the whole band.",
        "Privacy is shown against the attackers listed here, each with the training it got, and not against all.",
        "Attackers align faces by their true eye, nose and mouth points, which helps them.",
    ]
    if config.faces == "synthetic":
        found.append("Synthetic heads: people who never lived; evaluate-mask judges the mask on photographs.")
    else:
        found.append(
            "Teacher landmarks: the 68 points of the photographs come from a decoder trained on synthetic heads "
            f"(error there {information['teacher_nme']:.3f}), so landmark errors are differences from the teacher."
        )
    thirds = summary["nme_by_light"]
    found.append(
        "Landmarks are not found equally well in all faces: the error is "
        + ", ".join(f"{value:.3f} in the {name} third" for name, value in thirds.items())
        + " of the test frames."
    )
    for row in summary["ablations"].values():
        gain = row["rank1"]
        low, high = gain["ci95"]
        found.append(
            f"Taken off the worst rank-1, at equal landmark error, by {row['lacks']} of this camera alone: "
            f"{gain['value']:+.3f} (95 % interval {low:+.3f} to {high:+.3f})."
        )
    if "same-sensor-no-mask" not in summary["ablations"]:
        found.append(
            "Mask and sensor are judged together; what the mask adds to the sensor is measured by the baseline "
            "same-sensor-no-mask, which this run left out."
        )
    if config.budget in ("smoke", "quick"):
        found.append(f"Budget {config.budget}: attackers with more training may recognise more.")
    off = {name: row["mismatch"] for name, row in summary["baselines"].items() if "mismatch" in row}
    far = [f"{name} {value:+.3f}" for name, value in off.items() if abs(value) > config.proof.nme_tolerance]
    if far:
        found.append(
            "Landmark errors of these baselines differ from ours on the validation people by more than "
            f"{config.proof.nme_tolerance}: {', '.join(far)} (plus: the baseline sees landmarks worse)."
        )
    return found


def _timing(run: RunStore, cameras: Mapping[str, Any], floors: list[float]) -> dict[str, float]:
    """Seconds of each stage; jobs that ran side by side are added up."""

    def seconds(name: str) -> float:
        return float((run.stage_done(name) or {}).get("seconds", 0.0))

    attacks = sum(seconds(f"attack-{camera}-{name}") for camera in cameras for name in attackers_of(camera))
    return {
        "faces_s": seconds("faces"),
        "design_s": seconds("design"),
        "decoders_s": seconds("camera-ours") + seconds("camera-clean"),
        "baselines_s": sum(seconds(f"camera-{name}") for name in cameras if name not in ("ours", "clean")),
        "attackers_s": attacks + sum(seconds(f"attack-floor-{error:.4f}") for error in floors),
    }
