"""The encoder camera: light is counted right, the sensor adds it up right, and gradients reach the mask."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from optics import FieldStop, FlatMask, FreeformMask, OpticsError, random_mask
from sim.camera import EncoderCamera, Exposure, FixedPsf, Geometry, MaskPsf, gaussian_psf

GEOMETRY = Geometry(
    focal_length_m=4e-3,
    aperture_diameter_m=0.5e-3,
    focus_distance_m=1.0,
    object_distance_m=1.0,
    frame_width_m=0.24,
    scene_px=64,
    wavelengths_m=(620e-9, 540e-9, 460e-9),
    pupil_samples=270,
)
EXPOSURE = Exposure(
    pixels=16,
    colour=False,
    filter_weights=(0.2, 0.7, 0.1),
    electrons_at_white=500.0,
    full_well_e=1000.0,
    read_noise_e=2.0,
    bits=12,
    black_level_dn=64.0,
    metering="fixed",
)
COLOUR = replace(EXPOSURE, colour=True)


def delta(shares: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> FixedPsf:
    psf = torch.zeros(3, 63, 63)
    psf[:, 31, 31] = torch.tensor(shares)
    return FixedPsf(psf)


def camera(source: MaskPsf | FixedPsf, exposure: Exposure = EXPOSURE) -> EncoderCamera:
    return EncoderCamera(source, exposure, GEOMETRY.scene_px)


STOP = FieldStop(centre_x=0.5, centre_y=0.55, half_width=0.3, half_height=0.2, edge=0.02)


def scenes(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def rough_mask() -> FreeformMask:
    return random_mask(GEOMETRY.grid, 12, 3e-6, torch.Generator().manual_seed(0), spread=1.0)


# Geometry


def test_cell_is_the_image_of_one_scene_sample() -> None:
    # Thin lens: magnification f / (z - f).
    assert GEOMETRY.cell_m == pytest.approx(0.24 / 64 * 4e-3 / (1.0 - 4e-3))
    # Out of focus the sensor stays where the focus put it; the window's image scales with sensor distance / z.
    nearer = replace(GEOMETRY, object_distance_m=0.5)
    assert nearer.cell_m == pytest.approx(2 * GEOMETRY.cell_m)


@pytest.mark.parametrize(("scene_px", "cells"), [(64, 63), (33, 33), (128, 127)])
def test_psf_window_is_odd_and_within_the_scene(scene_px: int, cells: int) -> None:
    assert replace(GEOMETRY, scene_px=scene_px).psf_cells == cells


# Light


def test_white_fills_pixels_with_the_electrons_at_white() -> None:
    signal = camera(delta()).signal(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(signal, torch.full((1, 1, 16, 16), 500.0), atol=1e-2, rtol=0)


def test_pixels_count_the_same_light_whatever_their_number() -> None:
    light = scenes()
    means = [camera(delta(), replace(EXPOSURE, pixels=n)).signal(light).mean() for n in (8, 16, 32, 64)]
    torch.testing.assert_close(torch.stack(means), means[0].expand(4), rtol=1e-5, atol=0)


def test_light_is_spread_but_not_made() -> None:
    point = torch.zeros(1, 3, 64, 64)
    point[..., 32, 32] = 1.0
    view = camera(MaskPsf(GEOMETRY, rough_mask()), COLOUR)
    kept = view.signal(point).sum(dim=(-2, -1)) / 500.0 * 16  # a pixel averages 16 cells
    torch.testing.assert_close(kept[0], view.psf.sum(dim=(-2, -1)), rtol=1e-4, atol=1e-6)
    assert bool((view.psf.sum(dim=(-2, -1)) <= 1).all())
    assert bool((view.psf.sum(dim=(-2, -1)) > 0.9).all())


def test_signal_is_linear_in_the_scene() -> None:
    view = camera(MaskPsf(GEOMETRY, rough_mask()))
    first, second = scenes(seed=1), scenes(seed=2)
    mixed = view.signal(0.3 * first + 0.5 * second)
    torch.testing.assert_close(mixed, 0.3 * view.signal(first) + 0.5 * view.signal(second), rtol=1e-4, atol=1e-2)


def test_pixel_is_the_mean_of_its_cells_in_place() -> None:
    light = scenes(1)
    signal = camera(delta((1.0, 0.5, 0.25)), COLOUR).signal(light)
    block = light[0, :, 4:8, 8:12].mean(dim=(-2, -1)) * torch.tensor([1.0, 0.5, 0.25]) * 500.0
    torch.testing.assert_close(signal[0, :, 1, 2], block, rtol=1e-4, atol=1e-2)


def test_monochrome_pixel_weighs_the_channels() -> None:
    light = scenes()
    planes = camera(delta(), COLOUR).signal(light)
    weights = torch.tensor(EXPOSURE.filter_weights)[None, :, None, None]
    torch.testing.assert_close(
        camera(delta()).signal(light), (planes * weights).sum(1, keepdim=True), rtol=1e-5, atol=1e-2
    )


def test_frame_psf_belongs_to_the_planes_of_the_frame() -> None:
    source = delta((1.0, 0.5, 0.25))
    assert torch.equal(camera(source, COLOUR).frame_psf(), source.psf)
    grey = camera(source).frame_psf()
    assert grey.shape == (1, 63, 63)
    assert float(grey.sum()) == pytest.approx(0.2 * 1 + 0.7 * 0.5 + 0.1 * 0.25)


def test_given_psf_is_used() -> None:
    light, other = scenes(), gaussian_psf(3.0, 63)
    assert torch.equal(camera(delta()).signal(light, other.psf), camera(other).signal(light))


# Blur


@pytest.mark.parametrize("sd", [0.8, 2.0, 5.0])
def test_gaussian_blur_has_its_width(sd: float) -> None:
    psf = gaussian_psf(sd, 63).psf.double()
    assert psf.shape == (3, 63, 63)
    torch.testing.assert_close(psf.sum(dim=(-2, -1)), torch.ones(3, dtype=torch.float64), atol=1e-5, rtol=0)
    place = torch.arange(63, dtype=torch.float64) - 31
    for axis in (-1, -2):
        line = psf[0].sum(axis)
        assert float((line * place).sum()) == pytest.approx(0, abs=1e-5)
        # Integration over unit cells adds their variance, 1 / 12.
        assert float((line * place**2).sum()) == pytest.approx(sd**2 + 1 / 12, rel=1e-3)


def test_no_blur_is_a_point() -> None:
    torch.testing.assert_close(gaussian_psf(0.0, 63).psf, delta().psf)


def test_flat_mask_in_focus_is_sharp_and_defocus_widens_it() -> None:
    def width(geometry: Geometry) -> float:
        psf = MaskPsf(geometry, FlatMask(geometry.grid))().mean(0)
        place = torch.arange(63.0) - 31
        return float(((place[:, None] ** 2 + place[None, :] ** 2) * psf).sum() / psf.sum())

    widths = [width(replace(GEOMETRY, focus_distance_m=z)) for z in (1.0, 0.5, 0.25)]
    assert widths[0] < 2.0
    assert widths[0] < widths[1] < widths[2]


# Sensor


def test_frames_are_code_shares_with_shot_and_read_noise() -> None:
    bright = 0.8
    signal = torch.full((40, 1, 16, 16), bright * 500.0)
    frames = camera(delta()).read(signal, torch.Generator().manual_seed(0))
    assert float(frames.mean()) == pytest.approx(bright * 500 / 1000, rel=5e-3)
    step_e = 1000 / (4095 - 64)
    expected = (bright * 500 + 2.0**2 + step_e**2 / 12) / 1000**2
    assert float(frames.var()) == pytest.approx(expected, rel=0.05)
    codes = frames * (4095 - 64)
    torch.testing.assert_close(codes, codes.round(), atol=1e-2, rtol=0)


def test_pixels_saturate_at_full_well() -> None:
    frames = camera(delta()).read(torch.full((1, 1, 16, 16), 2000.0), torch.Generator().manual_seed(0))
    assert float(frames.max()) <= 1.0
    assert float(frames.mean()) == pytest.approx(1.0, abs=5e-3)


def test_same_generator_state_same_frame() -> None:
    view, light = camera(delta()), scenes()
    first, again = (view(light, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, view(light, torch.Generator().manual_seed(4)))


# Meter


def metered() -> EncoderCamera:
    return camera(delta(), replace(EXPOSURE, metering="centre-weighted"))


def test_meter_brings_every_scene_to_middle_grey() -> None:
    view, light = metered(), scenes(1)
    gains = [view.meter_gain(view.signal(level * light)) for level in (0.1, 0.4, 1.0)]
    torch.testing.assert_close(gains[0], 10 * gains[2], rtol=1e-4, atol=0)
    torch.testing.assert_close(gains[1], 2.5 * gains[2], rtol=1e-4, atol=0)
    grey = torch.full((1, 3, 64, 64), 0.18)
    torch.testing.assert_close(view.meter_gain(view.signal(grey)), torch.ones(1, 1, 1, 1))
    bright = view(torch.full((4, 3, 64, 64), 0.72), torch.Generator().manual_seed(0))
    assert float(bright.mean()) == pytest.approx(0.18 * 500 / 1000, rel=0.02)


def test_meter_looks_at_the_middle_and_has_a_range() -> None:
    view = metered()
    middle, rim = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    middle[..., 24:40, 24:40] = 1.0
    rim[..., 8:56, 8:56] = 0.0
    assert float(view.meter_gain(view.signal(middle))) < float(view.meter_gain(view.signal(rim))) / 2
    assert float(view.meter_gain(view.signal(torch.zeros(1, 3, 64, 64)))) == pytest.approx(16.0)


def test_fixed_exposure_has_no_meter() -> None:
    view = camera(delta())
    assert torch.equal(view.meter_gain(view.signal(scenes(3))), torch.ones(3, 1, 1, 1))


# Mask


def test_gradient_of_the_frame_reaches_the_mask_and_is_right() -> None:
    start = torch.nn.Parameter(rough_mask().controls.clone())
    mask = FreeformMask(GEOMETRY.grid, 12, 3e-6, start=start)
    view, light = camera(MaskPsf(GEOMETRY, mask)), scenes(1)
    pattern = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)) / 500.0

    def value() -> torch.Tensor:
        return (view.signal(light) * pattern).double().sum()

    value().backward()
    gradient = start.grad
    assert gradient is not None
    direction = gradient / gradient.norm()
    step = 0.02
    with torch.no_grad():
        start.add_(step * direction)
        above = value()
        start.sub_(2 * step * direction)
        below = value()
    assert float((above - below) / (2 * step)) == pytest.approx(float(gradient.norm()), rel=0.03)
    assert view(light, torch.Generator().manual_seed(0)).requires_grad


def test_undersampled_pupil_is_refused() -> None:
    with pytest.raises(OpticsError, match="samples"):
        MaskPsf(replace(GEOMETRY, pupil_samples=64), FlatMask(replace(GEOMETRY, pupil_samples=64).grid))


def test_mask_too_steep_for_its_samples_is_refused() -> None:
    steep = random_mask(GEOMETRY.grid, 200, 50e-6, torch.Generator().manual_seed(0), spread=3.0)
    source = MaskPsf(GEOMETRY, steep)
    with pytest.raises(OpticsError, match="samples"):
        source.check()
    MaskPsf(GEOMETRY, rough_mask()).check()


def test_pixels_must_divide_the_scene() -> None:
    with pytest.raises(OpticsError, match="24 pixels do not divide the 64 scene samples"):
        camera(delta(), replace(EXPOSURE, pixels=24))


# Field stop


def test_field_stop_passes_the_area_of_its_ellipse_and_nothing_far_outside() -> None:
    field = STOP.transmission(512)
    # A soft rim of scale s adds the share (pi s)^2 / 3 to a disc (the mean of r^2 over a logistic rim).
    area = math.pi * 0.3 * 0.2 * (1 + (math.pi * 0.02) ** 2 / 3)
    assert float(field.mean()) == pytest.approx(area, rel=1e-3)
    assert float(field[int(0.55 * 512), 256]) == pytest.approx(1.0, abs=1e-6)
    assert float(field[:120].max()) < 1e-3
    assert float(field[int(0.55 * 512), int(0.8 * 512)]) == pytest.approx(0.5, abs=0.1)


def test_field_stop_lies_where_it_says() -> None:
    exposure = replace(EXPOSURE, pixels=64, field_stop=replace(STOP, centre_x=0.3))
    signal = camera(delta(), exposure).signal(torch.ones(1, 3, 64, 64))[0, 0]
    axis = (torch.arange(64) + 0.5) / 64
    assert float((signal.sum(0) * axis).sum() / signal.sum()) == pytest.approx(0.3, abs=2e-3)
    assert float((signal.sum(1) * axis).sum() / signal.sum()) == pytest.approx(0.55, abs=2e-3)


def test_meter_reads_the_light_inside_the_field_stop_only() -> None:
    exposure = replace(EXPOSURE, metering="centre-weighted", field_stop=STOP, pixels=64)
    view = camera(delta(), exposure)
    grey = torch.full((1, 3, 64, 64), 0.36)
    assert float(view.meter_gain(view.signal(grey))) == pytest.approx(0.5, rel=1e-5)
    outside = grey.clone()
    outside[..., :8, :] = 1.0
    assert float(view.meter_gain(view.signal(outside))) == pytest.approx(0.5, rel=1e-3)
