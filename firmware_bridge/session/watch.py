"""Checks that a frame is the requested one and that the light has not changed."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from firmware_bridge.errors import SessionError
from firmware_bridge.protocols import CameraCapabilities, Frame, Identity, Levels
from firmware_bridge.session.plan import Role, Shot
from firmware_bridge.session.setting import FalseReadback, check_settings

_SATURATED_SHARE = 0.01
"""Share of saturated pixels above which the level of a sentinel says nothing of the light."""


class Doubtful(Exception):
    """A frame was lost, doubled or damaged; it is to be taken again."""


def check_frame(shot: Shot, frame: Frame, camera: Identity, can: CameraCapabilities) -> None:
    """Check that a frame is of the kind that was asked for.

    Raises:
        FalseReadback: It comes from another camera, or has another size, depth, exposure or gain.
    """
    if frame.camera != camera:
        raise FalseReadback(f"a frame came from {frame.camera}, not {camera}; see the driver.")
    check_settings(shot.settings, frame.settings)
    roi = shot.settings.roi
    shape = (roi[3], roi[2]) if roi else (can.height, can.width)
    if frame.levels.shape != shape or frame.bits != shot.settings.bits:
        raise FalseReadback(
            f"a frame of {shape} pixels and {shot.settings.bits} bits was wanted, {frame.levels.shape} and "
            f"{frame.bits} came; see the driver."
        )


class FrameWatch:
    """Finds frames that came twice, by count, clock and content."""

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._seen: dict[str, Shot] = {}

    def recount(self) -> None:
        """The camera was started anew: counts begin again."""
        self._last = None

    def know(self, shots: dict[str, Shot]) -> None:
        """Which frames there are, by the SHA-256 of their files."""
        self._seen = dict(shots)

    def count(self, frame: Frame) -> int:
        """How many frames the camera counted between this and the last.

        Raises:
            Doubtful: Count or clock of the camera stand still or run backwards.
        """
        last = self._last
        if last is None:
            self._last = frame
            return 0
        if frame.frame_id <= last.frame_id:
            raise Doubtful(f"frame {frame.frame_id} of the camera came after {last.frame_id}")
        if (
            frame.device_time_s is not None
            and last.device_time_s is not None
            and frame.device_time_s <= last.device_time_s
        ):
            raise Doubtful(f"the clock of the camera shows {frame.device_time_s} s after {last.device_time_s} s")
        self._last = frame
        return frame.frame_id - last.frame_id - 1

    def compare(self, shot: Shot, levels: Levels, sha256: str) -> None:
        """Compare the content of a frame with all others of the session, and remember it.

        Without light, frames of the same settings may be equal; so may frames of one single level, which are saturated.

        Args:
            shot: What was asked for.
            levels: Values (H, W) of the frame, uint8 or uint16.
            sha256: Hash of its file.

        Raises:
            Doubtful: There is such a frame already; noise makes that impossible unless the camera stands still.
        """
        twin = self._seen.setdefault(sha256, shot)
        dark = shot.light_share == twin.light_share == 0 and shot.settings == twin.settings
        if twin is not shot and not dark and int(levels.min()) != int(levels.max()):
            raise Doubtful(f"its levels are those of {twin.key}")


class SentinelWatch:
    """Compares the flux of each sentinel, its mean level above dark, with that of the first.

    Args:
        tolerance: Largest change of the flux, as a share of the first.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._dark_level = 0.0
        self._first = math.nan

    def check(self, shot: Shot, levels: Levels) -> str | None:
        """Compare the flux of a sentinel with that of the first one, which is remembered; other frames tell nothing.

        Args:
            shot: What was asked for.
            levels: Values (H, W) of the frame, uint8 or uint16.

        Returns:
            What is wrong with the flux, or None.

        Raises:
            SessionError: The level of the first does not tell the flux, because it is too bright or too dark.
        """
        if shot.role is Role.sentinel_dark:
            self._dark_level = float(levels.mean())
        if shot.role is not Role.sentinel:
            return None
        flux = float(levels.mean()) - self._dark_level
        if math.isnan(self._first):
            saturated = float((levels >= (1 << shot.settings.bits) - 1).mean())
            if flux <= 0 or saturated > _SATURATED_SHARE:
                raise SessionError(
                    f"the sentinel is {flux:.2f} levels above dark, with {saturated:.1%} of its pixels saturated; give "
                    "it an exposure and a light by which its level follows the light."
                )
            self._first = flux
        change = flux / self._first - 1
        if abs(change) <= self._tolerance:
            return None
        return f"the sentinel changed by {change:+.1%}, the plan allows {self._tolerance:.1%}"


def since_sentinel(shots: Sequence[Shot], done: Container[str]) -> list[str]:
    """Keys of the frames that are done, after the last sentinel that is.

    Args:
        shots: Shots of the session, in their order.
        done: Keys of those that are done.
    """
    taken = [shot for shot in shots if shot.key in done]
    last = max((shot.index for shot in taken if shot.role is Role.sentinel), default=-1)
    return [shot.key for shot in taken if shot.index > last and shot.role is not Role.sentinel_dark]
