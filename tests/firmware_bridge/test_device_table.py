"""The table of drivers, with those that other packages bring."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from firmware_bridge import devices
from firmware_bridge.devices.drivers import GROUP, begin_drivers, known_drivers
from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import Origin
from firmware_bridge.session.bench import open_bench, read_bench

BENCH = """
name = "third party"
origin = "simulated"
[camera]
driver = "lab-camera"
serial = "L1"
options = { gain = 3 }
[limits]
exposure_s = 0.5
light_share = 0.0
disk_free_bytes = 0
"""

PACKAGE = """
from firmware_bridge.devices.drivers import DeviceDriver, DriverOptions, alone
from tests.firmware_bridge.session_doubles import FakeCamera, World

class Options(DriverOptions):
    gain: int

seen = []

def open_camera(wanted, options):
    seen.append(options.gain)
    world = World()
    world.serial["camera"] = wanted.serial
    return FakeCamera(world, wanted)

DRIVER = DeviceDriver("lab-camera", "camera of a lab", {"camera": Options}, alone(open_camera))
"""


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package beside ours, ``lab_kit``, that registers what its file ``entry_points.txt`` says."""
    (tmp_path / "lab_kit.py").write_text(PACKAGE)
    information = tmp_path / "lab_kit-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-kit\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\nlab-camera = lab_kit:DRIVER\n")
    (tmp_path / "bench.toml").write_text(BENCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "lab_kit", raising=False)
    return information / "entry_points.txt"


def test_a_driver_of_another_package_opens_its_device(registered: Path, tmp_path: Path) -> None:
    file, known = read_bench(tmp_path / "bench.toml"), known_drivers(devices.DRIVERS)
    assert known["lab-camera"].summary == "camera of a lab"
    with ExitStack() as stack, open_bench(file, begin_drivers(file, known, stack)) as bench:
        assert (bench.identities["camera"].serial, bench.origin) == ("L1", Origin.simulated)
    assert sys.modules["lab_kit"].seen == [3]


def test_its_options_are_checked_before_anything_is_opened(registered: Path, tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text(BENCH.replace("gain = 3", 'gain = "3"'))
    file, known = read_bench(tmp_path / "bench.toml"), known_drivers(devices.DRIVERS)
    with (
        ExitStack() as stack,
        pytest.raises(SessionError, match=r"options of the camera is not as it must be: gain: .*valid integer"),
    ):
        begin_drivers(file, known, stack)
    assert sys.modules["lab_kit"].seen == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("lab-camera = lab_kit:NOTHING", r"camera\.driver: lab-camera of lab-kit cannot be imported \(.*NOTHING"),
        ("lab-camera = lab_kit:seen", "registered as the driver lab-camera and is list; it must be a DeviceDriver"),
        ("other = lab_kit:DRIVER", "registered as the driver other and is lab-camera"),
        ("mcu = lab_kit:MCU", "two packages bring a driver called mcu, one of them is lab-kit; remove one"),
    ],
)
def test_what_is_registered_wrongly_is_named_and_disturbs_no_other_bench(
    registered: Path, tmp_path: Path, entry: str, message: str
) -> None:
    source = PACKAGE + 'MCU = DeviceDriver("mcu", "another", {"camera": Options}, alone(open_camera))\n'
    source += 'GOOD = DeviceDriver("good", "whole", {"camera": Options}, alone(open_camera))\n'
    (tmp_path / "lab_kit.py").write_text(source)
    registered.write_text(f"[{GROUP}]\n{entry}\ngood = lab_kit:GOOD\n")
    known, name = known_drivers(devices.DRIVERS), entry.split()[0]
    for driver, refused in ((name, True), ("good", False)):
        (tmp_path / "bench.toml").write_text(BENCH.replace("lab-camera", driver))
        file = read_bench(tmp_path / "bench.toml")
        with ExitStack() as stack, pytest.raises(SessionError, match=message) if refused else nullcontext():
            assert begin_drivers(file, known, stack)


def test_the_table_needs_no_driver_to_be_imported() -> None:
    names = [driver.name for driver in devices.DRIVERS]
    assert len(names) == len(set(names)) and all(driver.summary for driver in devices.DRIVERS)
    assert {kind for driver in devices.DRIVERS for kind in driver.options} == {"camera", "mask", "light", "stage"}
