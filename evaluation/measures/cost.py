"""What a computation costs on this machine: seconds and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROCESS = Path("/proc/self")


@dataclass
class Cost:
    """Filled in when the block of :func:`measured` ends, also if it ends by an exception.

    Attributes:
        seconds: Wall time in seconds.
        peak_growth_bytes: Most memory resident at once, above what was resident at the start; None where the system
            does not tell (anything but Linux, or a kernel that does not let the peak be reset).
    """

    seconds: float | None = None
    peak_growth_bytes: int | None = None


@contextmanager
def measured(clock: Callable[[], float] = time.perf_counter, process: Path = _PROCESS) -> Iterator[Cost]:
    """Measure what the block of a with statement costs.

    Memory is that of the whole process, other threads included and child processes not. Pages that the allocator kept
    from earlier work are resident already and do not count as growth. Blocks do not nest: the inner one resets the peak
    of the outer.

    Args:
        clock: Returns the time in seconds; it must never go back.
        process: Folder of the process in the proc file system (proc(5)).
    """
    cost = Cost()
    before = _resident(process, "VmRSS") if _reset_peak(process) else None
    start = clock()
    try:
        yield cost
    finally:
        cost.seconds = clock() - start
        peak = None if before is None else _resident(process, "VmHWM")
        if before is not None and peak is not None:
            cost.peak_growth_bytes = max(0, peak - before)


def _reset_peak(process: Path) -> bool:
    """Set the recorded peak to what is resident now; False where that is not possible."""
    try:
        # The file may only be written, not read, and must not be created where it does not exist.
        file = os.open(process / "clear_refs", os.O_WRONLY)
        try:
            os.write(file, b"5")
        finally:
            os.close(file)
    except OSError:
        return False
    return True


def _resident(process: Path, key: str) -> int | None:
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split() for line in lines if line.startswith(f"{key}:")]
    return int(sizes[0][1]) * 1024 if sizes else None
