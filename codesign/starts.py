"""The choice among random starts: each is co-trained, validation people decide, and what fails is left out.

With ``training.screening_steps`` every start is trained so far, and only the best quarter of them to the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from codesign import masks
from codesign.config import TrainingConfig, TrainMaskConfig
from codesign.cotrain import Trainer, part_of
from codesign.errors import CodesignError
from evaluation.errors import EvaluationError
from faces.samples import FaceSet
from ground.protocols import Progress, RunStore, StageProgress
from optics import OpticsError
from sim.camera import Exposure, Geometry, MaskPsf

#: Share of the starts that goes on after screening; at least one does.
GOES_ON = 0.25
#: How often what moves the mask is looked at, in steps.
WATCHED_EVERY = 20


@dataclass(frozen=True)
class Start:
    """One random start.

    Attributes:
        number: Counted from 0.
        steps: Steps of training that it got.
        validation_nme: Landmark error on the validation people.
        utility: Loss of landmarks on the validation people.
        privacy: Skill of the adversaries on the validation people; see :class:`codesign.cotrain.Validation`.
        cost: ``utility + privacy_weight * privacy``; the least one is chosen.
        dropped: Why it was left out, or "".
    """

    number: int
    steps: int
    validation_nme: float = math.nan
    utility: float = math.nan
    privacy: float = math.nan
    cost: float = math.nan
    dropped: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Design:
    """A designed mask.

    Attributes:
        mask: State of the mask of the best start.
        best_start: Its number.
        starts: All starts, also those that were left out.
    """

    mask: dict[str, Tensor]
    best_start: int
    starts: tuple[Start, ...]


@dataclass(frozen=True)
class Designer:
    """What all starts share.

    Attributes:
        config: Configuration of the run.
        geometry: Lens and window.
        exposure: Sensor.
        train: Training people.
        validation: Other people, who decide among the starts.
        run: Folder for checkpoints, stages ``design-<start>-<steps>`` and metrics; a run that was stopped goes on from
            its last checkpoint.
        seed: Seed for all random numbers drawn here.
        device: Where everything is computed.
    """

    config: TrainMaskConfig
    geometry: Geometry
    exposure: Exposure
    train: FaceSet
    validation: FaceSet
    run: RunStore
    seed: int
    device: torch.device

    @property
    def total(self) -> int:
        """Steps of a whole training."""
        return self.config.training.warmup_steps + self.config.training.steps

    def design(self, progress: Progress) -> Design:
        """Train all starts and choose one.

        Raises:
            CodesignError: If no start is left: each diverged, or found a mask too steep for the samples of the pupil;
                or if validation people cannot say anything about privacy.
        """
        if int(torch.unique(self.validation.identity, return_counts=True)[1].max()) < 2:
            raise CodesignError(
                "all validation people have a single capture, so nobody can be recognised again; co-design needs two "
                "of at least one of them."
            )
        settings = self.config.training
        first = _screened_at(settings)
        trained = [self._train(Start(number, 0), first, progress) for number in range(settings.starts)]
        if first < self.total:
            chosen = {start.number for start in best(trained, GOES_ON)}
            trained = [
                self._train(start, self.total, progress)
                if start.number in chosen
                else replace(start, dropped=start.dropped or f"not among the best after {start.steps} steps")
                for start in trained
            ]
        left = best(trained, 0.0)
        if not left:
            raise CodesignError(
                f"none of {len(trained)} starts gave a mask; start 0: {trained[0].dropped.rstrip('.')}. Change the "
                "settings named there, or ask for more training.starts."
            )
        state = self.run.read_tensors(_checkpoint(left[0].number, self.total))
        return Design(part_of(state, "mask"), left[0].number, tuple(trained))

    def _train(self, start: Start, until: int, progress: Progress) -> Start:
        """Bring one start to a step; a start that fails says why and stays where it is."""
        failed = self.run.stage_done(f"design-{start.number}-dropped")
        if failed is not None:
            return Start(start.number, failed["steps"], dropped=failed["reason"])
        settings = self.config.training
        ends = _checkpoints(settings, self.total)
        done = [step for step in ends if self.run.stage_done(f"design-{start.number}-{step}") is not None]
        at = max(done, default=0)
        label = f"design, start {start.number + 1} of {settings.starts}"
        with progress.stage(label, until - start.steps) as stage:
            stage.advance(max(0, min(at, until) - start.steps))
            if at < until:
                trainer = Trainer(
                    self.config, self.geometry, self.exposure, self.train, self.seed + 1000 * start.number, self.device
                )
                if at:
                    trainer.load(self.run.read_tensors(_checkpoint(start.number, at)))
                try:
                    self._go_on(start.number, trainer, at, [end for end in ends if at < end <= until], stage)
                except (CodesignError, EvaluationError) as error:
                    return self._dropped(start.number, at, str(error))
        return self._judged(start.number, until)

    def _go_on(self, number: int, trainer: Trainer, at: int, ends: Iterable[int], stage: StageProgress) -> None:
        """Train from one checkpoint to the next."""
        settings, logged = self.config.training, {"nme": math.nan}
        for end in ends:
            before = at
            while at < end:
                moved = at - settings.warmup_steps
                # One that starts anew just before the end would only sleep through it.
                renewed = moved > 0 and moved % settings.reset_every == 0
                if renewed and moved + settings.reset_every <= settings.steps:
                    trainer.renew(moved // settings.reset_every)
                at += 1
                watched = moved >= 0 and (at % WATCHED_EVERY == 0 or at == self.total)
                logged = trainer.step(move_mask=moved >= 0, gradients=watched)
                if at % 10 == 0 or at == self.total:
                    self.run.log_metrics({"stage": "design", "start": number, "step": at, **logged})
                    stage.note(f"NME {logged['nme']:.3f}")
                stage.advance()
            self.run.write_tensors(_checkpoint(number, end), trainer.state())
            self.run.mark_stage(f"design-{number}-{end}", asdict(trainer.validate(self.validation)))
            # Only now: a run that is killed before the mark goes on from the checkpoint before.
            (self.run.path / _checkpoint(number, before)).unlink(missing_ok=True)

    def _judged(self, number: int, step: int) -> Start:
        """The validation figures of a start at a checkpoint, and whether its mask can be sampled at the end."""
        found = self.run.stage_done(f"design-{number}-{step}") or {}
        if step == self.total:
            state = part_of(self.run.read_tensors(_checkpoint(number, step)), "mask")
            try:
                relief, _ = masks.split(self.config.sensor, state)
                MaskPsf(self.geometry, masks.load(self.config.mask, self.geometry.grid, relief)).check()
            except (CodesignError, OpticsError) as error:
                return self._dropped(number, step, str(error))
        cost = found["utility"] + self.config.training.privacy_weight * found["privacy"]
        return Start(number, step, found["nme"], found["utility"], found["privacy"], cost)

    def _dropped(self, number: int, step: int, reason: str) -> Start:
        self.run.mark_stage(f"design-{number}-dropped", {"steps": step, "reason": reason})
        return Start(number, step, dropped=reason)


def best(starts: Iterable[Start], share: float) -> list[Start]:
    """The starts of least cost among those that were not dropped: a share of them, at least one if there is one."""
    left = sorted((start for start in starts if not start.dropped), key=lambda start: (start.cost, start.number))
    return left[: max(1, math.ceil(share * len(left)))]


def _screened_at(settings: TrainingConfig) -> int:
    """The step at which starts are compared first; the last one where there is nothing to screen."""
    total = settings.warmup_steps + settings.steps
    if settings.starts == 1 or settings.screening_steps == 0:
        return total
    return min(total, settings.warmup_steps + settings.screening_steps)


def _checkpoints(settings: TrainingConfig, total: int) -> list[int]:
    """Steps after which the state is kept; the end of the warm-up says whether the adversaries are awake."""
    ends = {*range(settings.checkpoint_every, total, settings.checkpoint_every), _screened_at(settings), total}
    return sorted(ends | ({settings.warmup_steps} - {0}))


def _checkpoint(start: int, step: int) -> str:
    return f"design/start-{start}-{step}.safetensors"
