"""Gates and bars at their edges: each passes on one side of its number and not on the other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation import EvaluationError, Gate, Interval, paired_difference
from evaluation.measures.gates import (
    BARS,
    beats_noise,
    certificate,
    claims,
    false_match_rate,
    identity_control,
    label_shuffle,
    optics_rank1_bar,
    parrot_control,
    recogniser_strength,
    verdict,
    wiener_control,
)


def interval(value: float, low: float, high: float = 1.0, people: int = 50) -> Interval:
    return Interval(value, low, high, people)


@pytest.mark.parametrize(
    ("value", "low", "passed"), [(0.90, 0.80, True), (0.899, 0.85, False), (0.95, 0.799, False), (1.0, 0.9, True)]
)
def test_gate_1_needs_the_rate_and_its_lower_limit(value: float, low: float, passed: bool) -> None:
    assert recogniser_strength(interval(value, low)).passed is passed


@pytest.mark.parametrize(
    ("low", "high", "passed"),
    [(0.004, 0.02, True), (0.01, 0.02, True), (0.011, 0.02, False), (0.001, 0.009, False)],
)
def test_gate_2_needs_the_aim_in_the_interval(low: float, high: float, passed: bool) -> None:
    gate = false_match_rate(interval(0.01, low, high), 0.01)
    assert gate.passed is passed
    assert ("does not contain" in gate.reason) is not passed


def test_gate_3_has_four_controls() -> None:
    assert label_shuffle(interval(0.03, 0.01, 0.05), 0.02).passed is True
    assert label_shuffle(interval(0.09, 0.05, 0.14), 0.02).passed is False
    assert identity_control(0.0).passed is True
    assert identity_control(0.01).passed is False
    assert identity_control(-0.01).passed is False
    for control in (parrot_control, wiener_control):
        assert control(0.72, 0.90).passed is True
        assert control(0.71, 0.90).passed is False
        assert control(None, 0.90).passed is None
        with pytest.raises(EvaluationError, match="clean_rank1 is 0"):
            control(0.5, 0)


def test_gate_4_names_the_attack_that_is_farthest_above_its_certificate() -> None:
    assert certificate({"a": (0.2, 0.2), "b": (0.1, 0.5)}).passed is True
    gate = certificate({"a": (0.25, 0.2), "b": (0.4, 0.1), "c": (0.0, 0.1)})
    assert gate.passed is False
    assert gate.reason.startswith("b ")
    assert certificate({}).passed is True


def test_gate_5_needs_more_than_noise_does() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random(40)
    assert beats_noise(paired_difference(noise + 0.2 + 0.1 * rng.normal(size=40), noise).difference).passed is True
    assert beats_noise(paired_difference(noise + 0.1 * rng.normal(size=40), noise).difference).passed is False
    assert beats_noise(None).passed is None


#: The bars of the specification, once more: claim, a value that just meets all, and one figure that just does not.
CASES = {
    "protects": ({"psr_net_low": 0.80}, ("psr_net_low", 0.7999)),
    "strong": ({"psr_net_low": 0.95}, ("psr_net_low", 0.9499)),
    "withstands retraining": ({"psr_net_retrained_low": 0.50}, ("psr_net_retrained_low", 0.4999)),
    "leakage-tolerant": ({"psr_net_leaked_share": 0.80}, ("psr_net_leaked_share", 0.7999)),
    "unlinkable": ({"linkability_auc_high": 0.60}, ("linkability_auc_high", 0.6001)),
    "quality": ({"ssim_median": 0.90, "ssim_p5": 0.80}, ("ssim_p5", 0.7999)),
    "utility": ({"detection_share": 0.98, "nme_rise": 0.01, "expression_share": 0.95}, ("nme_rise", 0.0101)),
    "utility of optics": ({"heatmap_nme": 0.08}, ("heatmap_nme", 0.0801)),
    "certified": ({"certified_success": 0.4999}, ("certified_success", 0.5)),
}


def test_every_bar_is_met_on_one_side_of_its_number_only() -> None:
    assert {bar.claim for bar in BARS} == set(CASES)
    for claim, (figures, (name, short)) in CASES.items():
        assert claims(figures)[claim] is True, claim
        assert claims({**figures, name: short})[claim] is False, claim
        assert claims({**figures, name: math.nan})[claim] is False, claim
        for left_out in figures:
            assert claims({key: value for key, value in figures.items() if key != left_out})[claim] is None, claim


def test_a_bar_that_is_missed_decides_even_where_another_figure_is_missing() -> None:
    assert claims({"ssim_p5": 0.1})["quality"] is False
    assert claims({"ssim_median": 0.1})["quality"] is False


def test_the_bar_of_optics_depends_on_the_gallery() -> None:
    assert [optics_rank1_bar(people).limit for people in (5, 10, 50)] == pytest.approx([0.4, 0.2, 0.12])
    bars = (*BARS, optics_rank1_bar(50))
    figures = {"psr_net_retrained_low": 0.6, "rank1_high": 0.12}
    assert claims(figures, bars)["withstands retraining"] is True
    assert claims({**figures, "rank1_high": 0.13}, bars)["withstands retraining"] is False
    with pytest.raises(EvaluationError, match="gallery of 1 people"):
        optics_rank1_bar(1)


GOOD = [
    recogniser_strength(interval(0.97, 0.93)),
    false_match_rate(interval(0.011, 0.005, 0.02), 0.01),
    identity_control(0.0),
    certificate({}),
    beats_noise(interval(0.3, 0.2, 0.4)),
]


@pytest.mark.parametrize(
    ("low", "people", "label"),
    [(0.95, 50, "strong"), (0.949, 50, "protects"), (0.80, 30, "protects"), (0.799, 50, "fails"),
     (0.99, 29, "exploratory"), (0.10, 29, "exploratory")],
)  # fmt: skip
def test_the_verdict_follows_the_lower_limit(low: float, people: int, label: str) -> None:
    assert verdict(GOOD, interval(0.99, low), people).label == label


def test_a_failure_says_whether_protection_is_broken_or_only_not_shown() -> None:
    assert verdict(GOOD, interval(0.5, 0.4, 0.6), 50).reason.startswith("broken")
    assert verdict(GOOD, interval(0.85, 0.7, 0.93), 50).reason.startswith("not shown")


@pytest.mark.parametrize("place", range(5))
def test_any_gate_that_fails_or_was_not_run_means_no_claim(place: int) -> None:
    for passed, state in ((False, "failed"), (None, "was not run")):
        gates: list[Gate] = list(GOOD)
        gates[place] = replace(gates[place], passed=passed)
        found = verdict(gates, interval(1.0, 0.99), 200)
        assert found.label == "no claim"
        assert found.reason.startswith(f"the gate {gates[place].name} {state}")


def test_without_gates_or_figures_there_is_no_claim() -> None:
    assert verdict([], interval(1.0, 0.99), 200).label == "no claim"
    assert verdict(GOOD, None, 200).label == "no claim"
    assert verdict(GOOD, interval(math.nan, math.nan), 200).label == "no claim"
