"""One virtual bench, and what opens its devices; see the table of ``sim.bench``."""

from __future__ import annotations

import time
from collections.abc import Callable

from firmware_bridge.protocols import Device
from firmware_bridge.session.bench import Driver, Wanted
from sim.bench.design import Design, Imperfections
from sim.bench.twins import CameraTwin, LightTwin, MaskTwin, StageTwin
from sim.bench.world import World

_TWINS = {"camera": CameraTwin, "mask": MaskTwin, "light": LightTwin, "stage": StageTwin}


class VirtualBench:
    """One virtual bench, and the drivers of its devices.

    A twin takes the serial number that the file of a bench asks for. Nothing but these names leads to a simulated
    device.

    Args:
        seed: Seed for all imperfections and the noise.
        design: What the bench is built of.
        imperfections: How far it is from its design.
        clock, sleep: Monotonic clock, in s.

    Attributes:
        drivers: ``sim://camera``, ``sim://mask``, ``sim://light`` and ``sim://stage``.
    """

    def __init__(
        self,
        seed: int,
        design: Design | None = None,
        imperfections: Imperfections | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        world = World(seed, design, imperfections, start_s=clock())

        def driver(kind: str) -> Driver:
            def open_twin(wanted: Wanted) -> Device:
                return _TWINS[kind](world, wanted.serial, clock=clock, sleep=sleep)

            return open_twin

        self.drivers: dict[str, Driver] = {f"sim://{kind}": driver(kind) for kind in _TWINS}
