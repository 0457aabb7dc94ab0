"""Tolerances: perturbed cameras against closed forms."""

from __future__ import annotations

from math import pi, sin

import pytest
import torch

from optics import (
    FlatMask,
    OpticsError,
    PupilGrid,
    PupilToPsf,
    ThinLens,
    Tolerance,
    ToleranceCamera,
    random_mask,
    sensitivities,
)
from optics.elements import FixedCode
from optics.tolerance import ThermalCoefficients
from tests.optics.raw_pupil import Given
from tests.optics.tolerance_cameras import (
    FIELD,
    GRID,
    LENS,
    WAVE,
    MapMask,
    apart,
    axis_camera,
    camera,
    generator,
    number,
    relief,
    to_psf,
)

# --- the perturbed camera ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ToleranceCamera.numbers)
def test_at_rest_it_is_the_perfect_camera(name: str) -> None:
    cam = camera(relief(), object_distance_m=0.5, thermal=ThermalCoefficients(1e-5, 5e-7, 2e-5))
    perfect = to_psf()(cam.mask, 0.5)
    # A gradient is asked for, so the perturbation is worked out though it is zero.
    assert apart(cam({name: number(0.0, 2).requires_grad_()})[1], perfect) < FIELD[torch.float64]
    assert torch.equal(cam({name: number(0.0)})[0], perfect)


def test_etch_scale_and_maps_change_the_height() -> None:
    h, extra = relief(), relief(2)
    cam, index = camera(h), FlatMask(GRID).index_differences((WAVE,))
    psf = cam({"etch_scale": number(0.03, 2), "figure_m": torch.stack((extra, 0 * extra))})
    assert apart(psf[0], to_psf()(Given(GRID, 1.03 * h + extra, index))) < FIELD[torch.float64]
    assert apart(psf[1], to_psf()(Given(GRID, 1.03 * h, index))) < FIELD[torch.float64]
    assert apart(cam({"roughness_m": extra[None]})[0], to_psf()(Given(GRID, h + extra, index))) < FIELD[torch.float64]


@pytest.mark.parametrize(("name", "dim"), [("decentre_x_m", 1), ("decentre_y_m", 0)])
def test_decentre_by_whole_cells_is_the_shifted_map(name: str, dim: int) -> None:
    h = torch.zeros(64, 64, dtype=torch.float64)
    h[12:50, 14:52] = torch.rand(38, 38, generator=generator(), dtype=torch.float64) * 1e-6
    moved = camera(h)({name: number(5 * GRID.pitch_m)})[0]
    # Positive moves the material to higher indices: to the right, or down.
    expected = to_psf()(Given(GRID, h.roll(5, dim), FlatMask(GRID).index_differences((WAVE,))))
    assert apart(moved, expected) < FIELD[torch.float64]


def test_decentre_by_part_of_a_cell_is_the_shifted_function() -> None:
    def wave(x: torch.Tensor) -> torch.Tensor:
        return 0.3e-6 * torch.sin(2 * pi * x / 120e-6) * torch.cos(2 * pi * GRID.y_m / 150e-6)

    move = number(0.37 * GRID.pitch_m)
    height = camera(wave(GRID.x_m)).height_m({"decentre_x_m": move})[0]
    inside = slice(4, -4)
    # Cubic splines of 15 cells to a period: (2 pi / 15)^4 / 384 = 8e-5.
    assert apart(height[inside, inside], wave(GRID.x_m - move)[inside, inside]) < 2e-4
    # Beyond the map the height of its edge goes on.
    far = camera(GRID.x_m * 1e-3).height_m({"decentre_x_m": number(10 * GRID.pitch_m)})[0]
    assert torch.allclose(far[:, :10], (GRID.x_m * 1e-3)[:, :1].expand(64, 10), atol=1e-15)


def test_derivative_of_a_decentre_is_the_slope_of_the_relief() -> None:
    height = 0.2e-6 * torch.sin(2 * pi * GRID.x_m / 250e-6)
    move = number(0.0).requires_grad_()
    moved = camera(height).height_m({"decentre_x_m": move})[0, 32, 20]
    (first,) = torch.autograd.grad(moved, move, create_graph=True)
    (second,) = torch.autograd.grad(first, move)
    k, x = 2 * pi / 250e-6, float(GRID.coordinate_m[20])
    assert float(first.detach()) == pytest.approx(-0.2e-6 * k * torch.cos(torch.tensor(k * x)).item(), rel=1e-3)
    assert float(second) == pytest.approx(-0.2e-6 * k * k * sin(k * x), rel=0.01)


def test_rotation_turns_from_x_to_y() -> None:
    h = relief()
    height = camera(h).height_m({"rotation_rad": number(pi / 2)})[0]
    # On the screen, x right and y down, that is clockwise.
    assert apart(height, h.rot90(-1)) < 1e-10
    small = camera(GRID.x_m * 1e-3).height_m({"rotation_rad": number(0.02)})[0]
    ramp = 1e-3 * (GRID.x_m * torch.cos(number(0.02)) + GRID.y_m * torch.sin(number(0.02)))
    assert apart(small[4:-4, 4:-4], ramp[4:-4, 4:-4]) < 1e-10


