"""A spatial light modulator that is a display of its own: its pixels follow the pixels of the X screen.

The window belongs to a program of its own (``slm_screen``), which blanks it when this process closes it, ends, or is
killed. What was drawn is read back from the X server, not from the memory that it was drawn from, so that a window in
front of it, the hole that one leaves, or a scaled screen is found. What the X server does not tell cannot be found:
whether the cable delivers the levels, and whether the driver dithers; a photodiode or the camera must show that once.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from firmware_bridge.devices import slm_screen
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Identity, MaskCapabilities, Origin, Pattern, Shown
from ground.gates import Gate

ANSWER_S = 10.0
"""Time for one answer of the window's program, its start included: OpenGL in software may take seconds to start."""

BITS = 8

_PACKAGES = ("mss", "pyglet")
_CLOSE_S = 3.0
_IDENTITY = tuple(float(row == column) for row in range(3) for column in range(3))
# Share by which the measured time of a swap may differ from the refresh of the display.
_REFRESH_TOLERANCE = 0.05


@dataclass(frozen=True)
class Display:
    """One display of an X server that is on.

    Attributes:
        output: Name of the connector.
        model, serial: Model and serial number in its EDID (VESA E-EDID 1.4, section 3); without one "display" and the
            connector.
        has_edid: Whether there is a device that answers at the connector.
        area: Left, top, width and height on the X screen, in pixels.
        refresh_hz: Refresh rate of the mode, 0 where there is none.
        altered: What keeps levels from reaching the display as they are; empty if nothing does.
    """

    output: str
    model: str
    serial: str
    has_edid: bool
    area: tuple[int, int, int, int]
    refresh_hz: float
    altered: tuple[str, ...]


def displays(name: str) -> list[Display]:
    """All displays of an X server that are on.

    Args:
        name: Name of the server, as in the variable DISPLAY.

    Raises:
        DeviceError: There is no such server, or no xrandr.
    """
    command = ["xrandr", "--display", name, "--verbose"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ANSWER_S, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError as error:
        raise DeviceError("displays are found by xrandr; install it (Debian: x11-xserver-utils).") from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"the X server {name!r} did not answer for {ANSWER_S:g} s; restart it.") from error
    if done.returncode:
        raise DeviceError(f"the X server {name!r} tells no displays: {done.stderr.strip()}; correct its name.")
    return parse_displays(done.stdout)


def parse_displays(text: str) -> list[Display]:
    """Read what ``xrandr --verbose`` tells.

    Args:
        text: What it writes in the locale C.
    """
    heads = list(re.finditer(r"^(\S+) (?:connected|disconnected)\b.*$", text, re.MULTILINE))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    found = (_parse_display(head, text[head.end() : end]) for head, end in zip(heads, ends, strict=True))
    return [display for display in found if display is not None]


def _parse_display(head: re.Match[str], text: str) -> Display | None:
    placed = re.search(r"(\d+)x(\d+)\+(\d+)\+(\d+)(?: \(0x[0-9a-f]+\))? (.*?)\(", head[0])
    if placed is None:
        return None
    width, height, left, top = map(int, placed.groups()[:4])
    edid_text = re.search(r"^\tEDID:\s*\n((?:\t\t[0-9a-fA-F]+\n)+)", text, re.MULTILINE)
    edid = bytes.fromhex(re.sub(r"\s", "", edid_text[1])) if edid_text else b""
    whole = len(edid) >= 128 and sum(edid[:128]) % 256 == 0
    model, serial = _edid_names(edid) if whole else ("", "")
    altered = []
    turned = placed[5].strip()
    if turned not in ("", "normal"):
        altered.append(f"it is turned or mirrored ({turned})")
    transform = re.search(r"^\tTransform:((?:\s+[-\d.]+){9})", text, re.MULTILINE)
    if transform and tuple(map(float, transform[1].split())) != _IDENTITY:
        altered.append("it is scaled (--scale 1x1)")
    # Without a device there is no table of gamma, and xrandr computes a brightness of 0 from nothing.
    for setting, plain in (("Gamma", "1.0:1.0:1.0"), ("Brightness", "1.0")) if whole else ():
        value = re.search(rf"^\t{setting}:\s*(\S+)", text, re.MULTILINE)
        if value and value[1] != plain:
            altered.append(f"its {setting.lower()} is {value[1]} (--{setting.lower()} {plain.replace('.0', '')})")
    mode = re.search(r"\*current.*\n\s+h:.*\n\s+v:.*clock\s+([\d.]+)Hz", text)
    return Display(
        output=head[1],
        model=model or "display",
        serial=serial or head[1],
        has_edid=whole,
        area=(left, top, width, height),
        refresh_hz=float(mode[1]) if mode else 0.0,
        altered=tuple(altered),
    )


