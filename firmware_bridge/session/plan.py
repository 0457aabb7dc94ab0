"""Plan files: what a session captures, in which order, checked against the bench before anything moves.

``plan.toml``::

    name = "first light"
    bits = 12

    [sentinel]                 # one frame again and again, to see that the bench still is what it was
    every = 50
    pattern = "checker"
    exposure_s = 0.01
    light_share = 0.2
    flux_tolerance = 0.03

    [[steps]]
    name = "psf"
    pattern = "patterns/psf.npy"   # beside the plan: (H, W), or (N, H, W) for N patterns one after another
    exposure_s = 0.02
    light_share = 0.3
    averages = 16
    darks = 4                      # without light, before the first pattern of the step

A step names pattern, light and position if, and only if, the bench has a mask, a light and a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import CameraSettings, Levels, MaskCapabilities, Pattern
from firmware_bridge.session.bench import Bench
from firmware_bridge.session.files import load_array, read_model

SENTINEL = "sentinel"
"""Name under which the sentinel stands among the steps."""

NAMED_PATTERNS = ("zero", "half", "full", "checker", "ramp-x", "ramp-y")
"""Patterns without a file: constant levels, squares of 8 pixels, and ramps from 0 to the largest level."""

_SQUARE = 8

MOST_FRAMES = 1_000_000
"""A session holds no more: the number of a frame has six digits."""


class Role(StrEnum):
    """What a frame is for."""

    light = "light"
    """The pattern of a step, with light."""
    dark = "dark"
    """The same without light."""
    sentinel = "sentinel"
    """The pattern of the sentinel."""
    sentinel_dark = "sentinel-dark"
    """The same without light, once in a session."""


class Exposed(BaseModel):
    """What steps and sentinel share.

    Attributes:
        pattern: One of ``NAMED_PATTERNS``, or a file whose name ends in .npy; None without a mask.
        exposure_s: Exposure time.
        light_share: Power as a share of the largest; None without a light.
        position_m: Position of the stage; None without a stage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pattern: str | None = None
    exposure_s: float = Field(gt=0)
    light_share: float | None = Field(default=None, ge=0, le=1)
    position_m: float | None = None


class Step(Exposed):
    """One step of a plan.

    Attributes:
        name: Name by which frames are found later.
        averages: Number of frames of each pattern.
        darks: Number of frames without light before the first pattern.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    averages: int = Field(default=1, ge=1, le=MOST_FRAMES)
    darks: int = Field(default=0, ge=0, le=MOST_FRAMES)


class Sentinel(Exposed):
    """One frame that is taken at the start, at the end, and again and again between.

    Attributes:
        every: Number of frames of steps between two sentinels.
        flux_tolerance: Largest change of its mean level above dark, as a share of that of the first.
    """

    every: int = Field(ge=1)
    flux_tolerance: float = Field(gt=0, lt=1)


class Plan(BaseModel):
    """A plan; see the head of this file.

    Attributes:
        name: Name of the plan.
        bits, gain_db, roi: Depth, gain and region of the camera; see :class:`CameraSettings`.
        sentinel: The frame that is taken again and again; None where there is none.
        steps: The steps in their order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    bits: int = Field(default=8, ge=1, le=16)
    gain_db: float = 0.0
    roi: tuple[int, int, int, int] | None = None
    sentinel: Sentinel | None = None
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [step.name for step in self.steps]
        twice = sorted({name for name in names if names.count(name) > 1 or name == SENTINEL})
        if twice:
            raise ValueError(f"each step needs a name of its own, and not {SENTINEL!r}: {', '.join(twice)}")
        return self

    @property
    def exposed(self) -> dict[str, Exposed]:
        """Steps by name, and the sentinel where there is one."""
        sentinel: dict[str, Exposed] = {SENTINEL: self.sentinel} if self.sentinel else {}
        return sentinel | {step.name: step for step in self.steps}

    def settings(self, exposed: Exposed) -> CameraSettings:
        """What the camera is set to for it."""
        return CameraSettings(exposed.exposure_s, self.gain_db, self.bits, self.roi)


