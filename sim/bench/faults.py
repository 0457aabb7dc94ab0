"""A bad wire on purpose: frames lost, damaged, cut, doubled and held back, devices reset and unplugged, from a seed."""

from __future__ import annotations

import errno
import heapq
import os
import pty
import select
import threading
import time
import tty
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

import numpy as np

from firmware_bridge.errors import LinkError
from firmware_bridge.protocols import Origin
from firmware_bridge.wire import schema
from firmware_bridge.wire.link import PortUnavailable, Transport

LONGEST_BYTES = 2 * schema.REQUEST_FRAME_BYTES


@dataclass(frozen=True)
class FaultRates:
    """How often each fault befalls a frame, in each direction, independently of the others.

    Attributes:
        drop: It is lost.
        flip: One of its bits is turned over.
        truncate: Its end, with the delimiter, is lost.
        duplicate: It comes twice.
        delay: It comes up to ``delay_s`` later, and others may overtake it.
        reboot: The device is reset just after it.
        unplug: The port is lost just after it, for ``unplug_s``.
        delay_s, unplug_s: Longest delay, and time without a port.
    """

    drop: float = 0.0
    flip: float = 0.0
    truncate: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    reboot: float = 0.0
    unplug: float = 0.0
    delay_s: float = 0.05
    unplug_s: float = 0.2

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value < 0 or (value > 1 and not entry.name.endswith("_s")):
                raise LinkError(
                    f"the rate {entry.name} of a fault is a share 0..1, and a time is positive; got {value}."
                )


class FaultStream:
    """One direction of a bad wire.

    Args:
        rates: Rates of its faults.
        rng: Draws the faults.
    """

    def __init__(self, rates: FaultRates, rng: np.random.Generator) -> None:
        self._rates = rates
        self._rng = rng
        self._tail = bytearray()
        self._due: list[tuple[float, int, bytes]] = []
        self._count = 0
        self.counts: Counter[str] = Counter()

    @property
    def due_s(self) -> float | None:
        """When the next bytes come out, or None where there are none."""
        return self._due[0][0] if self._due else None

    def push(self, data: bytes, now_s: float) -> list[str]:
        """Put bytes in, cut anywhere; returns what befalls the device: "reboot", "unplug".

        Args:
            data: Bytes on the wire.
            now_s: Time on the clock of the line.
        """
        befalls: list[str] = []
        *whole, tail = data.split(b"\0")
        for part in whole:
            frame = bytes(self._tail) + part + b"\0"
            self._tail.clear()
            if len(frame) == 1:
                self._emit(frame, now_s)
                continue
            befalls += self._frame(frame, now_s)
        self._tail += tail
        if len(self._tail) > LONGEST_BYTES:
            # No frame is that long: garbage, which passes as it is.
            self._emit(bytes(self._tail), now_s)
            self._tail.clear()
        return befalls

    def pop(self, now_s: float) -> bytes:
        """The bytes that have come out by now."""
        out = b""
        while self._due and self._due[0][0] <= now_s:
            out += heapq.heappop(self._due)[2]
        return out

    def _emit(self, frame: bytes, due_s: float) -> None:
        self._count += 1
        heapq.heappush(self._due, (due_s, self._count, frame))

    def _happens(self, fault: str) -> bool:
        # Always one draw, so that the rate of one fault does not shift the others.
        happens = bool(self._rng.random() < getattr(self._rates, fault))
        self.counts[fault] += happens
        return happens

    def _frame(self, frame: bytes, now_s: float) -> list[str]:
        self.counts["frames"] += 1
        place, bit, late = self._rng.integers(len(frame) - 1), self._rng.integers(8), self._rng.random()
        if self._happens("flip"):
            damaged = bytearray(frame)
            damaged[place] ^= 1 << int(bit)
            frame = bytes(damaged)
        if self._happens("truncate"):
            frame = frame[:place]
        copies = 2 if self._happens("duplicate") else 1
        due_s = now_s + (late * self._rates.delay_s if self._happens("delay") else 0.0)
        if not self._happens("drop"):
            for _ in range(copies):
                self._emit(frame, due_s)
        return [fault for fault in ("reboot", "unplug") if self._happens(fault)]


