"""USB cameras without own drivers (UVC), through V4L2 as OpenCV brings it.

Such cameras run freely; :meth:`UvcCamera.grab` throws frames away until one began after the call, by the time stamp
that the kernel gives it. OpenCV hides the kernel's count of frames, so the count here is made of the time stamps and
the frame rate. It goes on reading the last picture of a camera that was pulled out; time stamps that stand still, or
values that repeat with their noise, are therefore refused.

What changes a picture by itself is switched off and read back. Values are those of a single plane without compression:
formats GREY, YUYV (its luma) and Y16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

import cv2
import numpy as np

from firmware_bridge.devices.frames import FrameOrder, read_back, right_justified
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import CameraCapabilities, CameraSettings, Frame, Identity, Levels, Origin
from ground.gates import Gate

# V4L2_CID_EXPOSURE_ABSOLUTE counts in 100 µs, V4L2_EXPOSURE_MANUAL is 1, and UVC writes gamma in hundredths.
_UNIT_S = 100e-6
_MANUAL = 1
_LINEAR = 100
_ABSENT = -1
# By how much a time stamp may differ from the host's clock before it must be another clock.
_CLOCK_S = 60.0
_LONGEST_S = 10.0
_SYSFS = Path("/sys/class/video4linux")

# Depth and format: what is asked for, first what holds the values of pixels unaltered.
_FORMATS = {8: ("GREY", "YUYV"), 16: ("Y16 ",)}


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...  # noqa: D102

    def get(self, name: int) -> float: ...  # noqa: D102

    def set(self, name: int, value: float) -> bool: ...  # noqa: D102

    def read(self) -> tuple[bool, Any]: ...  # noqa: D102

    def release(self) -> None: ...  # noqa: D102


def find_video(serial: str, root: Path = _SYSFS) -> tuple[str, str]:
    """Device file and product name of the camera with this serial number; a number of a file is never guessed.

    Args:
        serial: Serial number, as the USB descriptor tells it.
        root: Folder in which the kernel lists video devices.

    Raises:
        DeviceError: There is none, or there are two.
    """
    present: dict[str, tuple[str, str]] = {}
    for entry in sorted(root.glob("video*")):
        usb = (entry / "device").resolve().parent
        number = _line(usb / "serial")
        # Index 0 brings pictures; the others bring metadata of the same camera.
        if number and _line(entry / "index") == "0":
            present[entry.name] = (number, _line(usb / "product") or "UVC camera")
    found = [name for name, (number, _) in present.items() if number == serial]
    if not found:
        raise DeviceError(
            f"no USB camera has the serial number {serial!r}; present are {sorted(n for n, _ in present.values())}. Is "
            "it plugged in? Cameras without a number cannot be told apart, and are not used."
        )
    if len(found) > 1:
        raise DeviceError(
            f"{len(found)} cameras have the serial number {serial!r}: {found}. Unplug all but one; a bench is not "
            "opened by guessing."
        )
    return f"/dev/{found[0]}", present[found[0]][1]


class UvcCamera:
    """A camera with V4L2. Made by :meth:`usb` or :meth:`emulated`, which decide its origin.

    Depth 16 is format Y16: with ``bits`` of the camera at the lower or upper end of a word.
    """

    def __init__(
        self,
        find: Callable[[], tuple[Capture, str]],
        serial: str,
        origin: Origin,
        *,
        y16_bits: int,
        y16_left: bool,
        clock: Callable[[], float],
    ) -> None:
        self._find = find
        self._serial = serial
        self._origin = origin
        self._y16_bits = y16_bits
        self._y16_left = y16_left
        self._clock = clock
        self._capture: Capture | None = None
        self._settings: CameraSettings | None = None
        self._format = ""
        self._running = False
        self._closed = False
        self._order = FrameOrder()
        self._count = 0
        self._last_s: float | None = None
        self._open()

    @classmethod
    def usb(
        cls,
        serial: str,
        *,
        y16_bits: int = 16,
        y16_left: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """A real camera, found by its serial number each time that it is opened.

        Args:
            serial: Serial number, as the USB descriptor tells it.
            y16_bits: Significant bits of format Y16.
            y16_left: Whether Y16 has them in the upper bits of a word.
            clock: Monotonic clock of the host, in s, by which the kernel stamps frames too.

        Raises:
            DeviceError: It is not there, there are two, or it cannot be opened.
        """

        def find() -> tuple[Capture, str]:
            path, product = find_video(serial)
            return cv2.VideoCapture(path, cv2.CAP_V4L2), product

        return cls(find, serial, Origin.bench, y16_bits=y16_bits, y16_left=y16_left, clock=clock)

    @classmethod
    def emulated(
        cls,
        open_capture: Callable[[], Capture],
        serial: str,
        *,
        y16_bits: int = 16,
        y16_left: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """A camera that is a program.

        Args:
            open_capture: Opens the device.
            serial: Serial number that it shall tell.
            y16_bits: Significant bits of format Y16.
            y16_left: Whether Y16 has them in the upper bits of a word.
            clock: Monotonic clock of the host, in s.
        """

        def find() -> tuple[Capture, str]:
            return open_capture(), "emulated UVC camera"

        return cls(find, serial, Origin.emulated, y16_bits=y16_bits, y16_left=y16_left, clock=clock)

    def identify(self) -> Identity:
        """Which device this is."""
        return self._identity

    def capabilities(self) -> CameraCapabilities:
        """What it can do. UVC tells no unit of gain, which therefore stays at its lowest."""
        return CameraCapabilities(
            width=self._width,
            height=self._height,
            bits=(8, self._y16_bits),
            exposure_s=(_UNIT_S, _LONGEST_S),
            gain_db=(0.0, 0.0),
        )

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Set it, read everything back, and return what was read; see :meth:`Camera.configure`."""
        self._revive()
        capture = self._here()
        if settings.gain_db:
            raise DeviceError("UVC tells no unit of gain; set 0 dB, which is the lowest gain of the camera.")
        if settings.roi not in (None, (0, 0, self._width, self._height)):
            raise DeviceError(f"UVC has no regions; leave roi out, or write (0, 0, {self._width}, {self._height}).")
        self._set("automatic exposure", cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL, needed=True)
        self._set("automatic white balance", cv2.CAP_PROP_AUTO_WB, 0)
        self._set("automatic focus", cv2.CAP_PROP_AUTOFOCUS, 0)
        self._set("gamma", cv2.CAP_PROP_GAMMA, _LINEAR)
        self._set("gain", cv2.CAP_PROP_GAIN, 0)
        self._format = self._set_format(settings.bits)
        units = max(round(settings.exposure_s / _UNIT_S), 1)
        capture.set(cv2.CAP_PROP_EXPOSURE, units)
        found_s = capture.get(cv2.CAP_PROP_EXPOSURE) * _UNIT_S
        read_back("exposure", settings.exposure_s, found_s, "s", step=_UNIT_S / 2)
        self._settings = CameraSettings(found_s, 0.0, settings.bits, (0, 0, self._width, self._height))
        return self._settings

    def start(self) -> None:
        """Begin to expose; a camera that was lost is opened and set anew."""
        if self._settings is None:
            raise DeviceError(f"camera {self._serial} was not set; call configure() before start().")
        if self._capture is None:
            self.configure(self._settings)
        if not self._running:
            self._order = FrameOrder()
            self._count = 0
            self._last_s = None
        self._running = True

    def grab(self, timeout_s: float) -> Frame:
        """The next frame that began after this call; see :meth:`Camera.grab`."""
        settings = self._settings
        if settings is None or not self._running:
            raise DeviceError(f"camera {self._serial} does not expose; call start() before grab().")
        capture = self._here()
        called_s = self._clock()
        while True:
            try:
                came, picture = capture.read()
            except cv2.error:
                # OpenCV asserts what a driver answers.
                came, picture = False, None
            arrived_s = self._clock()
            if not came:
                self._lose()
                raise DeviceError(f"camera {self._serial} brings no frames. Is it plugged in? Then call start() again.")
            time_s = self._stamp(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e-3, arrived_s)
            if time_s - settings.exposure_s >= called_s:
                break
            if arrived_s - called_s > timeout_s:
                raise DeviceError(f"no frame that began after the call came in {timeout_s:g} s; wait longer.")
        found_s = capture.get(cv2.CAP_PROP_EXPOSURE) * _UNIT_S
        read_back("exposure", settings.exposure_s, found_s, "s", step=_UNIT_S / 2)
        levels = self._levels(picture, settings.bits)
        self._order.check(self._count, time_s, levels, settings.bits)
        return Frame(levels, settings.bits, self._count, time_s, arrived_s, settings, None, self._identity)

    def stop(self) -> None:
        """End exposing; may be called again."""
        self._running = False

    def safe(self) -> None:
        """End exposing."""
        self.stop()

    def close(self) -> None:
        """End exposing and let go of it; may be called again."""
        self._closed = True
        self._lose()

    def selftest(self) -> list[Gate]:
        """Settings that read back, and two frames one after the other."""
        found = self.configure(CameraSettings(0.01))
        checks = [Gate("camera reads back", True, f"exposure {found.exposure_s:g} s, nothing automatic")]
        self.start()
        try:
            first, second = self.grab(5.0), self.grab(5.0)
            step = second.frame_id - first.frame_id
            checks.append(Gate("camera counts", step > 0, f"two frames, whose counts differ by {step}"))
        except DeviceError as error:
            checks.append(Gate("camera counts", False, str(error)))
        finally:
            self.stop()
        return checks

    def _open(self) -> None:
        capture, product = self._find()
        if not capture.isOpened():
            capture.release()
            raise DeviceError(
                f"camera {self._serial} cannot be opened; is it in use, or is this user not in the group that owns it "
                "(often video)?"
            )
        self._capture = capture
        # As the camera sends it: OpenCV would make colours of it, and hide depth and compression.
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        self._width, self._height = (
            int(capture.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        self._identity = Identity("camera", product, self._serial, "", self._origin)

    def _revive(self) -> None:
        if self._closed:
            raise DeviceError(f"camera {self._serial} was closed; open it again.")
        if self._capture is None:
            self._open()

    def _lose(self) -> None:
        self._running = False
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _here(self) -> Capture:
        if self._capture is None:
            raise DeviceError(f"camera {self._serial} is not open; call start().")
        return self._capture

    def _set(self, what: str, name: int, wanted: float, *, needed: bool = False) -> None:
        capture = self._here()
        if not needed and capture.get(name) == _ABSENT:
            return
        capture.set(name, wanted)
        found = capture.get(name)
        if found != wanted:
            raise DeviceError(
                f"{what} was set to {wanted:g} and reads back {found:g}; the values of such a camera are no measure of "
                "light. Switch it off with v4l2-ctl, or use another camera."
            )

    def _set_format(self, bits: int) -> str:
        capture = self._here()
        wanted = _FORMATS[8] if bits == 8 else _FORMATS[16] if bits == self._y16_bits else ()
        for name in wanted:
            code = cv2.VideoWriter.fourcc(*name)
            capture.set(cv2.CAP_PROP_FOURCC, code)
            if int(capture.get(cv2.CAP_PROP_FOURCC)) == code:
                return name
        raise DeviceError(
            f"camera {self._serial} sends {bits} bits in none of the formats {wanted}; compressed and coloured "
            "pictures are refused."
        )

    def _stamp(self, time_s: float, now_s: float) -> float:
        if abs(now_s - time_s) > _CLOCK_S:
            raise DeviceError(
                f"a frame is stamped {time_s:.3f} s and the host's monotonic clock shows {now_s:.3f} s; without a "
                "common clock nobody knows when a frame began."
            )
        last_s, self._last_s = self._last_s, time_s
        if last_s is None:
            self._count = 1
            return time_s
        if time_s <= last_s:
            self._lose()
            raise DeviceError(
                f"the time stamp of camera {self._serial} stands at {time_s:.6f} s after {last_s:.6f} s; the picture "
                "is frozen. Unplug the camera, plug it in and call start() again."
            )
        rate_hz = self._here().get(cv2.CAP_PROP_FPS)
        self._count += max(round((time_s - last_s) * rate_hz), 1) if rate_hz > 0 else 1
        return time_s

    def _levels(self, picture: Any, bits: int) -> Levels:
        values = np.asarray(picture)
        if self._format == "YUYV" and values.shape == (self._height, self._width, 2):
            values = values[..., 0]
        if values.size != self._height * self._width:
            raise DeviceError(
                f"a frame of {self._height} x {self._width} values in format {self._format} came as {values.shape} of "
                f"{values.dtype}."
            )
        values = values.reshape(self._height, self._width)
        if bits == 8:
            return values.astype(np.uint8)
        return right_justified(values.astype(np.uint16), bits, left=self._y16_left)


def _line(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""
