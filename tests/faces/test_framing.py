"""Framing: the spread of size and place that faces have in their frames, measured and drawn again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from faces.detection import FaceDetector
from faces.errors import FacesError
from faces.folders import load_folder
from faces.framing import ALIGNED, FRAME_POINTS, Framing, Placement, crop_face, placements
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


def test_what_is_drawn_has_the_mean_and_the_covariance_that_were_measured() -> None:
    rng = np.random.default_rng(0)
    mixing = np.array([[0.06, 0, 0], [0.01, 0.04, 0], [0.02, -0.01, 0.03]])
    rows = np.array([0.02, 0.01, -0.03]) + rng.standard_normal((4000, 3)) @ mixing.T
    framing = Framing.of(torch.stack([_points(float(np.exp(size)), x, y) for size, x, y in rows]), SIDE)
    drawn = [framing.draw(f"picture {k}".encode()) for k in range(4000)]
    found = np.array([(np.log(place.size), *place.offset) for place in drawn])
    np.testing.assert_allclose(found.mean(0), rows.mean(0), atol=0.003)
    np.testing.assert_allclose(found.std(0), rows.std(0), rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(found.T), np.corrcoef(rows.T), atol=0.06)
    assert framing.draw(b"picture 7") == drawn[7]
    assert ALIGNED.draw(b"picture 7") == Placement()


def test_photographs_get_the_spread_of_the_heads(
    tmp_path: Path, yunet_weights: Path, face_mesh_weights: Path, face_landmark_weights: Path
) -> None:
    heads = generate(12, 4, size=SIDE, seed=3)
    framing = Framing.of(five_points(heads.landmarks), SIDE)
    pictures = generate(8, 4, size=144, seed=4)
    for image, person, capture in zip(pictures.images, pictures.identity, pictures.capture, strict=True):
        file = tmp_path / str(int(person)) / f"{int(capture)}.png"
        file.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(file), image.permute(1, 2, 0).numpy()[..., ::-1])
    loaded = load_folder(tmp_path, SIDE, detector=FaceDetector(yunet_weights), truth=LandmarkTruth(), framing=framing)
    found, wanted = (placements(points, SIDE) for points in (loaded.points5, five_points(heads.landmarks)))
    np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=3 * wanted.std(0).max() / np.sqrt(len(found)))
    assert bool((found.std(0) > 0.6 * wanted.std(0)).all())
    assert bool((found.std(0) < 1.5 * wanted.std(0)).all())
    # The same pictures in another folder stand where they stood.
    (tmp_path / "0").rename(tmp_path / "9")
    again = load_folder(tmp_path, SIDE, detector=FaceDetector(yunet_weights), truth=LandmarkTruth(), framing=framing)
    assert set(map(tuple, again.points5.flatten(1).tolist())) == set(map(tuple, loaded.points5.flatten(1).tolist()))


def test_a_framing_needs_several_faces_that_vary() -> None:
    with pytest.raises(FacesError, match="at least 8 faces, got 3"):
        Framing.of(torch.stack([_points(1, 0, 0)] * 3), SIDE)
    with pytest.raises(FacesError, match="no spread can be measured"):
        Framing.of(torch.stack([_points(1, 0, 0)] * 9), SIDE)
