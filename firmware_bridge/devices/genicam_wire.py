"""What a GenICam camera driver needs of one opened camera, whatever brings its features and frames here."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from firmware_bridge.errors import DeviceError

Region = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


class Held(DeviceError):
    """Another program holds the control of the camera, or held it and died."""


@dataclass(frozen=True)
class Arrived:
    """One frame as it came over the wire.

    Attributes:
        raw_id: Id as the device sent it; None where a damaged frame tells none.
        damage: What is wrong with it; "" where it is whole, and only then the rest means something.
        region: What it shows.
        pixel_format: Number of its format (GenICam Pixel Format Naming Convention).
        time_s: Clock of the device, None where it has none.
        data: Its values, little-endian, row after row.
    """

    raw_id: int | None
    damage: str = ""
    region: Region = (0, 0, 0, 0)
    pixel_format: int = 0
    time_s: float | None = None
    data: bytes = b""


class Wire(Protocol):
    """One camera under our control, from its making until :meth:`close`.

    Features have the names of the GenICam Standard Features Naming Convention. What the camera, or the way to it,
    refuses is a :class:`DeviceError`.

    Attributes:
        vendor, model: Vendor and model, as the camera states them.
        emulated: Whether it is a program.
        high: Largest frame id, after which 1 follows; None where ids do not wrap around.
    """

    vendor: str
    model: str
    emulated: bool
    high: int | None

    def lost(self) -> bool:
        """Whether the camera no longer obeys; from then on only :meth:`end` and :meth:`close` may be called."""
        ...

    def has(self, feature: str) -> bool:
        """Whether the camera offers a feature now."""
        ...

    def text(self, feature: str) -> str:
        """A feature as text: a string, or the name of a choice."""
        ...

    def set_text(self, feature: str, value: str) -> None:
        """Set a choice."""
        ...

    def flag(self, feature: str) -> bool:
        """A feature that is on or off."""
        ...

    def set_flag(self, feature: str, value: bool) -> None:
        """Turn a feature on or off."""
        ...

    def number(self, feature: str) -> float:
        """A feature that is a number."""
        ...

    def pixel_formats(self) -> list[str]:
        """Names of the pixel formats that it offers now."""
        ...

    def sensor(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def region(self) -> Region:
        """Which part of the sensor it reads."""
        ...

    def set_region(self, region: Region) -> None:
        """Choose which part of the sensor it reads; not while it exposes."""
        ...

    def exposure_us(self) -> float:
        """Exposure time."""
        ...

    def set_exposure_us(self, value: float) -> None:
        """Set the exposure time."""
        ...

    def exposure_bounds_us(self) -> tuple[float, float]:
        """Shortest and longest exposure time."""
        ...

    def gain(self) -> float:
        """Gain: in dB by feature Gain, in steps by feature GainRaw."""
        ...

    def set_gain(self, value: float) -> None:
        """Set the gain, in the unit of :meth:`gain`."""
        ...

    def gain_bounds(self) -> tuple[float, float]:
        """Lowest and highest gain, in the unit of :meth:`gain`."""
        ...

    def wait_for_trigger(self) -> None:
        """Expose by software trigger alone; not while it exposes."""
        ...

    def begin(self) -> None:
        """Begin to expose, without frames from before."""
        ...

    def trigger(self) -> None:
        """Expose one frame."""
        ...

    def receive(self, timeout_s: float) -> Arrived | None:
        """The next frame, or None where none came in time."""
        ...

    def end(self) -> None:
        """End exposing, also of a camera that is lost."""
        ...

    def close(self) -> None:
        """End exposing and let go of it; may be called again."""
        ...


def choose(serial: str, serials: list[str], name: Callable[[int], str]) -> int:
    """Which one of the cameras that are present has a serial number.

    Args:
        serial: Serial number that is wanted.
        serials: Serial numbers of the cameras that are present.
        name: Tells the full name of one of them.

    Raises:
        DeviceError: None has it, or several have.
    """
    found = [index for index, present in enumerate(serials) if present == serial]
    if not found:
        raise DeviceError(
            f"no GenICam camera has the serial number {serial!r}; present are {sorted(serials)}. Is it plugged in, and "
            "in the network of this machine?"
        )
    if len(found) > 1:
        raise DeviceError(
            f"{len(found)} cameras have the serial number {serial!r}: {[name(index) for index in found]}. Unplug all "
            "but one; a bench is not opened by guessing."
        )
    return found[0]


def held(serial: str) -> Held:
    """The error for a camera that another program controls."""
    return Held(f"another program controls camera {serial}, or did until a moment ago; close it, then open again.")


def is_program(vendor: str, address: str) -> bool:
    """Whether a camera is known to be a program: Aravis made it, or it answers from this machine.

    Args:
        vendor: Vendor, as the camera states it.
        address: Its address on the network, "" or anything else where it has none.
    """
    try:
        return vendor == "Aravis" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
