"""Light and colour of the visible surface: baked soft shadows, paint, eyes, highlights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faces.synthetic.asset import (
    BODY,
    CURTAIN,
    CURTAIN_INSIDE,
    LEFT_EYE,
    LOWER_TEETH,
    RIGHT_EYE,
    UPPER_TEETH,
    HeadAsset,
    texture_row,
)
from faces.synthetic.capture import Capture, rotation
from faces.synthetic.head import Head
from faces.synthetic.identity import Paint
from faces.synthetic.paint import lip_albedo, sample, skin_albedo
from faces.synthetic.raster import F32, I32, Coverage, interpolate

IRIS_RAD, PUPIL_RAD = 0.44, 0.18


def _light(asset: HeadAsset, capture: Capture, normals: F32, used: I32, turn: F32) -> F32:
    """(used, 4): RGB irradiance / pi and the unblocked part of the key light, from baked visibility."""
    world = asset.directions @ turn.T
    up = (0.5 + 0.5 * world[:, 1:2]).astype(np.float32)
    radiance = capture.sky[0] * up + capture.sky[1] * (1 - up)
    lobes = [np.exp(np.float32(lamp.sharpness) * (world @ lamp.direction - 1)) for lamp in capture.lamps]
    for lobe, lamp in zip(lobes, capture.lamps, strict=True):
        radiance = radiance + lobe[:, None] * lamp.colour
    key = lobes[0] / lobes[0].sum()
    weight = np.float32(4.0 / len(world))
    visible = asset.visible[used]
    result = np.empty((len(used), 4), np.float32)
    cosine = np.maximum(normals @ asset.directions.T, 0)
    cosine *= visible
    result[:, :3] = (cosine @ radiance.astype(np.float32)) * weight
    result[:, 3] = visible @ key.astype(np.float32)
    return result


def shade(
    asset: HeadAsset, head: Head, capture: Capture, deformed: F32, cover: Coverage
) -> tuple[F32, NDArray[np.uint8]]:
    """Light and colour the visible surface.

    Args:
        asset: The head asset.
        head: The person.
        capture: Pose and light.
        deformed: (V, 3) vertices in head axes, with expression.
        cover: The visible surface.

    Returns:
        Linear radiance (P, 3) and region bits (P,) (see ``faces.samples.REGIONS``) of the covered pixels.
    """
    paint = head.identity.paint
    turn = rotation(*capture.angles_rad)
    normals = asset.normals(deformed)
    used = np.unique(head.triangles[cover.triangle])
    values = np.zeros((len(deformed), 17), np.float32)
    values[used, 0:4] = _light(asset, capture, normals[used], used, turn)
    values[:, 4:7] = normals @ turn.T
    values[:, 7:9] = asset.texture
    values[:, 9:13] = asset.masks
    values[:, 13:16] = head.eye_axes
    values[:, 16] = asset.lashes
    pixel = interpolate(values, head.triangles, cover)
    group = head.group[cover.triangle]
    light, normal = pixel[:, 0:3], pixel[:, 4:7]
    lips, ears, inside = pixel[:, 9:10], pixel[:, 11:12], pixel[:, 12:13]

    painted = sample(head.coat.albedo, pixel[:, 7:9])
    hair = sample(head.coat.hair, pixel[:, 7:9]) * (ears < 0.5)
    albedo = painted
    bare_ear = np.minimum(ears * 1.5, 1) * (sample(head.coat.hair, pixel[:, 7:9]) > 0.02)
    if bare_ear.any():
        albedo = albedo + bare_ear * (skin_albedo(paint) - albedo)
    albedo = albedo + np.clip(lips * 1.2 - 0.1, 0, 1) * (lip_albedo(paint) - albedo)
    albedo = albedo + np.clip(inside * 2 - 0.5, 0, 1) * (np.array([0.10, 0.03, 0.03], np.float32) - albedo)
    albedo = albedo * (1 - 0.8 * pixel[:, 16:17])
    gloss = np.where(lips[:, 0] > 0.5, 0.030, 0.018).astype(np.float32) * (1 - 0.6 * hair[:, 0])
    region = np.where((hair[:, 0] < 0.5) & (inside[:, 0] < 0.5), 1, 0).astype(np.uint8)
    region[pixel[:, 10] > 0.5] |= 8
    region[(lips[:, 0] > 0.5) & (group == BODY)] = 2

    cloth = (group == BODY) & (pixel[:, 8] > texture_row(capture.collar_m))
    albedo[cloth], gloss[cloth], region[cloth] = capture.cloth, 0, 0
    mesh = group >= CURTAIN
    if mesh.any():
        albedo[mesh] = sample(head.coat.strands, pixel[mesh, 7:9])
        albedo[group == CURTAIN_INSIDE] *= np.float32(0.35)
        region[mesh] = 0
    teeth = (group == UPPER_TEETH) | (group == LOWER_TEETH)
    opening = min(1.0, 0.25 + 3 * capture.actions.get("jawOpen", 0.0))
    albedo[teeth], region[teeth] = np.array([0.55, 0.50, 0.42], np.float32) * opening, 0
    eyes = (group == LEFT_EYE) | (group == RIGHT_EYE)
    if eyes.any():
        albedo[eyes] = _eye_albedo(paint, capture, pixel[eyes, 13:16])
        gloss[eyes], region[eyes] = 0.02, 4

    length = np.sqrt((normal * normal).sum(1, keepdims=True)) + 1e-12
    half = capture.lamps[0].direction + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half) + 1e-6
    facing = np.maximum((normal @ half) / length[:, 0], 0)
    power = np.where(eyes, 400.0, 16.0).astype(np.float32)
    shine = gloss * (power + 8) / 8 * facing**power * pixel[:, 3]
    radiance = albedo * light + shine[:, None] * capture.lamps[0].colour * np.float32(
        2 / capture.lamps[0].sharpness * (1 - np.exp(-2 * capture.lamps[0].sharpness))
    )
    return radiance.astype(np.float32), region


def _eye_albedo(paint: Paint, capture: Capture, axis: F32) -> F32:
    """White, iris with limbal ring, pupil, by the angle from the line of sight."""
    right, up = capture.gaze_rad
    gaze = np.array([np.sin(right) * np.cos(up), np.sin(up), np.cos(right) * np.cos(up)], np.float32)
    angle = np.arccos(np.clip((axis @ gaze) / (np.linalg.norm(axis, axis=1) + 1e-9), -1, 1))
    white = np.array([0.36, 0.32, 0.30], np.float32)
    iris = np.array(paint.iris, np.float32)
    ring = iris * np.float32(0.35)

    def step(limit: float, width: float) -> F32:
        return np.clip((limit - angle) / width + 0.5, 0, 1).astype(np.float32)[:, None]

    albedo = white + step(IRIS_RAD, 0.06) * (ring - white)
    albedo = albedo + step(IRIS_RAD * 0.85, 0.08) * (iris - albedo)
    albedo = albedo + step(PUPIL_RAD, 0.05) * (np.float32(0.004) - albedo)
    # The upper lid and its lashes shade the upper part of the eyeball.
    return albedo * (0.9 - 0.55 * np.clip((axis[:, 1:2] - 0.05) / 0.35, 0, 1))
