"""The firmware built for the ATmega1284P, on a simulated chip: it is not bound to this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.wire_doubles import built, pattern, smoke

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


CLIENT = """
import sys, time
from pathlib import Path
from firmware_bridge.wire.link import Heartbeat, Link
from firmware_bridge.wire.serial_transport import SerialTransport
from tests.firmware_bridge.wire_doubles import pattern, show
link = Link(SerialTransport.emulated(Path(sys.argv[1])))
link.open()
link.call("ARM", operator="victim", light=True)
Heartbeat(link)
show(link, pattern(2))
link.call("LIGHT", level=30000)
print("lit", flush=True)
time.sleep(600)
"""


def test_a_killed_program_leaves_the_lines_low_within_a_second_of_the_chip(tmp_path: Path) -> None:
    with Emulator.avr(built("avr"), tmp_path / "log") as device:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(device.path)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "lit\n"
        lit = len(device.events())
        end_s = time.monotonic() + 120

        def heard() -> int:
            return sum(event["event"] == "heard" for event in device.events()[lit:])

        # Only heartbeats come, and the chip has nothing else to do.
        while heard() < 3 and time.monotonic() < end_s:
            time.sleep(0.05)
        client.send_signal(signal.SIGKILL)
        client.wait()
        client.stdout.close()
        low: list[dict[str, int | str]] = []
        while len(low) < 2 and time.monotonic() < end_s:
            time.sleep(0.1)
            low = [e for e in device.events()[lit:] if e["event"] in ("light", "mask_driven") and e["value"] == 0]
        events = device.events()
    assert {e["event"] for e in low} == {"light", "mask_driven"}
    # Seen from outside the chip, on its clock: from the last byte of the last frame to the lines. It looks at its clock
    # every millisecond; one more is for rounding. A frame that the host repeated does not renew the lease.
    before = events[: events.index(low[0])]
    heard_ms = max(int(e["t_ms"]) for e in before if e["event"] == "heard")
    for event in low:
        assert 500 <= int(event["t_ms"]) - heard_ms <= 1002
