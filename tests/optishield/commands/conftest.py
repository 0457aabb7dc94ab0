"""What the tests of ``optishield protect`` share: the real detector, synthetic heads, and a registered protector."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from faces.detection import FaceDetector
from faces.synthetic import generate
from protectors import registry
from tests.optishield.commands.protecting import Brighten


@pytest.fixture
def brighten(monkeypatch: pytest.MonkeyPatch) -> type[Brighten]:
    module = types.ModuleType("brightening")
    module.Brighten = Brighten  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "brightening", module)
    monkeypatch.setitem(registry._OWN, "brighten", "brightening:Brighten")
    Brighten.calls = []
    return Brighten


@pytest.fixture(scope="session")
def detector(yunet_weights: Path) -> FaceDetector:
    return FaceDetector(yunet_weights)


@pytest.fixture(scope="session")
def heads() -> np.ndarray:
    """(4, 256, 256, 3) synthetic heads."""
    return generate(4, 1, size=256, seed=50).images.permute(0, 2, 3, 1).numpy()
