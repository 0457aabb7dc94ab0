"""What a driver declares of itself, and how drivers are found by the names in the file of a bench.

A driver is one :class:`DeviceDriver`. Those of this room stand in the table of ``firmware_bridge.devices``; other
packages register theirs as entry points of the group ``optishield.devices``, under the name that the file of a bench
calls them by::

    [project.entry-points."optishield.devices"]
    my-camera = "my_package.bench:DRIVER"

Nothing but a name in the file leads to a driver, and no driver stands in for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import Device
from firmware_bridge.session.bench import BenchFile, Driver, Kind, Wanted
from firmware_bridge.session.files import canonical_json, parse_model

GROUP = "optishield.devices"

Options = TypeVar("Options", bound=BaseModel)
_Shared = TypeVar("_Shared")


class DriverOptions(BaseModel):
    """Options of a driver in the file of a bench; a subclass names them. Used as it is, it allows none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BenchContext:
    """What the drivers of one bench share while it is open.

    Attributes:
        file: The file of the bench.
        stack: Ends with the bench; for programs and folders that a driver starts for it.
    """

    def __init__(self, file: BenchFile, stack: ExitStack) -> None:
        self.file = file
        self.stack = stack
        self._shared: dict[object, object] = {}

    def shared(self, make: Callable[[BenchContext], _Shared]) -> _Shared:
        """What ``make`` makes for this bench: made when it is first asked for, and the same object from then on."""
        if make not in self._shared:
            self._shared[make] = make(self)
        return cast(_Shared, self._shared[make])


@dataclass(frozen=True)
class DeviceDriver(Generic[Options]):
    """One driver.

    Attributes:
        name: Name in the file of a bench.
        summary: One line for people who choose a driver.
        options: What each kind of device that it drives may be told in the file, by kind.
        begin: Called once for each bench whose file names the driver; returns what opens a device. That may raise a
            ``BridgeError``, an OSError, or an ImportError that names the missing extra; it is called once for
            each device, also where several are parts of one controller.
    """

    name: str
    summary: str
    options: Mapping[Kind, type[Options]]
    begin: Callable[[BenchContext], Callable[[Wanted, Options], Device]]

    def read_options(self, wanted: Wanted) -> Options:
        """The options of a device, checked strictly.

        Raises:
            SessionError: They are not as the driver wants them, or it drives no such device; names the place.
        """
        if wanted.kind not in self.options:
            raise SessionError(f"{wanted.kind}.driver: {self.name!r} drives a {' or '.join(self.options)}")
        data = canonical_json(dict(wanted.options))
        return parse_model(data, self.options[wanted.kind], f"options of the {wanted.kind}")


@dataclass(frozen=True)
class UnusableDriver(DeviceDriver[Any]):
    """Stands for a driver that cannot be used; a bench that names it is told why, and no other bench is disturbed."""

    def read_options(self, wanted: Wanted) -> Any:
        """Refuse.

        Raises:
            SessionError: Always, with the reason.
        """
        raise SessionError(f"{wanted.kind}.driver: {self.summary}")


def _unusable(name: str, reason: str) -> UnusableDriver:
    return UnusableDriver(name, reason, {}, _never)


def _never(context: BenchContext) -> Callable[[Wanted, Any], Device]:
    raise SessionError("this driver cannot be used.")


def known_drivers(own: Iterable[DeviceDriver[Any]]) -> dict[str, DeviceDriver[Any]]:
    """All drivers that the file of a bench may name.

    Args:
        own: Drivers of this program; those of other packages are added. One that cannot be imported, is no driver, or
            has the name of another one is an :class:`UnusableDriver`.
    """
    found = {driver.name: driver for driver in own}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            reason = f"two packages bring a driver called {entry.name}, one of them is {_package(entry)}; remove one"
            found[entry.name] = _unusable(entry.name, reason)
        else:
            found[entry.name] = _loaded(entry)
    return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _loaded(entry: EntryPoint) -> DeviceDriver[Any]:
    try:
        driver = entry.load()
    except (ImportError, AttributeError) as error:
        reason = f"{entry.name} of {_package(entry)} cannot be imported ({error}); reinstall that package or remove it"
        return _unusable(entry.name, reason)
    if not isinstance(driver, DeviceDriver) or driver.name != entry.name:
        found = driver.name if isinstance(driver, DeviceDriver) else type(driver).__name__
        reason = f"{entry.value} of {_package(entry)} is registered as the driver {entry.name} and is {found}"
        return _unusable(entry.name, f"{reason}; it must be a DeviceDriver of that name")
    return driver


def begin_drivers(file: BenchFile, known: Mapping[str, DeviceDriver[Any]], stack: ExitStack) -> dict[str, Driver]:
    """The drivers that a bench names, ready to open its devices. Nothing is opened yet.

    Args:
        file: The file of the bench.
        known: Drivers by name.
        stack: Ends with the bench; programs that drivers start end with it.

    Raises:
        SessionError: The file names a driver that does not exist, or one of another kind of device, or options that it
            does not take; names every such place.
    """
    wrong: list[str] = []
    for kind in file.entries:
        wanted = file.wanted(kind)
        try:
            if wanted.driver not in known:
                names = ", ".join(sorted(known))
                raise SessionError(f"{kind}.driver: there is no driver {wanted.driver!r}; known are: {names}")
            known[wanted.driver].read_options(wanted)
        except SessionError as error:
            wrong.append(str(error).rstrip("."))
    if wrong:
        raise SessionError(f"the file of {file.name} cannot be used: {'; '.join(wrong)}.")
    context = BenchContext(file, stack)
    return {name: _opener(known[name], context) for name in {file.wanted(kind).driver for kind in file.entries}}


def _opener(driver: DeviceDriver[Any], context: BenchContext) -> Driver:
    begun: list[Callable[[Wanted, Any], Device]] = []

    def open_device(wanted: Wanted) -> Device:
        if not begun:
            begun.append(driver.begin(context))
        return begun[0](wanted, driver.read_options(wanted))

    return open_device


def alone(
    open_device: Callable[[Wanted, Options], Device],
) -> Callable[[BenchContext], Callable[[Wanted, Options], Device]]:
    """``begin`` of a driver whose devices share nothing."""
    return lambda context: open_device
