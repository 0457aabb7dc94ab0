"""The search for equal landmark error, on cameras whose error is a known function of their parameter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from codesign import matching
from codesign.cameras import CameraSpec, baselines
from codesign.config import TrainMaskConfig
from codesign.matching import FinishedCamera, Matching, matched_camera, slope

CONFIG = TrainMaskConfig.for_budget("full")


class Bench:
    """Stands for the training of decoders: the error grows as a power of the blur, and falls with finer pixels."""

    def __init__(self, at_one: float, power: float, per_pixel: float = 0.0) -> None:
        self.at_one, self.power, self.per_pixel = at_one, power, per_pixel
        self.asked: list[float] = []

    def error(self, spec: CameraSpec) -> float:
        value = spec.exposure.electrons_at_white if spec.value is None else spec.value
        worse = value if spec.value is not None else 4000.0 / value
        return self.at_one * worse**self.power * (spec.exposure.pixels / 16) ** self.per_pixel

    def train(self, spec: CameraSpec) -> tuple[str, float]:
        self.asked.append(self.error(spec))
        return f"decoder of {spec.exposure.pixels}", self.error(spec)

    def finish(self, spec: CameraSpec, decoder: str, error: float, matched: Matching | None = None) -> FinishedCamera:
        state = {decoder: torch.zeros(1)}
        return FinishedCamera(spec, error, math.nan, decoder=state, released={}, signals={}, matching=matched)


def search(monkeypatch: pytest.MonkeyPatch, bench: Bench, name: str, target: float) -> tuple[FinishedCamera, Matching]:
    monkeypatch.setattr(matching, "_bench", lambda *rest: bench)
    found = matched_camera(Path("nowhere"), CONFIG, name, target)
    assert found.matching is not None
    return found, found.matching


@pytest.mark.parametrize("power", [0.3, 1.0, 2.0])
def test_a_smooth_error_is_met_within_the_tolerance(power: float, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(0.06 / 3.0**power, power)
    found, how = search(monkeypatch, bench, "gaussian-blur", 0.06)
    assert abs(how.mismatch) <= CONFIG.proof.nme_tolerance
    assert how.value == pytest.approx(3.0, rel=0.3)
    assert len(how.rounds) == len(bench.asked) <= CONFIG.proof.match_rounds
    assert found.validation_nme == pytest.approx(0.06 + how.mismatch)
    assert found.spec.value == how.value


def test_a_baseline_that_sees_better_than_ours_is_not_kept_if_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wild error: the trial kept is the nearest of those that do not see better than ours."""
    values = iter([0.050, 0.090, 0.055, 0.052, 0.080])
    bench = Bench(1.0, 1.0)
    monkeypatch.setattr(bench, "error", lambda spec: 0.05)
    monkeypatch.setattr(bench, "train", lambda spec: ("decoder", next(values)))
    found, how = search(monkeypatch, bench, "gaussian-blur", 0.06)
    assert found.validation_nme == 0.080
    assert [row.nme for row in how.rounds] == [0.050, 0.090, 0.055, 0.052, 0.080]


def test_what_sees_better_is_kept_if_nothing_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(1e-4, 0.1)
    _, how = search(monkeypatch, bench, "gaussian-blur", 0.5)
    assert how.mismatch < 0
    assert how.value == pytest.approx(16.0)  # the end of the search


def test_pixels_get_finer_until_the_camera_can_see_as_well_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(0.1, 0.2, per_pixel=-1.0)
    found, how = search(monkeypatch, bench, "low-resolution", 0.06)
    # Errors at best light: .2 with 8 pixels, .1 with 16, .05 with 32.
    assert [row.pixels for row in how.rounds][:3] == [8, 16, 32]
    assert found.spec.exposure.pixels == 32
    assert list(found.decoder) == ["decoder of 32"]
    assert abs(how.mismatch) <= CONFIG.proof.nme_tolerance


def test_the_marker_of_a_camera_holds_its_figures_and_how_it_was_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    found, how = search(monkeypatch, Bench(0.02, 1.0), "gaussian-blur", 0.06)
    told = found.to_json()
    assert told["spec"] == found.spec.to_json()
    assert told["rounds"] == [{"value": one.value, "nme": one.nme, "pixels": one.pixels} for one in how.rounds]
    assert list(told) == [
        "spec", "validation_nme", "nme", "parameter", "value", "mismatch", "rounds", "ablation",
    ]  # fmt: skip
    alone = Bench(0.02, 1.0).finish(found.spec, "decoder", 0.5)
    assert list(alone.to_json()) == ["spec", "validation_nme", "nme"]


def test_slope_is_that_of_the_points_and_stays_within_reason() -> None:
    assert slope([(0.0, 0.0), (2.0, 3.0), (1.0, 1.0)]) == pytest.approx(1.5)
    assert slope([(0.0, 0.0)]) == 0.5
    assert slope([(0.0, 0.0), (1.0, 50.0)]) == matching.STEEPEST
    assert slope([(0.0, 0.0), (50.0, 0.1)]) == matching.FLATTEST


def test_cameras_that_differ_in_light_alone_share_their_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def augmented(camera: Any, faces: Any, seed: int) -> tuple[Any, Any]:
        made.append(camera)
        return None, None

    monkeypatch.setattr(matching, "augmented", augmented)
    monkeypatch.setattr(matching, "relative_signal", lambda camera, faces: None)
    person = type("Anybody", (), {"faces": None})()
    parts = {"train": person, "validation": person}
    bench = matching._Bench(CONFIG, parts, None, torch.device("cpu"))
    family = next(one for one in baselines(CONFIG) if one.parameter == "electrons_at_white")
    for severity in (-math.log(300.0), -math.log(200.0)):
        bench.camera(family.at(family.parameter_at(severity)))
    assert len(made) == 1
    bench.camera(family.with_pixels(32).spec)
    assert len(made) == 2
