"""All drivers that the file of a bench may name: those of real devices, of simulated ones, and of other packages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import sim.bench
from firmware_bridge import devices
from firmware_bridge.devices.drivers import DeviceDriver, begin_drivers, known_drivers
from firmware_bridge.session.bench import BenchFile, Driver


def all_drivers() -> dict[str, DeviceDriver[Any]]:
    """Every driver by its name."""
    return known_drivers([*devices.DRIVERS, *sim.bench.DRIVERS])


@contextlib.contextmanager
def bench_drivers(file: BenchFile) -> Iterator[Mapping[str, Driver]]:
    """The drivers of one bench. Programs that were started for it end with the context.

    Args:
        file: The file of the bench; its virtual devices are twins of one world, whose seed is an option of the camera.

    Raises:
        SessionError: The file names a driver that does not exist, or options that it does not take; no device is
            touched then.
    """
    with contextlib.ExitStack() as stack:
        yield begin_drivers(file, all_drivers(), stack)
