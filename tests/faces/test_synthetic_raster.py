"""The rasteriser against brute force and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from faces.synthetic.raster import interpolate, rasterise

F32 = np.float32


def brute_force(points: np.ndarray, near: np.ndarray, triangles: np.ndarray, side: int) -> np.ndarray:
    """Nearest front-facing triangle at each pixel centre, by testing all pairs in float64."""
    best = np.full((side, side), -1)
    depth = np.full((side, side), -np.inf)
    ys, xs = np.mgrid[:side, :side].astype(np.float64)
    for t, (a, b, c) in enumerate(triangles):
        system = np.array([points[[a, b, c], 0], points[[a, b, c], 1], [1.0, 1.0, 1.0]], np.float64)
        if np.linalg.det(system) >= 0:  # clockwise with y down means counter-clockwise with y up: facing us
            continue
        weights = np.linalg.solve(system, np.stack([xs.ravel(), ys.ravel(), np.ones(xs.size)])).reshape(3, side, side)
        z = np.tensordot(near[[a, b, c]].astype(np.float64), weights, 1)
        win = (weights.min(0) >= 0) & (z > depth)
        best[win], depth[win] = t, z[win]
    return best


def test_matches_brute_force() -> None:
    rng = np.random.default_rng(3)
    side, count = 40, 60
    centres = rng.uniform(-3, side + 3, (count, 1, 2))
    points = (centres + rng.normal(0, 7, (count, 3, 2))).reshape(-1, 2).astype(F32)
    near = np.repeat(rng.permutation(count), 3).astype(F32) + rng.uniform(-0.3, 0.3, 3 * count).astype(F32)
    triangles = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    cover = rasterise(points, near, triangles, side, side)
    drawn = np.full(side * side, -1)
    drawn[cover.pixel] = cover.triangle
    want = brute_force(points, near, triangles, side).ravel()
    # The slack at edges may claim a pixel centre that lies on one.
    assert (drawn != want).sum() <= 2
    assert (want >= 0).sum() > 500


def test_weights_interpolate_position() -> None:
    points = np.array([[1.2, 0.4], [8.9, 2.3], [3.1, 9.7]], F32)
    triangles = np.array([[0, 2, 1]], np.int32)
    cover = rasterise(points, np.ones(3, F32), triangles, 12, 12)
    values = interpolate(points, triangles, cover)
    assert np.allclose(values[:, 0], cover.pixel % 12, atol=2e-3)
    assert np.allclose(values[:, 1], cover.pixel // 12, atol=2e-3)
    area = abs(np.linalg.det(np.c_[points, np.ones(3)])) / 2
    assert len(cover.pixel) == pytest.approx(area, abs=4)


def test_neighbours_leave_no_seam_and_backs_are_culled() -> None:
    points = np.array([[0.5, 0.5], [9.3, 1.1], [8.8, 9.9], [1.0, 8.7]], F32)
    front = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    cover = rasterise(points, np.ones(4, F32), front, 12, 12)
    inner = [y * 12 + x for y in range(3, 8) for x in range(3, 8)]
    assert np.isin(inner, cover.pixel).all()
    back = rasterise(points, np.ones(4, F32), np.ascontiguousarray(front[:, ::-1]), 12, 12)
    assert len(back.pixel) == 0
    both = rasterise(points, np.ones(4, F32), np.ascontiguousarray(front[:, ::-1]), 12, 12, cull=False)
    assert np.array_equal(both.pixel, cover.pixel)


def test_nothing_in_view_is_no_error() -> None:
    points = np.array([[-9, -9], [-8, -5], [-5, -8]], F32)
    cover = rasterise(points, np.ones(3, F32), np.array([[0, 1, 2]], np.int32), 8, 8)
    assert len(cover.pixel) == 0
    assert interpolate(points, np.array([[0, 1, 2]], np.int32), cover).shape == (0, 2)
