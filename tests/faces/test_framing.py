"""Framing: the spread of size and place that faces have in their frames, measured and drawn again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from faces.detection import FaceDetector
from faces.errors import FacesError
from faces.face_api import load_landmark_net
from faces.face_mesh import load_face_mesh
from faces.folders import load_folder
from faces.framing import ALIGNED, FRAME_POINTS, HEADS, Framing, Placement, crop_face, fit, placements, pose
from faces.samples import five_points
from faces.synthetic import generate
from faces.truth import LandmarkTruth

SIDE = 64


def _points(size: float, x: float, y: float) -> torch.Tensor:
    """Five points of a head that is so large and stands so far off, by the definition of a placement."""
    unit = torch.tensor(FRAME_POINTS, dtype=torch.float64)
    return ((unit - unit.mean(0)) * size + unit.mean(0) + torch.tensor([x, y])) * SIDE - 0.5


def test_a_placement_is_read_off_as_it_was_made() -> None:
    made = [(1.0, 0.0, 0.0), (1.2, 0.05, -0.02), (0.8, -0.1, 0.07)]
    found = placements(torch.stack([_points(*one) for one in made]), SIDE)
    np.testing.assert_allclose(found, [(np.log(size), x, y) for size, x, y in made], atol=1e-9)


def test_a_face_is_cut_to_the_place_it_should_have() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    points = (_points(1.0, 0.0, 0.0).numpy() * 3 + 40).astype(np.float32)
    place = Placement(1.15, (0.06, -0.04))
    _, inner, _ = crop_face(image, points, SIDE, place)
    found = placements(torch.from_numpy(inner)[None], SIDE)[0]
    np.testing.assert_allclose(found, [np.log(1.15), 0.06, -0.04], atol=1e-5)


def _face(across: float, along: float) -> torch.Tensor:
    """Five points of an upright face, 100 pixels wide, whose nose tip lies so far across and along."""
    eyes, down = 30.0, 40.0
    nose = [across * float(np.hypot(eyes, down)), along * down]
    return torch.tensor([[-15.0, 0.0], [15.0, 0.0], nose, [-12.0, down], [12.0, down]], dtype=torch.float64)


def test_pose_by_hand() -> None:
    upright = _face(0.1, 0.6)
    quarter = torch.stack([-upright[:, 1], upright[:, 0]], dim=-1)  # a head that lies on its side has the same pose
    np.testing.assert_allclose(pose(torch.stack([upright, 3 * quarter + 7])), [[0.1, 0.6]] * 2, atol=1e-12)


def test_what_is_drawn_follows_the_laws_that_were_measured() -> None:
    rng = np.random.default_rng(0)
    mixing = np.array([[0.06, 0, 0], [0.01, 0.04, 0], [0.02, -0.01, 0.03]])
    poses = np.array([0, 0.55]) + rng.standard_normal((4000, 2)) * [0.1, 0.08]
    laws = np.array([[0.0, 0.2], [0.9, 0.0], [0.0, 0.3]])
    rows = np.array([0.02, 0.01, -0.03]) + poses @ laws.T + rng.standard_normal((4000, 3)) @ mixing.T
    faces = [_face(*one).float().numpy() for one in poses]
    framed = []
    for face, (size, x, y) in zip(faces, rows, strict=True):
        scale, shift = fit(face, SIDE, Placement(float(np.exp(size)), (x, y)))
        framed.append(torch.from_numpy(face * scale + shift))
    framing = Framing.of(torch.stack(framed), SIDE)
    np.testing.assert_allclose(framing.turned, laws, atol=0.03)
    drawn = [framing.draw(face, f"picture {k}".encode()) for k, face in enumerate(faces)]
    found = np.array([(np.log(place.size), *place.offset) for place in drawn])
    np.testing.assert_allclose(found.mean(0), rows.mean(0), atol=0.005)
    np.testing.assert_allclose(found.std(0), rows.std(0), rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(found.T), np.corrcoef(rows.T), atol=0.06)
    assert framing.draw(faces[7], b"picture 7") == drawn[7]
    assert ALIGNED.draw(faces[7], b"picture 7") == Placement()


def test_the_framing_of_heads_is_that_of_the_generator() -> None:
    side = 32
    heads = generate(24, 3, size=side, seed=12)
    found = Framing.of(five_points(heads.landmarks), side)
    # 72 heads: the widths are known to about 8 %, and each person's three heads are alike in size and height.
    np.testing.assert_allclose(np.diag(found.axes), np.diag(HEADS.axes), rtol=0.3)
    assert found.turned[1][0] == pytest.approx(HEADS.turned[1][0], abs=0.12)
    points = five_points(heads.landmarks)
    drawn = [HEADS.draw(face.numpy(), str(k).encode()) for k, face in enumerate(points)]
    sizes = np.log([place.size for place in drawn])
    rows = placements(points, side)
    assert abs(sizes.mean() - rows[:, 0].mean()) < 0.04
    offsets = np.array([place.offset for place in drawn])
    np.testing.assert_allclose(offsets.mean(0), rows[:, 1:].mean(0), atol=0.03)
    np.testing.assert_allclose(offsets.std(0), rows[:, 1:].std(0), rtol=0.3)


def test_photographs_get_the_places_of_heads(
    tmp_path: Path, yunet_weights: Path, face_mesh_weights: Path, face_landmark_weights: Path
) -> None:
    pictures = generate(4, 3, size=128, seed=4)
    for image, person, capture in zip(pictures.images, pictures.identity, pictures.capture, strict=True):
        file = tmp_path / str(int(person)) / f"{int(capture)}.png"
        file.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(file), image.permute(1, 2, 0).numpy()[..., ::-1])
    truth = LandmarkTruth(load_face_mesh(face_mesh_weights), load_landmark_net(face_landmark_weights))
    loaded = load_folder(tmp_path, SIDE, detector=FaceDetector(yunet_weights), truth=truth, framing=HEADS)
    found = placements(loaded.points5, SIDE)
    # What is left when the laws of the pose are taken off is the drawn part, within two and a half of its widths.
    law = np.array(HEADS.mean) + pose(loaded.points5) @ np.array(HEADS.turned).T
    drawn = np.linalg.solve(np.array(HEADS.axes), (found - law).T).T
    assert bool((np.abs(drawn) < 2.55).all())
    assert bool((drawn.std(0) > 0.4).all())
    assert bool((drawn.std(0) < 1.8).all())


def test_a_framing_needs_several_faces_that_vary() -> None:
    with pytest.raises(FacesError, match="at least 8 faces, got 3"):
        Framing.of(torch.stack([_points(1, 0, 0)] * 3), SIDE)
    with pytest.raises(FacesError, match="no spread can be measured"):
        Framing.of(torch.stack([_points(1, 0, 0)] * 9), SIDE)
