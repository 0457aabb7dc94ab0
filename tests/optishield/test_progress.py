"""The three displays: each says what it should, on the stream it should."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from ground.protocols import Progress, StageProgress
from optishield.progress import BarProgress, LineProgress, Pace, QuietProgress, choose_progress, duration


class Hand:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_carry_the_time_since_the_start() -> None:
    clock, stream = Hand(), io.StringIO()
    progress = LineProgress(stream, clock)
    clock.now += 1.5
    with progress.stage("train", 20) as stage:
        stage.advance(20)
        stage.note("loss 0.1")
    clock.now += 58.5
    progress.note("done")
    assert stream.getvalue() == "[    1.5 s] train (20 steps)\n[   60.0 s] done\n"


def test_a_long_stage_says_now_and_then_how_far_it_is_and_what_it_is_at() -> None:
    clock, stream = Hand(), io.StringIO()
    progress = LineProgress(stream, clock, every_s=60)
    with progress.stage("attack", 10) as stage:
        for name in ("flip", "purifier", "end to end"):
            stage.note(name)
            clock.now += 40
            stage.advance()
        clock.now += 90
        stage.note("restorer \x1b[2J")
    with progress.stage("read") as stage:
        clock.now += 61
        stage.advance(7)
    assert stream.getvalue().splitlines() == [
        "[    0.0 s] attack (10 steps)",
        "[   80.0 s] attack, 2 of 10, about 5 min left, purifier",
        r"[  210.0 s] attack, 3 of 10, restorer \x1b[2J",
        "[  210.0 s] read",
        "[  271.0 s] read, 7",
    ]


def test_the_time_left_is_known_after_a_step_and_runs_down() -> None:
    clock = Hand()
    pace = Pace(5, clock)
    clock.now += 30
    assert pace.left_s() is None, "no step is done"
    pace.advance(1)
    assert pace.left_s() == 120
    clock.now += 20
    assert pace.left_s() == 100
    clock.now += 41
    assert pace.left_s() is None, "the step at work takes longer than the one before twice over"
    pace.advance(4)
    assert pace.left_s() is None, "nothing is left"


def test_the_time_left_is_unknown_without_a_total() -> None:
    clock = Hand()
    pace = Pace(None, clock)
    clock.now += 1
    pace.advance(1)
    assert pace.left_s() is None


def test_steps_that_a_resumed_run_passes_over_do_not_shorten_the_time_left() -> None:
    clock = Hand()
    pace = Pace(1000, clock)
    pace.advance(900)
    for _ in range(10):
        clock.now += 3
        pace.advance(1)
    assert pace.left_s() == pytest.approx(90 * 3)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (5000, "83 min"), (5400, "1.5 h"), (86400, "24.0 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_bars_show_steps_and_remark_also_nested() -> None:
    stream = io.StringIO()
    clock = Hand()
    progress = BarProgress(Console(file=stream, force_terminal=True, width=120, color_system=None), clock)
    with progress.stage("outer [x]", 4) as outer:
        with progress.stage("inner") as inner:
            inner.note("loss 0.1 \x1b[2J")
        clock.now += 20
        outer.advance(2)
        progress.note("a line [of its own]")
    text = stream.getvalue()
    assert "outer [x]" in text
    assert "2/4" in text
    assert r"loss 0.1 \x1b[2J" in text
    assert "about 20 s left" in text
    assert "-:--" not in text
    assert "a line [of its own]" in text


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"),
    [(True, True, QuietProgress), (False, True, BarProgress), (False, False, LineProgress)],
)
def test_the_display_fits_the_place(monkeypatch: pytest.MonkeyPatch, quiet: bool, terminal: bool, kind: type) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    progress = choose_progress(quiet=quiet)
    assert type(progress) is kind
    assert isinstance(progress, Progress)


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress = QuietProgress()
    with progress.stage("train", 3) as stage:
        assert isinstance(stage, StageProgress)
        stage.advance()
        stage.note("x")
    progress.note("y")
    assert capsys.readouterr() == ("", "")


def test_no_time_left_is_known_where_steps_differ_in_length() -> None:
    clock = Hand()
    even, uneven = (Pace(4, clock, even=one) for one in (True, False))
    clock.now += 10
    for pace in (even, uneven):
        pace.advance(1)
    assert (even.left_s(), uneven.left_s()) == (30, None)
