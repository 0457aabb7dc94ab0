"""Cameras with GenICam over Ethernet (GigE Vision) or USB (USB3 Vision), through libaravis.

A frame is exposed by a software trigger in :meth:`GenicamCamera.grab`, so it never began before the call. A camera
that loses its cable, or whose program dies, is lost until :meth:`GenicamCamera.configure` or
:meth:`GenicamCamera.start` is called; that opens it anew, waits until an earlier holder of its control has run out, and
sets everything again.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable

import numpy as np

from firmware_bridge.devices import aravis
from firmware_bridge.devices.frames import GIGE_HIGH, FrameOrder, check_settings, read_back, right_justified
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import CameraCapabilities, CameraSettings, Check, Frame, Identity, Levels, Origin

_BUFFERS = 4
_RETRY_S = 0.2
# Numbers of the pixel formats that hold one unpacked value per pixel (GenICam Pixel Format Naming Convention).
_FORMATS = {"Mono8": 0x01080001, "Mono10": 0x01100003, "Mono12": 0x01100005, "Mono14": 0x01100025, "Mono16": 0x01100007}
# What changes a picture by itself; each is switched off where a camera has it.
_AUTOMATIC = ("ExposureAuto", "GainAuto", "BlackLevelAuto", "BalanceWhiteAuto")


class _Held(DeviceError):
    """Another program holds the control of the camera, or held it and died."""


class GenicamCamera:
    """A camera found by its serial number.

    A camera that answers from this machine, or says that Aravis made it, is a program: its origin is ``emulated``.

    Args:
        serial: serial number.
        mono16_bits: significant bits of pixel format Mono16.
        mono16_left: whether Mono16 has them in the upper bits of a word.
        gain_step_db: gain of one step, for a camera that has raw gain only; without it such a camera stays at raw 0.
        patience_s: how long to wait while another program holds it; one that died does so for some seconds.
        clock, sleep: monotonic clock of the host, in s.

    Raises:
        DeviceError: It is not there, there are two, or another program holds it; or libaravis is not installed.
    """

    def __init__(
        self,
        serial: str,
        *,
        mono16_bits: int = 16,
        mono16_left: bool = False,
        gain_step_db: float | None = None,
        patience_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._serial = serial
        self._mono16_bits = mono16_bits
        self._mono16_left = mono16_left
        self._gain_step_db = gain_step_db
        self._patience_s = patience_s
        self._clock = clock
        self._sleep = sleep
        self._camera: int | None = None
        self._stream: int | None = None
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
        running = self._stream is not None
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
        if self._stream is not None:
            return
        gige = bool(aravis.call("arv_camera_is_gv_device", self._here()))
        self._order = FrameOrder(GIGE_HIGH if gige else None)
        self._begin()

    def _begin(self) -> None:
        camera = self._here()
        stream = aravis.call("arv_camera_create_stream", camera, None, None)
        payload = aravis.call("arv_camera_get_payload", camera)
        for _ in range(_BUFFERS):
            aravis.call("arv_stream_push_buffer", stream, aravis.call("arv_buffer_new_allocate", payload))
        self._stream = stream
        self._fresh = True
        aravis.call("arv_camera_start_acquisition", camera)

    def grab(self, timeout_s: float) -> Frame:
        """Trigger and wait for the frame; see :meth:`Camera.grab`."""
        if self._stream is None:
            raise DeviceError(f"camera {self._serial} does not expose; call start() before grab().")
        if self._lost():
            raise self._no_frame("nothing can be triggered")
        if not self._fresh:
            # An old trigger may still bring its frame: only a new stream is sure to bring none but new ones.
            self.stop()
            self._order.restart()
            self._begin()
        until_s = self._clock() + timeout_s
        self._fresh = False
        try:
            aravis.call("arv_camera_software_trigger", self._here())
        except DeviceError as error:
            self._gone = True
            raise self._no_frame(str(error).rstrip(".")) from error
        wait_us = max(round((until_s - self._clock()) * 1e6), 0)
        buffer = aravis.call("arv_stream_timeout_pop_buffer", self._stream, wait_us)
        if buffer is None:
            raise self._no_frame(f"no frame came in {timeout_s:g} s")
        try:
            frame = self._frame(buffer)
        finally:
            aravis.call("arv_stream_push_buffer", self._stream, buffer)
        return frame

    def stop(self) -> None:
        """End exposing; may be called again."""
        if self._stream is None:
            return
        if not self._lost():
            with contextlib.suppress(DeviceError):
                # A camera that is lost cannot be told; it stops by itself when the control runs out.
                aravis.call("arv_camera_stop_acquisition", self._camera)
        aravis.call("g_object_unref", self._stream)
        self._stream = None

    def safe(self) -> None:
        """End exposing."""
        self.stop()

    def close(self) -> None:
        """End exposing and let go of it; may be called again."""
        self._closed = True
        self._release()

    def selftest(self) -> list[Check]:
        """Settings that read back, a frame that comes, and a second one after it."""
        can = self._capabilities
        low_s, high_s = can.exposure_s
        wanted_s = min(max(0.01, low_s), high_s)
        found = self.configure(CameraSettings(wanted_s, can.gain_db[0], can.bits[0]))
        checks = [Check("camera reads back", True, f"exposure {found.exposure_s:g} s, gain {found.gain_db:g} dB")]
        self.start()
        try:
            first, second = self.grab(5.0), self.grab(5.0)
            step = second.frame_id - first.frame_id
            checks.append(Check("camera counts", step == 1, f"two frames, whose ids differ by {step}"))
        except DeviceError as error:
            checks.append(Check("camera counts", False, str(error)))
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
            except _Held:
                self._release()
                if self._clock() >= until_s:
                    raise
            self._sleep(_RETRY_S)

    def _try_open(self) -> None:
        aravis.call("arv_update_device_list")
        here = range(aravis.call("arv_get_n_devices"))
        serials = [aravis.text("arv_get_device_serial_nbr", index) for index in here]
        found = [index for index in here if serials[index] == self._serial]
        if not found:
            raise DeviceError(
                f"no GenICam camera has the serial number {self._serial!r}; present are {sorted(serials)}. Is it "
                "plugged in, and in the network of this machine?"
            )
        if len(found) > 1:
            names = [aravis.text("arv_get_device_id", index) for index in found]
            raise DeviceError(
                f"{len(found)} cameras have the serial number {self._serial!r}: {names}. Unplug all but one; a bench "
                "is not opened by guessing."
            )
        vendor, model, address = (
            aravis.text(f"arv_get_device_{what}", found[0]) for what in ("vendor", "model", "address")
        )
        camera = aravis.call("arv_camera_new", aravis.text("arv_get_device_id", found[0]).encode())
        self._camera = camera
        if self._lost():
            raise _Held(
                f"another program controls camera {self._serial}, or did until a moment ago; close it, then open again."
            )
        self._db_per_unit = 1.0 if self._has("Gain") else self._gain_step_db if self._has("GainRaw") else None
        self._offered = self._formats()
        self._capabilities = self._ask()
        self._thermometer = self._has("DeviceTemperature")
        firmware = aravis.text("arv_camera_get_string", camera, b"DeviceVersion") if self._has("DeviceVersion") else ""
        emulated = vendor == "Aravis" or _on_this_machine(address)
        self._identity = Identity(
            "camera",
            f"{vendor} {model}",
            self._serial,
            firmware,
            Origin.emulated if emulated else Origin.bench,
        )

    def _ask(self) -> CameraCapabilities:
        camera = self._here()
        width, height = aravis.integers("arv_camera_get_sensor_size", camera, 2)
        low_us, high_us = aravis.bounds("arv_camera_get_exposure_time_bounds", camera)
        low_db, high_db = 0.0, 0.0
        if self._db_per_unit:
            low_db, high_db = (self._db_per_unit * end for end in aravis.bounds("arv_camera_get_gain_bounds", camera))
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
        if self._camera is not None and not self._lost():
            return False
        self._release()
        self._open()
        return True

    def _release(self) -> None:
        self.stop()
        if self._camera is not None:
            aravis.call("g_object_unref", self._camera)
            self._camera = None
        self._gone = False

    def _here(self) -> int:
        if self._camera is None:
            raise DeviceError(f"camera {self._serial} is not open; call start().")
        return self._camera

    def _lost(self) -> bool:
        camera = self._here()
        if not self._gone and aravis.call("arv_camera_is_gv_device", camera):
            device = aravis.call("arv_camera_get_device", camera)
            self._gone = not aravis.call("arv_gv_device_is_controller", device)
        return self._gone

    def _no_frame(self, why: str) -> DeviceError:
        if self._lost():
            return DeviceError(
                f"{why}: the control of camera {self._serial} is lost. Is it plugged in? Then call start() again; it "
                "counts anew from there."
            )
        return DeviceError(f"{why}; look at cable, exposure and timeout of camera {self._serial}.")

    def _has(self, feature: str) -> bool:
        return bool(aravis.call("arv_camera_is_feature_available", self._here(), feature.encode()))

    def _formats(self) -> dict[int, str]:
        """Depth to the name of the pixel format that brings it unpacked."""
        offered = aravis.pixel_formats(self._here())
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
        camera = self._here()
        if settings.gain_db and not self._db_per_unit:
            raise DeviceError(
                f"camera {self._serial} has no gain in decibels; set 0 dB, or say by gain_step_db what a step is."
            )
        roi = check_settings(settings, self._capabilities)
        for feature in _AUTOMATIC:
            if self._has(feature):
                self._set_text(feature, "Off")
        if self._has("GammaEnable"):
            aravis.call("arv_camera_set_boolean", camera, b"GammaEnable", 0)
            if aravis.call("arv_camera_get_boolean", camera, b"GammaEnable"):
                raise DeviceError(f"camera {self._serial} keeps its gamma on; its values are then no measure of light.")
        # Size and depth stay as they are while it exposes; the caller has seen to it that they need not change.
        if self._stream is None:
            self._set_text("PixelFormat", self._offered[settings.bits])
            aravis.call("arv_camera_set_region", camera, *roi)
            aravis.call("arv_camera_set_trigger", camera, b"Software")
            if aravis.text("arv_camera_get_string", camera, b"TriggerMode") != "On":
                raise DeviceError(
                    f"camera {self._serial} does not wait for a software trigger; without it nobody knows when a frame "
                    "began."
                )
        aravis.call("arv_camera_set_exposure_time", camera, settings.exposure_s * 1e6)
        if self._db_per_unit:
            aravis.call("arv_camera_set_gain", camera, settings.gain_db / self._db_per_unit)
        elif self._has("GainRaw"):
            aravis.call("arv_camera_set_gain", camera, 0.0)
        left, top, width, height = aravis.integers("arv_camera_get_region", camera, 4)
        found = self._exposed(settings.bits, (left, top, width, height))
        read_back("exposure", settings.exposure_s, found.exposure_s, "s", step=20e-6)
        read_back("gain", settings.gain_db, found.gain_db, "dB", step=max(0.1, 0.51 * (self._db_per_unit or 0.0)))
        if found.roi != roi:
            raise DeviceError(
                f"the region was set to {roi} and reads back {found.roi}; choose one in the steps of the camera."
            )
        return found

    def _set_text(self, feature: str, wanted: str) -> None:
        aravis.call("arv_camera_set_string", self._here(), feature.encode(), wanted.encode())
        found = aravis.text("arv_camera_get_string", self._here(), feature.encode())
        if found != wanted:
            raise DeviceError(
                f"{feature} was set to {wanted} and reads back {found}; the camera does not do what it is told."
            )

    def _exposed(self, bits: int, roi: tuple[int, int, int, int]) -> CameraSettings:
        """Exposure and gain as they read back, beside depth and region."""
        camera = self._here()
        gain = aravis.call("arv_camera_get_gain", camera) if self._db_per_unit else 0.0
        exposure_s = aravis.call("arv_camera_get_exposure_time", camera) * 1e-6
        return CameraSettings(exposure_s, gain * (self._db_per_unit or 0.0), bits, roi)

    def _frame(self, buffer: int) -> Frame:
        arrived_s = self._clock()
        self._fresh = True
        raw = aravis.call("arv_buffer_get_frame_id", buffer)
        status = aravis.call("arv_buffer_get_status", buffer)
        if status != aravis.SUCCESS:
            self._order.advance(raw)
            raise DeviceError(
                f"frame {raw} of camera {self._serial} came damaged: {aravis.STATUS.get(status, status)}. Where this "
                "happens often, look at cable, switch and packet size."
            )
        wanted = self._found
        left, top, width, height = roi = aravis.integers("arv_buffer_get_image_region", buffer, 4)
        code = aravis.call("arv_buffer_get_image_pixel_format", buffer)
        if wanted is None or roi != wanted.roi or code != _FORMATS[self._offered[wanted.bits]]:
            raise DeviceError(
                f"frame {raw} shows region {roi} in pixel format {code:#x}, and {wanted} was read back; another "
                "program must have set the camera."
            )
        settings = self._exposed(wanted.bits, (left, top, width, height))
        levels = self._levels(bytes(aravis.data(buffer)), settings.bits, (height, width))
        time_s = aravis.call("arv_buffer_get_timestamp", buffer) * 1e-9 or None
        count = self._order.check(raw, time_s, levels, settings.bits)
        temperature_c = None
        if self._thermometer:
            temperature_c = aravis.call("arv_camera_get_float", self._here(), b"DeviceTemperature")
        return Frame(levels, settings.bits, count, time_s, arrived_s, settings, temperature_c, self._identity)

    def _levels(self, data: bytes, bits: int, shape: tuple[int, int]) -> Levels:
        wide = bits > 8
        if len(data) != shape[0] * shape[1] * (2 if wide else 1):
            raise DeviceError(f"a frame of {shape[0]} x {shape[1]} values of {bits} bits came with {len(data)} bytes.")
        if not wide:
            return np.frombuffer(data, np.uint8).reshape(shape)
        words = np.frombuffer(data, "<u2").astype(np.uint16, copy=False).reshape(shape)
        left = self._mono16_left and self._offered[bits] == "Mono16"
        return right_justified(words, bits, left=left)


def _on_this_machine(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
