"""The optical encoder against the camera that co-design judges, and the optics that it says an attacker knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codesign import masks
from codesign.cameras import build, geometry_of, ours
from codesign.config import TrainMaskConfig
from codesign.export import write_camera
from faces.samples import linear_to_srgb, srgb_to_linear
from optics import convolve
from optishield.run.folder import RunFolder
from protectors.errors import ProtectorError
from protectors.optical_encoder import OpticalEncoder, grey_noise_e, load_camera, photo_psf
from protectors.resampling import area_resample
from sim.camera import Exposure, gaussian_psf

SENSORS: dict[str, dict[str, Any]] = {
    "one bit, metered": {"bits": 1, "electrons_at_white": 4000.0, "full_well_e": 1584.0},
    "colour, 8 bits, fixed": {"colour": True, "bits": 8, "full_well_e": 4000.0, "metering": "fixed"},
    "behind a field stop": {
        "bits": 6,
        "pixels": 16,
        "field_stop": {"centre_x": 0.5, "centre_y": 0.54, "half_width": 0.3, "half_height": 0.4, "edge": 0.03},
    },
}

#: A sensor that adds hardly anything to the optics.
FINE = Exposure(
    pixels=32,
    colour=True,
    filter_weights=(1 / 3, 1 / 3, 1 / 3),
    electrons_at_white=1e8,
    full_well_e=1e8,
    read_noise_e=1.0,
    bits=16,
    black_level_dn=0.0,
    metering="fixed",
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int, side: int) -> Tensor:
    return torch.randint(256, (count, 3, side, side), generator=seeded(count)) / 255


def protected(protector: OpticalEncoder, images: Tensor, seed: int = 0) -> Tensor:
    count = len(images)
    return protector.protect(images, torch.zeros(count, 5, 2), torch.zeros(count, dtype=torch.int64), seeded(seed))


def configured(sensor: dict[str, Any]) -> TrainMaskConfig:
    plain = TrainMaskConfig.for_budget("smoke").model_dump()
    return TrainMaskConfig.model_validate({**plain, "sensor": {**plain["sensor"], **sensor}})


def rough_mask(config: TrainMaskConfig) -> dict[str, Tensor]:
    rougher = config.model_copy(update={"mask": config.mask.model_copy(update={"start_spread": 0.1})})
    return masks.start(rougher.mask, geometry_of(config.optics).grid, seeded(3)).state_dict()


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of a finished run that count here, with a random mask, by the writers of the run itself."""

    def write(config: TrainMaskConfig) -> Path:
        folder = RunFolder.create(
            verb="train-mask", slug="random", config=config, command=[], seeds={}, out=tmp_path / "trained"
        )
        write_camera(config, folder, rough_mask(config))
        folder.write_json("summary.json", {})
        folder.close()
        return folder.path

    return write


@pytest.fixture
def handmade(tmp_path: Path) -> Callable[..., Path]:
    """Writes such a folder for a given point-spread function, from the description of the format alone."""

    def write(psf: Tensor, exposure: Exposure, scene_px: int = 64) -> Path:
        path = tmp_path / "handmade"
        path.mkdir()
        hashes = {}
        for name, values in (("psf.npy", psf), ("mask_height_m.npy", torch.zeros(4, 4))):
            buffer = BytesIO()
            np.save(buffer, values.numpy())
            (path / name).write_bytes(buffer.getvalue())
            hashes[name] = hashlib.sha256(buffer.getvalue()).hexdigest()
        geometry = {**asdict(geometry_of(TrainMaskConfig.for_budget("smoke").optics)), "scene_px": scene_px}
        camera = {"format": 1, "geometry": geometry, "exposure": asdict(exposure), "sha256": hashes}
        (path / "camera.json").write_text(json.dumps(camera), encoding="utf-8")
        for name in ("config.toml", "summary.json"):
            (path / name).touch()
        return path

    return write


# The same camera as in the run


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS.keys())
def test_frames_are_those_of_the_camera_that_was_judged(trained: Callable[..., Path], sensor: dict[str, Any]) -> None:
    config = configured(sensor)
    encoder = OpticalEncoder(run=trained(config), px=64)
    images = photos(5, 64)
    camera = build(ours(config), config, rough_mask(config))
    with torch.no_grad():
        expected = camera(srgb_to_linear(images), seeded(7))
    assert torch.equal(encoder.frames(images, seeded(7)), expected)
    assert len(expected.unique()) > 1
    assert encoder.camera.exposure == camera.exposure


def test_larger_photos_are_averaged_over_scene_samples(trained: Callable[..., Path]) -> None:
    encoder = OpticalEncoder(run=trained(configured({})), px=128)
    images = photos(2, 128)
    scenes = torch.nn.functional.avg_pool2d(srgb_to_linear(images), 2)
    assert torch.equal(encoder.frames(images, seeded(7)), encoder.camera(scenes, seeded(7)))


