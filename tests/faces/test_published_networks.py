"""Networks with published weights against their publishers' own programs; their parts against hand-worked values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from faces.dlib_resnet import DlibResNet, ResidualBlock, load_dlib_resnet
from faces.errors import FacesError
from faces.face_api import (
    CHIP_POINTS,
    EXPRESSIONS,
    AgeGenderNet,
    ExpressionNet,
    LandmarkNet68,
    chips,
    load_age_gender_net,
    load_expression_net,
    load_landmark_net,
)
from faces.face_mesh import IBUG68, FaceMesh, load_face_mesh
from faces.faceres import FaceRes, load_faceres
from faces.landmarks import mirror_order, nme
from faces.published import SameConv2d, SeparableConv2d, load_network
from faces.samples import FaceSet, five_points, interocular
from faces.synthetic import generate
from faces.tiny_detector import ANCHORS, TinyYolo, load_tiny_yolo

_RECORDED = json.loads(Path(__file__).with_name("published_outputs.json").read_text(encoding="utf-8"))
#: Rounding of seven recorded digits and of sums in another order.
_ATOL = 1e-5


def _picture(size: int) -> torch.Tensor:
    """Smooth colours between 7 and 248, (1, 3, size, size); the recordings were made with this formula."""
    y, x, c = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    u, v = x / size, y / size
    values = 127.5 + 60 * np.sin(9 * u + c) + 60 * np.cos(7 * v - 2 * c + 5 * u * v)
    return torch.from_numpy(values).permute(2, 0, 1)[None].float()


def _recorded(name: str) -> torch.Tensor:
    return torch.tensor(_RECORDED[name])


@pytest.fixture(scope="module")
def heads() -> FaceSet:
    """Six synthetic people, one picture each."""
    return generate(6, 1, size=96, seed=31)


def test_dlib_resnet_agrees_with_the_publishers(dlib_resnet_weights: Path) -> None:
    network = load_dlib_resnet(dlib_resnet_weights)
    with torch.no_grad():
        found, rounded = network(torch.cat([_picture(150), _picture(150).round()]))
    torch.testing.assert_close(found, _recorded("dlib-resnet"), rtol=0, atol=_ATOL)
    # Weights of 8 bits move the vector a little; the threshold of the network is a distance of .6.
    original = _recorded("dlib-original")
    assert float(functional.cosine_similarity(rounded, original, dim=0)) > 0.999
    assert 0.001 < float((rounded - original).norm()) < 0.06


def test_faceres_agrees_with_the_publisher(faceres_weights: Path) -> None:
    expected = torch.zeros(1024)
    for index, value in _RECORDED["faceres"].items():
        expected[int(index)] = value
    with torch.no_grad():
        found = load_faceres(faceres_weights)(_picture(224).flip(1))[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=_ATOL)


def test_age_and_gender_agree_with_the_publisher(age_gender_weights: Path) -> None:
    with torch.no_grad():
        age, gender = load_age_gender_net(age_gender_weights)(_picture(112))
    torch.testing.assert_close(age[0], _recorded("age"), rtol=0, atol=_ATOL)
    torch.testing.assert_close(gender.softmax(1)[0], _recorded("gender"), rtol=0, atol=_ATOL)


def test_expressions_agree_with_the_publisher(face_expression_weights: Path) -> None:
    with torch.no_grad():
        found = load_expression_net(face_expression_weights)(_picture(112)).softmax(1)[0]
    assert len(EXPRESSIONS) == len(found)
    torch.testing.assert_close(found, _recorded("expressions"), rtol=0, atol=_ATOL)


def test_landmarks_agree_with_the_publisher(face_landmark_weights: Path) -> None:
    with torch.no_grad():
        found = load_landmark_net(face_landmark_weights)(_picture(112))[0]
    # The publisher counts from the edges of the chip, in shares of its side.
    torch.testing.assert_close((found + 0.5) / 112, _recorded("landmarks").view(68, 2), rtol=0, atol=_ATOL)


def test_the_mesh_agrees_with_the_publisher(face_mesh_weights: Path) -> None:
    with torch.no_grad():
        points, sure = load_face_mesh(face_mesh_weights)(_picture(192))
    recorded = _RECORDED["face-mesh"]
    found = points[0, [int(index) for index in recorded]]
    # The publisher counts from the edges of the chip; six digits of up to 192 pixels were recorded.
    torch.testing.assert_close(
        found + torch.tensor([0.5, 0.5, 0.0]), torch.tensor(list(recorded.values())), rtol=0, atol=1e-3
    )
    assert float(sure[0]) == pytest.approx(_RECORDED["face-mesh-flag"], abs=_ATOL)


def test_boxes_agree_with_the_publisher(tiny_detector_weights: Path) -> None:
    with torch.no_grad():
        boxes, scores = load_tiny_yolo(tiny_detector_weights)(_picture(416))
    grid = boxes[0].view(13, 13, 5, 4).numpy()
    for cell in _RECORDED["tiny-face-detector"]:
        for anchor, raw in enumerate(np.array(cell["raw"]).reshape(5, 5)):
            # The box of YOLO v2 (Redmon and Farhadi 2017, section 2), in cells of 32 pixels.
            x, y, score = 1 / (1 + np.exp(-raw[[0, 1, 4]]))
            width, height = np.exp(raw[2:4]) * ANCHORS[anchor] * 32
            left = (cell["column"] + x) * 32 - width / 2
            top = (cell["row"] + y) * 32 - height / 2
            expected = [left, top, width, height]
            np.testing.assert_allclose(grid[cell["row"], cell["column"], anchor], expected, rtol=1e-4, atol=1e-2)
            place = (cell["row"] * 13 + cell["column"]) * 5 + anchor
            assert float(scores[0, place]) == pytest.approx(score, abs=_ATOL)


def test_landmarks_lie_on_the_faces_and_follow_a_turn(face_landmark_weights: Path, heads: FaceSet) -> None:
    network = load_landmark_net(face_landmark_weights)
    images, points = heads.images.float(), five_points(heads.landmarks)
    with torch.no_grad():
        found = network.landmarks(images, points)
        assert float(nme(found, heads.landmarks, interocular(heads.landmarks)).median()) < 0.1
        # A quarter turn of image and points: (x, y) -> (y, 95 - x). Its chip is the same, so its landmarks must be.
        turned = torch.rot90(images, 1, (2, 3))
        there = network.landmarks(turned, torch.stack([points[..., 1], 95 - points[..., 0]], -1))
    torch.testing.assert_close(there, torch.stack([found[..., 1], 95 - found[..., 0]], -1), rtol=0, atol=2e-3)


def test_the_mesh_lies_on_the_faces_and_hardly_follows_the_points_that_cut_it(
    face_mesh_weights: Path, heads: FaceSet
) -> None:
    network = load_face_mesh(face_mesh_weights)
    images, points, unit = heads.images.float(), five_points(heads.landmarks), interocular(heads.landmarks)
    generator = torch.Generator().manual_seed(0)
    moved = points + 0.1 * unit[:, None, None] * torch.randn(points.shape, generator=generator)
    with torch.no_grad():
        found, sure = network.landmarks(images, points)
        again, _ = network.landmarks(images, moved)
    assert float(sure.min()) > 0.99
    assert float(nme(five_points(found), points, unit).mean()) < 0.05
    assert float(nme(found, heads.landmarks, unit).mean()) < 0.08
    assert float(nme(five_points(again), five_points(found), unit).mean()) < 0.015
    # The mesh is symmetric: the picture of a mirrored face has the mirrored landmarks.
    mirrored = torch.stack([95 - points[..., 0], points[..., 1]], -1)[:, [1, 0, 2, 4, 3]]
    with torch.no_grad():
        there, _ = network.landmarks(images.flip(-1), mirrored)
    back = torch.stack([95 - there[..., 0], there[..., 1]], -1)[:, list(mirror_order("sixty-eight"))]
    assert float(nme(back, found, unit).mean()) < 0.03
    assert len(set(IBUG68)) == 68


def test_chips_leave_a_face_that_lies_right_alone() -> None:
    image = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    target = torch.tensor(CHIP_POINTS)
    torch.testing.assert_close(chips(image, target[None]), image, rtol=0, atol=1e-4)
    # The template is that of a mirror-symmetric face.
    mirrored = torch.stack([111 - target[..., 0], target[..., 1]], -1)[[1, 0, 2, 4, 3]]
    torch.testing.assert_close(mirrored, target, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [8, 20])
def test_same_padding_by_hand(size: int) -> None:
    # Kernels that pick one tap each show what they see. At stride 2 TensorFlow pads an even map by 1 at the end.
    conv = SameConv2d(1, 9, 3, 2, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(9).view(9, 1, 3, 3))
        image = torch.arange(1.0, size * size + 1).view(1, 1, size, size)
        found = conv(image)[0]
    padded = functional.pad(image[0, 0], (0, 1, 0, 1))
    for tap in range(9):
        torch.testing.assert_close(found[tap], padded[tap // 3 :: 2, tap % 3 :: 2][: size // 2, : size // 2])


def test_residual_block_pads_the_smaller_branch_by_hand() -> None:
    block = ResidualBlock(1, 2, 2)
    with torch.no_grad():
        for conv in (block.conv1, block.conv2):
            conv.weight.zero_()
            assert conv.bias is not None
            conv.bias.zero_()
        block.conv1.weight[:, 0, 0, 0] = 1  # each output cell copies the first pixel of its window
        block.conv2.weight[torch.arange(2), torch.arange(2), 1, 1] = 1
        image = torch.arange(1.0, 17).view(1, 1, 4, 4)
        found = block(image)[0]
    # Shortcut: means over 2 x 2. Branch: one window only, its first pixel 1, padded to 2 x 2 with zeros.
    torch.testing.assert_close(found[0], torch.tensor([[3.5 + 1, 5.5], [11.5, 13.5]]))
    torch.testing.assert_close(found[1], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("build", [DlibResNet, FaceRes, AgeGenderNet, ExpressionNet, LandmarkNet68, TinyYolo, FaceMesh])
def test_gradients_reach_every_weight_and_the_image(build: Any) -> None:
    torch.manual_seed(0)
    network = build()
    batch = (torch.rand(2, 3, *network.input_size) * 255).requires_grad_(True)
    outputs = network(batch)
    total = sum(output.square().sum() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))
    total.backward()
    assert batch.grad is not None
    assert bool(batch.grad.abs().sum(1).any(-1).any(-1).all())
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("build", [DlibResNet, FaceRes, AgeGenderNet, ExpressionNet, LandmarkNet68, TinyYolo, FaceMesh])
def test_other_input_is_refused(build: Any) -> None:
    side = build.input_size[0]
    with pytest.raises(FacesError, match=rf"\(N, 3, {side}, {side}\), got \(1, 3, 64, 64\)"):
        build()(torch.zeros(1, 3, 64, 64))
    with pytest.raises(FacesError, match=r"floating-point images .* of torch\.uint8"):
        build()(torch.zeros(1, 3, side, side, dtype=torch.uint8))


def test_weights_of_another_network_are_refused(
    age_gender_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FacesError, match=r"age-gender\.safetensors does not hold the weights 'faceres'.*fetch faceres"):
        load_faceres(age_gender_weights)
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    with pytest.raises(FacesError, match="optishield weights fetch dlib-resnet"):
        load_network(DlibResNet(), "dlib-resnet")


def test_separable_convolution_is_a_full_one_of_rank_one() -> None:
    torch.manual_seed(0)
    layer = SeparableConv2d(3, 5)
    full = torch.einsum("oi,ihw->oihw", layer.pointwise.weight[:, :, 0, 0], layer.depthwise.weight[:, 0])
    image = torch.rand(2, 3, 7, 7)
    torch.testing.assert_close(layer(image), functional.conv2d(image, full, layer.pointwise.bias, padding=1))
