"""Shared by the tests of the wire: the real firmware, built once a process, and a clock that tests turn."""

from __future__ import annotations

import atexit
import ctypes
import functools
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.fw.emulator import build
from firmware_bridge.protocols import Origin
from firmware_bridge.wire.link import Link, Transport

PACKAGES = {"make": "make", "gcc": "gcc", "avr-gcc": "gcc-avr"}
PATTERN_BYTES = 64 * 64


def pattern(seed: int) -> bytes:
    """A pattern for the mask of 64 x 64 levels that differs from that of every other seed."""
    return bytes((seed * 31 + index * (2 * seed + 1)) % 256 for index in range(PATTERN_BYTES))


@functools.cache
def built(target: str) -> Path:
    """Folder of the built firmware; skips where a program is missing that is needed to build it."""
    for program in ("make", "gcc", *(["avr-gcc"] if target == "avr" else [])):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}; install the Debian package {PACKAGES[program]}")
    if target == "avr":
        for header, package in (
            ("/usr/include/simavr/sim_avr.h", "libsimavr-dev"),
            ("/usr/lib/avr/include/avr/io.h", "avr-libc"),
        ):
            if not Path(header).exists():
                pytest.skip(f"there is no {header}; install the Debian package {package}")
    folder = tempfile.mkdtemp(prefix="firmware-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build(target, Path(folder))


class FakeClock:
    """Seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, time_s: float) -> None:
        self.now_s += time_s


class InProcess:
    """A transport to the C core inside this process, on a clock of the test. A round trip takes 1 ms of it."""

    origin = Origin.emulated

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._library = ctypes.CDLL(str(built("inproc") / "libfirmware.so"))
        self._library.inproc_effect.restype = ctypes.c_char
        self._buffer = ctypes.create_string_buffer(65536)
        self._library.inproc_forget()
        self.break_down()
        self.reboot()

    def reboot(self) -> None:
        self._turn()
        self._library.inproc_boot()

    def break_down(self, *, mask: bool = False, light: bool = False) -> None:
        """Let the first pixel of the mask stay lit, the light stay as it is, or neither any more."""
        self._library.inproc_break(mask + 2 * light)

    def flip(self, offset: int) -> None:
        """Turn a bit over in the memory that a pattern comes into."""
        self._library.inproc_flip(offset)

    def open(self) -> None:
        self._library.inproc_take(self._buffer)

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self._turn()
        self._library.inproc_receive(data, len(data))

    def read(self, timeout_s: float) -> bytes:
        self.clock.sleep(min(0.001, timeout_s))
        self._turn()
        length = self._library.inproc_take(self._buffer)
        if length == 0:
            self.idle(timeout_s - min(0.001, timeout_s))
        return self._buffer.raw[:length]

    def idle(self, time_s: float) -> None:
        """Let time pass for the firmware, which looks at its clock every 10 ms."""
        until_s = self.clock() + time_s
        while self.clock() < until_s:
            self.clock.sleep(min(0.01, until_s - self.clock()))
            self._turn()
        self.clock.now_s = until_s

    def effects(self, what: str) -> list[int]:
        """Values that were applied, over resets too: "a" patterns, "p" parked, "l" levels of light, "s" positions."""
        value = ctypes.c_int64()
        found = []
        for index in range(self._library.inproc_effects()):
            if self._library.inproc_effect(index, ctypes.byref(value)).decode() == what:
                found.append(value.value)
        return found

    def _turn(self) -> None:
        self._library.inproc_clock(ctypes.c_uint32(round(self.clock() * 1000)))


def opened(transport: Transport, clock: FakeClock) -> Link:
    """A link on a clock of the test, with a session."""
    link = Link(transport, clock=clock, sleep=clock.sleep, rng=np.random.default_rng(5))
    link.open()
    return link


def show(link: Link, data: bytes) -> dict[str, object]:
    """Stage and commit a pattern; returns the answer to COMMIT."""
    for offset in range(0, len(data), 256):
        link.call("CHUNK", offset=offset, data=data[offset : offset + 256])
    link.call("STAGE", length=len(data), pattern_id=zlib.crc32(data))
    return dict(link.call("COMMIT", pattern_id=zlib.crc32(data)))


def smoke(link: Link) -> None:
    """One conversation that every build of the firmware must hold."""
    link.open()
    state = link.call("HEARTBEAT")
    assert (state["state"], state["parked"], state["level"], state["moving"]) == (0, True, 0, False)
    parked = link.call("READBACK")
    assert parked == {"pattern_id": zlib.crc32(bytes(PATTERN_BYTES)), "parked": True}
    assert link.hello["parked_id"] == parked["pattern_id"]

    link.call("ARM", operator="smoke test", light=True)
    assert link.call("LIGHT", level=0x8001) == {"level": 0x8001}
    assert show(link, pattern(1)) == {"pattern_id": zlib.crc32(pattern(1)), "parked": False}
    assert link.call("READBACK") == {"pattern_id": zlib.crc32(pattern(1)), "parked": False}
    assert link.call("MOVE", position_nm=-1_000_100) == {"position_nm": -1_000_000}
    while (state := link.call("HEARTBEAT"))["moving"]:
        pass
    assert state["position_nm"] == -1_000_000
    assert (state["state"], state["parked"], state["level"]) == (1, False, 0x8001)

    assert link.call("PARK") == parked
    assert link.call("OFF") == {"level": 0}
    assert link.call("SAFE") == parked
    assert link.call("HEARTBEAT")["state"] == 0
