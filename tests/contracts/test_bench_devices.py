"""What every device of a bench keeps to, whether it is simulated, emulated behind its real wire, or real.

Real devices are those of the bench file that the environment names: ``OPTISHIELD_BENCH=bench.toml``. Nothing here
lights more than a hundredth of the power, or moves further than a tenth of the range of the stage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.devices.genicam import GenicamCamera
from firmware_bridge.devices.gentl import gentl_camera
from firmware_bridge.devices.mcu import Controller
from firmware_bridge.errors import DeviceError
from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.protocols import (
    Armable,
    Camera,
    CameraSettings,
    Device,
    Levels,
    Light,
    MaskDevice,
    Origin,
    Pattern,
    Stage,
)
from firmware_bridge.session.bench import Kind, Wanted, read_bench
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.serial_transport import SerialTransport
from optishield.bench.drivers import bench_drivers
from sim.bench.drivers import VirtualBench
from sim.bench.genicam_feed import GenicamFeed
from tests.firmware_bridge.camera_doubles import gige_port, waits_for_the_port
from tests.firmware_bridge.gentl_doubles import gentl_producer
from tests.firmware_bridge.wire_doubles import FakeClock, built

pytestmark = waits_for_the_port

# How twins and firmware say that a device must be armed first.
_UNARMED = r"armed|unsafe"
Open = Callable[[], Device]
KINDS: dict[str, type] = {"camera": Camera, "mask": MaskDevice, "light": Light, "stage": Stage}
ROWS = [
    *((kind, "simulated") for kind in KINDS),
    *((kind, "emulated") for kind in KINDS),
    ("camera", "emulated by GenTL"),
    *((kind, "bench") for kind in KINDS),
]


def only(*kinds: str) -> pytest.MarkDecorator:
    """Runs a test for devices of some kinds."""
    rows = [row for row in ROWS if row[0] in kinds]
    return pytest.mark.parametrize("row", rows, indirect=True, ids=["-".join(row) for row in rows])


def _simulated(kind: Kind) -> Open:
    clock = FakeClock()
    table = VirtualBench(1, clock=clock, sleep=clock.sleep).drivers
    return lambda: table[f"sim://{kind}"](Wanted(kind, f"sim://{kind}", "SIM1"))


def _controller(kind: str, open_controller: Callable[[], Controller]) -> Open:
    return lambda: getattr(open_controller(), kind)()


def _emulated(kind: str, stack: ExitStack, folder: Path) -> Open:
    if kind == "camera":
        stack.enter_context(gige_port())
        stack.enter_context(GenicamFeed("CONTRACT"))
        return lambda: GenicamCamera("CONTRACT", mono16_bits=12)
    device = stack.enter_context(Emulator.host(built("host"), folder / "journal"))
    return _controller(kind, lambda: Controller(Link(SerialTransport.emulated(device.path)), "HOST0001"))


def _by_gentl(folder: Path) -> Open:
    producer = str(gentl_producer(folder))
    return lambda: gentl_camera("GT0001", producer=producer)


def _real(kind: str, stack: ExitStack) -> Open:
    if "OPTISHIELD_BENCH" not in os.environ:
        pytest.skip("OPTISHIELD_BENCH names no file of a real bench")
    file = read_bench(Path(os.environ["OPTISHIELD_BENCH"]))
    wanted = next((file.wanted(found) for found in file.entries if found == kind), None)
    if wanted is None:
        pytest.skip(f"the bench {file.name!r} of OPTISHIELD_BENCH has no {kind}")
    if file.origin != "bench":
        pytest.fail(f"OPTISHIELD_BENCH names {file.name!r}, whose origin is {file.origin}; name a real bench.")
    table = stack.enter_context(bench_drivers(file))
    return lambda: table[wanted.driver](wanted)


@pytest.fixture(params=ROWS, ids=["-".join(row) for row in ROWS], scope="module")
def row(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Open]]:
    kind, origin = request.param
    with ExitStack() as stack:
        if origin == "simulated":
            opening = _simulated(kind)
        elif origin == "emulated":
            opening = _emulated(kind, stack, tmp_path_factory.mktemp("contract"))
        elif origin == "emulated by GenTL":
            origin, opening = "emulated", _by_gentl(tmp_path_factory.mktemp("gentl"))
        else:
            opening = _real(kind, stack)
        yield kind, origin, opening


@pytest.fixture
def device(row: tuple[str, str, Open]) -> Iterator[Device]:
    opened = row[2]()
    yield opened
    opened.close()


def test_it_is_of_its_kind_and_says_where_it_comes_from(row: tuple[str, str, Open], device: Device) -> None:
    kind, origin, _ = row
    identity = device.identify()
    assert isinstance(device, KINDS[kind])
    assert (identity.kind, identity.origin) == (kind, Origin(origin))
    assert identity.serial and identity.model
    with pytest.raises(AttributeError, match="cannot assign to field"):
        identity.origin = Origin.bench  # type: ignore[misc]


def test_its_selftest_passes_and_leaves_it_usable(device: Device) -> None:
    for _ in range(2):
        checks = device.selftest()
        assert checks and all(check.passed for check in checks), checks
        assert all(check.reason for check in checks)


def test_it_can_be_made_safe_and_closed_again_and_again(row: tuple[str, str, Open]) -> None:
    device = row[2]()
    for act in (device.safe, device.safe, device.close, device.close):
        act()
    again = row[2]()
    assert again.identify().kind == row[0]
    again.close()


def _levels(values: np.ndarray, bits: int) -> Levels:
    """Values as a mask of this many bits takes them."""
    return values.astype(np.uint8) if bits <= 8 else values.astype(np.uint16)


@only("mask", "light", "stage")
def test_what_acts_needs_to_be_armed(device: Device) -> None:
    act: Callable[[], object]
    if isinstance(device, MaskDevice):
        can = device.capabilities()
        device.stage(Pattern(_levels(np.zeros((can.height, can.width)), can.bits)))
        act = device.commit
    elif isinstance(device, Light):
        act = partial(device.set, 0.01)
    else:
        assert isinstance(device, Stage)
        act = partial(device.move_to, device.position())
    with pytest.raises(DeviceError, match=_UNARMED):
        act()
    assert isinstance(device, Armable)
    device.arm("contract")
    act()
    device.safe()


@only("camera")
def test_a_camera_counts_and_reads_back(device: Device) -> None:
    assert isinstance(device, Camera)
    can = device.capabilities()
    with pytest.raises(DeviceError, match="not 7"):
        device.configure(CameraSettings(0.01, 0.0, 7))
    with pytest.raises(DeviceError, match="call"):
        device.grab(1.0)
    for exposure_s in (0.01, 0.02):
        found = device.configure(CameraSettings(exposure_s, 0.0, can.bits[0]))
        assert found.exposure_s == pytest.approx(exposure_s, rel=0.02) and found.bits == can.bits[0]
        device.start()
        frames = [device.grab(10.0) for _ in range(3)]
        for frame in frames:
            assert frame.levels.shape == (can.height, can.width) and frame.settings == found
            assert frame.camera == device.identify() and not frame.levels.flags.writeable
        assert frames[0].frame_id < frames[1].frame_id < frames[2].frame_id
        times_s = [frame.device_time_s for frame in frames if frame.device_time_s is not None]
        assert times_s == sorted(set(times_s))
    device.stop()
    device.stop()


@only("mask")
def test_a_mask_shows_what_was_staged_and_nothing_else(device: Device) -> None:
    assert isinstance(device, MaskDevice) and isinstance(device, Armable)
    can = device.capabilities()
    levels = _levels(np.random.default_rng(0).integers(0, 1 << can.bits, (can.height, can.width)), can.bits)
    first, second = Pattern(levels), Pattern(levels[::-1].copy())
    device.arm("contract")
    device.stage(first)
    assert device.readback().parked
    assert device.commit().pattern_id == first.pattern_id
    device.stage(second)
    assert device.readback().pattern_id == first.pattern_id
    assert device.commit().pattern_id == second.pattern_id
    assert device.park().parked
    with pytest.raises(DeviceError, match="scale it to the mask"):
        device.stage(Pattern(_levels(np.zeros((1, 2)), can.bits)))


@only("light")
def test_a_light_reads_back_and_goes_off(device: Device) -> None:
    assert isinstance(device, Light)
    device.arm("contract")
    assert device.set(0.01) == pytest.approx(0.01, abs=1e-4)
    with pytest.raises(DeviceError, match=r"a share 0\.\.1 of its largest"):
        device.set(-0.1)
    device.off()
    with pytest.raises(DeviceError, match=_UNARMED):
        device.set(0.01)


@only("stage")
def test_a_stage_arrives_and_keeps_its_limits(device: Device) -> None:
    assert isinstance(device, Stage) and isinstance(device, Armable)
    can = device.capabilities()
    device.arm("contract")
    low_m, high_m = can.limits_m
    target_m = low_m + 0.55 * (high_m - low_m)
    assert device.move_to(target_m) == pytest.approx(target_m, abs=can.resolution_m) == device.position()
    with pytest.raises(DeviceError, match="this stage goes from"):
        device.move_to(high_m + 1e-3)
