"""Jobs that stand in for the training of a mask, for the fixture ``install_job``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from codesign.records import TrainMaskSummary
from tests.optishield.summaries import train_summary


def train(config: Any, run: Any, *, resume: bool, progress: Any, device: Any) -> TrainMaskSummary:
    """A job of two stages that obeys the rules of the real one."""
    done = []
    for name in ("scenes", "train"):
        if run.stage_done(name) is None:
            with progress.stage(name, 2) as stage:
                for step in range(2):
                    run.log_metrics({"stage": name, "step": step})
                    stage.advance()
            run.mark_stage(name)
            done.append(name)
    return train_summary(seed=config.seed, nme=math.nan, config={"done": done, "resume": resume})


def raising(error: BaseException) -> Callable[..., dict[str, Any]]:
    """A job that ends with this error."""

    def job(*args: Any, **kwargs: Any) -> dict[str, Any]:
        raise error

    return job
