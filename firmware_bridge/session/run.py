"""A capture session: takes the frames of a plan, one after another, and loses none.

A session is in one :class:`State`; ``TRANSITIONS`` holds every change that there is. It never lights or shows anything
outside RUNNING, but for one frame of the sentinel that tells a suspended session whether the light is back.
"""

from __future__ import annotations

import atexit
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from firmware_bridge.errors import DeviceError, LinkError, SessionError, UnfitBench
from firmware_bridge.session.acquisition import Acquisition, SessionParts
from firmware_bridge.session.bench import Driver
from firmware_bridge.session.conditions import Operator, Unfit
from firmware_bridge.session.folder import FRAMES, JOURNAL, disk_free, read_header, replay
from firmware_bridge.session.frames import FrameWriter
from firmware_bridge.session.journal import Entry, Journal, Line, read_journal
from firmware_bridge.session.seal import Sealed, seal
from firmware_bridge.session.setting import FalseReadback
from firmware_bridge.session.slot import BenchSlot
from firmware_bridge.session.states import TRANSITIONS, State
from ground.errors import one_line


@dataclass(frozen=True)
class Counts:
    """How far a session is.

    Attributes:
        frames: Frames of the plan.
        done: Frames that are on the disk.
        lines: Lines of the journal, by kind.
    """

    frames: int
    done: int
    lines: Mapping[Entry, int]


@dataclass(frozen=True)
class _Connected:
    """What exists from :meth:`Session.connect` to :meth:`Session.disconnect`."""

    parts: SessionParts
    acquisition: Acquisition
    cleanup: contextlib.ExitStack


