"""Devices of the virtual bench. They keep to the protocols of real ones, and every reading says ``simulated``.

Their clock is injected and they wait by the injected sleep, so a session of hours may take seconds. They have no wire
and no lease: they end with the program that uses them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from firmware_bridge.devices.frames import check_settings
from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import (
    CameraCapabilities,
    CameraSettings,
    Frame,
    Identity,
    LightCapabilities,
    MaskCapabilities,
    Origin,
    Pattern,
    Shown,
    StageCapabilities,
)
from ground.gates import Gate
from sim.bench.world import World

_EXPOSURE_STEP_S = 1e-6
_GAIN_STEP_DB = 0.1
_READOUT_S = 1e-3
_LIGHT_STEPS = 65535


class _Twin:
    """What all twins share.

    Args:
        world: The bench that it is a part of.
        serial: Serial number that it tells.
        clock, sleep: Monotonic clock, in s.
    """

    kind: str

    def __init__(
        self,
        world: World,
        serial: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._world = world
        self._clock = clock
        self._sleep = sleep
        self._closed = False
        self._identity = Identity(self.kind, f"twin {self.kind}", serial, "", Origin.simulated)
        self._begin()

    def _begin(self) -> None:
        """State that only one kind of twin has."""

    def identify(self) -> Identity:
        """Which device this is."""
        return self._identity

    def safe(self) -> None:
        """Bring it into its safe state; may be called at any time, and again."""
        raise NotImplementedError

    def selftest(self) -> list[Gate]:
        """What can be checked without an operator; leaves it safe."""
        raise NotImplementedError

    def close(self) -> None:
        """Make it safe and let go of it; may be called again."""
        if not self._closed:
            self.safe()
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise DeviceError(f"the twin of the {self.kind} is closed; open it again.")


class _ArmedTwin(_Twin):
    """A twin that acts only while it is armed."""

    _armed = False

    def arm(self, operator: str) -> None:
        """Allow it to act until it is made safe; ``operator`` takes the responsibility."""
        self._open()
        if not operator:
            raise DeviceError("say who takes the responsibility: the operator's name is empty.")
        self._armed = True

    def _need_arm(self) -> None:
        self._open()
        if not self._armed:
            raise DeviceError(f"the {self.kind} is not armed; call arm() first.")

    def _refuses(self, name: str, act: Callable[[], object]) -> Gate:
        try:
            act()
        except DeviceError as refusal:
            return Gate(name, "not armed" in str(refusal), f"refused: {refusal}")
        return Gate(name, False, "it was carried out")


class MaskTwin(_ArmedTwin):
    """The mask of a :class:`World`."""

    kind = "mask"

    def _begin(self) -> None:
        design = self._world.design
        parked = np.zeros((design.mask_height, design.mask_width))
        self._parked = Pattern(parked.astype(np.uint8) if design.mask_bits <= 8 else parked.astype(np.uint16))
        self._staged: Pattern | None = None
        self._shown = self._parked

    def capabilities(self) -> MaskCapabilities:
        """What it can show."""
        design = self._world.design
        return MaskCapabilities(
            design.mask_width, design.mask_height, design.mask_bits, design.mask_settle_s, design.mask_pitch_m
        )

    def stage(self, pattern: Pattern) -> None:
        """Take a pattern without showing it; see :meth:`MaskDevice.stage`."""
        self._open()
        wanted, top = self._parked.levels.shape, (1 << self._world.design.mask_bits) - 1
        if (
            pattern.levels.shape != wanted
            or pattern.levels.dtype != self._parked.levels.dtype
            or int(pattern.levels.max()) > top
        ):
            raise DeviceError(
                f"this mask takes {wanted} {self._parked.levels.dtype} levels up to {top}, the pattern has "
                f"{pattern.levels.shape} of {pattern.levels.dtype} up to {int(pattern.levels.max())}; scale it to the "
                "mask."
            )
        self._staged = pattern

    def commit(self) -> Shown:
        """Show what was staged and wait until it has settled; see :meth:`MaskDevice.commit`."""
        self._need_arm()
        if self._staged is None:
            raise DeviceError("nothing was staged; call stage() before commit().")
        self._show(self._staged)
        self._sleep(self._world.design.mask_settle_s)
        return self.readback()

    def readback(self) -> Shown:
        """What it shows now."""
        self._open()
        return Shown(self._shown.pattern_id, self._shown is self._parked, self._clock())

    def park(self) -> Shown:
        """Show the safe pattern."""
        self._open()
        self._show(self._parked)
        return self.readback()

    def safe(self) -> None:
        """Show the safe pattern; it must be armed again."""
        self._armed = False
        self.park()

    def selftest(self) -> list[Gate]:
        """The safe pattern, and a pattern that is not shown unarmed."""
        self.safe()
        shown = self.readback()
        checks = [Gate("mask parked", shown.parked, f"it shows {shown.pattern_id:08x}")]
        self.stage(self._parked)
        checks.append(self._refuses("mask needs to be armed", self.commit))
        self._staged = None
        return checks

    def _show(self, pattern: Pattern) -> None:
        if pattern is not self._shown:
            self._world.panel.show(pattern.levels, self._clock())
        self._shown = pattern


class LightTwin(_ArmedTwin):
    """The lamp of a :class:`World`."""

    kind = "light"

    def capabilities(self) -> LightCapabilities:
        """What it can do."""
        return LightCapabilities(self._world.design.wavelength_m, self._world.design.power_w)

    def set(self, share: float) -> float:
        """Set the power as a share 0..1 of the largest, in steps of 1/65535, and return what was set."""
        self._need_arm()
        if not 0 <= share <= 1:
            raise DeviceError(f"the power of a light is a share 0..1 of its largest, got {share}.")
        found = round(share * _LIGHT_STEPS) / _LIGHT_STEPS
        self._world.lamp.set(found, self._clock())
        return found

    def off(self) -> None:
        """No light; it must be armed again."""
        self._armed = False
        self._world.lamp.set(0.0, self._clock())

    def safe(self) -> None:
        """No light."""
        self.off()

    def selftest(self) -> list[Gate]:
        """Dark, and no light without arming."""
        self.off()
        output = self._world.lamp.output(self._clock())
        return [
            Gate("light off", output == 0, f"it gives {output:g} of its power"),
            self._refuses("light needs to be armed", lambda: self.set(1e-4)),
        ]


class StageTwin(_ArmedTwin):
    """The stage of a :class:`World`: it moves the mask along the axis, out of focus."""

    kind = "stage"

    def capabilities(self) -> StageCapabilities:
        """Where it can go."""
        return StageCapabilities(self._world.design.stage_limits_m, self._world.design.stage_step_m)

    def move_to(self, position_m: float) -> float:
        """Go to the nearest step and return where it stands; see :meth:`Stage.move_to`."""
        self._need_arm()
        design = self._world.design
        low_m, high_m = design.stage_limits_m
        if not low_m <= position_m <= high_m:
            raise DeviceError(f"this stage goes from {low_m:g} m to {high_m:g} m, not to {position_m:g} m.")
        target_m = round(position_m / design.stage_step_m) * design.stage_step_m
        self._sleep(abs(target_m - self._world.position_m) / design.stage_speed_m_s)
        self._world.position_m = target_m
        return target_m

    def position(self) -> float:
        """Where it stands, in metres."""
        return self._world.position_m

    def safe(self) -> None:
        """It stands still; it must be armed again."""
        self._armed = False

    def selftest(self) -> list[Gate]:
        """No motion without arming."""
        self.safe()
        return [self._refuses("stage needs to be armed", lambda: self.move_to(0.0))]


class CameraTwin(_Twin):
    """The camera of a :class:`World`. Each frame begins when it is asked for."""

    kind = "camera"

    def _begin(self) -> None:
        self._boot_s = self._clock()
        self._settings: CameraSettings | None = None
        self._running = False
        self._count = 0

    def capabilities(self) -> CameraCapabilities:
        """What it can do."""
        design = self._world.design
        return CameraCapabilities(
            design.camera_width,
            design.camera_height,
            design.bits,
            design.exposure_s,
            design.gain_db,
            design.pixel_pitch_m,
        )

    def configure(self, settings: CameraSettings) -> CameraSettings:
        """Set it, in steps of 1 µs and 0.1 dB, and return what was set; see :meth:`Camera.configure`."""
        self._open()
        roi = check_settings(settings, self.capabilities())
        self._settings = CameraSettings(
            round(settings.exposure_s / _EXPOSURE_STEP_S) * _EXPOSURE_STEP_S,
            round(settings.gain_db / _GAIN_STEP_DB) * _GAIN_STEP_DB,
            settings.bits,
            roi,
        )
        return self._settings

    def begin_shot(self, index: int, key: str) -> None:
        """Frames from now on are those of one shot of a session; see :meth:`World.turn_to`."""
        self._world.turn_to(index, key)

    def start(self) -> None:
        """Begin to expose; frames are counted from here."""
        self._open()
        if self._settings is None:
            raise DeviceError("the camera was not set; call configure() before start().")
        if not self._running:
            self._count = 0
        self._running = True

    def grab(self, timeout_s: float) -> Frame:
        """Expose a frame; see :meth:`Camera.grab`."""
        self._open()
        if self._settings is None or not self._running:
            raise DeviceError("the camera does not expose; call start() before grab().")
        settings, wrong, draws = self._settings, self._world.imperfections, self._world.frames
        start_s = self._clock()
        self._count += 1
        moment_s = self._world.moment(start_s, settings.exposure_s)
        levels = self._world.expose(moment_s, settings.exposure_s, settings.gain_db, settings.bits, settings.roi)
        # Both are drawn for each frame, so that one rate does not change what befalls under the other.
        lost, late = draws.random(2)
        takes_s = settings.exposure_s + _READOUT_S + (wrong.late_s if late < wrong.late else 0.0)
        if lost < wrong.dropped:
            takes_s = math.inf
        self._sleep(min(takes_s, timeout_s))
        if takes_s > timeout_s:
            raise DeviceError(f"no frame came in {timeout_s:g} s; look at cable, exposure and timeout of the camera.")
        arrived_s = self._clock()
        return Frame(
            levels=levels,
            bits=settings.bits,
            frame_id=self._count,
            device_time_s=start_s - self._boot_s,
            host_time_s=arrived_s,
            settings=settings,
            temperature_c=self._world.temperature_c(moment_s),
            camera=self._identity,
        )

    def stop(self) -> None:
        """End exposing; may be called again."""
        self._running = False

    def safe(self) -> None:
        """End exposing."""
        self.stop()

    def selftest(self) -> list[Gate]:
        """Settings that read back, and two frames one after the other."""
        found = self.configure(CameraSettings(0.01, 0.0, self._world.design.bits[0]))
        checks = [Gate("camera reads back", True, f"exposure {found.exposure_s:g} s, gain {found.gain_db:g} dB")]
        self.start()
        try:
            step = -self.grab(5.0).frame_id + self.grab(5.0).frame_id
            checks.append(Gate("camera counts", step == 1, f"two frames, whose ids differ by {step}"))
        except DeviceError as error:
            checks.append(Gate("camera counts", False, str(error)))
        finally:
            self.stop()
        return checks
