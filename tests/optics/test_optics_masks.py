"""Masks: range, smoothness, what is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optics import FUSED_SILICA, PMMA, FlatMask, FreeformMask, OpticsError, PupilGrid, ZernikeMask, random_mask

GRID = PupilGrid(0.5e-3, 64)


def test_freeform_height_stays_in_range_whatever_the_controls() -> None:
    controls = torch.full((8, 8), -80.0)
    controls[4:] = 80.0
    height = FreeformMask(GRID, 8, 1.5e-6, start=controls, dtype=torch.float64).height_m()
    assert float(height.min()) >= 0
    assert float(height.max()) <= 1.5e-6
    assert float(height.max() - height.min()) == pytest.approx(1.5e-6, rel=1e-9)


def test_freeform_splines_reproduce_constants_and_slopes() -> None:
    # A uniform cubic B-spline with controls on a line is that line.
    controls = torch.arange(10, dtype=torch.float64).expand(10, 10) * 0.3 - 1
    height = FreeformMask(GRID, 10, 1.0, start=controls, dtype=torch.float64).height_m()
    surface = torch.logit(height)
    position = (torch.arange(64, dtype=torch.float64) + 0.5) / 64 * 7 + 1
    assert (surface - (0.3 * position - 1)).abs().max() < 1e-12


def test_flat_start_is_half_height_and_trains() -> None:
    mask = FreeformMask(GRID, 8, 2e-6)
    assert torch.allclose(mask.height_m(), torch.tensor(1e-6))
    mask.height_m().sum().backward()
    assert mask.controls.grad is not None
    assert float(mask.controls.grad.abs().min()) > 0


@pytest.mark.parametrize("kind", ["zernike", "freeform"])
def test_a_parameter_is_trained_and_a_tensor_is_fixed(kind: str) -> None:
    def build(start: torch.Tensor | None) -> nn.Module:
        return ZernikeMask(GRID, 6, start) if kind == "zernike" else FreeformMask(GRID, 6, 1e-6, start=start)

    shape = (6,) if kind == "zernike" else (6, 6)
    given = nn.Parameter(torch.zeros(shape))
    assert [p is given for p in build(given).parameters()] == [True]
    assert len(list(build(None).parameters())) == 1
    fixed = build(torch.ones(shape))
    assert list(fixed.parameters()) == []
    assert len(fixed.state_dict()) == 1


def test_a_saved_mask_comes_back() -> None:
    mask = random_mask(GRID, 8, 1e-6, torch.Generator().manual_seed(3))
    other = FreeformMask(GRID, 8, 1e-6)
    other.load_state_dict(mask.state_dict())
    assert torch.equal(other.height_m(), mask.height_m())


def test_random_mask_follows_its_generator() -> None:
    first, again, other = (random_mask(GRID, 8, 1e-6, torch.Generator().manual_seed(s)).height_m() for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-7


def test_flat_mask_and_materials() -> None:
    assert FlatMask(GRID).height_m().abs().max() == 0
    pmma, silica = (FlatMask(GRID, m).index_differences([550e-9]) for m in (PMMA, FUSED_SILICA))
    assert float(pmma - silica) == pytest.approx(1.4926 - 1.4599, abs=1e-4)


def test_impossible_masks_are_refused() -> None:
    with pytest.raises(OpticsError, match=r"coefficients_m has shape \(5,\) but \(6,\) is needed"):
        ZernikeMask(GRID, 6, torch.zeros(5))
    with pytest.raises(OpticsError, match="coefficients_m has 2 of 6 values that are NaN or infinite"):
        ZernikeMask(GRID, 6, torch.tensor([0.0, float("nan"), 0.0, float("inf"), 0.0, 0.0]))
    with pytest.raises(OpticsError, match="cells=3 is too few"):
        FreeformMask(GRID, 3, 1e-6)
    with pytest.raises(OpticsError, match="max_height_m=0 must be"):
        FreeformMask(GRID, 8, 0)
