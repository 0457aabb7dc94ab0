"""What every camera driver checks before it passes a frame on."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import CameraCapabilities, CameraSettings, Levels

GIGE_HIGH = 0xFFFF
"""Largest frame id of GigE Vision with 16-bit ids; 1 follows, never 0."""

ROUNDING = 0.02
"""By how much, as a share, a setting may read back differently; cameras round to their own steps."""

# A frame tells by its content whether it is a repeat if at least this share of its values is neither clipped nor the
# median: a black or saturated frame may well come twice.
_TELLING_SHARE = 0.01


def right_justified(words: NDArray[np.uint16], bits: int, *, left: bool) -> NDArray[np.uint16]:
    """Values of ``bits`` bits out of 16-bit words, with the largest at 2**bits - 1.

    Which way a camera justifies is stated, not guessed from a frame; a frame that contradicts is refused.

    Args:
        words: Values as they came.
        bits: Significant bits, 9..16.
        left: Whether the value stands in the upper bits of a word, with zeros below it.

    Raises:
        DeviceError: The words are justified the other way, or have more bits.
    """
    if not 9 <= bits <= 16:
        raise DeviceError(f"values in 16-bit words have 9 to 16 bits, not {bits}.")
    spare = 16 - bits
    if not spare:
        return words
    below = int(np.bitwise_or.reduce(words, axis=None)) & ((1 << spare) - 1)
    if left:
        if below:
            raise DeviceError(
                f"left-justified values of {bits} bits leave the lowest {spare} bits of a word zero, and they are not; "
                "say that the camera justifies to the right, or has more bits."
            )
        return words >> np.uint16(spare)
    highest = int(words.max(initial=0))
    if highest >> bits:
        raise DeviceError(
            f"right-justified values of {bits} bits end at {(1 << bits) - 1}, and {highest} came; say that the camera "
            "justifies to the left, or has more bits."
        )
    if not below and len(np.unique(words[words > 0])) > 1:
        raise DeviceError(
            f"all values are multiples of {1 << spare}, so they look left-justified by {spare} bits; say that the "
            "camera justifies to the left."
        )
    return words


def check_settings(settings: CameraSettings, can: CameraCapabilities) -> tuple[int, int, int, int]:
    """Refuse what a camera cannot do, before anything is set.

    Args:
        settings: What is wanted.
        can: What the camera can do.

    Returns:
        The region as left, top, width, height.

    Raises:
        DeviceError: Depth, exposure, gain or region is none of it.
    """
    if settings.bits not in can.bits:
        raise DeviceError(f"this camera offers {', '.join(map(str, can.bits))} bits, not {settings.bits}.")
    for name, unit, value, (low, high) in (
        ("exposure", "s", settings.exposure_s, can.exposure_s),
        ("gain", "dB", settings.gain_db, can.gain_db),
    ):
        if not low <= value <= high:
            raise DeviceError(
                f"{name} goes from {low:g} {unit} to {high:g} {unit} with this camera, not to {value:g} {unit}."
            )
    left, top, width, height = roi = settings.roi or (0, 0, can.width, can.height)
    if min(left, top) < 0 or min(width, height) < 1 or left + width > can.width or top + height > can.height:
        raise DeviceError(f"the region {roi} leaves the sensor of {can.width} x {can.height} pixels.")
    return roi


def read_back(what: str, wanted: float, found: float, unit: str, *, step: float) -> float:
    """The setting that was read back, if it is a rounding of what was set.

    Args:
        what: Name of the setting.
        wanted: What was set.
        found: What was read back.
        unit: Unit of both.
        step: Rounding that is allowed beside the share :data:`ROUNDING`.

    Raises:
        DeviceError: It is not.
    """
    if abs(found - wanted) > max(step, ROUNDING * abs(wanted)):
        raise DeviceError(
            f"{what} was set to {wanted:g} {unit} and reads back {found:g} {unit}; the camera does not do what it is "
            "told. Choose a value that it can take, or look for an automatic mode that is still on."
        )
    return found


class FrameOrder:
    """Sees to it that each frame is a new one: its id, its time and its content.

    Args:
        high: Largest id, after which 1 follows; None where ids do not wrap around.
    """

    def __init__(self, high: int | None = None) -> None:
        self._high = high
        self._raw: int | None = None
        self._count = 0
        self._time_s: float | None = None
        self._digest = b""

    def restart(self) -> None:
        """A frame never came, and the device was made to count anew; the count goes on with that frame left out."""
        self._raw = None
        self._count += 1

    def advance(self, raw: int) -> int:
        """Take note of the id of a frame, whole or damaged.

        Args:
            raw: Id as the device sent it.

        Returns:
            The id without the wrapping around: it rises by one from frame to frame, by more where frames are missing.

        Raises:
            DeviceError: It is that of the last frame or of an older one, or none that the device may send.
        """
        high, last = self._high, self._raw
        if high is not None and not 1 <= raw <= high:
            raise DeviceError(f"frame ids of this camera go from 1 to {high}, and {raw} came; is its firmware damaged?")
        if last is None:
            self._count = self._count + 1 if self._count else raw
        else:
            step = raw - last if high is None else (raw - last) % high
            if step == 0:
                raise DeviceError(f"frame {raw} came twice; the camera, or its driver, repeats frames.")
            # Half the range ahead is as good as behind.
            if step < 0 or (high is not None and step > high // 2):
                raise DeviceError(f"frame {raw} came after frame {last}; the order of the frames is lost, start again.")
            self._count += step
        self._raw = raw
        return self._count

    def check(self, raw: int, time_s: float | None, levels: Levels, bits: int) -> int:
        """Take note of a whole frame.

        Args:
            raw: Id as the device sent it.
            time_s: Clock of the device, None where it has none.
            levels: (H, W), right-justified.
            bits: Significant bits.

        Returns:
            As :meth:`advance`.

        Raises:
            DeviceError: As :meth:`advance`; or the clock stood still; or the content is that of the last frame.
        """
        count = self.advance(raw)
        if time_s is not None and self._time_s is not None and time_s <= self._time_s:
            raise DeviceError(
                f"the clock of the camera stood at {self._time_s:.6f} s and then at {time_s:.6f} s; it repeats frames, "
                "or was reset: start again."
            )
        self._time_s = time_s
        digest = hashlib.blake2b(np.ascontiguousarray(levels).data, digest_size=16).digest()
        repeated, self._digest = digest == self._digest, digest
        if repeated and _tells(levels, bits):
            raise DeviceError(
                f"frame {raw} has the very values of the frame before it, noise included; the picture is frozen. "
                "Unplug the camera, plug it in and start again."
            )
        return count


def _tells(levels: Levels, bits: int) -> bool:
    inside = (levels > 0) & (levels < (1 << bits) - 1) & (levels != np.median(levels))
    return int(np.count_nonzero(inside)) >= _TELLING_SHARE * levels.size