def test_photo_shows_each_pixel_as_a_block(trained: Callable[..., Path]) -> None:
    encoder = OpticalEncoder(run=trained(configured(SENSORS["one bit, metered"])), px=64)
    images = photos(3, 64)
    frames = encoder.frames(images, seeded(2))
    # One bit: black, or the light of a full well, 1584 of 4000 electrons, in blocks of two by two on three channels.
    white = round(float(linear_to_srgb(torch.tensor(1584 / 4000))) * 255) / 255
    expected = (frames.repeat_interleave(2, 2).repeat_interleave(2, 3) * white).expand(-1, 3, -1, -1)
    torch.testing.assert_close(protected(encoder, images, seed=2), expected)


def test_light_above_white_is_turned_down_not_cut(handmade: Callable[..., Path]) -> None:
    # Full well at twice white: the photo gives the top code white, so that every code is told apart.
    exposure = replace(FINE, full_well_e=2e8, pixels=64)
    encoder = OpticalEncoder(run=handmade(gaussian_psf(0.0, 63).psf, exposure), px=64)
    images = torch.ones(1, 3, 64, 64)
    shown = srgb_to_linear(protected(encoder, images))
    torch.testing.assert_close(shown, torch.full_like(shown, 0.5), atol=4e-3, rtol=0)
    assert encoder.blur is not None
    assert float(encoder.blur.psf[0].sum()) == pytest.approx(0.5)


# What an attacker knows


@pytest.mark.parametrize(("photo_px", "pixels"), [(64, 64), (64, 16), (56, 32), (112, 32), (96, 16)])
def test_point_spread_function_is_the_mean_picture_of_points(photo_px: int, pixels: int) -> None:
    # Points at all places of one repetition of the chain near the middle, pushed through it one by one.
    psf = gaussian_psf(1.5, 11).psf.double()[:1]
    psf = psf * torch.linspace(0.2, 1.0, 11, dtype=torch.float64)[:, None]  # not symmetric: y is told from x and -y
    found = photo_psf(psf, photo_px, 64, pixels)
    period = photo_px // np.gcd(photo_px, np.gcd(pixels, 64))
    middle, half = (photo_px - period) // 2, (photo_px - 1) // 2
    reach = min(half, middle)
    total = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    for y in range(middle, middle + period):
        points = torch.zeros(period, 1, photo_px, photo_px, dtype=torch.float64)
        points[torch.arange(period), 0, y, torch.arange(middle, middle + period)] = 1
        scene = convolve(area_resample(points, 64), psf)
        shown = area_resample(area_resample(scene, pixels), photo_px)
        for place, picture in zip(range(middle, middle + period), shown[:, 0], strict=True):
            total += picture[y - reach : y + reach + 1, place - reach : place + reach + 1]
    cut = found[0, half - reach : half + reach + 1, half - reach : half + reach + 1]
    torch.testing.assert_close(cut, total / period**2, atol=1e-9, rtol=0)
    assert float(found.sum()) == pytest.approx(float(psf.sum()), rel=1e-6)


def test_sharp_camera_has_the_pixel_twice() -> None:
    # Binning to pixels of four photo pixels and holding them, averaged over places, is a triangle.
    delta = torch.zeros(1, 3, 3)
    delta[0, 1, 1] = 1
    found = photo_psf(delta, 64, 64, 16)[0]
    triangle = torch.tensor([1.0, 2, 3, 4, 3, 2, 1]) / 16
    torch.testing.assert_close(found[28:35, 28:35], triangle[:, None] * triangle[None, :])


@pytest.mark.parametrize("colour", [True, False])
def test_known_blur_predicts_smooth_photos(handmade: Callable[..., Path], colour: bool) -> None:
    exposure = replace(FINE, pixels=64, colour=colour, filter_weights=(0.2, 0.7, 0.1))
    encoder = OpticalEncoder(run=handmade(gaussian_psf(3.0, 63).psf, exposure), px=128)
    assert encoder.blur is not None
    assert encoder.blur.planes == (3 if colour else 1)
    coarse = torch.rand(2, encoder.blur.planes, 6, 6, generator=seeded())
    smooth = torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bicubic", align_corners=True)
    images = (smooth.clamp(0.1, 0.9).expand(-1, 3, -1, -1) * 255).round() / 255
    light = srgb_to_linear(images)[:, : encoder.blur.planes]
    # Blocks of two by two are compared as wholes: where in its block a point lies is averaged out of the known blur.
    shown, expected, sharp = (
        torch.nn.functional.avg_pool2d(picture[:, : encoder.blur.planes, 30:-30, 30:-30], 2)
        for picture in (srgb_to_linear(protected(encoder, images)), convolve(light, encoder.blur.psf), light)
    )
    assert float((shown - expected).square().mean().sqrt()) < 3e-3
    assert float((shown - sharp).square().mean().sqrt()) > 3e-2


