"""What a finished run of the camera of pairs hands on: reliefs of all tiles, read-out, decoder, card, report arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codesign.cameras import CameraSpec, build, displayed, geometry_of
from codesign.config import TrainMaskConfig
from codesign.data import Splits
from codesign.files import MASK
from codesign.proof import report_rows
from codesign.records import TrainMaskSummary
from codesign.winners.camera import build_winners
from codesign.winners.decoder import PlaceDecoder
from codesign.winners.facts import heights_m, layout
from codesign.winners.stage import chip_of
from faces.landmarks import points_in, released
from faces.samples import FaceSet
from ground.pool import derived_seed
from ground.protocols import RunStore
from sim.winners import WinnerCamera

#: Spread in scene pixels of the bumps that show released landmarks.
BUMP_PX = 1.5


def write_files(config: TrainMaskConfig, run: RunStore, summary: TrainMaskSummary) -> None:
    """Files: ``tiles_height_m.npy`` (T, P, P), ``tiles.json``, ``psf.npy`` (T, L, K, K), decoder with its description.

    The state of the whole camera is ``mask.safetensors``; :func:`codesign.winners.workshop.export_tiles` writes single
    tiles for a workshop.
    """
    state = run.read_tensors(MASK)
    heights, geometry = heights_m(config, state), geometry_of(config.optics)
    camera = build_winners(config, state, chip=chip_of(config))
    run.write_bytes("tiles_height_m.npy", _npy(heights))
    run.write_bytes("psf.npy", _npy(camera.tiles.psfs()))
    run.write_json(
        "tiles.json",
        {
            **layout(config, len(heights)),
            "height_maps": {"file": "tiles_height_m.npy", "unit": "m", "axes": "[tile, y, x], x right, y down"},
            "pitch_m": config.optics.aperture_diameter_m / config.optics.pupil_samples,
            "material": config.mask.material,
            "pairs": "tiles 2 j and 2 j + 1 are the positive and the negative one of pair j",
            "channel_of_pair": state["channel_of"].tolist(),
            "windows_px": state["windows"].tolist(),
            "psf": {"file": "psf.npy", "pitch_m": geometry.cell_m, "wavelengths_m": config.optics.wavelengths_m},
        },
    )
    run.write_tensors("decoder.safetensors", run.read_tensors("proof/ours/decoder.safetensors"))
    run.write_json(
        "decoder.json",
        {
            "architecture": "codesign.winners.decoder.PlaceDecoder",
            "input": "places of winners in pixels (x, y), the anchor first",
            "points": points_in(config.landmarks),
            "output": "landmarks in pixels of the scene",
            "scene_size": config.optics.scene_px,
            "nme": summary.nme,
        },
    )


def _npy(values: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values.detach().cpu().numpy())
    return buffer.getvalue()


def decoder_of(config: TrainMaskConfig, camera: WinnerCamera, state: dict[str, Tensor]) -> PlaceDecoder:
    """The decoder of a stored state."""
    decoder = PlaceDecoder(
        camera.readout.windows, points_in(config.landmarks), config.winners.pixels, config.optics.scene_px
    )
    decoder.load_state_dict(state)
    return decoder.eval()


def report_arrays(config: TrainMaskConfig, run: RunStore, splits: Splits, best_baseline: str | None) -> list[str]:
    """Leave the arrays of the report in the run folder (``report.safetensors``); returns no names of a history."""
    state = run.read_tensors(MASK)
    camera = build_winners(config, state, chip=chip_of(config))
    decoder = decoder_of(config, camera, run.read_tensors("proof/ours/decoder.safetensors"))
    test = splits["test"]
    shown = test.faces.subset(report_rows(test))
    arrays = optics_arrays(config, camera, state) | shown_arrays(config, camera, decoder, shown, config.seed)
    for name in ["clean", *([best_baseline] if best_baseline else [])]:
        spec = CameraSpec.from_json((run.stage_done(f"camera-{name}") or {})["spec"])
        view = build(spec, config)
        generator = torch.Generator().manual_seed(derived_seed(config.seed, "report", name))
        with torch.no_grad():
            frames = view.read(view.signal(shown.linear()), generator)
        arrays[f"frames_{name}"] = _at_end(displayed(spec.exposure, frames))
    run.write_tensors("report.safetensors", {name: value.contiguous() for name, value in arrays.items()})
    return []


@torch.no_grad()
def optics_arrays(config: TrainMaskConfig, camera: WinnerCamera, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Arrays of the report about the optics, which show nobody."""
    return {
        "pairs_height_m": heights_m(config, state),
        "pairs_psf": camera.tiles.psfs(),
        "pairs_channel": state["channel_of"],
        "pairs_windows": state["windows"],
        **{f"pairs_bias_{number}": bias.detach() for number, bias in enumerate(camera.readout.bias)},
        "filter_weights": _number(config.winners.filter_weights),
        "psf_pitch_m": _number(geometry_of(config.optics).cell_m),
        "pupil_diameter_m": _number(config.optics.aperture_diameter_m),
        "wavelengths_m": _number(config.optics.wavelengths_m),
    }


@torch.no_grad()
def shown_arrays(
    config: TrainMaskConfig, camera: WinnerCamera, decoder: PlaceDecoder, faces: FaceSet, seed: int
) -> dict[str, Tensor]:
    """Arrays of the report about some people: what the camera sees of them on its way from the light to landmarks.

    Args:
        config: Configuration of the run.
        camera: The camera.
        decoder: Its decoder.
        faces: The people.
        seed: Seed of the exposure.
    """
    scenes = faces.linear()
    generator = torch.Generator().manual_seed(derived_seed(seed, "report", "ours") % 2**63)
    light = camera.tiles(scenes)
    ratios = camera.log_ratios(light, generator)
    places = camera.readout(ratios, camera.pixels, generator).places
    points = decoder(places)
    return {
        "scenes": _at_end(scenes),
        "landmarks_true": released(faces.landmarks, config.landmarks),
        "landmarks_pred": points,
        "heatmaps": heatmaps(points, config.optics.scene_px),
        "frames_ours": _at_end(lit_places(places, config.winners.pixels)),
        "pairs_light": light[0],
        "pairs_ratio": ratios[0],
        "pairs_drive": camera.readout.sums(ratios),
        "places": places,
    }


def lit_places(places: Tensor, pixels: int) -> Tensor:
    """Pictures (N, 1, n, n) that are dark but for the places (N, C, 2): all that leaves the chip."""
    frames = torch.zeros(len(places), 1, pixels, pixels, device=places.device)
    x, y = places.clamp(0, pixels - 1).unbind(-1)
    row = torch.arange(len(places), device=places.device)[:, None]
    frames[row, 0, y, x] = 1.0
    return frames


def heatmaps(points: Tensor, side: int) -> Tensor:
    """Bumps (N, S, S) at points (N, K, 2) of the scene, the tallest at each place."""
    across = torch.arange(side, device=points.device)
    x = torch.exp(-((across - points[..., 0, None]) ** 2) / (2 * BUMP_PX**2))
    y = torch.exp(-((across - points[..., 1, None]) ** 2) / (2 * BUMP_PX**2))
    return (y[..., :, None] * x[..., None, :]).amax(1)


def _number(values: float | Sequence[float]) -> Tensor:
    """Numbers of the report as a float64 array; the report is written on the CPU."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _at_end(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1)
