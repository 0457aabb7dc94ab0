"""Cameras at equal landmark error: decoders of all cameras, and the search for the parameter of a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign.cameras import CPU, Baseline, CameraSpec, baselines, build
from codesign.config import TrainMaskConfig
from codesign.data import ATTACKERS, PARTS, Part, restore
from codesign.decoders import Decoder, augmented, relative_signal, release, train_decoder
from codesign.files import MASK, load_tensors
from codesign.records import Round
from ground.pool import derived_seed
from sim.camera import EncoderCamera

STEEPEST, FLATTEST = 3.0, 0.1
LONGEST_STEP = math.log(6.0)


@dataclass(frozen=True)
class Matching:
    """How a baseline was brought to our landmark error.

    Attributes:
        parameter: What was searched for.
        value: Its value.
        mismatch: Baseline's validation error minus ours.
        rounds: Every trial.
        ablation: Which part of our camera the baseline lacks, "" for a camera of its own.
    """

    parameter: str
    value: float
    mismatch: float
    rounds: tuple[Round, ...]
    ablation: str


@dataclass(frozen=True, eq=False)
class FinishedCamera:
    """A camera with its decoder: all that later stages need of it.

    Attributes:
        spec: The camera.
        validation_nme: Landmark error on the validation people.
        nme: Landmark error on the test people.
        decoder: State of its decoder.
        released: Landmarks and confidences of each part, ``landmarks.<part>`` and ``confidence.<part>``.
        signals: Light on the sensor of each part.
        matching: How it was found, None where there was nothing to tune.
    """

    spec: CameraSpec
    validation_nme: float
    nme: float
    decoder: Mapping[str, Tensor]
    released: Mapping[str, Tensor]
    signals: Mapping[str, Tensor]
    matching: Matching | None = None

    def to_json(self) -> dict[str, Any]:
        """Its figures, without tensors, for the marker of its stage."""
        found = {"spec": self.spec.to_json(), "validation_nme": self.validation_nme, "nme": self.nme}
        if self.matching is None:
            return found
        return found | vars(self.matching) | {"rounds": [one.model_dump() for one in self.matching.rounds]}


@dataclass
class _Bench:
    """One camera's signals; cameras that differ in light alone share them."""

    config: TrainMaskConfig
    parts: Mapping[str, Part]
    mask: Mapping[str, Tensor] | None
    device: torch.device

    def __post_init__(self) -> None:
        self._key: tuple[object, ...] | None = None

    def camera(self, spec: CameraSpec) -> EncoderCamera:
        """Build the camera and make sure that its signals are at hand."""
        camera = build(spec, self.config, self.mask, self.device)
        key = (spec.kind, spec.value, spec.exposure.pixels, spec.exposure.colour)
        if key != self._key:
            seed = derived_seed(self.config.seed, "augmentation")
            self._signals, self._landmarks = augmented(camera, self.parts["train"].faces, seed)
            self._validation = relative_signal(camera, self.parts["validation"].faces)
            self._key = key
        return camera

    def train(self, spec: CameraSpec) -> tuple[Decoder, float]:
        """A decoder and its validation error."""
        camera = self.camera(spec)
        seed = derived_seed(self.config.seed, "decoder")
        decoder = train_decoder(
            camera,
            self._signals,
            self._landmarks,
            self.config.decoder,
            self.config.landmarks,
            seed=seed,
            steps=self.config.decoder.steps,
        )
        seen = release(decoder, camera, self._validation, derived_seed(self.config.seed, "validation"))
        return decoder, seen.error(self.parts["validation"], self.config.landmarks)

    def finish(
        self, spec: CameraSpec, decoder: Decoder, error: float, matching: Matching | None = None
    ) -> FinishedCamera:
        """Everything later stages need of a finished camera."""
        camera = self.camera(spec)
        released: dict[str, Tensor] = {}
        signals: dict[str, Tensor] = {}
        for name in self.parts:
            part = self.parts[name]
            if name == ATTACKERS and spec.name == "clean":
                continue  # the clean camera recognises everybody as it is
            signals[name] = relative_signal(camera, part.faces)
            seen = release(decoder, camera, signals[name], derived_seed(self.config.seed, "release", name))
            released |= {f"landmarks.{name}": seen.landmarks.cpu(), f"confidence.{name}": seen.confidence.cpu()}
            if name == "test":
                test_error = seen.error(part, self.config.landmarks)
        return FinishedCamera(
            spec=spec,
            validation_nme=error,
            nme=test_error,
            decoder={key: value.cpu() for key, value in decoder.state_dict().items()},
            released=released,
            signals={name: signal.cpu() for name, signal in signals.items()},
            matching=matching,
        )


