"""Tolerances: random surfaces, Monte Carlo and sensitivities against closed forms."""

from __future__ import annotations

from math import exp, pi
from typing import Any

import pytest
import torch

from optics import FlatMask, OpticsError, PupilGrid, ThinLens, Tolerance, ToleranceCamera, monte_carlo, sensitivities
from optics.tolerance import Perturbation, SurfaceTolerance, ThermalCoefficients
from tests.optics.tolerance_cameras import GRID, LENS, WAVE, axis_camera, camera, generator, number, relief, to_psf

# --- random surfaces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waves_rms", [0.02, 0.05, 0.1])
def test_strehl_of_white_roughness_is_marechal(waves_rms: float) -> None:
    # Ensemble mean of the on-axis intensity: s = exp(-(2 pi sigma)^2), plus (1 - s) over the number of cells (3200).
    cam = axis_camera()
    rms = waves_rms * WAVE / float(cam.mask.index_differences((WAVE,)))
    tolerance = SurfaceTolerance(GRID, rms, name="roughness_m")
    peak = cam({}).item()
    trials = monte_carlo(cam, [tolerance], lambda psf: psf.sum() / peak, 60, generator(1), alone=False)
    assert float(trials.samples.mean()) == pytest.approx(exp(-((2 * pi * waves_rms) ** 2)), abs=2e-3)
    assert float(trials.nominal) == pytest.approx(1.0)


def test_mean_shift_of_strehl_is_the_variance_of_the_phase() -> None:
    cam, sigma = axis_camera(), 0.01
    rms = sigma * WAVE / float(cam.mask.index_differences((WAVE,)))
    peak = cam({}).item()
    surface = SurfaceTolerance(GRID, rms, name="roughness_m")
    result = sensitivities(cam, [surface], lambda psf: psf.sum() / peak, generator=generator(), probes=8)
    assert float(result.mean_shift["roughness_m"]) == pytest.approx(-((2 * pi * sigma) ** 2), rel=0.05)
    assert float(result.deviation["roughness_m"]) < 1e-9


def test_surface_has_its_rms_and_correlation_length() -> None:
    tolerance = SurfaceTolerance(GRID, 10e-9, 6 * GRID.pitch_m)
    maps = torch.stack([tolerance.sample(generator(i)) for i in range(400)])
    # About 400 x 64 independent patches.
    assert float(maps.square().mean().sqrt()) == pytest.approx(10e-9, rel=0.02)
    assert float(maps[:, 0, 0].std()) == pytest.approx(10e-9, rel=0.15)
    for lag in (3, 6, 12):
        for dim in (1, 2):
            pair = maps.narrow(dim, 0, 64 - lag) * maps.narrow(dim, lag, 64 - lag)
            assert float(pair.mean()) / 1e-16 == pytest.approx(exp(-((lag / 6) ** 2)), abs=0.04)
    # No wrap-around: opposite edges are strangers.
    assert abs(float((maps[:, :, 0] * maps[:, :, -1]).mean())) / 1e-16 < 0.06


@pytest.mark.parametrize("cells", [0.0, 5.0])
def test_deviation_of_a_surface_is_that_of_its_draws(cells: float) -> None:
    tolerance = SurfaceTolerance(GRID, 2.0, cells * GRID.pitch_m)
    gradient = torch.sin(GRID.x_m * 2e4) + GRID.y_m * 1e3
    along = (torch.arange(64.0).double()[:, None] - torch.arange(64.0).double()) * GRID.pitch_m
    kernel = torch.eye(64, dtype=torch.float64) if cells == 0 else (-((along / (cells * GRID.pitch_m)) ** 2)).exp()
    # sqrt(g C g) with C = rms^2 exp(-(dx^2 + dy^2) / c^2), written out.
    expected = (4 * (gradient * (kernel @ gradient @ kernel)).sum()).sqrt()
    assert float(tolerance.deviation(gradient[None])) == pytest.approx(float(expected), rel=1e-6)


# --- Monte Carlo and sensitivities ------------------------------------------------------------------------------------


def linear(values: dict[str, torch.Tensor]) -> torch.Tensor:
    return 1 + 3 * values["a"] - 2 * values["b"]


