"""What a bench is made of: the devices as protocols, and readings that say where they came from.

A session, a calibration and a simulation know these protocols and nothing of the drivers behind them. The same code
therefore runs on a real bench, on real drivers in front of emulated devices, and on simulated devices; which of the
three it was is written into every reading by the driver, and nothing can change it afterwards.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import DeviceError
from ground.gates import Gate

Levels = NDArray[np.uint8] | NDArray[np.uint16]


class Origin(StrEnum):
    """Where a reading comes from."""

    bench = "bench"
    """Real devices."""
    emulated = "emulated"
    """The real driver over the real wire, in front of a device that is a program."""
    simulated = "simulated"
    """A simulated device without a wire."""


@dataclass(frozen=True)
class Identity:
    """Which device answered.

    Attributes:
        kind: "camera", "mask", "light" or "stage".
        model: Model, as the device states it.
        serial: Serial number, by which a bench finds it.
        firmware: Version or hash of its firmware, "" where it tells none.
        origin: Where its readings come from.
    """

    kind: str
    model: str
    serial: str
    firmware: str
    origin: Origin


@dataclass(frozen=True)
class CameraSettings:
    """How a camera exposes. Anything automatic is off.

    Attributes:
        exposure_s: Exposure time.
        gain_db: Gain in dB.
        bits: Significant bits of a value.
        roi: Left, top, width, height in pixels, or None for the whole sensor.
    """

    exposure_s: float
    gain_db: float = 0.0
    bits: int = 8
    roi: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class CameraCapabilities:
    """What a camera can do.

    Attributes:
        width, height: Pixels of the sensor.
        bits: Depths that it offers.
        exposure_s: Shortest and longest exposure.
        gain_db: Lowest and highest gain.
        pixel_pitch_m: Distance of two pixels, or None where it is unknown.
        hardware_trigger: Whether it can be triggered by wire.
    """

    width: int
    height: int
    bits: tuple[int, ...]
    exposure_s: tuple[float, float]
    gain_db: tuple[float, float]
    pixel_pitch_m: float | None = None
    hardware_trigger: bool = False


@dataclass(frozen=True)
class Frame:
    """One frame as it was read out, with what is needed to believe it.

    Attributes:
        levels: (H, W) uint8 or uint16, right-justified: the largest value is 2**bits - 1. Read-only.
        bits: Significant bits.
        frame_id: Count of the device; rises by one from frame to frame.
        device_time_s: Clock of the device, None where it has none.
        host_time_s: Monotonic clock of the host at arrival.
        settings: Settings that were read back from the camera for this frame.
        temperature_c: Temperature of the sensor, None where it is unknown.
        camera: Camera that it comes from.
    """

    levels: Levels
    bits: int
    frame_id: int
    device_time_s: float | None
    host_time_s: float
    settings: CameraSettings
    temperature_c: float | None
    camera: Identity

    def __post_init__(self) -> None:
        if self.levels.ndim != 2 or self.levels.dtype not in (np.uint8, np.uint16):
            raise DeviceError(
                f"a frame holds (H, W) uint8 or uint16 values, got {self.levels.shape} of {self.levels.dtype}."
            )
        if self.levels.size and int(self.levels.max()) >= 1 << self.bits:
            raise DeviceError(
                f"{self.camera.model} states {self.bits} bits but sent {int(self.levels.max())}; is the data "
                "left-justified, or the depth another one?"
            )
        self.levels.setflags(write=False)

    @property
    def origin(self) -> Origin:
        """Where it comes from."""
        return self.camera.origin


@dataclass(frozen=True)
class Pattern:
    """What a mask shall show.

    Attributes:
        levels: (H, W) uint8 or uint16 drive values; a deformable mirror takes (1, actuators). Read-only.
        pattern_id: Its CRC-32 (IEEE 802.3) over the values, little-endian, in rows.
    """

    levels: Levels
    pattern_id: int = field(init=False)

    def __post_init__(self) -> None:
        if self.levels.ndim != 2 or self.levels.dtype not in (np.uint8, np.uint16):
            raise DeviceError(
                f"a pattern holds (H, W) uint8 or uint16 values, got {self.levels.shape} of {self.levels.dtype}."
            )
        self.levels.setflags(write=False)
        object.__setattr__(self, "pattern_id", zlib.crc32(self.as_bytes()))

    def as_bytes(self) -> bytes:
        """The values as they go over a wire: little-endian, row after row."""
        return np.ascontiguousarray(self.levels.astype(self.levels.dtype.newbyteorder("<"), copy=False)).tobytes()


@dataclass(frozen=True)
class MaskCapabilities:
    """What a mask can show.

    Attributes:
        width, height: Pixels, or actuators and 1.
        bits: Bits of a drive value.
        settle_s: Time after which a new pattern has settled.
        pitch_m: Distance of two pixels, None where it is unknown.
    """

    width: int
    height: int
    bits: int
    settle_s: float
    pitch_m: float | None = None


@dataclass(frozen=True)
class Shown:
    """What a mask shows now, read back from the device.

    Attributes:
        pattern_id: CRC-32 of the values shown, as the device computed it; the parked state has one of its own.
        parked: Whether it is in its safe state.
        host_time_s: Monotonic clock of the host at the answer.
    """

    pattern_id: int
    parked: bool
    host_time_s: float


@dataclass(frozen=True)
class LightCapabilities:
    """What a light can do.

    Attributes:
        wavelength_m: Centre wavelength, None for white light.
        power_w: Largest optical power, None where it is unknown.
    """

    wavelength_m: float | None
    power_w: float | None


@dataclass(frozen=True)
class StageCapabilities:
    """Where a stage can go.

    Attributes:
        limits_m: Lowest and highest position.
        resolution_m: Smallest step.
    """

    limits_m: tuple[float, float]
    resolution_m: float


class Device(Protocol):
    """What all devices share. A device that was just opened is safe: parked, dark, still."""

    def identify(self) -> Identity:
        """Which device this is."""
        ...

    def selftest(self) -> list[Gate]:
        """What can be checked without an operator; leaves the device safe."""
        ...

    def safe(self) -> None:
        """Bring it into its safe state; may be called at any time, and again."""
        ...

    def close(self) -> None:
        """Make it safe and let go of it; may be called again."""
        ...


@runtime_checkable
class Armable(Protocol):
    """A device that acts only while it is armed. A light always is one."""

    def arm(self, operator: str) -> None:
        """Allow it to act until it is made safe; ``operator`` takes the responsibility."""
        ...


@runtime_checkable
class FollowsSession(Protocol):
    """A device that wants to know which frame of a session comes next.

    A simulated camera draws the noise of a frame by its key, so that a resumed session sees the frames that an
    undisturbed one would have seen.
    """

    def begin_shot(self, index: int, key: str) -> None:
        """Frames from now on are those of one shot, until the next.

        Args:
            index: Place of the shot in the order of the session.
            key: Its name, which no other shot of the session has.
        """
        ...


@runtime_checkable
class Camera(Device, Protocol):
    """A camera."""

    def capabilities(self) -> CameraCapabilities:
        """What it can do."""
        ...

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Set it, read everything back, and return what was read.

        Raises:
            DeviceError: It cannot do that, or reads back something else than a rounding of it.
        """
        ...

    def start(self) -> None:
        """Begin to expose; frames are counted from here."""
        ...

    def grab(self, timeout_s: float) -> Frame:
        """The next frame whose exposure began after this call.

        Raises:
            DeviceError: None came in time; it came damaged; or the count or clock of the device stood still.
        """
        ...

    def stop(self) -> None:
        """End exposing; may be called again."""
        ...


