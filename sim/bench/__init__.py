"""The virtual bench, and its drivers under the names that the file of a bench calls them by.

Nothing but these names leads to a simulated or emulated device. Like the drivers of real devices, they are imported
when a device is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from firmware_bridge.devices.drivers import BenchContext, DeviceDriver, DriverOptions
from firmware_bridge.protocols import Device
from firmware_bridge.session.bench import Kind, Wanted

if TYPE_CHECKING:
    from sim.bench.drivers import VirtualBench
    from sim.bench.emulated import EmulatedBench

_KINDS: tuple[Kind, ...] = ("camera", "mask", "light", "stage")


class EmulatedCameraOptions(DriverOptions):
    """Options of the camera of driver ``emulated``.

    Attributes:
        seed: Seed for all imperfections and the noise.
        ideal: Whether the bench is without imperfections.
    """

    seed: int = Field(default=0, ge=0)
    ideal: bool = False


class VirtualCameraOptions(DriverOptions):
    """Options of the camera of a virtual bench.

    Attributes:
        seed: Seed for all imperfections and the noise of the bench.
    """

    seed: int = Field(default=0, ge=0)


def _virtual_bench(context: BenchContext) -> VirtualBench:
    from sim.bench.drivers import VirtualBench

    camera = context.file.wanted("camera")
    named = camera.driver == "sim://camera"
    return VirtualBench(_twin("camera").read_options(camera).seed if named else 0)


def _emulated_bench(context: BenchContext) -> EmulatedBench:
    from sim.bench.emulated import EmulatedBench

    return EmulatedBench(context.stack)


def _begin_twin(context: BenchContext) -> Callable[[Wanted, DriverOptions], Device]:
    return lambda wanted, options: context.shared(_virtual_bench).drivers[wanted.driver](wanted)


def _begin_emulated(context: BenchContext) -> Callable[[Wanted, DriverOptions], Device]:
    return lambda wanted, options: context.shared(_emulated_bench).open(wanted, options)


def _twin(kind: Kind) -> DeviceDriver[Any]:
    options = VirtualCameraOptions if kind == "camera" else DriverOptions
    return DeviceDriver(
        f"sim://{kind}", f"{kind}: its twin on a virtual bench, without a wire", {kind: options}, _begin_twin
    )


DRIVERS: tuple[DeviceDriver[Any], ...] = (
    DeviceDriver(
        "emulated",
        "the firmware for this machine on a pseudo-terminal, and a GigE Vision camera that sees its mask",
        {kind: EmulatedCameraOptions if kind == "camera" else DriverOptions for kind in _KINDS},
        _begin_emulated,
    ),
    *(_twin(kind) for kind in _KINDS),
)
"""Drivers of simulated and emulated devices."""
