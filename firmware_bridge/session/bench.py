"""The file of a bench, and all devices that it names opened at once.

``bench.toml``::

    name = "left table"
    origin = "bench"          # what every device must be: bench, emulated, simulated; or mixed

    [camera]
    driver = "aravis"
    serial = "OS01"

    [mask]
    driver = "mcu"
    serial = "A4-0017"

    [light]
    part_of = "mask"          # behind the same controller

    [limits]
    exposure_s = 0.5
    light_share = 0.4
    temperature_c = 55.0      # of the camera's sensor; leave it out where the camera tells none
    disk_free_bytes = 1000000000

Mask, light and stage may be absent. A device that is missing is never replaced by a simulated one: drivers are named
in the file, and what each device says of its origin must be what the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from firmware_bridge.errors import BridgeError, DeviceError, DevicesFailed, SessionError
from firmware_bridge.protocols import (
    Armable,
    Camera,
    Device,
    FollowsSession,
    Identity,
    Light,
    MaskDevice,
    Stage,
)
from firmware_bridge.session.files import read_model

Kind = Literal["camera", "mask", "light", "stage"]

# In the order in which they are made safe: what can harm an eye first.
_PROTOCOLS: dict[Kind, type] = {"light": Light, "mask": MaskDevice, "stage": Stage, "camera": Camera}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DeviceEntry(_Strict):
    """One device in the file.

    Attributes:
        driver: Name of the driver; see ``firmware_bridge.devices``.
        serial: Serial number of the device.
        part_of: Instead of both: the device behind whose controller this one is.
        options: What the driver wants to know beside, for example the USB interface.
    """

    driver: str | None = Field(default=None, min_length=1)
    serial: str | None = Field(default=None, min_length=1)
    part_of: Kind | None = None
    options: dict[str, str | int | float | bool] = {}

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        own = self.driver is not None and self.serial is not None
        if own == (self.part_of is not None) or (self.part_of and (self.driver or self.serial)):
            raise ValueError("give driver and serial, or part_of alone")
        return self


class Limits(_Strict):
    """What a session never exceeds, whatever its plan says.

    Attributes:
        exposure_s: Longest exposure.
        light_share: Largest power of the light, as a share of what it can.
        temperature_c: Highest temperature of the sensor; None where the camera tells none.
        disk_free_bytes: Space that is left free on the disk.
    """

    exposure_s: float = Field(gt=0)
    light_share: float = Field(ge=0, le=1)
    temperature_c: float | None = None
    disk_free_bytes: int = Field(ge=0)


class BenchFile(_Strict):
    """A bench; see the head of this file.

    Attributes:
        name: Name of the bench.
        origin: What every device must say of itself, or "mixed".
        camera, mask, light, stage: The devices; all but the camera may be absent.
        limits: What a session never exceeds.
    """

    name: str = Field(min_length=1)
    origin: Literal["bench", "emulated", "simulated", "mixed"]
    camera: DeviceEntry
    mask: DeviceEntry | None = None
    light: DeviceEntry | None = None
    stage: DeviceEntry | None = None
    limits: Limits

    @property
    def entries(self) -> dict[Kind, DeviceEntry]:
        """The devices that there are, light first."""
        return {kind: entry for kind in _PROTOCOLS if (entry := getattr(self, kind)) is not None}

    def wanted(self, kind: Kind) -> Wanted:
        """What to ask a driver for."""
        entry = self.entries[kind]
        owner = self.entries[entry.part_of] if entry.part_of else entry
        return Wanted(kind, str(owner.driver), str(owner.serial), {**owner.options, **entry.options})

    @model_validator(mode="after")
    def _serial_numbers(self) -> Self:
        seen: dict[str, Kind] = {}
        for kind, entry in self.entries.items():
            if entry.part_of:
                owner = self.entries.get(entry.part_of)
                if owner is None or owner.part_of:
                    raise ValueError(
                        f"{kind} is part of {entry.part_of!r}, which must be a device with a driver of its own"
                    )
            elif entry.serial in seen:
                raise ValueError(
                    f"{seen[str(entry.serial)]} and {kind} have one serial number, {entry.serial!r}; correct it, or "
                    f"write part_of if one controller drives both"
                )
            else:
                seen[str(entry.serial)] = kind
        return self


@dataclass(frozen=True)
class Wanted:
    """What a driver is asked to open.

    Attributes:
        kind: "camera", "mask", "light" or "stage".
        driver: Name of the driver in the file.
        serial: Serial number, by which the device is found.
        options: Options of the device; those of the owner first where the device is part of another.
    """

    kind: Kind
    driver: str
    serial: str
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


Driver = Callable[[Wanted], Device]
"""Opens a device, or raises a :class:`BridgeError`, an OSError, or an ImportError that names the missing extra. It is
called once for each device, also where several are parts of one controller."""


def read_bench(path: Path) -> BenchFile:
    """Read the file of a bench.

    Raises:
        SessionError: It is not as it must be; names every wrong place.
    """
    return read_model(path, BenchFile)


class Bench:
    """Devices that are open. As a context, it leaves them safe and closed.

    Attributes:
        file: The file that they were opened by.
        devices: Devices by kind, light first.
        identities: What each device said of itself, by kind.
    """

    def __init__(self, file: BenchFile) -> None:
        self.file = file
        self.devices: dict[Kind, Device] = {}
        self.identities: dict[Kind, Identity] = {}

    @property
    def camera(self) -> Camera:
        """The camera."""
        return cast(Camera, self.devices["camera"])

    @property
    def mask(self) -> MaskDevice | None:
        """The mask, or None."""
        return cast("MaskDevice | None", self.devices.get("mask"))

    @property
    def light(self) -> Light | None:
        """The light, or None."""
        return cast("Light | None", self.devices.get("light"))

    @property
    def stage(self) -> Stage | None:
        """The stage, or None."""
        return cast("Stage | None", self.devices.get("stage"))

    @property
    def origin(self) -> str:
        """The one origin of all devices, or "mixed"."""
        return self.file.origin

    def describe(self) -> dict[str, dict[str, str]]:
        """All identities, ready for JSON."""
        return {kind: {**vars(identity)} for kind, identity in sorted(self.identities.items())}

    def arm(self, operator: str) -> None:
        """Arm every device that acts only while armed.

        Args:
            operator: Name of the person who takes the responsibility.

        Raises:
            DeviceError: One refuses.
        """
        # The light last: a controller of several devices keeps what it was told last, and only the light allows light.
        for device in reversed(self.devices.values()):
            if isinstance(device, Armable):
                device.arm(operator)

    def safe(self) -> None:
        """Bring all devices into their safe states, the light first, each even if another fails.

        Raises:
            DevicesFailed: Some could not be made safe; names each.
        """
        self._all(lambda device: device.safe(), "made safe")

    def begin_shot(self, index: int, key: str) -> None:
        """Tell every device that wants to know which frame comes next; see :class:`FollowsSession`."""
        for device in self.devices.values():
            if isinstance(device, FollowsSession):
                device.begin_shot(index, key)

    def close(self) -> None:
        """Make all devices safe and let go of them, each even if another fails.

        Raises:
            DeviceError: As for :meth:`safe`.
        """
        self._all(lambda device: device.close(), "closed")

    def _all(self, act: Callable[[Device], None], done: str) -> None:
        failures: list[str] = []

        def attempt(kind: Kind, device: Device) -> None:
            try:
                act(device)
            except (BridgeError, OSError) as error:
                failures.append(f"{kind}: {error}")

        # A stack runs all of its calls, whatever any of them raises, the last first.
        with ExitStack() as stack:
            for kind, device in reversed(self.devices.items()):
                stack.callback(attempt, kind, device)
        if failures:
            sentence = f"{len(failures)} of {len(self.devices)} devices could not be {done}; look at the bench:"
            raise DevicesFailed(sentence, failures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_bench(file: BenchFile, drivers: Mapping[str, Driver]) -> Bench:
    """Open all devices of a bench, or none.

    Args:
        file: The file of the bench.
        drivers: What each name of a driver in the file means.

    Raises:
        SessionError: The file names a driver that is not among them; no device is touched then.
        DevicesFailed: Some cannot be opened, are other devices, or have another origin than the file says; tells all of
            them at once. Those that were opened are closed again.
    """
    for kind in file.entries:
        name = file.wanted(kind).driver
        if name not in drivers:
            known = ", ".join(sorted(drivers)) or "none"
            raise SessionError(f"{file.name}: {kind}.driver: there is no driver {name!r}; known are: {known}.")
    bench = Bench(file)
    failures: list[str] = []
    try:
        for kind in file.entries:
            wanted = file.wanted(kind)
            try:
                bench.devices[kind] = device = drivers[wanted.driver](wanted)
                device.safe()
                bench.identities[kind] = _identity(device, wanted, file.origin)
            except (BridgeError, OSError, ImportError) as error:
                failures.append(f"{kind}: {error}")
        if failures:
            sentence = f"{file.name} is not ready, {len(failures)} of {len(file.entries)} devices fail:"
            raise DevicesFailed(sentence, failures)
    except BaseException as error:
        try:
            bench.close()
        except DeviceError as unsafe:
            error.add_note(str(unsafe))
        raise
    return bench


def _identity(device: Device, wanted: Wanted, origin: str) -> Identity:
    found = device.identify()
    if not isinstance(device, _PROTOCOLS[wanted.kind]) or found.kind != wanted.kind:
        raise DeviceError(f"driver {wanted.driver!r} opened a {found.kind}; name a driver of a {wanted.kind}.")
    if found.serial != wanted.serial:
        raise DeviceError(
            f"{found.model} has serial number {found.serial!r}, not {wanted.serial!r}; plug in the right one, or "
            "correct the file of the bench."
        )
    if origin not in ("mixed", found.origin):
        raise DeviceError(
            f"{found.model} {found.serial} is {found.origin}, and the file of the bench says origin = {origin!r}; name "
            "the driver of the device that you mean, or say what the bench is."
        )
    return found
