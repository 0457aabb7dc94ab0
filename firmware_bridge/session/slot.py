"""The bench of a session, which may be lost and opened again."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from firmware_bridge.errors import DeviceError, UnfitBench
from firmware_bridge.session.bench import Bench, Driver, open_bench
from firmware_bridge.session.folder import Header


class BenchSlot:
    """Holds the open bench of a session, or none while it is lost.

    Args:
        header: Settings of the session, with the devices that it was begun with.
        drivers: What each name of a driver in the file of the bench means.
    """

    def __init__(self, header: Header, drivers: Mapping[str, Driver]) -> None:
        self._header = header
        self._drivers = drivers
        self._bench: Bench | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an open bench."""
        return self._bench is not None

    @property
    def bench(self) -> Bench:
        """The open bench.

        Raises:
            DeviceError: It is lost.
        """
        if self._bench is None:
            raise DeviceError("the bench is not open.")
        return self._bench

    def open(self) -> None:
        """Open the bench, if it is the one that the session was begun with.

        Raises:
            UnfitBench: Devices or their firmware are others.
            DeviceError: Devices cannot be opened.
        """
        bench = open_bench(self._header.bench, self._drivers)
        if bench.describe() != self._header.devices:
            with contextlib.suppress(DeviceError):
                bench.close()
            raise UnfitBench(
                f"the session was begun with {self._header.devices}, these are {bench.describe()}; bring the old "
                "devices and firmware back, or begin a new session."
            )
        self._bench = bench

    def close(self) -> None:
        """Make the bench safe and close it; may be called again.

        Raises:
            DeviceError: A device could not be made safe.
        """
        bench, self._bench = self._bench, None
        if bench:
            bench.close()

    def drop(self) -> None:
        """Close a bench that may be out of reach."""
        with contextlib.suppress(DeviceError):
            self.close()

    def settle(self) -> None:
        """Make the bench safe, or close it where that fails."""
        if self._bench:
            try:
                self._bench.safe()
            except DeviceError:
                self.drop()

    def safe_at_exit(self) -> None:
        """Make the bench safe on the way out of the program, as well as it can be done."""
        if self._bench:
            with contextlib.suppress(DeviceError):
                self._bench.safe()