@runtime_checkable
class MaskDevice(Device, Protocol):
    """A mask that can show patterns: spatial light modulator, deformable mirror, or a panel behind a controller."""

    def capabilities(self) -> MaskCapabilities:
        """What it can show."""
        ...

    def stage(self, pattern: Pattern) -> None:
        """Send a pattern without showing it.

        Raises:
            DeviceError: Wrong size or depth, or it did not arrive whole.
        """
        ...

    def commit(self) -> Shown:
        """Show what was staged, and read back what is shown; returns after the pattern has settled.

        Raises:
            DeviceError: Nothing was staged, the device is not armed, or it shows something else.
        """
        ...

    def readback(self) -> Shown:
        """What it shows now."""
        ...

    def park(self) -> Shown:
        """Show the safe pattern."""
        ...


@runtime_checkable
class Light(Device, Protocol):
    """A lamp or laser. It is off until armed, and latches off whenever its lease runs out."""

    def capabilities(self) -> LightCapabilities:
        """What it can do."""
        ...

    def arm(self, operator: str) -> None:
        """Allow light; ``operator`` goes into the journal of the device."""
        ...

    def set(self, share: float) -> float:
        """Set the power as a share 0..1 of the largest, and return what was read back.

        Raises:
            DeviceError: It is not armed, or the share is out of range.
        """
        ...

    def off(self) -> None:
        """No light; it must be armed again."""
        ...


@runtime_checkable
class Stage(Device, Protocol):
    """A stage with one axis."""

    def capabilities(self) -> StageCapabilities:
        """Where it can go."""
        ...

    def move_to(self, position_m: float) -> float:
        """Go there and return where it stands when it has come to rest.

        Raises:
            DeviceError: Out of its limits, or it did not arrive.
        """
        ...

    def position(self) -> float:
        """Where it stands, in metres."""
        ...
