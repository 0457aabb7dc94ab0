"""Files of a finished camera of pairs for the workshop that makes its reliefs, each read back and compared."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.files import MASK, load_tensors
from codesign.winners.masks import masks_of
from optics import PhaseMask, PupilToPsf
from optics.elements import MeasuredHeight
from optics.fabrication import Gds, ProcessLimits, Relief, ReliefFormat, export_relief, round_trip
from sim.camera import Geometry

#: Most by which a file may change a point-spread function, over its maximum.
LARGEST_CHANGE = 1e-3


@dataclass(frozen=True)
class TileFile:
    """The file of one tile.

    Attributes:
        tile: Number of the tile.
        path: The file.
        peak_change: Largest change of the point-spread function that writing and reading make, over its maximum.
        height_error_m: Largest change of height inside the aperture that they make.
        stepped_change: Sum of the absolute changes of the point-spread function that rounding to levels made before,
            over its sum, for the worst wavelength; 0 for a continuous relief.
    """

    tile: int
    path: Path
    peak_change: float
    height_error_m: float
    stepped_change: float


def export_tiles(
    run_dir: Path,
    folder: Path,
    file_format: ReliefFormat,
    limits: ProcessLimits | None = None,
    *,
    levels: int | None = None,
    tiles: Sequence[int] | None = None,
) -> tuple[TileFile, ...]:
    """Write one file for each tile; ``tiles.json`` of the run says where each stands.

    Args:
        run_dir: Folder of a run of ``optishield train-mask`` that has designed a camera of pairs.
        folder: Where the files go; made if it is missing.
        file_format: ``Tiff``, ``Png``, ``Zygo``, ``Stl``, or ``Gds``, which takes stepped reliefs alone.
        limits: Limits of the process; None for none.
        levels: Heights that a stepped process makes, from 0 to the highest of the tile; None leaves the relief
            continuous.
        tiles: Numbers of the tiles; None means all.

    Raises:
        CodesignError: The run has no camera of pairs or no such tile, or a file does not keep the point-spread
            function.
        OpticsError: The process cannot make a relief, the format cannot hold it, or a file exists.
    """
    path = run_dir / "config.toml"
    if not path.is_file():
        raise CodesignError(f"{run_dir} is no run folder (it has no config.toml); name one of train-mask.")
    config = TrainMaskConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    if config.design != "winners":
        raise CodesignError(f"{run_dir} designed one mask and no tiles; its height map is mask_height_m.npy.")
    if isinstance(file_format, Gds) and levels is None:
        raise CodesignError("GDSII takes stepped reliefs; say into how many levels with levels.")
    geometry = geometry_of(config.optics)
    masks = masks_of(config, geometry, load_tensors(run_dir / MASK))
    chosen = range(len(masks)) if tiles is None else tiles
    for tile in chosen:
        if not 0 <= tile < len(masks):
            raise CodesignError(f"there is no tile {tile}; the run has the tiles 0 to {len(masks) - 1}.")
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for tile in chosen:
        whole = Relief.from_mask(masks[tile], config.optics.wavelengths_m)
        relief = whole if levels is None else stepped(whole, levels)
        trip = round_trip(
            relief, file_format, geometry.lens, geometry.cell_m, geometry.psf_cells,
            object_distance_m=geometry.object_distance_m,
        )  # fmt: skip
        if trip.peak_change > LARGEST_CHANGE:
            raise CodesignError(
                f"read back, the file of tile {tile} changes its point-spread function by {trip.peak_change:.1e} of "
                f"its maximum, more than {LARGEST_CHANGE:g}; choose a format with finer heights."
            )
        file = folder / f"tile-{tile:02d}{file_format.suffix}"
        export_relief(relief, file, file_format, limits or ProcessLimits())
        change = 0.0 if levels is None else _change(geometry, whole, relief)
        found.append(TileFile(tile, file, trip.peak_change, trip.height_error_m, change))
    return tuple(found)


def stepped(relief: Relief, levels: int) -> Relief:
    """A relief rounded to equal steps from 0 to its highest place.

    Args:
        relief: Continuous, nowhere below 0.
        levels: Number of heights, 0 included.

    Raises:
        CodesignError: Fewer than two levels.
    """
    if levels < 2:
        raise CodesignError(f"levels={levels} makes no relief; at least 2 are needed.")
    step_m = float(relief.height_m.max()) / (levels - 1)
    height = (relief.height_m.double() / step_m).round() * step_m
    return Relief(height, relief.pitch_m, relief.material, relief.wavelengths_m, levels, step_m)


def _change(geometry: Geometry, whole: Relief, relief: Relief) -> float:
    """Sum of the absolute changes of the point-spread function over its sum, for the worst wavelength."""
    to_psf = PupilToPsf(geometry.grid, geometry.lens, geometry.wavelengths_m, geometry.cell_m, geometry.psf_cells)
    with torch.no_grad():
        before, after = (to_psf(_mask(geometry, one), geometry.object_distance_m) for one in (whole, relief))
    return float(((after - before).abs().sum((1, 2)) / before.sum((1, 2))).max())


def _mask(geometry: Geometry, relief: Relief) -> PhaseMask:
    return MeasuredHeight(geometry.grid, relief.height_m, material=relief.material)
