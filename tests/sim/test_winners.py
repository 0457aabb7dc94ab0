"""The camera of pairs: its light against convolution and binning, parallax, comparisons, and who wins."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from optics import OpticsError, bin_pixels, convolve
from sim.camera import Geometry
from sim.winners import FixedTiles, PairPixels, Readout, TileArray, Window, WinnerCamera, split_kernel

GEOMETRY = Geometry(4e-3, 0.5e-3, 1.0, 1.0, 0.24, 32, (620e-9, 540e-9, 460e-9), 64)
GREY = (0.2, 0.7, 0.1)
NOISELESS = PairPixels(1e6, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0)


def _random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_light_is_convolved_weighted_and_binned() -> None:
    psfs, scenes = _random(4, 3, 9, 9), _random(2, 3, 32, 32)
    tiles = FixedTiles(psfs, GEOMETRY, 16, GREY).double()
    light = tiles(scenes)
    for tile in range(4):
        image = (convolve(scenes, psfs[tile]) * torch.tensor(GREY, dtype=torch.float32).double()[:, None, None]).sum(1)
        assert torch.allclose(light[:, tile], bin_pixels(image, 2) / 4, atol=1e-10)


def test_a_closer_scene_moves_images_apart_by_the_pinhole_rule() -> None:
    closer = replace(GEOMETRY, object_distance_m=0.5)
    psfs = torch.zeros(2, 3, 31, 31, dtype=torch.float64)
    x = torch.arange(31) - 15
    psfs[:] = torch.exp(-(x[:, None] ** 2 + x**2) / 8.0).double()
    array = TileArray(columns=2, pitch_m=closer.cell_m * 2 / closer.lens.sensor_distance_m)
    scenes = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    scenes[..., 16, 16] = 1
    left, right = FixedTiles(psfs, closer, 32, GREY, array).double()(scenes)[0]

    def place(image: Tensor) -> float:
        return float((image * torch.arange(32)).sum() / image.sum())

    # Two cells of baseline for a sensor distance of one metre, seen from 1 m and from 0.5 m: two cells apart.
    assert place(left) - place(right) == pytest.approx(2.0, abs=1e-2)
    there = FixedTiles(psfs, GEOMETRY, 32, GREY, array).double()(scenes)[0]
    assert place(there[0]) == pytest.approx(place(there[1]), abs=1e-9)


def test_a_tile_beside_its_place_sees_a_moved_image() -> None:
    psfs, scenes = _random(2, 3, 9, 9), torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    scenes[..., 12:20, 12:20] = _random(3, 8, 8)
    cell = GEOMETRY.cell_m
    array = TileArray(2, 1e-3, errors_m=((0.0, 0.0), (2 * cell, -3 * cell)))
    moved = FixedTiles(psfs, GEOMETRY, 32, GREY, array).double()(scenes)[0]
    still = FixedTiles(psfs, GEOMETRY, 32, GREY).double()(scenes)[0]
    assert torch.allclose(moved[0], still[0], atol=1e-10)
    assert torch.allclose(moved[1], still[1].roll((-3, 2), (0, 1)), atol=1e-10)
    with pytest.raises(OpticsError, match="errors_m holds 2 tiles, but there are 1"):
        FixedTiles(psfs[:1], GEOMETRY, 32, GREY, array).double()(scenes)


def test_a_kernel_is_split_into_two_lossless_parts() -> None:
    kernel = _random(3, 5, 5) - 0.5
    parts = split_kernel(kernel)
    assert torch.allclose(parts.sum((-2, -1)), torch.ones(3, 2, dtype=torch.float64))
    assert bool((parts >= 0).all())
    assert bool((parts[:, 0] * parts[:, 1] == 0).all())
    with pytest.raises(OpticsError, match="one sign only"):
        split_kernel(torch.ones(1, 3, 3))


def test_electrons_have_the_mean_and_spread_of_the_data_sheet() -> None:
    pixels = PairPixels(electrons_at_white=10_000.0, dark_e=50.0, read_noise_e=30.0)
    electrons = pixels.expose(torch.full((200_000,), 0.25), torch.Generator().manual_seed(0))
    assert float(electrons.mean()) == pytest.approx(2550, rel=1e-3)
    assert float(electrons.var()) == pytest.approx(2550 + 900, rel=2e-2)


def test_a_ratio_does_not_depend_on_the_light() -> None:
    light = torch.tensor([0.5, 0.25])
    for factor in (1.0, 0.1):
        dim = replace(NOISELESS, floor_e=1e-3)
        electrons = dim.expose(light * factor, torch.Generator())
        assert float(dim.log_ratio(*(electrons))) == pytest.approx(math.log(2), abs=1e-2)


def _readout(level: float = -math.inf) -> Readout:
    readout = Readout((0, 0, 1), (Window(2, 2, 10, 10), Window(-3, -2, 5, 4)))
    readout.level.fill_(level)
    return readout.requires_grad_(False)


def _ratios(*bright: tuple[int, int, int]) -> Tensor:
    ratios = torch.full((1, 3, 16, 16), -0.1)
    for pair, y, x in bright:
        ratios[0, pair, y, x] = 0.3
    return ratios


def test_the_anchor_is_the_largest_sum_in_its_window() -> None:
    # One pair alone is bright outside the window, one inside; two agree at another place.
    ratios = _ratios((0, 0, 0), (1, 0, 0), (0, 4, 4), (0, 7, 9), (1, 7, 9))
    found = _readout()(ratios, NOISELESS, torch.Generator())
    assert found.places[0, 0].tolist() == [9, 7]


def test_a_follower_is_searched_about_the_anchor_alone() -> None:
    ratios = _ratios((0, 7, 9), (1, 7, 9), (2, 13, 9), (2, 5, 8))
    found = _readout()(ratios, NOISELESS, torch.Generator())
    assert found.places[0, 1].tolist() == [8, 5]


def test_places_outside_the_pixels_never_win() -> None:
    ratios = _ratios((0, 2, 2), (1, 2, 2))
    readout = _readout()
    readout.bias[1].data[0, 0] = 100.0  # three rows above the anchor, which lies in row 2
    found = readout(ratios, NOISELESS, torch.Generator())
    assert bool((found.places >= 0).all())


def test_presence_is_a_drive_above_its_level() -> None:
    ratios = _ratios((0, 7, 9), (1, 7, 9))
    assert bool(_readout(1.0)(ratios, NOISELESS, torch.Generator()).present)
    assert not bool(_readout(3.0)(ratios, NOISELESS, torch.Generator()).present)


def test_bits_count_all_windows_and_presence() -> None:
    assert _readout().bits == pytest.approx(math.log2(100) + math.log2(20) + 1)


def test_noise_of_the_comparator_makes_winners_of_equals() -> None:
    ratios = torch.zeros(400, 3, 16, 16)
    pixels = replace(NOISELESS, comparator_noise=0.1)
    found = _readout()(ratios, pixels, torch.Generator().manual_seed(0))
    counts = torch.bincount((found.places[:, 0, 1] - 2) * 10 + found.places[:, 0, 0] - 2, minlength=100)
    # 400 draws over 100 places: chi square with 99 degrees of freedom.
    assert float(((counts - 4.0) ** 2 / 4).sum()) < 160


def test_one_chip_has_one_mismatch_and_another_chip_another() -> None:
    tiles = FixedTiles(_random(6, 3, 9, 9).float(), GEOMETRY, 16, GREY)
    pixels = PairPixels(gain_mismatch=0.03, offset_mismatch=0.04)
    first, again, other = (WinnerCamera(tiles, pixels, _readout(), chip=chip).mismatch for chip in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(0.05, rel=0.1)


def test_the_camera_finds_the_part_its_kernel_is_made_for() -> None:
    # A bright spot on grey ground, and a centre-surround pair.
    x = torch.arange(9) - 4
    radius = x[:, None] ** 2 + x**2
    kernel = (radius < 3).float() / 9 - (radius < 17).float() / 49
    psfs = split_kernel(kernel)[:, None].expand(-1, 3, -1, -1)
    tiles = FixedTiles(psfs.contiguous(), GEOMETRY, 32, GREY)
    readout = Readout((0,), (Window(4, 4, 24, 24),)).requires_grad_(False)
    readout.gain.fill_(0.5)  # far from saturation
    camera = WinnerCamera(tiles, PairPixels(), readout, chip=0)
    scenes = torch.full((8, 3, 32, 32), 0.2)
    at = [(10, 12), (20, 9), (15, 15), (22, 22), (7, 20), (18, 11), (12, 24), (25, 8)]
    for scene, (y, x_) in zip(scenes, at, strict=True):
        scene[:, y - 1 : y + 2, x_ - 1 : x_ + 2] = 0.8
    found = camera(scenes, torch.Generator().manual_seed(0))
    assert [tuple(place) for place in found.places[:, 0].tolist()] == [(x_, y) for y, x_ in at]


def test_bad_input_is_named() -> None:
    with pytest.raises(OpticsError, match="do not divide"):
        FixedTiles(_random(2, 3, 9, 9), GEOMETRY, 12, GREY)
    with pytest.raises(OpticsError, match="odd K"):
        FixedTiles(_random(2, 3, 8, 8), GEOMETRY, 16, GREY)
    with pytest.raises(OpticsError, match="make no array"):
        TileArray(0, 1e-3)
    with pytest.raises(OpticsError, match="holds no winner"):
        Window(0, 0, 0, 3)
    with pytest.raises(OpticsError, match="need pairs of the channels"):
        Readout((0, 0), (Window(0, 0, 2, 2), Window(0, 0, 2, 2)))
    with pytest.raises(OpticsError, match="must be positive"):
        PairPixels(floor_e=0.0)
    camera = WinnerCamera(FixedTiles(_random(2, 3, 9, 9), GEOMETRY, 16, GREY), PairPixels(), _readout(), chip=0)
    with pytest.raises(OpticsError, match="twice as many tiles"):
        camera(_random(1, 3, 32, 32), torch.Generator())


def test_the_drive_of_the_anchor_is_that_of_its_window() -> None:
    readout = _readout()
    readout.bias[0][3, 4] = 5.0
    drives = readout.drives(_ratios((0, 7, 9), (1, 7, 9)), NOISELESS, torch.Generator())
    seen = readout.anchor_drives(drives)
    assert seen.shape == (1, 100)
    assert int(seen.argmax()) == 3 * 10 + 4
