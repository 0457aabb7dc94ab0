"""The window of a modulator on an X server without a display, seen through the frame buffer that the server maps to a
file: what is on the screen is read without the X protocol."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices import slm_screen
from firmware_bridge.devices.slm_window import Display, SlmWindow, parse_displays
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import MaskDevice, Origin, Pattern

WIDTH, HEIGHT = 160, 120
PATIENCE_S = 20.0

for _program, _package in (("Xvfb", "xvfb"), ("xrandr", "x11-xserver-utils")):
    if shutil.which(_program) is None:
        pytest.skip(f"there is no {_program} (Debian: {_package})", allow_module_level=True)
pytest.importorskip("pyglet", reason="pyglet is missing (extra slm)")
pytest.importorskip("mss", reason="mss is missing (extra slm)")


class Server:
    """An Xvfb whose frame buffer is the file ``Xvfb_screen0``, in the format of xwd (X11/XWDFile.h)."""

    def __init__(self, folder: Path) -> None:
        command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp", "-noreset"]
        self._process = subprocess.Popen(
            [*command, "-fbdir", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout
        self.name = f":{self._process.stdout.readline().strip()}"
        self._file = folder / "Xvfb_screen0"

    def screen(self) -> np.ndarray:
        """(H, W, 3) blue, green, red."""
        data = self._file.read_bytes()
        head = struct.unpack(">25I", data[:100])
        size, width, height, line, colours = head[0], head[4], head[5], head[12], head[19]
        pixels = np.frombuffer(data, np.uint8, line * height, size + 12 * colours)
        return pixels.reshape(height, line)[:, : 4 * width].reshape(height, width, 4)[..., :3]

    def shows_desktop(self) -> bool:
        # This server draws its pointer into the frame buffer.
        return float((self.screen() == 0x50).mean()) > 0.99

    def close(self) -> None:
        if self._process.stdout:
            self._process.stdout.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("xvfb"))
    # A grey desktop: black is then the work of the window, not of an empty screen.
    subprocess.run(["xsetroot", "-display", running.name, "-solid", "#505050"], check=True)
    assert until(running.shows_desktop)
    yield running
    running.close()


@pytest.fixture
def modulator(server: Server) -> Iterator[SlmWindow]:
    opened = SlmWindow("screen", display=server.name, settle_s=0.0)
    yield opened
    opened.close()


def noise(seed: int) -> Pattern:
    return Pattern(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8))


def until(true: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < end_s:
        time.sleep(0.01)
    return true()


def test_it_is_a_mask(modulator: SlmWindow) -> None:
    assert isinstance(modulator, MaskDevice)
    can = modulator.capabilities()
    assert (can.width, can.height, can.bits, can.pitch_m) == (WIDTH, HEIGHT, 8, None)
    identity = modulator.identify()
    assert (identity.kind, identity.serial, identity.origin) == ("mask", "screen", Origin.emulated)


def test_it_opens_blank(server: Server, modulator: SlmWindow) -> None:
    assert modulator.readback().parked
    assert not server.screen().any()


def test_every_pixel_is_shown_as_staged(server: Server, modulator: SlmWindow) -> None:
    corner = np.zeros((HEIGHT, WIDTH), np.uint8)
    corner[0, 1] = 255  # the second pixel of the first row: shows turned and mirrored pictures
    patterns = [Pattern(corner), *(noise(seed) for seed in range(20))]
    for pattern in patterns:
        modulator.stage(pattern)
        shown = modulator.commit()
        assert (shown.pattern_id, shown.parked) == (pattern.pattern_id, False)
        np.testing.assert_array_equal(server.screen(), np.repeat(pattern.levels[..., None], 3, axis=2))


def test_a_staged_pattern_is_not_shown(server: Server, modulator: SlmWindow) -> None:
    modulator.stage(noise(1))
    assert not server.screen().any()
    modulator.commit()
    modulator.stage(noise(2))
    assert modulator.readback().pattern_id == noise(1).pattern_id


def test_park_blanks(server: Server, modulator: SlmWindow) -> None:
    modulator.stage(noise(3))
    modulator.commit()
    assert server.screen().any()
    assert modulator.park().parked
    assert not server.screen().any()
    modulator.stage(noise(4))
    assert not modulator.commit().parked


def test_the_selftest_passes_and_leaves_it_blank(server: Server, modulator: SlmWindow) -> None:
    checks = {check.name: check for check in modulator.selftest()}
    assert [name for name, check in checks.items() if check.passed is False] == []
    assert checks["mask follows the refresh"].passed is None  # this server has none
    assert not server.screen().any()


def test_commit_waits_until_the_pattern_has_settled(server: Server) -> None:
    slept: list[float] = []
    modulator = SlmWindow("screen", display=server.name, settle_s=0.06, sleep=slept.append)
    modulator.stage(noise(5))
    modulator.commit()
    modulator.close()
    assert slept == [0.06]


def test_what_does_not_fit_is_refused(modulator: SlmWindow) -> None:
    with pytest.raises(DeviceError, match=r"takes \(120, 160\) uint8 levels, the pattern has \(120, 161\)"):
        modulator.stage(Pattern(np.zeros((HEIGHT, WIDTH + 1), np.uint8)))
    with pytest.raises(DeviceError, match=r"the pattern has .* of uint16"):
        modulator.stage(Pattern(np.zeros((HEIGHT, WIDTH), np.uint16)))
    with pytest.raises(DeviceError, match=r"call stage\(\) before commit"):
        modulator.commit()


# Another window in front, drawn by another program in a colour whose blue is level 100.
_COVER = """
import sys, time, pyglet
window = pyglet.window.Window(20, 20, style="borderless", visible=False)
window.set_location(30, 30)
window.set_visible(True)
pyglet.gl.glClearColor(200 / 255, 50 / 255, 100 / 255, 1)
for _ in range(50):
    window.clear()
    window.flip()
    window.dispatch_events()
