"""The three displays: each says what it should, on the stream it should."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from ground.protocols import Progress, StageProgress
from optishield.progress import BarProgress, LineProgress, QuietProgress, choose_progress


def test_lines_carry_the_time_since_the_start() -> None:
    ticks = iter([100.0, 101.5, 160.0])
    stream = io.StringIO()
    progress = LineProgress(stream, clock=lambda: next(ticks))
    with progress.stage("train", 20) as stage:
        stage.advance(20)
        stage.note("loss 0.1")
    progress.note("done")
    assert stream.getvalue() == "[    1.5 s] train (20 steps)\n[   60.0 s] done\n"


def test_bars_show_steps_and_remark_also_nested() -> None:
    stream = io.StringIO()
    progress = BarProgress(Console(file=stream, force_terminal=True, width=120, color_system=None))
    with progress.stage("outer [x]", 2) as outer:
        with progress.stage("inner") as inner:
            inner.note("loss 0.1")
        outer.advance(2)
        progress.note("a line [of its own]")
    text = stream.getvalue()
    assert "outer [x]" in text
    assert "2/2" in text
    assert "loss 0.1" in text
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
