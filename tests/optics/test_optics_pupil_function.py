"""Path error and transmission of further elements in the pupil: size, sign, batches, devices, refusals."""

from __future__ import annotations

import pytest
import torch

from optics import OpticsError, PointPsf, PupilGrid, PupilToPsf, ThinLens, random_mask
from tests.optics.raw_pupil import Given

WAVES = (620e-9, 540e-9)
LENS = ThinLens(4e-3, 1.0)
GRID = PupilGrid(0.5e-3, 64)
DN = torch.tensor([0.457, 0.460], dtype=torch.float64)
FLAT = torch.zeros(64, 64, dtype=torch.float64)
EXACT = 1e-12
PITCH = 1e-6

POINTS = PointPsf(GRID, LENS, WAVES, PITCH, 61, dtype=torch.float64)
CELLS = PupilToPsf(GRID, LENS, WAVES, 5e-6, 41, dtype=torch.float64)


def heights(count: int) -> torch.Tensor:
    return torch.stack(
        [
            random_mask(GRID, 8, 1e-6, torch.Generator().manual_seed(s), dtype=torch.float64).height_m()
            for s in range(count)
        ]
    )


def test_a_tilted_wavefront_moves_every_colour_towards_the_late_side() -> None:
    # A slope s of the path error moves the spot by s d, for all wavelengths alike.
    flat = POINTS(Given(GRID, FLAT, DN))
    for axis, path in ((-1, GRID.x_m), (-2, GRID.y_m)):
        moved = POINTS(Given(GRID, FLAT, DN, wavefront_m=path * (7 * PITCH / LENS.sensor_distance_m)))
        length = 61 - 7
        assert (moved.narrow(axis, 7, length) - flat.narrow(axis, 0, length)).abs().max() < EXACT
    by_height = PointPsf(GRID, LENS, WAVES[:1], PITCH, 61, dtype=torch.float64)(
        Given(GRID, GRID.x_m * 0.01, 0.5 * torch.ones(1))
    )
    by_path = PointPsf(GRID, LENS, WAVES[:1], PITCH, 61, dtype=torch.float64)(
        Given(GRID, FLAT, torch.ones(1), wavefront_m=GRID.x_m * 0.005)
    )
    assert (by_height - by_path).abs().max() < EXACT


def test_the_wavefront_of_each_colour_is_its_own() -> None:
    tilt = GRID.x_m * (5 * PITCH / LENS.sensor_distance_m)
    both = POINTS(Given(GRID, FLAT, DN, wavefront_m=torch.stack((tilt, -tilt))))
    assert int(both[0].argmax()) % 61 == 35
    assert int(both[1].argmax()) % 61 == 25


def test_the_psf_is_the_share_of_the_light_through_the_open_aperture() -> None:
    height = heights(1)[0]
    for psf in (POINTS, CELLS):
        half = psf(Given(psf.grid, height, DN, transmission=torch.full((64, 64), 0.5)), 0.5)
        assert (half - psf(Given(psf.grid, height, DN), 0.5) / 4).abs().max() < EXACT
        each = psf(
            Given(psf.grid, height, DN, transmission=torch.tensor([1.0, 0.0]).reshape(2, 1, 1).expand(2, 64, 64)), 0.5
        )
        assert (each[0] - psf(Given(psf.grid, height, DN), 0.5)[0]).abs().max() < EXACT
        assert each[1].abs().max() == 0


def test_a_half_closed_pupil() -> None:
    right = (GRID.x_m > 0).double()
    # Half the field on the axis, half the light over a whole replica.
    axis = PointPsf(GRID, LENS, WAVES, PITCH, 1, dtype=torch.float64)
    assert (axis(Given(GRID, FLAT, DN, transmission=right)) - axis(Given(GRID, FLAT, DN)) / 4).abs().max() < EXACT
    period = WAVES[1] * LENS.sensor_distance_m / GRID.pitch_m
    whole = PupilToPsf(GRID, LENS, WAVES[1:], period / 63, 63, dtype=torch.float64)
    ratio = whole(Given(GRID, FLAT, DN[1:], transmission=right)).sum() / whole(Given(GRID, FLAT, DN[1:])).sum()
    assert float(ratio) == pytest.approx(0.5, abs=EXACT)
    # Nearer than the focus, light from the right half lands right of the axis: x_sensor = x d (1/z - 1/z0).
    column = torch.arange(41, dtype=torch.float64) - 20
    near, far = (CELLS(Given(GRID, FLAT, DN, transmission=right), z)[0].sum(0) for z in (0.1, 10.0))
    assert float((near * column).sum()) > 0
    assert float((far * column).sum()) < 0


