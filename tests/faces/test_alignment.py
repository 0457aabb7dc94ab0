"""Alignment against independent closed forms and OpenCV; orientation pinned."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from faces.alignment import TEMPLATE_112, align, similarity, template
from faces.errors import FacesError


def _umeyama_svd(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Umeyama 1991, eqs. 38-42, by singular value decomposition: the 2 x 3 matrix."""
    s, t = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / s.var(0).sum()
    return np.hstack([scale * rotation, (target.mean(0) - scale * rotation @ source.mean(0))[:, None]])


@pytest.mark.parametrize("mirrored", [False, True])
def test_similarity_equals_umeyama_by_svd(mirrored: bool) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((2, 6, 5, 2)) * 20 + 50
    if mirrored:  # the best similarity without reflection is not the trivial one here
        source[..., 0] *= -1
    a, b = similarity(torch.from_numpy(source), torch.from_numpy(target))
    for k in range(6):
        expected = _umeyama_svd(source[k], target[k])
        found = np.array([[a[k].real, -a[k].imag, b[k].real], [a[k].imag, a[k].real, b[k].imag]])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_similarity_recovers_a_known_turn_and_scale() -> None:
    source = torch.tensor(TEMPLATE_112, dtype=torch.float64)
    turn = torch.polar(torch.tensor(1.7, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64))
    shift = torch.complex(torch.tensor(5.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64))
    target = torch.view_as_real(torch.view_as_complex(source) * turn + shift)
    a, b = similarity(source, target)
    assert abs(complex(a - turn)) < 1e-12
    assert abs(complex(b - shift)) < 1e-12


def test_points_on_the_template_leave_the_image_alone() -> None:
    image = torch.rand(1, 3, 112, 112, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = torch.tensor(TEMPLATE_112, dtype=torch.float64)[None]
    torch.testing.assert_close(align(image, points), image, rtol=0, atol=1e-9)


def test_agrees_with_opencv_on_turned_faces() -> None:
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.random((90, 130, 3)), (0, 0), 3)
    points = np.array([[50, 30], [78, 36], [60, 50], [46, 62], [70, 68]], dtype=np.float64)
    matrix = _umeyama_svd(points, np.array(TEMPLATE_112))
    expected = cv2.warpAffine(image, matrix, (112, 112), flags=cv2.INTER_LINEAR)
    found = align(torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(points)[None])[0].permute(1, 2, 0)
    # OpenCV rounds positions to 1/32 pixel; leave out the border, where that flips inside and outside.
    inside = cv2.warpAffine(np.ones((90, 130)), matrix, (112, 112)) > 0.999
    inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert inside.mean() > 0.4
    assert np.abs(found.numpy() - expected)[inside].max() < 0.005


def test_any_template_can_be_the_target() -> None:
    # Where the points lie already is a template under which nothing moves; with it shifted, the crop shifts.
    image = torch.rand(1, 2, 30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    points = torch.tensor([[8.0, 9], [21, 8], [15, 14], [10, 22], [19, 21]], dtype=torch.float64)
    torch.testing.assert_close(align(image, points[None], 30, points), image, rtol=0, atol=1e-9)
    found = align(image, points[None], 20, points - torch.tensor([5.0, 3.0]))
    torch.testing.assert_close(found, image[:, :, 3:23, 5:25], rtol=0, atol=1e-9)


def test_orientation_is_x_right_y_down_and_image_left_eye_first() -> None:
    # One bright pixel in the image's upper left; a face of the template's size shifted by (+10, +20).
    image = torch.zeros(1, 1, 160, 160)
    image[0, 0, 25, 13] = 1
    points = torch.tensor(TEMPLATE_112)[None] + torch.tensor([10.0, 20.0])
    found = align(image, points)
    assert float(found[0, 0, 5, 3]) == pytest.approx(1, abs=1e-4)
    assert TEMPLATE_112[0][0] < TEMPLATE_112[1][0]
    assert TEMPLATE_112[0][1] < TEMPLATE_112[3][1]
    # A head tilted clockwise on the screen (image-right eye lower) is turned back.
    assert (
        float(torch.angle(similarity(torch.tensor([[0.0, 0.0], [10.0, 2.0]]), torch.tensor([[0.0, 0], [1, 0]]))[0])) < 0
    )


def test_smaller_crops_cover_the_same_field() -> None:
    torch.testing.assert_close((template(56) + 0.5) * 2 - 0.5, template(112))
    ramp = torch.linspace(0, 1, 112, dtype=torch.float64).expand(1, 1, 112, 112)
    points = torch.tensor(TEMPLATE_112, dtype=torch.float64)[None]
    half = align(ramp, points, 56)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(ramp, 2), rtol=0, atol=1e-9)


def test_gradients_pass_to_images_and_points() -> None:
    gen = torch.Generator().manual_seed(2)
    image = torch.rand(2, 1, 12, 12, dtype=torch.float64, generator=gen, requires_grad=True)
    points = (template(12)[None] + torch.rand(2, 5, 2, dtype=torch.float64, generator=gen)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x, p: align(x, p, 6), (image, points), eps=1e-7, atol=1e-5)


def test_each_face_of_a_batch_has_its_own_transform() -> None:
    gen = torch.Generator().manual_seed(3)
    images = torch.rand(3, 2, 40, 40, generator=gen)
    points = template(40)[None].float() + 4 * torch.rand(3, 5, 2, generator=gen)
    together = align(images, points, 20)
    for k in range(3):
        torch.testing.assert_close(together[k], align(images[k : k + 1], points[k : k + 1], 20)[0])


def test_bad_input_is_refused() -> None:
    image, points = torch.zeros(1, 1, 8, 8), torch.tensor(TEMPLATE_112)[None]
    with pytest.raises(FacesError, match=r"unknown \(NaN\)"):
        align(image, points * math.nan)
    with pytest.raises(FacesError, match="all five points of a face coincide"):
        align(image, torch.ones(1, 5, 2))
    with pytest.raises(FacesError, match=r"points of shape \(1, 5, 2\), got \(2, 5, 2\)"):
        align(image, points.repeat(2, 1, 1))
    with pytest.raises(FacesError, match="floating-point images"):
        align(image.byte(), points)
    with pytest.raises(FacesError, match="at least 1 pixel, got 0"):
        align(image, points, 0)