print("there", flush=True)
sys.stdin.read()
"""


def test_a_window_in_front_is_found(server: Server, modulator: SlmWindow) -> None:
    flat = Pattern(np.full((HEIGHT, WIDTH), 100, np.uint8))
    modulator.stage(flat)
    modulator.commit()
    cover = subprocess.Popen(
        [sys.executable, "-c", _COVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "DISPLAY": server.name},
    )
    assert cover.stdin and cover.stdout
    assert cover.stdout.readline() == b"there\n"
    assert until(lambda: bool((server.screen()[40, 40] == (100, 50, 200)).all()))
    assert (server.screen()[..., 0] == 100).all()
    assert modulator.readback().pattern_id != flat.pattern_id
    modulator.stage(flat)
    with pytest.raises(DeviceError, match="another window in front of it"):
        modulator.commit()
    cover.communicate()


def test_close_blanks_and_removes_the_window(server: Server, modulator: SlmWindow) -> None:
    modulator.stage(noise(8))
    modulator.commit()
    modulator.close()
    modulator.close()
    modulator.safe()
    assert until(server.shows_desktop)
    with pytest.raises(DeviceError, match="closed; open it again"):
        modulator.readback()


_PARENT = """
import os, signal, sys, time
import numpy as np
sys.path.insert(0, {root!r})
# Programs that a shell starts in the background inherit that interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from firmware_bridge.devices import slm_screen
from firmware_bridge.devices.slm_window import SlmWindow
from firmware_bridge.protocols import Pattern
modulator = SlmWindow("screen", display={display!r}, settle_s=0.0)
modulator.stage(Pattern(np.full(({height}, {width}), 200, np.uint8)))
modulator.commit()
{before}
print(modulator._process.pid, flush=True)
{then}
"""

# A second process that holds the parent's end of the connection, as forked workers do.
_WORKER = "worker = os.fork() or (os.close(1), time.sleep(300), os._exit(0))\nprint(worker, flush=True)"


def start_parent(server: Server, then: str, before: str = "print(0)") -> tuple[subprocess.Popen[str], int, int]:
    """A parent that shows level 200, its worker, and the program that owns the window."""
    text = _PARENT.format(
        root=str(Path(__file__).resolve().parents[2]),
        display=server.name,
        width=WIDTH,
        height=HEIGHT,
        before=before,
        then=then,
    )
    parent = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    worker, program = int(parent.stdout.readline()), int(parent.stdout.readline())
    return parent, worker, program


def gone(program: int) -> bool:
    return not Path(f"/proc/{program}").exists() or "(zombie)" in Path(f"/proc/{program}/status").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_blank_when_the_parent_dies(server: Server, number: signal.Signals) -> None:
    parent, _, program = start_parent(server, "time.sleep(300)")
    try:
        assert (server.screen() == 200).all()
        parent.send_signal(number)
        assert until(lambda: not (server.screen() == 200).any())
        assert until(lambda: gone(program))
    finally:
        parent.kill()
        parent.communicate()


def test_it_is_blank_when_the_parent_dies_and_leaves_a_worker(server: Server) -> None:
    parent, worker, program = start_parent(server, "time.sleep(300)", before=_WORKER)
    try:
        parent.kill()
        assert until(lambda: not (server.screen() == 200).any())
        assert until(lambda: gone(program))
    finally:
        os.kill(worker, signal.SIGKILL)
        parent.communicate()


@pytest.mark.parametrize("then", ["sys.exit(0)", "raise RuntimeError", "pass"])
def test_it_is_blank_when_the_parent_ends(server: Server, then: str) -> None:
    parent, _, program = start_parent(server, f"sys.stderr.close(); {then}")
    parent.communicate()
    assert not (server.screen() == 200).any()
    assert gone(program)


# The program of the window, which stops after it has parked for the second time: the first is when it opens.
_STOPS = """
import pathlib, sys, time
sys.path.insert(0, {folder!r})
import slm_screen
park, seen = slm_screen.Screen.park, []
def stop(screen):
    seen.append(park(screen))
    if len(seen) == 2:
        pathlib.Path({gate!r}).touch()
        while pathlib.Path({gate!r}).exists():
            time.sleep(0.01)
