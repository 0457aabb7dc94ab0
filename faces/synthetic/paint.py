"""Paint a person's albedo and hair on the canonical cylinder around the mean head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from faces.synthetic.asset import BOTTOM_M, TEXTURE_HEIGHT, TEXTURE_WIDTH, TOP_M, load_asset
from faces.synthetic.identity import Paint
from faces.synthetic.raster import F32

ROWS_PER_M = TEXTURE_HEIGHT / (TOP_M - BOTTOM_M)

# Linear-light albedo of very light and very dark skin; melanin mixes their logarithms.
_LIGHT_SKIN = np.log(np.array([0.64, 0.44, 0.345], np.float32))
_DARK_SKIN = np.log(np.array([0.085, 0.045, 0.028], np.float32))
_BLOOD = np.array([-0.02, -0.42, -0.30], np.float32)


@dataclass(frozen=True)
class Coat:
    """The painted cylinder.

    Attributes:
        albedo: (TEXTURE_HEIGHT, TEXTURE_WIDTH, 3) linear-light albedo of skin, brows, beard and hair.
        hair: (TEXTURE_HEIGHT, TEXTURE_WIDTH) 0..1, where the scalp carries hair.
        strands: (TEXTURE_HEIGHT, TEXTURE_WIDTH, 3) linear-light albedo of hair, everywhere.
        brows: (10, 2) texture pixels of landmarks 17..26, along the painted brows.
    """

    albedo: F32
    hair: F32
    strands: F32
    brows: F32


@lru_cache(maxsize=1)
def _grid() -> tuple[F32, F32]:
    """Azimuth (rad) and height (m) of the texture pixels."""
    azimuth = ((np.arange(TEXTURE_WIDTH, dtype=np.float32) + 0.5) / TEXTURE_WIDTH - 0.5) * np.float32(2 * np.pi)
    height = TOP_M - (np.arange(TEXTURE_HEIGHT, dtype=np.float32) + 0.5) / np.float32(ROWS_PER_M)
    columns, rows = np.meshgrid(azimuth.astype(np.float32), height.astype(np.float32))
    return columns, rows


@lru_cache(maxsize=1)
def _marks() -> F32:
    """(68, 2) landmarks of the mean head in texture pixels."""
    asset = load_asset()
    return asset.texture[asset.landmarks].mean(axis=1)


def _blob(x: float, y: float, rx: float, ry: float) -> F32:
    """A Gaussian bump around a texture pixel."""
    column = np.arange(TEXTURE_WIDTH, dtype=np.float32)
    row = np.arange(TEXTURE_HEIGHT, dtype=np.float32)
    return np.exp(-0.5 * ((row - y) / ry) ** 2)[:, None] * np.exp(-0.5 * ((column - x) / rx) ** 2)[None, :]


def _stroke(points: F32, widths: F32, blur: float) -> F32:
    """A soft polyline of varying width in texture pixels, 0..1."""
    canvas = np.zeros((TEXTURE_HEIGHT, TEXTURE_WIDTH), np.uint8)
    steps = np.linspace(0, len(points) - 1, 48)
    x = np.interp(steps, np.arange(len(points)), points[:, 0])
    y = np.interp(steps, np.arange(len(points)), points[:, 1])
    w = np.interp(steps, np.arange(len(points)), widths)
    for cx, cy, radius in zip(x, y, w, strict=True):
        centre = (round(float(cx) * 16), round(float(cy) * 16))
        cv2.circle(canvas, centre, max(1, round(float(radius) * 16)), 255, -1, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), blur), np.float32)


def _noise(rng: np.random.Generator, sigma_x: float, sigma_y: float) -> F32:
    """Unit-variance smooth noise on the texture."""
    field = rng.standard_normal((TEXTURE_HEIGHT, TEXTURE_WIDTH), dtype=np.float32)
    field = np.asarray(cv2.GaussianBlur(field, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y), np.float32)
    return field / field.std()


def paint_head(paint: Paint) -> Coat:
    """Paint one person.

    Args:
        paint: Colours and hair of the person.

    Returns:
        The coat; deterministic in ``paint``.
    """
    rng = np.random.Generator(np.random.PCG64(paint.texture_seed))
    marks = _marks()
    blood = np.full((TEXTURE_HEIGHT, TEXTURE_WIDTH), 0.12, np.float32)
    nose, chin = marks[30], marks[8]
    for side in (36, 45):
        cheek = (marks[side] + marks[48 if side == 36 else 54]) / 2
        blood += 0.45 * _blob(cheek[0], cheek[1], 24, 18)
    blood += 0.35 * _blob(nose[0], nose[1], 12, 9) + 0.25 * _blob(chin[0], chin[1], 14, 9)
    blood *= paint.redness
    blood += 0.06 * _noise(rng, 14, 14)
    melanin = paint.melanin + 0.020 * _noise(rng, 10, 10) + 0.008 * _noise(rng, 2, 2)
    # Eye sockets and age lines darken.
    shade = np.zeros_like(blood)
    for ring in (slice(36, 42), slice(42, 48)):
        eye = marks[ring].mean(axis=0)
        shade += (0.16 + 0.22 * paint.wrinkles) * _blob(eye[0], eye[1] + 5, 18, 9)
    if paint.wrinkles > 0.05:
        shade += paint.wrinkles * _age_lines(marks)
    if paint.freckles:
        spots = np.clip(_noise(rng, 1.1, 1.1) - 1.7, 0, 1)
        zone = _blob(nose[0], nose[1] - 10, 60, 22)
        melanin = melanin + 0.5 * paint.freckles * spots * zone
    for azimuth, height, radius in paint.moles:
        x = (azimuth / (2 * np.pi) + 0.5) * TEXTURE_WIDTH
        melanin = melanin + 0.7 * _blob(x, (TOP_M - height) * ROWS_PER_M, radius * 900, radius * ROWS_PER_M)
    log_albedo = _LIGHT_SKIN + np.clip(melanin, 0, 1.1)[..., None] * (_DARK_SKIN - _LIGHT_SKIN)
    log_albedo = log_albedo + blood[..., None] * _BLOOD - shade[..., None]
    albedo = np.exp(log_albedo).astype(np.float32)

    strands = np.exp(0.22 * _noise(rng, 1.0, 7.0) + 0.12 * _noise(rng, 5, 14))[..., None]
    hair_colour = np.array(paint.hair, np.float32) * strands
    facial_hair = hair_colour * np.float32(0.8)
    brow_cover, brow_points = _brows(paint, marks)
    for cover in (brow_cover, _beard(paint, marks, rng)):
        albedo += cover[..., None] * (facial_hair - albedo)
    hair = _scalp(paint, rng)
    albedo += hair[..., None] * (hair_colour - albedo)
    return Coat(albedo.astype(np.float32), hair, hair_colour.astype(np.float32), brow_points)


def sample(texture: F32, where: F32) -> F32:
    """Bilinear samples (P, channels) at (column, row); columns wrap around."""
    height = texture.shape[0]
    x = np.ascontiguousarray(where[:, 0])
    y = np.clip(where[:, 1], 0, height - 1)
    # OpenCV limits the sides of a map to 32767, so the list is folded.
    fold = 4096
    rows = -(-len(x) // fold)
    map_x, map_y = np.zeros((2, rows * fold), np.float32)
    map_x[: len(x)], map_y[: len(y)] = x, y
    out = cv2.remap(texture, map_x.reshape(rows, fold), map_y.reshape(rows, fold), cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_WRAP)  # fmt: skip
    return np.asarray(out, np.float32).reshape(rows * fold, -1)[: len(x)]


def skin_albedo(paint: Paint) -> F32:
    """(3,) linear albedo of plain skin."""
    log = _LIGHT_SKIN + np.float32(paint.melanin) * (_DARK_SKIN - _LIGHT_SKIN)
    return np.exp(log + np.float32(0.3 * paint.redness) * _BLOOD)


def lip_albedo(paint: Paint) -> F32:
    """(3,) linear albedo of the lips."""
    red, dark = paint.lip_tone
    tint = np.array([-0.10, -0.75, -0.55], np.float32) * np.float32(red) - np.float32(dark)
    return skin_albedo(paint) * np.exp(tint)


def _age_lines(marks: F32) -> F32:
    lines = np.zeros((TEXTURE_HEIGHT, TEXTURE_WIDTH), np.float32)
    for ala, corner in ((31, 48), (35, 54)):
        away = np.sign(marks[corner, 0] - marks[51, 0])
        path = np.array([marks[ala] + [3 * away, -3], marks[corner] + [7 * away, -6], marks[corner] + [9 * away, 8]])
        lines += 0.5 * _stroke(path.astype(np.float32), np.array([0.8, 1.2, 0.6], np.float32), 1.4)
    middle = marks[27, 0]
    for rise in (26, 36, 46):
        y = marks[19, 1] - rise + 8
        path = np.array([[middle - 40, y + 3], [middle, y], [middle + 40, y + 3]], np.float32)
        lines += 0.22 * _stroke(path, np.array([0.4, 0.9, 0.4], np.float32), 1.3)
    return lines


def _brows(paint: Paint, marks: F32) -> tuple[F32, F32]:
    """Cover of the brows, and their landmarks from the subject's right to left."""
    thickness, arch, density, length, gap = paint.brow
    cover = np.zeros((TEXTURE_HEIGHT, TEXTURE_WIDTH), np.float32)
    points = marks[17:27].copy()
    for rows in (slice(4, None, -1), slice(5, 10)):  # from the middle outwards
        path = points[rows]
        away = np.sign(path[-1, 0] - path[0, 0])
        path[:, 0] = path[2, 0] + (path[:, 0] - path[2, 0]) * length + away * gap * 900
        path[:, 1] -= np.array([0, 0.6, 1, 0.8, 0], np.float32) * arch * ROWS_PER_M
        radius = thickness * ROWS_PER_M * np.array([0.75, 1.1, 1.0, 0.7, 0.3], np.float32) * 0.8
        points[rows] = path
        path = path.copy()
        path[0, 0] += away * 0.8 * radius[0]  # the painted end, not the centre of its cap, lies at the landmark
        cover = np.maximum(cover, _stroke(path, radius, 1.0))
    return np.clip(cover * 1.15, 0, 1) * density, points


