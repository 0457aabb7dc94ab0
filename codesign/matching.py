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
from codesign.data import PARTS, Part, restore
from codesign.decoders import Decoder, augmented, relative_signal, release, train_decoder
from codesign.files import MASK, load_tensors
from ground.pool import derived_seed
from sim.camera import EncoderCamera

STEEPEST, FLATTEST = 3.0, 0.1
LONGEST_STEP = math.log(6.0)


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

    def finish(self, spec: CameraSpec, decoder: Decoder, error: float) -> dict[str, Any]:
        """Everything later stages need of a finished camera."""
        camera = self.camera(spec)
        released: dict[str, Tensor] = {}
        signals: dict[str, Tensor] = {}
        for name in PARTS:
            part = self.parts[name]
            signals[name] = relative_signal(camera, part.faces)
            seen = release(decoder, camera, signals[name], derived_seed(self.config.seed, "release", name))
            released |= {f"landmarks.{name}": seen.landmarks.cpu(), f"confidence.{name}": seen.confidence.cpu()}
            if name == "test":
                test_error = seen.error(part, self.config.landmarks)
        return {
            "spec": spec.to_json(),
            "validation_nme": error,
            "nme": test_error,
            "decoder": {key: value.cpu() for key, value in decoder.state_dict().items()},
            "released": released,
            "signals": {name: signal.cpu() for name, signal in signals.items()},
        }


def _bench(folder: Path, config: TrainMaskConfig, masked: bool, device: torch.device) -> _Bench:
    parts = {name: restore(folder, name) for name in PARTS}
    return _Bench(config, parts, load_tensors(folder / MASK) if masked else None, device)


def fixed_camera(
    folder: Path, config: TrainMaskConfig, spec: Mapping[str, Any], device: torch.device = CPU
) -> dict[str, Any]:
    """Job: the decoder of a camera with nothing to tune.

    Args:
        folder: Run folder.
        config: Configuration of the run.
        spec: The camera.
        device: Where it is computed.

    Returns:
        ``spec``, ``validation_nme``, ``nme`` (test), and tensors ``decoder``, ``released``, ``signals``.
    """
    camera = CameraSpec.from_json(spec)
    bench = _bench(folder, config, camera.kind == "mask", device)
    return bench.finish(camera, *bench.train(camera))


@dataclass(frozen=True)
class _Trial:
    family: Baseline
    severity: float
    decoder: Decoder
    error: float


def matched_camera(
    folder: Path, config: TrainMaskConfig, name: str, target: float, device: torch.device = CPU
) -> dict[str, Any]:
    """Job: bring a baseline to our landmark error on the validation people, with the decoder schedule of all cameras.

    The trial that comes closest is kept, among those that do not see better than ours by more than the tolerance: a
    baseline with better landmarks would be held to a harder task than ours.

    Args:
        folder: Run folder.
        config: Configuration of the run.
        name: Name of the baseline.
        target: Our landmark error on the validation people.
        device: Where it is computed.

    Returns:
        As :func:`fixed_camera`, with ``parameter``, ``value``, ``mismatch`` (baseline's validation error minus ours),
        ``rounds`` (value, error and pixels of each trial) and ``ablation``.
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
    extra = {
        "parameter": best.family.parameter,
        "value": value,
        "mismatch": best.error - target,
        "rounds": [
            {
                "value": trial.family.parameter_at(trial.severity),
                "nme": trial.error,
                "pixels": trial.family.spec.exposure.pixels,
            }
            for trial in trials
        ],
        "ablation": best.family.ablation,
    }
    return bench.finish(best.family.at(value), best.decoder, best.error) | extra


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