slm_screen.Screen.park = stop
slm_screen.main()
"""


@pytest.mark.parametrize("end", ["close", "SIGTERM", "nonsense"])
def test_the_window_turns_black_before_it_goes(server: Server, tmp_path: Path, end: str) -> None:
    gate = tmp_path / "parked"
    near, far = socket.socketpair()
    text = _STOPS.format(folder=str(Path(slm_screen.__file__).parent), gate=str(gate))
    program = subprocess.Popen(
        [sys.executable, "-c", text, str(far.fileno()), "0", "0", str(WIDTH), str(HEIGHT)],
        pass_fds=(far.fileno(),),
        env={**os.environ, "DISPLAY": server.name},
        stderr=subprocess.DEVNULL,
    )
    far.close()
    near.settimeout(PATIENCE_S)
    near.recv(slm_screen.ANSWER.size)
    near.sendall(slm_screen.STAGE + bytes([200]) * (WIDTH * HEIGHT) + slm_screen.COMMIT)
    for _ in range(2):
        near.recv(slm_screen.ANSWER.size)
    assert (server.screen() == 200).all()
    {"close": near.close, "SIGTERM": program.terminate, "nonsense": lambda: near.sendall(b"?")}[end]()
    assert until(gate.exists)
    assert not server.screen().any()
    gate.unlink()
    assert program.wait(PATIENCE_S) == (1 if end == "nonsense" else 0)
    near.close()
    assert until(server.shows_desktop)


def test_a_killed_window_is_reported(server: Server, modulator: SlmWindow) -> None:
    modulator._process.kill()
    with pytest.raises(DeviceError, match=r"the window of modulator screen is lost: .*; open it again"):
        modulator.readback()
    assert until(server.shows_desktop)


def test_missing_displays_and_servers_are_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"no display 'LC-1' that is on; there are: screen \(display at screen\)"):
        SlmWindow("LC-1", display=server.name, settle_s=0.0)
    with pytest.raises(DeviceError, match="the X server ':9876' tells no displays"):
        SlmWindow("screen", display=":9876", settle_s=0.0)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(DeviceError, match="there is no X server; set DISPLAY"):
        SlmWindow("screen", settle_s=0.0)
    with pytest.raises(DeviceError, match="at least 0 s, got -1"):
        SlmWindow("screen", settle_s=-1.0)


# -- what xrandr tells -------------------------------------------------------------------------------------------------


def edid(model: str, text: str, number: int) -> str:
    """128 bytes by hand after VESA E-EDID 1.4, section 3: header, number at 12, descriptors at 54, sum 0 modulo 256."""
    data = bytearray(128)
    data[:8] = bytes.fromhex("00ffffffffffff00")
    data[12:16] = number.to_bytes(4, "little")
    for at, tag, content in ((72, 0xFC, model), (90, 0xFF, text)):
        if content:
            data[at : at + 5] = bytes([0, 0, 0, tag, 0])
            data[at + 5 : at + 18] = (content + "\n").encode().ljust(13)
    data[54:56] = b"\x02\x3a"  # a detailed timing, no text
    data[127] = -sum(data) % 256
    return "\n".join("\t\t" + data[row : row + 16].hex() for row in range(0, 128, 16))


def told(
    name: str,
    edid_text: str,
    turned: str = "normal",
    gamma: str = "1.0:1.0:1.0",
    brightness: str = "1.0",
    scale: float = 1.0,
) -> str:
    return f"""{name} connected 1920x1080+1280+0 (0x4a) {turned} (normal left inverted right x axis y axis) 15mm x 9mm