def _beard(paint: Paint, marks: F32, rng: np.random.Generator) -> F32:
    grain = np.exp(0.25 * _noise(rng, 1, 2))
    if paint.beard == "none":
        return np.zeros((TEXTURE_HEIGHT, TEXTURE_WIDTH), np.float32)
    column = np.arange(TEXTURE_WIDTH, dtype=np.float32)
    row = np.arange(TEXTURE_HEIGHT, dtype=np.float32)[:, None]
    # Upper edge of a full beard: from the sideburns down across the cheeks to the corners of the mouth.
    mouth, middle = marks[[48, 54]].mean(axis=0), marks[51, 0]
    distance = np.abs(column - middle)
    reach = abs(marks[16, 0] - middle)
    stops = np.array([0, 12, 22, 0.62 * reach, 0.86 * reach, 1.06 * reach])
    lip, ear = marks[33, 1], marks[16, 1]
    edge = np.interp(distance, stops, [lip + 2, lip + 3, mouth[1] - 4, mouth[1] + 2, ear + 25, ear - 10])
    # Lower edge: under the chin, then along the jaw up to its angle, so that the neck stays bare.
    jaw = np.abs(marks[8:13, 0] - middle)
    lower = np.interp(distance, jaw, marks[8:13, 1] + np.array([14, 13, 9, 5, 4]))
    full = _soft(row - edge, 2.5) * _soft(lower - row, 5) * _soft(1.1 * reach - distance, 4)
    lip_gap = np.exp(-0.5 * ((row - mouth[1] - 1) / 4.0) ** 4) * np.exp(-0.5 * (distance / 21) ** 4)
    full = full * (1 - lip_gap)
    moustache = _soft(row - (marks[33, 1] + 2), 1.5) * _soft(mouth[1] - 2 - row, 1.5) * _soft(25 - distance, 3)
    goatee = _soft(row - (mouth[1] + 6), 2) * _soft(lower - 4 - row, 3) * _soft(17 - distance, 4)
    sides = full * _soft(distance - 0.72 * reach, 4)
    cover = {
        "stubble": 0.42 * full,
        "moustache": moustache,
        "goatee": np.maximum(goatee, moustache),
        "full": full,
        "sideburns": sides,
    }[paint.beard]
    return np.clip(cover * paint.beard_density * grain, 0, 1).astype(np.float32)


