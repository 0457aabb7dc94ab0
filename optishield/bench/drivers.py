"""What the names of drivers in the file of a bench mean. Nothing but a name that says so leads to a program.

| driver | device |
|---|---|
| ``mcu`` | mask, light and stage behind a controller on USB |
| ``slm`` | mask: a modulator that is a display |
| ``deformable-mirror`` | mask (with light and stage): a membrane behind a controller on USB |
| ``aravis`` | camera by GigE Vision or USB3 Vision |
| ``gentl`` | camera by the GenTL producer of its vendor |
| ``uvc`` | camera by V4L2 |
| ``emulated`` | the firmware for this machine on a pseudo-terminal; and a GigE Vision camera that sees its mask |
| ``sim://camera``, ``sim://mask``, ... | twins of one virtual bench, without a wire |
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Device, MaskDevice
from firmware_bridge.session.bench import BenchFile, Driver, Wanted
from firmware_bridge.session.files import canonical_json, parse_model
from firmware_bridge.session.plan import Shot

if TYPE_CHECKING:
    from firmware_bridge.devices.mcu import Controller

_Options = TypeVar("_Options", bound=BaseModel)

_EMULATED_CAMERA_BITS = 12


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SlmOptions(_Strict):
    """Options of driver ``slm``; see :class:`SlmWindow`."""

    settle_s: float = Field(ge=0)
    pitch_m: float | None = Field(default=None, gt=0)
    display: str | None = None
    emulated: bool = False


class MirrorOptions(_Strict):
    """Options of driver ``deformable-mirror``; see :class:`MirrorLimits` and :func:`actuator_grid`."""

    low: int = Field(ge=0)
    high: int
    neighbour: int = Field(ge=0)
    across: int = Field(ge=1)
    safe_level: int = 0


class AravisOptions(_Strict):
    """Options of driver ``aravis``; see :class:`GenicamCamera`."""

    mono16_bits: int = Field(default=16, ge=9, le=16)
    mono16_left: bool = False
    gain_step_db: float | None = Field(default=None, gt=0)


class GentlOptions(_Strict):
    """Options of driver ``gentl``; see :func:`gentl_camera`."""

    producer: str | None = Field(default=None, min_length=1)
    mono16_bits: int = Field(default=16, ge=9, le=16)
    mono16_left: bool = False
    gain_step_db: float | None = Field(default=None, gt=0)


class UvcOptions(_Strict):
    """Options of driver ``uvc``; see :class:`UvcCamera`."""

    y16_bits: int = Field(default=16, ge=9, le=16)
    y16_left: bool = False


class EmulatedOptions(_Strict):
    """Options of driver ``emulated``: the seed of imperfections and noise of its camera, or none of both."""

    seed: int = Field(default=0, ge=0)
    ideal: bool = False


class SimOptions(_Strict):
    """Options of the camera of a virtual bench: the seed of all imperfections and noise."""

    seed: int = Field(default=0, ge=0)


class NoOptions(_Strict):
    """A driver without options."""


def _options(wanted: Wanted, model: type[_Options]) -> _Options:
    return parse_model(canonical_json(dict(wanted.options)), model, f"options of the {wanted.kind}")


class _Controllers:
    """Open controllers: the parts of one share it, and when a part is asked for again, the old ones are closed."""

    def __init__(self, connect: Callable[[str], Controller]) -> None:
        self._connect = connect
        self._known: dict[str, tuple[Controller, set[str]]] = {}

    def part(self, wanted: Wanted) -> Device:
        controller, kinds = self._known.get(wanted.serial, (None, set[str]()))
        if controller is None or wanted.kind in kinds:
            controller, kinds = self._connect(wanted.serial), set()
            self._known[wanted.serial] = controller, kinds
        makers: Mapping[str, Callable[[], Device]] = {
            "mask": controller.mask, "light": controller.light, "stage": controller.stage,
        }  # fmt: skip
        if wanted.kind not in makers:
            raise DeviceError(f"a controller has no {wanted.kind}; name the driver of one.")
        kinds.add(wanted.kind)
        return makers[wanted.kind]()


class _Emulated:
    """One firmware and one camera, each a program that runs until the stack is closed."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._files: tuple[Path, Path] | None = None
        self._paths: dict[str, Path] = {}
        self._feeds: set[str] = set()
        self._controllers = _Controllers(self._connect)

    def __call__(self, wanted: Wanted) -> Device:
        if wanted.kind == "camera":
            return self._camera(wanted)
        _options(wanted, NoOptions)
        return self._controllers.part(wanted)

    def _connect(self, serial: str) -> Controller:
        from firmware_bridge.devices.mcu import Controller
        from firmware_bridge.fw.emulator import Emulator, build
        from firmware_bridge.wire.link import Link
        from firmware_bridge.wire.serial_transport import SerialTransport

        if serial not in self._paths:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="optishield-")))
            self._files = shown, journal = folder / "shown", folder / "journal.jsonl"
            emulator = Emulator.host(build("host", folder), journal, serial=serial, shown=shown)
            self._paths[serial] = self._stack.enter_context(emulator).path
        return Controller(Link(SerialTransport.emulated(self._paths[serial])), serial)

    def _camera(self, wanted: Wanted) -> Device:
        from firmware_bridge.devices.genicam import GenicamCamera
        from sim.bench.genicam_feed import GenicamFeed

        options = _options(wanted, EmulatedOptions)
        if wanted.serial not in self._feeds:
            shown, journal = self._files or (None, None)
            feed = GenicamFeed(wanted.serial, seed=options.seed, ideal=options.ideal, shown=shown, journal=journal)
            self._stack.enter_context(feed)
            self._feeds.add(wanted.serial)
        return GenicamCamera(wanted.serial, mono16_bits=_EMULATED_CAMERA_BITS, gain_step_db=1.0)


