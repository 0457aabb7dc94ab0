"""The second detector: on rendered heads, and its choice among boxes by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from faces.errors import FacesError
from faces.face_api import LandmarkNet68, load_landmark_net
from faces.samples import FaceSet, five_points, interocular
from faces.synthetic import generate
from faces.tiny_detector import TinyFaceDetector, TinyYolo, load_tiny_yolo, strongest


@pytest.fixture(scope="module")
def detector(tiny_detector_weights: Path, face_landmark_weights: Path) -> TinyFaceDetector:
    return TinyFaceDetector(load_tiny_yolo(tiny_detector_weights), load_landmark_net(face_landmark_weights))


@pytest.fixture(scope="module")
def heads() -> FaceSet:
    return generate(8, 1, size=128, seed=9)


def _pixels(heads: FaceSet, index: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(heads.images[index].permute(1, 2, 0).numpy())


def test_points_lie_on_the_true_ones(detector: TinyFaceDetector, heads: FaceSet) -> None:
    truth, unit = five_points(heads.landmarks), interocular(heads.landmarks)
    errors = []
    for index in range(len(heads)):
        for face in detector.detect(_pixels(heads, index))[:1]:
            assert 0.5 < face.score <= 1
            assert face.box.shape == (4,)
            errors.append(float((torch.from_numpy(face.points5) - truth[index]).norm(dim=1).mean() / unit[index]))
            middle = face.box[:2] + face.box[2:] / 2
            assert float(np.abs(middle - truth[index].mean(0).numpy()).max()) < float(unit[index])
    assert len(errors) >= 7
    assert np.median(errors) < 0.08


def test_places_follow_the_face_across_a_wide_image(detector: TinyFaceDetector, heads: FaceSet) -> None:
    canvas = np.full((128, 300, 3), 128, np.uint8)
    canvas[:, 160:288] = _pixels(heads, 0)
    alone, beside = detector.detect(_pixels(heads, 0)), detector.detect(canvas)
    assert len(alone) == len(beside) == 1
    unit = float(interocular(heads.landmarks)[0])
    assert np.linalg.norm(beside[0].points5 - alone[0].points5 - [160, 0], axis=1).mean() < 0.1 * unit


def test_two_faces_come_largest_first(detector: TinyFaceDetector, heads: FaceSet) -> None:
    canvas = np.full((256, 384, 3), 128, np.uint8)
    canvas[:, 128:] = np.kron(_pixels(heads, 2), np.ones((2, 2, 1), np.uint8))
    canvas[64:192, :128] = _pixels(heads, 0)
    found = detector.detect(canvas)
    assert len(found) == 2
    assert found[0].points5[:, 0].min() > 128 > found[1].points5[:, 0].max()


def test_images_without_a_face_give_nothing(detector: TinyFaceDetector) -> None:
    assert detector.detect(np.full((90, 60, 3), 100, np.uint8)) == []
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []


def test_of_overlapping_boxes_the_strongest_remains() -> None:
    # Against the first box: the second shares 80 of 120 (.67: dropped), the third 50 of 150 (.33: kept).
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 10, 10], [5, 0, 10, 10], [40, 0, 10, 10], [60, 0, 10, 10]])
    scores = torch.tensor([0.8, 0.7, 0.6, 0.9, 0.2])
    assert strongest(boxes, scores, 0.5).tolist() == [3, 0, 2]
    assert strongest(boxes, scores, 0.95).tolist() == []


def test_bad_input_is_refused() -> None:
    with pytest.raises(FacesError, match="0 < threshold < 1, got 1"):
        TinyFaceDetector(TinyYolo(), LandmarkNet68(), threshold=1)
    with pytest.raises(FacesError, match=r"\(H, W, 3\) uint8 RGB images, got \(8, 8\)"):
        TinyFaceDetector(TinyYolo(), LandmarkNet68()).detect(np.zeros((8, 8), np.uint8))
