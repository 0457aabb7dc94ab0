"""Photons of the virtual bench inside a GigE Vision camera that is a program of its own.

:class:`GenicamFeed` starts and ends that program. It answers on the loopback network by libaravis's emulated camera;
exposure and gain that a driver sets through GenICam reach the light path, and the frames go over the real wire. One
raw step of its gain is 1 dB. Without a controller the mask is open and the lamp at its largest power; behind the
firmware for this machine it shows what that firmware has on its panel, by its light::

    with Emulator.host(built, journal, shown=shown), GenicamFeed("CAM1", journal=journal, shown=shown):
        GenicamCamera("CAM1", mono16_bits=12)
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import subprocess
import sys
import time
import traceback
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from firmware_bridge.devices import aravis
from firmware_bridge.errors import DeviceError
from firmware_bridge.wire import schema
from sim.bench.design import IDEAL, Imperfections
from sim.bench.world import World

ADDRESS = "127.0.0.1"
# Port of the control protocol of GigE Vision.
_PORT = 3956
_BITS = 12
# Registers of the emulated camera, as its description file gives them.
_WIDTH, _HEIGHT, _SENSOR_HEIGHT, _SENSOR_WIDTH = 0x100, 0x104, 0x118, 0x11C
_MONO8, _MONO16 = 0x01080001, 0x01100007
_CATCH_UP_S = 1.0


class GenicamFeed:
    """The running camera. As a context it is unplugged at the end.

    Args:
        serial: Serial number that it tells.
        seed: Seed for all imperfections and the noise.
        ideal: Whether it is without imperfections.
        lost: Share of the packets that are lost.
        rate_hz: How often it looks for a trigger.
        left: Whether pixel format Mono16 has its 12 bits in the upper ones of a word.
        shown, journal: Files of the firmware for this machine, see :class:`Emulator`; both or none.
        description: GenICam file instead of the one of libaravis, for a camera with a fault.

    Raises:
        DeviceError: Another GigE camera answers on this machine already, or libaravis is not installed.
    """

    def __init__(
        self,
        serial: str,
        *,
        seed: int = 0,
        ideal: bool = False,
        lost: float = 0.0,
        rate_hz: float = 200.0,
        left: bool = False,
        shown: Path | None = None,
        journal: Path | None = None,
        description: Path | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "sim.bench.genicam_feed", serial, "--seed", str(seed)]
        self._command += ["--lost", str(lost), "--rate-hz", str(rate_hz)]
        self._command += ["--ideal"] if ideal else []
        self._command += ["--left"] if left else []
        for name, path in (("--shown", shown), ("--journal", journal), ("--description", description)):
            self._command += [name, str(path)] if path else []
        self._process: subprocess.Popen[str] | None = None
        self.plug()

    def plug(self) -> None:
        """Start it, and return when it answers; its frames are counted anew."""
        self.unplug()
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C at a terminal is for whoever started it, who ends it then.
            start_new_session=True,
        )
        self._process = process
        line = process.stdout.readline().strip() if process.stdout else ""
        if line != "ready":
            self.unplug()
            raise DeviceError(line or "the emulated camera ended at once; its standard error tells why.")

    def unplug(self) -> None:
        """Kill it, as one pulls a plug: it says goodbye to nobody. May be called again."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()


class _Firmware:
    """Follows the panel and the light of the firmware for this machine into a world."""

    def __init__(self, world: World, shown: Path, journal: Path) -> None:
        self._world = world
        self._shown = shown
        self._journal = journal
        self._read = 0
        self._tail = b""

    def follow(self) -> None:
        """Bring the world up to what the firmware did until now.

        Raises:
            DeviceError: The panel is not what its journal says.
        """
        panel: dict[str, Any] | None = None
        for event in self._events():
            if event["event"] in ("apply", "park"):
                panel = event
            elif event["event"] == "light":
                self._world.lamp.set(event["value"] / schema.LEVEL_HIGH, event["monotonic_ms"] * 1e-3)
        if panel:
            self._world.panel.show(self._levels(panel["value"]), panel["monotonic_ms"] * 1e-3)

    def _events(self) -> list[dict[str, Any]]:
        if not self._journal.exists():
            return []
        with self._journal.open("rb") as stream:
            stream.seek(self._read)
            new = stream.read()
        self._read += len(new)
        *lines, self._tail = (self._tail + new).split(b"\n")
        return [json.loads(line) for line in lines]

    def _levels(self, pattern_id: int) -> np.ndarray[Any, Any]:
        design = self._world.design
        dtype = np.uint8 if design.mask_bits <= 8 else np.dtype("<u2")
        # The firmware writes its journal first and its panel just after.
        until_s = time.monotonic() + _CATCH_UP_S
        while zlib.crc32(data := self._shown.read_bytes() if self._shown.exists() else b"") != pattern_id:
            if time.monotonic() > until_s:
                raise DeviceError(f"{self._shown} does not hold the panel {pattern_id:08x} of {self._journal}.")
            time.sleep(1e-3)
        return np.frombuffer(data, dtype).reshape(design.mask_height, design.mask_width)


