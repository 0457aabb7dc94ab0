"""A camera of pairs off its design: what is changed, against closed forms and other ways to compute it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.winners.deviations import DEVIATIONS, SHIFT_PX, OpticsChange, at_distance, groups, seen_from
from codesign.winners.masks import masks_of
from codesign.winners.tolerance import deviating, tiles_of
from optics import PupilToPsf, get_material
from optics.elements import MeasuredHeight
from sim.winners import MaskTiles

CONFIG = TrainMaskConfig.for_budget("smoke")
BY_NAME = {row.name: row for row in DEVIATIONS}


def _state() -> dict[str, Tensor]:
    """A design of one pair: smooth random reliefs, and a read-out with one window."""
    cells = CONFIG.winners.relief_cells
    noise = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(4))
    smooth = torch.nn.functional.interpolate(noise[:, None], (cells, cells), mode="bicubic")[:, 0]
    return {
        "controls": 0.02 * smooth, "windows": torch.tensor([[4, 4, 9, 9]]), "channel_of": torch.tensor([0]),
        "weight": torch.ones(1), "gain": torch.ones(1), "offset": torch.zeros(1), "bias.0": torch.zeros(9, 9),
        "level": torch.tensor(-math.inf),
    }  # fmt: skip


def _spot(x: float, y: float) -> Tensor:
    """A scene (1, 3, 64, 64) with one soft spot."""
    across = torch.arange(64)
    spot = torch.exp(-((across[:, None] - y) ** 2 + (across - x) ** 2) / 18)
    return spot.expand(1, 3, -1, -1)


@pytest.mark.parametrize(("distance", "x"), [(0.8, 31.5 + 10 * 1.25), (1.25, 31.5 + 10 / 1.25)])
def test_a_face_looks_larger_the_nearer_it_is(distance: float, x: float) -> None:
    scenes, landmarks = seen_from(_spot(41.5, 27.5), torch.tensor([[[41.5, 27.5]]]), distance)
    across = torch.arange(64.0)
    total = scenes[0, 0].sum()
    found = (float((scenes[0, 0] * across).sum() / total), float((scenes[0, 0] * across[:, None]).sum() / total))
    wanted = (x, 31.5 - 4 / distance)
    assert found == pytest.approx(wanted, abs=0.05)
    assert landmarks.flatten().tolist() == pytest.approx(wanted, abs=1e-4)


def test_pixels_keep_their_size_at_every_distance() -> None:
    geometry = geometry_of(CONFIG.optics)
    nearer = at_distance(geometry, 0.8)
    assert nearer.object_distance_m == pytest.approx(0.8 * geometry.object_distance_m)
    assert nearer.cell_m == pytest.approx(geometry.cell_m, rel=1e-12)
    assert nearer.lens == geometry.lens


def test_without_a_change_the_light_is_that_of_the_design() -> None:
    state, geometry = _state(), geometry_of(CONFIG.optics)
    made = MaskTiles(masks_of(CONFIG, geometry, state), geometry, 32, CONFIG.winners.filter_weights)
    assert torch.allclose(tiles_of(CONFIG, state, OpticsChange()).psfs(), made.psfs(), atol=1e-6)


def test_a_deeper_relief_is_the_height_map_times_a_number() -> None:
    state, geometry = _state(), geometry_of(CONFIG.optics)
    to_psf = PupilToPsf(geometry.grid, geometry.lens, geometry.wavelengths_m, geometry.cell_m, geometry.psf_cells)
    height = masks_of(CONFIG, geometry, state)[1].height_m() * 1.03
    scaled = MeasuredHeight(geometry.grid, height, material=get_material(CONFIG.mask.material))
    found = tiles_of(CONFIG, state, BY_NAME["deeper"].optics).psfs()
    assert torch.allclose(found[1], to_psf(scaled, geometry.object_distance_m), atol=1e-5)
    assert not torch.allclose(found[1], tiles_of(CONFIG, state, OpticsChange()).psfs()[1], atol=1e-4)


def test_errors_of_surface_and_mounting_are_those_of_each_tile() -> None:
    state = _state()
    state["controls"] = state["controls"][:1].expand(2, -1, -1).contiguous()
    same = tiles_of(CONFIG, state, OpticsChange()).psfs()
    assert torch.equal(same[0], same[1])
    rough = tiles_of(CONFIG, state, BY_NAME["surface"].optics).psfs()
    assert not torch.allclose(rough[0], rough[1], atol=1e-5)
    shifted = tiles_of(CONFIG, state, BY_NAME["shifted"].optics)
    assert torch.equal(shifted.psfs(), same)
    assert shifted.array is not None
    errors = torch.tensor(shifted.array.errors_m)
    pixel_m = shifted.geometry.cell_m * 2
    assert float(errors.abs().max()) <= SHIFT_PX * pixel_m
    assert len(errors.flatten().unique()) == 4


def test_less_light_makes_fewer_electrons_and_another_chip_errs_elsewhere() -> None:
    state = _state()
    tiles = tiles_of(CONFIG, state, OpticsChange())
    designed, dim, other = (
        deviating(CONFIG, state, tiles, BY_NAME[name]) for name in ("as-designed", "light-hundredth", "another-chip")
    )
    assert dim.pixels.electrons_at_white == pytest.approx(designed.pixels.electrons_at_white / 100)
    assert dim.pixels.read_noise_e == designed.pixels.read_noise_e
    assert torch.equal(dim.mismatch, designed.mismatch)
    assert not torch.equal(other.mismatch, designed.mismatch)
    assert float(other.mismatch.std()) == pytest.approx(float(designed.mismatch.std()), rel=0.1)


def test_deviations_with_the_same_light_share_it() -> None:
    assert groups()[0] == OpticsChange()
    shared = [row.name for row in DEVIATIONS if row.optics == groups()[0]]
    assert shared == ["as-designed", "light-tenth", "light-hundredth", "another-chip"]
    assert len(groups()) == 7