\tIdentifier: 0x42
\tGamma:      {gamma}
\tBrightness: {brightness}
\tTransform:  {scale:.6f} 0.000000 0.000000
\t            0.000000 1.000000 0.000000
\t            0.000000 0.000000 1.000000
\t           filter:
\tEDID:\x20
{edid_text}
\tBroadcast RGB: Automatic
  1920x1080 (0x4a) 148.500MHz +HSync +VSync *current +preferred
        h: width  1920 start 2008 end 2052 total 2200 skew    0 clock  67.50KHz
        v: height 1080 start 1084 end 1089 total 1125           clock  60.00Hz
"""


HEAD = "Screen 0: minimum 320 x 200, current 3200 x 1080, maximum 16384 x 16384\n"
OFF = "DP-1 disconnected (normal left inverted right x axis y axis)\n\tIdentifier: 0x44\n"
DARK = "DP-2 connected (normal left inverted right x axis y axis)\n\tIdentifier: 0x45\n"


def test_displays_are_known_by_what_they_tell() -> None:
    found = parse_displays(
        HEAD + OFF + told("HDMI-1", edid("LC-X", "A1234", 7)) + DARK + told("DP-3", edid("", "", 99))
    )
    first = Display("HDMI-1", "LC-X", "A1234", True, (1280, 0, 1920, 1080), 60.0, ())
    assert found == [first, replace(first, output="DP-3", model="display", serial="99")]


def test_a_damaged_edid_is_none() -> None:
    good = edid("LC-X", "A1234", 7)
    (found,) = parse_displays(HEAD + told("HDMI-1", good[:2] + "01" + good[4:]))
    assert (found.has_edid, found.serial) == (False, "HDMI-1")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"turned": "left"}, "it is turned or mirrored (left)"),
        ({"turned": "normal X axis"}, "it is turned or mirrored (normal X axis)"),
        ({"gamma": "1.0:0.9:0.8"}, "its gamma is 1.0:0.9:0.8 (--gamma 1:1:1)"),
        ({"brightness": "0.7"}, "its brightness is 0.7 (--brightness 1)"),
        ({"scale": 0.5}, "it is scaled (--scale 1x1)"),
    ],
)
def test_displays_that_alter_levels_are_known(how: dict[str, Any], reason: str) -> None:
    (found,) = parse_displays(HEAD + told("HDMI-1", edid("LC-X", "A1234", 7), **how))
    assert found.altered == (reason,)


def in_front_of(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let xrandr tell something else of the server's one display."""
    placed = re.sub(r"1920x1080\+1280\+0", f"{WIDTH}x{HEIGHT}+0+0", text)
    monkeypatch.setattr("firmware_bridge.devices.slm_window.displays", lambda name: parse_displays(HEAD + placed))


def test_a_display_with_edid_is_a_bench_unless_it_is_said_not_to_be(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_front_of(monkeypatch, told("HDMI-1", edid("LC-X", "A1234", 7)))
    for emulated, origin in ((False, Origin.bench), (True, Origin.emulated)):
        modulator = SlmWindow("A1234", display=server.name, settle_s=0.0, emulated=emulated)
        assert modulator.identify().origin is origin
        # 60 Hz are told, and this server swaps when it wants.
        assert [check.passed for check in modulator.selftest() if check.name == "mask follows the refresh"] == [False]
        modulator.close()


def test_two_displays_with_one_number_and_altered_levels_are_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = edid("LC-X", "A1234", 7)
    in_front_of(monkeypatch, told("HDMI-1", twin) + told("HDMI-2", twin))
    with pytest.raises(DeviceError, match="2 displays tell the serial number 'A1234', at HDMI-1, HDMI-2"):
        SlmWindow("A1234", display=server.name, settle_s=0.0)
    in_front_of(monkeypatch, told("HDMI-1", twin, brightness="0.7"))
    with pytest.raises(DeviceError, match=r"as they are: its brightness is 0.7 .*xrandr --output HDMI-1"):
        SlmWindow("A1234", display=server.name, settle_s=0.0)