@pytest.mark.parametrize(("bits", "read_noise_e"), [(10, 2.0), (10, 40.0), (5, 2.0)])
def test_known_noise_is_that_of_mid_grey(handmade: Callable[..., Path], bits: int, read_noise_e: float) -> None:
    exposure = replace(
        FINE, pixels=64, electrons_at_white=1000.0, full_well_e=1000.0, bits=bits, read_noise_e=read_noise_e
    )
    encoder = OpticalEncoder(run=handmade(gaussian_psf(0.0, 63).psf, exposure), px=64)
    # Columns run evenly through light of .148 to .212, two steps of five bits, so that no code is favoured.
    light = torch.linspace(0.18 - 1 / 31, 0.18 + 1 / 31, 64).expand(8, 3, 64, 64)
    images = (linear_to_srgb(light) * 255).round() / 255
    error = srgb_to_linear(protected(encoder, images)) - srgb_to_linear(images)
    assert encoder.blur is not None
    assert encoder.blur.noise_sd == pytest.approx(float(error.std()), rel=0.03)


def test_noise_of_one_bit_by_hand() -> None:
    # 720 electrons of shot noise, 2 of read noise, steps of 1584.
    exposure = replace(FINE, electrons_at_white=4000.0, full_well_e=1584.0, read_noise_e=2.0, bits=1)
    assert grey_noise_e(exposure) == pytest.approx((720 + 4 + 1584**2 / 12) ** 0.5)


# Runs that cannot be used


def test_new_content_is_another_camera_a_new_place_is_not(trained: Callable[..., Path], tmp_path: Path) -> None:
    path = trained(configured({}))
    before = OpticalEncoder(run=path, px=64).declaration
    moved = path.rename(tmp_path / "moved")
    assert OpticalEncoder(run=moved, px=64).declaration == before
    camera = json.loads((moved / "camera.json").read_text(encoding="utf-8"))
    camera["exposure"]["read_noise_e"] = 3.0
    (moved / "camera.json").write_text(json.dumps(camera), encoding="utf-8")
    assert OpticalEncoder(run=moved, px=64).declaration != before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.toml", r"is not a training run \(it has no config\.toml\); name a folder"),
        (
            "summary.json",
            r"is not finished \(it has no summary\.json\); finish it with: optishield train-mask --resume",
        ),
        ("camera.json", r"camera\.json cannot be read \(No such file or directory\); a finished run of this version"),
        ("psf.npy", r"psf\.npy cannot be read \(No such file or directory\)"),
        ("mask_height_m.npy", r"mask_height_m\.npy cannot be read \(No such file or directory\)"),
    ],
)
def test_missing_files_are_named(handmade: Callable[..., Path], name: str, words: str) -> None:
    path = handmade(gaussian_psf(1.0, 63).psf, FINE)
    (path / name).unlink()
    with pytest.raises(ProtectorError, match=words):
        load_camera(path)


def test_a_camera_that_records_no_picture_is_refused(handmade: Callable[..., Path]) -> None:
    path = handmade(gaussian_psf(1.0, 63).psf, FINE)
    (path / "tiles.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ProtectorError, match="records no picture that could stand for a photo; judge it by"):
        load_camera(path)


@pytest.mark.parametrize("name", ["psf.npy", "mask_height_m.npy"])
def test_changed_files_are_refused(handmade: Callable[..., Path], name: str) -> None:
    path = handmade(gaussian_psf(1.0, 63).psf, FINE)
    content = bytearray((path / name).read_bytes())
    content[-1] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ProtectorError, match=rf"{name} is not the file that the run wrote \(its SHA-256 differs"):
        load_camera(path)


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda camera: {name: value for name, value in camera.items() if name != key}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda camera: {**camera, "format": 3}, r"camera\.json has format 3, this version reads 1 and 2; train again"),
        (without("exposure"), r"camera\.json is damaged \(KeyError\('exposure'\)\)"),
        (without("sha256"), r"camera\.json is damaged \(KeyError\('sha256'\)\)"),
        (lambda camera: [camera], r"camera\.json is damaged \(TypeError"),
        (lambda camera: {**camera, "exposure": {**camera["exposure"], "iso": 100}}, r"is damaged \(TypeError.*iso"),
        (
            lambda camera: {**camera, "geometry": {**camera["geometry"], "scene_px": 65}},
            r"does not describe a camera: 32 pixels do not div",
        ),
        (
            lambda camera: {**camera, "exposure": {**camera["exposure"], "bits": 20}},
            r"does not describe a camera: bits=20 must",
        ),
    ],
)
def test_damaged_descriptions_are_refused(
    handmade: Callable[..., Path], change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    path = handmade(gaussian_psf(1.0, 63).psf, FINE)
    camera = json.loads((path / "camera.json").read_text(encoding="utf-8"))
    (path / "camera.json").write_text(json.dumps(change(camera)), encoding="utf-8")
    with pytest.raises(ProtectorError, match=words):
        load_camera(path)


def test_cut_off_description_is_refused(handmade: Callable[..., Path]) -> None:
    path = handmade(gaussian_psf(1.0, 63).psf, FINE)
    text = (path / "camera.json").read_text(encoding="utf-8")
    (path / "camera.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(ProtectorError, match=r"camera\.json is damaged \(JSONDecodeError"):
        load_camera(path)


def test_tiny_photos_are_refused(handmade: Callable[..., Path]) -> None:
    with pytest.raises(ProtectorError, match=r"photos of px >= 8 pixels, got 7"):
        OpticalEncoder(run=handmade(gaussian_psf(1.0, 63).psf, FINE), px=7)
