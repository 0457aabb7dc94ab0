"""The design of the camera of pairs, step by step: anchor, followers, reliefs, trim. Each step is kept when it is done.

A descent leaves a checkpoint every ``training.checkpoint_every`` steps, every relief is kept as soon as it is found; a
run that was stopped goes on from there and ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.winners.camera import (
    array_of,
    build_winners,
    pixels_of,
    readout_of,
    readout_state,
    strongest_drives,
)
from codesign.winners.descent import Descent
from codesign.winners.kernels import (
    Bank,
    Task,
    anchor_bank,
    anchor_descent,
    anchor_task,
    follower_bank,
    follower_descent,
    follower_task,
    held_out,
    signed_kernels,
)
from codesign.winners.masks import first_controls, masks_of, realise, tile_patterns
from codesign.winners.parts import Pixels, as_pixels
from codesign.winners.trim import Lit, lit, trim
from faces.samples import FaceSet, interocular
from ground.pool import derived_seed, run_jobs
from ground.protocols import Progress, RunStore
from sim.winners import FixedTiles, MaskTiles, WinnerCamera

#: Captures whose light is kept for trimming a read-out.
TRIM_CAPTURES = 3000
#: Share of faces on validation people whose anchor may fall below the level of presence.
MISSED = 0.01


@dataclass(frozen=True)
class Faces:
    """Who the camera is designed with, and who decides nothing but whether it works.

    Attributes:
        train: Training people.
        validation: Other people.
    """

    train: FaceSet
    validation: FaceSet


class WinnersDesigner:
    """Designs the camera in a run folder.

    Args:
        config: Configuration of the run.
        faces: People.
        run: Folder for checkpoints, stages ``winners-...`` and metrics.
        progress: Display.
    """

    def __init__(self, config: TrainMaskConfig, faces: Faces, run: RunStore, progress: Progress) -> None:
        self.config, self.settings, self.faces = config, config.winners, faces
        self.run, self.progress = run, progress
        self.geometry = geometry_of(config.optics)
        self.pixels = pixels_of(config.winners)
        self.seed = derived_seed(config.seed, "winners") % 2**31

    def design(self) -> dict[str, Tensor]:
        """All steps; returns the state that :func:`codesign.winners.camera.build_winners` takes.

        Raises:
            CodesignError: If a loss is no longer finite.
            OpticsError: If a relief cannot be made or sampled.
        """
        scenes: list[Pixels] = []

        def training() -> Pixels:
            if not scenes:
                scenes.append(self._scenes(self.faces.train, self.settings.copies))
            return scenes[0]

        settings, seed = self.settings, self.seed
        task = anchor_task(*self._grey(training()), settings)
        anchor = self._trained("anchor", task, lambda: anchor_bank(task, training().landmarks, settings, seed))
        rest = follower_task(*self._grey(training()), settings)
        followers = self._trained("followers", rest, lambda: follower_bank(rest, settings, seed + 1))
        windows = (*task.windows, *rest.windows)
        state = readout_state([anchor, followers], windows)
        kernels = [*signed_kernels(anchor), *signed_kernels(followers)]
        for number, kernel in enumerate(kernels):
            state[f"kernels.{number}"] = kernel.contiguous()
        state["controls"] = self._reliefs(kernels)
        return self._trimmed(state)

    def _scenes(self, faces: FaceSet, copies: int) -> Pixels:
        return as_pixels(faces, self.settings.pixels, copies=copies, seed=self.seed)

    def _grey(self, scenes: Pixels) -> tuple[Tensor, Tensor]:
        return scenes.grey(self.settings.filter_weights), scenes.landmarks

    def _trained(self, name: str, task: Task, make: Callable[[], Bank]) -> Bank:
        """A bank of channels, trained now or earlier."""
        bank = make()
        kinds = {"anchor": anchor_descent, "followers": follower_descent}
        descent = kinds[name](bank, task, self.settings, self.pixels, self.seed + 2)
        self.descend(f"winners-{name}", f"kernels, {name}", descent)
        if self.run.stage_done(f"winners-{name}-held-out") is None:
            scenes = self._scenes(self.faces.validation, 0)
            fresh = anchor_task if name == "anchor" else follower_task
            own = fresh(*self._grey(scenes), self.settings)
            # The windows are those of training.
            own = Task(own.scenes, own.wanted, task.windows, own.radius, own.anchors)
            entropy, distance = held_out(bank, own, self.pixels, self.seed + 3)
            eyes = float(interocular(scenes.landmarks).mean())
            result = {"entropy": entropy, "error": [float(value) / eyes for value in distance]}
            self.run.mark_stage(f"winners-{name}-held-out", result)
        return bank

    def descend(self, stage: str, label: str, descent: Descent) -> None:
        """Step a descent to its end, with checkpoints, or read its end."""
        done = self.run.stage_done(stage)
        if done is not None:
            descent.load(self.run.read_tensors(_checkpoint(stage, done["steps"])))
        if descent.done >= descent.steps:
            return
        every = self.config.training.checkpoint_every
        with self.progress.stage(label, descent.steps) as shown:
            shown.advance(descent.done)
            mean, kept = 0.0, descent.done
            while descent.done < descent.steps:
                loss = descent.step()
                mean = loss if descent.done == 1 else 0.95 * mean + 0.05 * loss
                shown.advance()
                if descent.done % 20 == 0:
                    self.run.log_metrics({"stage": stage, "step": descent.done, "loss": loss})
                    shown.note(f"loss {mean:.2f}")
                if descent.done % (20 * every) == 0 or descent.done == descent.steps:
                    # A file of its own: the mark holds the hash of the one before until it is written anew.
                    self.run.write_tensors(_checkpoint(stage, descent.done), descent.state())
                    self.run.mark_stage(stage, {"steps": descent.done})
                    (self.run.path / _checkpoint(stage, kept)).unlink(missing_ok=True)
                    kept = descent.done

    def _reliefs(self, kernels: list[Tensor]) -> Tensor:
        """Controls (T, cells, cells) of all tiles."""
        wanted = tile_patterns(kernels, self.geometry, self.settings.pixels)
        left = [tile for tile in range(len(wanted)) if self.run.stage_done(f"winners-tile-{tile}") is None]
        with self.progress.stage("reliefs of the tiles", len(wanted)) as shown:
            shown.advance(len(wanted) - len(left))
            if left:
                controls = first_controls(self.config, self.geometry, kernels)
                jobs = [(self.config, self.geometry, wanted[tile], controls[tile]) for tile in left]
                for index, relief, _ in run_jobs(realise, jobs, self.config.workers):
                    tile = left[index]
                    self.run.write_tensors(f"design/tile-{tile}.safetensors", {"controls": relief.controls})
                    figures = {"residual": relief.residual, "light": relief.light, "height_m": relief.height_m}
                    self.run.mark_stage(f"winners-tile-{tile}", figures)
                    shown.note(f"residual {relief.residual:.2f}")
                    shown.advance()
        found = [self.run.read_tensors(f"design/tile-{tile}.safetensors")["controls"] for tile in range(len(wanted))]
        return torch.stack(found)

    def _trimmed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state with a read-out that was trained behind the realised masks, and a level of presence."""
        settings = self.settings
        with torch.no_grad():
            made = MaskTiles(
                masks_of(self.config, self.geometry, state), self.geometry, settings.pixels, settings.filter_weights
            )
            psfs = made.psfs()
        tiles = FixedTiles(psfs, self.geometry, settings.pixels, settings.filter_weights, array_of(settings))
        readout = readout_of(state)
        descent = trim(
            readout, self.light(tiles), settings.followers, self.pixels, settings.batch, settings.trim_steps,
            self.seed + 4,
        )  # fmt: skip
        self.descend("winners-trim", "read-out behind the masks", descent)
        state = {**state, **{name: value.detach().clone() for name, value in readout.state_dict().items()}}
        return {**state, "level": self._level(build_winners(self.config, state, chip=self.seed, psfs=psfs))}

    def _level(self, camera: WinnerCamera) -> Tensor:
        """The drive of the anchor that all but a few faces of the validation people reach; notes what else does."""
        faces = strongest_drives(camera, self.faces.validation, self.seed + 6)
        level = faces.quantile(MISSED)
        others = strongest_drives(camera, self.faces.validation, self.seed + 6, scrambled=True)
        found = {"missed": MISSED, "false_alarms": float((others > level).float().mean())}
        self.run.mark_stage("winners-presence", found)
        return level

    def light(self, tiles: FixedTiles) -> Lit:
        """Light of training scenes behind given optics."""
        return lit(tiles, self.faces.train, TRIM_CAPTURES, self.seed + 5)


def _checkpoint(stage: str, steps: int) -> str:
    return f"design/{stage}-{steps}.safetensors"
