"""Progress on stderr: bars with the time left on a terminal, one line a stage elsewhere, nothing when quiet.

All classes fulfil ``ground.protocols.Progress``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class _SilentStage:
    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class QuietProgress:
    """Says nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> Iterator[_SilentStage]:
        """A stage without a display."""
        yield _SilentStage()

    def note(self, text: str) -> None:
        """Drop the sentence."""


class LineProgress:
    """One line when a stage begins, with the seconds since the start; for logs and pipes."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._start = clock()

    @contextmanager
    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> Iterator[_SilentStage]:
        """Announce the stage; its steps are not shown."""
        self.note(name if total is None else f"{name} ({total} steps)")
        yield _SilentStage()

    def note(self, text: str) -> None:
        """Write one line."""
        self._stream.write(f"[{self._clock() - self._start:7.1f} s] {text}\n")
        self._stream.flush()


class _BarStage:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, n: int = 1) -> None:
        self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=text)


class BarProgress:
    """A bar for each open stage, with the time left. Finished stages stay as a line."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> Iterator[_BarStage]:
        """Show a bar until the context is left, with the time left where steps are even."""
        bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *((TextColumn("left"), TimeRemainingColumn()) if even else ()),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
        )
        with bars:
            yield _BarStage(bars, bars.add_task(name, total=total, note=""))

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, markup=False, highlight=False)


def choose_progress(*, quiet: bool) -> QuietProgress | LineProgress | BarProgress:
    """The display that fits: none when quiet, bars on a terminal, lines elsewhere."""
    if quiet:
        return QuietProgress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()
