"""The sensor's statistics, limits and gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from optics import OpticsError, Sensor, SensorSpec
from optics.sensor import FixedPattern

SPEC = SensorSpec(
    full_well_e=8000.0, read_noise_e=3.0, dark_e=2.0, quantum_efficiency=0.5, bits=12, black_level_dn=100.0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(photons: float, count: int = 400_000) -> torch.Tensor:
    return torch.full((1, 1, count // 1000, 1000), photons, dtype=torch.float64)


@pytest.mark.parametrize("shot_noise", ["mixed", "poisson"])
@pytest.mark.parametrize("photons", [0.0, 4.0, 30.0, 400.0, 8000.0])
def test_mean_and_variance_are_shot_read_and_rounding_noise(
    photons: float, shot_noise: Literal["mixed", "poisson"]
) -> None:
    spec = replace(SPEC, shot_noise=shot_noise)
    dn = Sensor(spec)(flat(photons), generator())
    electrons, gain = 0.5 * photons + 2.0, (4095 - 100) / 8000
    assert float(dn.mean()) == pytest.approx(100 + gain * electrons, abs=5 * (gain**2 * (electrons + 9) / 4e5) ** 0.5)
    # 400 000 samples give the variance to 0.22 % (one standard deviation); low counts a little worse.
    assert float(dn.var()) == pytest.approx(gain**2 * (electrons + 9) + 1 / 12, rel=0.012)


def test_photon_transfer_of_a_unit_gain_camera() -> None:
    # One DN per electron: 75 of shot noise, 0.48 of read noise and 1/12 of rounding.
    spec = SensorSpec(
        full_well_e=1023, read_noise_e=0.48**0.5, dark_e=0, quantum_efficiency=1.0, bits=10, black_level_dn=0
    )
    dn = Sensor(spec)(flat(75.0), generator(1))
    assert float(dn.var()) == pytest.approx(75 + 0.48 + 1 / 12, rel=0.01)


def test_few_electrons_follow_poisson_not_a_bell_curve() -> None:
    spec = SensorSpec(full_well_e=1023, read_noise_e=0.0, dark_e=0.0, quantum_efficiency=1.0, bits=10, black_level_dn=0)
    dn = Sensor(spec)(flat(2.0), generator(2))
    for count, share in enumerate((0.1353353, 0.2706706, 0.2706706, 0.1804470)):
        assert float((dn == count).double().mean()) == pytest.approx(share, abs=0.003)


def test_output_is_integer_codes_within_range() -> None:
    photons = torch.linspace(0, 40_000, 3 * 64 * 64).reshape(1, 3, 64, 64)
    for bits in (8, 10, 12):
        dn = Sensor(replace(SPEC, bits=bits, black_level_dn=10.0))(photons, generator())
        assert torch.equal(dn, dn.round())
        assert float(dn.min()) >= 0
        assert float(dn.max()) == 2**bits - 1


def test_full_well_maps_to_the_top_code_and_clips() -> None:
    sensor = Sensor(replace(SPEC, read_noise_e=0.0))
    assert torch.equal(sensor(flat(40_000.0, 2000), generator()).unique(), torch.tensor([4095.0], dtype=torch.float64))
    assert float(sensor.expected_dn(flat(40_000.0, 1000)).max()) == 4095
    # With read noise the full pixel scatters below the top, for the well is limited before it is read.
    noisy = Sensor(SPEC)(flat(40_000.0, 2000), generator())
    assert float(noisy.min()) < 4095


def test_black_level_keeps_the_noise_below_zero() -> None:
    sensor = Sensor(replace(SPEC, dark_e=0.0, read_noise_e=6.0))
    dn = sensor(flat(0.0), generator())
    assert float(dn.mean()) == pytest.approx(100.0, abs=0.02)
    assert float(dn.min()) < 95
    assert float(sensor.normalise(torch.tensor(100.0))) == 0
    assert float(sensor.normalise(torch.tensor(4095.0))) == 1


def test_light_is_never_normalised_by_the_frame() -> None:
    # Doubling the exposure doubles the signal; a bright pixel elsewhere changes nothing.
    sensor = Sensor(replace(SPEC, dark_e=0.0))
    signal = [float(sensor.normalise(sensor(flat(p), generator())).mean()) for p in (1000.0, 2000.0)]
    assert signal[1] == pytest.approx(2 * signal[0], rel=2e-3)
    dim = flat(1000.0, 4000)
    spot = dim.clone()
    spot[..., 0, 0] = 16_000.0
    alone, beside = sensor(dim, generator(3)), sensor(spot, generator(3))
    assert torch.equal(alone[..., 1:, :], beside[..., 1:, :])
    assert torch.equal(alone[..., 0, 1:], beside[..., 0, 1:])


def test_noise_follows_the_generator_and_is_on_by_default() -> None:
    sensor, photons = Sensor(SensorSpec()), torch.full((2, 3, 8, 8), 3000.0)
    first, again, other = (sensor(photons, generator(s)) for s in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) > 1


@pytest.mark.parametrize("bits", range(1, 11))
@pytest.mark.parametrize("shot_noise", ["mixed", "poisson"])
def test_gradient_passes_the_quantiser(bits: int, shot_noise: Literal["mixed", "poisson"]) -> None:
    spec = SensorSpec(bits=bits, black_level_dn=0.0, full_well_e=8000.0, quantum_efficiency=0.5, shot_noise=shot_noise)
    photons = torch.full((1, 1, 100, 100), 8000.0, dtype=torch.float64, requires_grad=True)
    Sensor(spec)(photons, generator()).sum().backward()
    slope = 0.5 * (2**bits - 1) / 8000
    assert photons.grad is not None
    assert float(photons.grad.mean()) == pytest.approx(slope, rel=0.01)
    assert float(photons.grad.abs().min()) > 0


def test_gradient_in_the_dark_is_finite_and_the_mean_response() -> None:
    photons = torch.rand(1, 1, 64, 64, dtype=torch.float64, generator=generator()).mul(10).requires_grad_()
    Sensor(SPEC)(photons, generator()).sum().backward()
    assert photons.grad is not None
    assert torch.allclose(photons.grad, torch.full_like(photons, 0.5 * SPEC.dn_per_electron))


def test_gradient_of_shot_noise_is_that_of_the_reparameterisation() -> None:
    # e = mu + sqrt(mu) z: d e / d mu = 1 + (e - mu) / (2 mu), with e read back from the frame.
    spec = SensorSpec(
        full_well_e=65535, read_noise_e=0.0, dark_e=0.0, quantum_efficiency=1.0, bits=16, black_level_dn=0
    )
    photons = torch.full((1, 1, 32, 32), 10_000.0, dtype=torch.float64, requires_grad=True)
    dn = Sensor(spec)(photons, generator())
    dn.sum().backward()
    assert (photons.grad - (1 + (dn.detach() - 1e4) / 2e4)).abs().max() < 1e-4


def test_gradient_is_zero_where_the_response_is_flat() -> None:
    photons = torch.tensor([1000.0, 40_000.0], dtype=torch.float64).reshape(1, 1, 1, 2).requires_grad_()
    Sensor(SPEC)(photons, generator()).sum().backward()
    assert photons.grad is not None
    assert float(photons.grad[0, 0, 0, 0]) > 0
    assert float(photons.grad[0, 0, 0, 1]) == 0


def test_gradcheck_of_the_expected_response() -> None:
    sensor = Sensor(replace(SPEC, quantum_efficiency=(0.5, 0.6, 0.4), colour=False))
    photons = (torch.rand(1, 3, 3, 3, dtype=torch.float64, generator=generator()) * 3000 + 10).requires_grad_()
    assert torch.autograd.gradcheck(sensor.expected_dn, (photons,), eps=1e-3)


def test_expected_response_is_the_mean_of_frames() -> None:
    sensor = Sensor(SPEC)
    mean = sensor(flat(1234.0), generator()).mean()
    assert float(mean) == pytest.approx(float(sensor.expected_dn(flat(1234.0, 1000)).mean()), abs=0.1)


def test_colour_planes_have_their_own_efficiency_and_monochrome_adds_electrons() -> None:
    efficiency = (0.5, 0.6, 0.4)
    photons = torch.full((1, 3, 4, 4), 1000.0, dtype=torch.float64)
    colour = Sensor(replace(SPEC, quantum_efficiency=efficiency)).mean_electrons(photons)
    assert colour[0, :, 0, 0].tolist() == pytest.approx([502.0, 602.0, 402.0])
    mono = Sensor(replace(SPEC, quantum_efficiency=efficiency, colour=False)).mean_electrons(photons)
    assert mono.shape == (1, 1, 4, 4)
    assert float(mono[0, 0, 0, 0]) == pytest.approx(1502.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 0}, "bits=0 must be between 1 and 16"),
        ({"full_well_e": 0.0}, "full_well_e=0.0 must be"),
        ({"read_noise_e": -1.0}, "read_noise_e=-1.0 must be"),
        ({"dark_e": float("nan")}, "dark_e=nan must be"),
        ({"quantum_efficiency": 1.5}, "quantum_efficiency=1.5 must lie"),
        ({"bits": 4, "black_level_dn": 15.0}, "black_level_dn=15.0 must lie from 0 to below the top code 15"),
        ({"shot_noise": "none"}, "shot_noise='none' must be"),
    ],
)
def test_impossible_sensors_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        replace(SPEC, **change)


def test_frames_that_do_not_fit_are_refused() -> None:
    sensor = Sensor(replace(SPEC, quantum_efficiency=(0.5, 0.6, 0.4)))
    with pytest.raises(OpticsError, match=r"photons has shape \(1, 2, 4, 4\); .* C=3"):
        sensor(torch.ones(1, 2, 4, 4), generator())


def test_defaults_are_the_plain_chain_bit_for_bit() -> None:
    photons = torch.rand(2, 3, 16, 16, generator=generator(9), dtype=torch.float64) * 9000 + 100
    source = generator(11)
    mean = 0.5 * photons + 2.0
    shot, read = (torch.randn(mean.shape, generator=source, dtype=torch.float64) for _ in range(2))
    electrons = (mean + mean.sqrt() * shot).clamp(max=8000)
    by_hand = ((electrons + 3.0 * read) * ((4095 - 100.0) / 8000) + 100.0).clamp(0, 4095).round()
    assert torch.equal(Sensor(SPEC)(photons, generator(11)), by_hand)


def test_photon_transfer_of_the_reference_camera() -> None:
    # K = 0.25 DN/e, 1200 electrons, 3 electrons of read noise: 0.0625 (1200 + 9) = 75.5625 DN^2, and 1/12 of rounding.
    spec = replace(SPEC, gain_dn_e=0.25, dark_e=0.0)
    dn = Sensor(spec)(flat(2400.0), generator(3))
    assert float(dn.var()) == pytest.approx(75.5625 + 1 / 12, rel=0.01)
    assert float(dn.mean()) == pytest.approx(100 + 0.25 * 1200, abs=5 * (75.6 / 4e5) ** 0.5)


@pytest.mark.parametrize("photons", [0.0, 60.0, 400.0, 4000.0, 12_000.0])
def test_response_is_linear_and_snr_is_that_of_the_linear_model(photons: float) -> None:
    spec = replace(SPEC, gain_dn_e=0.4, dark_e=0.0)
    dn = Sensor(spec)(flat(photons), generator(5))
    electrons = 0.5 * photons
    noise = (electrons + 9 + 1 / 12 / 0.4**2) ** 0.5
    assert float(dn.mean()) == pytest.approx(100 + 0.4 * electrons, abs=5 * 0.4 * noise / 4e5**0.5)
    snr = float((dn.mean() - 100) / dn.std())
    assert snr == pytest.approx(electrons / noise, rel=0.006, abs=0.01)


@pytest.mark.parametrize(("gain", "top"), [(0.25, 100 + 0.25 * 8000), (1.0, 4095.0)])
def test_a_given_gain_saturates_at_the_well_or_at_the_top_code(gain: float, top: float) -> None:
    sensor = Sensor(replace(SPEC, gain_dn_e=gain, read_noise_e=0.0))
    assert sensor(flat(40_000.0, 1000), generator()).unique().tolist() == [top]
    assert sensor.expected_dn(flat(40_000.0, 1000)).unique().tolist() == [top]


@pytest.mark.parametrize("kelvin", [293.15, 301.15, 313.15])
def test_dark_signal_doubles_with_the_temperature_and_carries_shot_noise(kelvin: float) -> None:
    spec = replace(
        SPEC, gain_dn_e=0.5, dark_current_e_s=40.0, exposure_s=2.0, dark_doubling_k=8.0, temperature_k=kelvin
    )
    dn = Sensor(spec)(flat(0.0), generator(6))
    dark = 2.0 + 80.0 * 2 ** ((kelvin - 293.15) / 8)
    assert float(dn.mean()) == pytest.approx(100 + 0.5 * dark, abs=5 * 0.5 * ((dark + 9) / 4e5) ** 0.5)
    assert float(dn.var()) == pytest.approx(0.25 * (dark + 9) + 1 / 12, rel=0.012)


def test_rolling_rows_of_a_flickering_lamp_follow_its_integral() -> None:
    # Flux a (1 + m cos w t): photons a (T + m (sin w t1 - sin w t0) / w) between the times of the row.
    spec = replace(SPEC, gain_dn_e=0.5, dark_e=0.0, exposure_s=2e-3, shutter="rolling", line_time_s=30e-6)
    start, end = spec.row_times_s(400).unbind(1)
    assert (float(start[3]), float(end[3])) == pytest.approx((90e-6, 2.09e-3))
    w, a = 2 * torch.pi * 100, 1e6
    photons = a * (2e-3 + 0.8 * ((w * end).sin() - (w * start).sin()) / w)
    dn = Sensor(spec)(photons[None, None, :, None].expand(1, 1, 400, 2000), generator(7))[0, 0]
    expected = 100 + 0.25 * photons
    error = (0.25 * (0.5 * photons + 9) / 2000) ** 0.5
    assert float(((dn.mean(dim=1) - expected) / error).abs().max()) < 5
    ratio = dn.var(dim=1) / (0.25 * (0.5 * photons + 9) + 1 / 12)
    assert float(ratio.mean()) == pytest.approx(1.0, abs=5 * (2 / 2000 / 400) ** 0.5)
    # The bands are there: the lamp's 80 % is reduced by sinc(f T) = 0.935.
    assert float((photons.max() - photons.min()) / (photons.max() + photons.min())) == pytest.approx(0.748, abs=0.002)


def test_global_reset_gives_lower_rows_more_dark_current_and_global_does_not() -> None:
    common: dict[str, Any] = {"gain_dn_e": 0.5, "dark_current_e_s": 1e4, "exposure_s": 1e-2, "line_time_s": 1e-4}
    rows = {
        shutter: Sensor(replace(SPEC, shutter=shutter, **common)).mean_electrons(flat(0.0, 200_000))[0, 0, :, 0]
        for shutter in ("global", "rolling", "global reset")
    }
    assert rows["global"].tolist() == pytest.approx([102.0] * 200)
    assert rows["rolling"].tolist() == pytest.approx([102.0] * 200)
    assert rows["global reset"].tolist() == pytest.approx([102.0 + r for r in range(200)])


def test_the_fixed_pattern_is_the_same_in_every_frame_and_differs_between_sensors() -> None:
    pattern = FixedPattern(1, dsnu_e=20.0, prnu=0.02)
    quiet = replace(SPEC, gain_dn_e=0.4, pattern=pattern)
    sensor, photons = Sensor(quiet), torch.full((64, 1, 40, 50), 4000.0, dtype=torch.float64)
    one, two = sensor(photons, generator(1)).mean(dim=0), Sensor(quiet)(photons, generator(2)).mean(dim=0)
    other = Sensor(replace(quiet, pattern=replace(pattern, seed=2)))(photons, generator(1)).mean(dim=0)

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])

    # Pattern (20^2 + 40^2) over pattern plus noise of 64 frames (2011 / 64).
    assert alike(one, two) == pytest.approx(2000 / (2000 + 31.4), abs=0.01)
    assert abs(alike(one, other)) < 5 / 2000**0.5
    assert alike(one, sensor.expected_dn(photons[:1])[0]) > 0.98


def test_prnu_scales_with_the_light_and_dsnu_does_not() -> None:
    sizes = {}
    for name, pattern in {"prnu": FixedPattern(1, prnu=0.02), "dsnu": FixedPattern(1, dsnu_e=20.0)}.items():
        sensor = Sensor(replace(SPEC, gain_dn_e=0.4, dark_e=0.0, pattern=pattern))
        sizes[name] = [float(sensor.expected_dn(flat(p)).std()) / 0.4 for p in (2000.0, 8000.0)]
    assert sizes["prnu"] == pytest.approx([20.0, 80.0], rel=0.01)
    assert sizes["dsnu"] == pytest.approx([20.0, 20.0], rel=0.01)


def test_rows_and_columns_have_their_own_part_of_the_pattern() -> None:
    pattern = FixedPattern(3, dsnu_e=(0.0, 30.0, 0.0), prnu=(0.0, 0.0, 0.05))
    sensor = Sensor(replace(SPEC, gain_dn_e=0.4, dark_e=0.0, pattern=pattern))
    dark, light = (sensor.expected_dn(flat(p))[0, 0] for p in (0.0, 8000.0))
    assert float((dark - dark[:, :1]).abs().max()) == 0
    assert float(dark[:, 0].std()) / 0.4 == pytest.approx(30.0, rel=0.15)
    gain = light - dark
    assert float((gain - gain[:1]).abs().max()) < 1e-9
    assert float(gain[0].std() / gain[0].mean()) == pytest.approx(0.05, rel=0.1)


def test_hot_pixels_are_few_and_grow_with_time_and_temperature() -> None:
    spec = replace(SPEC, dark_e=0.0, exposure_s=0.5, pattern=FixedPattern(4, hot_share=0.01, hot_e_s=400.0))
    extra = Sensor(spec).mean_electrons(flat(0.0))
    assert float((extra > 0).double().mean()) == pytest.approx(0.01, abs=5 * (0.01 / 4e5) ** 0.5)
    # An exponential law: mean and standard deviation are equal.
    assert float(extra[extra > 0].mean()) == pytest.approx(200.0, rel=0.08)
    assert float(extra[extra > 0].std()) == pytest.approx(200.0, rel=0.12)
    warm = Sensor(replace(spec, exposure_s=1.0, temperature_k=301.15)).mean_electrons(flat(0.0))
    assert torch.allclose(warm, 4 * extra)


@pytest.mark.parametrize(("bits", "step"), [(12, 16), (10, 64), (16, 1), (8, 1), (6, 4)])
def test_left_justified_codes_fill_the_upper_bits(bits: int, step: int) -> None:
    spec = replace(SPEC, bits=bits, black_level_dn=4.0)
    left = replace(spec, justify="left")
    right_dn, left_dn = (Sensor(s)(flat(3000.0, 1000), generator(8)) for s in (spec, left))
    assert torch.equal(left_dn, step * right_dn)
    assert torch.equal(Sensor(left).normalise(left_dn), Sensor(spec).normalise(right_dn))
    assert torch.equal(
        Sensor(left).expected_dn(flat(3000.0, 1000)), step * Sensor(spec).expected_dn(flat(3000.0, 1000))
    )


@pytest.mark.parametrize("bits", range(8, 17))
def test_gradient_of_the_noisy_frame_is_that_of_its_expectation(bits: int) -> None:
    pattern = FixedPattern(5, dsnu_e=(4.0, 2.0, 2.0), prnu=0.03)
    sensor = Sensor(replace(SPEC, bits=bits, black_level_dn=8.0, pattern=pattern))
    level = torch.tensor(6000.0, dtype=torch.float64, requires_grad=True)
    wide = level.expand(1, 1, 200, 500)
    (noisy,) = torch.autograd.grad(sensor(wide, generator(10)).mean(), level)
    (smooth,) = torch.autograd.grad(sensor.expected_dn(wide).mean(), level)
    # d e / d mu = 1 + z / (2 sqrt(mu)): one part in 110 per pixel, 1e5 pixels.
    assert float(noisy) == pytest.approx(float(smooth), rel=5 / (2 * 3000**0.5) / 1e5**0.5)
    assert float(smooth) == pytest.approx(0.5 * (2**bits - 1 - 8) / 8000, rel=1e-3)
    photons = torch.full((1, 1, 50, 50), 6000.0, dtype=torch.float64, requires_grad=True)
    sensor(photons, generator(10)).sum().backward()
    assert photons.grad is not None
    assert float(photons.grad.abs().min()) > 0


def test_float32_frames_are_those_of_float64() -> None:
    spec = replace(SPEC, dark_current_e_s=10.0, exposure_s=1.0, pattern=FixedPattern(6, dsnu_e=3.0, prnu=0.01))
    photons = torch.rand(1, 1, 64, 64, dtype=torch.float64, generator=generator()) * 12_000
    exact, single = (Sensor(spec).expected_dn(photons.to(t)) for t in (torch.float64, torch.float32))
    assert single.dtype == torch.float32
    assert float((single - exact).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain_dn_e": 0.0}, "gain_dn_e=0.0 must be a positive"),
        ({"dark_current_e_s": -1.0}, "dark_current_e_s=-1.0 must be zero or positive"),
        ({"exposure_s": float("inf")}, "exposure_s=inf must be"),
        ({"line_time_s": -1e-6}, "line_time_s=-1e-06 must be"),
        ({"temperature_k": -5.0}, "temperature_k=-5.0 must be a positive number of kelvin"),
        ({"dark_doubling_k": 0.0}, "dark_doubling_k=0.0 must be"),
        ({"shutter": "curtain"}, "shutter='curtain' must be 'global', 'rolling' or 'global reset'"),
        ({"justify": "centre"}, "justify='centre' must be 'right' or 'left'"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        replace(SPEC, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dsnu_e": -1.0}, "dsnu_e=-1.0 must be one RMS"),
        ({"prnu": (0.1, 0.1)}, r"prnu=\(0.1, 0.1\) must be one RMS, zero or more, or three"),
        ({"hot_share": 1.5}, "hot_share=1.5 must be a share"),
        ({"hot_e_s": float("nan")}, "hot_e_s=nan must be"),
    ],
)
def test_impossible_patterns_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        FixedPattern(0, **change)
