"""What is left of landmarks and of protection when a camera of pairs is not as it was designed.

Read-out, decoder and attacker are those of the designed camera. People of the test and those of the calibration, whose
mean is taken off all embeddings, are both seen by the deviating camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign.attackers import PLACES
from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.data import Part, Splits, restore
from codesign.files import MASK, load_tensors
from codesign.proof import pooled_scores, scores
from codesign.records import Difference, ToleranceRow
from codesign.winners.camera import array_of, pixels_of, readout_of
from codesign.winners.deviations import (
    DEVIATIONS,
    SHIFT_PX,
    SURFACE_LENGTH_M,
    SURFACE_RMS_M,
    Deviation,
    OpticsChange,
    at_distance,
    file_of,
    groups,
    seen_from,
    under,
)
from codesign.winners.export import decoder_of
from codesign.winners.masks import masks_of
from codesign.winners.stage import CHUNK, chip_of
from evaluation import korn_graubard, paired_difference, rank_trials
from evaluation.measures.metrics import Floats
from faces.landmarks import nme, released
from faces.samples import interocular
from ground.pool import derived_seed
from ground.protocols import RunStore
from optics import PupilToPsf
from optics.tolerance import SurfaceTolerance, ToleranceCamera
from sim.winners import FixedTiles, WinnerCamera

#: Parts that a deviating camera sees.
SEEN = ("calibration", "test")


@torch.no_grad()
def tiles_of(config: TrainMaskConfig, state: Mapping[str, Tensor], change: OpticsChange) -> FixedTiles:
    """The tiles of a design, not quite as designed.

    Args:
        config: Configuration of the run; random errors come from its seed.
        state: The stored design.
        change: What is different.
    """
    settings, nominal = config.winners, geometry_of(config.optics)
    geometry, generator = at_distance(nominal, change.distance), _generator(config, "errors")
    to_psf = PupilToPsf(geometry.grid, geometry.lens, geometry.wavelengths_m, geometry.cell_m, geometry.psf_cells)
    surface = SurfaceTolerance(geometry.grid, SURFACE_RMS_M, SURFACE_LENGTH_M)
    psfs = []
    for mask in masks_of(config, nominal, state):
        errors = {"etch_scale": torch.tensor([change.depth], device="cpu")} if change.depth else {}
        if change.rough:
            errors["figure_m"] = surface.sample(generator)[None]
        psfs.append(ToleranceCamera(mask, to_psf, geometry.object_distance_m)(errors)[0])
    array = array_of(settings)
    if change.shifted:
        pixel_m = geometry.cell_m * geometry.scene_px / settings.pixels
        moves = (2 * torch.rand(len(psfs), 2, generator=generator) - 1) * SHIFT_PX * pixel_m
        array = replace(array, errors_m=tuple((float(x), float(y)) for x, y in moves))
    return FixedTiles(torch.stack(psfs), geometry, settings.pixels, settings.filter_weights, array)


def _generator(config: TrainMaskConfig, *names: str) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(config.seed, "tolerances", *names) % 2**63)


def deviating(
    config: TrainMaskConfig, state: Mapping[str, Tensor], tiles: FixedTiles, deviation: Deviation
) -> WinnerCamera:
    """The camera of a deviation behind its tiles."""
    pixels, chip = pixels_of(config.winners), chip_of(config)
    pixels = replace(pixels, electrons_at_white=pixels.electrons_at_white * deviation.light)
    if deviation.other_chip:
        chip = derived_seed(config.seed, "chip", "another") % 2**31
    return WinnerCamera(tiles, pixels, readout_of(state), chip=chip).eval()


@torch.no_grad()
def off_design(folder: Path, config: TrainMaskConfig, group: int) -> dict[str, Tensor]:
    """Job: what leaves the chip of all cameras with one kind of light.

    Args:
        folder: Run folder with the design, the people and our decoder.
        config: Configuration of the run.
        group: Number of the change in :func:`codesign.winners.deviations.groups`.

    Returns:
        Under the name that :func:`codesign.winners.deviations.under` gives, places (N, C, 2) of each part of
        :data:`SEEN`; and as the part "error" the landmark error (N,) of each capture of the test.
    """
    change, state = groups()[group], load_tensors(folder / MASK)
    tiles = tiles_of(config, state, change)
    cameras = {row.name: deviating(config, state, tiles, row) for row in DEVIATIONS if row.optics == change}
    some = next(iter(cameras.values()))
    decoder = decoder_of(config, some, load_tensors(folder / "proof" / "ours" / "decoder.safetensors"))
    found: dict[str, Tensor] = {}
    for name in SEEN:
        places, landmarks = _places(cameras, restore(folder, name), change, config, name)
        found |= {under(name, row): rows for row, rows in places.items()}
        if name == "test":
            true, unit = released(landmarks, config.landmarks), interocular(landmarks)
            found |= {under("error", row): nme(decoder(rows), true, unit) for row, rows in places.items()}
    return found


def _places(
    cameras: Mapping[str, WinnerCamera], part: Part, change: OpticsChange, config: TrainMaskConfig, name: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Places (N, C, 2) by deviation, and landmarks (N, 68, 2) as seen; all deviations draw the same noise."""
    noise = {row: _generator(config, "noise", name) for row in cameras}
    places: dict[str, list[Tensor]] = {row: [] for row in cameras}
    landmarks = []
    tiles = next(iter(cameras.values())).tiles
    for pick in torch.arange(len(part.faces)).split(CHUNK):
        faces = part.faces.subset(pick)
        scenes, points = seen_from(faces.linear(), faces.landmarks, change.distance)
        landmarks.append(points)
        light = tiles(scenes)
        for row, camera in cameras.items():
            places[row].append(camera.winners(light, noise[row]).places)
    return {row: torch.cat(parts) for row, parts in places.items()}, torch.cat(landmarks)


