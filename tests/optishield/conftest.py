"""For tests of the command line: a folder of their own, and a stand-in for the training of a mask.

With the stand-in the real settings are tested, but at once.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def install_job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a stand-in for ``codesign.run`` in place."""

    def install(train_mask: Job | None = None, evaluate_mask: Job | None = None) -> None:
        run = types.ModuleType("codesign.run")
        run.train_mask = train_mask  # type: ignore[attr-defined]
        run.evaluate_mask = evaluate_mask  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "codesign.run", run)

    return install
