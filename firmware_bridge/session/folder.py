"""What a session folder holds, and how one begins.

``session.json``: plan, bench, devices, calibrations, written once. ``patterns/ID.npy``: every pattern.
``journal.jsonl``: see ``journal``. ``frames/NNNNNN.npy``: see ``frames``. ``manifest.json``: see ``seal``.

What would differ between a session that ran through and one that was interrupted and resumed stands in the journal
alone: times, counts of frames, temperatures, operators, gaps. Everything else is a function of plan, bench and light.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import CameraSettings, Identity, Origin
from firmware_bridge.session.bench import Bench, BenchFile
from firmware_bridge.session.files import (
    canonical_json,
    file_sha256,
    parse_model,
    sha256_hex,
    sync_folder,
    write_durably,
)
from firmware_bridge.session.journal import Entry, Journal, Line
from firmware_bridge.session.plan import Plan, Role, Shot, check_plan, patterns, shots
from firmware_bridge.session.setting import PATTERNS, configure, pattern_path
from ground.files import write_new

HEADER = "session.json"
JOURNAL = "journal.jsonl"
FRAMES = "frames"
MANIFEST = "manifest.json"


class Header(BaseModel):
    """What is fixed when a session begins.

    Attributes:
        format: Version of the folder's layout.
        plan: What is captured.
        bench: The file of the bench.
        origin: Origin that all devices share, or "mixed".
        devices: Identity of each device, by kind.
        calibrations: Ids of the calibrations in force, by what they calibrate.
        pattern_ids: Patterns of each step, and of the sentinel.
        patterns: SHA-256 of the file of each pattern, by its id in hexadecimal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    plan: Plan
    bench: BenchFile
    origin: str
    devices: dict[str, dict[str, str]]
    calibrations: dict[str, str]
    pattern_ids: dict[str, list[int]]
    patterns: dict[str, str]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """What is looked up in these settings is there, and no path that is made of them leads out of the folder."""
        if self.pattern_ids.keys() != self.plan.exposed.keys():
            raise ValueError("pattern_ids must name the steps of the plan, and its sentinel")
        ids = {f"{one:08x}" for known in self.pattern_ids.values() for one in known}
        if self.patterns.keys() != ids:
            raise ValueError("patterns must be named by the ids of pattern_ids, as eight hexadecimal digits")
        fields = Identity.__dataclass_fields__.keys()
        if self.devices.keys() != self.bench.entries.keys() or any(
            one.keys() != fields for one in self.devices.values()
        ):
            raise ValueError("devices must be those of the bench, each with its whole identity")
        return self

    def shots(self) -> tuple[Shot, ...]:
        """The frames of the session in their order."""
        return shots(self.plan, self.pattern_ids)


