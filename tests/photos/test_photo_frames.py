"""Frames of faces: where they are found, and how protected ones go back into the photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from faces.detection import FaceDetector
from faces.errors import FacesError
from faces.framing import FRAME_POINTS, crop_face
from faces.synthetic import generate
from photos import frames as photo_faces
from photos.finding import find_faces
from photos.frames import Frame, Pixels, cut_frame, eye_distance, paste, smallest_eye_distance

POINTS = np.array(FRAME_POINTS)


@pytest.fixture(scope="module")
def head() -> Pixels:
    """A synthetic head of 256 pixels."""
    return np.ascontiguousarray(generate(1, 1, size=256, seed=40).images[0].permute(1, 2, 0).numpy())


def _noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _frame(pixels: Pixels, scale: float, left: float = 0.0, top: float = 0.0) -> Frame:
    """A frame whose corner lies at (left, top) of the photo, in edges."""
    shift = scale * (0.5 - np.array([left, top])) - 0.5
    return Frame(pixels, (POINTS * len(pixels) - 0.5).astype(np.float32), scale, shift)


@pytest.mark.parametrize("px", [112, 224])
def test_frame_is_that_of_the_evaluation(px: int) -> None:
    photo = np.kron(_noise(50, 70), np.ones((10, 10, 1), np.uint8))
    points = (POINTS * 300 + [180, 90]).astype(np.float32)
    points[3] += (4, -3)
    frame = cut_frame(photo, points, px)
    pixels, inside, _ = crop_face(photo, points, px)
    # OpenCV interpolates at multiples of 1/32 pixel, which begin elsewhere in a part of the photo.
    assert float((np.abs(frame.pixels.astype(int) - pixels) <= 8).mean()) > 0.99
    assert np.allclose(frame.points5, inside, atol=1e-4)
    assert np.allclose(frame.scale * points + frame.shift, inside, atol=1e-3)


def test_small_faces_are_refused_from_the_stated_size() -> None:
    photo = _noise(200, 200)
    for px in (112, 224):
        limit = smallest_eye_distance(px)
        fits = (POINTS - 0.5) * (limit * 1.01 / 0.265) + 100
        assert eye_distance(fits.astype(np.float32)) == pytest.approx(1.01 * limit, rel=1e-4)
        assert cut_frame(photo, fits.astype(np.float32), px).scale == pytest.approx(2 / 1.01, rel=1e-4)
        with pytest.raises(FacesError, match="too small"):
            cut_frame(photo, ((POINTS - 0.5) * (limit * 0.99 / 0.265) + 100).astype(np.float32), px)
    assert smallest_eye_distance(112) == pytest.approx(14.84)


@pytest.mark.parametrize("factor", [1, 3, 4])
def test_replaced_faces_are_enlarged_linearly(factor: int) -> None:
    after = _noise(20, 20, seed=2)
    photo = _noise(20 * factor, 20 * factor)
    photo = paste(photo, [_frame(_noise(20, 20), 1 / factor)], [after], additive=False)
    wanted = interpolate(torch.from_numpy(after).permute(2, 0, 1)[None].double(), scale_factor=factor, mode="bilinear")[
        0
    ]
    assert np.abs(photo - wanted.permute(1, 2, 0).numpy()).max() <= 0.51


def test_frames_finer_than_the_photo_are_averaged() -> None:
    after = _noise(40, 40, seed=2)
    photo = _noise(20, 20)
    photo = paste(photo, [_frame(_noise(40, 40), 2.0)], [after], additive=False)
    wanted = interpolate(
        torch.from_numpy(after).permute(2, 0, 1)[None].double(), size=20, mode="bilinear", antialias=True
    )[0]
    assert np.abs(photo - wanted.permute(1, 2, 0).numpy()).max() <= 0.51


@pytest.mark.parametrize("scale", [0.11, 0.7, 1.0, 1.9])
def test_added_patterns_keep_their_budget_and_the_detail(scale: float) -> None:
    before = _noise(40, 40, seed=1)
    pattern = np.random.default_rng(3).choice([-8, 8], (40, 40, 3))
    after = np.clip(before.astype(int) + pattern, 0, 255).astype(np.uint8)
    photo = _noise(400, 300)
    kept = photo.copy()
    frame = _frame(before, scale, left=20.3, top=11.9)
    result = paste(photo, [frame], [after], additive=True)
    assert np.array_equal(photo, kept)
    change = result.astype(int) - photo
    assert 1 <= np.abs(change).max() <= 8
    top, bottom, left, right = frame.window(photo.shape)
    outside = np.ones(photo.shape[:2], dtype=bool)
    outside[top:bottom, left:right] = False
    assert not change[outside].any()
    side = 40 / scale
    assert (right - left, bottom - top) == pytest.approx((min(side, 279.7), min(side, 388.1)), abs=1.1)


def test_work_in_bands_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [_frame(_noise(30, 30, 1), 0.21), _frame(_noise(30, 30, 2), 0.3, left=70, top=40)]
    after = [_noise(30, 30, 3), _noise(30, 30, 4)]
    whole = paste(_noise(150, 180), frames, after, additive=False)
    monkeypatch.setattr(photo_faces, "BAND_PIXELS", 500)
    bands = paste(_noise(150, 180), frames, after, additive=False)
    # Sums of other lengths may round a half the other way.
    assert np.abs(whole.astype(int) - bands).max() <= 1
    assert float((whole == bands).mean()) > 0.999


def test_a_turned_view_gives_the_same_as_the_photo_it_shows() -> None:
    stored = _noise(60, 90)
    frame, after = _frame(_noise(30, 30, 1), 0.6, left=15, top=9), _noise(30, 30, 2)
    view = np.rot90(stored)
    pasted = paste(view, [frame], [after], additive=False)
    assert np.array_equal(pasted, paste(np.ascontiguousarray(view), [frame], [after], additive=False))
    assert np.array_equal(stored, _noise(60, 90))


def _turned(pixels: Pixels, points: np.ndarray, turns: int) -> tuple[Pixels, np.ndarray]:
    """A photo and its points after quarter turns counter-clockwise, one at a time."""
    for _ in range(turns % 4):
        # A point at x from the left is afterwards x from the lower edge.
        points = np.stack([points[:, 1], pixels.shape[1] - 1 - points[:, 0]], axis=1)
        pixels = np.ascontiguousarray(np.rot90(pixels))
    return pixels, points.astype(np.float32)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("additive", [False, True])
def test_a_turned_face_has_the_frame_of_an_upright_one_and_goes_back_where_it_was(turns: int, additive: bool) -> None:
    photo = np.kron(_noise(30, 44), np.ones((10, 10, 1), np.uint8))
    points = (POINTS * 200 + [130, 70]).astype(np.float32)
    upright = cut_frame(photo, points, 112)
    turned_photo, turned_points = _turned(photo, points, turns)
    frame = cut_frame(turned_photo, turned_points, 112)
    assert frame.turns == -turns % 4
    # OpenCV interpolates at multiples of 1/32 pixel, which begin elsewhere in a part of the photo.
    assert float((np.abs(frame.pixels.astype(int) - upright.pixels) <= 8).mean()) > 0.99
    assert np.allclose(frame.points5, upright.points5, atol=0.02)
    after = np.clip(upright.pixels.astype(int) + np.arange(112)[:, None, None] // 8, 0, 255).astype(np.uint8)
    wanted, _ = _turned(paste(photo, [upright], [after], additive=additive), points, turns)
    got = paste(turned_photo, [frame], [after], additive=additive)
    near = np.abs(got.astype(int) - wanted) <= (8 if additive else 1)
    assert float(near.mean()) > 0.99


@pytest.mark.parametrize("swapped", [False, True])
def test_neighbours_share_an_overlap_by_the_nearer_centre_in_face_sizes(swapped: bool) -> None:
    # Frames of 60 and 30 pixels, centres 40 apart: the border lies where distances are as 2 to 1.
    grey = np.full((30, 30, 3), 100, np.uint8)
    frames = [_frame(grey, 0.5, left=10, top=10), _frame(grey, 1.0, left=65, top=25)]
    after = [grey + 20, grey + 50]
    if swapped:
        frames, after = frames[::-1], after[::-1]
    photo = np.full((80, 120, 3), 100, np.uint8)
    photo = paste(photo, frames, after, additive=True)
    row = photo[40, :, 0]
    assert set(np.unique(photo)) == {100, 120, 150}
    assert row[10:66].tolist() == [120] * 56  # centre of the large one at 39.5, border at 39.5 + 40 * 2 / 3 = 66.2
    assert row[67:95].tolist() == [150] * 28
    assert (row[9], row[95]) == (100, 100)


def test_small_faces_in_large_photos_are_found_once(yunet_weights: Path, head: Pixels) -> None:
    detector = FaceDetector(yunet_weights)
    photo = np.full((3200, 4600, 3), 90, np.uint8)
    large = np.repeat(np.repeat(head, 6, axis=0), 6, axis=1)
    photo[100 : 100 + len(large), 200 : 200 + len(large)] = large
    small = np.ascontiguousarray(head[::3, ::3])
    # In a corner, and across the border between two tiles.
    for top, left in ((3100, 4500), (2500, 2000)):
        photo[top : top + len(small), left : left + len(small)] = small
    assert len(detector.detect(photo)) == 1
    found = find_faces(detector, photo)
    assert len(found) == 3
    middles = [face.seen.points5.mean(0) for face in found]
    corners = np.array([[200, 100], [4500, 3100], [2000, 2500]])
    sides = np.array([len(large), len(small), len(small)])
    hits = [int(np.nonzero(((corners < m) & (m < corners + sides[:, None])).all(1))[0][0]) for m in middles]
    assert hits[0] == 0
    assert sorted(hits) == [0, 1, 2]
