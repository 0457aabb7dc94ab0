"""What a summary says of the camera of pairs beside the attackers: physics, residuals, bits, and landmarks by light."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.files import MASK
from codesign.records import CameraFacts, ChannelFacts, Noise, WinnersFacts
from codesign.winners.camera import array_of, build_winners
from codesign.winners.kernels import names_of_channels
from codesign.winners.masks import masks_of
from codesign.winners.stage import chip_of
from faces.samples import FaceSet
from ground.protocols import RunStore
from sim.camera import METER_SD, METERED_GREY

CHUNK = 256


def physics(config: TrainMaskConfig, run: RunStore) -> dict[str, Any]:
    """The fields ``throughput``, ``noise``, ``camera`` and ``winners`` of the summary."""
    settings, optics = config.winners, config.optics
    geometry, state = geometry_of(optics), run.read_tensors(MASK)
    camera = build_winners(config, state, chip=chip_of(config))
    reliefs = [run.stage_done(f"winners-tile-{tile}") or {} for tile in range(len(state["controls"]))]
    tallest = max(relief["height_m"] for relief in reliefs)
    white = settings.electrons_at_white

    def relative(level: float) -> float:
        electrons = level * white
        return math.sqrt(electrons + settings.dark_e + settings.read_noise_e**2) / electrons

    held_out = [run.stage_done(f"winners-{name}-held-out") or {} for name in ("anchor", "followers")]
    errors = [error for stage in held_out for error in stage["error"]]
    channel_of = camera.readout.channel_of.tolist()
    residuals = [float(relief["residual"]) for relief in reliefs]
    channels = tuple(
        ChannelFacts(name=name, pairs=channel_of.count(number), places=window.places, kernel_error=errors[number])
        for number, (name, window) in enumerate(zip(names_of_channels(settings), camera.readout.windows, strict=True))
    )
    presence = run.stage_done("winners-presence") or {}
    return {
        "throughput": float(camera.tiles.psfs().sum((-2, -1)).mean()),
        "noise": Noise(
            electrons_at_white=white,
            full_well_e=None,
            read_noise_e=settings.read_noise_e,
            bits=None,
            relative_noise_at_white=relative(1.0),
            relative_noise_at_mid_grey=relative(METERED_GREY),
        ),
        "camera": CameraFacts(
            focal_length_m=optics.focal_length_m,
            aperture_diameter_m=optics.aperture_diameter_m,
            object_distance_m=optics.object_distance_m,
            focus_distance_m=optics.focus_distance_m,
            frame_width_m=optics.frame_width_m,
            pixels=settings.pixels,
            colour=False,
            pixel_pitch_m=geometry.cell_m * optics.scene_px / settings.pixels,
            mask_material=config.mask.material,
            mask_relief_m=tallest,
        ),
        "winners": WinnersFacts(
            tiles=len(residuals),
            bits=camera.readout.bits,
            array_width_m=settings.tile_columns * settings.tile_pitch_m,
            residual_mean=sum(residuals) / len(residuals),
            residual_worst=max(residuals),
            missed=presence.get("missed"),
            false_alarms=presence.get("false_alarms"),
            channels=channels,
        ),
    }


def heights_m(config: TrainMaskConfig, state: dict[str, Tensor]) -> Tensor:
    """Height maps (T, P, P) of all tiles in metres."""
    with torch.no_grad():
        return torch.stack([mask.height_m() for mask in masks_of(config, geometry_of(config.optics), state)])


def light_at_centre(config: TrainMaskConfig, faces: FaceSet) -> Tensor:
    """Light (N,) that faces send to the middle of the window, weighted as by a meter."""
    across = (torch.arange(config.optics.scene_px) + 0.5) / config.optics.scene_px - 0.5
    bell = torch.exp(-across.square() / (2 * METER_SD**2))
    shares = torch.tensor(config.winners.filter_weights, device=bell.device)[:, None, None] * bell[:, None] * bell
    parts = torch.arange(len(faces)).split(CHUNK)
    return torch.cat([(faces.subset(part).linear() * shares).sum((1, 2, 3)) for part in parts])


def layout(config: TrainMaskConfig, tiles: int) -> dict[str, Any]:
    """Where the tiles stand, for the workshop."""
    centres = array_of(config.winners).centres_m(tiles)
    return {"centres_m": centres.tolist(), "aperture_diameter_m": config.optics.aperture_diameter_m}
