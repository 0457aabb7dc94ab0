"""A camera as files: what is written is read, and what is damaged is refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optics import FieldStop
from sim.camera import EncoderCamera, Exposure, FixedPsf, Geometry, gaussian_psf
from sim.errors import SimError
from sim.stored import StoredCamera

GEOMETRY = Geometry(4e-3, 0.5e-3, 1.0, 1.0, 0.24, 64, (620e-9, 540e-9, 460e-9), 270)
EXPOSURE = Exposure(
    16, False, (0.2, 0.7, 0.1), 500.0, 1000.0, 2.0, 12, 64.0, "fixed", FieldStop(0.5, 0.5, 0.3, 0.4, 0.03)
)
STORED = StoredCamera(GEOMETRY, EXPOSURE, gaussian_psf(2.0, 63).psf, torch.rand(8, 8, generator=torch.Generator()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    STORED.save(lambda name, data: (tmp_path / name).write_bytes(data))
    return tmp_path


def described(folder: Path, change: Callable[[Any], Any]) -> None:
    stored = change(json.loads((folder / "camera.json").read_text(encoding="utf-8")))
    (folder / "camera.json").write_text(json.dumps(stored), encoding="utf-8")


def test_what_is_saved_is_loaded(folder: Path) -> None:
    again = StoredCamera.load(folder)
    assert (again.geometry, again.exposure) == (GEOMETRY, EXPOSURE)
    assert torch.equal(again.psf, STORED.psf)
    assert torch.equal(again.mask_height_m, STORED.mask_height_m)
    assert again.content_hash == hashlib.sha256((folder / "camera.json").read_bytes()).hexdigest()
    scenes = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    frames = [
        camera(scenes, torch.Generator().manual_seed(1))
        for camera in (again.camera, EncoderCamera(FixedPsf(STORED.psf), EXPOSURE, 64))
    ]
    assert torch.equal(*frames)


def test_the_files_can_be_read_without_this_program(folder: Path) -> None:
    stored = json.loads((folder / "camera.json").read_text(encoding="utf-8"))
    assert stored["format"] == 1
    assert stored["geometry"]["pupil_samples"] == 270
    assert stored["exposure"]["field_stop"]["half_height"] == 0.4
    for name in ("psf.npy", "mask_height_m.npy"):
        content = (folder / name).read_bytes()
        assert stored["sha256"][name] == hashlib.sha256(content).hexdigest()
        assert np.load(BytesIO(content), allow_pickle=False).dtype == np.float32


def test_exposure_and_geometry_come_back_from_json() -> None:
    for value in (GEOMETRY, EXPOSURE):
        assert type(value).from_json(json.loads(json.dumps(value.to_json()))) == value
    shut = EXPOSURE.to_json() | {"field_stop": None}
    assert Exposure.from_json(shut).field_stop is None


@pytest.mark.parametrize("field", ["wavelengths_m", "scene_px"])
def test_a_geometry_lacks_nothing(field: str) -> None:
    values = {name: value for name, value in GEOMETRY.to_json().items() if name != field}
    with pytest.raises((KeyError, TypeError), match=field):
        Geometry.from_json(values)


@pytest.mark.parametrize("name", ["psf.npy", "mask_height_m.npy"])
@pytest.mark.parametrize("kind", ["pickle", "text", "shape"])
def test_arrays_that_are_no_arrays_are_refused_even_if_the_hash_agrees(folder: Path, name: str, kind: str) -> None:
    buffer = BytesIO()
    if kind == "text":
        buffer.write(b"no array")
    else:
        np.save(buffer, np.array([{}]) if kind == "pickle" else np.zeros(3), allow_pickle=True)
    (folder / name).write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    described(folder, lambda stored: stored | {"sha256": {**stored["sha256"], name: digest}})
    with pytest.raises(SimError, match=r"is no array of numbers|holds arrays of shape .* are needed"):
        StoredCamera.load(folder)


def test_deep_nesting_is_refused(folder: Path) -> None:
    (folder / "camera.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(SimError, match=r"camera\.json is damaged"):
        StoredCamera.load(folder)


@pytest.mark.parametrize("name", ["camera.json", "psf.npy", "mask_height_m.npy"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(SimError, match=rf"{name} cannot be read \(No such file or directory\)"):
        StoredCamera.load(folder)