class FaultyTransport:
    """A transport with a bad wire inside this process, on any clock.

    Args:
        transport: Transport without faults.
        rates: Rates of the faults.
        seed: Seed for all faults drawn here.
        reboot: Resets the device; needed where ``rates.reboot`` is not 0.
        clock: Monotonic clock, in s.
    """

    def __init__(
        self,
        transport: Transport,
        rates: FaultRates,
        seed: int,
        *,
        reboot: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _require_reboot(rates, reboot)
        self._transport = transport
        self._rates = rates
        self._reboot = reboot
        self._clock = clock
        up, down = np.random.default_rng(seed).spawn(2)
        self.up = FaultStream(rates, up)
        self.down = FaultStream(rates, down)
        self._unplugged_until_s: float | None = None

    @property
    def origin(self) -> Origin:
        """That of the good one."""
        return self._transport.origin

    def open(self) -> None:
        """See :class:`Transport`."""
        if self._unplugged_until_s is not None and self._clock() < self._unplugged_until_s:
            raise PortUnavailable("the device is unplugged by a fault.")
        self._unplugged_until_s = None
        self._transport.open()

    def read(self, timeout_s: float) -> bytes:
        """See :class:`Transport`."""
        until_s = self._clock() + timeout_s
        while True:
            self._check()
            now_s = self._clock()
            if arrived := self.up.pop(now_s):
                self._transport.write(arrived)
            if data := self.down.pop(now_s):
                return data
            if now_s >= until_s:
                return b""
            next_s = min(due_s for due_s in (until_s, self.up.due_s, self.down.due_s) if due_s is not None)
            got = self._transport.read(max(next_s - now_s, 0.0))
            self._befall(self.down.push(got, self._clock()))

    def write(self, data: bytes) -> None:
        """See :class:`Transport`."""
        self._check()
        befalls = self.up.push(data, self._clock())
        if arrived := self.up.pop(self._clock()):
            self._transport.write(arrived)
        self._befall(befalls)

    def close(self) -> None:
        """See :class:`Transport`."""
        self._transport.close()

    def _check(self) -> None:
        if self._unplugged_until_s is not None:
            raise OSError(errno.EIO, "the device was unplugged by a fault")

    def _befall(self, befalls: list[str]) -> None:
        for fault in befalls:
            if fault == "reboot" and self._reboot is not None:
                self._reboot()
            if fault == "unplug":
                self._unplugged_until_s = self._clock() + self._rates.unplug_s


class FaultProxy:
    """A bad wire between a program and a pseudo-terminal, in a thread of its own.

    The program opens ``link``, a symbolic link to a terminal that the proxy made; while the device is unplugged there
    is none, as under /dev/serial/by-id.

    Args:
        upstream: Terminal of the device.
        link: Symbolic link by which the program finds it.
        rates: Rates of the faults.
        seed: Seed for all faults drawn here.
        reboot: Resets the device; needed where ``rates.reboot`` is not 0.
    """

    def __init__(
        self, upstream: Path, link: Path, rates: FaultRates, seed: int, *, reboot: Callable[[], None] | None = None
    ) -> None:
        _require_reboot(rates, reboot)
        self._rates = rates
        self._reboot = reboot
        self._link = link
        up, down = np.random.default_rng(seed).spawn(2)
        self.up = FaultStream(rates, up)
        self.down = FaultStream(rates, down)
        self._upstream = os.open(upstream, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._upstream)
        self._master: int | None = None
        self._slave: int | None = None
        self._back_s: float | None = None
        self._wake_out, self._wake_in = os.pipe()
        self._wishes: list[str] = []
        self._plug()
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Lose the port until :meth:`replug`."""
        self._wish("unplug")

    def replug(self) -> None:
        """Plug it in again."""
        self._wish("replug")

    def close(self) -> None:
        """End it; may be called again."""
        if self._thread.is_alive():
            self._wish("close")
            self._thread.join()
            for descriptor in (self._wake_in, self._wake_out, self._upstream):
                os.close(descriptor)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wish(self, what: str) -> None:
        self._wishes.append(what)
        os.write(self._wake_in, b"w")

    def _plug(self) -> None:
        if self._master is not None:
            return
        # The slave stays open here, so that the program may close and open its end.
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        new = self._link.with_name(self._link.name + ".new")
        new.unlink(missing_ok=True)
        new.symlink_to(os.ttyname(self._slave))
        new.replace(self._link)
        self._back_s = None

    def _unplug(self, for_s: float | None) -> None:
        self._back_s = None if for_s is None else time.monotonic() + for_s
        if self._master is None or self._slave is None:
            return
        self._link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = None

    def _run(self) -> None:
        while True:
            now_s = time.monotonic()
            if self._back_s is not None and now_s >= self._back_s:
                self._plug()
            _send(self._upstream, self.up.pop(now_s))
            out = self.down.pop(now_s)
            if self._master is not None:
                _send(self._master, out)
            times = [t for t in (self.up.due_s, self.down.due_s, self._back_s) if t is not None]
            wait_s = max(min(times) - now_s, 0.0) if times else None
            ends = [self._upstream, self._wake_out] + ([] if self._master is None else [self._master])
            ready, _, _ = select.select(ends, [], [], wait_s)
            befalls: list[str] = []
            if self._upstream in ready:
                befalls += self.down.push(os.read(self._upstream, 4096), time.monotonic())
            if self._master in ready and self._master is not None:
                befalls += self.up.push(os.read(self._master, 4096), time.monotonic())
            if "unplug" in befalls:
                self._unplug(self._rates.unplug_s)
            if "reboot" in befalls and self._reboot is not None:
                self._reboot()
            if self._wake_out in ready:
                os.read(self._wake_out, 4096)
                while self._wishes:
                    wish = self._wishes.pop(0)
                    if wish == "replug":
                        self._plug()
                    else:
                        self._unplug(None)
                    if wish == "close":
                        return


def _require_reboot(rates: FaultRates, reboot: Callable[[], None] | None) -> None:
    if rates.reboot and reboot is None:
        raise LinkError(f"faults reset the device at the rate {rates.reboot}; say by `reboot` how.")


def _send(descriptor: int, data: bytes) -> None:
    """Write what fits; the rest is lost, as where nobody reads a wire."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BlockingIOError:
        return