def test_a_linear_metric_has_the_root_sum_square_exactly_and_in_the_limit() -> None:
    tolerances = [Tolerance("a", 0.5), Tolerance("b", 1.2, "uniform")]
    exact = (1.5**2 + (2 * 1.2) ** 2 / 3) ** 0.5
    result = sensitivities(linear, tolerances, lambda x: x)
    assert (float(result.first["a"]), float(result.first["b"])) == (3.0, -2.0)
    assert float(result.rss) == pytest.approx(exact, rel=1e-12)
    assert (float(result.mean), float(result.second["a"])) == (1.0, 0.0)
    trials = monte_carlo(linear, tolerances, lambda x: x, 20_000, generator(), batch=4000, batched=True)
    assert float(trials.samples.std()) == pytest.approx(exact, rel=5 / (2 * 20_000) ** 0.5)
    assert float(trials.samples.mean()) == pytest.approx(1.0, abs=5 * exact / 20_000**0.5)
    shares = trials.contributions()
    assert float(shares["a"]) == pytest.approx(1.5**2 / exact**2, rel=0.05)
    assert float(shares["a"] + shares["b"]) == pytest.approx(1.0, abs=0.05)
    assert float(trials.draws["b"].abs().max()) <= 1.2
    assert float(trials.draws["a"].std()) == pytest.approx(0.5, rel=0.03)
    assert torch.allclose(trials.samples, linear(trials.draws))


def test_sensitivities_of_a_quadratic_with_two_outputs() -> None:
    def system(v: dict[str, torch.Tensor]) -> torch.Tensor:
        a, b = v["a"], v["b"]
        return torch.stack((5 + 2 * a + 3 * a * a + a * b, torch.exp(b) + 0 * a), dim=-1)

    result = sensitivities(system, [Tolerance("a", 0.1), Tolerance("b", 0.2)], lambda x: x)
    assert result.nominal.tolist() == [5.0, 1.0]
    assert result.first["a"].tolist() == [2.0, 0.0]
    assert result.second["a"].tolist() == [6.0, 0.0]
    assert (result.first["b"].tolist(), result.second["b"].tolist()) == ([0.0, 1.0], [0.0, 1.0])
    assert result.mean.tolist() == pytest.approx([5 + 3 * 0.01, 1 + 0.02])
    assert result.rss.tolist() == pytest.approx([0.2, 0.2])
    together = sensitivities(system, [Tolerance("a", 0.1), Tolerance("b", 0.2)], lambda x: x, batched=True, batch=1)
    assert torch.equal(together.second["a"], result.second["a"])


def test_compensator_is_set_to_the_best_value() -> None:
    def system(v: dict[str, torch.Tensor]) -> torch.Tensor:
        a, c = v["a"], v["c"]
        return -2 * (c - 1) ** 2 + 3 * a * c + 0.5 * a

    result = sensitivities(system, [Tolerance("a", 0.1)], lambda x: x, compensator="c")
    # Best c = 1 + 3 a / 4, and there M = 3 a (1 + 3 a / 8) + a / 2 = 3.5 a + 9 a^2 / 8.
    assert float(result.nominal) == pytest.approx(0.0)
    assert float(result.first["a"]) == pytest.approx(3.5)
    assert float(result.second["a"]) == pytest.approx(9 / 4)
    assert float(result.travel["a"]) == pytest.approx(3 / 4)


def test_refocus_takes_back_the_shift_of_the_object() -> None:
    cam = axis_camera()
    peak = cam({}).item()
    loss = {}
    for compensator in (None, "sensor_shift_m"):
        result = sensitivities(
            cam, [Tolerance("object_shift_m", 0.05)], lambda psf: psf.sum() / peak, compensator=compensator
        )
        loss[compensator] = float(result.second["object_shift_m"])
    # What is left is the scale: a sensor farther away receives less in each cell.
    assert abs(loss["sensor_shift_m"]) < 1e-2 * abs(loss[None])
    # Newton's equation: d sensor / d object = -(d / z0)^2.
    move = -((LENS.sensor_distance_m / 1.0) ** 2)
    assert float(result.travel["object_shift_m"]) == pytest.approx(move, rel=0.01)


def test_surface_gradient_is_compensated_too() -> None:
    weight = torch.arange(9.0, dtype=torch.float64).reshape(3, 3)

    class Patch:
        name, shape = "m", (3, 3)

        def sample(self, generator: torch.Generator) -> torch.Tensor:
            return torch.ones(3, 3, dtype=torch.float64)

        def deviation(self, gradient: torch.Tensor) -> torch.Tensor:
            return gradient.flatten(1).norm(dim=1)

    def system(v: dict[str, torch.Tensor]) -> torch.Tensor:
        s = (v["m"] * weight).sum(dim=(1, 2))
        return -((v["c"] - 1 - s) ** 2) + 2 * s

    result = sensitivities(system, [Patch()], lambda x: x, generator=generator(), compensator="c", probes=1)
    # At the best c the first term is zero: M = 2 s.
    assert torch.allclose(result.first["m"], 2 * weight)
    assert float(result.mean_shift["m"]) == pytest.approx(0.0, abs=1e-9)


