"""A whole run that designs the camera of pairs on a handful of people, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from optishield.cli import main
from tests.codesign.conftest import SMALL, Train

#: The smallest camera of pairs in which every stage still has something to do.
SMALL_PAIRS = {
    **SMALL, "design": "winners", "winners.anchor_pairs": 1, "winners.followers": "[\"upper-lip\"]",
    "winners.follower_pairs": 1, "winners.relief_steps": 1, "winners.copies": 0, "winners.batch": 4,
    "proof.learning_curve": "[0.5]", "proof.tolerances": "true",
}  # fmt: skip


@pytest.fixture(scope="session")
def train_pairs(cache: Path) -> Train:
    """``optishield train-mask`` with the small settings into a new folder: (folder, more words) -> exit code."""

    def run(out: Path, *words: str) -> int:
        sets = [word for key, value in SMALL_PAIRS.items() for word in ("--set", f"{key}={value}")]
        return main(["train-mask", "--budget", "smoke", "--out", str(out), "--quiet", *sets, *words])

    return run


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, train_pairs: Train) -> Path:
    """The folder of a finished run, made by one process."""
    out = tmp_path_factory.mktemp("pairs") / "run"
    assert train_pairs(out, "--workers", "1") == 0
    return out