def _usb(serial: str) -> Controller:
    from firmware_bridge.devices.mcu import Controller
    from firmware_bridge.wire.link import Link
    from firmware_bridge.wire.serial_transport import SerialTransport

    return Controller(Link(SerialTransport.usb(serial)), serial)


def _slm(wanted: Wanted) -> Device:
    from firmware_bridge.devices.slm_window import SlmWindow

    options = _options(wanted, SlmOptions)
    return SlmWindow(wanted.serial, **options.model_dump())


def _aravis(wanted: Wanted) -> Device:
    from firmware_bridge.devices.genicam import GenicamCamera

    options = _options(wanted, AravisOptions)
    return GenicamCamera(wanted.serial, **options.model_dump())


def _gentl(wanted: Wanted) -> Device:
    from firmware_bridge.devices.gentl import gentl_camera

    options = _options(wanted, GentlOptions)
    return gentl_camera(wanted.serial, **options.model_dump())


def _uvc(wanted: Wanted) -> Device:
    from firmware_bridge.devices.uvc import UvcCamera

    options = _options(wanted, UvcOptions)
    return UvcCamera.usb(wanted.serial, **options.model_dump())


@dataclass(frozen=True)
class Drivers:
    """What opens the devices of a bench.

    Attributes:
        table: drivers by name.
        before_shot: what a session must call before each frame: a virtual bench exposes each as that frame, whatever
            came before, so that an interrupted session ends as an undisturbed one.
    """

    table: Mapping[str, Driver]
    before_shot: Callable[[Shot], None]


@contextlib.contextmanager
def bench_drivers(file: BenchFile) -> Iterator[Drivers]:
    """All drivers, for one bench. Programs that were started for it end with the context.

    Args:
        file: which bench; its virtual devices are twins of one world, whose seed is an option of the camera.

    Raises:
        SessionError: The seed is none.
    """
    controllers = _Controllers(_usb)

    def mcu(wanted: Wanted) -> Device:
        _options(wanted, NoOptions)
        return controllers.part(wanted)

    def mirror(wanted: Wanted) -> Device:
        from firmware_bridge.devices.deformable_mirror import DeformableMirror, MirrorLimits, actuator_grid

        options = _options(wanted, MirrorOptions)
        part = controllers.part(wanted)
        if not isinstance(part, MaskDevice):
            return part
        grid = actuator_grid(part.capabilities().width, options.across)
        limits = MirrorLimits(options.low, options.high, options.neighbour, grid)
        return DeformableMirror(part, limits, safe_level=options.safe_level)

    with contextlib.ExitStack() as stack:
        known: dict[str, Any] = {
            "mcu": mcu,
            "slm": _slm,
            "deformable-mirror": mirror,
            "aravis": _aravis,
            "gentl": _gentl,
            "uvc": _uvc,
            "emulated": _Emulated(stack),
        }
        if any(file.wanted(kind).driver.startswith("sim://") for kind in file.entries):
            from sim.bench.drivers import VirtualBench

            camera = file.wanted("camera")
            seed = _options(camera, SimOptions).seed if camera.driver.startswith("sim://") else 0
            virtual = VirtualBench(seed)
            yield Drivers(known | virtual.drivers, lambda shot: virtual.turn_to(shot.index, shot.key))
        else:
            yield Drivers(known, lambda shot: None)