@pytest.mark.parametrize("psf", [POINTS, CELLS], ids=["points", "cells"])
def test_batches_equal_single_calls(psf: PointPsf | PupilToPsf) -> None:
    generator = torch.Generator().manual_seed(1)
    height, distance = heights(3), torch.tensor([0.4, 0.8, 2.0], dtype=torch.float64)
    path = 2e-7 * torch.rand(3, 2, 64, 64, generator=generator, dtype=torch.float64)
    share = torch.rand(3, 2, 64, 64, generator=generator, dtype=torch.float64)
    both = psf(Given(psf.grid, height, DN, wavefront_m=path, transmission=share), distance)
    only_share = psf(Given(psf.grid, height[0], DN, transmission=share))
    only_path = psf(Given(psf.grid, height[0], DN, wavefront_m=path))
    for k in range(3):
        alone = psf(Given(psf.grid, height[k], DN, wavefront_m=path[k], transmission=share[k]), float(distance[k]))
        assert (both[k] - alone).abs().max() < EXACT
        assert (only_share[k] - psf(Given(psf.grid, height[0], DN, transmission=share[k]))).abs().max() < EXACT
        assert (only_path[k] - psf(Given(psf.grid, height[0], DN, wavefront_m=path[k]))).abs().max() < EXACT


def test_gradcheck_of_wavefront_and_transmission() -> None:
    grid = PupilGrid(0.5e-3, 8)
    psf = PointPsf(grid, LENS, WAVES, 1.5e-6, 5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    path = torch.rand(2, 8, 8, generator=generator, dtype=torch.float64).requires_grad_()
    share = (0.2 + 0.6 * torch.rand(8, 8, generator=generator, dtype=torch.float64)).requires_grad_()

    def through(w: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return psf(Given(psf.grid, torch.zeros(8, 8), DN, wavefront_m=w * 1e-6, transmission=t), 0.3)

    assert torch.autograd.gradcheck(through, (path, share))
    # An opaque sample still has a gradient: the field it would add.
    opaque = torch.zeros(8, 8, dtype=torch.float64, requires_grad=True)
    field = psf.pupil(Given(grid, torch.zeros(8, 8), DN, wavefront_m=path.detach() * 1e-6, transmission=opaque))
    (field.real.sum() + field.imag.sum()).backward()
    assert opaque.grad is not None
    inside = grid.amplitude > 0
    phase = 2 * torch.pi * path.detach() * 1e-6 / torch.tensor(WAVES, dtype=torch.float64).reshape(2, 1, 1)
    truth = (grid.amplitude * (phase.cos() + phase.sin())).sum(0)
    assert (opaque.grad - truth)[inside].abs().max() < EXACT


def test_jacobians_by_function_transforms() -> None:
    grid = PupilGrid(0.5e-3, 8)
    psf = PupilToPsf(grid, LENS, WAVES, 3e-6, 3, dtype=torch.float64)
    height = torch.rand(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_rows = torch.func.jacrev(lambda h: psf(Given(psf.grid, h * 1e-6, DN)))(height)
    by_autograd = torch.autograd.functional.jacobian(lambda h: psf(Given(psf.grid, h * 1e-6, DN)), height)
    assert (by_rows - by_autograd).abs().max() < EXACT


@pytest.mark.parametrize("kind", [PointPsf, PupilToPsf])
def test_everything_follows_the_device(kind: type[PointPsf] | type[PupilToPsf]) -> None:
    psf = kind(GRID, LENS, WAVES, PITCH, 31).to("meta")
    plane = torch.zeros(64, 64, device="meta")
    result = psf(Given(psf.grid, plane, DN.tolist(), wavefront_m=plane, transmission=plane), 0.5)
    assert result.device.type == "meta"
    assert result.shape == (2, 31, 31)
    assert psf(Given(psf.grid, plane.expand(4, 64, 64), DN), 0.5).shape == (4, 2, 31, 31)


BAD = FLAT.clone()
BAD[3, 4] = float("nan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"turns": torch.zeros(3, 64, 64)}, r"turns has shape \(3, 64, 64\); this pupil needs \(64, 64\), \(2, "),
        ({"transmission": torch.zeros(8, 8)}, r"transmission has shape \(8, 8\); this pupil needs"),
        ({"turns": BAD}, "turns has 1 values that are not finite; change turns"),
        ({"transmission": BAD}, "transmission spans nan to nan; an amplitude factor lies between 0 and 1"),
        ({"transmission": FLAT + 1.5}, "transmission spans 1.5 to 1.5"),
        ({"transmission": FLAT - 0.5}, "transmission spans -0.5 to -0.5"),
        ({"turns": torch.zeros(64, 64, device="meta")}, r"turns is on meta but this pupil on cpu; move one"),
        (
            {"turns": FLAT.expand(2, 2, 64, 64), "object_distance_m": torch.ones(3)},
            "turns has a batch of 2 but object_distance_m 3 values; make them agree",
        ),
        (
            {"turns": FLAT.expand(2, 2, 64, 64), "transmission": torch.zeros(3, 2, 64, 64)},
            "transmission has a batch of 3 but the other arguments one of 2",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        POINTS.pupil.from_turns(**{"turns": FLAT, **arguments})


def test_a_steep_wavefront_is_refused_where_light_passes() -> None:
    step = torch.zeros(64, 64, dtype=torch.float64)
    step[:, 40:] = 0.6 * WAVES[1]
    with pytest.raises(OpticsError, match=r"element and defocus steps by 0\.6 turns"):
        CELLS.check(Given(GRID, FLAT, DN, wavefront_m=step))
    shutter = torch.ones(64, 64)
    shutter[:, 40:] = 0
    assert CELLS.check(Given(GRID, FLAT, DN, wavefront_m=step, transmission=shutter)).phase_step_turns == 0
