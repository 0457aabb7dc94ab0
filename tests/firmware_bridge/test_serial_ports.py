"""Ports: found by serial number alone, for one program, of an origin that is theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from firmware_bridge.errors import LinkError
from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.protocols import Origin
from firmware_bridge.wire.link import PortUnavailable
from firmware_bridge.wire.serial_transport import SerialTransport, find_port
from tests.firmware_bridge.wire_doubles import built


def _ports(*serials: str | None) -> list[SimpleNamespace]:
    """A device for each, as pyserial lists them on Linux."""
    return [
        SimpleNamespace(device=f"/dev/ttyACM{i}", serial_number=s, interface=None, location=f"1-{i}:1.0")
        for i, s in enumerate(serials)
    ]


def _dual(*names: str | None) -> list[SimpleNamespace]:
    """One device whose interfaces 0, 2, ... are serial ports; the odd ones carry their data."""
    return [
        SimpleNamespace(device=f"/dev/ttyACM{i}", serial_number="D1", interface=name, location=f"1-1.4:1.{2 * i}")
        for i, name in enumerate(names)
    ]


def test_ports_are_found_by_serial_number_only() -> None:
    assert find_port("A2", ports=lambda: _ports(None, "A1", "A2")) == "/dev/ttyACM2"
    with pytest.raises(PortUnavailable, match=r"serial number 'A3'; present are \['A1'\]. Is it plugged in"):
        find_port("A3", ports=lambda: _ports(None, "A1"))
    with pytest.raises(
        LinkError, match=r"2 devices have the serial number 'A1': .*ttyACM0.*ttyACM2.*Unplug all but one"
    ):
        find_port("A1", ports=lambda: _ports("A1", "A2", "A1"))


def test_a_device_with_two_serial_ports_needs_its_interface() -> None:
    def ports() -> list[SimpleNamespace]:
        return _dual("console", "bench link")

    with pytest.raises(LinkError, match=r"has 2 serial ports, on the interfaces: 0 \(console: .*interface = 0 \}"):
        find_port("D1", ports=ports)
    assert find_port("D1", "2", ports) == "/dev/ttyACM1"
    assert find_port("D1", "console", ports) == "/dev/ttyACM0"
    with pytest.raises(PortUnavailable, match=r"no serial port on interface '7'; its interfaces are: 0 .*, 2 "):
        find_port("D1", "7", ports)
    # An interface does not choose between two devices.
    with pytest.raises(LinkError, match="2 devices have the serial number 'A1'"):
        find_port("A1", "0", lambda: _ports("A1", "A1"))


def test_one_port_needs_no_interface_and_may_be_unknown_to_the_system() -> None:
    port = SimpleNamespace(device="COM3", serial_number="A1", interface=None, location=None)
    assert find_port("A1", ports=lambda: [port]) == "COM3"


def test_origin_is_that_of_the_way_to_the_device() -> None:
    assert SerialTransport.usb("A1").origin is Origin.bench
    assert SerialTransport.emulated(Path("/dev/pts/0")).origin is Origin.emulated


def test_only_a_pseudo_terminal_is_emulated(tmp_path: Path) -> None:
    with pytest.raises(PortUnavailable, match="does not exist; is the emulator running"):
        SerialTransport.emulated(tmp_path / "none").open()
    with pytest.raises(LinkError, match="is /dev/null, no pseudo-terminal; name a real device by its serial number"):
        SerialTransport.emulated(Path("/dev/null")).open()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Path]:
    with Emulator.host(built("host"), tmp_path / "log") as device:
        yield device.path


def test_two_programs_cannot_share_a_controller(terminal: Path) -> None:
    first, second = SerialTransport.emulated(terminal), SerialTransport.emulated(terminal)
    first.open()
    with pytest.raises(PortUnavailable, match=r"another program has .* open; close it"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_permission_denied_says_what_to_do(terminal: Path) -> None:
    terminal.chmod(0o000)
    # Permissions do not hold for root, so another user opens it.
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(PortUnavailable, match=r"permission denied for /dev/pts/.*; add this user to the group"):
            SerialTransport.emulated(terminal).open()
    finally:
        os.seteuid(user)
        terminal.chmod(0o600)