class Session:
    """One session on one bench. As a context, it is connected, and leaves the bench safe and closed.

    Args:
        folder: Folder as :func:`create` made it; what is done already is not done again.
        drivers: What each name of a driver in the file of the bench means; see :func:`open_bench`.
        operator: Name of the person who takes the responsibility. The session arms the bench again in this name after
            it was suspended.
        clock, sleep: Monotonic clock of the host, in s.
        wall: Wall clock, in s since 1970.
        free_bytes: Tells the free space where a folder is.
        kept: Called with the change in the number of frames that are on the disk; for a display.
        told: Called with a sentence when the session is suspended, and when it goes on.
        poll_s: Time between two looks at conditions while suspended.
        patience_s: How long to be suspended before giving up; the session can be resumed then.

    Attributes:
        state: What it is doing.
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
        kept: Callable[[int], None] = lambda change: None,
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
        self._kept = kept
        self._told = told
        self._poll_s = poll_s
        self._patience_s = patience_s
        self._operator = Operator()
        self._connected: _Connected | None = None

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
            journal = stack.enter_context(Journal(self.folder / JOURNAL, self._wall))
            header = read_header(self.folder, journal.lines)
            if journal.lines[-1].kind is Entry.seal:
                raise SessionError(f"{self.folder} is sealed; begin a new session.")
            slot = BenchSlot(header, self._drivers)
            stack.callback(slot.close)
            slot.open()
            writer = stack.enter_context(FrameWriter(self.folder / FRAMES))
            parts = SessionParts(self.folder, header, journal, writer, slot, self._operator, self._name)
            acquisition = Acquisition(parts, free_bytes=self._free_bytes, kept=self._kept, suspend=self._suspend)
            atexit.register(slot.safe_at_exit)
            stack.callback(atexit.unregister, slot.safe_at_exit)
            self._connected = _Connected(parts, acquisition, stack.pop_all())
        self._to(State.safe)

    def arm(self) -> None:
        """Arm the bench in the name of the operator. SAFE to ARMED.

        Raises:
            DeviceError: A device refuses.
        """
        self._check(State.armed)
        self._open.parts.slot.bench.arm(self._name)
        self._to(State.armed)

    def run(self) -> None:
        """Take every frame that is missing. ARMED to RUNNING, and to SAFE when all are on the disk.

        Raises:
            SessionError: The disk is full, or conditions stayed bad for too long; make it good and resume.
            DeviceError: A device does something else than it says, or was lost again and again at one frame.
            Stopped: The operator stopped; the session is SAFE, and can be resumed.
        """
        self._to(State.running)
        connected = self._open
        try:
            connected.acquisition.take_all()
            connected.parts.slot.bench.safe()
        except BaseException as error:
            self._abandon(connected, error)
            raise
        self._to(State.safe)

    def disconnect(self) -> None:
        """Make the bench safe, close it and the journal. Any state to DISCONNECTED; may be called again."""
        if self._connected is None:
            return
        self._to(State.disconnected)
        connected, self._connected = self._connected, None
        connected.cleanup.close()

    def pause(self) -> None:
        """Suspend before the next frame, for as long as the operator wants; from any thread."""
        self._operator.pause()

    def proceed(self) -> None:
        """Go on after :meth:`pause`; from any thread."""
        self._operator.proceed()

    def stop(self) -> None:
        """End :meth:`run` before the next frame, also while suspended; from any thread. The session can be resumed."""
        self._operator.stop()

    def counts(self) -> Counts:
        """How far the session is; in any state, also before it is connected.

        Raises:
            SessionError: The folder holds no session.
        """
        if self._connected is not None:
            return _counts(self.folder, self._connected.parts.journal.lines)
        return _counts(self.folder, read_journal(self.folder / JOURNAL)[0])

    @property
    def _open(self) -> _Connected:
        if self._connected is None:
            raise SessionError(f"the session is {self.state}; connect it first.")
        return self._connected

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

    def _abandon(self, connected: _Connected, error: BaseException) -> None:
        """Leave everything safe after an error; what goes wrong on the way is noted on the error."""
        state = State.safe if isinstance(error, KeyboardInterrupt) else State.fault
        slot = connected.parts.slot
        if slot.is_open:
            try:
                slot.bench.safe()
            except DeviceError as unsafe:
                error.add_note(str(unsafe))
                state = State.fault
        self._to(state)
        connected.acquisition.abandon(error)

    # -- conditions --------------------------------------------------------------------------------------------------

    def _suspend(self, unfit: Unfit) -> None:
        """Wait, with the bench safe already, and go on with it armed. Every look opens a bench that was lost."""
        parts = self._open.parts
        self._to(State.suspended)
        parts.journal.add(Entry.suspend, [{"reason": unfit.reason}])
        self._told(f"suspended, the bench is safe: {one_line(unfit.reason).rstrip('.')}")
        patience_s = self._patience_s if unfit.patience_s is None else unfit.patience_s
        until_s = self._clock() + patience_s
        while (still := self._still_unfit(parts.slot, unfit)) is not None:
            if self._clock() > until_s:
                raise UnfitBench(
                    f"the session was suspended for {patience_s:g} s; make it good, then resume the session. Still: "
                    f"{still}"
                )
        self._to(State.armed)
        parts.journal.add(Entry.proceed, [{"reason": unfit.reason}])
        self._to(State.running)
        self._told("the session goes on")

    def _still_unfit(self, slot: BenchSlot, unfit: Unfit) -> str | None:
        """Wait once, and tell why the session cannot go on, or None when the bench is armed."""
        self._sleep(self._poll_s)
        self._operator.check_stop()
        try:
            if not slot.is_open:
                slot.open()
            still = unfit.fit()
            if still is None:
                slot.bench.arm(self._name)
            return still
        except FalseReadback:
            raise
        except (DeviceError, LinkError, OSError) as error:
            slot.drop()
            return str(error)


def _counts(folder: Path, lines: Sequence[Line]) -> Counts:
    shots = read_header(folder, lines).shots()
    done = replay(lines)
    return Counts(len(shots), sum(shot.key in done for shot in shots), Counter(line.kind for line in lines))


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
