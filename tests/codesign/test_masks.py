"""Masks of a run: built from values, drawn for a start, and read back as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from codesign import masks
from codesign.config import MaskConfig
from codesign.errors import CodesignError
from optics import PupilGrid

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
