"""The GenICam driver over GenTL: harvesters and GenApi as they are, and a producer whose every value is known."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.devices.gentl import VARIABLE, gentl_camera
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Camera, CameraSettings, Origin
from tests.firmware_bridge.gentl_doubles import gentl_producer

SERIAL = "GT0001"
SETTINGS = CameraSettings(2e-3, 0.0, 12)
WHOLE = (0, 0, 64, 48)


@pytest.fixture(scope="module")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gentl_producer(tmp_path_factory.mktemp("gentl"))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Names the faults of the producer; see the head of its source."""

    def name(words: str) -> None:
        monkeypatch.setenv("GENTL_DOUBLE", words)

    name("")
    return name


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[str]]:
    """What was opened in the producer and not closed, in this order."""
    path = tmp_path / "journal"
    monkeypatch.setenv("GENTL_DOUBLE_LOG", str(path))

    def still_open() -> list[str]:
        things: list[str] = []
        for line in path.read_text().splitlines():
            act, thing = line.split()
            if act == "open":
                things.append(thing)
            else:
                things.remove(thing)
        return things

    return still_open


@pytest.fixture
def camera(producer: Path, faults: Callable[[str], None]) -> Iterator[GenicamCamera]:
    opened = gentl_camera(SERIAL, producer=str(producer))
    yield opened
    opened.close()


def expected(number: int, settings: CameraSettings) -> np.ndarray:
    """What frame ``number`` after a start shows, by the formula in the head of the producer."""
    left, top, width, height = settings.roi or WHOLE
    y, x = np.mgrid[top : top + height, left : left + width]
    light = int(settings.exposure_s * 1e6 * 10 ** (settings.gain_db / 20) / 4 + 1e-6)
    return np.minimum(light + (7 * x + 13 * y + 31 * number) % 61, 2**settings.bits - 1)


def begin(camera: GenicamCamera, settings: CameraSettings = SETTINGS) -> None:
    camera.configure(settings)
    camera.start()


def test_it_says_what_it_is(camera: GenicamCamera) -> None:
    assert isinstance(camera, Camera)
    identity, can = camera.identify(), camera.capabilities()
    assert (identity.kind, identity.model, identity.serial) == ("camera", "OptiShield Double", SERIAL)
    assert (identity.firmware, identity.origin) == ("1.5-double", Origin.emulated)
    assert (can.width, can.height, can.bits) == (64, 48, (8, 10, 12, 16))
    assert can.gain_db == (0.0, 24.0) and can.exposure_s == pytest.approx((10e-6, 1.0))
    assert all(check.passed for check in camera.selftest())


@pytest.mark.parametrize("wire", ["usb", "ethernet"])
def test_only_a_wire_makes_it_real(producer: Path, faults: Callable[[str], None], wire: str) -> None:
    faults(wire)
    camera = gentl_camera(SERIAL, producer=str(producer))
    assert camera.identify().origin is Origin.bench
    camera.close()


@pytest.mark.parametrize(
    "settings",
    [
        CameraSettings(800e-6, 0.0, 8),
        CameraSettings(100e-6, 20.0, 10),
        CameraSettings(2e-3, 6.0, 12),
        CameraSettings(0.1, 0.0, 16, (8, 5, 32, 20)),
        CameraSettings(1.0, 0.0, 12, (60, 47, 4, 1)),
    ],
)
def test_frames_show_what_was_set(camera: GenicamCamera, settings: CameraSettings) -> None:
    found = camera.configure(settings)
    assert (found.exposure_s, found.gain_db) == pytest.approx((settings.exposure_s, settings.gain_db))
    assert (found.bits, found.roi) == (settings.bits, settings.roi or WHOLE)
    camera.start()
    for number in range(3):
        frame = camera.grab(5.0)
        assert frame.levels.dtype == (np.uint8 if settings.bits == 8 else np.uint16)
        np.testing.assert_array_equal(frame.levels, expected(number, settings))
        assert (frame.frame_id, frame.settings, frame.temperature_c) == (number, found, 31.5)


@pytest.mark.parametrize(("kind", "first"), [("", 0), ("old", 0), ("ethernet", 65530)])
def test_ids_and_times_rise(producer: Path, faults: Callable[[str], None], kind: str, first: int) -> None:
    faults(kind)
    camera = gentl_camera(SERIAL, producer=str(producer))
    begin(camera)
    frames = [camera.grab(5.0) for _ in range(100)]
    camera.close()
    assert [frame.frame_id for frame in frames] == list(range(first, first + 100))
    times_s = [frame.device_time_s or 0.0 for frame in frames]
    assert (np.diff(times_s) > 0).all() and (np.diff([frame.host_time_s for frame in frames]) > 0).all()
    # This camera has the clock of the host.
    assert times_s == pytest.approx([frame.host_time_s for frame in frames], abs=5.0)


