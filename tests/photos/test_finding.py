"""Where faces are found, and which way up they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from faces.detection import Detection, FaceDetector, UnsureError
from faces.synthetic import generate
from photos.finding import find_again, find_faces
from photos.frames import roll_deg


@pytest.fixture(scope="module")
def detector(yunet_weights: Path) -> FaceDetector:
    return FaceDetector(yunet_weights)


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """(2, 256, 256, 3) synthetic heads."""
    return generate(2, 1, size=256, seed=51).images.permute(0, 2, 3, 1).numpy()


def _turned(pixels: np.ndarray, clockwise_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """A head on a grey photo of 420 pixels, turned about its centre, and the matrix (2, 3) that moves its points."""
    matrix = cv2.getRotationMatrix2D((127.5, 127.5), -clockwise_deg, 1.0)
    matrix[:, 2] += 82
    photo = cv2.warpAffine(pixels, matrix, (420, 420), borderValue=(120, 120, 120))
    return np.ascontiguousarray(photo), matrix


@pytest.mark.parametrize("turn", [0, 45, 90, 180, 270])
def test_a_turned_head_has_the_points_of_the_upright_one(
    detector: FaceDetector, heads: np.ndarray, turn: float
) -> None:
    for head in heads:
        (upright,) = detector.detect(np.ascontiguousarray(head))
        photo, matrix = _turned(head, turn)
        (found,) = find_faces(detector, photo)
        assert found.doubt is None
        wanted = upright.points5 @ matrix[:, :2].T + matrix[:, 2]
        eyes = float(np.linalg.norm(wanted[1] - wanted[0]))
        # The detector's own points scatter by .05 to .2 of the eye distance; those of a wrong turn lie one away.
        assert float(np.linalg.norm(found.seen.points5 - wanted, axis=1).max()) < 0.35 * eyes
        assert abs((found.seen.roll_deg - turn + 180) % 360 - 180) < 15


def test_two_heads_of_one_photo_may_lie_differently(detector: FaceDetector, heads: np.ndarray) -> None:
    photo = np.concatenate([heads[0], np.rot90(heads[1])], axis=1)
    rolls = {
        round(face.seen.points5[:, 0].mean() / 256 - 0.5): face.seen.roll_deg for face in find_faces(detector, photo)
    }
    assert abs(rolls[0]) < 15
    assert abs(rolls[1] + 90) < 15


def test_a_face_is_found_again_where_it_was(detector: FaceDetector, heads: np.ndarray) -> None:
    (face,) = detector.detect(np.ascontiguousarray(heads[0]))
    again = find_again(detector, np.ascontiguousarray(heads[0]), face.points5)
    assert again is not None
    assert np.abs(again - face.points5).max() < 5
    assert find_again(detector, np.full_like(heads[0], 120), face.points5) is None
    assert find_again(detector, np.ascontiguousarray(heads[0]), face.points5 + 150) is None


#: An upright face: eye centres, nose tip, mouth corners.
UPRIGHT = np.array([[-10, -10], [10, -10], [0, 0], [-8, 12], [8, 12]], dtype=np.float32)


def _face(roll: float, score: float) -> Detection:
    turn = np.radians(roll)
    points = UPRIGHT @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).T + 50
    return Detection(np.array([30, 30, 40, 40], np.float32), points.astype(np.float32), score)


class Looks(FaceDetector):
    """A detector that sees a face in some turns, with these scores."""

    def __init__(self, scores: Mapping[int, float]) -> None:
        self._scores = scores
        self.looks = 0

    def look(self, image: np.ndarray, face: Detection, turn_deg: float) -> Detection | None:
        self.looks += 1
        near = round(turn_deg / 45) * 45 % 360
        return _face(near, self._scores[near]) if near in self._scores else None


IMAGE = np.zeros((100, 100, 3), np.uint8)


def test_the_roll_is_clockwise() -> None:
    for roll in (-170, -90, -30, 0, 60, 90, 179):
        assert _face(roll, 0.9).roll_deg == pytest.approx(roll, abs=1e-3)
        assert roll_deg(_face(roll, 0.9).points5) == pytest.approx(roll, abs=1e-3)


def test_a_face_that_is_surely_upright_is_looked_at_once() -> None:
    detector = Looks({0: 0.9, 90: 0.99})
    assert detector.settle(IMAGE, _face(0, 0.93)).roll_deg == pytest.approx(0, abs=1e-3)
    assert detector.looks == 0


@pytest.mark.parametrize(
    ("scores", "roll"),
    [({0: 0.88, 180: 0.95}, 180), ({0: 0.88, 90: 0.87, 45: 0.94}, 45), ({0: 0.80, 180: 0.79}, 0), ({}, 0)],
)
def test_the_turn_in_which_a_face_is_seen_best_counts(scores: dict[int, float], roll: float) -> None:
    assert abs(Looks(scores).settle(IMAGE, _face(0, 0.75)).roll_deg) == pytest.approx(roll, abs=1e-3)


def test_a_turned_face_that_is_seen_as_well_otherwise_is_refused_and_an_upright_one_is_not() -> None:
    with pytest.raises(
        UnsureError, match=r"^which way up the face at \(50, 49\) is cannot be told \(scores 0\.82 and 0\.81\)"
    ):
        Looks({0: 0.81, 180: 0.82}).settle(IMAGE, _face(0, 0.8))
    assert Looks({0: 0.82, 180: 0.81}).settle(IMAGE, _face(0, 0.8)).score == 0.82
