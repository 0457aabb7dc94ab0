"""A deformable mirror: a mask whose pattern is one command per actuator, (1, actuators).

:class:`DeformableMirror` puts the limits of a membrane before any mask of that shape: the panel of a controller
(:class:`McuMask`), or :class:`CommandVector`, two functions of whatever package a maker delivers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Armable, Identity, Levels, MaskCapabilities, MaskDevice, Pattern, Shown
from ground.gates import Gate


@dataclass(frozen=True)
class MirrorLimits:
    """What a membrane bears, by its data sheet.

    Attributes:
        low, high: Smallest and largest level of an actuator.
        neighbour: Largest difference of two actuators side by side or above one another.
        grid: (rows, columns) number of the actuator at each place, -1 where there is none; see :func:`actuator_grid`.
    """

    low: int
    high: int
    neighbour: int
    grid: NDArray[np.int64]

    def check(self, levels: Levels) -> None:
        """Check one command per actuator.

        Args:
            levels: Levels of the actuators, (1, actuators).

        Raises:
            DeviceError: Out of its stroke, or too steep; names the first place.
        """
        command = levels[0].astype(np.int64)
        out = np.flatnonzero((command < self.low) | (command > self.high))
        if out.size:
            raise DeviceError(
                f"actuator {out[0]} is commanded to {command[out[0]]}, its stroke goes from {self.low} to {self.high}; "
                f"scale the command ({out.size} of {command.size} actuators are out of it)."
            )
        for one, other in self.pairs():
            steps = np.abs(command[one] - command[other])
            if steps.size and steps.max() > self.neighbour:
                worst = int(steps.argmax())
                raise DeviceError(
                    f"actuators {one[worst]} and {other[worst]} are neighbours and differ by {steps[worst]}, the "
                    f"membrane bears {self.neighbour}; smooth the command."
                )

    def pairs(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Actuators side by side, and above one another."""
        both = ((self.grid[:, :-1], self.grid[:, 1:]), (self.grid[:-1], self.grid[1:]))
        return [(one[there], other[there]) for one, other in both for there in [(one >= 0) & (other >= 0)]]


def actuator_grid(actuators: int, across: int) -> NDArray[np.int64]:
    """Where the actuators of common mirrors stand, numbered row after row.

    Args:
        actuators: Number of actuators.
        across: Number of actuators in the longest row.

    Returns:
        (across, across) numbers, -1 where there is none: the full square, the square without corners, or the disc.

    Raises:
        DeviceError: No such grid has this many.
    """
    offset = np.arange(across) - (across - 1) / 2
    square = np.ones((across, across), bool)
    cut = square.copy()
    cut[np.ix_((0, -1), (0, -1))] = False
    disc = offset[:, None] ** 2 + offset**2 <= (across / 2) ** 2
    counts = {}
    for name, there in (("a square", square), ("one without corners", cut), ("a disc", disc)):
        if int(there.sum()) == actuators:
            return np.where(there, there.cumsum().reshape(there.shape) - 1, -1)
        counts[name] = int(there.sum())
    known = ", ".join(f"{name} has {count}" for name, count in counts.items())
    raise DeviceError(f"no grid {across} across has {actuators} actuators: {known}; correct across, or pass the grid.")


def _uniform(can: MaskCapabilities, level: int) -> Pattern:
    """One level for all actuators."""
    levels = np.full((1, can.width), level)
    return Pattern(levels.astype(np.uint8) if can.bits <= 8 else levels.astype(np.uint16))