def _edid_names(edid: bytes) -> tuple[str, str]:
    """Model and serial number; the text of the number goes before the 32-bit one."""
    texts = {
        edid[at + 3]: edid[at + 5 : at + 18].split(b"\n")[0].decode("cp437").strip()
        for at in (54, 72, 90, 108)
        if edid[at : at + 3] == bytes(3)
    }
    number = int.from_bytes(edid[12:16], "little")
    return texts.get(0xFC, ""), texts.get(0xFF, "") or (str(number) if number else "")


class SlmWindow:
    """A modulator that is a display; its levels are 8-bit grey. Its safe pattern is level 0 everywhere.

    Its origin is the bench only if a device told its EDID at the connector: a server without displays, such as Xvfb,
    has none.

    Args:
        serial: Serial number of the display, or name of its connector where it tells none.
        settle_s: Time from the picture on the X screen to a settled modulator: two frames, its own electronics, and its
            liquid crystal; see :func:`firmware_bridge.devices.settling.measure_settle`.
        pitch_m: Distance of two pixels, None where it is unknown.
        display: Name of the X server; None for that of the variable DISPLAY.
        emulated: Whether to say so of a display that looks real. A display that looks emulated remains so.
        clock, sleep: Monotonic clock of the host, in s.

    Raises:
        DeviceError: There is no such display, there are two, its levels would be altered, or the window cannot be made.
        ImportError: The extra ``slm`` is missing.
    """

    def __init__(
        self,
        serial: str,
        *,
        settle_s: float,
        pitch_m: float | None = None,
        display: str | None = None,
        emulated: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if settle_s < 0:
            raise DeviceError(f"settle_s is a time of at least 0 s, got {settle_s:g}.")
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(f"{' and '.join(missing)} is missing; install optishield[slm].")
        server = os.environ.get("DISPLAY", "") if display is None else display
        if not server:
            raise DeviceError("there is no X server; set DISPLAY, or name it by the option display.")
        self._display = _find(displays(server), serial)
        self._settle_s = settle_s
        self._pitch_m = pitch_m
        self._origin = Origin.bench if self._display.has_edid and not emulated else Origin.emulated
        self._clock = clock
        self._sleep = sleep
        self._staged_id: int | None = None
        self._closed = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._connection, far = socket.socketpair()
        self._connection.settimeout(ANSWER_S)
        program = slm_screen.__file__
        # -P: its own folder is no place to import from, where files have names of packages.
        command = [sys.executable, "-P", program, str(far.fileno()), *map(str, self._display.area)]
        # A session of its own: what ends a terminal or its programs must not end it before it has blanked the window.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=(far.fileno(),),
            start_new_session=True,
            # Where OpenGL is software, its threads cost more than they bring for a copy.
            env={"LP_NUM_THREADS": "0", **os.environ, "DISPLAY": server},
        )
        far.close()
        atexit.register(self.close)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def identify(self) -> Identity:
        """Which device this is."""
        return Identity("mask", self._display.model, self._display.serial, "", self._origin)

    def capabilities(self) -> MaskCapabilities:
        """What it can show."""
        return MaskCapabilities(self._display.area[2], self._display.area[3], BITS, self._settle_s, self._pitch_m)

    def stage(self, pattern: Pattern) -> None:
        """Send a pattern without showing it; see :meth:`MaskDevice.stage`."""
        shape = (self._display.area[3], self._display.area[2])
        if pattern.levels.shape != shape or pattern.levels.dtype != np.uint8:
            raise DeviceError(
                f"this modulator takes {shape} uint8 levels, the pattern has {pattern.levels.shape} of "
                f"{pattern.levels.dtype}; scale it to the modulator."
            )
        self._staged_id = None
        arrived = self._ask(slm_screen.STAGE, pattern.as_bytes())
        if arrived.pattern_id != pattern.pattern_id:
            raise DeviceError(f"{arrived.pattern_id:08x} arrived instead of {pattern.pattern_id:08x}; stage it again.")
        self._staged_id = pattern.pattern_id

    def commit(self) -> Shown:
        """Show what was staged, read it back, and wait until it has settled; see :meth:`MaskDevice.commit`."""
        if self._staged_id is None:
            raise DeviceError("nothing was staged; call stage() before commit().")
        shown = self._ask(slm_screen.COMMIT)
        if shown.pattern_id != self._staged_id:
            raise DeviceError(
                f"the screen shows {shown.pattern_id:08x} instead of {self._staged_id:08x}; is another window in front "
                "of it, or does the desktop compose windows? Turn that off."
            )
        self._sleep(self._settle_s)
        return shown

    def readback(self) -> Shown:
        """What the X server shows now."""
        return self._ask(slm_screen.READBACK)

    def park(self) -> Shown:
        """Show level 0 everywhere."""
        return self._ask(slm_screen.PARK)

    def safe(self) -> None:
        """Show level 0 everywhere. A window that is gone, is."""
        if not self._closed:
            self.park()

    def close(self) -> None:
        """Blank the window and remove it; may be called again."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._connection.close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def selftest(self) -> list[Gate]:
        """The safe pattern, one that is staged and not shown, noise pixel by pixel, and swaps with the refresh."""
        parked = self.park()
        black = Pattern(np.zeros((self._display.area[3], self._display.area[2]), np.uint8)).pattern_id
        checks = [Gate("mask parked", parked.pattern_id == black, f"the screen shows {parked.pattern_id:08x}")]
        generator = np.random.default_rng(0)
        noise = Pattern(generator.integers(0, 256, (self._display.area[3], self._display.area[2]), dtype=np.uint8))
        self.stage(noise)
        waits = self.readback().pattern_id == black
        checks.append(Gate("mask waits for commit", waits, "still blank" if waits else "it shows what was staged"))
        try:
            shown_id = self.commit().pattern_id
            checks.append(Gate("mask is pixel-exact", True, f"the screen shows {shown_id:08x}, as was staged"))
        except DeviceError as error:
            checks.append(Gate("mask is pixel-exact", False, str(error)))
        checks.append(self._check_refresh())
        self.park()
        return checks

    def _check_refresh(self) -> Gate:
        rate, swap_s = self._display.refresh_hz, self._swap_s
        reason = f"buffers are swapped every {swap_s * 1e3:.1f} ms, the display has {rate:g} Hz"
        if not rate:
            return Gate("mask follows the refresh", None, f"{reason}: it has no refresh")
        kept = abs(swap_s * rate - 1) <= _REFRESH_TOLERANCE
        return Gate("mask follows the refresh", kept, reason if kept else f"{reason}; turn on vertical sync")

    def _ask(self, *request: bytes) -> Shown:
        if self._closed:
            raise DeviceError("the window of this modulator is closed; open it again.")
        try:
            for part in request:
                self._connection.sendall(part)
        except OSError as error:
            raise self._lost(error) from error
        return self._answer()

    def _answer(self) -> Shown:
        data = bytearray(slm_screen.ANSWER.size)
        try:
            whole = slm_screen.receive(self._connection, memoryview(data))
        except OSError as error:
            raise self._lost(error) from error
        if not whole:
            raise self._lost("it ended")
        pattern_id, parked, self._swap_s = slm_screen.ANSWER.unpack(data)
        return Shown(pattern_id, parked, self._clock())

    def _lost(self, reason: object) -> DeviceError:
        # What it may answer later would be taken for the answer to another request.
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self.close()
        return DeviceError(
            f"the window of modulator {self._display.serial} is lost: {lines[-1] if lines else reason}; open it again."
        )


def _find(found: list[Display], serial: str) -> Display:
    named = [display for display in found if display.serial == serial]
    if not named:
        there = ", ".join(f"{display.serial} ({display.model} at {display.output})" for display in found) or "none"
        raise DeviceError(f"there is no display {serial!r} that is on; there are: {there}.")
    if len(named) > 1:
        raise DeviceError(
            f"{len(named)} displays tell the serial number {serial!r}, at {', '.join(one.output for one in named)}; "
            "turn all but one off."
        )
    if named[0].altered:
        raise DeviceError(
            f"levels would not reach display {serial!r} as they are: {'; '.join(named[0].altered)}; reset it by xrandr "
            f"--output {named[0].output}."
        )
    return named[0]
