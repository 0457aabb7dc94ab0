"""Cameras with GenICam: GigE Vision, USB3 Vision, and whatever else a vendor brings by GenTL.

:class:`GenicamCamera` is the driver; features and frames come to it over a :class:`Wire`: libaravis, or the GenTL
producer of a vendor (:mod:`firmware_bridge.devices.gentl`). A frame is exposed by a software trigger in
:meth:`GenicamCamera.grab`, so it never began before the call. A camera that loses its cable, or whose program dies, is
lost until :meth:`GenicamCamera.configure` or :meth:`GenicamCamera.start` is called; that opens it anew, waits until an
earlier holder of its control has run out, and sets everything again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from firmware_bridge.devices.aravis_wire import AravisWire
from firmware_bridge.devices.frames import FrameOrder, check_settings, read_back, right_justified
from firmware_bridge.devices.genicam_wire import Arrived, Held, Wire
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import CameraCapabilities, CameraSettings, Frame, Identity, Levels, Origin
from ground.gates import Gate

_RETRY_S = 0.2
# Numbers of the pixel formats that hold one unpacked value per pixel (GenICam Pixel Format Naming Convention).
_FORMATS = {"Mono8": 0x01080001, "Mono10": 0x01100003, "Mono12": 0x01100005, "Mono14": 0x01100025, "Mono16": 0x01100007}
# What changes a picture by itself; each is switched off where a camera has it.
_AUTOMATIC = ("ExposureAuto", "GainAuto", "BlackLevelAuto", "BalanceWhiteAuto")


class GenicamCamera:
    """A camera found by its serial number. The wire decides its origin.

    Args:
        serial: Serial number.
        connect: Opens the camera with a serial number, or raises what it raises here.
        mono16_bits: Significant bits of pixel format Mono16.
        mono16_left: Whether Mono16 has them in the upper bits of a word.
        gain_step_db: Gain of one step in dB, for a camera that has raw gain only; without it such a camera stays at
            raw 0.
        patience_s: How long to wait while another program holds it; one that died does so for some seconds.
        clock, sleep: Monotonic clock of the host, in s.

    Raises:
        DeviceError: It is not there, there are two, or another program holds it; or what the wire needs is not
            installed.
    """

    def __init__(
        self,
        serial: str,
        *,
        connect: Callable[[str], Wire] = AravisWire,
        mono16_bits: int = 16,
        mono16_left: bool = False,
        gain_step_db: float | None = None,
        patience_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._serial = serial
        self._connect = connect
        self._mono16_bits = mono16_bits
        self._mono16_left = mono16_left
        self._gain_step_db = gain_step_db
        self._patience_s = patience_s
        self._clock = clock
        self._sleep = sleep
        self._wire: Wire | None = None
        self._exposing = False
        self._wanted: CameraSettings | None = None
        self._found: CameraSettings | None = None
        self._gone = False
        self._closed = False
        self._fresh = True
        self._order = FrameOrder()
        self._open()

    def identify(self) -> Identity:
        """Which device this is."""
        return self._identity

    def capabilities(self) -> CameraCapabilities:
        """What it can do. The pitch of its pixels is known to no standard feature."""
        return self._capabilities

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Set it, read everything back, and return what was read; see :meth:`Camera.configure`.

        Size and depth cannot change while it exposes: it is then stopped and started, and counts anew.
        """
        running = self._exposing
        self._revive()
        known = self._wanted
        if known is None or (known.bits, known.roi) != (settings.bits, settings.roi):
            self.stop()
        found = self._set(settings)
        self._wanted, self._found = settings, found
        if running:
            self.start()
        return found

    def start(self) -> None:
        """Begin to expose; a camera that was lost is opened and set anew."""
        if self._wanted is None:
            raise DeviceError(f"camera {self._serial} was not set; call configure() before start().")
        if self._revive():
            self._found = self._set(self._wanted)
        if self._exposing:
            return
        self._order = FrameOrder(self._here().high)
        self._begin()

    def _begin(self) -> None:
        self._here().begin()
        self._exposing = self._fresh = True

    def grab(self, timeout_s: float) -> Frame:
        """Trigger and wait for the frame; see :meth:`Camera.grab`."""
        if not self._exposing:
            raise DeviceError(f"camera {self._serial} does not expose; call start() before grab().")
        if self._lost():
            raise self._no_frame("nothing can be triggered")
        if not self._fresh:
            # An old trigger may still bring its frame: only a new beginning is sure to bring none but new ones. Where
            # it fails, the next grab tries it again.
            self._here().end()
            self._order.restart()
            self._begin()
        until_s = self._clock() + timeout_s
        self._fresh = False
        try:
            self._here().trigger()
        except DeviceError as error:
            self._gone = True
            raise self._no_frame(str(error).rstrip(".")) from error
        arrived = self._here().receive(max(until_s - self._clock(), 0.0))
        if arrived is None:
            raise self._no_frame(f"no frame came in {timeout_s:g} s")
        return self._frame(arrived)

    def stop(self) -> None:
        """End exposing; may be called again."""
        if self._exposing:
            self._exposing = False
            self._here().end()

    def safe(self) -> None:
        """End exposing."""
        self.stop()

    def close(self) -> None:
        """End exposing and let go of it; may be called again."""
        self._closed = True
        self._release()

    def selftest(self) -> list[Gate]:
        """Settings that read back, a frame that comes, and a second one after it."""
        can = self._capabilities
        low_s, high_s = can.exposure_s
        wanted_s = min(max(0.01, low_s), high_s)
        found = self.configure(CameraSettings(wanted_s, can.gain_db[0], can.bits[0]))
        checks = [Gate("camera reads back", True, f"exposure {found.exposure_s:g} s, gain {found.gain_db:g} dB")]
        self.start()
        try:
            first, second = self.grab(5.0), self.grab(5.0)
            step = second.frame_id - first.frame_id
            checks.append(Gate("camera counts", step == 1, f"two frames, whose ids differ by {step}"))
        except DeviceError as error:
            checks.append(Gate("camera counts", False, str(error)))
        finally:
            self.stop()
        return checks

    def _open(self) -> None:
        """Find it and take control; a program that died keeps control until its heartbeat runs out."""
        until_s = self._clock() + self._patience_s
        while True:
            try:
                self._try_open()
                return
            except Held:
                if self._clock() >= until_s:
                    raise
            except DeviceError:
                self._release()
                raise
            self._sleep(_RETRY_S)

    def _try_open(self) -> None:
        wire = self._wire = self._connect(self._serial)
        self._db_per_unit = 1.0 if self._has("Gain") else self._gain_step_db if self._has("GainRaw") else None
        self._offered = self._formats()
        self._capabilities = self._ask()
        self._thermometer = self._has("DeviceTemperature")
        self._identity = Identity(
            "camera",
            f"{wire.vendor} {wire.model}",
            self._serial,
            wire.text("DeviceVersion") if self._has("DeviceVersion") else "",
            Origin.emulated if wire.emulated else Origin.bench,
        )

    def _ask(self) -> CameraCapabilities:
        wire = self._here()
        width, height = wire.sensor()
        low_us, high_us = wire.exposure_bounds_us()
        low_db, high_db = 0.0, 0.0
        if self._db_per_unit:
            low_db, high_db = (self._db_per_unit * end for end in wire.gain_bounds())
        return CameraCapabilities(
            width=width,
            height=height,
            bits=tuple(sorted(self._offered)),
            exposure_s=(low_us * 1e-6, high_us * 1e-6),
            gain_db=(low_db, high_db),
        )

    def _revive(self) -> bool:
        """Open a camera that was lost; whether it was."""
        if self._closed:
            raise DeviceError(f"camera {self._serial} was closed; open it again.")
        if self._wire is not None and not self._lost():
            return False
        self._release()
        self._open()
        return True

    def _release(self) -> None:
        self.stop()
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        self._gone = False

    def _here(self) -> Wire:
        if self._wire is None:
            raise DeviceError(f"camera {self._serial} is not open; call start().")
        return self._wire

    def _lost(self) -> bool:
        self._gone = self._gone or self._here().lost()
        return self._gone

    def _no_frame(self, why: str) -> DeviceError:
        if self._lost():
            return DeviceError(
                f"{why}: the control of camera {self._serial} is lost. Is it plugged in? Then call start() again; it "
                "counts anew from there."
            )
        return DeviceError(f"{why}; look at cable, exposure and timeout of camera {self._serial}.")

    def _has(self, feature: str) -> bool:
        return self._here().has(feature)

    def _formats(self) -> dict[int, str]:
        """Depth to the name of the pixel format that brings it unpacked."""
        offered = self._here().pixel_formats()
        formats = {bits: f"Mono{bits}" for bits in (8, 10, 12, 14) if f"Mono{bits}" in offered}
        if "Mono16" in offered:
            formats.setdefault(self._mono16_bits, "Mono16")
        if not formats:
            raise DeviceError(
                f"camera {self._serial} offers {offered}; only Mono8, Mono10, Mono12, Mono14 and Mono16 are read, as "
                "they hold the values of the pixels and no more."
            )
        return formats

    def _set(self, settings: CameraSettings) -> CameraSettings:
        wire = self._here()
        if settings.gain_db and not self._db_per_unit:
            raise DeviceError(
                f"camera {self._serial} has no gain in decibels; set 0 dB, or say by gain_step_db what a step is."
            )
        roi = check_settings(settings, self._capabilities)
        for feature in _AUTOMATIC:
            if self._has(feature):
                self._set_text(feature, "Off")
        if self._has("GammaEnable"):
            wire.set_flag("GammaEnable", False)
            if wire.flag("GammaEnable"):
                raise DeviceError(f"camera {self._serial} keeps its gamma on; its values are then no measure of light.")
        # Size and depth stay as they are while it exposes; the caller has seen to it that they need not change.
        if not self._exposing:
            self._set_text("PixelFormat", self._offered[settings.bits])
            wire.set_region(roi)
            wire.wait_for_trigger()
            if wire.text("TriggerMode") != "On":
                raise DeviceError(
                    f"camera {self._serial} does not wait for a software trigger; without it nobody knows when a frame "
                    "began."
                )
        wire.set_exposure_us(settings.exposure_s * 1e6)
        if self._db_per_unit:
            wire.set_gain(settings.gain_db / self._db_per_unit)
        elif self._has("GainRaw"):
            wire.set_gain(0.0)
        found = self._exposed(settings.bits, wire.region())
        read_back("exposure", settings.exposure_s, found.exposure_s, "s", step=20e-6)
        read_back("gain", settings.gain_db, found.gain_db, "dB", step=max(0.1, 0.51 * (self._db_per_unit or 0.0)))
        if found.roi != roi:
            raise DeviceError(
                f"the region was set to {roi} and reads back {found.roi}; choose one in the steps of the camera."
            )
        return found

    def _set_text(self, feature: str, wanted: str) -> None:
        self._here().set_text(feature, wanted)
        found = self._here().text(feature)
        if found != wanted:
            raise DeviceError(
                f"{feature} was set to {wanted} and reads back {found}; the camera does not do what it is told."
            )

    def _exposed(self, bits: int, roi: tuple[int, int, int, int]) -> CameraSettings:
        """Exposure and gain as they read back, beside depth and region."""
        wire = self._here()
        gain_db = self._db_per_unit * wire.gain() if self._db_per_unit else 0.0
        return CameraSettings(wire.exposure_us() * 1e-6, gain_db, bits, roi)

    def _frame(self, arrived: Arrived) -> Frame:
        arrived_s = self._clock()
        self._fresh = True
        raw = arrived.raw_id
        if arrived.damage or raw is None:
            if raw is not None:
                self._order.advance(raw)
            name = "a frame" if raw is None else f"frame {raw}"
            raise DeviceError(
                f"{name} of camera {self._serial} came damaged: {arrived.damage}. Where this happens often, look at "
                "cable, switch and packet size."
            )
        wanted = self._found
        if (
            wanted is None
            or arrived.region != wanted.roi
            or arrived.pixel_format != _FORMATS[self._offered[wanted.bits]]
        ):
            raise DeviceError(
                f"frame {raw} shows region {arrived.region} in pixel format {arrived.pixel_format:#x}, and {wanted} "
                "was read back; another program must have set the camera."
            )
        settings = self._exposed(wanted.bits, arrived.region)
        _, _, width, height = arrived.region
        levels = self._levels(arrived.data, settings.bits, (height, width))
        count = self._order.check(raw, arrived.time_s, levels, settings.bits)
        temperature_c = self._here().number("DeviceTemperature") if self._thermometer else None
        return Frame(levels, settings.bits, count, arrived.time_s, arrived_s, settings, temperature_c, self._identity)

    def _levels(self, data: bytes, bits: int, shape: tuple[int, int]) -> Levels:
        wide = bits > 8
        if len(data) != shape[0] * shape[1] * (2 if wide else 1):
            raise DeviceError(f"a frame of {shape[0]} x {shape[1]} values of {bits} bits came with {len(data)} bytes.")
        if not wide:
            return np.frombuffer(data, np.uint8).reshape(shape)
        words = np.frombuffer(data, "<u2").astype(np.uint16, copy=False).reshape(shape)
        left = self._mono16_left and self._offered[bits] == "Mono16"
        return right_justified(words, bits, left=left)
