"""A capture session: takes the frames of a plan, one after another, and loses none.

A session is in one :class:`State`; ``TRANSITIONS`` holds every change that there is. It never lights or shows anything
outside RUNNING, but for one frame of the sentinel that tells a suspended session whether the light is back.

Frames are taken in batches: ``INTENT`` of each is on the disk before the first is exposed, and ``DONE`` is written when
its file is. While one batch is exposed, the one before goes to the disk.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from firmware_bridge.errors import BridgeError, DeviceError, LinkError, SessionError
from firmware_bridge.protocols import Frame, Levels
from firmware_bridge.session.bench import Bench, Driver, open_bench
from firmware_bridge.session.conditions import GRAB_S, Operator, Stopped, Unfit, disk_short, still_warm, too_warm
from firmware_bridge.session.files import has_sha256
from firmware_bridge.session.folder import FRAMES, JOURNAL, disk_free, frame_bytes, frame_name, read_header, replay
from firmware_bridge.session.frames import FrameWriter, read_frame
from firmware_bridge.session.intake import Intake
from firmware_bridge.session.journal import Entry, Journal, read_journal
from firmware_bridge.session.plan import SENTINEL, Shot
from firmware_bridge.session.seal import Sealed, seal
from firmware_bridge.session.setting import FalseReadback, Setting
from firmware_bridge.session.states import TRANSITIONS, State
from firmware_bridge.session.watch import Doubtful, FrameWatch, SentinelWatch, check_frame, since_sentinel

BATCH = 16
"""Frames whose lines of the journal are brought to the disk together."""

RETAKES = 5
"""How often a frame is taken again before the camera counts as lost."""

LOSSES = 3
"""How often devices may be lost at one frame."""


class Session:
    """One session on one bench. As a context, it is connected, and leaves the bench safe and closed.

    Args:
        folder: as :func:`create` made it; what is done already is not done again.
        drivers: see :func:`open_bench`.
        operator: who takes the responsibility. The session arms the bench again in this name after it was suspended.
        clock, sleep: monotonic clock of the host, in s.
        wall: clock of the wall, in s since 1970.
        free_bytes: free space where a folder is.
        before_shot: called before each frame: for a display, and for a simulated bench that draws the noise of a frame
            by its key, so that a resumed session sees the frames that an undisturbed one would have seen.
        told: called with a sentence when the session is suspended, and when it goes on.
        poll_s: time between two looks at conditions while suspended.
        patience_s: how long to be suspended before giving up; the session can be resumed then.

    Attributes:
        state: what it is doing.
    """

    def __init__(
        self,
        folder: Path,
        drivers: Mapping[str, Driver],
        operator: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall: Callable[[], float] = time.time,
        free_bytes: Callable[[Path], int] = disk_free,
        before_shot: Callable[[Shot], None] = lambda shot: None,
        told: Callable[[str], None] = lambda sentence: None,
        poll_s: float = 1.0,
        patience_s: float = 600.0,
    ) -> None:
        self.folder = folder
        self.state = State.disconnected
        self._drivers = drivers
        self._name = operator
        self._clock = clock
        self._sleep = sleep
        self._wall = wall
        self._free_bytes = free_bytes
        self._before_shot = before_shot
        self._told = told
        self._poll_s = poll_s
        self._patience_s = patience_s
        self._operator = Operator()
        self._cleanup = contextlib.ExitStack()

    # -- states ------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open journal and devices, and check every frame that is said to be done; those that are damaged are taken
        again. DISCONNECTED to SAFE.

        Raises:
            SessionError: The folder holds no session, one that is sealed, or one of other devices or firmware.
            DeviceError: Devices cannot be opened.
        """
        self._check(State.safe)
        with contextlib.ExitStack() as stack:
            self._journal = stack.enter_context(Journal(self.folder / JOURNAL, self._wall))
            self._header = read_header(self.folder, self._journal.lines)
            if self._journal.lines[-1].kind is Entry.seal:
                raise SessionError(f"{self.folder} is sealed; begin a new session.")
            self._bench: Bench | None = None
            stack.callback(self._close_bench)
            self._open_bench()
            writer = stack.enter_context(FrameWriter(self.folder / FRAMES))
            self._writer, self._intake = writer, Intake(writer, self._journal, self._header)
            self._begin()
            atexit.register(self._at_exit)
            stack.callback(atexit.unregister, self._at_exit)
            self._cleanup = stack.pop_all()
        self._to(State.safe)

    def arm(self) -> None:
        """Arm the bench in the name of the operator. SAFE to ARMED.

        Raises:
            DeviceError: A device refuses.
        """
        self._check(State.armed)
        self._open.arm(self._name)
        self._to(State.armed)

    def run(self) -> None:
        """Take every frame that is missing. ARMED to RUNNING, and to SAFE when all are on the disk.

        Raises:
            SessionError: The disk is full, or conditions stayed bad for too long; make it good and resume.
            DeviceError: A device does something else than it says, or was lost again and again at one frame.
            Stopped: The operator stopped; the session is SAFE, and can be resumed.
        """
        self._to(State.running)
        try:
            self._acquire()
            self._open.safe()
        except BaseException as error:
            self._abandon(error)
            raise
        self._to(State.safe)

    def disconnect(self) -> None:
        """Make the bench safe, close it and the journal. Any state to DISCONNECTED; may be called again."""
        if self.state is State.disconnected:
            return
        self._to(State.disconnected)
        self._cleanup.close()

    def pause(self) -> None:
        """Suspend before the next frame, for as long as the operator wants; from any thread."""
        self._operator.pause()

    def proceed(self) -> None:
        """Go on after :meth:`pause`; from any thread."""
        self._operator.proceed()

    def stop(self) -> None:
        """End :meth:`run` before the next frame, also while suspended; from any thread. The session can be resumed."""
        self._operator.stop()

    def counts(self) -> dict[str, int]:
        """Frames of the plan, frames that are done, and lines of the journal by kind."""
        kinds = Counter(str(line.kind) for line in self._journal.lines)
        return {"frames": len(self._shots), "done": len(self._done), **kinds}

    def _check(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise SessionError(
                f"the session is {self.state} and cannot become {state}; from here it can become "
                f"{', '.join(sorted(TRANSITIONS[self.state]))}."
            )

    def _to(self, state: State) -> None:
        self._check(state)
        self.state = state

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    # -- beginning and end -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """What is done, what is missing, and what was seen of the sentinel."""
        self._shots = self._header.shots()
        self._done = replay(self._journal.lines)
        self._frame_bytes = frame_bytes(self._header.plan, self._open)
        if len(self._journal.lines) > 1:
            self._journal.add(Entry.resume, [{"operator": self._name}])
        damaged = [
            record.key for record in self._done.values() if not has_sha256(self.folder / record.file, record.sha256)
        ]
        self._losses: Counter[str] = Counter()
        self._frame_watch = FrameWatch()
        self._forget()
        self._void(damaged, "the file is missing or damaged")
        sentinel = self._header.plan.sentinel
        self._sentinel_watch = SentinelWatch(sentinel.flux_tolerance if sentinel else math.inf)
        for shot in self._shots:
            if shot.key in self._done and shot.step == SENTINEL:
                record = self._done[shot.key]
                self._sentinel_watch.check(shot, read_frame(self.folder / record.file, record.sha256))

    def _abandon(self, error: BaseException) -> None:
        """Leave everything safe after an error; what goes wrong on the way is noted on the error."""
        kind, state = (Entry.stop, State.safe) if isinstance(error, KeyboardInterrupt) else (Entry.fault, State.fault)
        if self._bench:
            try:
                self._bench.safe()
            except DeviceError as unsafe:
                error.add_note(str(unsafe))
                state = State.fault
        self._to(state)
        self._intake.discard()
        # The journal itself may be what failed.
        with contextlib.suppress(SessionError):
            self._journal.add(kind, [{"reason": str(error)}])

    def _at_exit(self) -> None:
        if self._bench:
            with contextlib.suppress(DeviceError):
                self._bench.safe()

    # -- devices -----------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> Bench:
        if self._bench is None:
            raise DeviceError("the bench is not open.")
        return self._bench

    def _open_bench(self) -> None:
        bench = open_bench(self._header.bench, self._drivers)
        if bench.describe() != self._header.devices:
            with contextlib.suppress(DeviceError):
                bench.close()
            raise SessionError(
                f"the session was begun with {self._header.devices}, these are {bench.describe()}; bring the old "
                "devices and firmware back, or begin a new session."
            )
        self._bench = bench

    def _close_bench(self) -> None:
        bench, self._bench = self._bench, None
        if bench:
            bench.close()

    def _forget(self) -> None:
        """Take nothing for granted of what devices are set to."""
        self._setting: Setting | None = None
        self._frame_watch.recount()

    def _set(self, shot: Shot) -> Setting:
        if self._setting is None:
            self._setting = Setting(self._open, self.folder)
        if self._setting.apply(shot):
            self._frame_watch.recount()
        return self._setting

    # -- frames ------------------------------------------------------------------------------------------------------

    def _acquire(self) -> None:
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
                self._suspend(unfit)
            except FalseReadback:
                raise
            except (DeviceError, LinkError, OSError) as error:
                self._drop()
                self._publish()
                self._lose(error)
        self._publish()

    def _take(self, shot: Shot) -> None:
        self._operator.check()
        self._before_shot(shot)
        for _ in range(1 + RETAKES):
            setting = self._set(shot)
            try:
                return self._expose(shot, setting)
            except Doubtful as doubt:
                reason = str(doubt)
            self._journal.add(Entry.retake, [{"key": shot.key, "reason": reason}], sync=False)
        raise DeviceError(f"frame {shot.key} failed {1 + RETAKES} times, lastly because: {reason}")

    def _expose(self, shot: Shot, setting: Setting) -> None:
        bench = self._open
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
        written = self._writer.put(frame_name(shot), frame.levels)
        try:
            self._frame_watch.compare(shot, frame.levels, written.sha256)
        except Doubtful:
            self._writer.discard([written])
            raise
        self._intake.put(shot, frame, written, read)

    def _publish(self, keep: int = 0) -> None:
        self._done |= self._intake.publish(keep)

    def _void(self, keys: list[str], reason: str) -> None:
        """Let frames be taken again, and find out anew what is missing. Nothing is on its way to the disk now."""
        if keys:
            self._journal.add(Entry.void, [{"keys": keys, "reason": reason}])
            for key in keys:
                del self._done[key]
        self._missing = deque(shot for shot in self._shots if shot.key not in self._done)
        self._frame_watch.know({self._done[shot.key].sha256: shot for shot in self._shots if shot.key in self._done})

    # -- conditions --------------------------------------------------------------------------------------------------

    def _suspend(self, unfit: Unfit) -> None:
        """Wait, with the bench safe already, and go on. Every look opens a bench that was lost."""
        self._to(State.suspended)
        self._journal.add(Entry.suspend, [{"reason": unfit.reason}])
        self._told(f"suspended, the bench is safe: {unfit.reason.rstrip('.')}")
        patience_s = self._patience_s if unfit.patience_s is None else unfit.patience_s
        until_s, why = self._clock() + patience_s, unfit.reason
        while True:
            self._sleep(self._poll_s)
            self._operator.check_stop()
            try:
                if self._bench is None:
                    self._open_bench()
                still = unfit.fit()
                if still is None:
                    self._open.arm(self._name)
                    break
                why = still
            except FalseReadback:
                raise
            except (DeviceError, LinkError, OSError) as error:
                why = str(error)
                self._drop()
            if self._clock() > until_s:
                raise SessionError(
                    f"the session was suspended for {patience_s:g} s, and still: {why.rstrip('.')}; make it good, then "
                    "resume the session."
                )
        self._forget()
        self._to(State.armed)
        self._journal.add(Entry.proceed, [{"reason": unfit.reason}])
        self._to(State.running)
        self._told("the session goes on")

    def _settle(self) -> None:
        """Safe, or closed where that fails."""
        if self._bench:
            try:
                self._bench.safe()
            except DeviceError:
                self._drop()
        self._forget()

    def _drop(self) -> None:
        with contextlib.suppress(DeviceError):
            self._close_bench()

    def _lose(self, error: BridgeError | OSError) -> None:
        """Devices, or their lease, are lost: wait until they are back."""
        key = self._missing[0].key
        self._losses[key] += 1
        if self._losses[key] > LOSSES:
            raise error
        self._suspend(Unfit(str(error), lambda: None))

    def _check_disk(self, frames: int) -> None:
        reason = self._disk_short(frames)
        if reason:
            raise Unfit(reason, lambda: self._disk_short(frames))

    def _disk_short(self, frames: int) -> str | None:
        return disk_short(self._free_bytes(self.folder), self._header.bench.limits, frames, self._frame_bytes)

    def _check_temperature(self, frame: Frame) -> None:
        reason = too_warm(frame, self._header.bench.limits)
        if reason:
            raise Unfit(reason, lambda: still_warm(self._open, self._missing[0].settings))

    def _check_flux(self, shot: Shot, levels: Levels) -> None:
        reason = self._sentinel_watch.check(shot, levels)
        if reason:
            raise Unfit(reason, lambda: self._flux_still_off(shot), doubted=True)

    def _flux_still_off(self, shot: Shot) -> str | None:
        bench = self._open
        bench.arm(self._name)
        try:
            self._set(shot)
            levels = bench.camera.grab(shot.settings.exposure_s + GRAB_S).levels
            return self._sentinel_watch.check(shot, levels)
        finally:
            self._settle()


def capture(session: Session) -> Sealed:
    """Take what is missing, and seal; begins, resumes and finishes alike.

    Raises:
        SessionError: See :meth:`Session.connect`, :meth:`Session.run` and :func:`seal`.
        DeviceError: See :meth:`Session.run`.
    """
    lines, _ = read_journal(session.folder / JOURNAL)
    # A session that was interrupted between its last line and its manifest is sealed again.
    if not lines or lines[-1].kind is not Entry.seal:
        with session:
            session.arm()
            session.run()
    return seal(session.folder)
