"""Temporary folders go with their program, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ground.scratch import scratch_folder

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from ground.scratch import scratch_folder
with scratch_folder("probe") as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def start(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    program = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    return program, Path(program.stdout.readline().strip())


def test_a_folder_goes_at_the_end(tmp_path: Path) -> None:
    with scratch_folder("probe") as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path and folder.name.startswith("probe-")
    assert list(tmp_path.iterdir()) == []


def test_the_next_program_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "probe-mine").mkdir()
    living, kept = start(tmp_path)
    killed, left = start(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / "file").exists()
    with scratch_folder("probe") as folder:
        assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "probe-mine", kept, folder])
    living.communicate("")
    assert list(tmp_path.iterdir()) == [tmp_path / "probe-mine"]
