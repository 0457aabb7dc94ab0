"""Records of the main job: one way to JSON and back, gates that can pass and fail, and the choice of the baseline."""

from __future__ import annotations

import json
import math

import pytest

from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.records import AttackerResult, CameraResult, TrainMaskSummary
from codesign.summary import judgement, most_private
from tests.optishield.summaries import camera, gaps, train_summary


def test_the_false_match_rate_is_part_of_the_key_in_json() -> None:
    result = AttackerResult(
        rank1=0.25, rank1_ci95=(0.2, 0.3), auc=0.8, target_fmr=0.001, tar=0.1, tar_ci95=(0.05, 0.2), threshold=0.4
    )
    stored = result.to_json()
    assert stored["tar_at_fmr_0.001"] == 0.1
    assert stored["tar_at_fmr_0.001_ci95"] == [0.05, 0.2]
    assert not {"tar", "target_fmr"} & set(stored)
    assert AttackerResult.from_json(json.loads(json.dumps(stored)), "a file") == result


def test_without_a_threshold_there_is_no_accept_rate() -> None:
    stored = AttackerResult(rank1=0.25, auc=0.8, people=12).to_json()
    assert set(stored) == {"rank1", "rank1_ci95", "auc", "auc_ci95", "people"}
    assert AttackerResult.from_json(stored, "a file").tar is None


def test_a_number_that_is_not_defined_is_null() -> None:
    assert AttackerResult(rank1=math.nan, auc=0.5).to_json()["rank1"] is None


def test_a_whole_summary_comes_back_as_it_was() -> None:
    summary = train_summary()
    assert TrainMaskSummary.from_json(json.loads(json.dumps(summary.to_json())), "summary.json") == summary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": None}, r"summary.json is no TrainMaskSummary of this version \(gates: .*\); run the command again"),
        ({"surprise": 1}, r"\(surprise: Extra inputs are not permitted\)"),
        ({"worst_attacker": 3}, r"\(worst_attacker: "),
    ],
)
def test_a_file_of_another_version_is_refused_with_the_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(CodesignError, match=message):
        TrainMaskSummary.from_json({**train_summary().to_json(), **change}, "summary.json")


def test_a_camera_without_its_worst_attacker_is_refused() -> None:
    with pytest.raises(ValueError, match="the worst attacker 'nobody' is none of"):
        CameraResult(nme=0.1, attackers={}, worst_attacker="nobody")


CONFIG = TrainMaskConfig.for_budget("quick")


@pytest.mark.parametrize(
    ("clean", "nme", "passed"), [(0.95, 0.09, (True, True)), (0.85, 0.09, (False, True)), (0.95, 0.11, (True, False))]
)
def test_each_gate_can_pass_and_fail(clean: float, nme: float, passed: tuple[bool, bool]) -> None:
    gates, findings = judgement(CONFIG, camera(nme, 0.2), camera(0.03, clean), None, None)
    assert (gates["clean camera recognises"].passed, gates["landmark error"].passed) == passed
    assert findings == {}


def test_a_smoke_run_has_no_gate_since_it_shows_only_that_it_runs() -> None:
    smoke = TrainMaskConfig.for_budget("smoke")
    gates, findings = judgement(smoke, camera(0.3, 0.2), camera(0.3, 0.2), None, None)
    assert gates == {}
    assert not any(finding.passed for finding in findings.values())


@pytest.mark.parametrize(("ours", "low", "passed"), [(0.2, 0.1, True), (0.6, 0.1, False), (0.2, -0.1, False)])
def test_findings_ask_for_intervals_apart_and_a_gap_above_nothing(ours: float, low: float, passed: bool) -> None:
    gap = gaps(low + 0.2, low, low + 0.4)
    _, findings = judgement(CONFIG, camera(0.09, ours), camera(0.03, 1.0), camera(0.09, 0.6), gap)
    assert (findings["separation"].passed and findings["gap"].passed) is passed


def test_a_gap_that_is_not_defined_is_no_finding() -> None:
    gap = gaps(None, None, None, reason="Nothing to close.")
    _, findings = judgement(CONFIG, camera(0.09, 0.2), camera(0.03, 1.0), camera(0.09, 0.6), gap)
    assert not findings["gap"].passed
    assert findings["gap"].reason == "Nothing to close."


def test_the_most_private_baseline_is_no_ablation_of_ours() -> None:
    cameras = {"a": camera(0.1, 0.7), "b": camera(0.1, 0.5), "ours-less": camera(0.1, 0.3, ablation="the mask")}
    assert most_private(cameras, list(cameras)) == "b"
    assert most_private(cameras, ["ours-less"]) is None