def test_prediction_agrees_with_monte_carlo_on_a_camera() -> None:
    cam = camera(relief(), object_distance_m=0.7)
    base = cam({})[0]
    tolerances: list[Perturbation] = [
        SurfaceTolerance(GRID, 3e-9, 40e-6),
        Tolerance("etch_scale", 0.005),
        Tolerance("decentre_x_m", 1e-6),
        Tolerance("sensor_shift_m", 1e-6, "uniform"),
    ]

    def likeness(psf: torch.Tensor) -> torch.Tensor:
        return (psf * base).sum() / base.square().sum()

    predicted = sensitivities(cam, tolerances, likeness, generator=generator())
    trials = monte_carlo(cam, tolerances, likeness, 150, generator(2), alone=False)
    # The standard deviation of 150 samples is known to 5.8 %.
    assert float(trials.samples.std()) == pytest.approx(float(predicted.rss), rel=4 * 0.058)


def test_draws_follow_the_generator_and_not_the_batch() -> None:
    tolerances = [Tolerance("a", 1.0), Tolerance("b", 1.0, "uniform")]
    runs = [
        monte_carlo(linear, tolerances, lambda x: x, 50, generator(seed), batch=batch)
        for seed, batch in ((3, 7), (3, 50), (4, 7))
    ]
    assert torch.equal(runs[0].samples, runs[1].samples)
    assert torch.equal(runs[0].alone["a"], runs[1].alone["a"])
    assert not torch.equal(runs[0].samples, runs[2].samples)
    # Another tolerance in the list leaves the draws of those before it alone.
    more = monte_carlo(linear, [*tolerances, Tolerance("c", 1.0)], lambda x: x, 50, generator(3), alone=False)
    assert torch.equal(more.draws["a"], runs[0].draws["a"])


def test_any_system_and_any_metric_will_do() -> None:
    def system(values: dict[str, torch.Tensor]) -> list[dict[str, float]]:
        return [{"height": 1 + float(a)} for a in values["a"]]

    trials = monte_carlo(system, [Tolerance("a", 0.1)], lambda one: [one["height"], 2.0], 12, generator())
    assert trials.samples.shape == (12, 2)
    assert torch.allclose(trials.samples[:, 0], 1 + trials.draws["a"])
    assert trials.nominal.tolist() == [1.0, 2.0]


def test_percentile_interval_covers_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(200):
        trials = monte_carlo(
            lambda v: v["a"],
            [Tolerance("a", 1.0)],
            lambda x: x,
            60,
            generator(seed),
            batched=True,
            batch=60,
            alone=False,
        )
        value, low, high = trials.percentile(80)
        assert low <= value <= high
        inside += int(low <= 0.8416212 <= high)
    # At least 95 %; the binomial steps make it a little more.
    assert 184 <= inside <= 200
    assert trials.percentile(99.9)[2] == torch.inf
    ordered = trials.samples.sort().values
    assert float(trials.percentile(50)[0]) == pytest.approx(float(ordered[29:31].mean()))


def test_yield_has_the_interval_of_clopper_and_pearson() -> None:
    trials = monte_carlo(lambda v: v["a"], [Tolerance("a", 1.0)], lambda x: x, 30, generator(), alone=False)
    share, low, high = trials.yield_below(100.0)
    # All of n: the lower end is (alpha / 2)^(1 / n).
    assert float(share) == float(high) == 1.0
    assert float(low) == pytest.approx(0.025 ** (1 / 30))
    share, low, high = trials.yield_below(-100.0)
    assert float(share) == float(low) == 0.0
    assert float(high) == pytest.approx(1 - 0.025 ** (1 / 30))
    limit = float(trials.samples.sort().values[9])
    share, low, high = trials.yield_below(limit)
    # 10 of 30, from the tables: 0.173 to 0.528.
    assert float(share) == pytest.approx(1 / 3)
    assert [float(low), float(high)] == pytest.approx([0.173, 0.528], abs=5e-4)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"focus": number(0.0)}, "the camera has no parameter 'focus'; choose from figure_m"),
        ({"etch_scale": torch.zeros(())}, r"etch_scale has shape \(\); \(B\) is needed"),
        ({"etch_scale": number(0.0), "tilt_x_rad": number(0.0, 2)}, "with one number of trials B for all"),
        ({"figure_m": torch.zeros(1, 8, 8)}, r"figure_m has shape \(1, 8, 8\); \(B, 64, 64\) is needed"),
        ({"etch_scale": number(float("nan"))}, "etch_scale holds values that are not finite"),
        ({"temperature_k": number(1.0)}, "temperature_k was given .* pass thermal"),
        ({"wavelength_m": number(30e-9)}, "wavelength_m shifts by 3e-08 m; the model covers 2e-08 m"),
        ({"sensor_shift_m": number(-0.01)}, "sensor_shift_m=-0.01 moves the sensor through the lens"),
        ({"object_shift_m": number(-2.0)}, "object_distance_m has the value -1; all must be positive"),
    ],
)
def test_impossible_perturbations_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        camera()(values)


