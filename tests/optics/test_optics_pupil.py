"""The sampled aperture."""

from __future__ import annotations

from math import atan2, pi

import pytest
import torch

from optics import OpticsError, PupilGrid

EXACT = 1e-12


@pytest.mark.parametrize("samples", [8, 33, 256])
def test_area_is_that_of_the_circle(samples: int) -> None:
    grid = PupilGrid(0.5e-3, samples)
    assert float(grid.amplitude.sum()) * grid.pitch_m**2 == pytest.approx(pi * 0.25e-3**2, rel=EXACT)
    assert grid.area_m2 == pytest.approx(pi * 0.25e-3**2, rel=EXACT)


def test_grey_edge_is_the_covered_share_of_each_cell() -> None:
    grid, fine = PupilGrid(2.0, 16), 400
    axis = (torch.arange(16 * fine, dtype=torch.float64) + 0.5) / (8 * fine) - 1
    inside = (axis[:, None] ** 2 + axis**2 <= 1).double()
    counted = inside.reshape(16, fine, 16, fine).mean(dim=(1, 3))
    assert (grid.amplitude - counted).abs().max() < 1e-3


@pytest.mark.parametrize("samples", [9, 256, 1024])
def test_cells_outside_are_closed_to_the_last_bit(samples: int) -> None:
    grid = PupilGrid(2.0, samples)
    # Nearest corner to the axis, in half cells: whole numbers, so exact.
    corner = ((torch.arange(samples) * 2 - (samples - 1)).abs() - 1).clamp(min=0)
    assert torch.equal(grid.amplitude > 0, corner[:, None] ** 2 + corner**2 < samples**2)


def test_axes_are_centred_with_x_right_and_y_down() -> None:
    grid = PupilGrid(8.0, 8)
    assert grid.x_m[0].tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    assert torch.equal(grid.y_m, grid.x_m.T)
    assert float(grid.radius[0, 0]) == pytest.approx(3.5 * 2**0.5 / 4, rel=EXACT)
    assert float(grid.angle[7, 4]) == pytest.approx(atan2(3.5, 0.5), rel=EXACT)


@pytest.mark.parametrize(
    ("diameter", "samples", "message"), [(0.0, 64, "diameter_m=0.0 must be"), (1e-3, 4, "samples=4 is too coarse")]
)
def test_impossible_pupils_are_refused(diameter: float, samples: int, message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        PupilGrid(diameter, samples)
