"""The firmware built for the ATmega1284P, on a simulated chip: it is not bound to this machine."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import pytest

from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.wire_doubles import built, pattern, show, smoke

# The chip runs slower than the clock on the wall where the machine is busy; its own times are asserted.
pytestmark = pytest.mark.timeout(300)


def test_smoke_conversation(tmp_path: Path) -> None:
    with Emulator.avr(built("avr"), tmp_path / "log") as device:
        link = Link(SerialTransport.emulated(device.path))
        smoke(link)
        assert link.hello["model"] == "atmega1284p"
        link.close()
        events = device.events()
    # What the panel saw on its wire, computed outside the chip.
    assert zlib.crc32(pattern(1)) in [e["value"] for e in events if e["event"] == "panel"]
    assert [e["value"] for e in events if e["event"] == "light"] == [1, 0]


def test_both_builds_tell_the_same_sources(tmp_path: Path) -> None:
    told = []
    for device in (
        Emulator.avr(built("avr"), tmp_path / "avr"),
        Emulator.host(built("host"), tmp_path / "host"),
    ):
        with device:
            link = Link(SerialTransport.emulated(device.path))
            link.open()
            told.append((link.hello["firmware"], link.hello["schema"]))
            link.close()
    assert told[0] == told[1]


def test_silence_takes_the_lines_low_within_a_second_of_the_chip(tmp_path: Path) -> None:
    with Emulator.avr(built("avr"), tmp_path / "log") as device:
        link = Link(SerialTransport.emulated(device.path))
        link.open()
        link.call("ARM", operator="test", light=True)
        show(link, pattern(2))
        link.call("LIGHT", level=30000)
        link.close()
        end_s = time.monotonic() + 120
        while time.monotonic() < end_s:
            low = [e for e in device.events() if e["event"] in ("light", "mask_driven") and e["value"] == 0]
            if len(low) == 2:
                break
            time.sleep(0.1)
        events = device.events()
    lit_ms = next(e["t_ms"] for e in events if e["event"] == "light" and e["value"] == 1)
    assert {e["event"] for e in low} == {"light", "mask_driven"}
    for event in low:
        assert 990 <= int(event["t_ms"]) - int(lit_ms) <= 1100
