"""The baked head: mesh, blendshapes, masks, landmarks and visibility (see ``faces/assets/README.md``)."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from faces.errors import FacesError
from faces.synthetic.raster import F32, I32

ASSET_PATH = Path(__file__).resolve().parent.parent / "assets" / "heads.npz"

# Canonical cylinder around the mean head: the texture runs over azimuth (columns) and height (rows).
AXIS_Z_M = -0.085
TOP_M, BOTTOM_M = 0.14, -0.20
TEXTURE_HEIGHT, TEXTURE_WIDTH = 320, 640

# Parts; the curtain of long hair is one sheet of vertices with triangles for either side.
BODY, LEFT_EYE, RIGHT_EYE, UPPER_TEETH, LOWER_TEETH, CURTAIN, CURTAIN_INSIDE = range(7)


@dataclass(frozen=True)
class HeadAsset:
    """Everything the generator knows about heads.

    Attributes:
        sha256: Hash of the asset file.
        base_m: (V, 3) base mesh; x to the subject's left, y up, z towards the viewer, origin between the eyes.
        mean_m: (V, 3) average adult head, used for texture coordinates.
        triangles: (T, 3) counter-clockwise from outside.
        group: (T,) part of each triangle (``BODY``, ``LEFT_EYE``, ...).
        vertex_group: (V,) part of each vertex.
        shape_names: Identity shapes, rows of ``shapes``.
        shapes: sparse (shapes, 3 V) displacements in metres.
        action_names: Facial actions, rows of ``actions``.
        actions: sparse (actions, 3 V) displacements in metres.
        masks: (V, 4) lips, lids, ears, inside of the mouth, 0..1.
        landmarks: (68, 2) vertex numbers; a landmark is the mean of its two vertices (often one vertex twice).
        lid_rings: (2, 28) lid margins of the right and of the left eye.
        lashes: (V,) 0..1, darkness of the margins of the lids.
        directions: (D, 3) unit directions of the baked visibility.
        visible: (V, D) float32, 1 where the mean head does not block the direction.
        texture: (V, 2) texture coordinates in pixels (column, row).
        corners: (V, T) sparse incidence, sums triangle normals at vertices.
    """

    sha256: str
    base_m: F32
    mean_m: F32
    triangles: I32
    group: NDArray[np.uint8]
    vertex_group: NDArray[np.uint8]
    shape_names: tuple[str, ...]
    shapes: sparse.csr_array
    action_names: tuple[str, ...]
    actions: sparse.csr_array
    masks: F32
    landmarks: I32
    lid_rings: I32
    lashes: F32
    directions: F32
    visible: F32
    texture: F32
    corners: sparse.csr_array

    def action(self, weights: dict[str, float]) -> F32:
        """Return the (V, 3) displacement in metres of weighted facial actions.

        Raises:
            FacesError: If an action is unknown.
        """
        row = np.zeros(len(self.action_names), np.float32)
        for name, weight in weights.items():
            if name not in self.action_names:
                raise FacesError(f"unknown facial action {name!r}; the asset has {', '.join(self.action_names)}.")
            row[self.action_names.index(name)] = weight
        return (row @ self.actions).reshape(-1, 3)

    def normals(self, points: F32) -> F32:
        """Area-weighted unit vertex normals of a deformed head, (V, 3)."""
        a = points[self.triangles[:, 0]]
        b, c = points[self.triangles[:, 1]] - a, points[self.triangles[:, 2]] - a
        face = np.empty_like(a)
        face[:, 0] = b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1]
        face[:, 1] = b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2]
        face[:, 2] = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
        normals = self.corners @ face
        normals /= np.sqrt((normals * normals).sum(1, keepdims=True)) + 1e-20
        return normals


def texture_row(height_m: F32 | float) -> F32 | float:
    """Texture row (pixel centres at integers) of a height above the eyes of the mean head."""
    return (TOP_M - height_m) / (TOP_M - BOTTOM_M) * TEXTURE_HEIGHT - 0.5


def texture_coordinates(points_m: F32) -> F32:
    """Map positions on the mean head to texture pixels (column, row)."""
    azimuth = np.arctan2(points_m[:, 0], points_m[:, 2] - AXIS_Z_M)
    column = (azimuth / (2 * np.pi) + 0.5) * TEXTURE_WIDTH - 0.5
    return np.stack([column, texture_row(points_m[:, 1])], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def load_asset() -> HeadAsset:
    """Load the head asset once per process.

    Raises:
        FacesError: If the file is missing or unreadable.
    """
    try:
        raw = ASSET_PATH.read_bytes()
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            data = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise FacesError(f"cannot read the head asset {ASSET_PATH} ({error}); reinstall, or bake it again.") from error
    base = data["vertices_m"]
    count = len(base)
    triangles = data["triangles"].astype(np.int32)
    group = data["triangle_group"]
    vertex_group = np.zeros(count, np.uint8)
    for part in range(CURTAIN + 1):
        vertex_group[triangles[group == part].ravel()] = part
    names = [str(name) for name in data["shape_names"]]
    matrix = _unpack_shapes(data, count)
    is_action = np.array([name.startswith("action/") for name in names])
    _set_teeth_back(data, vertex_group)
    # The inside of the curtain is left out: it would cancel the normals of the outside.
    outward = np.flatnonzero(group != CURTAIN_INSIDE)
    ones = np.ones(3 * len(outward), np.float32)
    where = (triangles[outward].ravel(), np.repeat(outward, 3))
    corners = sparse.csr_array(sparse.coo_array((ones, where), shape=(count, len(triangles))))
    return HeadAsset(
        sha256=hashlib.sha256(raw).hexdigest(),
        base_m=data["vertices_m"],
        mean_m=data["mean_m"],
        triangles=triangles,
        group=group,
        vertex_group=vertex_group,
        shape_names=tuple(name for name, flag in zip(names, is_action, strict=True) if not flag),
        shapes=matrix[np.flatnonzero(~is_action)],
        action_names=tuple(n.removeprefix("action/") for n, flag in zip(names, is_action, strict=True) if flag),
        actions=matrix[np.flatnonzero(is_action)],
        masks=(data["masks"] / 255.0).astype(np.float32),
        landmarks=data["landmarks"].astype(np.int32),
        lid_rings=data["lid_rings"].astype(np.int32),
        lashes=_lashes(data, vertex_group),
        directions=data["directions"],
        visible=np.unpackbits(data["visible"], axis=1)[:, : len(data["directions"])].astype(np.float32),
        texture=texture_coordinates(data["mean_m"]),
        corners=corners,
    )


def _unpack_shapes(data: dict[str, np.ndarray], count: int) -> sparse.csr_array:
    """Rebuild the sparse matrix: row numbers are stored as differences, displacements as whole quanta."""
    starts = data["shape_starts"]
    rows = np.concatenate([np.cumsum(data["shape_rows"][a:b], dtype=np.int64) for a, b in pairwise(starts)])
    columns = (rows[:, None] * 3 + np.arange(3)).ravel()
    values = (data["shape_deltas"].astype(np.float64) * float(data["shape_step_m"][0])).astype(np.float32).ravel()
    return sparse.csr_array((values, columns, starts * 3), shape=(len(starts) - 1, 3 * count))


def _lashes(data: dict[str, np.ndarray], vertex_group: NDArray[np.uint8]) -> F32:
    """Dark where skin is within about a millimetre of the margin of a lid; the upper lashes reach further."""
    points, rings = data["mean_m"], data["lid_rings"].astype(int)
    result = np.zeros(len(points), np.float32)
    for ring in rings:
        margin = points[ring]
        reach = np.where(margin[:, 1] > margin[:, 1].mean(), 0.0026, 0.0009)
        distance = np.linalg.norm(points[:, None] - margin[None], axis=2)
        result = np.maximum(result, np.exp(-((distance / reach) ** 2)).max(axis=1))
    return (result * (vertex_group == BODY)).astype(np.float32)


def _set_teeth_back(data: dict[str, np.ndarray], vertex_group: NDArray[np.uint8]) -> None:
    """Shrink and recess the teeth: no mouth shape moves them, so they would pierce thin lips."""
    teeth = (vertex_group == UPPER_TEETH) | (vertex_group == LOWER_TEETH)
    for name in ("vertices_m", "mean_m"):
        points = data[name]
        centre = points[teeth].mean(axis=0)
        points[teeth] = centre + (points[teeth] - centre) * np.float32(0.9) - np.array([0, 0, 0.005], np.float32)
