"""Progress on stderr: bars on a terminal, lines elsewhere, nothing when quiet.

All fulfil ``ground.protocols.Progress``. A time left is shown only where it is known: after the first step, and not
while a step takes much longer than all before it.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.progress import TimeElapsedColumn as ElapsedColumn
from rich.text import Text

from ground.protocols import Progress
from ground.text import printable

Clock = Callable[[], float]

_RECENT = 10
"""Steps that tell how fast a stage is now: steps that a resumed run passes over take no time and tell nothing."""

_PATIENCE = 2.0
"""A step at work that takes so many times longer than the longest one before makes the time left unknown."""


class Pace:
    """How fast the steps of a stage go, and how long the rest takes.

    Args:
        total: Steps of the stage; None if nobody knows.
        clock: Seconds of a clock that only goes forward.
        even: Whether steps take about equally long; where they do not, no time left is known.
    """

    def __init__(self, total: int | None, clock: Clock = time.monotonic, *, even: bool = True) -> None:
        self.total = total
        self._even = even
        self.done = 0
        self._clock = clock
        self._start = clock()
        self._last = self._start
        self._longest_s = 0.0
        self._recent: deque[tuple[float, int]] = deque([(self._start, 0)], maxlen=_RECENT + 1)

    def advance(self, n: int) -> None:
        """Count ``n`` finished steps."""
        now = self._clock()
        self._longest_s = max(self._longest_s, now - self._last)
        self._last = now
        self.done += n
        self._recent.append((now, self.done))

    def left_s(self) -> float | None:
        """Seconds that the rest will take, or None if that is not known.

        The slower of two rates counts, that of all steps and that of the last ones.
        """
        since = self._clock() - self._last
        if (
            not self._even
            or self.total is None
            or not 0 < self.done < self.total
            or since > _PATIENCE * self._longest_s
        ):
            return None
        begun, before = self._recent[0]
        overall = (self._last - self._start) / self.done
        recent = (self._last - begun) / max(1, self.done - before)
        return max(0.0, max(overall, recent) * (self.total - self.done) - since)


def duration(seconds: float) -> str:
    """A duration as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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


class _LineStage:
    def __init__(self, name: str, pace: Pace, say: Callable[[str], None], clock: Clock, every_s: float) -> None:
        self._name = name
        self._pace = pace
        self._say = say
        self._clock = clock
        self._every_s = every_s
        self._said = clock()
        self._remark = ""

    def advance(self, n: int = 1) -> None:
        self._pace.advance(n)
        self._maybe_say()

    def note(self, text: str) -> None:
        self._remark = text
        self._maybe_say()

    def _maybe_say(self) -> None:
        now = self._clock()
        if now - self._said < self._every_s:
            return
        self._said = now
        left = self._pace.left_s()
        parts = [
            self._name,
            f"{self._pace.done}" if self._pace.total is None else f"{self._pace.done} of {self._pace.total}",
            *([f"about {duration(left)} left"] if left is not None else []),
            *([self._remark] if self._remark else []),
        ]
        self._say(", ".join(parts))


class LineProgress:
    """A line when a stage begins, and while it goes on one after so many seconds; for logs and pipes.

    Args:
        stream: Where lines go; None takes stderr.
        clock: Seconds of a clock that only goes forward; lines begin with those since the start.
        every_s: Seconds after which a stage that goes on is worth another line.
    """

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic, every_s: float = 60.0) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._every_s = every_s
        self._start = clock()

    @contextmanager
    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> Iterator[_LineStage]:
        """Announce the stage, and say now and then how far it is and what it is at."""
        self.note(name if total is None else f"{name} ({total} steps)")
        yield _LineStage(name, Pace(total, self._clock, even=even), self.note, self._clock, self._every_s)

    def note(self, text: str) -> None:
        """Write one line."""
        self._stream.write(f"[{self._clock() - self._start:7.1f} s] {printable(text)}\n")
        self._stream.flush()


class _LeftColumn(ProgressColumn):
    """The time left, or nothing."""

    def render(self, task: Task) -> Text:
        left = task.fields["pace"].left_s()
        return Text("" if left is None else f"about {duration(left)} left")


class _BarStage:
    def __init__(self, bars: Bars, name: str, pace: Pace) -> None:
        self._bars = bars
        self._pace = pace
        self._task = bars.add_task(printable(name), total=pace.total, note="", pace=pace)

    def advance(self, n: int = 1) -> None:
        self._pace.advance(n)
        self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=printable(text))


class BarProgress:
    """A bar for each open stage, with what it is at and the time left. Finished stages stay as a line.

    Args:
        console: Where bars are drawn; None takes stderr.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock

    @contextmanager
    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> Iterator[_BarStage]:
        """Show a bar until the context is left."""
        bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            ElapsedColumn(),
            _LeftColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
        )
        with bars:
            yield _BarStage(bars, name, Pace(total, self._clock, even=even))

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(printable(text), markup=False, highlight=False)


def choose_progress(*, quiet: bool) -> Progress:
    """The display that fits: none when quiet, bars on a terminal, lines elsewhere."""
    if quiet:
        return QuietProgress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()
