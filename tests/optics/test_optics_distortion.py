"""Distortion against OpenCV and conservation of light."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from optics import OpticsError
from optics.imaging import BrownConrady, DistortionWarp

EXACT = {torch.float64: 1e-12, torch.float32: 1e-6}
ADJOINT = 1e-10
# What bilinear values may change of the light of a small spot.
LIGHT = 3e-3
# How far, in pixels, the curvature of the map moves the centre of a spot of 1 pixel RMS (with the square of its size).
CENTRE = 0.005

MODELS = [
    BrownConrady(k1=-0.25, k2=0.08, k3=-0.01),
    BrownConrady(k1=0.1, p1=0.01, p2=-0.02),
    BrownConrady(k1=-0.1, k2=0.05, k3=0.002, p1=-0.004, p2=0.006),
    BrownConrady(),
]


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coefficients(model: BrownConrady) -> np.ndarray:
    """In OpenCV's order."""
    return np.array([model.k1, model.k2, model.p1, model.p2, model.k3])


@pytest.mark.parametrize("model", MODELS)
def test_forward_map_is_that_of_opencv(model: BrownConrady) -> None:
    points = rand(50, 2) - 0.5
    space = np.concatenate([points.numpy(), np.ones((50, 1))], axis=1)
    theirs = cv2.projectPoints(space, np.zeros(3), np.zeros(3), np.eye(3), coefficients(model))[0].reshape(50, 2)
    assert np.abs(model.distort(points).numpy() - theirs).max() < EXACT[torch.float64]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", EXACT)
def test_inverse_returns_and_float32_is_near(model: BrownConrady, dtype: torch.dtype) -> None:
    points = torch.cat([rand(7, 50, 2) - 0.5, torch.zeros(7, 1, 2, dtype=torch.float64)], dim=1)
    back = model.undistort(model.distort(points.to(dtype)))
    assert back.dtype == dtype
    assert (back - points).abs().max() < EXACT[dtype]


def test_positive_k1_moves_outwards() -> None:
    point = torch.tensor([0.3, -0.4], dtype=torch.float64)
    assert BrownConrady(k1=0.1).distort(point).tolist() == pytest.approx([0.3 * 1.025, -0.4 * 1.025])


def test_jacobian_and_gradient_of_the_inverse() -> None:
    points, model = (rand(4, 2) - 0.5).requires_grad_(), MODELS[2]
    numeric = torch.autograd.functional.jacobian(lambda p: model.distort(p).sum(dim=0), points).movedim(1, 0)
    assert (model.jacobian(points.detach()) - numeric).abs().max() < EXACT[torch.float64]
    assert torch.autograd.gradcheck(model.undistort, (points,))


def test_a_point_beyond_the_fold_is_refused() -> None:
    # x (1 - x^2) has its largest value 0.3849 at 0.577.
    model = BrownConrady(k1=-1.0)
    inside = torch.tensor([[0.384, 0.0], [0.0, -0.3]], dtype=torch.float64)
    assert (model.distort(model.undistort(inside)) - inside).abs().max() < EXACT[torch.float64]
    with pytest.raises(OpticsError, match=r"1 points from the radius 0\.386 on are images of no point .*k1=-1\.0"):
        model.undistort(torch.tensor([[0.386, 0.0], [0.1, 0.1]], dtype=torch.float64))


@pytest.mark.parametrize("model", MODELS)
def test_straightened_picture_is_that_of_opencv(model: BrownConrady) -> None:
    height, width, focal = 60, 80, 90.0
    picture = cv2.GaussianBlur(np.random.default_rng(0).random((height, width)).astype(np.float32), (0, 0), 2)
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    maps = cv2.initUndistortRectifyMap(camera, coefficients(model), None, camera, (width, height), cv2.CV_32FC1)
    theirs = cv2.remap(picture, maps[0], maps[1], cv2.INTER_LINEAR)
    warp = DistortionWarp(model, height, width, focal, correct=True, dtype=torch.float64)
    ours = (warp(torch.from_numpy(picture).double()[None, None])[0, 0] / warp.density).numpy()
    inside = (slice(6, -6), slice(6, -6))
    # OpenCV keeps places to 1/32 of a pixel.
    assert np.abs(ours - theirs)[inside].max() < np.abs(np.gradient(picture)).max() / 32