@pytest.mark.parametrize(("name", "dim"), [("tilt_x_rad", -1), ("tilt_y_rad", -2)])
def test_tilt_moves_the_spot_like_a_prism(name: str, dim: int) -> None:
    cam = camera()
    index = float(cam.mask.index_differences((WAVE,)))
    slope = 3 * 2e-6 / (index * LENS.sensor_distance_m)
    flat, tilted = cam({})[0], cam({name: number(slope)})[0]
    moved = flat.roll(3, dim).narrow(dim, 3, 28)
    assert apart(tilted.narrow(dim, 3, 28), moved) < 1e-10


def test_object_shift_follows_the_sinc_of_the_defocus() -> None:
    # On the axis: sinc^2(W / wavelength), W = r^2 / 2 (1 / z - 1 / z0) at the rim.
    cam, radius = axis_camera(), GRID.diameter_m / 2
    shift = torch.tensor([-0.2, -0.1, 0.3], dtype=torch.float64)
    turns = radius**2 / 2 * (1 / (1 + shift) - 1) / WAVE
    strehl = cam({"object_shift_m": shift}).flatten() / cam({}).flatten()
    assert torch.allclose(strehl, torch.sinc(turns) ** 2, atol=1e-4)
    started = axis_camera(object_distance_m=0.8)({"object_shift_m": number(0.2)})
    assert apart(started, cam({})) < 1e-9


def test_sensor_shift_is_the_camera_with_its_sensor_there() -> None:
    move = 30e-6
    distance = LENS.sensor_distance_m + move
    there = ThinLens(LENS.focal_length_m, 1 / (1 / LENS.focal_length_m - 1 / distance))
    expected = to_psf(lens=there)(Given(GRID, relief(), FlatMask(GRID).index_differences((WAVE,))), 1.0)
    # Both are exact for their own path; they part in the fourth power of the aperture.
    assert apart(camera(relief())({"sensor_shift_m": number(move)})[0], expected) < 1e-3
    turns = (GRID.diameter_m / 2) ** 2 / 2 * (1 / distance - 1 / LENS.sensor_distance_m) / WAVE
    strehl = float(axis_camera()({"sensor_shift_m": number(move)}) / axis_camera()({}))
    assert strehl == pytest.approx(
        float(torch.sinc(torch.tensor(turns)) ** 2) * (LENS.sensor_distance_m / distance) ** 2, abs=2e-3
    )


def test_second_derivative_of_defocus_is_that_of_the_sinc() -> None:
    cam = axis_camera()
    peak = cam({}).item()
    result = sensitivities(cam, [Tolerance("object_shift_m", 0.01)], lambda psf: psf.sum() / peak)
    # d W / d z = -r^2 / (2 z0^2), and sinc^2 falls by (pi t)^2 / 3.
    slope = (GRID.diameter_m / 2) ** 2 / 2 / WAVE
    assert float(result.first["object_shift_m"]) == pytest.approx(0.0, abs=1e-6)
    # 64 cells across give the spread of r^2 over the aperture to 0.2 %.
    assert float(result.second["object_shift_m"]) == pytest.approx(-2 * pi**2 / 3 * slope**2, rel=3e-3)
    assert float(result.mean_shift["object_shift_m"]) == pytest.approx(-(pi**2) / 3 * (slope * 0.01) ** 2, rel=3e-3)


@pytest.mark.parametrize("shift", [-18e-9, 7e-9])
def test_wavelength_shift_is_the_camera_of_that_wavelength(shift: float) -> None:
    waves = (620e-9, 480e-9)
    cam = ToleranceCamera(MapMask(GRID, relief()), to_psf(waves=waves), 0.6)
    moved = tuple(w + shift for w in waves)
    expected = to_psf(waves=moved)(Given(GRID, relief(), FlatMask(GRID).index_differences(moved)), 0.6)
    assert apart(cam({"wavelength_m": number(shift)})[0], expected) < 1e-8


def test_temperature_changes_index_height_width_and_housing() -> None:
    h, index = relief(), FlatMask(GRID).index_differences((WAVE,))
    heat = {"temperature_k": number(40.0)}
    bent = camera(h, thermal=ThermalCoefficients(-1e-4, 0.0))(heat)[0]
    assert apart(bent, to_psf()(Given(GRID, h, index - 4e-3))) < FIELD[torch.float64]
    grown = camera(h, thermal=ThermalCoefficients(0.0, 7e-5))
    # Height and width grow alike: a ramp keeps its slope, a parabola loses what its width gains.
    assert apart(camera(1e-3 * GRID.x_m, thermal=grown.thermal).height_m(heat)[0], 1e-3 * GRID.x_m) < 1e-12
    bowl = camera(2.0 * GRID.radius_squared_m2, thermal=grown.thermal).height_m(heat)[0]
    inside = (slice(8, -8), slice(8, -8))
    assert apart(bowl[inside], 2.0 * GRID.radius_squared_m2[inside] / 1.0028) < 1e-6
    housing = camera(h, thermal=ThermalCoefficients(0.0, 0.0, 2e-5))(heat)[0]
    moved = camera(h)({"sensor_shift_m": number(8e-4 * LENS.sensor_distance_m)})[0]
    assert apart(housing, moved) < FIELD[torch.float64]


