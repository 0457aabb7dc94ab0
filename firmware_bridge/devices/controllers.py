"""Controllers that a bench has open, whose parts are its mask, light and stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from firmware_bridge.devices.mcu import Controller
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Device
from firmware_bridge.session.bench import Wanted
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.serial_transport import SerialTransport


class Controllers:
    """Open controllers: the parts of one share it, and when a part is asked for again, it is opened anew.

    Args:
        connect: Opens the controller with a serial number.
    """

    def __init__(self, connect: Callable[[Wanted], Controller]) -> None:
        self._connect = connect
        self._known: dict[str, tuple[Controller, set[str]]] = {}

    def part(self, wanted: Wanted) -> Device:
        """A device behind its controller.

        Raises:
            DeviceError: A controller has no device of that kind, or another one answers.
            LinkError: The controller does not answer.
        """
        controller, kinds = self._known.get(wanted.serial, (None, set[str]()))
        if controller is None or wanted.kind in kinds:
            controller, kinds = self._connect(wanted), set()
            self._known[wanted.serial] = controller, kinds
        makers: Mapping[str, Callable[[], Device]] = {
            "mask": controller.mask,
            "light": controller.light,
            "stage": controller.stage,
        }
        if wanted.kind not in makers:
            raise DeviceError(f"a controller has no {wanted.kind}; name the driver of one.")
        kinds.add(wanted.kind)
        return makers[wanted.kind]()


def usb_controller(wanted: Wanted) -> Controller:
    """Open the controller on USB that a bench wants; its option ``interface`` chooses among several serial ports."""
    interface = wanted.options.get("interface")
    return Controller(
        Link(SerialTransport.usb(wanted.serial, None if interface is None else str(interface))), wanted.serial
    )
