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


def find_port(serial_number: str, ports: Callable[[], Iterable[PortInfo]] = list_ports.comports) -> str:
    """The port of the USB device with this serial number; a name is never guessed.

    Args:
        serial_number: as the USB descriptor tells it.
        ports: lists the ports.

    Raises:
        PortUnavailable: There is none.
        LinkError: There are two.
    """
    present = list(ports())
    found = sorted(port.device for port in present if port.serial_number == serial_number)
    if not found:
        known = sorted(port.serial_number for port in present if port.serial_number)
        raise PortUnavailable(
            f"no USB serial device has the serial number {serial_number!r}; present are {known}. Is it plugged in?"
        )
    if len(found) > 1:
        raise LinkError(
            f"{len(found)} devices have the serial number {serial_number!r}: {found}. Unplug all but one, or give one "
            "another number; a bench is not opened by guessing."
        )
    return found[0]


class SerialTransport:
    """A serial port, for this program alone. Made by :meth:`usb` or :meth:`emulated`, which decide its origin."""

    def __init__(self, find: Callable[[], str], origin: Origin) -> None:
        self._find = find
        self._origin = origin
        self._port: serial.Serial | None = None

    @classmethod
    def usb(cls, serial_number: str) -> SerialTransport:
        """A real device, found by its serial number each time that it is opened.

        Args:
            serial_number: as the USB descriptor tells it.
        """
        return cls(lambda: find_port(serial_number), Origin.bench)

    @classmethod
    def emulated(cls, path: Path) -> SerialTransport:
        """A device that is a program.

        Args:
            path: its pseudo-terminal, or a symbolic link to it, which is followed each time that it is opened.
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