def test_impossible_cameras_and_tolerances_are_refused() -> None:
    with pytest.raises(OpticsError, match=r"mask has PupilGrid.* but to_psf PupilGrid"):
        ToleranceCamera(FlatMask(PupilGrid(0.5e-3, 32)), to_psf())
    far = ToleranceCamera(FlatMask(GRID), to_psf(lens=ThinLens(4e-3, float("inf"))))
    with pytest.raises(OpticsError, match="object_shift_m was given for an object at infinity"):
        far({"object_shift_m": number(0.1)})
    with pytest.raises(OpticsError, match="expansion_per_k=inf must be finite"):
        ThermalCoefficients(0.0, float("inf"))
    with pytest.raises(OpticsError, match=r"spread=-1.0 of 'a' must be zero"):
        Tolerance("a", -1.0)
    with pytest.raises(OpticsError, match="law='triangle' of 'a' must be 'normal' or 'uniform'"):
        Tolerance("a", 1.0, "triangle")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match="rms_m=nan of 'figure_m' must be"):
        SurfaceTolerance(GRID, float("nan"))
    with pytest.raises(OpticsError, match=r"correlation_m=0.001 of 'figure_m' must lie from 0 to the diameter 0.0005"):
        SurfaceTolerance(GRID, 1e-9, 1e-3)


def test_what_monte_carlo_refuses() -> None:
    one = [Tolerance("a", 1.0)]
    for call, message in (
        (lambda: monte_carlo(linear, [], lambda x: x, 5, generator()), "tolerances is empty"),
        (lambda: monte_carlo(linear, one * 2, lambda x: x, 5, generator()), "names a, a; each name may occur once"),
        (lambda: monte_carlo(linear, one, lambda x: x, 1, generator()), "trials=1 must be at least 2 and batch=8"),
        (lambda: monte_carlo(lambda v: v["a"][:1], one, lambda x: x, 5, generator()), "1 results for 5 trials"),
        (
            lambda: monte_carlo(lambda v: v["a"], one, lambda x: x.sum(), 5, generator(), batched=True),
            r"metric returned shape \(\) for 5 trials; with batched=True",
        ),
        (
            lambda: monte_carlo(lambda v: v["a"], one, lambda x: x / 0, 5, generator()),
            "metric returned a value that is",
        ),
    ):
        with pytest.raises(OpticsError, match=message):
            call()
    result = monte_carlo(lambda v: v["a"], one, lambda x: x, 5, generator(), alone=False)
    with pytest.raises(OpticsError, match="run monte_carlo with alone=True"):
        result.contributions()
    with pytest.raises(OpticsError, match="percent=0 must lie between 0 and 100"):
        result.percentile(0)
    with pytest.raises(OpticsError, match="level=1 must lie between 0 and 1"):
        result.yield_below(0.0, level=1)


def test_what_sensitivities_refuse() -> None:
    one, surface = [Tolerance("a", 1.0)], [SurfaceTolerance(GRID, 1e-9)]
    for call, message in (
        (lambda: sensitivities(camera(), surface, lambda x: x.sum()), "'figure_m' is a surface.*pass a generator"),
        (lambda: sensitivities(linear, one, lambda x: x, probes=0), "probes=0 and batch=4 must be at least 1"),
        (lambda: sensitivities(linear, one, lambda x: x, compensator="a"), "compensator='a' is among the tolerances"),
        (lambda: sensitivities(lambda v: v["a"], one, lambda x: x.item()), "metric has no gradient.*use monte_carlo"),
        (
            lambda: sensitivities(lambda v: v["a"] + v["c"], one, lambda x: x, compensator="c"),
            "no curvature along compensator='c'",
        ),
        (
            lambda: sensitivities(lambda v: v["a"] + v["c"], one, lambda x: torch.stack((x, x)), compensator="c"),
            r"metric has shape \(2,\) but compensator='c' needs a single number",
        ),
    ):
        with pytest.raises(OpticsError, match=message):
            call()
