"""What the devices of a bench are set to: told only what changes, and believed only what they read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Camera, CameraSettings, Light, MaskDevice, Pattern, Shown, Stage
from firmware_bridge.session.bench import Bench
from firmware_bridge.session.files import load_array
from firmware_bridge.session.plan import Shot

# What may be rounding: V4L2 counts exposures in steps of 100 us, others in lines.
_EXPOSURE_TOLERANCE = 0.02
_EXPOSURE_STEP_S = 50e-6
_GAIN_TOLERANCE_DB = 0.1
_SHARE_TOLERANCE = 0.01

PATTERNS = "patterns"
"""Where a session keeps its patterns."""


class FalseReadback(DeviceError):
    """A device says that it does something else than it was told, without refusing. Trying again does not help."""


@dataclass(frozen=True)
class ReadBack:
    """What devices said after an exposure.

    Attributes:
        pattern_id: Pattern that the mask shows, None without a mask.
        light_share: Power of the light as a share of the largest, None without a light.
        position_m: Position of the stage when it had come to rest, None without a stage.
    """

    pattern_id: int | None
    light_share: float | None
    position_m: float | None


def pattern_path(folder: Path, pattern_id: int) -> Path:
    """Where a session keeps a pattern."""
    return folder / PATTERNS / f"{pattern_id:08x}.npy"


def configure(camera: Camera, settings: CameraSettings) -> None:
    """Set a camera and check what it reads back.

    Raises:
        FalseReadback: See :func:`check_settings`.
        DeviceError: It refuses.
    """
    check_settings(settings, camera.configure(settings))


def check_settings(wanted: CameraSettings, read: CameraSettings) -> None:
    """Check that a camera rounded its settings at most.

    Args:
        wanted: What it was set to.
        read: What it read back.

    Raises:
        FalseReadback: It exposes otherwise.
    """
    if abs(read.exposure_s - wanted.exposure_s) > max(_EXPOSURE_TOLERANCE * wanted.exposure_s, _EXPOSURE_STEP_S):
        raise FalseReadback(
            f"the camera was set to expose {wanted.exposure_s:g} s and exposes {read.exposure_s:g} s; turn off what is "
            "automatic, or plan an exposure that it keeps."
        )
    if abs(read.gain_db - wanted.gain_db) > _GAIN_TOLERANCE_DB:
        raise FalseReadback(
            f"the camera was set to a gain of {wanted.gain_db:g} dB and has {read.gain_db:g} dB; turn off what is "
            "automatic, or plan a gain that it keeps."
        )
    # A plan that names no region wants the whole sensor, which a camera may read back in pixels.
    if read.bits != wanted.bits or (wanted.roi is not None and read.roi != wanted.roi):
        raise FalseReadback(
            f"the camera was set to {wanted.bits} bits of roi {wanted.roi} and has {read.bits} bits of roi {read.roi}; "
            "plan what it keeps."
        )


class Setting:
    """Brings a bench from one frame to the next. Begin a new one whenever the bench was made safe: nothing is set then.

    Args:
        bench: Armed devices.
        folder: Session whose patterns are shown.
    """

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench = bench
        self._folder = folder
        self._settings: CameraSettings | None = None
        self._pattern_id: int | None = None
        self._light_share: float | None = None
        self._position_m: float | None = None
        self._position_read_m: float | None = None

    def apply(self, shot: Shot) -> bool:
        """Set everything for a frame: the light last, so that nothing moves in it.

        Returns:
            Whether the camera was started anew, so that it counts frames from the beginning.

        Raises:
            FalseReadback: A device reads back something else.
            DeviceError: A device refuses, or is not armed any more.
        """
        anew = shot.settings != self._settings
        if anew:
            self._bench.camera.stop()
            configure(self._bench.camera, shot.settings)
            self._bench.camera.start()
            self._settings = shot.settings
        if shot.position_m is not None and shot.position_m != self._position_m:
            self._position_read_m = self._move_to(shot.position_m)
            self._position_m = shot.position_m
        if shot.pattern_id is not None and shot.pattern_id != self._pattern_id:
            self._show(shot.pattern_id)
            self._pattern_id = shot.pattern_id
        if shot.light_share is not None and shot.light_share != self._light_share:
            self._light_to(shot.light_share)
            self._light_share = shot.light_share
        return anew

    def confirm(self, shot: Shot) -> ReadBack:
        """Read back after an exposure. Mask and light latch into their safe states when they lose their lease, so what
        they do now, they did during the exposure. A light tells nothing unless it is set anew.

        Raises:
            FalseReadback: A device reads back something else.
            DeviceError: A device is not armed any more.
        """
        pattern_id, share = shot.pattern_id, shot.light_share
        return ReadBack(
            None if pattern_id is None else self._check_shown(pattern_id, self._mask.readback()),
            None if share is None else self._light_to(share),
            self._position_read_m,
        )

    @property
    def _mask(self) -> MaskDevice:
        # A plan names patterns only where there is a mask; so for light and stage.
        return cast(MaskDevice, self._bench.mask)

    def _move_to(self, position_m: float) -> float:
        stage = cast(Stage, self._bench.stage)
        read_m = stage.move_to(position_m)
        if abs(read_m - position_m) > stage.capabilities().resolution_m:
            raise FalseReadback(
                f"the stage was sent to {position_m:g} m and stands at {read_m:g} m; see what blocks it."
            )
        return read_m

    def _show(self, pattern_id: int) -> None:
        path = pattern_path(self._folder, pattern_id)
        self._mask.stage(Pattern(load_array(path, f"the pattern {path}")))
        self._check_shown(pattern_id, self._mask.commit())

    @staticmethod
    def _check_shown(pattern_id: int, shown: Shown) -> int:
        if shown.parked:
            raise DeviceError("the mask has been parked; its lease ran out, or it was reset.")
        if shown.pattern_id != pattern_id:
            raise FalseReadback(
                f"the mask shows {shown.pattern_id:08x} instead of {pattern_id:08x}; run its self-test."
            )
        return shown.pattern_id

    def _light_to(self, share: float) -> float:
        read = cast(Light, self._bench.light).set(share)
        if abs(read - share) > _SHARE_TOLERANCE or (share == 0) != (read == 0):
            raise FalseReadback(f"the light was set to {share:g} and reads back {read:g}; run its self-test.")
        return read
