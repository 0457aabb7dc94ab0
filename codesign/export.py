"""What a finished run hands on: the mask, its point-spread function, the decoder with a card, arrays of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from codesign.attackers import restorers
from codesign.cameras import CameraSpec, build, displayed, geometry_of, ours, relief_m
from codesign.config import TrainMaskConfig
from codesign.data import Splits
from codesign.decoders import Decoder, new_decoder
from codesign.files import MASK
from codesign.proof import report_rows
from codesign.records import Source, TrainMaskSummary
from codesign.winners import export as pairs
from faces.landmarks import points_in, released
from ground.pool import derived_seed
from ground.protocols import RunStore
from sim.stored import StoredCamera

#: What ``mask.json`` says of a grey mask.
GREY_FILE = {"file": "grey_mask.npy", "unit": "transmission of each pixel, 0 to 1", "axes": "[y, x], x right, y down"}
POINT_NAMES = {
    "five": "five landmarks: right eye, left eye (of the subject), nose tip, right and left mouth corner",
    "sixty-eight": "68 landmarks in iBUG order",
}


def write_model(config: TrainMaskConfig, run: RunStore, summary: TrainMaskSummary) -> None:
    """Mask, point-spread function, decoder and model card.

    Files: ``mask.json`` and ``mask_height_m.npy`` (beside ``mask.safetensors``, the controls), ``psf.npy``,
    ``grey_mask.npy`` where the sensor has one, ``camera.json``, ``decoder.safetensors``, ``decoder.json``,
    ``README.md``.
    """
    if config.design == "winners":
        pairs.write_files(config, run, summary)
        run.write_text("README.md", _card(config, summary))
        return
    state = run.read_tensors(MASK)
    geometry = geometry_of(config.optics)
    write_camera(config, run, state)
    run.write_json(
        "mask.json",
        {
            **config.mask.model_dump(mode="json"),
            "height_map": {"file": "mask_height_m.npy", "unit": "m", "axes": "[y, x], x right, y down"},
            "pitch_m": config.optics.aperture_diameter_m / config.optics.pupil_samples,
            "aperture_diameter_m": config.optics.aperture_diameter_m,
            "psf": {"file": "psf.npy", "pitch_m": geometry.cell_m, "wavelengths_m": config.optics.wavelengths_m},
            "parameters": {name: list(value.shape) for name, value in state.items()},
            **({"grey_mask": GREY_FILE} if config.sensor.grey_mask else {}),
        },
    )
    run.write_tensors("decoder.safetensors", run.read_tensors("proof/ours/decoder.safetensors"))
    run.write_json(
        "decoder.json",
        {
            "architecture": "faces.landmarks.HeatmapDecoder behind codesign.decoders.Decoder",
            "channels": 3 if config.sensor.colour else 1,
            "size": config.sensor.pixels,
            "width": config.decoder.width,
            "scene_size": config.optics.scene_px,
            "input": "frames, black 0, top code 1",
            "points": points_in(config.landmarks),
            "output": f"heatmap logits of 32 x 32 for {POINT_NAMES[config.landmarks]}",
            "nme": summary.nme,
        },
    )
    run.write_text("README.md", _card(config, summary))


def write_camera(config: TrainMaskConfig, run: RunStore, mask: Mapping[str, Tensor]) -> None:
    """The designed camera for whoever wants to use it, in the files of :class:`sim.stored.StoredCamera`.

    The mask lies in a run three times, each for a reader of its own: its controls in ``mask.safetensors``, from which
    cameras are built again; its height in ``mask_height_m.npy``, for those who make or simulate it without this
    program; and the same in ``report.safetensors``, which holds all that the report draws and nothing else.
    """
    spec = ours(config)
    camera = build(spec, config, mask)
    grey = None if camera.grey is None else camera.grey.transmission()
    stored = StoredCamera(geometry_of(config.optics), spec.exposure, camera.psf.detach(), relief_m(camera), grey)
    stored.save(run.write_bytes)


def _card(config: TrainMaskConfig, summary: TrainMaskSummary) -> str:
    """The model card."""
    worst = summary.ours.worst
    low, high = worst.rank1_ci95
    parts = [part for part in summary.data.values() if isinstance(part, Source)]
    licences, sources = sorted({part.licence for part in parts}), sorted({part.source for part in parts})
    if config.faces != "synthetic":
        sources = ["a folder of photographs"]
    lines = [
        "# Phase mask and landmark decoder",
        "",
        _described(config, summary),
        "",
        "## Threat model",
        "",
        f"The attacker holds {_held(config)}, knows mask and exposure exactly, owns the same camera "
        "and trains on as many other people as this run had. The landmarks are meant to be released; what they alone "
        "tell is the floor.",
        "",
        "## Figures",
        "",
        f"- Landmark error (NME over the outer eye distance): {summary.nme:.4f}",
        f"- Worst attacker: {summary.worst_attacker}, rank-1 {worst.rank1:.3f} [{low:.3f}, {high:.3f}] among "
        f"{summary.people} people (chance {summary.chance_rank1:.4f}), AUC {worst.auc:.3f}",
        f"- Landmarks alone at that error: rank-1 {summary.oracle.rank1:.3f}",
        f"- Light kept in the window: {summary.throughput:.3f}",
        "",
        "## Data",
        "",
        f"Trained on: {', '.join(sources)} ({summary.identities['train']} people). Licence of the pictures: "
        f"{', '.join(licences)}.",
        f"Manifest SHA-256: `{summary.data['manifest_sha256']}`.",
        "",
        "## Limits",
        "",
        *(f"- {text}" for text in summary.limits),
        "",
        "## Licence",
        "",
        "Mask and decoder: Apache-2.0, as the program that made them.",
        "",
    ]
    return "\n".join(lines)


def _described(config: TrainMaskConfig, summary: TrainMaskSummary) -> str:
    """What the files describe, in a sentence."""
    points = POINT_NAMES[config.landmarks]
    if summary.winners is not None:
        return (
            f"{summary.winners.tiles} free-form reliefs in {config.mask.material}, each before an aperture of "
            f"{config.optics.aperture_diameter_m * 1e3:.3g} mm; a chip that compares them pair by pair and releases "
            f"{summary.winners.bits:.1f} bits a frame, the places of {len(summary.winners.channels)} winners; and a "
            f"network that reads {points} from them."
        )
    sensor = config.sensor
    return (
        f"A {config.mask.kind} relief in {config.mask.material} for a {config.optics.aperture_diameter_m * 1e3:.3g} mm "
        f"aperture, a {'colour' if sensor.colour else 'monochrome'} sensor of {sensor.pixels} x {sensor.pixels} pixels "
        f"with {sensor.electrons_at_white:.4g} electrons at white, and a network that reads heatmaps of {points}."
    )


def _held(config: TrainMaskConfig) -> str:
    return "the places that leave the chip" if config.design == "winners" else "the frames as they leave the sensor"


def write_report_arrays(
    config: TrainMaskConfig, run: RunStore, splits: Splits, best_baseline: str | None, best_start: int
) -> list[str]:
    """Leave the arrays of the report in the run folder (``report.safetensors``).

    Returns:
        Names of the columns of ``history``.
    """
    if config.design == "winners":
        return pairs.report_arrays(config, run, splits, best_baseline)
    state = run.read_tensors(MASK)
    camera = build(ours(config), config, state)
    geometry, test = geometry_of(config.optics), splits["test"]
    rows = report_rows(test)
    scenes = test.faces.subset(rows).linear()
    arrays: dict[str, Tensor] = {
        "mask_height_m": relief_m(camera),
        "pupil_diameter_m": _number(config.optics.aperture_diameter_m),
        "psf": camera.psf.detach(),
        "psf_pitch_m": _number(geometry.cell_m),
        "wavelengths_m": _number(config.optics.wavelengths_m),
        "scenes": channels_at_end(scenes),
        "landmarks_true": released(test.faces.landmarks[rows], config.landmarks),
    }
    shown = ["ours", "clean", *([best_baseline] if best_baseline else [])]
    for name in shown:
        spec = CameraSpec.from_json((run.stage_done(f"camera-{name}") or {})["spec"])
        view = build(spec, config, state)
        generator = torch.Generator().manual_seed(derived_seed(config.seed, "report", name))
        with torch.no_grad():
            frames = view.read(view.signal(scenes), generator)
        arrays[f"frames_{name}"] = channels_at_end(displayed(spec.exposure, frames))
        if name == "ours":
            decoder = new_decoder(view, config.decoder, config.landmarks)
            decoder.load_state_dict(run.read_tensors("proof/ours/decoder.safetensors"))
            arrays |= decoded(decoder, frames)
    for key, attacker in restorers().items():
        if attacker not in config.proof.attackers:
            continue
        pictures = run.read_tensors(f"proof/ours/{attacker}.safetensors").get("pictures")
        if pictures is not None:
            arrays[f"reconstructions_{key}"] = channels_at_end(pictures.clamp(0, 1))
    names, history = _history(run, best_start)
    if history is not None:
        arrays["history"] = history
    run.write_tensors("report.safetensors", {name: value.contiguous() for name, value in arrays.items()})
    return names


def decoded(decoder: Decoder, frames: Tensor) -> dict[str, Tensor]:
    """What a decoder makes of frames, as arrays of the report: landmarks, and all heatmaps in one picture."""
    with torch.no_grad():
        logits = decoder(frames)
    share = functional.softmax(logits.flatten(2), dim=2).view_as(logits)
    heatmaps = (share / share.amax(dim=(2, 3), keepdim=True)).amax(dim=1)
    return {"landmarks_pred": decoder.landmarks(frames)[0], "heatmaps": heatmaps}


def channels_at_end(images: Tensor) -> Tensor:
    """Pictures (N, h, w, C) of images (N, C, h, w), as the report takes them."""
    return images.permute(0, 2, 3, 1)


def _number(values: float | Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Numbers of the report as a float64 array; the report is written on the CPU."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _history(run: RunStore, start: int) -> tuple[list[str], Tensor | None]:
    """Logged values of the design: one row for each line of the best start."""
    lines = [line for line in run.read_metrics() if line.get("stage") == "design" and line.get("start", 0) == start]
    names = list(dict.fromkeys(key for line in lines for key in line if key not in ("stage", "start")))
    if not lines or not names:
        return [], None
    rows = [[math.nan if line.get(name) is None else float(line[name]) for name in names] for line in lines]
    return names, _number(rows)
