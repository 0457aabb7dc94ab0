"""A vectorised triangle rasteriser: fragments of all triangles at once, then one depth sort."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Coverage(NamedTuple):
    """The visible surface at pixel centres.

    Attributes:
        pixel: (P,) flat indices (row-major) of the covered pixels, increasing.
        triangle: (P,) row of the triangle seen there.
        weights: (P, 3) float32 barycentric weights of its corners; they sum to one.
        nearness: (P,) float32 interpolated nearness.
    """

    pixel: I32
    triangle: I32
    weights: F32
    nearness: F32


def rasterise(points: F32, nearness: F32, triangles: I32, height: int, width: int, cull: bool = True) -> Coverage:
    """Find the nearest triangle at every pixel centre.

    Args:
        points: (V, 2) pixel coordinates (x, y), pixel centres at integers, y down.
        nearness: (V,) larger is nearer; reciprocal depth is affine on the screen, so 1 / depth is exact.
        triangles: (T, 3) corners, counter-clockwise when seen from outside (with y up).
        height: Rows of the frame.
        width: Columns of the frame.
        cull: Drop triangles that face away.

    Returns:
        The coverage. Triangles without a pixel centre inside leave no trace.
    """
    corner = points[triangles]
    x, y = corner[:, :, 0], corner[:, :, 1]
    # Twice the signed area; y runs down, so outward triangles come out negative.
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    left = np.maximum(np.ceil(x.min(1)), 0).astype(np.int32)
    right = np.minimum(np.floor(x.max(1)), width - 1).astype(np.int32)
    top = np.maximum(np.ceil(y.min(1)), 0).astype(np.int32)
    bottom = np.minimum(np.floor(y.max(1)), height - 1).astype(np.int32)
    front = area < -1e-9 if cull else np.abs(area) > 1e-9
    keep = np.flatnonzero(front & (right >= left) & (bottom >= top)).astype(np.int32)

    x, y, area = x[keep], y[keep], area[keep]
    left, top = left[keep], top[keep]
    columns = right[keep] - left + 1
    count = columns * (bottom[keep] - top + 1)
    # Barycentric weights are affine: w = gx * (px - left) + gy * (py - top) + w0, for corners 0 and 1.
    inverse = (1.0 / area).astype(np.float32)
    plane = np.empty((len(keep), 6), np.float32)
    for corner_index, (i, j) in enumerate(((1, 2), (2, 0))):
        gx = (y[:, i] - y[:, j]) * inverse
        gy = (x[:, j] - x[:, i]) * inverse
        plane[:, 3 * corner_index] = gx
        plane[:, 3 * corner_index + 1] = gy
        plane[:, 3 * corner_index + 2] = gx * (left - x[:, i]) + gy * (top - y[:, i])

    row = np.repeat(np.arange(len(keep), dtype=np.int32), count)
    local = np.arange(len(row), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    dy, dx = np.divmod(local, columns[row])
    fragment = plane[row]
    w0 = fragment[:, 0] * dx + fragment[:, 1] * dy + fragment[:, 2]
    w1 = fragment[:, 3] * dx + fragment[:, 4] * dy + fragment[:, 5]
    w2 = 1.0 - w0 - w1
    # A hair of slack closes the seams between neighbours.
    inside = np.flatnonzero(np.minimum(np.minimum(w0, w1), w2) >= -1e-4)
    row, w0, w1, w2 = row[inside], w0[inside], w1[inside], w2[inside]
    pixel = (top[row] + dy[inside]) * width + left[row] + dx[inside]
    triangle = keep[row]
    near = nearness[triangles[triangle]]
    near = near[:, 0] * w0 + near[:, 1] * w1 + near[:, 2] * w2

    # Stable sort by nearness, then the last writer of each pixel is the nearest fragment.
    order = np.argsort(near, kind="stable")
    winner = np.full(height * width, -1, np.int32)
    winner[pixel[order]] = order
    covered = np.flatnonzero(winner >= 0).astype(np.int32)
    best = winner[covered]
    weights = np.stack([w0[best], w1[best], w2[best]], axis=1).astype(np.float32)
    return Coverage(covered, triangle[best], weights, near[best].astype(np.float32))


def interpolate(values: F32, triangles: I32, coverage: Coverage) -> F32:
    """Interpolate per-vertex values at the covered pixels.

    Args:
        values: (V, K) float32.
        triangles: (T, 3) the triangles that were rasterised.
        coverage: Result of :func:`rasterise`.

    Returns:
        (P, K) float32.
    """
    corners = triangles[coverage.triangle]
    weights = coverage.weights
    result = values[corners[:, 0]] * weights[:, :1]
    result += values[corners[:, 1]] * weights[:, 1:2]
    result += values[corners[:, 2]] * weights[:, 2:]
    return result
