"""EMVA 1288 estimators on simulated cameras whose data sheet is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from optics import OpticsError, Sensor, SensorSpec, emva_report
from optics.sensor import EmvaReport, Estimate, FixedPattern

SPEC = SensorSpec(
    full_well_e=8000.0,
    read_noise_e=4.0,
    dark_e=0.0,
    quantum_efficiency=0.6,
    bits=12,
    black_level_dn=64.0,
    gain_dn_e=0.45,
    pattern=FixedPattern(0, dsnu_e=3.0, prnu=0.01),
)
PHOTONS = torch.linspace(1000.0, 16_000.0, 16, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(1000 + seed)


def frames(spec: SensorSpec, photons: torch.Tensor, seed: int, count: int = 4, side: int = 96) -> torch.Tensor:
    """(S, F, H, W) frames; the noise differs between frames and the pattern does not."""
    source, sensor = generator(seed), Sensor(spec)
    steps = [photons.new_full((count, 1, side, side), float(p)) for p in photons]
    return torch.stack([sensor(step, source)[:, 0] for step in steps])


def measured(seed: int, spec: SensorSpec = SPEC, side: int = 96) -> EmvaReport:
    dark = frames(spec, torch.zeros(1, dtype=torch.float64), 500 + seed, side=side)[0]
    return emva_report(frames(spec, PHOTONS, seed, side=side), dark, PHOTONS)


def test_intervals_cover_the_data_sheet_as_often_as_they_say() -> None:
    truth = (0.45, 0.6, 4.0, 3.0, 0.01)
    scores = []
    assert SPEC.pattern is not None
    for seed in range(80):
        report = measured(seed, replace(SPEC, pattern=replace(SPEC.pattern, seed=seed)), side=28)
        photons = (report.gain_dn_e, report.quantum_efficiency, report.dark_noise_e)
        estimates = (*photons, report.dsnu_e.total, report.prnu.total)
        scores.append([(e.value - t) / e.standard_error for e, t in zip(estimates, truth, strict=True)])
    z = torch.tensor(scores)
    # Of 80 normal scores the mean scatters by 0.11 and the RMS by 0.08.
    assert float(z.mean(dim=0).abs().max()) < 4 * 0.11
    assert float((z.square().mean(dim=0).sqrt() - 1).abs().max()) < 0.28


def test_saturation_is_bracketed_and_derived_figures_follow() -> None:
    report = measured(1)
    assert report.saturation_photons[0] < 8000 / 0.6 < report.saturation_photons[1]
    assert report.saturation_e[0] == pytest.approx(0.6 * 13_000, rel=0.02)
    assert report.snr_max == pytest.approx((0.6 * 13_000) ** 0.5, rel=0.01)
    threshold = ((16 + 1 / 12 / 0.45**2 + 0.25) ** 0.5 + 0.5) / 0.6
    assert report.threshold_photons == pytest.approx(threshold, rel=0.02)
    assert report.dynamic_range == pytest.approx(13_000 / threshold, rel=0.02)
    assert report.linearity_error < 2e-4
    assert not report.dark_noise_hidden
    assert report.mean_dn[2] == pytest.approx(64 + 0.45 * 1800, abs=1.0)


def test_temporal_variance_of_two_frames_by_hand() -> None:
    # A - B = (2, -2, 4, 0): mean square 6, half of it 3; means differ by 1, half the square 0.5.
    a = torch.tensor([[12.0, 8.0], [14.0, 10.0]])
    b = torch.tensor([[10.0, 10.0], [10.0, 10.0]])
    steps = torch.arange(1.0, 9.0, dtype=torch.float64)
    rise = torch.stack([torch.stack((a * s / 8 + 10 * s, b * s / 8 + 10 * s)) for s in steps])
    rise[-1] = 100.0
    report = emva_report(rise + 5, torch.full((2, 2, 2), 5.0), steps)
    assert report.variance_dn2[:-1].tolist() == pytest.approx([2.5 * (s / 8) ** 2 for s in range(1, 8)])
    assert report.mean_dn[0] == pytest.approx(15 + 10.5 / 8)


def test_a_flickering_lamp_does_not_count_as_noise() -> None:
    # Each frame 3 % brighter or darker: 65 DN at 2200 DN, more than the noise of 31 DN.
    source, sensor = generator(7), Sensor(replace(SPEC, pattern=None))
    level = 1 + 0.03 * torch.randn(16, 16, 1, 1, 1, generator=source, dtype=torch.float64)
    light = PHOTONS.clamp(max=11_000.0)[:, None, None, None, None] * level * torch.ones(1, 1, 1, 48, 48)
    light[-1] = 30_000.0
    steps = torch.cat((PHOTONS[:11], PHOTONS[-1:]))
    bright = torch.stack([sensor(light[i], source)[:, 0] for i in [*range(11), 15]])
    report = emva_report(bright, frames(replace(SPEC, pattern=None), torch.zeros(1).double(), 8, side=48)[0], steps)
    assert report.gain_dn_e.value == pytest.approx(0.45, rel=0.03)


def test_linearity_error_is_the_mean_relative_deviation_from_the_line() -> None:
    # Means x (1 + b_i) with b = +d, -d, -d, +d, ... on points where no line takes any of it off.
    step = torch.arange(1.0, 12.0, dtype=torch.float64)
    bend = 1 + 0.01 * torch.tensor([0, 0, 1, -1, -1, 1, 0, 0, 0, 0, 0], dtype=torch.float64)
    sign = torch.where(torch.arange(64).reshape(8, 8) % 2 == 0, 1.0, -1.0).double()
    noise = torch.stack((sign, -sign)) * (step[:, None, None, None] ** 0.5)
    noise[-1] = 0.0
    bright = 100 * (step * bend)[:, None, None, None] + noise
    report = emva_report(bright + 5, torch.full((2, 8, 8), 5.0), step)
    # The same fit by hand, without matrices: minimise sum ((y - a - b x) / y)^2 over the ten steps from 5 % to 95 %.
    x, y = step[:9].tolist(), (100 * step * bend)[:9].tolist()
    w = [1 / v**2 for v in y]
    s, sx, sy = sum(w), sum(w_ * v for w_, v in zip(w, x, strict=True)), sum(w_ * v for w_, v in zip(w, y, strict=True))
    sxx = sum(w_ * v * v for w_, v in zip(w, x, strict=True))
    sxy = sum(w_ * u * v for w_, u, v in zip(w, x, y, strict=True))
    b = (s * sxy - sx * sy) / (s * sxx - sx * sx)
    a = (sy - b * sx) / s
    error = sum(abs(v - a - b * u) / (a + b * u) for u, v in zip(x, y, strict=True)) / 9
    assert report.linearity_error == pytest.approx(error, rel=1e-9)
    assert 0.003 < error < 0.006


def test_rows_and_columns_are_told_from_pixels() -> None:
    pattern = FixedPattern(3, dsnu_e=(3.0, 4.0, 2.0), prnu=(0.01, 0.004, 0.008))
    report = measured(3, replace(SPEC, pattern=pattern), side=128)
    # 128 rows or columns give an RMS to 6.3 % (one standard deviation).
    assert report.dsnu_e.pixels == pytest.approx(3.0, rel=0.03)
    assert report.dsnu_e.rows == pytest.approx(4.0, rel=0.2)
    assert report.dsnu_e.columns == pytest.approx(2.0, rel=0.2)
    assert report.prnu.pixels == pytest.approx(0.01, rel=0.05)
    assert report.prnu.rows == pytest.approx(0.004, rel=0.25)
    assert report.prnu.columns == pytest.approx(0.008, rel=0.25)
    for estimate, parts in ((report.dsnu_e, (3, 4, 2)), (report.prnu, (0.01, 0.004, 0.008))):
        low, high = estimate.total.interval(0.9999)
        assert low < sum(p * p for p in parts) ** 0.5 < high


def test_temporal_noise_is_taken_off_and_a_uniform_sensor_has_no_pattern() -> None:
    report = measured(4, replace(SPEC, pattern=None))
    # Two frames of 4 electrons each leave 2 electrons if the noise stayed in.
    assert report.dsnu_e.total.value < 0.5
    assert report.dsnu_e.total.interval(0.9999)[0] <= 0
    assert report.prnu.total.value < 0.001


def test_separate_stacks_give_the_same_pattern_with_less_error() -> None:
    few = measured(5)
    stacks = (
        frames(SPEC, torch.zeros(1, dtype=torch.float64), 6, count=32)[0],
        frames(SPEC, torch.tensor([6500.0], dtype=torch.float64), 7, count=32)[0],
    )
    dark = frames(SPEC, torch.zeros(1, dtype=torch.float64), 505)[0]
    many = emva_report(frames(SPEC, PHOTONS, 5), dark, PHOTONS, stacks=stacks)
    assert many.prnu.total.standard_error < 0.8 * few.prnu.total.standard_error
    assert many.prnu.total.value == pytest.approx(0.01, abs=4 * many.prnu.total.standard_error)
    assert many.dsnu_e.total.value == pytest.approx(3.0, abs=4 * many.dsnu_e.total.standard_error)
    assert many.gain_dn_e == few.gain_dn_e


def test_dark_current_from_dark_frames_of_rising_exposure() -> None:
    times = torch.linspace(0.1, 1.6, 16, dtype=torch.float64)
    specs = [replace(SPEC, dark_current_e_s=200.0, exposure_s=float(t)) for t in times]
    none = torch.zeros(1, dtype=torch.float64)
    dark = torch.cat([frames(spec, none, 40 + i, side=48) for i, spec in enumerate(specs)])
    bright = torch.cat([frames(s, PHOTONS[i : i + 1], 80 + i, side=48) for i, s in enumerate(specs)])
    report = emva_report(bright, dark, PHOTONS, exposures_s=times)
    assert report.dark_current_e_s is not None
    assert report.dark_current_e_s.value == pytest.approx(200.0, abs=4 * report.dark_current_e_s.standard_error)
    assert report.dark_current_e_s.standard_error < 2.0
    assert report.gain_dn_e.value == pytest.approx(0.45, abs=4 * report.gain_dn_e.standard_error)
    # The dark noise is that of the first exposure: 16 of read noise and 20 electrons of dark current.
    assert report.dark_noise_e.value == pytest.approx(6.0, abs=4 * report.dark_noise_e.standard_error)


def test_rounding_that_hides_the_dark_noise_is_reported() -> None:
    report = measured(9, replace(SPEC, gain_dn_e=0.05, pattern=None))
    assert report.dark_noise_hidden


def test_a_black_level_that_cuts_off_dark_noise_is_refused() -> None:
    # Read noise of 8 electrons is 2.8 DN: half of all dark values would lie below 0. The noise would come out as 4.6.
    low = replace(SPEC, read_noise_e=8.0, gain_dn_e=0.35, black_level_dn=0.0, pattern=None)
    with pytest.raises(OpticsError, match=r"0\.5\d+ of the values of dark are 0 DN \(limit 0\.005\).* raise the black"):
        measured(0, low)
    assert measured(0, replace(low, black_level_dn=16.0)).dark_noise_e.value == pytest.approx(8.0, rel=0.02)
    dark, bright = (frames(SPEC, torch.tensor([p]).double(), 3)[0] for p in (0.0, 6500.0))
    with pytest.raises(OpticsError, match=r"1 of the values of the dark frames are 0 DN"):
        emva_report(frames(SPEC, PHOTONS, 1), dark, PHOTONS, stacks=(dark * 0, bright))


def test_frames_that_were_delivered_twice_are_refused() -> None:
    bright, dark = frames(SPEC, PHOTONS, 2), frames(SPEC, torch.zeros(1).double(), 3)[0]
    emva_report(bright, dark, PHOTONS)
    stale = bright.clone()
    stale[:, 1::2] = stale[:, ::2]
    with pytest.raises(OpticsError, match=r"frames 0 and 1 of step 0 of bright are the same in all 9216 pixels"):
        emva_report(stale, dark, PHOTONS)
    with pytest.raises(OpticsError, match=r"frames 0 and 1 of step 0 of bright are the same"):
        emva_report(torch.cat((stale[:4, :2], bright[4:, :2])), dark, PHOTONS)
    with pytest.raises(OpticsError, match=r"frames 2 and 3 of dark are the same"):
        emva_report(bright, dark[[0, 1, 2, 2]], PHOTONS)
    with pytest.raises(OpticsError, match=r"frames 0 and 4 of the half saturated frames are the same"):
        emva_report(bright, dark, PHOTONS, stacks=(dark, bright[6][[0, 1, 2, 3, 0]]))


def test_frames_without_noise_may_be_alike() -> None:
    # Saturated frames are all the same, and so are dark ones whose noise rounding hides.
    report = measured(9, replace(SPEC, gain_dn_e=0.02, black_level_dn=64.0, pattern=None))
    assert report.dark_noise_hidden


def test_interval_is_the_normal_one() -> None:
    assert Estimate(2.0, 0.5).interval(0.95) == pytest.approx((2 - 0.97998199, 2 + 0.97998199))
    with pytest.raises(OpticsError, match=r"level=1.5 must lie between 0 and 1"):
        Estimate(2.0, 0.5).interval(1.5)


def test_frames_that_do_not_fit_are_refused() -> None:
    bright, dark = torch.ones(6, 2, 8, 8), torch.ones(2, 8, 8)
    steps = torch.arange(1.0, 7.0)
    for kind, message in (
        ((bright[0], dark, steps), r"bright has shape \(2, 8, 8\); \(S, F, H, W\) is needed"),
        ((bright[:, :1], dark, steps), "at least 2 frames F of each step"),
        ((bright, dark[:1], steps), r"dark has shape \(1, 1, 8, 8\); .* with at least 2"),
        ((bright, torch.ones(4, 2, 8, 8), steps), r"dark has shape \(4, 2, 8, 8\); .*\(6, F, H, W\)"),
        ((bright, dark[:, :4], steps), r"dark has frames of \(4, 8\) pixels and bright of \(8, 8\)"),
        ((bright * torch.nan, dark, steps), "not finite; leave such frames out"),
        ((bright, dark, steps.flip(0)), "photons must be 6 rising numbers"),
        ((bright, dark, steps[:3]), "photons must be 6 rising numbers"),
    ):
        with pytest.raises(OpticsError, match=message):
            emva_report(*kind)


def test_series_that_miss_saturation_or_times_are_refused() -> None:
    bright, dark = frames(SPEC, PHOTONS, 0, side=16), frames(SPEC, torch.zeros(1).double(), 1, side=16)[0]
    with pytest.raises(OpticsError, match=r"still rises at the last step \(10000 photons\).*add brighter steps"):
        emva_report(bright[:10], dark, PHOTONS[:10])
    with pytest.raises(OpticsError, match=r"exposures_s has shape .* pass one time for each step, not all equal"):
        emva_report(bright, dark, PHOTONS, exposures_s=PHOTONS)
    with pytest.raises(OpticsError, match="the half saturated frames of stacks have shape"):
        emva_report(bright, dark, PHOTONS, stacks=(dark, dark[0]))
    coarse = [0, 9, 10, 11, 12, 14]
    with pytest.raises(OpticsError, match="1 steps of bright lie below 70 % of saturation"):
        emva_report(bright[coarse], dark, PHOTONS[coarse])
    dim = frames(SPEC, torch.tensor([100.0, 200.0, 300.0]).double(), 2, count=2, side=16)
    with pytest.raises(OpticsError, match=r"[01] steps of bright lie between 5 % and 95 % of saturation"):
        emva_report(
            torch.stack((*dim, bright[10, :2], bright[14, :2])), dark, torch.tensor([100.0, 200.0, 300.0, 1e4, 2e4])
        )
