"""The GenICam driver against cameras that are programs, over real GigE Vision on the loopback network."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.devices import aravis
from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Camera, CameraSettings, Origin
from sim.bench.genicam_feed import GenicamFeed
from tests.firmware_bridge.camera_doubles import gige_port, waits_for_the_port

pytestmark = waits_for_the_port

# The number that libaravis's camera without a wire tells too, once it is switched on.
SERIAL = "1"
SETTINGS = CameraSettings(2e-3, 0.0, 12)


@pytest.fixture(scope="module")
def port() -> Iterator[None]:
    with gige_port():
        yield


@pytest.fixture(scope="module")
def feed(port: None) -> Iterator[GenicamFeed]:
    with GenicamFeed(SERIAL, ideal=True) as running:
        yield running


@pytest.fixture
def camera(feed: GenicamFeed) -> Iterator[GenicamCamera]:
    opened = GenicamCamera(SERIAL, mono16_bits=12, gain_step_db=1.0)
    yield opened
    opened.close()


def test_it_says_what_it_is(camera: GenicamCamera) -> None:
    assert isinstance(camera, Camera)
    identity, can = camera.identify(), camera.capabilities()
    assert (identity.kind, identity.model, identity.serial) == ("camera", "Aravis Fake", SERIAL)
    assert identity.origin is Origin.emulated
    assert (can.width, can.height, can.bits, can.gain_db) == (256, 224, (8, 12), (0.0, 10.0))
    assert can.exposure_s == pytest.approx((10e-6, 10.0))
    assert all(check.passed for check in camera.selftest())


def test_settings_are_read_back_and_frames_carry_them(camera: GenicamCamera) -> None:
    found = camera.configure(CameraSettings(1e-3, 6.0, 12, (32, 16, 128, 96)))
    assert found == CameraSettings(found.exposure_s, found.gain_db, 12, (32, 16, 128, 96))
    assert (found.exposure_s, found.gain_db) == pytest.approx((1e-3, 6.0))
    camera.start()
    frame = camera.grab(5.0)
    assert frame.levels.shape == (96, 128) and frame.settings == found and frame.origin is Origin.emulated
    assert camera.configure(CameraSettings(1e-3, 0.0, 8)).roi == (0, 0, 256, 224)
    frame = camera.grab(5.0)
    assert frame.levels.shape == (224, 256) and frame.levels.dtype == np.uint8
    camera.stop()
    with pytest.raises(DeviceError, match=r"call start\(\) before grab"):
        camera.grab(1.0)


def test_what_it_cannot_do_is_refused(camera: GenicamCamera) -> None:
    with pytest.raises(DeviceError, match=r"camera 1 was not set; call configure\(\) before start"):
        camera.start()
    with pytest.raises(DeviceError, match="offers 8, 12 bits, not 10"):
        camera.configure(CameraSettings(1e-3, 0.0, 10))
    with pytest.raises(DeviceError, match="exposure goes from 1e-05 s to 10 s with this camera, not to 20 s"):
        camera.configure(CameraSettings(20.0, 0.0, 8))
    with pytest.raises(DeviceError, match="leaves the sensor of 256 x 224 pixels"):
        camera.configure(CameraSettings(1e-3, 0.0, 8, (200, 0, 500, 100)))


def test_the_count_goes_on_where_the_ids_wrap_around(camera: GenicamCamera) -> None:
    """This emulated camera begins at 65401, so 65535 is followed by 1 on the wire within the test."""
    camera.configure(CameraSettings(1e-3, 0.0, 8, (0, 0, 32, 32)))
    camera.start()
    frames = [camera.grab(5.0) for _ in range(160)]
    ids = np.array([frame.frame_id for frame in frames])
    assert (np.diff(ids) == 1).all()
    assert ids[0] <= 65535 < ids[-1] or ids[-1] < 1000
    times_s = np.array([frame.device_time_s for frame in frames])
    assert (np.diff(times_s) > 0).all()


def test_a_beginning_that_failed_is_tried_again_by_the_next_grab(
    camera: GenicamCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera.configure(SETTINGS)
    camera.start()
    camera.grab(5.0)
    wire = camera._here()
    with monkeypatch.context() as once:
        # A frame that does not come is followed by a new beginning, whose packets are lost.
        once.setattr(wire, "receive", lambda timeout_s: None)
        with pytest.raises(DeviceError, match=r"no frame came in 0\.1 s"):
            camera.grab(0.1)
        once.setattr(wire, "begin", lambda: (_ for _ in ()).throw(DeviceError("no answer.")))
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"no answer\."):
                camera.grab(0.1)
    assert camera.grab(5.0).settings == camera.configure(SETTINGS)


def test_another_camera_or_two_of_one_number_are_refused(feed: GenicamFeed, camera: GenicamCamera) -> None:
    with pytest.raises(DeviceError, match=r"no GenICam camera has the serial number 'XX'; present are \['1'\]"):
        GenicamCamera("XX")
    with pytest.raises(DeviceError, match=r"another GigE camera answers on 127\.0\.0\.1 already; there can be but one"):
        GenicamFeed("GC02")
    aravis.call("arv_enable_interface", b"Fake")
    try:
        with pytest.raises(DeviceError, match=r"2 cameras have the serial number '1': \[.*Fake_1.*\]. Unplug all but"):
            GenicamCamera(SERIAL)
    finally:
        aravis.call("arv_disable_interface", b"Fake")


def test_raw_gain_without_a_unit_is_refused(feed: GenicamFeed) -> None:
    camera = GenicamCamera(SERIAL, mono16_bits=12)
    try:
        assert camera.capabilities().gain_db == (0.0, 0.0)
        with pytest.raises(DeviceError, match="has no gain in decibels; set 0 dB, or say by gain_step_db"):
            camera.configure(CameraSettings(1e-3, 3.0, 8))
    finally:
        camera.close()
        camera.close()
    with pytest.raises(DeviceError, match="camera 1 was closed; open it again"):
        camera.configure(SETTINGS)


def test_a_program_that_died_holds_the_camera_until_its_heartbeat_runs_out(feed: GenicamFeed) -> None:
    code = (
        "from firmware_bridge.devices.genicam import GenicamCamera as G; c = G('1'); print('open', flush=True); input()"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as holder:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        with pytest.raises(DeviceError, match="another program controls camera 1, or did until a moment ago; close it"):
            GenicamCamera(SERIAL, patience_s=0.0)
        holder.kill()
    camera = GenicamCamera(SERIAL, mono16_bits=12, patience_s=30.0)
    camera.configure(SETTINGS)
    camera.start()
    assert camera.grab(5.0).levels.max() > 0
    camera.close()


def description() -> str:
    """The GenICam file of the camera."""
    library = ctypes.CDLL(aravis.LIBRARY)
    library.arv_device_get_genicam_xml.restype = ctypes.c_void_p
    library.arv_device_get_genicam_xml.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    camera = aravis.call("arv_camera_new", f"Aravis-Fake-{SERIAL}".encode())
    size = ctypes.c_size_t()
    start = library.arv_device_get_genicam_xml(aravis.call("arv_camera_get_device", camera), ctypes.byref(size))
    # No zero ends it.
    text = ctypes.string_at(start, size.value).decode()
    aravis.call("g_object_unref", camera)
    return text


def test_a_camera_that_ignores_exposure_is_refused(port: None, feed: GenicamFeed, tmp_path: Path) -> None:
    text = description()
    # Whatever is set, 10 ms go into the register.
    assert text.count("<FormulaTo>FROM</FormulaTo>") == 1
    deaf = text.replace("<FormulaTo>FROM</FormulaTo>", "<FormulaTo>FROM * 0 + 10000</FormulaTo>")
    path = tmp_path / "deaf.xml"
    path.write_text(deaf)
    feed.unplug()
    try:
        with GenicamFeed("DEAF", ideal=True, description=path):
            camera = GenicamCamera("DEAF")
            with pytest.raises(DeviceError, match=r"exposure was set to 0\.002 s and reads back 0\.01 s; the camera"):
                camera.configure(CameraSettings(2e-3))
            camera.close()
    finally:
        feed.plug()
