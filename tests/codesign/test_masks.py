"""Masks of a run: built from values, drawn for a start, and read back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from codesign import masks
from codesign.attackers import opening
from codesign.cameras import baselines, build, exposure_of, ours
from codesign.config import MaskConfig, TrainMaskConfig
from codesign.errors import CodesignError
from codesign.export import write_camera
from optics import PupilGrid
from sim.stored import StoredCamera

GRID = PupilGrid(0.5e-3, 64)
KINDS = [MaskConfig(cells=8, start_spread=0.5), MaskConfig(kind="zernike", terms=6, start_spread=0.5)]
each = pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.kind)


def drawn(settings: MaskConfig, seed: int = 3) -> Any:
    return masks.start(settings, GRID, torch.Generator().manual_seed(seed))


@each
def test_a_mask_comes_back_from_its_state_and_is_fixed(settings: MaskConfig) -> None:
    made = drawn(settings)
    again = masks.load(settings, GRID, made.state_dict())
    assert torch.equal(again.height_m(), made.height_m().detach())
    assert list(again.parameters()) == []
    assert len(list(made.parameters())) == 1


@each
def test_reading_a_mask_draws_no_random_number(settings: MaskConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    state = drawn(settings).state_dict()
    monkeypatch.setattr(torch, "randn", None)
    masks.load(settings, GRID, state)


@each
def test_the_seed_decides_the_start(settings: MaskConfig) -> None:
    assert torch.equal(drawn(settings).height_m(), drawn(settings).height_m())
    assert not torch.equal(drawn(settings).height_m(), drawn(settings, seed=4).height_m())


@each
def test_no_spread_starts_without_relief(settings: MaskConfig) -> None:
    height = drawn(settings.model_copy(update={"start_spread": 0.0})).height_m().detach()
    torch.testing.assert_close(height, masks.flat(settings, GRID).height_m())
    assert float(height.max() - height.min()) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, r"consists of controls of shape \(8, 8\), but the stored one holds \{\}"),
        ({"controls": torch.zeros(9, 9)}, r"holds \{'controls': \(9, 9\)\}; use the mask file of this run"),
        ({"coefficients_m": torch.zeros(6)}, r"holds \{'coefficients_m': \(6,\)\}"),
        ({"controls": torch.full((8, 8), torch.nan)}, r"the stored controls are not all finite numbers"),
        ({"controls": torch.zeros(8, 8, dtype=torch.int64)}, r"the stored controls are not all finite numbers"),
    ],
)
def test_the_state_of_another_mask_is_refused(state: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(CodesignError, match=words):
        masks.load(KINDS[0], GRID, state)


# A grey mask beside the relief

SENSOR = TrainMaskConfig.for_budget("smoke").sensor
GREY = SENSOR.model_copy(update={"grey_mask": True})


def test_a_sensor_without_a_grey_mask_has_none() -> None:
    assert masks.start_grey(SENSOR, 64) is None
    state = drawn(KINDS[0]).state_dict()
    relief, grey = masks.split(SENSOR, state)
    assert (relief, grey) == (dict(state), None)


def test_a_grey_mask_starts_as_the_stop_or_almost_open() -> None:
    started = masks.start_grey(GREY, 64)
    assert started is not None
    stop = exposure_of(GREY).field_stop
    assert stop is not None
    passed = stop.transmission(64).view(32, 2, 32, 2).mean(dim=(1, 3))
    torch.testing.assert_close(started.transmission().detach(), passed.clamp(0.02, 0.98), rtol=0, atol=1e-5)
    assert len(list(started.parameters())) == 1
    opened = masks.start_grey(
        GREY.model_copy(update={"field_stop": GREY.field_stop.model_copy(update={"enabled": False})}), 64
    )
    assert opened is not None
    torch.testing.assert_close(opened.transmission().detach(), torch.full((32, 32), 0.9))


def test_relief_and_grey_mask_come_back_from_one_state() -> None:
    started = masks.start_grey(GREY, 64)
    assert started is not None
    made = drawn(KINDS[0])
    relief, grey = masks.split(GREY, {**made.state_dict(), masks.GREY: started.logits.detach()})
    assert grey is not None
    assert torch.equal(grey.logits, started.logits)
    assert list(grey.parameters()) == []
    assert torch.equal(masks.load(KINDS[0], GRID, relief).height_m(), made.height_m().detach())


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (None, r"consists of grey_logits of shape \(32, 32\), but the stored one is none; use the mask file"),
        (torch.zeros(16, 16), r"the stored one is torch.float32 of shape \(16, 16\)"),
        (torch.zeros(32, 32, dtype=torch.int64), r"the stored one is torch.int64"),
        (torch.full((32, 32), torch.nan), r"the stored grey_logits are not all finite numbers"),
    ],
)
def test_another_grey_mask_is_refused(logits: torch.Tensor | None, words: str) -> None:
    state = drawn(KINDS[0]).state_dict() | ({} if logits is None else {masks.GREY: logits})
    with pytest.raises(CodesignError, match=words):
        masks.split(GREY, state)


def test_a_grey_mask_that_the_sensor_does_not_have_is_refused() -> None:
    relief, _ = masks.split(SENSOR, drawn(KINDS[0]).state_dict() | {masks.GREY: torch.zeros(32, 32)})
    with pytest.raises(CodesignError, match=r"holds \{'controls': \(8, 8\), 'grey_logits': \(32, 32\)\}"):
        masks.load(KINDS[0], GRID, relief)


def test_the_camera_of_a_grey_mask_has_it_in_place_of_the_stop() -> None:
    changes = {"design": "frame", "sensor": GREY, "mask": KINDS[0]}
    config = TrainMaskConfig.for_budget("full").model_copy(update=changes)
    state = drawn(KINDS[0]).state_dict() | {masks.GREY: torch.linspace(-2, 2, 32 * 32).view(32, 32)}
    camera = build(ours(config), config, state)
    torch.testing.assert_close(camera.field[::2, ::2], torch.sigmoid(state[masks.GREY]))
    # The others stand behind the stop that it began as, which is said.
    parts = {family.spec.name: (family.spec.exposure.field_stop, family.ablation) for family in baselines(config)}
    assert parts["same-sensor-no-mask"] == (exposure_of(GREY).field_stop, "the mask and the grey mask")
    assert parts["mono-pixels-16"] == (None, "")


def test_crops_of_attackers_fit_what_a_grey_mask_passes() -> None:
    config = TrainMaskConfig.for_budget("smoke").model_copy(update={"sensor": GREY, "mask": KINDS[0]})
    square = torch.full((32, 32), -30.0)
    square[8:24, 8:24] = 2.0
    state = drawn(KINDS[0]).state_dict() | {masks.GREY: square}
    # Half the window across; the outermost twentieth of its light lies in its outermost cells.
    assert opening(build(ours(config), config, state)) == pytest.approx(0.5, abs=0.02)
    state[masks.GREY] = torch.zeros(32, 32)
    assert opening(build(ours(config), config, state)) == pytest.approx(1.0, abs=0.04)


def test_a_grey_mask_is_handed_on_with_the_camera(tmp_path: Path) -> None:
    config = TrainMaskConfig.for_budget("smoke").model_copy(update={"sensor": GREY, "mask": KINDS[0]})
    state = drawn(KINDS[0]).state_dict() | {masks.GREY: torch.linspace(-3, 3, 32 * 32).view(32, 32)}

    class Folder:
        def write_bytes(self, name: str, data: bytes) -> Path:
            (tmp_path / name).write_bytes(data)
            return tmp_path / name

    write_camera(config, Folder(), state)  # type: ignore[arg-type]
    scenes = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    handed_on, built = StoredCamera.load(tmp_path), build(ours(config), config, state)
    torch.testing.assert_close(handed_on.camera.signal(scenes), built.signal(scenes), rtol=1e-4, atol=1e-2)
    assert handed_on.grey is not None
    torch.testing.assert_close(handed_on.grey, torch.sigmoid(state[masks.GREY]))
