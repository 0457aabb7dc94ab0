"""Folders of photographs: framing, what is refused, and how that is said."""

from __future__ import annotations

import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from faces.detection import Detection, FaceDetector
from faces.errors import FacesError
from faces.face_api import load_landmark_net
from faces.face_mesh import load_face_mesh
from faces.folders import load_folder
from faces.framing import FRAME_POINTS, crop_face
from faces.landmarks import nme
from faces.samples import FaceSet, five_points, interocular, linear_to_srgb, srgb_to_linear
from faces.splits import split_by_identity
from faces.synthetic import generate
from faces.truth import LandmarkTruth


@pytest.fixture(scope="module")
def heads() -> FaceSet:
    return generate(3, 3, size=128, seed=31)


@pytest.fixture(scope="module")
def detector(yunet_weights: Path) -> FaceDetector:
    return FaceDetector(yunet_weights)


def _write(path: Path, image: np.ndarray | torch.Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else image
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return path


@pytest.fixture
def folder(tmp_path: Path, heads: FaceSet) -> Path:
    """Three people with three photographs each, as PNG."""
    for image, person, capture in zip(heads.images, heads.identity, heads.capture, strict=True):
        _write(tmp_path / "lfw" / f"Person_{'CAB'[int(person)]}" / f"{int(capture):04d}.png", image)
    return tmp_path / "lfw"


def test_people_captures_and_names(folder: Path, detector: FaceDetector) -> None:
    (folder / "Person_A" / "notes.txt").write_text("not a photograph")
    (folder / ".hidden").mkdir()
    ticks: list[tuple[int, int]] = []
    loaded = load_folder(folder, 64, detector=detector, progress=lambda done, total: ticks.append((done, total)))
    faces = loaded.faces
    assert faces.names == ("Person_A", "Person_B", "Person_C")
    assert faces.identity.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert faces.capture.tolist() == [0, 1, 2] * 3
    assert faces.images.shape == (9, 3, 64, 64)
    assert faces.source == str(folder)
    assert loaded.refused == ()
    assert loaded.files[4] == folder / "Person_B" / "0001.png"
    assert ticks == [(k, 9) for k in range(1, 10)]
    assert len(split_by_identity(faces, {"train": 1, "test": 2}, 0)["test"]) == 6


def test_frames_match_the_framing_of_the_synthetic_heads(folder: Path, heads: FaceSet, detector: FaceDetector) -> None:
    points = load_folder(folder, 64, detector=detector).points5
    expected = torch.tensor(FRAME_POINTS) * 64 - 0.5
    assert float((points.mean(0) - expected).norm(dim=1).max()) < 3
    # The same heads in their own frames lie there too, so both sources fill the frame alike.
    own = (five_points(heads.landmarks) + 0.5) / 2 - 0.5
    assert float((own.mean(0) - expected).norm(dim=1).max()) < 4


def test_unknown_landmarks_are_nan_and_known_ones_are_the_detected(folder: Path, detector: FaceDetector) -> None:
    loaded = load_folder(folder, 64, detector=detector)
    known = ~loaded.faces.landmarks.isnan().any(-1)
    assert known.sum(1).tolist() == [3] * 9
    torch.testing.assert_close(loaded.faces.landmarks[:, [30, 48, 54]], loaded.points5[:, 2:])
    # Nobody can take them for complete: alignment points of such landmarks are NaN.
    assert bool(five_points(loaded.faces.landmarks)[:, :2].isnan().all())


def test_crop_maps_points_scales_and_does_not_turn() -> None:
    gen = np.random.default_rng(0)
    image = cv2.GaussianBlur(gen.integers(0, 256, (400, 300, 3)).astype(np.uint8), (0, 0), 6).astype(np.uint8)
    upright = (np.array(FRAME_POINTS) - [0.5, 0.564]) * 200
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    for rotation in (np.eye(2), turn):
        points = (upright @ rotation.T + [150.3, 210.7]).astype(np.float32)
        frame, inner, padding = crop_face(image, points, 50)
        assert padding == pytest.approx(0)
        # Scale 1/4 whatever the roll of the head; the frame itself stays upright.
        np.testing.assert_allclose(np.diff(inner, axis=0), np.diff(points, axis=0) / 4, atol=1e-4)
        centre = inner.mean(0)
        np.testing.assert_allclose(centre, np.mean(FRAME_POINTS, axis=0) * 50 - 0.5, atol=1e-3)
        # A pixel of the frame is the mean linear light of the 4 x 4 square of the photo that it covers.
        corner = points.mean(0) + (np.array([9.5, 19.5]) - centre) * 4
        light = srgb_to_linear(torch.from_numpy(image / 255.0)).numpy().astype(np.float32)
        patch = cv2.getRectSubPix(light, (4, 4), tuple(float(v) for v in corner + 2))
        expected = linear_to_srgb(torch.from_numpy(patch.mean((0, 1)))).numpy() * 255
        np.testing.assert_allclose(frame[20, 10], expected, atol=1.5)


def test_what_lies_outside_the_photo_is_black_and_counted() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    points = (np.array(FRAME_POINTS) * 100 - 0.5).astype(np.float32)
    points[:, 0] += 25
    frame, _, padding = crop_face(image, points, 100)
    assert padding == pytest.approx(0.25, abs=1e-6)
    assert bool((frame[:, 75:] == 0).all())
    assert bool((frame[:, :75] == 200).all())


def test_too_small_a_face_is_refused() -> None:
    points = (np.array(FRAME_POINTS) * 20).astype(np.float32)
    with pytest.raises(FacesError, match=r"eye distance of about 5 pixels would be enlarged 3\.2 times .* 64 pixels"):
        crop_face(np.zeros((20, 20, 3), np.uint8), points, 64)


def test_bad_photographs_are_collected_with_their_reasons(folder: Path, heads: FaceSet, detector: FaceDetector) -> None:
    (folder / "Person_A" / "broken.jpg").write_bytes(b"no picture")
    _write(folder / "Person_A" / "wall.png", np.full((80, 80, 3), 90, np.uint8))
    _write(folder / "Person_B" / "again.png", heads.images[0])
    _write(folder / "Person_D" / "single.png", np.ascontiguousarray(heads.images[1].permute(1, 2, 0).numpy()[:, ::-1]))
    loaded = load_folder(folder, 64, detector=detector)
    reasons = {refusal.file.name: refusal.reason for refusal in loaded.refused}
    assert set(reasons) == {"broken.jpg", "wall.png", "0000.png", "single.png"}
    assert "broken.jpg is not a readable image" in reasons["broken.jpg"]
    assert "wall.png: no face was found; take a photograph" in reasons["wall.png"]
    assert "Person_C/0000.png shows the same picture as" in reasons["0000.png"]
    assert "Person_D has 1 usable photographs of 1, but 2 are needed" in reasons["single.png"]
    assert loaded.faces.names == ("Person_A", "Person_B", "Person_C")
    assert loaded.faces.capture.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_photograph_that_lies_turned_is_refused_and_not_taken_askew(
    folder: Path, heads: FaceSet, detector: FaceDetector, turns: int
) -> None:
    image = np.ascontiguousarray(np.rot90(heads.images[0].permute(1, 2, 0).numpy(), turns))
    path = _write(folder / "Person_A" / "turned.png", image)
    loaded = load_folder(folder, 32, detector=detector)
    assert path not in loaded.files
    (reason,) = [refusal.reason for refusal in loaded.refused if refusal.file == path]
    # Where the detector sees nothing at all, it says so.
    assert "turn the photograph upright" in reason or "no face was found" in reason


def test_kinds_of_photographs_that_cannot_be_read_are_named(folder: Path, detector: FaceDetector) -> None:
    (folder / "Person_A" / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    loaded = load_folder(folder, 32, detector=detector)
    assert [refusal.file.name for refusal in loaded.refused] == ["phone.HEIC"]
    assert loaded.refused[0].reason.endswith("convert it to JPEG or PNG.")


def test_strict_raises_at_the_first(folder: Path, heads: FaceSet, detector: FaceDetector) -> None:
    single = _write(folder / "Person_0" / "single.png", heads.images[0])
    with pytest.raises(FacesError, match=r"Person_0 has 1 usable photographs of 1, but 2 are needed; add photographs"):
        load_folder(folder, 64, detector=detector, strict=True)
    single.write_bytes(b"no picture")
    with pytest.raises(FacesError, match=r"Person_0/single\.png is not a readable image"):
        load_folder(folder, 64, detector=detector, strict=True)


def test_folders_that_cannot_work_are_explained(tmp_path: Path, heads: FaceSet, detector: FaceDetector) -> None:
    with pytest.raises(FacesError, match=r"There is no folder .*absent"):
        load_folder(tmp_path / "absent", detector=detector)
    with pytest.raises(FacesError, match="holds no photographs; expected PERSON/PHOTO"):
        load_folder(tmp_path, detector=detector)
    _write(tmp_path / "loose.png", heads.images[0])
    with pytest.raises(FacesError, match="holds 1 photographs but no folders"):
        load_folder(tmp_path, detector=detector)
    for index in range(3):
        _write(tmp_path / "Only_One" / f"{index}.png", heads.images[index])
    with pytest.raises(FacesError, match="needs at least two people with usable photographs, found 1"):
        load_folder(tmp_path, detector=detector)
    with pytest.raises(FacesError, match="size >= 8 and min_photos >= 1, got 4 and 2"):
        load_folder(tmp_path, 4, detector=detector)


class _TwoFaces:
    """Stands in for the detector: a large face at the edge, a smaller one in the middle."""

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, image: np.ndarray) -> list[Detection]:
        self.calls += 1
        unit = np.array(FRAME_POINTS) - 0.5
        edge = Detection(np.array([0, 0, 80, 80], np.float32), (unit * 90 + 40).astype(np.float32), 0.9)
        middle = Detection(np.array([75, 75, 50, 50], np.float32), (unit * 64 + 99.5).astype(np.float32), 0.9)
        return [edge, middle]

    def settle(self, image: np.ndarray, face: Detection) -> Detection:
        return face


def test_of_several_faces_the_middle_one_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    originals = []
    for index in range(4):
        image = rng.integers(0, 256, (200, 200, 3)).astype(np.uint8)
        originals.append(image[68:132, 68:132])
        _write(tmp_path / f"P{index // 2}" / f"{index}.png", image)
    loaded = load_folder(tmp_path, 64, detector=_TwoFaces())  # type: ignore[arg-type]
    for found, expected in zip(loaded.faces.images, originals, strict=True):
        np.testing.assert_allclose(found.permute(1, 2, 0).numpy().astype(int), expected, atol=1)


@pytest.fixture(scope="module")
def truth(face_mesh_weights: Path, face_landmark_weights: Path) -> LandmarkTruth:
    return LandmarkTruth(load_face_mesh(face_mesh_weights), load_landmark_net(face_landmark_weights))


def test_two_networks_mark_all_landmarks_near_the_true_ones(
    folder: Path, heads: FaceSet, detector: FaceDetector, truth: LandmarkTruth
) -> None:
    loaded = load_folder(folder, 64, detector=detector, truth=truth)
    faces = loaded.faces
    torch.testing.assert_close(five_points(faces.landmarks), loaded.points5, rtol=0, atol=1e-3)
    assert loaded.apart is not None
    assert 0.01 < float(loaded.apart.median()) < 0.2
    # The true landmarks of the heads, brought to the frames by the least-squares scale and shift of all 68 points.
    order = torch.tensor([k for person in (1, 2, 0) for k in torch.nonzero(heads.identity == person)[:, 0]])
    true = heads.landmarks[order]
    centred, goal = true - true.mean(1, keepdim=True), faces.landmarks - faces.landmarks.mean(1, keepdim=True)
    scale = (centred * goal).sum((1, 2)) / centred.square().sum((1, 2))
    error = nme(goal, centred * scale[:, None, None], interocular(faces.landmarks))
    assert float(error.mean()) < 0.08


def test_photographs_on_which_the_networks_disagree_are_counted_apart(
    folder: Path, heads: FaceSet, detector: FaceDetector, truth: LandmarkTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = truth.second.landmarks, []

    def shifted(images: torch.Tensor, points5: torch.Tensor) -> torch.Tensor:
        """The fourth face a third of the eye distance off, as a network answers that sees another face."""
        calls.append(images)
        found = real(images, points5)
        return found + (interocular(found)[:, None, None] / 3 if len(calls) == 4 else 0)

    monkeypatch.setattr(truth.second, "landmarks", shifted)
    loaded = load_folder(folder, 64, detector=detector, truth=truth)
    (refusal,) = loaded.refused
    assert refusal.disagreement
    assert refusal.file == folder / "Person_B" / "0000.png"
    assert "two landmark networks put its points 0." in refusal.reason
    assert len(loaded.faces) == 8


def test_frames_are_kept_under_the_content_of_their_files(
    folder: Path, tmp_path: Path, truth: LandmarkTruth, yunet_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "Person_A" / "broken.jpg").write_bytes(b"no picture")
    _write(folder / "Person_A" / "wall.png", np.full((80, 80, 3), 90, np.uint8))
    kept = tmp_path / "kept"
    first = load_folder(folder, 64, truth=truth, cache=kept)
    files = sorted(path.name for path in kept.iterdir())
    # A file that cannot be read is read again; one without a face is remembered.
    assert len(files) == 10
    assert stat.S_IMODE(kept.stat().st_mode) & 0o077 == 0
    assert all(name.startswith("photo-") for name in files)

    def never(*_: object) -> None:
        raise AssertionError("the detector was asked again")

    monkeypatch.setattr(FaceDetector, "detect", never)
    (folder / "Person_A").rename(folder / "Person_Z")
    again = load_folder(folder, 64, truth=truth, cache=kept)
    assert again.faces.names == ("Person_B", "Person_C", "Person_Z")
    order = [*range(3, 9), *range(3)]
    assert torch.equal(again.faces.images, first.faces.images[order])
    assert torch.equal(again.faces.landmarks, first.faces.landmarks[order])
    assert again.sha256 == tuple(first.sha256[k] for k in order)
    assert again.apart is not None
    assert first.apart is not None
    assert torch.equal(again.apart, first.apart[order])
    assert [refusal.reason for refusal in again.refused] == [
        refusal.reason.replace("Person_A", "Person_Z") for refusal in first.refused
    ]
    # Other settings are other results.
    with pytest.raises(AssertionError, match="asked again"):
        load_folder(folder, 48, truth=truth, cache=kept)
    # A damaged file is made again.
    (kept / files[0]).write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="asked again"):
        load_folder(folder, 64, truth=truth, cache=kept)


def test_frames_are_kept_for_the_default_detector_alone(folder: Path, tmp_path: Path, detector: FaceDetector) -> None:
    with pytest.raises(FacesError, match="leave out either detector or cache"):
        load_folder(folder, 64, detector=detector, cache=tmp_path)
