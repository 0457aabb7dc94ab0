"""Shared by the tests of ``optishield bench``: the files of a virtual bench, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optishield.cli import main

BENCH = """
name = "virtual table"
origin = "simulated"
[camera]
driver = "sim://camera"
serial = "C1"
options = { seed = 3 }
[mask]
driver = "sim://mask"
serial = "M1"
[light]
driver = "sim://light"
serial = "L1"
[limits]
exposure_s = 0.1
light_share = 0.8
disk_free_bytes = 1000
"""

PLAN = """
name = "first light"
bits = 12
roi = [0, 0, 256, 224]
[sentinel]
every = 4
pattern = "checker"
exposure_s = 0.001
light_share = 0.5
flux_tolerance = 0.5
[[steps]]
name = "ramp"
pattern = "ramp-x"
exposure_s = 0.001
light_share = 0.5
averages = 3
darks = 1
"""
FRAMES = 7  # dark sentinel, sentinel, 4 of the step, sentinel

CAPTURE = ("capture", "bench.toml", "plan.toml", "--out", "session", "--operator", "Ada", "--yes")


def write_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder the current one, and write bench and plan."""
    monkeypatch.chdir(folder)
    Path("bench.toml").write_text(BENCH)
    Path("plan.toml").write_text(PLAN)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """Exit code, the JSON object on stdout (None if there is none), and stderr."""
    code = main(["bench", *words, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err
