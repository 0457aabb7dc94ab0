"""A session over the real GigE wire: packets are lost, the plug is pulled, and every frame is accounted for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.firmware_bridge.camera_doubles import gige_port, waits_for_the_port

pytestmark = waits_for_the_port


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "gige_session.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_gige_sessions", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_frame_is_accounted_for(benchmark: ModuleType, tmp_path: Path) -> None:
    with gige_port():
        found = benchmark.taken(tmp_path, 24, 0.002, 12)
    assert found["origin"] == "emulated"
    assert found["sealed"] == found["different_contents"] == 24
    assert found["unplugged_before"] == [12]
    assert found["checks_failed"] == []
    journal = found["journal"]
    assert journal["DONE"] == 24
    assert journal["SUSPEND"] == journal["PROCEED"] >= 1
    assert journal.get("RETAKE", 0) + journal.get("GAP", 0) >= 1
