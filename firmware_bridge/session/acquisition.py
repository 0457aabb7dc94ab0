"""Taking the frames of a session: what exists only while its devices and its journal are open.

Frames are taken in batches: ``INTENT`` of each is on the disk before the first is exposed, and ``DONE`` is written when
its file is. While one batch is exposed, the one before goes to the disk.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from firmware_bridge.errors import BridgeError, DeviceError, LinkError
from firmware_bridge.protocols import Frame, Levels
from firmware_bridge.session.conditions import GRAB_S, Operator, Stopped, Unfit, disk_short, still_warm, too_warm
from firmware_bridge.session.files import has_sha256
from firmware_bridge.session.folder import FrameRecord, Header, frame_bytes, frame_name, replay
from firmware_bridge.session.frames import FrameWriter, read_frame
from firmware_bridge.session.intake import Intake
from firmware_bridge.session.journal import Entry, Journal
from firmware_bridge.session.plan import SENTINEL, Shot
from firmware_bridge.session.setting import FalseReadback, Setting
from firmware_bridge.session.slot import BenchSlot
from firmware_bridge.session.watch import Doubtful, FrameWatch, SentinelWatch, check_frame, since_sentinel

BATCH = 16
"""Frames whose lines of the journal are brought to the disk together."""

RETAKES = 5
"""How often a frame is taken again before the camera counts as lost."""

LOSSES = 3
"""How often devices may be lost at one frame."""


@dataclass(frozen=True)
class SessionParts:
    """What a connected session works with.

    Attributes:
        folder: Folder of the session.
        header: Settings of the session.
        journal: Its journal, open for writing.
        writer: Writes frames into the folder.
        slot: Holds its bench, which is open at the beginning.
        operator: What the operator wants.
        name: Name of the operator, in which the bench is armed.
    """

    folder: Path
    header: Header
    journal: Journal
    writer: FrameWriter
    slot: BenchSlot
    operator: Operator
    name: str


class Acquisition:
    """Takes the missing frames of a connected session.

    Every frame that is said to be done is checked at the beginning; those that are damaged are taken again.

    Args:
        parts: What the session works with.
        free_bytes: Tells the free space where a folder is.
        kept: Called with the change in the number of frames that are on the disk, which is negative when frames are
            to be taken again.
        suspend: Called with the bench safe when conditions do not allow the next frame; returns when they do, with the
            bench armed.
    """

    def __init__(
        self,
        parts: SessionParts,
        *,
        free_bytes: Callable[[Path], int],
        kept: Callable[[int], None],
        suspend: Callable[[Unfit], None],
    ) -> None:
        self._parts = parts
        self._journal, self._slot, self._writer = parts.journal, parts.slot, parts.writer
        self._free_bytes, self._kept, self._suspend = free_bytes, kept, suspend
        self._shots = parts.header.shots()
        planned = {shot.key: shot for shot in self._shots}
        self._done: dict[str, FrameRecord] = {
            key: record
            for key, record in replay(self._journal.lines).items()
            if key in planned and record.is_of(planned[key])
        }
        self._intake = Intake(self._writer, self._journal, parts.header)
        self._frame_bytes = frame_bytes(parts.header.plan, self._slot.bench)
        self._losses: Counter[str] = Counter()
        self._frame_watch = FrameWatch()
        self._setting: Setting | None = None
        self._missing: deque[Shot] = deque()
        if len(self._journal.lines) > 1:
            self._journal.add(Entry.resume, [{"operator": parts.name}])
        damaged = [key for key, record in self._done.items() if not has_sha256(self._path(record), record.sha256)]
        self._void(damaged, "the file is missing or damaged")
        sentinel = parts.header.plan.sentinel
        self._sentinel_watch = SentinelWatch(sentinel.flux_tolerance if sentinel else math.inf)
        for shot in self._shots:
            if shot.key in self._done and shot.step == SENTINEL:
                record = self._done[shot.key]
                self._sentinel_watch.check(shot, read_frame(self._path(record), record.sha256))

    def take_all(self) -> None:
        """Take every frame that is missing; the bench is armed.

        Raises:
            SessionError: The disk is full, or conditions stayed bad for too long.
            DeviceError: A device does something else than it says, or was lost again and again at one frame.
            Stopped: The operator stopped.
        """
        while self._missing:
            batch = list(islice(self._missing, BATCH))
            try:
                self._check_disk(len(batch))
                self._journal.add(Entry.intent, ({"key": shot.key} for shot in batch))
                for shot in batch:
                    self._take(shot)
                    self._missing.popleft()
                self._publish(keep=len(batch))
            except Stopped:
                self._settle()
                self._publish()
                raise
            except Unfit as unfit:
                self._settle()
                self._publish()
                if unfit.doubted:
                    self._void(since_sentinel(self._shots, self._done), unfit.reason)
                self._wait_for(unfit)
            except FalseReadback:
                raise
            except (DeviceError, LinkError, OSError) as error:
                self._slot.drop()
                self._publish()
                self._lose(error)
        self._publish()

    def abandon(self, error: BaseException) -> None:
        """Give up the frames that are not on the disk, and write down why.

        Args:
            error: What ended the session.
        """
        self._intake.discard()
        kind = Entry.stop if isinstance(error, KeyboardInterrupt) else Entry.fault
        # The journal itself may be what failed.
        with contextlib.suppress(BridgeError):
            self._journal.add(kind, [{"reason": str(error)}])

    # -- frames ------------------------------------------------------------------------------------------------------

    def _path(self, record: FrameRecord) -> Path:
        return self._parts.folder / record.file

    def _take(self, shot: Shot) -> None:
        self._parts.operator.check()
        self._slot.bench.begin_shot(shot.index, shot.key)
        for _ in range(1 + RETAKES):
            setting = self._set(shot)
            try:
                return self._expose(shot, setting)
            except Doubtful as doubt:
                reason = str(doubt)
            self._journal.add(Entry.retake, [{"key": shot.key, "reason": reason}], sync=False)
        raise DeviceError(f"frame {shot.key} failed {1 + RETAKES} times, lastly because: {reason}")

    def _expose(self, shot: Shot, setting: Setting) -> None:
        bench = self._slot.bench
        try:
            frame = bench.camera.grab(shot.settings.exposure_s + GRAB_S)
        except DeviceError as error:
            raise Doubtful(str(error)) from error
        check_frame(shot, frame, bench.identities["camera"], bench.camera.capabilities())
        self._check_temperature(frame)
        skipped = self._frame_watch.count(frame)
        if skipped:
            self._journal.add(Entry.gap, [{"key": shot.key, "skipped": skipped, "next": frame.frame_id}], sync=False)
        read = setting.confirm(shot)
        self._check_flux(shot, frame.levels)
        written = self._writer.put(frame_name(shot.index), frame.levels)
        try:
            self._frame_watch.compare(shot, frame.levels, written.sha256)
        except Doubtful:
            self._writer.discard([written])
            raise
        self._intake.put(shot, frame, written, read)

    def _set(self, shot: Shot) -> Setting:
        if self._setting is None:
            self._setting = Setting(self._slot.bench, self._parts.folder)
        if self._setting.apply(shot):
            self._frame_watch.recount()
        return self._setting

    def _publish(self, keep: int = 0) -> None:
        published = self._intake.publish(keep)
        self._done |= published
        if published:
            self._kept(len(published))

    def _void(self, keys: list[str], reason: str) -> None:
        """Let frames be taken again, and find out anew what is missing. Nothing is on its way to the disk now."""
        if keys:
            self._journal.add(Entry.void, [{"keys": keys, "reason": reason}])
            for key in keys:
                del self._done[key]
            self._kept(-len(keys))
        self._missing = deque(shot for shot in self._shots if shot.key not in self._done)
        self._frame_watch.know({self._done[shot.key].sha256: shot for shot in self._shots if shot.key in self._done})

    # -- conditions --------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """The bench is safe, or closed where that fails, and nothing is taken for granted of its settings."""
        self._slot.settle()
        self._forget()

    def _forget(self) -> None:
        self._setting = None
        self._frame_watch.recount()

    def _wait_for(self, unfit: Unfit) -> None:
        self._suspend(unfit)
        self._forget()

    def _lose(self, error: BridgeError | OSError) -> None:
        """Devices, or their lease, are lost: wait until they are back."""
        key = self._missing[0].key
        self._losses[key] += 1
        if self._losses[key] > LOSSES:
            raise error
        self._wait_for(Unfit(str(error), lambda: None))

    def _check_disk(self, frames: int) -> None:
        reason = self._disk_short(frames)
        if reason:
            raise Unfit(reason, lambda: self._disk_short(frames))

    def _disk_short(self, frames: int) -> str | None:
        free = self._free_bytes(self._parts.folder)
        return disk_short(free, self._parts.header.bench.limits, frames, self._frame_bytes)

    def _check_temperature(self, frame: Frame) -> None:
        reason = too_warm(frame, self._parts.header.bench.limits)
        if reason:
            raise Unfit(reason, lambda: still_warm(self._slot.bench, self._missing[0].settings))

    def _check_flux(self, shot: Shot, levels: Levels) -> None:
        reason = self._sentinel_watch.check(shot, levels)
        if reason:
            raise Unfit(reason, lambda: self._flux_still_off(shot), doubted=True)

    def _flux_still_off(self, shot: Shot) -> str | None:
        bench = self._slot.bench
        bench.arm(self._parts.name)
        try:
            self._set(shot)
            levels = bench.camera.grab(shot.settings.exposure_s + GRAB_S).levels
            return self._sentinel_watch.check(shot, levels)
        finally:
            self._settle()
