"""Height maps sample by sample: the limits hold, measurements land where they belong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optics import OpticsError, PupilGrid
from optics.elements import BoundedHeight, MeasuredHeight, limit_penalty, limit_slope

GRID = PupilGrid(0.5e-3, 64)
F64 = torch.float64


def rough(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def test_slope_limit_is_the_mean_of_the_cone_envelopes() -> None:
    height, step = rough(7, 9), 0.3
    y, x = torch.meshgrid(torch.arange(7), torch.arange(9), indexing="ij")
    points = torch.stack([y.flatten(), x.flatten()], 1).double()
    distance = torch.cdist(points, points, p=1)
    flat = height.flatten()
    below = (flat[None] + step * distance).amin(1)
    above = (flat[None] - step * distance).amax(1)
    expected = ((below + above) / 2).reshape(7, 9)
    assert (limit_slope(height, 2.0, 0.15) - expected).abs().max() < 1e-14


def test_slope_limit_holds_is_closest_and_leaves_gentle_maps_alone() -> None:
    height = rough(2, 32, 32, seed=2)
    limited = limit_slope(height, 0.1, 4.0)
    for dim in (-1, -2):
        assert float(limited.diff(dim=dim).abs().max()) <= 0.4 * (1 + 1e-12)
    assert (limit_slope(limited, 0.1, 4.0) - limited).abs().max() < 1e-14
    assert float(limited.max()) <= float(height.max())
    assert float(limited.min()) >= float(height.min())
    assert torch.equal(limited[1], limit_slope(height[1], 0.1, 4.0))
    # A step of 1 between neighbours must become 0.4: no map within the limit comes closer than 0.3 to both.
    edge = torch.cat([torch.zeros(8, 8, dtype=F64), torch.ones(8, 8, dtype=F64)], 1)
    assert float((limit_slope(edge, 0.1, 4.0) - edge).abs().max()) == pytest.approx(0.3, rel=1e-12)


def test_slope_limit_has_a_gradient() -> None:
    assert torch.autograd.gradcheck(lambda h: limit_slope(h, 1.0, 0.2), (rough(5, 6).requires_grad_(),))


def test_bounded_height_keeps_all_limits_and_trains() -> None:
    controls = nn.Parameter(20 * rough(64, 64, seed=3))
    mask = BoundedHeight(GRID, 1.2e-6, 0.05, start=controls, dtype=F64)
    mask.height_m().square().sum().backward()
    height = mask.height_m().detach()
    assert float(height.min()) >= 0
    assert float(height.max()) <= 1.2e-6
    for dim in (0, 1):
        assert float(height.diff(dim=dim).abs().max()) <= 0.05 * GRID.pitch_m * (1 + 1e-9)
    assert controls.grad is not None
    assert bool(torch.isfinite(controls.grad).all())
    assert float(controls.grad.abs().max()) > 0
    free = BoundedHeight(GRID, 1.2e-6, start=controls, dtype=F64).height_m()
    assert torch.equal(free, 1.2e-6 * torch.sigmoid(controls))
    assert torch.allclose(BoundedHeight(GRID, 2e-6, 0.1).height_m(), torch.tensor(1e-6))


def test_penalty_of_a_ramp_and_of_a_parabola() -> None:
    i = torch.arange(20, dtype=F64) * 0.5
    ramp = (0.6 * i).expand(20, 20)
    assert float(limit_penalty(ramp, 0.5, max_slope=0.3)) == pytest.approx(1.0)
    assert float(limit_penalty(ramp, 0.5, max_slope=0.61)) == 0
    bowl = (1.5 * i**2)[:, None].expand(20, 20)  # curvature 3
    assert float(limit_penalty(bowl, 0.5, max_curvature=1.0)) == pytest.approx(4.0)
    assert float(limit_penalty(bowl, 0.5, max_curvature=3.001)) == 0
    both = limit_penalty(bowl, 0.5, max_slope=1e9, max_curvature=1.0)
    assert float(both) == pytest.approx(4.0)
    height = rough(6, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: limit_penalty(h, 0.5, max_slope=0.3, max_curvature=1.0), (height,))


@pytest.mark.parametrize(("rows", "columns"), [(61, 81), (60, 80)])
def test_measured_plane_is_reproduced_upright(rows: int, columns: int) -> None:
    y = (torch.arange(rows, dtype=F64) - (rows - 1) / 2) * 1e-5
    x = (torch.arange(columns, dtype=F64) - (columns - 1) / 2) * 1e-5
    plane = 3e-3 * x[None, :] + 1e-3 * y[:, None] + 1e-6
    height = MeasuredHeight(GRID, plane, 1e-5, dtype=F64).height_m()
    assert (height - (3e-3 * GRID.x_m + 1e-3 * GRID.y_m + 1e-6)).abs().max() < 1e-17


def test_unknown_points_outside_the_aperture_do_not_matter() -> None:
    heights = rough(64, 64) * 1e-7
    heights[GRID.amplitude == 0] = torch.nan
    height = MeasuredHeight(GRID, heights, dtype=F64).height_m()
    inside = GRID.amplitude > 0
    assert torch.equal(height[inside], heights[inside])
    assert not height[~inside].any()


def test_bad_maps_and_limits_are_refused() -> None:
    heights = torch.zeros(64, 64)
    heights[32, 32] = torch.nan
    with pytest.raises(OpticsError, match="height_m gives no finite value for 1 cells of the aperture"):
        MeasuredHeight(GRID, heights)
    with pytest.raises(OpticsError, match=r"height_m gives no finite value for .* change pitch_m"):
        MeasuredHeight(GRID, torch.zeros(40, 40), 1e-5)
    with pytest.raises(OpticsError, match=r"height_m has shape \(40, 40\) but the pupil has \(64, 64\) samples"):
        MeasuredHeight(GRID, torch.zeros(40, 40))
    with pytest.raises(OpticsError, match=r"height_m has shape \(64,\); it must be a map"):
        MeasuredHeight(GRID, torch.zeros(64))
    with pytest.raises(OpticsError, match="pitch_m=-1e-05 must be positive"):
        MeasuredHeight(GRID, torch.zeros(64, 64), -1e-5)
    with pytest.raises(OpticsError, match=r"max_height_m=0\.0 must be positive"):
        BoundedHeight(GRID, 0.0)
    with pytest.raises(OpticsError, match="max_slope=nan must be positive"):
        BoundedHeight(GRID, 1e-6, float("nan"))
    with pytest.raises(OpticsError, match="controls has 4096 of 4096 values that are NaN"):
        BoundedHeight(GRID, 1e-6, start=torch.full((64, 64), torch.nan))
    with pytest.raises(OpticsError, match="pass max_slope or max_curvature"):
        limit_penalty(torch.zeros(4, 4), 1.0)
    with pytest.raises(OpticsError, match="max_curvature=-1 must be positive"):
        limit_penalty(torch.zeros(4, 4), 1.0, max_curvature=-1)
