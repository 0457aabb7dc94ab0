"""The gate that asks whether the adversaries of a mask were awake."""

from __future__ import annotations

from typing import Any

import pytest

from codesign.awake import ALIVE, adversaries_alive
from codesign.config import TrainMaskConfig
from optishield.report.findings import headline
from tests.optishield.summaries import train_summary

CONFIG = TrainMaskConfig.for_budget("quick")


class Stages:
    """A run folder of which only finished stages are read."""

    def __init__(self, **stages: Any) -> None:
        self.stages = {name.replace("_", "-"): value for name, value in stages.items()}

    def stage_done(self, name: str) -> Any:
        return self.stages.get(name)


def judged(accuracy: float | None, people: int | None = 280, warmup: int = 200) -> Any:
    config = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"warmup_steps": warmup})})
    # What the mask does to them later is not asked.
    later = {"accuracy": 0.9, "people": 280}
    run = Stages(design_3_200={"accuracy": accuracy, "people": people}, design_3_360=later, design_0_200=later)
    return adversaries_alive(config, run, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("accuracy", "passed"), [(5.01 / 280, True), (4.99 / 280, False), (0.0, False), (1.0, True)])
def test_five_times_as_many_as_a_guess_are_needed_at_the_end_of_the_warm_up(accuracy: float, passed: bool) -> None:
    gate = judged(accuracy)
    assert gate.passed is passed
    assert ("this mask was not trained for privacy" in gate.reason) is not passed
    assert gate.figures["accuracy"] == accuracy
    assert gate.figures["times_chance"] == pytest.approx(280 * accuracy)
    assert gate.figures["chance"] == pytest.approx(1 / 280)


def test_where_nobody_looked_the_gate_is_not_met() -> None:
    spare = judged(None)
    assert not spare.passed
    assert "training people have no capture to spare); this mask was not trained for privacy" in spare.reason
    assert "there was no warm-up" in judged(0.5, warmup=0).reason


def test_the_first_sentence_of_a_result_says_it() -> None:
    assert headline(train_summary(gates={ALIVE: judged(0.5)})) == headline(train_summary(gates={}))
    said = headline(train_summary(gates={ALIVE: judged(0.001)}))
    assert said == "No claim: adversaries-alive was not met. This mask was not trained for privacy."
