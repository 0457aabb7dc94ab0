"""A descent that is killed between its checkpoint and the mark of it goes on from the checkpoint before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codesign.config import TrainMaskConfig
from codesign.winners.descent import Descent
from codesign.winners.design import Faces, WinnersDesigner
from faces.synthetic import generate
from optishield.progress import QuietProgress
from optishield.run.folder import RunFolder

CONFIG = TrainMaskConfig.for_budget("smoke")
CONFIG = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"checkpoint_every": 1})})


class KilledError(Exception):
    """The process is gone."""


class Dying(RunFolder):
    """A run folder whose process is killed before it marks a stage a second time."""

    marks = 0

    def mark_stage(self, name: str, result: Mapping[str, Any] | None = None) -> None:
        self.marks += 1
        if self.marks == 2:
            raise KilledError
        super().mark_stage(name, result)


def _descent() -> Descent:
    value = nn.Parameter(torch.ones(3))

    def loss(generator: torch.Generator) -> torch.Tensor:
        return (value - torch.randn(3, generator=generator)).square().sum()

    return Descent([({"value": value}, 0.1)], loss, 60, 0)


def _descend(run: RunFolder) -> Descent:
    heads = generate(1, 1, size=32, seed=0)
    descent = _descent()
    WinnersDesigner(CONFIG, Faces(heads, heads), run, QuietProgress()).descend("winners-toy", "toy", descent)
    return descent


def test_a_kill_between_checkpoint_and_mark_costs_no_bit(tmp_path: Path) -> None:
    out = tmp_path / "run"
    RunFolder.create(verb="train-mask", slug="toy", config=CONFIG, command=[], seeds={}, out=out).close()
    dying = Dying(out)
    with pytest.raises(KilledError):
        _descend(dying)
    dying.close()
    run = RunFolder(out)
    found, whole = _descend(run), _descent()
    run.close()
    while whole.done < whole.steps:
        whole.step()
    assert torch.equal(found.parameters["value"], whole.parameters["value"])
    assert [path.name for path in (out / "design").iterdir()] == ["winners-toy-60.safetensors"]
