"""A person made ready for rendering: painted, with hair and eyes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from faces.synthetic.asset import (
    AXIS_Z_M,
    BODY,
    CURTAIN,
    LEFT_EYE,
    RIGHT_EYE,
    TEXTURE_HEIGHT,
    TEXTURE_WIDTH,
    HeadAsset,
    load_asset,
)
from faces.synthetic.identity import Identity
from faces.synthetic.paint import Coat, paint_head, sample
from faces.synthetic.raster import F32, I32


@dataclass(frozen=True)
class Head:
    """A person ready for rendering.

    Attributes:
        identity: Shape and paint.
        points_m: (V, 3) head with hair, neutral.
        coat: Painted texture.
        eye_centres_m: (2, 3) centres of the right and the left eyeball.
        eye_axes: (V, 3) unit vectors from the centre of their eyeball, for vertices of the eyes.
        triangles: (T, 3) triangles that this person uses (the curtain only with long hair).
        group: (T,) their parts.
        landmark_vertices: (68, 3) vertices whose weighted mean is a landmark.
        landmark_weights: (68, 3) their weights.
    """

    identity: Identity
    points_m: F32
    coat: Coat
    eye_centres_m: F32
    eye_axes: F32
    triangles: I32
    group: NDArray[np.uint8]
    landmark_vertices: I32
    landmark_weights: F32


def build_head(identity: Identity) -> Head:
    """Paint a person and grow the hair."""
    asset = load_asset()
    coat = paint_head(identity.paint)
    points = identity.points_m.copy()
    centres = np.stack([points[asset.vertex_group == part].mean(axis=0) for part in (RIGHT_EYE, LEFT_EYE)])
    axes = np.zeros_like(points)
    for part, centre in ((RIGHT_EYE, centres[0]), (LEFT_EYE, centres[1])):
        rows = asset.vertex_group == part
        axes[rows] = points[rows] - centre
        axes[rows] /= np.linalg.norm(axes[rows], axis=1, keepdims=True)
    paint = identity.paint
    body = asset.vertex_group == BODY
    # Hair lifts the scalp along the normals; the blur makes it grow from the hairline backwards.
    lift = cv2.GaussianBlur(coat.hair, (0, 0), 7.0)
    lift = np.clip(lift * 1.6 - 0.6, 0, 1) * (1 - _ears(asset))
    amount = sample(lift, asset.texture)[:, 0] * body
    points += asset.normals(identity.points_m) * (amount * paint.hair_depth_m)[:, None]
    keep = asset.group < CURTAIN
    if paint.style == "long":
        keep[:] = True
        _hang_curtain(asset, points, paint.hair_length_m)
    vertices, weights = _landmarks(asset, coat.brows)
    return Head(
        identity=identity,
        points_m=points.astype(np.float32),
        coat=coat,
        eye_centres_m=centres.astype(np.float32),
        eye_axes=axes.astype(np.float32),
        triangles=asset.triangles[keep],
        group=asset.group[keep],
        landmark_vertices=vertices,
        landmark_weights=weights,
    )


def _landmarks(asset: HeadAsset, brows: F32) -> tuple[I32, F32]:
    """Vertices and weights of the landmarks; those of the brows follow the painted brows of the person."""
    vertices = np.concatenate([asset.landmarks, asset.landmarks[:, :1]], axis=1)
    weights = np.tile(np.array([0.5, 0.5, 0.0], np.float32), (68, 1))
    skin = asset.triangles[(asset.group == BODY) & (asset.mean_m[asset.triangles[:, 0], 2] > AXIS_Z_M)]
    a, b, c = (asset.texture[skin[:, i]].astype(np.float64) for i in range(3))
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    facing = area < -1e-9  # the outside of the head, not the lids that fold back
    skin, a, ab, ac, area = skin[facing], a[facing], ab[facing], ac[facing], area[facing]
    for i, point in enumerate(brows):
        d = point - a
        v = (d[:, 0] * ac[:, 1] - d[:, 1] * ac[:, 0]) / area
        w = (ab[:, 0] * d[:, 1] - ab[:, 1] * d[:, 0]) / area
        best = int(np.minimum(np.minimum(v, w), 1 - v - w).argmax())
        vertices[17 + i] = skin[best]
        weights[17 + i] = 1 - v[best] - w[best], v[best], w[best]
    return vertices, weights


def _hang_curtain(asset: HeadAsset, points: F32, length_m: float) -> None:
    """Fit the curtain of long hair, in place, to the width and depth of a head, and cut it to length."""
    rows = asset.vertex_group == CURTAIN
    head = (asset.vertex_group == BODY) & (asset.mean_m[:, 1] > -0.08)
    sheet = asset.mean_m[rows].copy()
    sheet[:, 0] *= np.abs(points[head, 0]).max() / np.abs(asset.mean_m[head, 0]).max()
    front = asset.mean_m[head, 2].max()
    sheet[:, 2] = front + (sheet[:, 2] - front) * (points[head, 2].min() - front) / (
        asset.mean_m[head, 2].min() - front
    )
    below = sheet[:, 1] < 0
    sheet[below, 1] *= length_m / -sheet[:, 1].min()
    crown = points[head, 1].max() / asset.mean_m[head, 1].max()
    sheet[~below, 1] *= crown
    points[rows] = sheet


def _ears(asset: HeadAsset) -> F32:
    """A texture-space mask of the ears (their sides carry no hair)."""
    mask = np.zeros((TEXTURE_HEIGHT, TEXTURE_WIDTH), np.float32)
    where = np.rint(asset.texture[asset.masks[:, 2] > 0.5]).astype(int)
    mask[np.clip(where[:, 1], 0, TEXTURE_HEIGHT - 1), np.clip(where[:, 0], 0, TEXTURE_WIDTH - 1)] = 1
    return np.clip(cv2.GaussianBlur(cv2.dilate(mask, np.ones((9, 9), np.uint8)), (0, 0), 2.0), 0, 1)
