"""Whether the adversaries of a run were awake when its mask began to move; otherwise it was not trained for privacy."""

from __future__ import annotations

from codesign.config import TrainMaskConfig
from codesign.records import GateResult
from ground.protocols import RunStore

#: Name of the gate.
ALIVE = "adversaries-alive"
#: How many times as many captures as a guess the better recogniser has to name.
TIMES_CHANCE = 5.0
ASLEEP = "this mask was not trained for privacy"


def adversaries_alive(config: TrainMaskConfig, run: RunStore, start: int) -> GateResult:
    """The gate, from what the validation at the end of the warm-up left behind.

    It is asked at the end of the warm-up and not later, since a mask that does what it is charged for lowers the
    figure. The captures are of the people whom the adversaries were trained on, but adversaries never saw them.

    Args:
        config: Configuration of the run.
        run: The run folder, with the design done.
        start: Number of the start whose mask was chosen.
    """
    warmup = config.training.warmup_steps
    found = (run.stage_done(f"design-{start}-{warmup}") or {}) if warmup else {}
    accuracy, people = found.get("accuracy"), found.get("people")
    if accuracy is None or people is None:
        lack = "training people have no capture to spare" if warmup else "there was no warm-up"
        return GateResult(passed=False, reason=f"nobody looked whether adversaries name anybody ({lack}); {ASLEEP}")
    times = accuracy * people
    reason = (
        f"after the warm-up the adversaries name {accuracy:.3f} of held-out captures of {people} people, {times:.1f} "
        f"times as many as a guess, at least {TIMES_CHANCE:g} times are needed"
    )
    passed = times >= TIMES_CHANCE
    figures = {"accuracy": accuracy, "chance": 1 / people, "times_chance": times}
    return GateResult(passed=passed, reason=reason if passed else f"{reason}; {ASLEEP}", figures=figures)
