"""A solid for printers and machine tools: binary STL.

Layout. 80 bytes of header (``Relief.brief`` with the unit in front), uint32 number of triangles, then per triangle the
normal and three corners as float32 and two zero bytes, little-endian (3D Systems, StereoLithography Interface
Specification, 1989). Lengths in millimetres, as slicers expect. x right, y **up** (STL is right-handed, so the rows of
the map run towards -y), z out of the relief towards the viewer; centred on the aperture, z = 0 at height 0.

Corners lie on the cell centres, and on the border of the grid with the height of the nearest centre. Walls go down to a
flat base at ``-base_m``. The solid is closed: each edge belongs to two triangles that run through it in opposite
directions. Import takes the heights at the cell centres, so it returns what was written to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from optics.errors import OpticsError
from optics.fabrication.relief import Relief

_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_UNIT = "mm "


@dataclass(frozen=True)
class Stl:
    """Closed solid in millimetres.

    Attributes:
        base_m: Thickness of the plate below height 0 in metres.
    """

    base_m: float = 1e-3
    suffix: ClassVar[str] = ".stl"

    def __post_init__(self) -> None:
        if not (isfinite(self.base_m) and self.base_m > 0):
            raise OpticsError(f"base_m={self.base_m} must be a positive thickness in metres.")

    def write(self, relief: Relief, path: Path) -> None:
        """Write the file; see the module for its layout.

        Raises:
            OpticsError: A pit reaches through the base, or the description does not fit into the header.
        """
        height = relief.height_m.detach().double().cpu().numpy()
        if height.min() <= -self.base_m:
            raise OpticsError(f"height_m goes down to {height.min():g} m, through base_m={self.base_m:g}; raise it.")
        corners = _solid(height, relief.grid.coordinate_m.numpy(), relief.pitch_m, self.base_m) * 1e3
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        records = np.zeros(len(corners), _RECORD)
        records["normal"] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        records["corners"] = corners
        header = (_UNIT + relief.brief(80 - len(_UNIT))).encode("ascii").ljust(80, b"\0")
        path.write_bytes(header + np.uint32(len(records)).astype("<u4").tobytes() + records.tobytes())

    @staticmethod
    def read(path: Path) -> Relief:
        """Read the file back as float32 metres, from the highest corner at each (x, y)."""
        data = path.read_bytes()
        header = data[:80].decode("ascii", "replace")
        if len(data) < 84 or not header.startswith(_UNIT):
            raise OpticsError(f"path={str(path)!r} is no STL file that export_relief wrote.")
        count = int.from_bytes(data[80:84], "little")
        if len(data) != 84 + count * _RECORD.itemsize:
            raise OpticsError(f"path={str(path)!r} holds {len(data)} bytes, not those of {count} triangles.")
        corners = np.frombuffer(data, _RECORD, count, 84)["corners"].reshape(-1, 3)
        x, column = np.unique(corners[:, 0], return_inverse=True)
        y, row = np.unique(-corners[:, 1], return_inverse=True)
        if len(x) != len(y) or len(x) < 3:
            raise OpticsError(
                f"path={str(path)!r} has corners on {len(y)} rows and {len(x)} columns; it must be square."
            )
        top = np.full((len(y), len(x)), -np.inf, np.float32)
        np.maximum.at(top, (row, column), corners[:, 2])
        pitch = float(x[-1] - x[0]) * 1e-3 / (len(x) - 2)
        height = torch.from_numpy(top[1:-1, 1:-1].astype(np.float64) * 1e-3).float()
        return Relief.from_brief(height, pitch, header.removeprefix(_UNIT))


def _solid(height: np.ndarray, centre: np.ndarray, pitch_m: float, base_m: float) -> np.ndarray:
    """Return the triangles of the solid, counter-clockwise from outside, float64 of shape (n, 3, 3) in metres."""
    edge = len(height) * pitch_m / 2
    axis = np.concatenate([[-edge], centre, [edge]])
    x, y = np.meshgrid(axis, -axis)
    top = np.stack([x, y, np.pad(height, 1, mode="edge")], axis=-1)
    bottom = np.stack([x, y, np.full_like(x, -base_m)], axis=-1)
    # Once round the border, clockwise seen from above: right along the top row, down, left, up.
    rows = np.concatenate([np.zeros(len(axis) - 1, int), np.arange(len(axis) - 1)])
    rows = np.concatenate([rows, rows.max() + 1 - rows])
    columns = np.roll(rows, 1 - len(axis))
    upper, lower = top[rows, columns], bottom[rows, columns]
    walls = _quads(upper, np.roll(upper, -1, 0), np.roll(lower, -1, 0), lower)
    return np.concatenate(
        [
            _quads(top[:-1, :-1], top[1:, :-1], top[1:, 1:], top[:-1, 1:]),
            _quads(bottom[:-1, :-1], bottom[:-1, 1:], bottom[1:, 1:], bottom[1:, :-1]),
            walls,
        ]
    )


def _quads(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Two triangles for each quadrilateral a b c d."""
    return np.concatenate([np.stack(t, axis=-2).reshape(-1, 3, 3) for t in ((a, b, c), (a, c, d))])
