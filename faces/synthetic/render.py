"""Render one capture of one person: pose, projection, backdrop, exposure, sRGB."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from faces.synthetic.asset import load_asset
from faces.synthetic.capture import Capture, rotation
from faces.synthetic.head import Head
from faces.synthetic.raster import F32, rasterise
from faces.synthetic.shade import shade

PIVOT_M = np.array([0.0, -0.06, -0.07], np.float32)  # the head turns about the top of the neck
AIM_M = np.array([0.0, -0.022, 0.0], np.float32)  # this point of the straight face lies at the centre of the window


class Picture(NamedTuple):
    """A rendered capture: (S, S, 3) uint8 sRGB, (68, 2) float32 landmarks, (S, S) uint8 region bits."""

    image: NDArray[np.uint8]
    landmarks: F32
    regions: NDArray[np.uint8]


def pose(head: Head, capture: Capture) -> tuple[F32, F32]:
    """Return the (V, 3) deformed head in head axes and in camera axes (origin at the aimed point, z to the camera)."""
    deformed = head.points_m + load_asset().action(capture.actions)
    turned = (deformed - PIVOT_M) @ rotation(*capture.angles_rad).T + (PIVOT_M - AIM_M)
    return deformed, turned


def project(points: F32, head: Head, capture: Capture, size: int) -> F32:
    """Pinhole projection of camera-axes points (…, 3) to pixels (…, 2) of a size x size frame.

    The focal length makes the frontal pupil distance ``capture.eye_distance`` of the frame at ``distance_m``.
    """
    pupils = float(np.linalg.norm(head.eye_centres_m[1] - head.eye_centres_m[0]))
    focal = capture.eye_distance * size * capture.distance_m / pupils
    depth = capture.distance_m - points[..., 2]
    x = focal * points[..., 0] / depth + size * (0.5 + capture.centre[0]) - 0.5
    y = -focal * points[..., 1] / depth + size * (0.5 + capture.centre[1]) - 0.5
    return np.stack([x, y], axis=-1).astype(np.float32)


def render(head: Head, capture: Capture, size: int) -> Picture:
    """Render a capture.

    Args:
        head: The person.
        capture: Pose, light and so on.
        size: Width and height of the picture in pixels.

    Returns:
        The picture with exact landmarks and a bit mask of skin, lips and eyes.
    """
    asset = load_asset()
    oversampling = max(2, -(-128 // size))
    side = size * oversampling
    deformed, turned = pose(head, capture)
    screen = project(turned, head, capture, size)
    fine = (screen + 0.5) * oversampling - 0.5
    nearness = (1.0 / (capture.distance_m - turned[:, 2])).astype(np.float32)
    cover = rasterise(fine, nearness, head.triangles, side, side)
    radiance, region = shade(asset, head, capture, deformed, cover)
    frame = _backdrop(capture, side).reshape(-1, 3)
    # Exposure looks at the face and a little at everything.
    face = float(radiance.mean()) if len(radiance) else 0.2
    level = 0.65 * face + 0.35 * float(frame.mean())
    frame[cover.pixel] = radiance
    frame *= np.float32(0.24 * capture.exposure / max(level, 1e-4)) * capture.white
    small = cv2.resize(frame.reshape(side, side, 3), (size, size), interpolation=cv2.INTER_AREA)
    bits = np.zeros(side * side, np.uint8)
    bits[cover.pixel] = region
    middle = oversampling // 2
    regions = bits.reshape(side, side)[middle::oversampling, middle::oversampling]
    landmarks = (screen[head.landmark_vertices] * head.landmark_weights[..., None]).sum(axis=1)
    return Picture(_encode(np.asarray(small, np.float32)), landmarks.astype(np.float32), np.ascontiguousarray(regions))


def _encode(linear: F32) -> NDArray[np.uint8]:
    """Encode as sRGB; a soft shoulder above 0.8 stands for the camera's highlight compression."""
    clipped = np.where(linear > 0.8, 0.8 + 0.2 * (1 - np.exp(-(np.maximum(linear, 0.8) - 0.8) / 0.2)), linear)
    curve = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * np.maximum(clipped, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.rint(np.clip(curve, 0, 1) * 255).astype(np.uint8)


def _backdrop(capture: Capture, side: int) -> F32:
    frame = cv2.resize(capture.backdrop, (side, side), interpolation=cv2.INTER_CUBIC)
    for x, y, half_width, half_height, angle, *colour in capture.panels:
        box = cv2.boxPoints(((float(x * side), float(y * side)),
                             (float(2 * half_width * side), float(2 * half_height * side)), float(angle)))  # fmt: skip
        cv2.fillConvexPoly(frame, np.rint(box * 16).astype(np.int32), [float(c) for c in colour], cv2.LINE_8, 4)
    return np.maximum(frame, 0.002)