def _soft(value: F32, width: float) -> F32:
    """A smooth step, 0 below and 1 above zero."""
    return (0.5 + 0.5 * np.tanh(value / width)).astype(np.float32)


def _scalp(paint: Paint, rng: np.random.Generator) -> F32:
    """Hair cover of the scalp: above a hairline that drops at the temples to sideburns and to the nape."""
    azimuth, height = _grid()
    ragged = 0.0016 * _noise(rng, 1.5, 4)
    if paint.style == "bald":
        return np.zeros_like(height)
    width, peak, parting = paint.hairline_shape
    angle = np.abs(azimuth)
    front = paint.hairline_m + peak * np.cos(np.clip(angle / width, 0, 1) * np.pi)
    if paint.style == "receding":
        # Deep temples on both sides of a central tongue.
        front = front + 0.030 * np.exp(-0.5 * ((angle - 0.55) / 0.22) ** 2)
    if paint.style == "full":
        # A fringe that hangs to one side of the parting.
        front = front - 0.020 * _soft((azimuth - parting) * np.sign(0.01 + parting) * -1 + 0.15, 0.25)
    knots_angle = [0.0, width, width + 0.20, 1.18, 1.45, 1.75, 2.1, np.pi]
    drop = [0.0, 0.004, 0.030, 0.075, 0.105, 0.110, 0.150, 0.165]
    line = front - np.interp(angle, knots_angle, drop)
    fade = 0.004 if paint.style in ("cropped", "receding") else 0.0025
    cover = _soft(height - line + ragged, fade)
    opacity = {"cropped": 0.75, "receding": 0.88}.get(paint.style, 1.0)
    return (cover * opacity).astype(np.float32)