class CommandVector:
    """A mirror behind the package of its maker, or any other way to send a vector and to read it back.

    Such a mirror has no lease: it keeps its last command when this program is killed. Where that may harm it, drive it
    through a controller.

    Args:
        write: Sends one level per actuator, (1, actuators).
        read: Reads back from the device what it applies now, in the same form; never a copy of what was written.
        identity: Identity of the mirror.
        can: What it can show; its height is 1.
        safe_level: Level that all actuators take in the safe state, which is shown at once.
        clock, sleep: Monotonic clock of the host, in s.
    """

    def __init__(
        self,
        write: Callable[[Levels], None],
        read: Callable[[], Levels],
        identity: Identity,
        can: MaskCapabilities,
        *,
        safe_level: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._write = write
        self._read = read
        self._identity = identity
        self._can = can
        self._safe = _uniform(can, safe_level)
        self._staged: Pattern | None = None
        self._clock = clock
        self._sleep = sleep
        self._parked = False
        self.park()

    def identify(self) -> Identity:
        """Which device this is."""
        return self._identity

    def capabilities(self) -> MaskCapabilities:
        """What it can show."""
        return self._can

    def stage(self, pattern: Pattern) -> None:
        """Keep a command without sending it; see :meth:`MaskDevice.stage`."""
        wanted = self._safe.levels
        if (pattern.levels.shape, pattern.levels.dtype) != (wanted.shape, wanted.dtype):
            raise DeviceError(
                f"this mirror takes {wanted.shape} {wanted.dtype} levels, the pattern has {pattern.levels.shape} of "
                f"{pattern.levels.dtype}; give one level per actuator."
            )
        self._staged = pattern

    def commit(self) -> Shown:
        """Send what was staged, wait until it has settled, and read it back; see :meth:`MaskDevice.commit`."""
        if self._staged is None:
            raise DeviceError("nothing was staged; call stage() before commit().")
        return self._apply(self._staged, parked=False)

    def readback(self) -> Shown:
        """What it applies now."""
        return Shown(Pattern(self._read().copy()).pattern_id, self._parked, self._clock())

    def park(self) -> Shown:
        """Bring all actuators to the safe level."""
        return self._apply(self._safe, parked=True)

    def safe(self) -> None:
        """Bring all actuators to the safe level."""
        self.park()

    def close(self) -> None:
        """Bring all actuators to the safe level; may be called again."""
        self.park()

    def selftest(self) -> list[Gate]:
        """The safe level is read back."""
        shown = self.park()
        return [Gate("mask parked", True, f"it applies {shown.pattern_id:08x}")]

    def _apply(self, pattern: Pattern, *, parked: bool) -> Shown:
        self._write(pattern.levels)
        self._parked = parked
        self._sleep(self._can.settle_s)
        shown = self.readback()
        if shown.pattern_id != pattern.pattern_id:
            raise DeviceError(
                f"the mirror applies {shown.pattern_id:08x} instead of {pattern.pattern_id:08x}; did it clip the "
                "command?"
            )
        return shown


class DeformableMirror:
    """A mask of one row of actuators, behind the limits of its membrane.

    In its safe state all actuators take one level, by which the membrane is relaxed and flat.

    Args:
        mask: Mask that sends the commands; it is closed with this one.
        limits: Limits of the membrane.
        safe_level: Level of all actuators in the safe state of ``mask``.

    Raises:
        DeviceError: The mask has another shape, or its safe state is another one; it is closed then.
    """

    def __init__(self, mask: MaskDevice, limits: MirrorLimits, *, safe_level: int = 0) -> None:
        self._mask = mask
        self._limits = limits
        try:
            self._check_mask(safe_level)
        except BaseException:
            mask.close()
            raise

    def _check_mask(self, safe_level: int) -> None:
        can, limits = self._mask.capabilities(), self._limits
        numbers = np.sort(limits.grid[limits.grid >= 0])
        if can.height != 1 or not np.array_equal(numbers, np.arange(can.width)):
            raise DeviceError(
                f"the grid numbers {numbers.size} actuators, the device has {can.width} x {can.height}; give one place "
                "to each of 0..actuators-1, and build the firmware with a height of 1."
            )
        if not 0 <= limits.low <= safe_level <= limits.high < 1 << can.bits:
            raise DeviceError(
                f"stroke {limits.low} to {limits.high} with the safe level {safe_level} does not fit {can.bits} bits; "
                "correct the limits."
            )
        flat = _uniform(can, safe_level)
        parked = self._mask.park()
        if parked.pattern_id != flat.pattern_id:
            raise DeviceError(
                f"the device parks at {parked.pattern_id:08x}, level {safe_level} everywhere is {flat.pattern_id:08x}; "
                "correct safe_level, or the safe pattern of the firmware."
            )

    def identify(self) -> Identity:
        """Which device this is."""
        return replace(self._mask.identify(), kind="mask")

    def capabilities(self) -> MaskCapabilities:
        """What it can show."""
        return self._mask.capabilities()

    def arm(self, operator: str) -> None:
        """Allow commands where the device acts only while it is armed."""
        if isinstance(self._mask, Armable):
            self._mask.arm(operator)

    def stage(self, pattern: Pattern) -> None:
        """Send a command without applying it; see :meth:`MaskDevice.stage`. Nothing is sent that breaks a limit."""
        if pattern.levels.shape == (1, self.capabilities().width):
            self._limits.check(pattern.levels)
        self._mask.stage(pattern)

    def commit(self) -> Shown:
        """Apply what was staged; see :meth:`MaskDevice.commit`."""
        return self._mask.commit()

    def readback(self) -> Shown:
        """What it applies now."""
        return self._mask.readback()

    def park(self) -> Shown:
        """Relax all actuators."""
        return self._mask.park()

    def safe(self) -> None:
        """Relax all actuators."""
        self._mask.safe()

    def close(self) -> None:
        """Relax all actuators and let go; may be called again."""
        self._mask.close()

    def selftest(self) -> list[Gate]:
        """That both limits hold. Not the test of the mask behind it, whose patterns a membrane need not bear."""
        can, limits = self.capabilities(), self._limits
        flat = _uniform(can, limits.low).levels
        checks = [Gate("mask parked", self.park().parked, "all actuators are relaxed")]
        trials = [("mask keeps its stroke", limits.high + 1, limits.high + 1 < 1 << can.bits)]
        trials.append(
            (
                "mask keeps neighbours together",
                limits.low + limits.neighbour + 1,
                limits.neighbour < limits.high - limits.low,
            )
        )
        for name, level, possible in trials:
            if not possible:
                checks.append(Gate(name, None, "no level of the device exceeds it"))
                continue
            wrong = flat.copy()
            wrong[0, 0] = level
            try:
                self.stage(Pattern(wrong))
                checks.append(Gate(name, False, f"level {level} was staged; correct the limits"))
            except DeviceError as error:
                checks.append(Gate(name, True, f"refused: {error}"))
        return checks