def test_exposure_and_gain_change_while_it_exposes_and_size_by_stopping(camera: GenicamCamera) -> None:
    begin(camera)
    camera.grab(5.0)
    brighter = CameraSettings(4e-3, 6.0, 12)
    camera.configure(brighter)
    np.testing.assert_array_equal(camera.grab(5.0).levels, expected(1, brighter))
    smaller = CameraSettings(4e-3, 6.0, 12, (32, 24, 16, 8))
    camera.configure(smaller)
    np.testing.assert_array_equal(camera.grab(5.0).levels, expected(0, smaller))
    camera.configure(SETTINGS)
    np.testing.assert_array_equal(camera.grab(5.0).levels, expected(0, SETTINGS))


def test_it_is_found_by_its_serial_number(
    producer: Path, faults: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, f"{tmp_path}:{producer.parent}")
    second = gentl_camera("GT0002")
    assert second.identify().serial == "GT0002"
    begin(second)
    np.testing.assert_array_equal(second.grab(5.0).levels, expected(0, SETTINGS))
    second.close()
    with pytest.raises(DeviceError, match=r"no GenICam camera has .*'XX'; present are \['GT0001', 'GT0002'\]\. Is it"):
        gentl_camera("XX")
    faults("twin")
    with pytest.raises(
        DeviceError, match=r"2 cameras have .*'GT0001': \['double-0', 'double-1'\]\. Unplug all but one"
    ):
        gentl_camera(SERIAL)


def test_a_producer_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, producer: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"there is no GenTL producer .*absent\.cti; give the file \.cti"):
        gentl_camera(SERIAL, producer=str(tmp_path / "absent.cti"))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(
        DeviceError, match=rf"no GenTL producer is in the folders of {VARIABLE} \('{tmp_path}'\); insta"
    ):
        gentl_camera(SERIAL)
    (tmp_path / "text.cti").write_text("no library")
    with pytest.raises(DeviceError, match=r"GenTL producers \[.*text\.cti'\] cannot all be used: .+\. By the others"):
        gentl_camera(SERIAL)


def test_a_producer_that_is_in_use_says_so(camera: GenicamCamera, producer: Path) -> None:
    with pytest.raises(
        DeviceError, match=r"double\.cti'\] cannot all be used: .+\. By the others there are \[\]\. Mind"
    ):
        gentl_camera("GT0002", producer=str(producer))
    begin(camera)
    camera.grab(5.0)


def test_without_harvesters_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "harvesters", None)
    with pytest.raises(
        DeviceError, match=r"need the package harvesters; install the extra: pip install 'optishield\[g"
    ):
        gentl_camera(SERIAL)


def test_harvesters_leaves_warnings_as_they_are(producer: Path) -> None:
    code = (
        "import warnings; from firmware_bridge.devices.gentl import gentl_camera; before = list(warnings.filters)\n"
        f"gentl_camera({SERIAL!r}, producer={str(producer)!r}).close(); assert warnings.filters == before"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)


def test_a_camera_that_is_held_is_waited_for(producer: Path, faults: Callable[[str], None]) -> None:
    faults("held")
    with pytest.raises(
        DeviceError, match="another program controls camera GT0001, or did until a moment ago; close it"
    ):
        gentl_camera(SERIAL, producer=str(producer), patience_s=0.0)
    waits: list[float] = []

    def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 3:
            faults("")

    gentl_camera(SERIAL, producer=str(producer), clock=lambda: 0.0, sleep=sleep).close()
    assert len(waits) == 3


def test_what_it_cannot_do_is_refused(camera: GenicamCamera, faults: Callable[[str], None]) -> None:
    with pytest.raises(DeviceError, match="offers 8, 10, 12, 16 bits, not 14"):
        camera.configure(CameraSettings(1e-3, 0.0, 14))
    with pytest.raises(DeviceError, match=r"exposure goes from 1e-05 s to 1 s with this camera, not to 2 s"):
        camera.configure(CameraSettings(2.0, 0.0, 12))
    with pytest.raises(DeviceError, match="leaves the sensor of 64 x 48 pixels"):
        camera.configure(CameraSettings(1e-3, 0.0, 12, (32, 0, 64, 48)))
    with pytest.raises(DeviceError, match=r"Width cannot be set to 30: .*30"):
        camera.configure(CameraSettings(1e-3, 0.0, 12, (0, 0, 30, 48)))
    faults("lying-exposure")
    # GenApi's own cache would hold the 2 ms that were written.
    with pytest.raises(DeviceError, match=r"exposure was set to 0\.002 s and reads back 0\.01 s; the camera does not"):
        camera.configure(SETTINGS)


