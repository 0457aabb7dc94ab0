"""Mask, light and stage behind the controller: on the firmware built for this machine, over a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.devices.mcu import Controller
from firmware_bridge.errors import DeviceError
from firmware_bridge.fw.emulator import Emulator, build
from firmware_bridge.protocols import Device, Light, MaskDevice, Origin, Pattern, Stage
from firmware_bridge.wire.link import Heartbeat, Link, StateLost
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.wire_doubles import FakeClock, InProcess, built, opened

SERIAL = "HOST0001"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator.host(built("host"), tmp_path / "log") as running:
        yield running


@pytest.fixture
def controller(device: Emulator) -> Iterator[Controller]:
    opened = Controller(Link(SerialTransport.emulated(device.path)), SERIAL)
    anchor = opened.stage()
    yield opened
    anchor.close()


def levels(seed: int, shape: tuple[int, int] = (64, 64), high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8 if high <= 256 else np.uint16)


def test_they_are_devices_of_the_bench(controller: Controller) -> None:
    mask, light = controller.mask(), controller.light()
    assert isinstance(mask, MaskDevice) and isinstance(light, Light)
    identity = mask.identify()
    assert (identity.kind, identity.model, identity.serial, identity.origin) == (
        "mask",
        "host",
        SERIAL,
        Origin.emulated,
    )
    assert len(identity.firmware) == 16 and light.identify().firmware == identity.firmware
    can = mask.capabilities()
    assert (can.width, can.height, can.bits) == (64, 64, 8)
    assert can.settle_s == pytest.approx(2e-3) and can.pitch_m == pytest.approx(36e-6)
    assert light.capabilities().wavelength_m == pytest.approx(532e-9)
    assert light.capabilities().power_w == pytest.approx(0.9e-3)
    mask.close()
    light.close()


def test_a_mask_shows_what_was_staged_and_nothing_before(controller: Controller, device: Emulator) -> None:
    mask = controller.mask()
    first, second = Pattern(levels(1)), Pattern(levels(2))
    mask.arm("test")
    mask.stage(first)
    assert mask.readback().parked
    shown = mask.commit()
    assert shown.pattern_id == first.pattern_id and not shown.parked
    mask.stage(second)
    assert mask.readback().pattern_id == first.pattern_id
    assert mask.commit().pattern_id == second.pattern_id
    assert mask.park().parked
    mask.close()
    mask.close()
    applied = [event["value"] for event in device.events() if event["event"] == "apply"]
    assert applied == [first.pattern_id, second.pattern_id]


def test_a_mask_refuses(controller: Controller) -> None:
    mask = controller.mask()
    with pytest.raises(DeviceError, match="nothing was staged; call stage"):
        mask.commit()
    with pytest.raises(DeviceError, match=r"takes \(64, 64\) uint8 levels, the pattern has \(64, 32\) of uint8; scale"):
        mask.stage(Pattern(levels(1, (64, 32))))
    with pytest.raises(DeviceError, match="of uint16; scale"):
        mask.stage(Pattern(levels(1, high=4096)))
    mask.stage(Pattern(levels(1)))
    with pytest.raises(DeviceError, match="refused COMMIT: unsafe"):
        mask.commit()
    with pytest.raises(DeviceError, match="the mask of this controller is open already; close it first"):
        controller.mask()
    mask.close()


def test_a_mask_of_twelve_bits_knows_its_largest_level(tmp_path: Path) -> None:
    built("host")
    with Emulator.host(build("host", tmp_path, width=20, height=10, bits=12), tmp_path / "log") as device:
        mask = Controller(Link(SerialTransport.emulated(device.path)), SERIAL).mask()
        mask.arm("test")
        with pytest.raises(DeviceError, match="takes levels up to 4095, the pattern has 4096; scale"):
            mask.stage(Pattern(np.full((10, 20), 4096, np.uint16)))
        pattern = Pattern(levels(3, (10, 20), 4096))
        mask.stage(pattern)
        assert mask.commit().pattern_id == pattern.pattern_id
        assert all(check.passed for check in mask.selftest())
        mask.close()


def test_light_is_dark_until_armed(controller: Controller) -> None:
    light = controller.light()
    with pytest.raises(DeviceError, match="refused LIGHT: unsafe"):
        light.set(0.5)
    light.arm("test")
    assert light.set(0.5) == pytest.approx(0.5, abs=0.5 / 65535)
    assert light.set(1.0) == 1.0
    with pytest.raises(DeviceError, match=r"a share 0\.\.1 of its largest, got 1\.2"):
        light.set(1.2)
    light.off()
    with pytest.raises(DeviceError, match="refused LIGHT: unsafe"):
        light.set(0.5)
    light.close()


def test_a_stage_goes_to_the_nearest_step(device: Emulator) -> None:
    stage = Controller(Link(SerialTransport.emulated(device.path)), SERIAL).stage()
    assert isinstance(stage, Stage)
    can = stage.capabilities()
    assert can.limits_m == pytest.approx((-5e-3, 5e-3)) and can.resolution_m == pytest.approx(625e-9)
    with pytest.raises(DeviceError, match="refused MOVE: unsafe"):
        stage.move_to(1e-3)
    stage.arm("test")
    assert stage.move_to(0.1003e-3) == pytest.approx(0.1e-3 + 625e-9 * round(0.3e-6 / 625e-9), abs=1e-12)
    assert stage.move_to(-5e-3) == pytest.approx(-5e-3) == stage.position()
    with pytest.raises(DeviceError, match=r"goes from -0\.005 m to 0\.005 m, not to 0\.006 m"):
        stage.move_to(6e-3)
    stage.close()


def test_selftests_pass_and_leave_the_bench_safe(device: Emulator) -> None:
    controller = Controller(Link(SerialTransport.emulated(device.path)), SERIAL)
    parts: list[Device] = [controller.mask(), controller.light(), controller.stage()]
    for part in parts:
        checks = part.selftest()
        assert len(checks) >= 2
        assert all(check.passed for check in checks), checks
    assert controller.link.call("HEARTBEAT")["state"] == 0
    for part in parts:
        part.close()
    assert [event["value"] for event in device.events() if event["event"] == "light" and event["value"]] == []


def test_the_thread_keeps_the_lease_and_its_end_ends_it() -> None:
    clock = FakeClock()
    transport = InProcess(clock)
    link = opened(transport, clock)
    link.call("ARM", operator="test", light=True)
    link.call("LIGHT", level=20000)
    until_s = clock() + 60

    def wait(time_s: float) -> bool:
        # The time of the test, in which the firmware looks at its clock as it does in that of the world.
        transport.idle(time_s)
        return clock() > until_s

    kept = Heartbeat(link, wait)
    kept.stop()
    assert clock() > until_s and transport.effects("l")[-1] == 20000
    assert link.call("HEARTBEAT")["lease_losses"] == 0
    transport.idle(1.1)
    assert transport.effects("l")[-1] == 0
    assert link.call("HEARTBEAT")["lease_losses"] == 1


def test_closing_the_last_device_turns_the_light_off_and_ends_the_thread(device: Emulator) -> None:
    light = Controller(Link(SerialTransport.emulated(device.path)), SERIAL).light()
    assert "heartbeat" in [thread.name for thread in threading.enumerate()]
    light.arm("test")
    assert light.set(0.3) > 0.29
    light.close()
    assert [event["value"] for event in device.events() if event["event"] == "light"][-1] == 0
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_a_reset_is_told_once_and_the_devices_work_again(device: Emulator) -> None:
    mask = Controller(Link(SerialTransport.emulated(device.path)), SERIAL, heartbeat=False).mask()
    pattern = Pattern(levels(4))
    mask.arm("test")
    mask.stage(pattern)
    device.reset()
    end_s = time.monotonic() + 20
    while [event["event"] for event in device.events()].count("boot") < 2 and time.monotonic() < end_s:
        time.sleep(0.01)
    with pytest.raises(StateLost, match="arm and stage again"):
        mask.commit()
    with pytest.raises(DeviceError, match="refused COMMIT"):
        mask.commit()
    mask.arm("test")
    mask.stage(pattern)
    assert mask.commit().pattern_id == pattern.pattern_id
    mask.close()


def test_a_lost_controller_can_be_closed(tmp_path: Path) -> None:
    device = Emulator.host(built("host"), tmp_path / "log")
    controller = Controller(Link(SerialTransport.emulated(device.path), patience_s=0.2), SERIAL, heartbeat=False)
    mask, light = controller.mask(), controller.light()
    device.close()
    mask.close()
    light.close()


def test_another_controller_is_refused(device: Emulator) -> None:
    with pytest.raises(DeviceError, match="its serial number is 'HOST0001', not 'BENCH-7'; correct the number"):
        Controller(Link(SerialTransport.emulated(device.path)), "BENCH-7")
    again = Controller(Link(SerialTransport.emulated(device.path)), SERIAL).mask()
    again.close()
