"""Limits of a process against reliefs whose violations are known by construction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_opening

from optics import PMMA, OpticsError, PupilGrid
from optics.fabrication import ProcessLimits, Relief, Violation, check_limits
from optics.fabrication.limits import too_small

PITCH = 2e-6
GRID = PupilGrid(32 * PITCH, 32)
X, Y = GRID.x_m, GRID.y_m


def relief(height_m: torch.Tensor, levels: int | None = None) -> Relief:
    return Relief(height_m, PITCH, PMMA, (550e-9,), levels, None if levels is None else 1e-7)


def only(found: Relief, limits: ProcessLimits) -> Violation:
    (violation,) = check_limits(found, limits).violations
    return violation


def test_nothing_asked_nothing_found() -> None:
    report = check_limits(relief(0.01 * X), ProcessLimits())
    assert report.violations == ()
    report.refuse()


def test_height_range_lists_every_cell_inside_the_aperture() -> None:
    height = torch.zeros(32, 32, dtype=torch.float64)
    height[10, 20], height[12, 3], height[0, 0] = 3e-6, -1e-6, 9e-6  # the last one lies outside the circle
    violation = only(relief(height), ProcessLimits(height_range_m=(0, 1.5e-6)))
    assert violation.places.tolist() == [[10, 20], [12, 3]]
    assert violation.values.tolist() == [3e-6, -1e-6]
    assert str(violation) == "height_range_m=(0, 1.5e-06) against 3e-06 at [10, 20] (2 cells in all)"
    assert check_limits(relief(height), ProcessLimits(height_range_m=(-1e-6, 3e-6))).violations == ()


def test_slope_is_the_length_of_the_gradient() -> None:
    plane = relief(0.03 * X + 0.04 * Y)
    assert check_limits(plane, ProcessLimits(max_slope=0.05)).violations == ()
    violation = only(plane, ProcessLimits(max_slope=0.0499))
    assert violation.values.max() == pytest.approx(0.05)
    # Both neighbours of a pair lie inside: 812 cells touch the circle of 32, and each is the corner of a pair but rims.
    assert 700 < len(violation.places) < 812


def test_slope_names_the_place() -> None:
    height = torch.zeros(32, 32, dtype=torch.float64)
    height[:, 20:] = 1e-6
    violation = only(relief(height), ProcessLimits(max_slope=0.1))
    assert set(violation.places[:, 1].tolist()) == {19}
    assert violation.values.tolist() == pytest.approx([0.5] * len(violation.places))


def test_levels_are_counted() -> None:
    codes = torch.arange(32)[:, None].expand(32, 32) % 5
    violation = only(relief(codes.double() * 1e-7, 8), ProcessLimits(max_levels=4))
    assert str(violation) == "max_levels=4 against 5"
    assert check_limits(relief(codes.double() * 1e-7, 8), ProcessLimits(max_levels=5)).violations == ()


@pytest.mark.parametrize(("grid_m", "fits"), [(0.5e-6, True), (2e-6, True), (0.3e-6, False), (4e-6, False)])
def test_pitch_against_the_address_grid(grid_m: float, fits: bool) -> None:
    flat = relief(torch.zeros(32, 32))
    found = check_limits(flat, ProcessLimits(grid_m=grid_m)).violations
    assert bool(found) is not fits
    if found:
        assert found[0].values.tolist() == [PITCH]


@pytest.mark.parametrize("polarity", [0, 1])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_lines_and_gaps_are_found(polarity: int, width: int) -> None:
    codes = torch.full((32, 32), polarity)
    codes[:, 15 : 15 + width] = 1 - polarity
    found = relief(codes.double() * 1e-7, 2)
    assert check_limits(found, ProcessLimits(min_feature_m=width * PITCH)).violations == ()
    violation = only(found, ProcessLimits(min_feature_m=(width + 1) * PITCH))
    assert set(violation.places[:, 1].tolist()) == set(range(15, 15 + width))
    assert violation.values.tolist() == pytest.approx([width * PITCH] * len(violation.places))


def test_features_of_every_level_count() -> None:
    # A staircase 0 1 2 over single columns: level 1 as such is one cell wide, but both edges bound wide areas.
    codes = torch.zeros(32, 32, dtype=torch.int64)
    codes[:, 16], codes[:, 17:] = 1, 2
    wide = relief(codes.double() * 1e-7, 3)
    assert check_limits(wide, ProcessLimits(min_feature_m=4 * PITCH)).violations == ()
    codes[16, 25] = 1  # a pit of one cell between level 1 and 2
    violation = only(relief(codes.double() * 1e-7, 3), ProcessLimits(min_feature_m=2 * PITCH))
    assert violation.places.tolist() == [[16, 25]]
    assert violation.values.tolist() == [PITCH]


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_opening_against_scipy(width: int) -> None:
    cells = torch.rand(2, 40, 40, generator=torch.Generator().manual_seed(1)) < 0.8
    for plane, small in zip(cells, too_small(cells, width), strict=True):
        # Away from the border, where scipy takes the outside as empty.
        padded = np.pad(plane.numpy(), 10, mode="edge")
        opened = binary_opening(padded, np.ones((width, width)))[10:-10, 10:-10]
        assert np.array_equal(small.numpy(), plane.numpy() & ~opened)


def test_limits_that_say_nothing_are_named() -> None:
    limits = ProcessLimits(max_slope=0.1, min_feature_m=1e-6)
    assert check_limits(relief(0.01 * X), limits).not_applicable == ("min_feature_m",)
    assert check_limits(relief(torch.zeros(32, 32), 4), limits).not_applicable == ("max_slope",)


def test_refusal_names_every_rule() -> None:
    steep = relief(0.2 * X)
    report = check_limits(steep, ProcessLimits(height_range_m=(0, 1e-6), max_slope=0.1, grid_m=0.3e-6))
    match = r"cannot be made: height_range_m=.* against .*; grid_m=3e-07 against 2e-06; max_slope=0.1 against 0.2 at \["
    with pytest.raises(OpticsError, match=match):
        report.refuse()


def test_a_flat_staircase_has_no_features() -> None:
    flat = replace(relief(torch.zeros(32, 32)), levels=4, step_m=1e-7)
    assert check_limits(flat, ProcessLimits(min_feature_m=1e-5)).violations == ()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"height_range_m": (1e-6, 0)}, r"must be \(lowest, highest\)"),
        ({"max_levels": 1}, "max_levels=1 must be at least 2"),
        ({"min_feature_m": 0.0}, "min_feature_m=0.0 must be positive"),
        ({"max_slope": -1.0}, "max_slope=-1.0 must be positive"),
        ({"grid_m": float("inf")}, "grid_m=inf must be positive"),
    ],
)
def test_impossible_limits(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(OpticsError, match=match):
        ProcessLimits(**arguments)