class _Camera:
    """libaravis's emulated camera, filled from a world."""

    def __init__(
        self, serial: str, world: World, firmware: _Firmware | None, left: bool, description: str | None
    ) -> None:
        self._world = world
        self._firmware = firmware
        self._left = left
        # The library shares its port with others, and each would get a part of the messages.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((ADDRESS, _PORT))
            except OSError as error:
                raise DeviceError(
                    f"another GigE camera answers on {ADDRESS} already; there can be but one, stop it first."
                ) from error
        arguments = (ADDRESS.encode(), serial.encode(), description.encode() if description else None)
        self._gige = aravis.call("arv_gv_fake_camera_new_full", *arguments)
        if not aravis.call("arv_gv_fake_camera_is_running", self._gige):
            raise DeviceError(f"no GigE camera can be emulated on {ADDRESS}; is the loopback network up?")
        inside = aravis.call("arv_gv_fake_camera_get_fake_camera", self._gige)
        for register, value in (
            (_SENSOR_WIDTH, world.design.camera_width),
            (_SENSOR_HEIGHT, world.design.camera_height),
            (_WIDTH, world.design.camera_width),
            (_HEIGHT, world.design.camera_height),
        ):
            aravis.call("arv_fake_camera_write_register", inside, register, value)
        # Held here: the library keeps but its address.
        self._callback = aravis.FILL_PATTERN(self._fill)
        aravis.call("arv_fake_camera_set_fill_pattern", inside, self._callback, None)
        self._inside = inside

    def set_rate(self, rate_hz: float) -> None:
        """How often it looks for a trigger."""
        aravis.call("arv_fake_camera_set_trigger_frequency", self._inside, rate_hz)

    def set_lost(self, share: float) -> None:
        """Share of the packets that are lost."""
        aravis.set_number(self._gige, "gvsp-lost-ratio", share)

    def _fill(self, buffer: int, _: int, exposure_us: int, gain: int, pixel_format: int) -> None:
        if self._firmware:
            self._firmware.follow()
        if pixel_format not in (_MONO8, _MONO16):
            raise DeviceError(f"this camera has Mono8 and Mono16, not pixel format {pixel_format:#x}.")
        left, top, width, height = aravis.integers("arv_buffer_get_image_region", buffer, 4)
        bits = 8 if pixel_format == _MONO8 else _BITS
        roi = (left, top, width, height)
        levels = self._world.expose(time.monotonic(), exposure_us * 1e-6, float(gain), bits, roi)
        if bits > 8 and self._left:
            levels = levels.astype(np.uint16) << np.uint16(16 - bits)
        data = levels.astype(levels.dtype.newbyteorder("<")).tobytes()
        address = aravis.call("arv_buffer_get_data", buffer, ctypes.byref(ctypes.c_size_t()))
        ctypes.memmove(address, data, len(data))


def _die(failure: sys.UnraisableHookArgs) -> None:
    # A frame that could not be filled would go out with the light of the one before it.
    traceback.print_exception(failure.exc_value)
    os._exit(1)


def _tell(line: str) -> None:
    """A line for whoever started this program; where nobody is left to read it, the program ends."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # At once, because the interpreter would try to write again at its end.
        os._exit(0)


def main(arguments: list[str]) -> int:
    """The camera as a program; it ends quietly when whoever started it does, also by SIGKILL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("serial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ideal", action="store_true")
    parser.add_argument("--lost", type=float, default=0.0)
    parser.add_argument("--rate-hz", type=float, default=200.0)
    parser.add_argument("--left", action="store_true")
    parser.add_argument("--shown", type=Path)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--description")
    wanted = parser.parse_args(arguments)
    sys.unraisablehook = _die
    world = World(wanted.seed, None, IDEAL if wanted.ideal else Imperfections(), start_s=time.monotonic())
    firmware = _Firmware(world, wanted.shown, wanted.journal) if wanted.shown and wanted.journal else None
    if firmware is None:
        open_mask = np.full((world.design.mask_height, world.design.mask_width), 255, np.uint8)
        world.panel.show(open_mask, time.monotonic())
        world.lamp.set(1.0, time.monotonic())
    try:
        camera = _Camera(wanted.serial, world, firmware, wanted.left, wanted.description)
    except DeviceError as error:
        _tell(str(error))
        return 1
    camera.set_rate(wanted.rate_hz)
    camera.set_lost(wanted.lost)
    _tell("ready")
    sys.stdin.read()
    # At once, because a frame that is being filled would miss the files that go with whoever started it.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
