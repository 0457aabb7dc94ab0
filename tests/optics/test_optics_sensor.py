"""The sensor's statistics, limits and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from optics import OpticsError, Sensor, SensorSpec

SPEC = SensorSpec(
    full_well_e=8000.0, read_noise_e=3.0, dark_e=2.0, quantum_efficiency=0.5, bits=12, black_level_dn=100.0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(photons: float, count: int = 400_000) -> torch.Tensor:
    return torch.full((1, 1, count // 1000, 1000), photons, dtype=torch.float64)


@pytest.mark.parametrize("shot_noise", ["mixed", "poisson"])
@pytest.mark.parametrize("photons", [0.0, 4.0, 30.0, 400.0, 8000.0])
def test_mean_and_variance_are_shot_read_and_rounding_noise(photons: float, shot_noise: str) -> None:
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
def test_gradient_passes_the_quantiser(bits: int, shot_noise: str) -> None:
    spec = SensorSpec(bits=bits, black_level_dn=0.0, full_well_e=8000.0, quantum_efficiency=0.5, shot_noise=shot_noise)
    photons = torch.full((1, 1, 100, 100), 8000.0, dtype=torch.float64, requires_grad=True)
    Sensor(spec)(photons, generator()).sum().backward()
    slope = 0.5 * (2**bits - 1) / 8000
    assert float(photons.grad.mean()) == pytest.approx(slope, rel=0.01)
    assert float(photons.grad.abs().min()) > 0


def test_gradient_in_the_dark_is_finite_and_the_mean_response() -> None:
    photons = torch.rand(1, 1, 64, 64, dtype=torch.float64, generator=generator()).mul(10).requires_grad_()
    Sensor(SPEC)(photons, generator()).sum().backward()
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
def test_impossible_sensors_are_refused(change: dict, message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        replace(SPEC, **change)


def test_frames_that_do_not_fit_are_refused() -> None:
    sensor = Sensor(replace(SPEC, quantum_efficiency=(0.5, 0.6, 0.4)))
    with pytest.raises(OpticsError, match=r"photons has shape \(1, 2, 4, 4\); .* C=3"):
        sensor(torch.ones(1, 2, 4, 4), generator())
