"""A bench of real drivers in front of programs: the firmware built for this machine, and a GigE Vision camera."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel

from firmware_bridge.devices.controllers import Controllers
from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.devices.mcu import Controller
from firmware_bridge.fw.emulator import Emulator, build
from firmware_bridge.protocols import Device
from firmware_bridge.session.bench import Wanted
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.serial_transport import SerialTransport
from ground.scratch import scratch_folder
from sim.bench import EmulatedCameraOptions
from sim.bench.genicam_feed import GenicamFeed

_CAMERA_BITS = 12


class EmulatedBench:
    """One firmware and one camera, each a program that runs until the stack is closed.

    Args:
        stack: Ends the programs, and removes their files.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._files: tuple[Path, Path] | None = None
        self._paths: dict[str, Path] = {}
        self._feeds: set[str] = set()
        self._controllers = Controllers(self._connect)

    def open(self, wanted: Wanted, options: BaseModel) -> Device:
        """Open a device, and start its program when it is asked for first.

        Args:
            wanted: Which device.
            options: For a camera :class:`EmulatedCameraOptions`; the others have none.

        Raises:
            BridgeError: A program cannot be built, started or reached.
        """
        if isinstance(options, EmulatedCameraOptions):
            return self._camera(wanted, options)
        return self._controllers.part(wanted)

    def _connect(self, wanted: Wanted) -> Controller:
        serial = wanted.serial
        if serial not in self._paths:
            folder = self._stack.enter_context(scratch_folder("optishield-bench"))
            self._files = shown, journal = folder / "shown", folder / "journal.jsonl"
            emulator = Emulator.host(build("host", folder), journal, serial=serial, shown=shown)
            self._paths[serial] = self._stack.enter_context(emulator).path
        return Controller(Link(SerialTransport.emulated(self._paths[serial])), serial)

    def _camera(self, wanted: Wanted, options: EmulatedCameraOptions) -> Device:
        if wanted.serial not in self._feeds:
            shown, journal = self._files or (None, None)
            feed = GenicamFeed(wanted.serial, seed=options.seed, ideal=options.ideal, shown=shown, journal=journal)
            self._stack.enter_context(feed)
            self._feeds.add(wanted.serial)
        return GenicamCamera(wanted.serial, mono16_bits=_CAMERA_BITS, gain_step_db=1.0)
