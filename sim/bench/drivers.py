"""Drivers of the virtual bench under the names that a file of a bench calls them by."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from firmware_bridge.protocols import Device
from firmware_bridge.session.bench import Driver, Wanted
from sim.bench.design import Design, Imperfections
from sim.bench.twins import CameraTwin, LightTwin, MaskTwin, StageTwin
from sim.bench.world import World

_TWINS = {"camera": CameraTwin, "mask": MaskTwin, "light": LightTwin, "stage": StageTwin}


def drivers(
    seed: int,
    design: Design | None = None,
    imperfections: Imperfections | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Mapping[str, Driver]:
    """Drivers ``sim://camera``, ``sim://mask``, ``sim://light`` and ``sim://stage`` of one virtual bench.

    A twin takes the serial number that the file asks for. Nothing but these names leads to a simulated device.

    Args:
        seed: of imperfections and noise.
        design: what the bench is built of.
        imperfections: how well.
        clock: monotonic, in s.
        sleep: waits, in s.
    """
    world = World(seed, design, imperfections, start_s=clock())

    def driver(kind: str) -> Driver:
        def open_twin(wanted: Wanted) -> Device:
            return _TWINS[kind](world, wanted.serial, clock=clock, sleep=sleep)

        return open_twin

    return {f"sim://{kind}": driver(kind) for kind in _TWINS}
