"""Drivers of real devices, one a file, and the table by which the file of a bench names them.

A new driver is a file with the device class, and a row here. Drivers are imported when a device is opened, so that a
bench needs the packages of its own devices only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from firmware_bridge.devices.drivers import BenchContext, DeviceDriver, DriverOptions, alone
from firmware_bridge.protocols import Device, MaskDevice
from firmware_bridge.session.bench import Kind, Wanted

if TYPE_CHECKING:
    from firmware_bridge.devices.controllers import Controllers


class ControllerOptions(DriverOptions):
    """Options of driver ``mcu``.

    Attributes:
        interface: Number or name of the USB interface, where the device offers several serial ports.
    """

    interface: int | str | None = None


class MirrorOptions(ControllerOptions):
    """Options of driver ``deformable-mirror``; see :class:`MirrorLimits` and :func:`actuator_grid`."""

    low: int = Field(ge=0)
    high: int
    neighbour: int = Field(ge=0)
    across: int = Field(ge=1)
    safe_level: int = 0


class SlmOptions(DriverOptions):
    """Options of driver ``slm``; see :class:`SlmWindow`."""

    settle_s: float = Field(ge=0)
    pitch_m: float | None = Field(default=None, gt=0)
    display: str | None = None
    emulated: bool = False


class AravisOptions(DriverOptions):
    """Options of driver ``aravis``; see :class:`GenicamCamera`."""

    mono16_bits: int = Field(default=16, ge=9, le=16)
    mono16_left: bool = False
    gain_step_db: float | None = Field(default=None, gt=0)


class GentlOptions(DriverOptions):
    """Options of driver ``gentl``; see :func:`gentl_camera`."""

    producer: str | None = Field(default=None, min_length=1)
    mono16_bits: int = Field(default=16, ge=9, le=16)
    mono16_left: bool = False
    gain_step_db: float | None = Field(default=None, gt=0)


class UvcOptions(DriverOptions):
    """Options of driver ``uvc``; see :class:`UvcCamera`."""

    y16_bits: int = Field(default=16, ge=9, le=16)
    y16_left: bool = False


def _controllers(context: BenchContext) -> Controllers:
    from firmware_bridge.devices.controllers import Controllers, usb_controller

    return Controllers(usb_controller)


def _mcu(context: BenchContext) -> Callable[[Wanted, ControllerOptions], Device]:
    return lambda wanted, options: context.shared(_controllers).part(wanted)


def _mirror(context: BenchContext) -> Callable[[Wanted, MirrorOptions], Device]:
    def open_mirror(wanted: Wanted, options: MirrorOptions) -> Device:
        from firmware_bridge.devices.deformable_mirror import DeformableMirror, MirrorLimits, actuator_grid

        part = context.shared(_controllers).part(wanted)
        if not isinstance(part, MaskDevice):
            return part
        grid = actuator_grid(part.capabilities().width, options.across)
        limits = MirrorLimits(options.low, options.high, options.neighbour, grid)
        return DeformableMirror(part, limits, safe_level=options.safe_level)

    return open_mirror


def _slm(wanted: Wanted, options: SlmOptions) -> Device:
    from firmware_bridge.devices.slm_window import SlmWindow

    return SlmWindow(wanted.serial, **options.model_dump())


def _aravis(wanted: Wanted, options: AravisOptions) -> Device:
    from firmware_bridge.devices.genicam import GenicamCamera

    return GenicamCamera(wanted.serial, **options.model_dump())


def _gentl(wanted: Wanted, options: GentlOptions) -> Device:
    from firmware_bridge.devices.gentl import gentl_camera

    return gentl_camera(wanted.serial, **options.model_dump())


def _uvc(wanted: Wanted, options: UvcOptions) -> Device:
    from firmware_bridge.devices.uvc import UvcCamera

    return UvcCamera.usb(wanted.serial, **options.model_dump())


_BEHIND_A_CONTROLLER: tuple[Kind, ...] = ("mask", "light", "stage")

DRIVERS: tuple[DeviceDriver[Any], ...] = (
    DeviceDriver(
        "mcu",
        "mask, light and stage behind a controller on USB that speaks the wire protocol",
        dict.fromkeys(_BEHIND_A_CONTROLLER, ControllerOptions),
        _mcu,
    ),
    DeviceDriver("slm", "mask: a modulator that is a display", {"mask": SlmOptions}, alone(_slm)),
    DeviceDriver(
        "deformable-mirror",
        "mask (with light and stage): a membrane behind a controller on USB",
        dict.fromkeys(_BEHIND_A_CONTROLLER, MirrorOptions),
        _mirror,
    ),
    DeviceDriver("aravis", "camera by GigE Vision or USB3 Vision", {"camera": AravisOptions}, alone(_aravis)),
    DeviceDriver("gentl", "camera by the GenTL producer of its vendor", {"camera": GentlOptions}, alone(_gentl)),
    DeviceDriver("uvc", "camera by V4L2", {"camera": UvcOptions}, alone(_uvc)),
)
"""Drivers of this room; :func:`known_drivers` adds those of other packages."""
