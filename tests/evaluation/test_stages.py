"""What a stage shows while its jobs run: which one it is, and who is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.matrix.jobs import Site
from evaluation.records import Missing
from evaluation.stages import STAGES, Stages
from ground.protocols import StageProgress
from tests.evaluation.matrix import matrix_fakes
from tests.evaluation.matrix.conftest import small


class _Written:
    """Writes down what is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None, *, even: bool = True) -> Iterator[StageProgress]:
        self.shown.append(f"{name}, {total} steps" + ("" if even else ", uneven"))
        yield self

    def advance(self, n: int = 1) -> None:
        self.shown.append("done")

    def note(self, text: str) -> None:
        self.shown.append(text)


def _stages(folder: Path, progress: _Written, workers: int, order: list[int]) -> Stages:
    makers = (matrix_fakes.make_protector, matrix_fakes.make_attacker, matrix_fakes.load_recogniser)
    site = Site(folder, folder, small(workers=workers), "", *makers)

    def engine(function: Any, arguments: Any) -> Iterator[tuple[int, Any, float]]:
        for index in order:
            yield index, function(*arguments[index]), 0.0

    return Stages(site, None, engine, progress)  # type: ignore[arg-type]


def _half(site: Site, value: int) -> float:
    return 12 / value


def test_a_stage_names_the_jobs_at_work_and_not_those_that_are_done(tmp_path: Path) -> None:
    progress = _Written()
    state = _stages(tmp_path, progress, 2, [1, 0, 2])
    found = dict(state.jobs("protect", _half, [(1,), (2,), (3,)], ["one", "two", "three"]))
    assert found == {0: 12, 1: 6, 2: 4}
    number = STAGES.index("protect") + 1
    assert progress.shown == [
        f"{number}/{len(STAGES)} protect, 3 steps, uneven",
        "one; two",
        "done",
        "one; three",
        "done",
        "three",
        "done",
        "",
    ]


def test_a_job_that_fails_is_written_down_and_the_others_go_on(tmp_path: Path) -> None:
    state = _stages(tmp_path, _Written(), 1, [0, 1])
    assert dict(state.jobs("protect", _half, [(0,), (3,)], ["zero", "three"])) == {1: 4}
    assert state.missing == [Missing("protect", "zero", "ZeroDivisionError: division by zero")]


def test_a_stage_without_jobs_is_not_shown(tmp_path: Path) -> None:
    progress = _Written()
    assert list(_stages(tmp_path, progress, 1, []).jobs("victims", _half, [], [])) == []
    assert progress.shown == []