def test_twelve_bits_in_the_upper_ones_of_a_word(producer: Path, faults: Callable[[str], None]) -> None:
    faults("no-mono12 left")
    camera = gentl_camera(SERIAL, producer=str(producer), mono16_bits=12, mono16_left=True)
    assert camera.capabilities().bits == (8, 10, 12)
    begin(camera)
    np.testing.assert_array_equal(camera.grab(5.0).levels, expected(0, SETTINGS))
    faults("no-mono12")
    with pytest.raises(DeviceError, match="left-justified values of 12 bits leave the lowest 4 bits of a word zero"):
        camera.grab(5.0)
    camera.close()
    faults("no-mono12 left")
    camera = gentl_camera(SERIAL, producer=str(producer), mono16_bits=12)
    begin(camera)
    with pytest.raises(DeviceError, match="right-justified values of 12 bits end at 4095, and"):
        camera.grab(5.0)
    camera.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("incomplete=2", "a frame of camera GT0001 came damaged: parts of it are missing"),
        ("repeated=2", "frame 2 has the very values of the frame before it, noise included; the picture is frozen"),
        ("twice=2", "frame 1 came twice; the camera, or its driver, repeats frames"),
        ("clock=2", "it repeats frames, or was reset: start again"),
        ("dropped=2", r"no frame came in 0\.2 s; look at cable, exposure and timeout of camera GT0001"),
    ],
)
def test_a_bad_frame_is_no_frame(
    camera: GenicamCamera, faults: Callable[[str], None], fault: str, message: str
) -> None:
    faults(fault)
    begin(camera)
    good = [camera.grab(5.0) for _ in range(2)]
    with pytest.raises(DeviceError, match=message):
        camera.grab(0.2)
    faults("")
    good += [camera.grab(5.0) for _ in range(2)]
    # The one that is missing leaves its place in the count.
    assert [frame.frame_id for frame in good] == [0, 1, 3, 4]


def test_no_time_is_no_time(camera: GenicamCamera, faults: Callable[[str], None]) -> None:
    """harvesters would wait for ever."""
    faults("dropped=0")
    begin(camera)
    with pytest.raises(DeviceError, match="no frame came in 0 s"):
        camera.grab(0.0)


def test_lines_that_end_in_something_else_are_refused(camera: GenicamCamera, faults: Callable[[str], None]) -> None:
    faults("padded")
    begin(camera)
    with pytest.raises(DeviceError, match=r"a frame of 48 x 64 values of 12 bits came with 6336 bytes"):
        camera.grab(5.0)


def test_an_unplugged_camera_is_lost_until_it_is_plugged_in(
    producer: Path, faults: Callable[[str], None], journal: Callable[[], list[str]]
) -> None:
    camera = gentl_camera(SERIAL, producer=str(producer))
    begin(camera)
    camera.grab(5.0)
    faults("unplugged")
    for _ in range(2):
        with pytest.raises(
            DeviceError, match=r"the control of camera GT0001 is lost\. Is it plugged in\? Then call sta"
        ):
            camera.grab(5.0)
    with pytest.raises(DeviceError, match=r"no GenICam camera has the serial number 'GT0001'; present are \[\]"):
        camera.start()
    faults("")
    camera.start()
    np.testing.assert_array_equal(camera.grab(5.0).levels, expected(0, SETTINGS))
    faults("vanished=1")
    with pytest.raises(
        DeviceError, match=r"no frame came in 0\.1 s: the control of camera GT0001 is lost\. Is it plugg"
    ):
        camera.grab(0.1)
    camera.configure(SETTINGS)
    np.testing.assert_array_equal(camera.grab(5.0).levels, expected(0, SETTINGS))
    faults("unplugged")
    camera.close()
    assert journal() == []


def test_nothing_is_left_behind(
    producer: Path, faults: Callable[[str], None], journal: Callable[[], list[str]]
) -> None:
    threads, interrupt = threading.enumerate(), signal.getsignal(signal.SIGINT)
    opened = ["library", "system", "interface", "device", "stream"]
    for _ in range(3):
        camera = gentl_camera(SERIAL, producer=str(producer))
        # harvesters would take Ctrl-C away from the session.
        assert signal.getsignal(signal.SIGINT) is interrupt
        begin(camera)
        camera.grab(5.0)
        assert journal() == [*opened, "acquisition"]
        camera.safe()
        assert journal() == opened
        camera.start()
        camera.close()
        camera.close()
        assert journal() == []
    with pytest.raises(DeviceError, match="camera GT0001 was closed; open it again"):
        camera.configure(SETTINGS)
    faults("held")
    with pytest.raises(DeviceError, match="another program controls"):
        gentl_camera(SERIAL, producer=str(producer), patience_s=0.0)
    assert journal() == [] and threading.enumerate() == threads


def test_another_producer_is_understood_and_its_cameras_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The producer that comes with genicam offers pixel formats and a width, and no exposure."""
    genicam: Any = pytest.importorskip("genicam", reason="genicam is not installed; install the extra gentl")
    path = Path(genicam.__file__).with_name("viky.cti")
    if not path.is_file():
        pytest.skip("this release of genicam comes without viky.cti")
    with pytest.raises(DeviceError, match=r"serial number 'XX'; present are \['0', '1', '2'\]"):
        gentl_camera("XX", producer=str(path))
    for _ in range(2):
        with pytest.raises(DeviceError, match="this camera has no feature WidthMax, which is needed"):
            gentl_camera("1", producer=str(path))
