"""UVC cameras through OpenCV's own V4L2, with a preloaded library in place of the kernel.

The library is ``v4l2_double.c``: it answers the calls that OpenCV makes to a device. What stays untested is a kernel
and a cable.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

# Each starts a program, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("v4l2_double.c")
# V4L2_CID_EXPOSURE_ABSOLUTE, V4L2_CID_EXPOSURE_AUTO and V4L2_CID_GAMMA of linux/videodev2.h.
EXPOSURE, AUTOMATIC, GAMMA = 0x9A0902, 0x9A0901, 0x980910

PROGRAM = """
import json, sys, time
import cv2
from firmware_bridge.devices.uvc import UvcCamera
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import CameraSettings

bits, exposures = int(sys.argv[1]), [float(word) for word in sys.argv[2:]]
found = {"frames": [], "settings": []}
try:
    camera = UvcCamera.emulated(lambda: cv2.VideoCapture("/dev/video-double", cv2.CAP_V4L2), "C1", y16_bits=12)
    for exposure_s in exposures:
        settings = camera.configure(CameraSettings(exposure_s, bits=bits))
        found["settings"].append([settings.exposure_s, settings.bits, settings.roi])
        camera.start()
        for _ in range(3):
            called_s = time.monotonic()
            frame = camera.grab(5.0)
            found["frames"].append({
                "id": frame.frame_id,
                "mean": float(frame.levels.mean()),
                "began_after_s": frame.device_time_s - exposure_s - called_s,
                "came_after_s": frame.host_time_s - frame.device_time_s,
                "time_s": frame.device_time_s,
                "kind": [frame.levels.dtype.name, *frame.levels.shape],
            })
        camera.stop()
    camera.close()
except DeviceError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc; install the Debian package gcc")
    library = tmp_path_factory.mktemp("v4l2") / "v4l2_double.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


def take(double: Path, bits: int, *exposures: float, **camera: object) -> dict[str, Any]:
    """Three frames for each exposure, or the reason why not."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bits), *(str(exposure_s) for exposure_s in exposures)],
        env={
            **os.environ,
            "LD_PRELOAD": str(double),
            "PYTHONPATH": str(ROOT),
            **{f"V4L2_DOUBLE_{name.upper()}": str(value) for name, value in camera.items()},
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("sent", "bits", "dtype"), [("GREY", 8, "uint8"), ("YUYV", 8, "uint8"), ("Y16 ", 12, "uint16")]
)
def test_frames_settings_and_stamps_pass_through_opencv(double: Path, sent: str, bits: int, dtype: str) -> None:
    found = take(double, bits, 0.01, 0.02, format=sent)
    assert "error" not in found, found["error"]
    assert found["settings"] == [[pytest.approx(exposure_s), bits, [0, 0, 64, 48]] for exposure_s in (0.01, 0.02)]
    for number, frame in enumerate(found["frames"]):
        assert frame["kind"] == [dtype, 48, 64]
        # 16 levels and one for each millisecond, of that exposure which was set.
        assert frame["mean"] == pytest.approx(26 if number < 3 else 36, abs=0.2)
        assert frame["began_after_s"] >= 0
        assert 0 <= frame["came_after_s"] < 5
    for first in (0, 3):
        frames = found["frames"][first : first + 3]
        assert frames[0]["id"] >= 1
        for before, after in pairwise(frames):
            # One count for each 40 ms of the kernel's stamps.
            assert after["id"] - before["id"] == round((after["time_s"] - before["time_s"]) / 0.04) >= 1


def test_lost_frames_are_counted(double: Path) -> None:
    frames = take(double, 8, 0.01, skip=2)["frames"]
    assert frames[-1]["id"] - frames[0]["id"] >= 5


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({"deaf": EXPOSURE}, "exposure was set to 0.01 s and reads back 0.0156 s"),
        ({"deaf": AUTOMATIC}, "automatic exposure was set to 1 and reads back 3"),
        ({"deaf": GAMMA}, "gamma was set to 100 and reads back 120"),
        ({"format": "MJPG"}, "in none of the formats ('GREY', 'YUYV')"),
        ({"frozen": 2}, "the picture is frozen"),
        ({"gone": 2}, "camera C1 brings no frames. Is it plugged in?"),
        ({"strange": 2}, "camera C1 brings no frames. Is it plugged in?"),
    ],
)
def test_a_camera_that_lies_freezes_or_goes_is_refused(double: Path, camera: dict[str, object], message: str) -> None:
    assert message in take(double, 8, 0.01, **camera)["error"]