class FrameRecord(BaseModel):
    """One frame with what is needed to believe it.

    Attributes:
        index, key, step, role, repeat: Those of its :class:`Shot`.
        file: Path of its file in the folder, which follows from the index.
        sha256: Hash of the file.
        shape, dtype, bits: Shape (H, W), type and significant bits of its values.
        pattern_id: Pattern that the mask read back after the exposure; None without a mask.
        settings: Settings that the camera read back for this frame.
        light_share: Power that the light read back, as a share of the largest; None without a light.
        position_m: Position that the stage read back; None without a stage.
        origin: Where the frame comes from.
        calibrations: Calibrations in force; see :class:`Header`.
        firmware: Version or hash of each device's firmware, by kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    key: str
    step: str
    role: Role
    repeat: int
    file: str
    sha256: str
    shape: tuple[int, int]
    dtype: str
    bits: int
    pattern_id: int | None
    settings: CameraSettings
    light_share: float | None
    position_m: float | None
    origin: Origin
    calibrations: dict[str, str]
    firmware: dict[str, str]

    @model_validator(mode="after")
    def _own_file(self) -> Self:
        if self.file != f"{FRAMES}/{frame_name(self.index)}":
            raise ValueError(f"frame {self.index} is kept in {FRAMES}/{frame_name(self.index)}, not in {self.file!r}")
        return self

    def is_of(self, shot: Shot) -> bool:
        """Whether this is the frame that a shot demands."""
        names = ("index", "key", "step", "role", "repeat", "pattern_id")
        return all(getattr(self, name) == getattr(shot, name) for name in names)


def frame_name(index: int) -> str:
    """Name of the file of a frame in ``frames``.

    Args:
        index: Its place in the order of the plan.
    """
    return f"{index:06d}.npy"


class _Void(BaseModel):
    """Body of a line that takes frames back."""

    keys: list[str]
    reason: str


def frame_bytes(plan: Plan, bench: Bench) -> int:
    """Bytes of one frame of a plan."""
    can = bench.camera.capabilities()
    width, height = plan.roi[2:] if plan.roi else (can.width, can.height)
    return width * height * (1 if plan.bits <= 8 else 2)


def disk_free(folder: Path) -> int:
    """Bytes that are free where a folder is."""
    return shutil.disk_usage(folder).free


def create(
    folder: Path,
    plan: Plan,
    sources: Path,
    bench: Bench,
    calibrations: Mapping[str, str],
    *,
    wall: Callable[[], float] = time.time,
    free_bytes: Callable[[Path], int] = disk_free,
) -> None:
    """Begin a session: check the plan, try every setting of the camera, and make the folder, whole or not at all.

    Nothing moves and nothing lights.

    Args:
        folder: Folder of the session; must not exist, the one above it must.
        plan: What to capture.
        sources: Folder of the files of its patterns.
        bench: Open devices.
        calibrations: Ids of the calibrations in force, by what they calibrate.
        wall: Wall clock, in s since 1970.
        free_bytes: Tells the free space where a folder is.

    Raises:
        SessionError: The plan is impossible, the disk too small, or the folder is there.
        DeviceError: The camera does not keep a setting.
    """
    if folder.exists():
        raise SessionError(f"{folder} exists already; resume that session, or name another folder.")
    if not folder.parent.is_dir():
        raise SessionError(f"there is no folder {folder.parent}; make it, or name another one for the session.")
    pattern_ids = check_plan(plan, bench, sources)
    order = shots(plan, pattern_ids)
    needed, free = frame_bytes(plan, bench) * len(order) + bench.file.limits.disk_free_bytes, free_bytes(folder.parent)
    if needed > free:
        raise SessionError(
            f"{plan.name} takes {len(order)} frames, for which {needed} bytes must be free, with those that the bench "
            f"keeps free; the disk has {free}. Make space, or plan fewer frames."
        )
    for settings in dict.fromkeys(shot.settings for shot in order):
        configure(bench.camera, settings)
    hidden = folder.with_name(f".{folder.name}.tmp")
    # A process that was killed here left it.
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        hidden.mkdir()
        (hidden / FRAMES).mkdir()
        header = Header(
            plan=plan,
            bench=bench.file,
            origin=bench.origin,
            devices=bench.describe(),
            calibrations=dict(calibrations),
            pattern_ids=pattern_ids,
            patterns=_keep_patterns(plan, sources, bench, hidden),
        )
        text = canonical_json(header.model_dump(mode="json")) + b"\n"
        write_durably(hidden / HEADER, text)
        Journal.create(hidden / JOURNAL)
        with Journal(hidden / JOURNAL, wall) as journal:
            journal.add(Entry.open, [{"session": sha256_hex(text)}])
        os.rename(hidden, folder)
        sync_folder(folder.parent)
    except OSError as error:
        why = error.strerror or error
        raise SessionError(f"{folder} cannot be made ({why}); free space, or name another folder.") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _keep_patterns(plan: Plan, sources: Path, bench: Bench, folder: Path) -> dict[str, str]:
    (folder / PATTERNS).mkdir()
    mask = bench.mask.capabilities() if bench.mask else None
    kept: dict[str, str] = {}
    for name, exposed in plan.exposed.items():
        for pattern in patterns(exposed, sources, mask):
            path = pattern_path(folder, pattern.pattern_id)
            if path.stem not in kept:
                stream = io.BytesIO()
                np.save(stream, pattern.levels)
                write_new(path, stream.getvalue())
                kept[path.stem] = file_sha256(path)
            elif not np.array_equal(np.load(path), pattern.levels):
                raise SessionError(
                    f"step {name!r}: two patterns of the plan have the id {path.stem}, by which the mask could not "
                    "tell them apart; change one level of one of them."
                )
    sync_folder(folder / PATTERNS)
    return kept


def read_header(folder: Path, lines: Iterable[Line]) -> Header:
    """Read the settings of a session, if they are those that its journal began with.

    Raises:
        SessionError: They cannot be read, or are others.
    """
    path = folder / HEADER
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SessionError(f"{path} cannot be read: {error}; is this a session?") from error
    first = next(iter(lines), None)
    if first is None or first.kind is not Entry.open or first.body.get("session") != sha256_hex(data):
        raise SessionError(f"{path} is not what the journal began with; use a copy of the session.")
    return parse_model(data, Header, str(path))


def replay(lines: Iterable[Line]) -> dict[str, FrameRecord]:
    """Frames that a journal says are done, by key.

    Raises:
        SessionError: A line does not say what one of its kind says.
    """
    done: dict[str, FrameRecord] = {}
    for line in lines:
        name = f"line {line.number} of the journal"
        if line.kind is Entry.done:
            record = parse_model(canonical_json(line.body.get("record")), FrameRecord, name)
            done[record.key] = record
        elif line.kind is Entry.void:
            for key in parse_model(canonical_json(dict(line.body)), _Void, name).keys:
                done.pop(key, None)
    return done
