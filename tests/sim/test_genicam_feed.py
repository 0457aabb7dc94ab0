"""Simulated photons through a real GigE Vision wire: light, lost packets, unplugging, and the mask of the firmware."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.devices.mcu import Controller
from firmware_bridge.errors import DeviceError
from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.protocols import CameraSettings, Pattern
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.serial_transport import SerialTransport
from sim.bench.genicam_feed import GenicamFeed
from tests.firmware_bridge.camera_doubles import gige_port, waits_for_the_port
from tests.firmware_bridge.wire_doubles import built

pytestmark = waits_for_the_port

MIDDLE = (slice(92, 132), slice(108, 148))
BLACK = 128
# As tests/sim/test_bench_twins.py works out by hand: electrons a second under the open mask, and the share of the light
# that the lens keeps near; then digits per electron at 12 bits.
ELECTRONS_S = 0.6 * 0.9e-3 * 1e-4 * 532e-9 / (6.626_070_15e-34 * 299_792_458) / 192**2 * 0.984
GAIN = (4095 - BLACK) / 10_000


@pytest.fixture(autouse=True)
def port() -> Iterator[None]:
    with gige_port():
        yield


def test_exposure_set_through_genicam_reaches_the_photons_and_a_pulled_plug_is_seen() -> None:
    with GenicamFeed("OS01", ideal=True, left=True) as feed:
        wrong = GenicamCamera("OS01", mono16_bits=12)
        wrong.configure(CameraSettings(1e-3, 0.0, 12))
        wrong.start()
        with pytest.raises(DeviceError, match="say that the camera justifies to the left"):
            wrong.grab(10.0)
        wrong.close()

        camera = GenicamCamera("OS01", mono16_bits=12, mono16_left=True, gain_step_db=1.0)
        signals = []
        for exposure_s in (0.5e-3, 1e-3):
            camera.configure(CameraSettings(exposure_s, 0.0, 12))
            camera.start()
            signals.append(camera.grab(10.0).levels[MIDDLE].mean() - BLACK)
        assert signals[0] == pytest.approx(GAIN * ELECTRONS_S * 0.5e-3, rel=5e-3)
        assert signals[1] / signals[0] == pytest.approx(2, rel=5e-3)
        camera.configure(CameraSettings(0.5e-3, 6.0, 12))
        last = camera.grab(10.0)
        assert (last.levels[MIDDLE].mean() - BLACK) / signals[0] == pytest.approx(10**0.3, rel=5e-3)

        feed.unplug()
        with pytest.raises(DeviceError, match=r"control of camera OS01 is lost.*call start\(\) again"):
            camera.grab(1.0)
        with pytest.raises(DeviceError, match="nothing can be triggered: the control of camera OS01 is lost"):
            camera.grab(1.0)
        feed.plug()
        with pytest.raises(DeviceError, match="is lost"):
            camera.grab(1.0)
        camera.start()
        frame = camera.grab(10.0)
        # The ids of a camera that was switched on anew begin where they began before.
        assert frame.frame_id <= last.frame_id
        assert frame.settings == last.settings
        assert camera.grab(10.0).frame_id == frame.frame_id + 1
        camera.close()


def test_the_camera_ends_quietly_when_whoever_started_it_is_gone() -> None:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-m", "sim.bench.genicam_feed", "OS01"]
    # As after SIGKILL: the pipes have lost their other ends, here before it is ready, then after that.
    nobody, output = os.pipe()
    os.close(nobody)
    try:
        early = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE
        )
    finally:
        os.close(output)
    assert (early.returncode, early.stderr) == (0, b"")
    late = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert (late.returncode, late.stdout, late.stderr) == (0, b"ready\n", b"")


def test_ctrl_c_at_the_terminal_is_not_for_the_camera() -> None:
    with GenicamFeed("OS01") as feed:
        assert feed._process is not None
        assert os.getsid(feed._process.pid) != os.getsid(0)


def test_lost_packets_are_told_and_no_damaged_frame_is_passed_on() -> None:
    with GenicamFeed("OS01", ideal=True, lost=0.01):
        camera = GenicamCamera("OS01", mono16_bits=12)
        camera.configure(CameraSettings(1e-3, 0.0, 12))
        camera.start()
        ids: list[int] = []
        damaged, missing, late = 0, 0, 0
        for shot in range(60):
            try:
                frame = camera.grab(1.0)
            except DeviceError as error:
                text = str(error)
                damaged += "came damaged" in text
                missing += "no frame came in 1 s" in text
                # A slow machine may give up on a frame that still comes; then it is refused.
                late += "the order of the frames is lost" in text
                assert damaged + missing + late + len(ids) == shot + 1
                continue
            ids.append(frame.frame_id)
            # A frame with a hole would have rows of zeros under the open mask.
            assert frame.levels[MIDDLE].min() > 1000
        camera.close()
        # Some 80 packets of 1400 bytes carry a frame, so about half of the frames lose one.
        assert damaged > 10 and len(ids) > 10
        assert len(ids) + damaged + missing + late == 60
        # Every damaged frame leaves its gap in the count.
        assert (np.diff(ids) >= 1).all()
        assert ids[-1] - ids[0] + 1 - len(ids) <= damaged + missing + late
        assert ids[-1] - ids[0] + 1 - len(ids) > 0


def test_the_loop_closes_from_the_wire_of_the_mask_to_the_wire_of_the_camera(tmp_path: Path) -> None:
    shown, journal = tmp_path / "shown", tmp_path / "journal"
    with (
        Emulator.host(built("host"), journal, shown=shown) as device,
        GenicamFeed("OS01", ideal=True, shown=shown, journal=journal),
    ):
        controller = Controller(Link(SerialTransport.emulated(device.path)), "HOST0001")
        mask, light = controller.mask(), controller.light()
        camera = GenicamCamera("OS01", mono16_bits=12)
        camera.configure(CameraSettings(1e-3, 0.0, 12))
        camera.start()
        assert camera.grab(10.0).levels.mean() == pytest.approx(BLACK, abs=0.1), "parked and dark"
        light.arm("test")
        levels = np.zeros((64, 64), np.uint8)
        levels[8:24, 40:56] = 255
        levels[40:56, 8:24] = 51
        mask.stage(Pattern(levels))
        mask.commit()
        assert camera.grab(10.0).levels.mean() == pytest.approx(BLACK, abs=0.1), "the mask is open, the light off"
        light.set(0.5)
        seen = camera.grab(10.0).levels - float(BLACK)
        # Pixel (row, column) of the mask begins at (16 + 3 row, 32 + 3 column) of the sensor.
        bright = seen[16 + 3 * 12 : 16 + 3 * 20, 32 + 3 * 44 : 32 + 3 * 52].mean()
        dim = seen[16 + 3 * 44 : 16 + 3 * 52, 32 + 3 * 12 : 32 + 3 * 20].mean()
        elsewhere = seen[16 + 3 * 44 : 16 + 3 * 52, 32 + 3 * 44 : 32 + 3 * 52].mean()
        full = GAIN * ELECTRONS_S * 0.5e-3
        assert bright == pytest.approx(full, rel=0.03)
        assert dim / bright == pytest.approx(0.2, abs=0.01)
        assert elsewhere < 0.01 * bright
        mask.park()
        assert camera.grab(10.0).levels.mean() == pytest.approx(BLACK, abs=0.1)
        for opened in (camera, light, mask):
            opened.close()