def tolerance_rows(config: TrainMaskConfig, run: RunStore, splits: Splits) -> tuple[ToleranceRow, ...]:
    """The rows of the summary.

    Args:
        config: Configuration of the run.
        run: The run folder with all deviating cameras and attackers done.
        splits: The people.
    """
    errors: dict[str, Tensor] = {}
    for group in range(len(groups())):
        errors |= run.read_tensors(f"proof/ours/{file_of(group)}")
    attacked = PLACES in config.proof.attackers
    embeddings = run.read_tensors(f"proof/ours/{PLACES}.safetensors") if attacked else {}
    parts = {name: splits[name] for name in SEEN}
    identity = splits["test"].faces.identity
    designed = _of_people(errors[under("error", DEVIATIONS[0].name)], identity)
    rows = []
    for deviation in DEVIATIONS:
        own, change, recognised = _of_people(errors[under("error", deviation.name)], identity), None, {}
        if deviation is not DEVIATIONS[0]:
            found = paired_difference(own, designed)
            change = Difference(value=found.difference.value, ci95=found.difference.ci, p=found.p_value)
        if attacked:
            recognised = _recognised({name: embeddings[under(name, deviation.name)] for name in SEEN}, parts)
        rows.append(
            ToleranceRow(
                name=deviation.name, changed=deviation.changed, nme=float(own.mean()), nme_change=change, **recognised
            )
        )
    return tuple(rows)


def _recognised(embeddings: Mapping[str, Tensor], parts: Mapping[str, Part]) -> dict[str, Any]:
    """Fields of a row that say what the attacker recognises."""
    rank1 = korn_graubard(*rank_trials(scores(embeddings, parts)[1], 1))
    pooled = korn_graubard(*rank_trials(pooled_scores(embeddings, parts), 1))
    return {"rank1": rank1.value, "rank1_ci95": rank1.ci, "pooled_rank1": pooled.value}


def _of_people(errors: Tensor, identity: Tensor) -> Floats:
    """Mean error of each person."""
    return torch.stack([errors[identity == person].double().mean() for person in torch.unique(identity)]).numpy()
