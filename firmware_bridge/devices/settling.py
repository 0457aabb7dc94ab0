"""How long a mask takes to settle, measured on the bench."""

from __future__ import annotations

from firmware_bridge.errors import DeviceError
from firmware_bridge.protocols import Camera, MaskDevice, Pattern


def measure_settle(
    mask: MaskDevice, camera: Camera, before: Pattern, after: Pattern, *, frames: int = 30, tolerance: float = 0.02
) -> float:
    """Step from one pattern to another and see when the mean level of the camera follows no more.

    The light is on, and mask and camera are open, armed and configured. The result is as fine as the time from one
    frame to the next, which it includes; a short exposure of few rows makes that small.

    Args:
        mask: A mask that was opened with a settling time of 0 s, or what it waits by itself is missing in the result.
        camera: A camera that was started.
        before: Pattern that has settled before the step.
        after: Pattern whose picture has another mean level.
        frames: Number of frames that are watched after the step, and as many before it.
        tolerance: Change that counts as settled, as a share of the step.

    Returns:
        Seconds from the answer of the mask to the arrival of the first frame after which all others stayed within the
        tolerance.

    Raises:
        DeviceError: The step is not seen, or the level had not settled in the second half of the frames.
    """

    def watch(pattern: Pattern) -> tuple[list[float], list[float]]:
        mask.stage(pattern)
        start_s = mask.commit().host_time_s
        taken = [camera.grab(timeout_s=5.0) for _ in range(frames)]
        return [frame.host_time_s - start_s for frame in taken], [float(frame.levels.mean()) for frame in taken]

    half = frames // 2
    _, old = watch(before)
    times_s, new = watch(after)
    settled = sum(new[half:]) / len(new[half:])
    step = settled - sum(old[half:]) / len(old[half:])
    noise = max(abs(level - settled) for level in new[half:])
    if noise > tolerance * abs(step):
        raise DeviceError(
            f"the mean level stepped by {step:.2f} and still changed by {noise:.2f} at the end; take patterns that "
            "differ more, more light, or more frames."
        )
    late = [number for number, level in enumerate(new) if abs(level - settled) > tolerance * abs(step)]
    return times_s[late[-1] + 1 if late else 0]