@dataclass(frozen=True)
class Shot:
    """One frame to be taken.

    Attributes:
        index: Its place in the order.
        key: Name that no other frame of the session has, and the same whenever the plan is the same.
        step: Name of the step, or ``SENTINEL``.
        role: What the frame is for.
        repeat: Number among frames of the same role and pattern.
        pattern_id: What the mask must show, None without a mask.
        settings: What the camera must be set to.
        light_share: Power as a share of the largest; None without a light.
        position_m: Position of the stage; None without a stage.
    """

    index: int
    key: str
    step: str
    role: Role
    repeat: int
    pattern_id: int | None
    settings: CameraSettings
    light_share: float | None
    position_m: float | None


def read_plan(path: Path) -> Plan:
    """Read a plan file, TOML or JSON.

    Raises:
        SessionError: It is not as it must be; names every wrong place.
    """
    return read_model(path, Plan)


def named_pattern(name: str, mask: MaskCapabilities) -> Levels:
    """One of ``NAMED_PATTERNS``.

    Returns:
        (height, width) uint8, or uint16 for more than 8 bits.
    """
    top, shape = (1 << mask.bits) - 1, (mask.height, mask.width)
    y, x = np.indices(shape)
    levels = {
        "zero": lambda: np.zeros(shape, np.int64),
        "half": lambda: np.full(shape, (top + 1) // 2),
        "full": lambda: np.full(shape, top),
        "checker": lambda: (x // _SQUARE + y // _SQUARE) % 2 * top,
        "ramp-x": lambda: x * top // max(mask.width - 1, 1),
        "ramp-y": lambda: y * top // max(mask.height - 1, 1),
    }[name]()
    return levels.astype(np.uint8) if mask.bits <= 8 else levels.astype(np.uint16)


def patterns(exposed: Exposed, folder: Path, mask: MaskCapabilities | None) -> Iterator[Pattern]:
    """The patterns of a step, one at a time, each fit for the mask.

    Args:
        exposed: A step, or the sentinel.
        folder: Folder of its files.
        mask: What the mask can show.

    Raises:
        SessionError: It cannot show them.
    """
    if mask is None or exposed.pattern is None:
        return
    if exposed.pattern in NAMED_PATTERNS:
        yield Pattern(named_pattern(exposed.pattern, mask))
        return
    if not exposed.pattern.endswith(".npy"):
        raise SessionError(
            f"there is no pattern {exposed.pattern!r}; name a .npy file or one of: {', '.join(NAMED_PATTERNS)}."
        )
    stack = load_array(folder / exposed.pattern, f"pattern {exposed.pattern}", mapped=True)
    wanted = np.dtype(np.uint8 if mask.bits <= 8 else np.uint16)
    if stack.ndim not in (2, 3) or stack.shape[-2:] != (mask.height, mask.width) or stack.dtype != wanted:
        raise SessionError(
            f"pattern {exposed.pattern} has {stack.shape} values of {stack.dtype}, the mask shows ({mask.height}, "
            f"{mask.width}) or a stack of these in {wanted}; scale it to the mask."
        )
    for levels in stack if stack.ndim == 3 else [stack]:
        if int(levels.max()) >> mask.bits:
            raise SessionError(
                f"pattern {exposed.pattern} has the level {int(levels.max())}, the mask shows up to "
                f"{(1 << mask.bits) - 1}; scale it to the mask."
            )
        yield Pattern(np.array(levels))


def check_plan(plan: Plan, bench: Bench, folder: Path) -> dict[str, list[int]]:
    """Check a plan against what the devices can and what the bench allows; nothing moves.

    Args:
        plan: The plan.
        bench: Open devices.
        folder: Folder of the files of patterns, usually that of the plan.

    Returns:
        Ids of the patterns of each step, and of the sentinel.

    Raises:
        SessionError: Something is impossible; names each step, the number and what is possible.
    """
    mask = bench.mask.capabilities() if bench.mask else None
    ids: dict[str, list[int]] = {}
    wrong: list[str] = _camera_faults(plan, bench)
    for name, exposed in plan.exposed.items():
        faults = _faults(exposed, bench)
        try:
            ids[name] = [pattern.pattern_id for pattern in patterns(exposed, folder, mask)]
            if name == SENTINEL and len(ids[name]) > 1:
                faults.append(f"a sentinel has one pattern, {exposed.pattern} holds {len(ids[name])}")
            elif mask and exposed.pattern and not ids[name]:
                faults.append(f"{exposed.pattern} holds no pattern")
        except SessionError as error:
            faults.append(str(error).rstrip("."))
        wrong += [f"step {name!r}: {fault}" for fault in faults]
    frames = sum(step.darks + step.averages * max(1, len(ids.get(step.name, ()))) for step in plan.steps)
    if frames > MOST_FRAMES:
        wrong.append(f"its steps take {frames} frames, and a session holds {MOST_FRAMES}; divide the plan")
    if wrong:
        raise SessionError(f"{plan.name} cannot be carried out on {bench.file.name}: {'; '.join(wrong)}.")
    return ids


def _camera_faults(plan: Plan, bench: Bench) -> list[str]:
    can, wrong = bench.camera.capabilities(), []
    if plan.bits not in can.bits:
        wrong.append(f"bits = {plan.bits}, the camera offers {', '.join(map(str, can.bits))}")
    if not can.gain_db[0] <= plan.gain_db <= can.gain_db[1]:
        wrong.append(f"gain_db = {plan.gain_db:g}, the camera offers {can.gain_db[0]:g} to {can.gain_db[1]:g}")
    if plan.roi:
        left, top, width, height = plan.roi
        inside = left >= 0 and top >= 0 and left + width <= can.width and top + height <= can.height
        if not inside or width < 1 or height < 1:
            wrong.append(f"roi = {list(plan.roi)} does not lie on the sensor of {can.width} x {can.height} pixels")
    return wrong


def _faults(exposed: Exposed, bench: Bench) -> list[str]:
    limits, can, wrong = bench.file.limits, bench.camera.capabilities(), []
    low_s, high_s = can.exposure_s[0], min(can.exposure_s[1], limits.exposure_s)
    if not low_s <= exposed.exposure_s <= high_s:
        wrong.append(f"exposure_s = {exposed.exposure_s:g}, camera and bench allow {low_s:g} to {high_s:g}")
    for device, name in ((bench.mask, "pattern"), (bench.light, "light_share"), (bench.stage, "position_m")):
        if device is None and getattr(exposed, name) is not None:
            wrong.append(f"{name} is given, and the bench has nothing that could follow it; leave it out")
        elif device is not None and getattr(exposed, name) is None:
            wrong.append(f"{name} is missing; the bench does not guess it")
    if bench.light is None and isinstance(exposed, Step) and exposed.darks:
        wrong.append(f"darks = {exposed.darks}, and the bench has no light that it could turn off")
    if exposed.light_share is not None and exposed.light_share > limits.light_share:
        wrong.append(f"light_share = {exposed.light_share:g}, the bench allows up to {limits.light_share:g}")
    if bench.stage and exposed.position_m is not None:
        low_m, high_m = bench.stage.capabilities().limits_m
        if not low_m <= exposed.position_m <= high_m:
            wrong.append(f"position_m = {exposed.position_m:g}, the stage goes from {low_m:g} to {high_m:g}")
    return wrong


def shots(plan: Plan, pattern_ids: Mapping[str, list[int]]) -> tuple[Shot, ...]:
    """The frames of a plan in their order.

    Args:
        plan: The plan.
        pattern_ids: Ids of patterns by step, as :func:`check_plan` returned them.
    """
    found: list[Shot] = []

    def add(step: str, exposed: Exposed, role: Role, repeat: int, pattern_id: int | None) -> None:
        dark = role in (Role.dark, Role.sentinel_dark)
        index = len(found)
        found.append(
            Shot(
                index=index,
                key=f"{index:06d}-{step}-{role}-{repeat}",
                step=step,
                role=role,
                repeat=repeat,
                pattern_id=pattern_id,
                settings=plan.settings(exposed),
                light_share=0.0 if dark else exposed.light_share,
                position_m=exposed.position_m,
            )
        )

    def watch(role: Role) -> None:
        if plan.sentinel:
            add(SENTINEL, plan.sentinel, role, 0, next(iter(pattern_ids[SENTINEL]), None))

    if plan.sentinel and plan.sentinel.light_share is not None:
        watch(Role.sentinel_dark)
    watch(Role.sentinel)
    since = 0
    for step in plan.steps:
        ids: list[int | None] = [*pattern_ids[step.name]] or [None]
        frames = [(Role.dark, ids[0], repeat) for repeat in range(step.darks)]
        frames += [(Role.light, one, repeat) for one in ids for repeat in range(step.averages)]
        for role, pattern_id, repeat in frames:
            if plan.sentinel and since == plan.sentinel.every:
                watch(Role.sentinel)
                since = 0
            add(step.name, step, role, repeat, pattern_id)
            since += 1
    watch(Role.sentinel)
    return tuple(found)