def blob(height: int, width: int, y: float, x: float, size: float) -> torch.Tensor:
    rows, columns = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    spot = torch.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
    return spot[None, None] / (2 * torch.pi * size**2)


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("model", MODELS[:3])
@pytest.mark.parametrize("size", [3.0, 6.0])
def test_light_is_conserved_and_lands_where_the_map_says(model: BrownConrady, correct: bool, size: float) -> None:
    height, width, focal = 120, 160, 150.0
    out = DistortionWarp(model, height, width, focal, correct=correct, dtype=torch.float64)(
        blob(height, width, 82.0, 107.0, size)
    )[0, 0]
    assert float(out.sum()) == pytest.approx(1, abs=LIGHT)
    out = out / out.sum()
    ideal = torch.tensor([(107 - 79.5) / focal, (82 - 59.5) / focal], dtype=torch.float64)
    x, y = (model.undistort(ideal) if correct else model.distort(ideal)).tolist()
    rows, columns = torch.arange(120, dtype=torch.float64), torch.arange(160, dtype=torch.float64)
    assert float((out.sum(dim=0) * columns).sum()) == pytest.approx(79.5 + x * focal, abs=CENTRE * size**2)
    assert float((out.sum(dim=1) * rows).sum()) == pytest.approx(59.5 + y * focal, abs=CENTRE * size**2)


def test_an_even_scene_thins_out_where_the_image_is_stretched() -> None:
    focal = 50.0
    out = DistortionWarp(BrownConrady(k1=0.2), 61, 61, focal, dtype=torch.float64)(torch.ones(1, 1, 61, 61).double())
    # On the axis nothing moves; at the distorted radius r (1 + k r^2) areas grow by (1 + k r^2)(1 + 3 k r^2).
    assert float(out[0, 0, 30, 30]) == pytest.approx(1)
    distorted = 20 / focal
    r = float(min(np.roots([0.2, 0, 1, -distorted]), key=lambda root: abs(root.imag)).real)
    assert float(out[0, 0, 30, 50]) == pytest.approx(1 / ((1 + 0.2 * r**2) * (1 + 0.6 * r**2)))


def test_no_distortion_changes_nothing_and_there_and_back_is_near() -> None:
    images = rand(2, 3, 20, 31)
    assert (DistortionWarp(BrownConrady(), 20, 31, 40.0, dtype=torch.float64)(images) - images).abs().max() < 1e-12
    picture = blob(80, 100, 30.0, 60.0, 5.0)
    there, back = (DistortionWarp(MODELS[0], 80, 100, 110.0, correct=c, dtype=torch.float64) for c in (False, True))
    assert (back(there(picture)) - picture).abs().max() < 0.02 * float(picture.max())
    assert (there.float()(picture.float()) - there.double()(picture)).abs().max() < EXACT[torch.float32]


def test_adjoint_by_autograd() -> None:
    warp = DistortionWarp(MODELS[1], 12, 14, 20.0, dtype=torch.float64)
    x, y = rand(1, 2, 12, 14).requires_grad_(), rand(1, 2, 12, 14, seed=1)
    (adjoint,) = torch.autograd.grad((warp(x) * y).sum(), x)
    z = rand(1, 2, 12, 14, seed=2)
    assert float((warp(z) * y).sum()) == pytest.approx(float((z * adjoint).sum()), rel=ADJOINT)


def test_refusals() -> None:
    with pytest.raises(OpticsError, match="k2=inf must be a finite number"):
        BrownConrady(k2=float("inf"))
    with pytest.raises(OpticsError, match="height=0 and width=4 must be at least 1"):
        DistortionWarp(MODELS[0], 0, 4, 10.0)
    with pytest.raises(OpticsError, match="focal_px=0 must be a positive number of pixels"):
        DistortionWarp(MODELS[0], 4, 4, 0)
    with pytest.raises(OpticsError, match="folds over within the frame of 30 x 30 pixels"):
        DistortionWarp(BrownConrady(k1=-2.0), 30, 30, 20.0, correct=True)
    with pytest.raises(OpticsError, match=r"images has shape \(1, 4, 5\); \(N, C, 4, 5\) is needed"):
        DistortionWarp(MODELS[3], 4, 5, 9.0)(rand(1, 4, 5))
