"""YuNet through OpenCV: geometry, sizes, unreadable files."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from faces.detection import FaceDetector, read_image
from faces.errors import FacesError
from faces.samples import FaceSet, five_points, interocular
from faces.synthetic import generate


@pytest.fixture(scope="module")
def detector(yunet_weights: Path) -> FaceDetector:
    return FaceDetector(yunet_weights)


@pytest.fixture(scope="module")
def heads() -> FaceSet:
    return generate(4, 2, size=128, seed=21)


def _pixels(heads: FaceSet, index: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(heads.images[index].permute(1, 2, 0).numpy())


def _jpeg_with_orientation(image: NDArray[np.uint8], orientation: int) -> bytes:
    """A JPEG whose EXIF block holds nothing but the orientation tag (EXIF 2.32, 4.6.4 A, tag 0x0112)."""
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert ok
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\x00\x2a" + struct.pack(">I", 8) + struct.pack(">H", 1) + entry + struct.pack(">I", 0)
    exif = b"Exif\x00\x00" + tiff
    return data[:2].tobytes() + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:].tobytes()


def test_points_lie_on_the_true_ones(detector: FaceDetector, heads: FaceSet) -> None:
    truth, unit = five_points(heads.landmarks), interocular(heads.landmarks)
    errors = []
    for index in range(len(heads)):
        found = detector.detect(_pixels(heads, index))
        assert len(found) == 1
        face = found[0]
        assert 0.7 < face.score <= 1
        points = torch.from_numpy(face.points5)
        errors.append(float((points - truth[index]).norm(dim=1).mean() / unit[index]))
        # x right, y down, image left first; the box is left, top, width, height around the points.
        assert points[0, 0] < points[1, 0]
        assert points[3, 0] < points[4, 0]
        assert points[0, 1] < points[3, 1]
        assert bool((points.min(0).values > torch.from_numpy(face.box[:2])).all())
        assert bool((points.max(0).values < torch.from_numpy(face.box[:2] + face.box[2:])).all())
    assert np.median(errors) < 0.12


def test_points_follow_the_scale_of_the_image(detector: FaceDetector, heads: FaceSet) -> None:
    image = _pixels(heads, 0)
    expected = detector.detect(image)[0].points5
    unit = float(np.linalg.norm(expected[0] - expected[1]))
    for factor in (0.5, 8.0):
        resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else 1)
        found = detector.detect(np.asarray(resized, dtype=np.uint8))
        assert len(found) == 1
        back = (found[0].points5 + 0.5) / factor - 0.5
        assert np.linalg.norm(back - expected, axis=1).mean() < 0.1 * unit


def test_largest_face_comes_first(detector: FaceDetector, heads: FaceSet) -> None:
    small = cv2.resize(_pixels(heads, 0), (64, 64), interpolation=cv2.INTER_AREA)
    canvas = np.full((128, 256, 3), 128, np.uint8)
    canvas[32:96, 32:96] = small
    canvas[:, 128:] = _pixels(heads, 2)
    found = detector.detect(canvas)
    assert len(found) == 2
    assert found[0].points5[:, 0].min() > 128 > found[1].points5[:, 0].max()


@pytest.mark.parametrize("shape", [(1, 1), (5, 900), (120, 160)])
def test_images_without_a_face_give_nothing(detector: FaceDetector, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert detector.detect(noise) == []


def test_detector_refuses_other_arrays(detector: FaceDetector) -> None:
    with pytest.raises(FacesError, match=r"\(H, W, 3\) uint8 RGB images, got \(8, 8\)"):
        detector.detect(np.zeros((8, 8), np.uint8))
    with pytest.raises(FacesError, match=r"got .* of float32"):
        detector.detect(np.zeros((8, 8, 3), np.float32))


def test_detector_refuses_bad_settings_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FacesError, match=r"upscale > 0 and 0 < threshold < 1, got 0 and 0.7"):
        FaceDetector(upscale=0)
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(FacesError, match=r"OpenCV cannot load the detector .*broken\.onnx"):
        FaceDetector(tmp_path / "broken.onnx")
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    with pytest.raises(FacesError, match="optishield weights fetch yunet"):
        FaceDetector()


def test_images_are_read_as_rgb(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2] = (255, 10, 20)
    path = tmp_path / "gesicht-é.png"
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    np.testing.assert_array_equal(read_image(path), image)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_respected(tmp_path: Path, orientation: int, turns: int) -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24] = (250, 30, 30)
    path = tmp_path / "turned.jpg"
    path.write_bytes(_jpeg_with_orientation(image, orientation))
    # Orientation 6 says: the camera was turned, rotate by 90 degrees clockwise to view.
    expected = np.rot90(image, turns)
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    broken, empty = tmp_path / "broken.jpg", tmp_path / "empty.png"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    empty.write_bytes(b"")
    with pytest.raises(FacesError, match=r"broken\.jpg is not a readable image \(15 bytes\)"):
        read_image(broken)
    with pytest.raises(FacesError, match=r"empty\.png is not a readable image \(0 bytes\)"):
        read_image(empty)
    with pytest.raises(FacesError, match=r"Cannot read .*absent\.jpg \(No such file"):
        read_image(tmp_path / "absent.jpg")
