"""Seconds from a clock that is given, memory against an array of known size."""

from __future__ import annotations

import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from evaluation import measured


def test_seconds_are_those_of_the_clock() -> None:
    ticks = iter([10.0, 12.5])
    with measured(clock=lambda: next(ticks)) as cost:
        assert cost.seconds is None
    assert cost.seconds == 2.5


def test_the_figures_are_there_after_an_exception_too() -> None:
    ticks = iter([1.0, 2.0])
    with pytest.raises(KeyError, match="lost"), measured(clock=lambda: next(ticks)) as cost:
        raise KeyError("lost")
    assert cost.seconds == 1.0


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset on this system")
def test_the_peak_is_that_of_the_block_and_not_of_what_came_before() -> None:
    size = 64 * 2**20
    # What earlier tests left must not be given back inside the block.
    gc.collect()
    with measured() as large:
        # A mapping of its own: an allocator may hand out pages that are resident already.
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(block, dtype=np.uint8)[:] = 1
        block.close()
    with measured() as small:
        pass
    assert large.peak_growth_bytes is not None
    assert small.peak_growth_bytes is not None
    # Numbers of the kernel are exact to some pages a thread; a tenth leaves room for the interpreter.
    assert 0.9 * size < large.peak_growth_bytes < 1.5 * size
    assert small.peak_growth_bytes < 0.1 * size


def test_the_figure_is_the_growth_that_the_kernel_reports(tmp_path: Path) -> None:
    (tmp_path / "clear_refs").touch()
    (tmp_path / "status").write_text("VmHWM:\t  900 kB\nVmRSS:\t  700 kB\n")
    with measured(process=tmp_path) as cost:
        (tmp_path / "status").write_text("VmHWM:\t 1000 kB\nVmRSS:\t  800 kB\n")
    assert cost.peak_growth_bytes == 300 * 1024
    assert (tmp_path / "clear_refs").read_text() == "5"


@pytest.mark.parametrize("missing", ["clear_refs", "status"])
def test_where_the_system_does_not_tell_there_is_no_figure(tmp_path: Path, missing: str) -> None:
    (tmp_path / "clear_refs").touch()
    (tmp_path / "status").write_text("VmHWM: 900 kB\nVmRSS: 700 kB\n")
    (tmp_path / missing).unlink()
    with measured(process=tmp_path) as cost:
        pass
    assert cost.peak_growth_bytes is None
    assert not (tmp_path / missing).exists()
