"""The choice among random starts: validation people decide, and a start that fails does not end the others."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from codesign import masks
from codesign.cameras import exposure_of, geometry_of
from codesign.config import TrainMaskConfig
from codesign.cotrain import Trainer, Validation
from codesign.errors import CodesignError
from codesign.starts import Designer, Start, best
from faces.samples import FaceSet
from faces.synthetic import generate
from ground.protocols import StageProgress
from optishield.run.folder import RunFolder

CPU = torch.device("cpu")


class Silent:
    """A display that shows nothing and counts what it was told."""

    def __init__(self) -> None:
        self.steps = 0

    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> AbstractContextManager[StageProgress]:
        return nullcontext(self)

    def advance(self, n: int = 1) -> None:
        self.steps += n

    def note(self, text: str) -> None:
        pass


def configured(**training: Any) -> TrainMaskConfig:
    values = TrainMaskConfig.for_budget("smoke").model_dump()
    values["training"] |= {"warmup_steps": 2, "steps": 4, "checkpoint_every": 3, **training}
    values["mask"] |= {"cells": 6}
    return TrainMaskConfig.model_validate(values)


def opened(config: TrainMaskConfig, out: Path) -> RunFolder:
    return RunFolder.create(verb="train-mask", slug="toy", config=config, command=[], seeds={}, out=out)


def nobodies(captures: int) -> FaceSet:
    """Eight people without a face."""
    identity, count = torch.arange(8).repeat_interleave(captures), 8 * captures
    images, landmarks = torch.zeros(count, 3, 64, 64, dtype=torch.uint8), torch.zeros(count, 68, 2)
    return FaceSet(images, identity, torch.arange(captures).repeat(8), landmarks, "test", "none")


def designer(config: TrainMaskConfig, run: RunFolder, people: FaceSet | None = None) -> Designer:
    people = nobodies(2) if people is None else people
    geometry, exposure = geometry_of(config.optics), exposure_of(config.sensor)
    return Designer(config, geometry, exposure, people, people, run, 0, CPU)


#: Utility and privacy of each start on the validation people; the second is cheapest, though its utility is not.
FIGURES = [(1.0, 0.9), (1.2, 0.1), (1.3, 0.2), (1.1, 0.8)]
DIVERGES, STEEP = 0, 1


class Toy:
    """Stands for co-training: some starts fail, and validation figures are given."""

    fails: ClassVar[dict[int, int]] = {}
    made: ClassVar[list[int]] = []

    def __init__(self, config: TrainMaskConfig, *rest: Any) -> None:
        self.number, self.cells, self.step_count = rest[-2] // 1000, config.mask.cells, 0
        type(self).made.append(self.number)

    def step(self, move_mask: bool, gradients: bool = False) -> dict[str, float]:
        if self.fails.get(self.number) == DIVERGES and move_mask:
            raise CodesignError("the co-design loss is no longer finite; lower training.mask_rate.")
        self.step_count += 1
        # What the last batch says is the opposite of what validation says.
        return {"nme": 0.1, "utility": -FIGURES[self.number][0], "privacy": -FIGURES[self.number][1]}

    def state(self) -> dict[str, Tensor]:
        slope = 1e4 if self.fails.get(self.number) == STEEP else 0.0
        controls = slope * (torch.arange(self.cells) - self.cells / 2) + self.number
        return {"mask/controls": controls.expand(self.cells, -1).clone(), "steps": torch.tensor(self.step_count)}

    def load(self, state: dict[str, Tensor]) -> None:
        self.step_count = int(state["steps"])

    def validate(self, faces: Any) -> Validation:
        utility, privacy = FIGURES[self.number]
        return Validation(0.1, utility, privacy, accuracy=0.5, people=8)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    monkeypatch.setattr(Toy, "fails", {})
    monkeypatch.setattr(Toy, "made", [])
    monkeypatch.setattr("codesign.starts.Trainer", Toy)
    return Toy


def test_validation_people_choose_by_landmarks_and_privacy(toy: type[Toy], tmp_path: Path) -> None:
    config = configured(starts=4)
    found = designer(config, opened(config, tmp_path / "run")).design(Silent())
    costs = [utility + config.training.privacy_weight * privacy for utility, privacy in FIGURES]
    assert [start.cost for start in found.starts] == pytest.approx(costs)
    assert found.best_start == costs.index(min(costs)) == 1
    assert torch.equal(found.mask["controls"], torch.ones(6, 6))
    assert all(start.dropped == "" and start.steps == 6 for start in found.starts)


@pytest.mark.parametrize(
    ("how", "words"),
    [(DIVERGES, "the co-design loss is no longer finite"), (STEEP, "samples")],
    ids=["diverges", "steep"],
)
def test_a_start_that_fails_is_named_and_the_others_go_on(how: int, words: str, toy: type[Toy], tmp_path: Path) -> None:
    toy.fails = {1: how}
    config = configured(starts=4)
    found = designer(config, opened(config, tmp_path / "run")).design(Silent())
    assert words in found.starts[1].dropped
    assert [start.number for start in found.starts if not start.dropped] == [0, 2, 3]
    assert found.best_start == 2


def test_without_any_start_left_the_reason_is_said(toy: type[Toy], tmp_path: Path) -> None:
    toy.fails = {0: DIVERGES, 1: STEEP}
    config = configured(starts=2)
    run = opened(config, tmp_path / "run")
    with pytest.raises(CodesignError, match=r"none of 2 starts gave a mask; start 0: .* no longer finite"):
        designer(config, run).design(Silent())
    # What failed once fails again: nothing is trained a second time.
    toy.made.clear()
    with pytest.raises(CodesignError, match=r"none of 2 starts gave a mask"):
        designer(config, run).design(Silent())
    assert toy.made == []


def test_only_the_best_quarter_goes_on_after_screening(toy: type[Toy], tmp_path: Path) -> None:
    config = configured(starts=4, screening_steps=2)
    progress = Silent()
    found = designer(config, opened(config, tmp_path / "run")).design(progress)
    assert [start.steps for start in found.starts] == [4, 6, 4, 4]
    assert found.best_start == 1
    assert [start.dropped for start in found.starts if start.number != 1] == ["not among the best after 4 steps"] * 3
    assert progress.steps == 4 * 4 + 2


def test_validation_people_must_be_seen_twice(toy: type[Toy], tmp_path: Path) -> None:
    config = configured(starts=1)
    one = designer(config, opened(config, tmp_path / "run"), nobodies(1))
    with pytest.raises(CodesignError, match="all validation people have a single capture"):
        one.design(Silent())
    assert toy.made == []


@pytest.mark.parametrize(("count", "share", "left"), [(8, 0.25, 2), (9, 0.25, 3), (3, 0.25, 1), (5, 0.0, 1)])
def test_so_many_starts_go_on(count: int, share: float, left: int) -> None:
    starts = [Start(number, 1, cost=-number) for number in range(count)]
    assert [start.number for start in best(starts, share)] == list(range(count - 1, count - 1 - left, -1))
    assert best([Start(0, 1, dropped="failed")], share) == []


def test_a_stopped_design_goes_on_from_its_last_checkpoint(
    toy: type[Toy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(starts=2)
    run = opened(config, tmp_path / "run")
    mark = RunFolder.mark_stage

    def killed(self: RunFolder, stage: str, result: Any = None) -> None:
        if stage == "design-1-6":
            raise KeyboardInterrupt("killed")
        mark(self, stage, result)

    monkeypatch.setattr(RunFolder, "mark_stage", killed)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        designer(config, run).design(Silent())
    monkeypatch.setattr(RunFolder, "mark_stage", mark)
    toy.made.clear()
    progress = Silent()
    found = designer(config, run).design(progress)
    assert toy.made == [1]
    assert progress.steps == 2 * 6
    assert [start.steps for start in found.starts] == [6, 6]


def test_real_starts_are_judged_by_the_state_that_is_kept(tmp_path: Path) -> None:
    config = configured(starts=2, steps=2, batch=8)
    people = generate(8, 3, size=64, seed=0, first_identity=500)
    run = opened(config, tmp_path / "run")
    found = designer(config, run, people).design(Silent())
    geometry, exposure = geometry_of(config.optics), exposure_of(config.sensor)
    for start in found.starts:
        trainer = Trainer(config, geometry, exposure, people, 99, CPU)
        trainer.load(run.read_tensors(f"design/start-{start.number}-4.safetensors"))
        seen = trainer.validate(people)
        assert (start.validation_nme, start.utility, start.privacy) == (seen.nme, seen.utility, seen.privacy)
        assert start.cost == pytest.approx(seen.utility + 0.6 * seen.privacy)
        assert math.isfinite(start.cost)
    assert found.best_start == min(found.starts, key=lambda start: start.cost).number
    masks.load(config.mask, geometry.grid, found.mask)
