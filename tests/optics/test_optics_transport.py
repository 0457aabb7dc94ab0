"""The start by optimal transport against the maps that are known: a magnified disc, a prism, and the wave model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optics import FUSED_SILICA, FreeformMask, OpticsError, PupilGrid, PupilToPsf, ThinLens, index_differences
from optics.elements.masks import controls_for_height, transport_height_m

GREEN = 540e-9
GRID, LENS = PupilGrid(0.5e-3, 96), ThinLens(4e-3, 1.0)
PITCH = 30e-6
INDEX = float(index_differences(FUSED_SILICA, [GREEN])[0])


def _squares(side: int) -> Tensor:
    x = torch.arange(side, dtype=torch.float64) - side // 2
    return x[:, None] ** 2 + x**2


def _inside(height: Tensor) -> Tensor:
    u = GRID.coordinate_m.double()
    inside = (u[:, None] ** 2 + u**2) < (0.9 * GRID.diameter_m / 2) ** 2
    return height[inside] - height[inside].mean()


def test_a_disc_is_a_parabola() -> None:
    """Uniform light into a uniform disc: every ray goes to the same share of the radius."""
    radius = 10
    height = transport_height_m(GRID, LENS, (_squares(31) <= radius**2).double(), PITCH, GREEN)
    u = GRID.coordinate_m.double()
    stretch = radius * PITCH / (GRID.diameter_m / 2)
    wanted = stretch / (2 * LENS.sensor_distance_m * INDEX) * (u[:, None] ** 2 + u**2)
    assert float((_inside(height) - _inside(wanted)).abs().max()) < 0.02 * float(wanted.max())


def test_a_single_cell_is_a_prism() -> None:
    pattern = torch.zeros(31, 31, dtype=torch.float64)
    pattern[15 - 4, 15 + 7] = 1
    height = transport_height_m(GRID, LENS, pattern, PITCH, GREEN)
    u = GRID.coordinate_m.double()
    wanted = PITCH * (7 * u - 4 * u[:, None]) / (LENS.sensor_distance_m * INDEX)
    assert torch.allclose(_inside(height), _inside(wanted), atol=2e-3 * float(wanted.max()))


def _islands() -> Tensor:
    y, x = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(21.0) - 10, indexing="ij")
    spots = [(-4, -5, 1.0), (-3, 5, 0.7), (5, 0, 1.2)]
    return sum((a * torch.exp(-((y - b) ** 2 + (x - c) ** 2) / 6) for b, c, a in spots), torch.zeros(21, 21))


def test_light_forms_the_pattern_in_all_colours_at_once() -> None:
    pattern = _islands() / _islands().sum()
    colours = (620e-9, GREEN, 460e-9)
    grid = PupilGrid(0.5e-3, 200)
    height = transport_height_m(grid, LENS, pattern, PITCH, GREEN)
    controls = controls_for_height(height, 32, float(height.max()) / 0.85)
    mask = FreeformMask(grid, 32, float(height.max()) / 0.85, FUSED_SILICA, controls)
    psf = PupilToPsf(grid, LENS, colours, PITCH, 21)(mask)
    for plane in psf:
        assert float(plane.sum()) > 0.97
        assert float((plane - pattern).norm() / pattern.norm()) < 0.25
    # A flat mask puts all into one cell: the test can fail.
    flat = PupilToPsf(grid, LENS, colours, PITCH, 21)(FreeformMask(grid, 32, 1e-6).requires_grad_(False))
    assert float((flat[0] - pattern).norm() / pattern.norm()) > 2


def test_patterns_of_a_batch_are_independent() -> None:
    patterns = torch.stack([_islands(), _islands().flip(0)])
    both = transport_height_m(GRID, LENS, patterns, PITCH, GREEN)
    assert torch.allclose(both[1], transport_height_m(GRID, LENS, patterns[1], PITCH, GREEN), atol=1e-12)
    assert torch.allclose(both[0], both[1].flip(0), atol=1e-3 * float(both.max()))


def test_controls_give_the_height_back() -> None:
    mask = FreeformMask(GRID, 12, 5e-6, start=torch.randn(12, 12, generator=torch.Generator().manual_seed(0)) * 0.3)
    height = mask.height_m().double()
    again = FreeformMask(GRID, 12, 5e-6, start=controls_for_height(height, 12, 5e-6)).height_m().double()
    assert torch.allclose(again - again.mean(), height - height.mean(), atol=2e-8)


def test_what_cannot_be_made_is_named() -> None:
    with pytest.raises(OpticsError, match="have light in it"):
        transport_height_m(GRID, LENS, torch.zeros(5, 5), PITCH, GREEN)
    with pytest.raises(OpticsError, match=r"\(K, K\) or \(B, K, K\)"):
        transport_height_m(GRID, LENS, torch.ones(5, 6), PITCH, GREEN)
    with pytest.raises(OpticsError, match="must be at least"):
        controls_for_height(torch.linspace(0, 1e-5, 64).reshape(8, 8), 4, 1e-6)
