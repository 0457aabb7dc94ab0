"""A run that goes on stays on the kind of device it was begun on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ground.devices import stay_on
from ground.errors import GroundError


class Stages:
    """The stages of a run folder, in memory."""

    path = Path("runs/x")

    def __init__(self, **done: dict[str, Any]) -> None:
        self.done = done

    def stage_done(self, name: str) -> dict[str, Any] | None:
        return self.done.get(name)

    def mark_stage(self, name: str, result: Any = None) -> None:
        self.done[name] = dict(result)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_fresh_run_notes_its_kind_and_goes_on_with_it_alone(kind: str) -> None:
    run: Any = Stages()
    other = {"cpu": "cuda", "cuda": "cpu"}[kind]
    stay_on(run, kind)
    stay_on(run, kind)
    with pytest.raises(
        GroundError, match=rf"^runs/x was begun on {kind} .* on {other}; resume it with --device {kind}"
    ):
        stay_on(run, other)


def test_a_run_of_an_earlier_version_was_computed_on_the_processor() -> None:
    run: Any = Stages(faces={"hash": "x"})
    with pytest.raises(GroundError, match=r"was begun on cpu and figures would not be the same on cuda"):
        stay_on(run, "cuda")
    stay_on(run, "cpu")
