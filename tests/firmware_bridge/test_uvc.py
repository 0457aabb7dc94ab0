"""UVC cameras against a capture object of this file, on a clock of the test; ``test_uvc_opencv`` has OpenCV's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from firmware_bridge.devices.uvc import UvcCamera, find_video
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Camera, CameraSettings, Origin

SIZE = (48, 64)


class Fake:
    """A camera as OpenCV shows it: 20 frames a second on a clock that passes with the frames."""

    def __init__(self) -> None:
        self.values = {
            cv2.CAP_PROP_AUTO_EXPOSURE: 3.0,
            cv2.CAP_PROP_AUTO_WB: 1.0,
            cv2.CAP_PROP_AUTOFOCUS: -1.0,
            cv2.CAP_PROP_GAMMA: 120.0,
            cv2.CAP_PROP_GAIN: 16.0,
            cv2.CAP_PROP_EXPOSURE: 156.0,
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"MJPG")),
            cv2.CAP_PROP_FRAME_WIDTH: float(SIZE[1]),
            cv2.CAP_PROP_FRAME_HEIGHT: float(SIZE[0]),
            cv2.CAP_PROP_FPS: 20.0,
            cv2.CAP_PROP_CONVERT_RGB: 1.0,
        }
        self.formats = {"GREY", "MJPG", "Y16 "}
        self.deaf: set[int] = set()
        self.now_s = 500.0
        self.stamp_s = 500.0
        self.opened, self.frozen, self.unplugged, self.stuck = True, False, False, False
        self.shift = 0
        self.missing = 0
        self._rng = np.random.default_rng(4)
        self._picture: np.ndarray | None = None

    def clock(self) -> float:
        return self.now_s

    def isOpened(self) -> bool:
        return self.opened

    def release(self) -> None:
        self.opened = False

    def get(self, name: int) -> float:
        return self.stamp_s * 1e3 if name == cv2.CAP_PROP_POS_MSEC else self.values.get(name, -1.0)

    def set(self, name: int, value: float) -> bool:
        known = name in self.values and name not in self.deaf
        if name == cv2.CAP_PROP_FOURCC:
            known = any(cv2.VideoWriter.fourcc(*text) == int(value) for text in self.formats)
        if known:
            self.values[name] = float(value)
        return known

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.unplugged:
            return False, None
        period_s = 1 / self.values[cv2.CAP_PROP_FPS]
        self.now_s += period_s * (1 + self.missing)
        if self.frozen:
            return True, self._picture
        self.stamp_s = self.now_s
        if self._picture is None or not self.stuck:
            wide = int(self.values[cv2.CAP_PROP_FOURCC]) == cv2.VideoWriter.fourcc(*"Y16 ")
            top = 4096 if wide else 256
            # Light is proportional to exposure.
            mean = 0.5 * self.values[cv2.CAP_PROP_EXPOSURE]
            values = self._rng.normal(mean, 3, SIZE).clip(0, top - 1)
            self._picture = values.astype(np.uint16) << self.shift if wide else values.astype(np.uint8)
        return True, self._picture


@pytest.fixture
def fake() -> Fake:
    return Fake()


def opened(fake: Fake, **options: Any) -> UvcCamera:
    def plug() -> Fake:
        fake.opened = True
        return fake

    return UvcCamera.emulated(plug, "C920", clock=fake.clock, **options)


def test_everything_automatic_is_off_and_exposure_counts_in_100_us(fake: Fake) -> None:
    camera = opened(fake)
    assert isinstance(camera, Camera) and camera.identify().origin is Origin.emulated
    found = camera.configure(CameraSettings(0.01004))
    assert found == CameraSettings(found.exposure_s, 0.0, 8, (0, 0, 64, 48))
    assert found.exposure_s == pytest.approx(0.01)
    assert fake.values[cv2.CAP_PROP_EXPOSURE] == 100
    off = {cv2.CAP_PROP_AUTO_EXPOSURE: 1, cv2.CAP_PROP_AUTO_WB: 0, cv2.CAP_PROP_GAMMA: 100, cv2.CAP_PROP_GAIN: 0}
    assert {name: fake.values[name] for name in off} == off
    assert fake.values[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert all(check.passed for check in camera.selftest())
    camera.close()
    camera.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (cv2.CAP_PROP_AUTO_EXPOSURE, "automatic exposure was set to 1 and reads back 3"),
        (cv2.CAP_PROP_AUTO_WB, "automatic white balance was set to 0 and reads back 1"),
        (cv2.CAP_PROP_GAMMA, "gamma was set to 100 and reads back 120"),
        (cv2.CAP_PROP_GAIN, "gain was set to 0 and reads back 16"),
        (cv2.CAP_PROP_EXPOSURE, r"exposure was set to 0\.01 s and reads back 0\.0156 s; the camera does not do"),
    ],
)
def test_a_camera_that_lies_is_refused(fake: Fake, name: int, message: str) -> None:
    fake.deaf.add(name)
    with pytest.raises(DeviceError, match=message):
        opened(fake).configure(CameraSettings(0.01))


def test_what_uvc_cannot_do_is_refused(fake: Fake) -> None:
    camera = opened(fake)
    for settings, message in (
        (CameraSettings(0.01, gain_db=6.0), "tells no unit of gain; set 0 dB"),
        (CameraSettings(0.01, roi=(0, 0, 8, 8)), "UVC has no regions"),
        (CameraSettings(0.01, bits=12), r"sends 12 bits in none of the formats \(\)"),
    ):
        with pytest.raises(DeviceError, match=message):
            camera.configure(settings)
    fake.formats = {"MJPG"}
    with pytest.raises(DeviceError, match=r"in none of the formats \('GREY', 'YUYV'\); compressed"):
        camera.configure(CameraSettings(0.01))
    with pytest.raises(DeviceError, match="does not expose; call start"):
        camera.grab(1.0)


def test_a_frame_begins_after_the_call_and_gaps_are_counted(fake: Fake) -> None:
    camera = opened(fake)
    camera.configure(CameraSettings(0.08))
    camera.start()
    called_s = fake.now_s
    first = camera.grab(1.0)
    assert first.device_time_s is not None and first.device_time_s - 0.08 >= called_s
    # Frames of 50 ms: those stamped 50 ms after the call began before it.
    assert first.frame_id == 2
    fake.missing = 3
    assert camera.grab(1.0).frame_id == 6
    fake.missing = 0
    assert first.levels.mean() == pytest.approx(0.5 * 800 if 0.5 * 800 < 256 else 255, abs=0.5)
    with pytest.raises(DeviceError, match=r"no frame that began after the call came in 0\.01 s"):
        camera.grab(0.01)


def test_exposure_doubles_the_light(fake: Fake) -> None:
    camera = opened(fake)
    means = []
    for exposure_s in (0.01, 0.02):
        camera.configure(CameraSettings(exposure_s))
        camera.start()
        means.append(camera.grab(1.0).levels.mean() + 0.5)
    assert means[1] / means[0] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("left", [False, True])
def test_twelve_bits_in_words_of_sixteen(fake: Fake, left: bool) -> None:
    fake.shift = 4 if left else 0
    camera = opened(fake, y16_bits=12, y16_left=left)
    camera.configure(CameraSettings(0.2, bits=12))
    camera.start()
    frame = camera.grab(5.0)
    assert frame.levels.dtype == np.uint16 and frame.levels.mean() == pytest.approx(1000, abs=2)
    wrong = opened(fake, y16_bits=12, y16_left=not left)
    wrong.configure(CameraSettings(0.2, bits=12))
    wrong.start()
    with pytest.raises(DeviceError, match="justifie"):
        wrong.grab(5.0)


def test_a_frozen_picture_is_found_by_its_time_stamp(fake: Fake) -> None:
    camera = opened(fake)
    camera.configure(CameraSettings(0.01))
    camera.start()
    camera.grab(1.0)
    fake.frozen = True
    with pytest.raises(DeviceError, match=r"time stamp of camera C920 stands at 500\.\d+ s .* the picture is frozen"):
        camera.grab(1.0)
    fake.frozen = False
    camera.start()
    assert camera.grab(1.0).frame_id == 1


def test_a_frozen_picture_is_found_by_its_noise(fake: Fake) -> None:
    camera = opened(fake)
    camera.configure(CameraSettings(0.01))
    camera.start()
    camera.grab(1.0)
    fake.stuck = True
    with pytest.raises(DeviceError, match="the very values of the frame before it, noise included"):
        camera.grab(1.0)


def test_an_unplugged_camera_and_one_on_another_clock(fake: Fake) -> None:
    camera = opened(fake)
    camera.configure(CameraSettings(0.01))
    camera.start()
    fake.unplugged = True
    with pytest.raises(DeviceError, match=r"camera C920 brings no frames\. Is it plugged in"):
        camera.grab(1.0)
    with pytest.raises(DeviceError, match="call start"):
        camera.grab(1.0)
    fake.unplugged = False
    camera.configure(CameraSettings(0.01))
    camera.start()
    assert camera.grab(1.0).frame_id == 1
    other = UvcCamera.emulated(lambda: fake, "C920", clock=lambda: 1.7e9)
    other.configure(CameraSettings(0.01))
    other.start()
    with pytest.raises(DeviceError, match="without a common clock nobody knows when a frame began"):
        other.grab(1.0)
    other.close()
    with pytest.raises(DeviceError, match="camera C920 was closed; open it again"):
        other.configure(CameraSettings(0.01))


def test_a_camera_that_does_not_open_is_refused(fake: Fake) -> None:
    fake.opened = False
    with pytest.raises(DeviceError, match="cannot be opened; is it in use"):
        UvcCamera.emulated(lambda: fake, "C920", clock=fake.clock)


def kernel(root: Path, cameras: dict[str, tuple[str, str]]) -> Path:
    """A folder of video devices as the kernel lists them."""
    listed = root / "class"
    listed.mkdir(parents=True)
    for name, (serial, index) in cameras.items():
        usb = root / f"usb-{name}"
        interface = usb / "1.0"
        interface.mkdir(parents=True)
        (usb / "serial").write_text(serial + "\n")
        (usb / "product").write_text("Webcam\n")
        (listed / name).mkdir()
        (listed / name / "index").write_text(index + "\n")
        (listed / name / "device").symlink_to(interface)
    return listed


def test_it_is_found_by_its_serial_number(tmp_path: Path) -> None:
    root = kernel(tmp_path, {"video0": ("A", "0"), "video1": ("A", "1"), "video2": ("B", "0"), "video3": ("B", "0")})
    assert find_video("A", root) == ("/dev/video0", "Webcam")
    with pytest.raises(DeviceError, match=r"no USB camera has the serial number 'C'; present are \['A', 'B', 'B'\]"):
        find_video("C", root)
    with pytest.raises(DeviceError, match=r"2 cameras have the serial number 'B': \['video2', 'video3'\]. Unplug"):
        find_video("B", root)
