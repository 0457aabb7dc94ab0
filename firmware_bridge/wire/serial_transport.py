"""The serial port under the link: a USB device found by its serial number, or the pseudo-terminal of an emulator."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import serial
from serial.tools import list_ports

from firmware_bridge.errors import LinkError
from firmware_bridge.protocols import Origin
from firmware_bridge.wire import schema
from firmware_bridge.wire.link import PortUnavailable


class PortInfo(Protocol):
    """What pyserial tells of a port."""

    device: str
    serial_number: str | None
    interface: str | None
    location: str | None


def find_port(
    serial_number: str,
    interface: str | None = None,
    ports: Callable[[], Iterable[PortInfo]] = list_ports.comports,
) -> str:
    """The port of the USB device with this serial number; a name is never guessed.

    Args:
        serial_number: As the USB descriptor tells it.
        interface: Number of the USB interface, as text, or its name; None where the device has one serial port.
        ports: Lists the ports.

    Raises:
        PortUnavailable: There is no such device, or it has no such interface.
        LinkError: There are two.
    """
    present = list(ports())
    same = sorted((port for port in present if port.serial_number == serial_number), key=lambda port: port.device)
    if not same:
        known = sorted(port.serial_number for port in present if port.serial_number)
        raise PortUnavailable(
            f"no USB serial device has the serial number {serial_number!r}; present are {known}. Is it plugged in?"
        )
    if len({_device_location(port) for port in same}) > 1:
        raise LinkError(
            f"{len(same)} devices have the serial number {serial_number!r}: {[port.device for port in same]}. Unplug "
            "all but one, or give one another number; a bench is not opened by guessing."
        )
    found = [port for port in same if interface is None or interface in (_interface_number(port), port.interface)]
    there = ", ".join(
        f"{_interface_number(port)} ({port.interface or 'without a name'}: {port.device})" for port in same
    )
    if not found:
        raise PortUnavailable(
            f"the USB device {serial_number!r} has no serial port on interface {interface!r}; its interfaces are: "
            f"{there}. Correct the option interface in the file of the bench."
        )
    if len(found) > 1:
        raise LinkError(
            f"the USB device {serial_number!r} has {len(found)} serial ports, on the interfaces: {there}. Name one in "
            f"the file of the bench: options = {{ interface = {_interface_number(found[0])} }}."
        )
    return found[0].device


def _device_location(port: PortInfo) -> str:
    # The bus and the ports of its hubs, "1-1.4", then configuration and interface: "1-1.4:1.2".
    return (port.location or port.device).partition(":")[0]


def _interface_number(port: PortInfo) -> str:
    return (port.location or "").partition(":")[2].rpartition(".")[2] or "unknown"


class SerialTransport:
    """A serial port, for this program alone. Made by :meth:`usb` or :meth:`emulated`, which decide its origin."""

    def __init__(self, find: Callable[[], str], origin: Origin) -> None:
        self._find = find
        self._origin = origin
        self._port: serial.Serial | None = None

    @classmethod
    def usb(cls, serial_number: str, interface: str | None = None) -> SerialTransport:
        """A real device, found by its serial number each time that it is opened.

        Args:
            serial_number: As the USB descriptor tells it.
            interface: Number of the USB interface, as text, or its name; None where the device has one serial port.
        """
        return cls(lambda: find_port(serial_number, interface), Origin.bench)

    @classmethod
    def emulated(cls, path: Path) -> SerialTransport:
        """A device that is a program.

        Args:
            path: Its pseudo-terminal, or a symbolic link to it, which is followed each time that it is opened.
        """
        return cls(lambda: _pseudo_terminal(path), Origin.emulated)

    @property
    def origin(self) -> Origin:
        """Where readings come from."""
        return self._origin

    def open(self) -> None:
        """See :class:`Transport`."""
        self.close()
        path = self._find()
        try:
            self._port = serial.Serial(path, schema.BAUD, write_timeout=1.0, exclusive=True)
        except OSError as error:
            raise PortUnavailable(_why(path, error)) from error

    def read(self, timeout_s: float) -> bytes:
        """See :class:`Transport`."""
        port = self._opened()
        port.timeout = timeout_s
        first = port.read(1)
        return first + port.read(port.in_waiting) if first else b""

    def write(self, data: bytes) -> None:
        """See :class:`Transport`."""
        self._opened().write(data)

    def close(self) -> None:
        """See :class:`Transport`."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise OSError(errno.EBADF, "the port is closed")
        return self._port


def _pseudo_terminal(path: Path) -> str:
    if not path.exists():
        raise PortUnavailable(f"{path} does not exist; is the emulator running?")
    resolved = path.resolve()
    # Nothing but a pseudo-terminal counts as emulated: a real device may not pass for a program, nor the reverse.
    if not resolved.is_relative_to("/dev/pts"):
        raise LinkError(f"{path} is {resolved}, no pseudo-terminal; name a real device by its serial number.")
    return str(resolved)


def _why(path: str, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"permission denied for {path}; add this user to the group that owns it (often dialout or uucp), log in "
            "again, and do not run as root."
        )
    if error.errno in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in str(error):
        return f"another program has {path} open; close it, two programs cannot share a controller."
    return f"{path} cannot be opened ({error})."
