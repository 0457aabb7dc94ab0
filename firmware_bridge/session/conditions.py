"""Whether the next frame may be taken: the operator, the disk, and the temperature of the sensor."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from firmware_bridge.protocols import CameraSettings, Frame
from firmware_bridge.session.bench import Bench, Limits
from firmware_bridge.session.setting import FalseReadback, configure

COOL_BY_C = 2.0
"""How far below its limit the sensor must be before a session goes on."""

GRAB_S = 2.0
"""Time that a frame may take beyond its exposure."""


class Unfit(Exception):
    """Conditions do not allow the next frame.

    Args:
        reason: Why they do not.
        fit: Returns why they still do not, or None when they do.
        doubted: Whether frames since the last sentinel are to be taken again.
        patience_s: How long to wait, None for as long as usual.
    """

    def __init__(
        self,
        reason: str,
        fit: Callable[[], str | None],
        *,
        doubted: bool = False,
        patience_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fit = fit
        self.doubted = doubted
        self.patience_s = patience_s


class Stopped(KeyboardInterrupt):
    """The operator ended the session between two frames; all that were taken are kept."""


class Operator:
    """What the operator wants; said from any thread."""

    _PAUSED = "the operator paused"

    def __init__(self) -> None:
        self._pause = threading.Event()
        self._stop = threading.Event()

    def pause(self) -> None:
        """No frame before :meth:`proceed`."""
        self._pause.set()

    def proceed(self) -> None:
        """Go on after :meth:`pause`."""
        self._pause.clear()

    def stop(self) -> None:
        """No frame any more."""
        self._stop.set()

    def check_stop(self) -> None:
        """Let a session go on that is not to end.

        Raises:
            Stopped: The operator wants no frame any more.
        """
        if self._stop.is_set():
            raise Stopped("the operator stopped")

    def check(self) -> None:
        """Let the next frame be taken.

        Raises:
            Stopped: The operator wants no frame any more.
            Unfit: The operator wants none for now.
        """
        self.check_stop()
        if self._pause.is_set():
            raise Unfit(self._PAUSED, lambda: self._PAUSED if self._pause.is_set() else None, patience_s=math.inf)


def disk_short(free: int, limits: Limits, frames: int, frame_bytes: int) -> str | None:
    """Why frames do not fit on a disk, or None.

    Args:
        free: Number of bytes that are free.
        limits: Limits of the bench, with the bytes that it keeps free.
        frames: Number of frames that come next.
        frame_bytes: Bytes of each frame.
    """
    kept = limits.disk_free_bytes
    if free >= kept + frames * frame_bytes:
        return None
    return f"the disk has {free} bytes free; the bench keeps {kept} free, and {frames} frames come next"


def too_warm(frame: Frame, limits: Limits) -> str | None:
    """Why the sensor was too warm for a frame, or None.

    Raises:
        FalseReadback: There is a limit and no thermometer.
    """
    limit_c = limits.temperature_c
    if limit_c is None:
        return None
    if frame.temperature_c is None:
        raise FalseReadback(
            f"the bench limits the sensor to {limit_c:g} C and the camera tells no temperature; leave the limit "
            "out and watch it otherwise, or take another camera."
        )
    if frame.temperature_c <= limit_c:
        return None
    return f"the sensor has {frame.temperature_c:.1f} C, the bench allows {limit_c:g} C"


def still_warm(bench: Bench, settings: CameraSettings) -> str | None:
    """Expose a frame without light and tell why the sensor is still too warm, or None.

    Args:
        bench: Safe devices, with a limit of the temperature.
        settings: Settings of the frame.
    """
    if bench.file.limits.temperature_c is None:
        return None
    enough_c = bench.file.limits.temperature_c - COOL_BY_C
    bench.camera.stop()
    configure(bench.camera, settings)
    bench.camera.start()
    found_c = bench.camera.grab(settings.exposure_s + GRAB_S).temperature_c
    bench.camera.stop()
    if found_c is not None and found_c <= enough_c:
        return None
    return f"the sensor has {found_c} C, {enough_c:g} C are needed to go on"
