"""The fast tier: tests that ``slow_tests.txt`` names are marked ``slow``, and ``make quick`` leaves them out.

The list is measured, not written: ``make slow-tests`` runs everything and writes it anew, then what is left, and adds
to it: what a file sets up once is counted for the first test that asks for it, and when that one is left out, for the
next. A line is a test without its parameters, or a whole file, which is then not even imported by ``make quick``.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).with_name("slow_tests.txt")
#: Seconds of all rows of a test together, and share of a file's tests, from which they are left out.
SLOW_S, WHOLE_FILE = 0.4, 0.8


def slow_tests() -> frozenset[str]:
    """Tests (``tests/room/test_file.py::test_name``) and whole files that are slow."""
    return frozenset(LIST.read_text(encoding="utf-8").split()) if LIST.exists() else frozenset()


def plain(node: str) -> str:
    """The name of a test without its parameters."""
    return node.partition("[")[0]


class Recorder:
    """Adds up what tests take, and writes the list when the run ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count setup, call and teardown of a test."""
        self.seconds[plain(report.nodeid)] += report.duration

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Write the list; what this run left out stays on it."""
        ran = {name.partition("::")[0] for name in self.seconds} | set(self.seconds)
        lines = [line for line in slow_tests() if line not in ran]
        files: dict[str, list[str]] = defaultdict(list)
        for name in self.seconds:
            files[name.partition("::")[0]].append(name)
        for file, tests in sorted(files.items()):
            slow = sorted(name for name in tests if self.seconds[name] >= SLOW_S)
            lines += [file] if len(slow) >= WHOLE_FILE * len(tests) and slow else slow
        LIST.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
        left = sum(s for name, s in self.seconds.items() if self.seconds[name] < SLOW_S)
        terminalreporter.write_line(f"{LIST.name}: {len(lines)} lines; the tests that stay take {left:.0f} s")
