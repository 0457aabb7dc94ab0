from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: the page cache survives SIGKILL, so the disk adds nothing but time."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path_factory.mktemp("kill")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def test_killed_at_every_line_and_every_name_then_resumed(memory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.firmware_bridge.session_killer", str(memory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # OPEN, an INTENT and a DONE for each of 14 frames, SEAL; and names of 14 frames, session.json and manifest.json.
    assert (found["lines"], found["names"]) == (30, 16)
    assert len(found["kills"]) == 30 + 30 + 16
    wrong = [
        kill
        for kill in found["kills"]
        if (kill["ended"], kill["resumed"], kill["same"], kill["whole"]) != (-9, 0, True, True)
    ]
    assert wrong == [], done.stderr
