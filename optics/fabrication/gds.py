"""Lithography masks of a stepped relief: GDSII, by gdstk.

Layout. One cell ``RELIEF``; user unit 1 µm, data base unit ``dbu_m``. x right, y up (rows of the map run towards -y),
the aperture centred on the origin, seen looking at the relief. The square grid is written whole, corners included.

- ``levels``: layer k, datatype 0 holds the cells at level k (height ``k * step_m``), k = 0 to levels - 1.
- ``binary``: layer b, datatype 1 holds the cells whose level has bit b set; n masks make 2^n levels, mask b adding
  ``2^b * step_m`` (G. J. Swanson, Binary Optics Technology, MIT Lincoln Laboratory TR-854 (1989)).
- Layer 255 holds labels whose texts, joined in the order of their texttype, are the JSON of ``Relief.metadata`` with
  ``samples``, ``layers`` and ``dtype``.

Cells of one layer are merged into polygons. Edges fall on multiples of the data base unit, at most half a unit beside
their true place. Import fills the polygons by the rule of non-zero winding on the cell grid and returns exactly the
levels that were written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from optics.errors import OpticsError
from optics.fabrication.files import optional
from optics.fabrication.relief import Relief

_UNIT_M = 1e-6
_TEXT_LAYER = 255
# The format allows 512 characters in a text.
_CHUNK = 500


@dataclass(frozen=True)
class Gds:
    """GDSII layers of a stepped relief; needs gdstk.

    Attributes:
        layers: One layer per level, or binary-weighted masks.
        dbu_m: Data base unit in metres.
    """

    layers: Literal["levels", "binary"] = "levels"
    dbu_m: float = 1e-9
    suffix: ClassVar[str] = ".gds"

    def write(self, relief: Relief, path: Path) -> None:
        """Write the file; see the module for its layout.

        Raises:
            OpticsError: The relief is continuous, has levels that binary masks cannot make, or cells too small for
                the data base unit.
        """
        gdstk = optional("gdstk")
        codes = relief.codes().cpu().numpy()
        levels = relief.levels or 0
        if not 0 < self.dbu_m <= relief.pitch_m / 4:
            raise OpticsError(
                f"dbu_m={self.dbu_m:g} must be positive and at most a quarter of pitch_m={relief.pitch_m:g}."
            )
        if levels > 250 or len(codes) * relief.pitch_m / self.dbu_m >= 2**31:
            raise OpticsError(f"{levels} levels on {len(codes)} cells exceed GDSII; use fewer levels or larger dbu_m.")
        if self.layers == "binary" and levels & (levels - 1):
            raise OpticsError(f"levels={levels} is no power of two, which binary masks need; use layers='levels'.")
        planes = (
            {b: (codes >> b) & 1 == 1 for b in range(levels.bit_length() - 1)}
            if self.layers == "binary"
            else {k: codes == k for k in range(levels)}
        )
        edges = np.rint((np.arange(len(codes) + 1) - len(codes) / 2) * (relief.pitch_m / self.dbu_m))
        edges *= self.dbu_m / _UNIT_M
        library = gdstk.Library("RELIEF", unit=_UNIT_M, precision=self.dbu_m)
        cell = library.new_cell("RELIEF")
        datatype = int(self.layers == "binary")
        for layer, plane in planes.items():
            boxes = [
                gdstk.rectangle((edges[left], -edges[bottom]), (edges[right], -edges[top]))
                for top, bottom, left, right in _rectangles(plane)
            ]
            if boxes:
                cell.add(*gdstk.boolean(boxes, [], "or", self.dbu_m / _UNIT_M / 2, layer=layer, datatype=datatype))
        text = json.dumps(
            relief.metadata()
            | {"samples": len(codes), "layers": self.layers, "dtype": str(relief.height_m.dtype).removeprefix("torch.")}
        )
        for number, start in enumerate(range(0, len(text), _CHUNK)):
            cell.add(gdstk.Label(text[start : start + _CHUNK], (0, 0), layer=_TEXT_LAYER, texttype=number))
        # A fixed time: the same relief gives the same bytes.
        library.write_gds(path, timestamp=datetime(2000, 1, 1))

    @staticmethod
    def read(path: Path) -> Relief:
        """Read the file back, heights in the type they had.

        Raises:
            OpticsError: It is no such file, or its layers overlap or leave gaps.
        """
        gdstk = optional("gdstk")
        try:
            cell = gdstk.read_gds(path).top_level()[0]
            labels = sorted((label for label in cell.labels if label.layer == _TEXT_LAYER), key=lambda t: t.texttype)
            metadata: Any = json.loads("".join(label.text for label in labels))
            samples, pitch = int(metadata["samples"]), metadata["pitch_m"] / _UNIT_M
            levels, binary = int(metadata["levels"]), metadata["layers"] == "binary"
            dtype = {"float32": torch.float32, "float64": torch.float64}[metadata["dtype"]]
        except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
            raise OpticsError(f"path={str(path)!r} is no GDSII file that export_relief wrote ({error}).") from error
        layers = range(levels.bit_length() - 1) if binary else range(levels)
        planes = np.stack([_fill(_points(cell, layer), samples, pitch) for layer in layers])
        if not binary and (planes.sum(axis=0) != 1).any():
            raise OpticsError(f"path={str(path)!r}: its layers overlap or leave gaps, so a cell has no single level.")
        weights = 2 ** np.arange(len(planes)) if binary else np.arange(len(planes))
        codes = np.tensordot(weights, planes, 1).astype(np.int64)
        return Relief.from_metadata((torch.from_numpy(codes).double() * metadata["step_m"]).to(dtype), metadata)


def _points(cell: Any, layer: int) -> list[np.ndarray]:
    return [polygon.points for polygon in cell.polygons if polygon.layer == layer]


def _rectangles(plane: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Cover a set of cells by rectangles (top, bottom, left, right): runs of a row, continued downwards while equal."""
    steps = np.diff(np.pad(plane.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, left = np.nonzero(steps == 1)
    _, right = np.nonzero(steps == -1)
    # Sorted by run, then row: a run that is one row below its twin continues it.
    order = np.lexsort((rows, right, left))
    rows, left, right = rows[order], left[order], right[order]
    new = np.ones(len(rows), bool)
    new[1:] = (np.diff(rows) != 1) | (np.diff(left) != 0) | (np.diff(right) != 0)
    last = np.append(new[1:], True)[: len(rows)]
    boxes: list[tuple[int, int, int, int]] = np.stack([rows[new], rows[last] + 1, left[new], right[new]], 1).tolist()
    return boxes


def _fill(polygons: list[np.ndarray], samples: int, pitch: float) -> np.ndarray:
    """Cells inside rectilinear polygons: the winding number, summed from the upright edges to the left of a cell.

    An edge at column c over rows r0 to r1 adds its direction to all cells right of it, which is a step in both axes of
    the second difference of the winding number.
    """
    steps = np.zeros((samples + 1, samples + 1), np.int64)
    for points in polygons:
        start = np.rint(points * [1, -1] / pitch + samples / 2).astype(np.int64)
        end = np.roll(start, -1, axis=0)
        upright = start[:, 1] != end[:, 1]
        if (start[upright, 0] != end[upright, 0]).any() or start.min() < 0 or start.max() > samples:
            raise OpticsError("the GDSII file holds polygons off the cell grid; only files of export_relief are read.")
        np.add.at(steps, (start[upright, 1], start[upright, 0]), 1)
        np.add.at(steps, (end[upright, 1], end[upright, 0]), -1)
    return (steps.cumsum(axis=0).cumsum(axis=1) != 0)[:samples, :samples]