def _bench(folder: Path, config: TrainMaskConfig, masked: bool, device: torch.device) -> _Bench:
    parts = {name: restore(folder, name) for name in PARTS}
    return _Bench(config, parts, load_tensors(folder / MASK) if masked else None, device)


def fixed_camera(folder: Path, config: TrainMaskConfig, spec: CameraSpec, device: torch.device = CPU) -> FinishedCamera:
    """Job: the decoder of a camera with nothing to tune.

    Args:
        folder: Run folder.
        config: Configuration of the run.
        spec: The camera.
        device: Where it is computed.
    """
    bench = _bench(folder, config, spec.kind == "mask", device)
    return bench.finish(spec, *bench.train(spec))


@dataclass(frozen=True)
class _Trial:
    family: Baseline
    severity: float
    decoder: Decoder
    error: float


def matched_camera(
    folder: Path, config: TrainMaskConfig, name: str, target: float, device: torch.device = CPU
) -> FinishedCamera:
    """Job: bring a baseline to our landmark error on the validation people, with the decoder schedule of all cameras.

    The trial that comes closest is kept, among those that do not see better than ours by more than the tolerance: a
    baseline with better landmarks would be held to a harder task than ours.

    Args:
        folder: Run folder.
        config: Configuration of the run.
        name: Name of the baseline.
        target: Our landmark error on the validation people.
        device: Where it is computed.
    """
    family = next(item for item in baselines(config) if item.spec.name == name)
    bench, tolerance = _bench(folder, config, False, device), config.proof.nme_tolerance
    trials: list[_Trial] = []

    def measure(severity: float) -> float:
        decoder, error = bench.train(family.at(family.parameter_at(severity)))
        trials.append(_Trial(family, severity, decoder, error))
        return error

    severity = family.severity(family.value)
    while family.finer:
        severity = family.limits[0]
        if measure(severity) <= target:
            break
        family = family.with_pixels(family.finer[0])
    for _ in range(config.proof.match_rounds):
        points = [(trial.severity, math.log(trial.error)) for trial in trials if trial.family == family]
        if points:
            severity = next_severity(family, points, math.log(target))
        if any(abs(severity - point[0]) < 1e-6 for point in points):
            break  # at the end of the range
        if abs(measure(severity) - target) <= tolerance:
            break
    fair = [trial for trial in trials if trial.error >= target - tolerance] or trials
    best = min(fair, key=lambda trial: abs(trial.error - target))
    value = best.family.parameter_at(best.severity)
    matching = Matching(
        parameter=best.family.parameter,
        value=value,
        mismatch=best.error - target,
        rounds=tuple(
            Round(
                value=trial.family.parameter_at(trial.severity),
                nme=trial.error,
                pixels=trial.family.spec.exposure.pixels,
            )
            for trial in trials
        ),
        ablation=best.family.ablation,
    )
    return bench.finish(best.family.at(value), best.decoder, best.error, matching)


def slope(points: list[tuple[float, float]]) -> float:
    """d log(error) / d severity from the two points whose errors differ most, kept within reason."""
    low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
    if abs(high[0] - low[0]) < 1e-9:
        return 0.5
    return min(max((high[1] - low[1]) / (high[0] - low[0]), FLATTEST), STEEPEST)


def next_severity(family: Baseline, points: list[tuple[float, float]], target: float) -> float:
    """Where the error should meet the target: between the points that bracket it, else along the slope.

    Args:
        family: The baseline.
        points: (severity, log error) of each trial so far.
        target: Logarithm of the error wanted.
    """
    low, high = family.limits
    below = [p for p in points if p[1] <= target]
    above = [p for p in points if p[1] > target]
    if below and above:
        a, b = max(below), min(above)
        if b[0] > a[0]:
            return a[0] + (b[0] - a[0]) * (target - a[1]) / (b[1] - a[1])
    near = min(points, key=lambda p: abs(p[1] - target))
    step = (target - near[1]) / slope(points)
    return min(max(near[0] + min(max(step, -LONGEST_STEP), LONGEST_STEP), low), high)