def test_etch_depth_of_a_binary_grating_of_half_a_wave() -> None:
    # Half the aperture is retarded by (1 + e) / 2 turns: cos^2(pi (1 + e) / 2) = sin^2(pi e / 2) stays on the axis.
    index = float(FlatMask(GRID).index_differences((WAVE,)))
    groove = (torch.arange(64) // 4 % 2 == 0).double() * (WAVE / 2 / index)
    cam, flat = axis_camera(groove.expand(64, 64)), axis_camera()({}).item()
    scale = torch.tensor([-0.2, 0.05, 0.1, 1.0], dtype=torch.float64)
    zero = cam({"etch_scale": scale}).flatten() / flat
    assert torch.allclose(zero, torch.sin(pi * scale / 2) ** 2, atol=1e-6)
    result = sensitivities(cam, [Tolerance("etch_scale", 0.05)], lambda psf: psf.sum() / flat)
    assert float(result.second["etch_scale"]) == pytest.approx(pi**2 / 2, rel=1e-5)
    assert float(result.mean) == pytest.approx(pi**2 / 4 * 0.05**2, rel=1e-4)


def test_gradients_of_all_numbers_agree_with_differences() -> None:
    grid = PupilGrid(0.5e-3, 16)
    mask = random_mask(grid, 5, 0.5e-6, generator(3), dtype=torch.float64)
    cam = ToleranceCamera(mask, to_psf(grid, pitch_m=10e-6, samples=3), 0.7, ThermalCoefficients(1e-5, 5e-5, 2e-5))
    unit = torch.tensor([0.1, 1e-5, 1e-5, 0.1, 1e-3, 1e-3, 0.1, 1e-5, 30.0, 1e-8], dtype=torch.float64)
    # Away from rest, where the spline's third derivative jumps.
    point = torch.linspace(0.2, 0.5, 10, dtype=torch.float64).expand(2, 10).clone().requires_grad_()

    def run(x: torch.Tensor) -> torch.Tensor:
        psf: torch.Tensor = cam(dict(zip(cam.numbers, (x * unit).unbind(1), strict=True)))
        return psf

    assert torch.autograd.gradcheck(run, (point,), eps=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(run, (point[:1].detach().requires_grad_(),), eps=1e-6, atol=1e-6)


def test_a_batch_is_its_trials_one_by_one() -> None:
    cam = camera(relief(), object_distance_m=0.7, thermal=ThermalCoefficients(1e-5, 5e-7, 1e-5))
    values = {
        name: torch.randn(3, generator=generator(i), dtype=torch.float64) * scale
        for i, (name, scale) in enumerate(
            zip(cam.numbers, (0.1, 1e-5, 1e-5, 0.1, 1e-3, 1e-3, 0.05, 1e-5, 20.0, 3e-9), strict=True)
        )
    }
    values["figure_m"] = torch.stack([relief(i) for i in range(3)]) * 0.1
    whole = cam(values)
    for trial in range(3):
        one = cam({name: value[trial : trial + 1] for name, value in values.items()})
        assert apart(whole[trial], one[0]) < FIELD[torch.float64]
    single = ToleranceCamera(cam.mask, to_psf(dtype=torch.float32), 0.7, cam.thermal)(values)
    assert single.dtype == torch.float32
    assert apart(single.double(), whole) < FIELD[torch.float32]


def test_a_mask_can_be_trained_through_its_errors() -> None:
    mask = random_mask(GRID, 8, 1e-6, generator(), dtype=torch.float64)
    controls = mask._buffers.pop("controls")
    assert controls is not None
    mask.controls = torch.nn.Parameter(controls)
    ToleranceCamera(mask, to_psf())({"decentre_x_m": number(3e-6, 2)})[:, 0, 15, 15].sum().backward()
    assert mask.controls.grad is not None
    assert float(mask.controls.grad.abs().max()) > 0


def test_an_element_that_nobody_makes_as_a_relief_is_refused() -> None:
    grid = PupilGrid(0.5e-3, 32)
    to_psf = PupilToPsf(grid, ThinLens(4e-3, 1.0), (540e-9,), 4e-6, 9)
    code = FixedCode(grid, torch.full((4, 4), 0.5))
    with pytest.raises(OpticsError, match="a FixedCode has no height and material for errors to act on"):
        ToleranceCamera(code, to_psf)  # type: ignore[arg-type]
