"""Panel, light and memory that do not obey: the firmware says so, goes dark as far as it can, and stays so."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices.mcu import Controller
from firmware_bridge.errors import DeviceError
from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.wire.link import Link, Refused
from firmware_bridge.wire.schema import State
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.wire_doubles import PATTERN_BYTES, FakeClock, InProcess, built, opened, pattern, show

DARK = zlib.crc32(bytes(PATTERN_BYTES))
# The first pixel stays lit.
STUCK = zlib.crc32(b"\xff" + bytes(PATTERN_BYTES - 1))


@pytest.fixture
def core() -> InProcess:
    return InProcess(FakeClock())


@pytest.fixture
def link(core: InProcess) -> Link:
    """Armed, with light on and a pattern shown."""
    link = opened(core, core.clock)
    link.call("ARM", operator="test", light=True)
    show(link, pattern(1))
    link.call("LIGHT", level=7)
    return link


def fails(link: Link, name: str, read: int, **values: Any) -> None:
    """A command ends in FAULT, with what was read back."""
    with pytest.raises(Refused, match=rf"refused {name}: fault .*detail {read}\)"):
        link.call(name, **values)
    assert link.call("HEARTBEAT")["state"] == State.fault


def refuses_all(link: Link) -> None:
    """Nothing is armed, shown, lit or moved."""
    data = pattern(2)
    for offset in range(0, len(data), 256):
        link.call("CHUNK", offset=offset, data=data[offset : offset + 256])
    link.call("STAGE", length=len(data), pattern_id=zlib.crc32(data))
    for name, values in (
        ("ARM", {"operator": "test", "light": True}),
        ("COMMIT", {"pattern_id": zlib.crc32(data)}),
        ("LIGHT", {"level": 9}),
        ("MOVE", {"position_nm": 1000}),
    ):
        with pytest.raises(Refused, match=rf"refused {name}: unsafe \(not armed; detail: the state; detail 3\)"):
            link.call(name, **values)


def test_a_light_that_stays_on(core: InProcess, link: Link) -> None:
    core.break_down(light=True)
    fails(link, "OFF", 7)
    state = link.call("HEARTBEAT")
    # It says what is, not what should be.
    assert (state["level"], state["parked"], state["light_armed"]) == (7, True, False)
    refuses_all(link)
    core.idle(5.0)
    refuses_all(link)
    fails(link, "SAFE", 7)
    core.break_down()
    # That it is gone does not end it: somebody must say SAFE.
    refuses_all(link)
    assert link.call("SAFE") == {"pattern_id": DARK, "parked": True}
    assert core.effects("l")[-1] == 0
    link.call("ARM", operator="test", light=True)
    assert link.call("LIGHT", level=9) == {"level": 9}


def test_a_light_that_stays_off(core: InProcess, link: Link) -> None:
    core.break_down(light=True)
    fails(link, "LIGHT", 7, level=9)
    refuses_all(link)


@pytest.mark.parametrize("name", ["PARK", "SAFE"])
def test_a_mask_that_cannot_be_parked_turns_the_light_off(core: InProcess, link: Link, name: str) -> None:
    core.break_down(mask=True)
    fails(link, name, STUCK)
    state = link.call("HEARTBEAT")
    assert (state["level"], state["parked"]) == (0, False)
    assert link.call("READBACK") == {"pattern_id": STUCK, "parked": False}
    refuses_all(link)


def test_a_mask_that_shows_something_else(core: InProcess, link: Link) -> None:
    core.break_down(mask=True)
    shown = bytearray(pattern(2))
    assert shown[0] != 0xFF
    shown[0] = 0xFF
    with pytest.raises(Refused, match=rf"refused COMMIT: fault .*detail {zlib.crc32(shown)}\)"):
        show(link, pattern(2))
    state = link.call("HEARTBEAT")
    assert (state["state"], state["level"], state["light_armed"]) == (State.fault, 0, False)
    refuses_all(link)


def test_a_pattern_that_changes_in_memory_is_not_shown(core: InProcess, link: Link) -> None:
    data = pattern(2)
    for offset in range(0, len(data), 256):
        link.call("CHUNK", offset=offset, data=data[offset : offset + 256])
    link.call("STAGE", length=len(data), pattern_id=zlib.crc32(data))
    core.flip(1000)
    damaged = bytearray(data)
    damaged[1000] ^= 1
    fails(link, "COMMIT", zlib.crc32(damaged), pattern_id=zlib.crc32(data))
    assert core.effects("a") == [zlib.crc32(pattern(1))]
    state = link.call("HEARTBEAT")
    assert (state["level"], state["parked"]) == (0, True)
    refuses_all(link)
    link.call("SAFE")
    link.call("ARM", operator="test", light=False)
    assert show(link, data)["pattern_id"] == zlib.crc32(data)


def test_a_lease_that_runs_out_on_a_mask_that_cannot_be_parked(core: InProcess, link: Link) -> None:
    core.break_down(mask=True)
    core.idle(1.1)
    state = link.call("HEARTBEAT")
    assert (state["state"], state["level"], state["parked"], state["lease_losses"]) == (State.fault, 0, False, 1)
    refuses_all(link)


@pytest.mark.parametrize("mended", [True, False])
def test_a_new_session_and_a_reset_look_again(core: InProcess, link: Link, mended: bool) -> None:
    core.break_down(mask=True)
    fails(link, "PARK", STUCK)
    core.break_down(mask=not mended)
    for number in range(2):
        if number:
            core.reboot()
        link = Link(core, clock=core.clock, sleep=core.clock.sleep, rng=np.random.default_rng(number))
        link.open()
        assert link.call("HEARTBEAT")["state"] == (State.safe if mended else State.fault)
        if not mended:
            refuses_all(link)


@pytest.mark.parametrize("broken", ["light", "mask"])
def test_the_host_is_told_over_the_wire(tmp_path: Path, broken: str) -> None:
    with Emulator.host(built("host"), tmp_path / "log", broken=broken) as device:
        controller = Controller(Link(SerialTransport.emulated(device.path)), "HOST0001")
        mask, light = controller.mask(), controller.light()
        light.arm("test")
        assert light.set(0.5) == pytest.approx(0.5, abs=1e-4)
        device.break_or_mend()
        end_s = time.monotonic() + 20
        # The signal comes when it comes.
        with pytest.raises(DeviceError, match=r"refused (LIGHT|PARK): fault"):
            while time.monotonic() < end_s:
                light.set(0.25 if light.set(0.5) else 0.0)
                mask.park()
        assert "fault" in [event["event"] for event in device.events()]
        part = light if broken == "light" else mask
        with pytest.raises(DeviceError, match=r"refused (OFF|PARK): fault"):
            part.safe()
        device.break_or_mend()
        while time.monotonic() < end_s:
            try:
                part.safe()
                break
            except DeviceError:
                time.sleep(0.01)
        with pytest.raises(DeviceError, match="refused ARM: unsafe"):
            light.arm("test")
        assert all(check.passed for check in part.selftest())
        light.arm("test")
        assert light.set(0.5) == pytest.approx(0.5, abs=1e-4)
        mask.close()
        light.close()
