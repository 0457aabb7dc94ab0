"""The example scripts run from an empty folder, hold what they assert, and leave the files they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {
    "compare_propagators.py": set(),
    "design_a_mask.py": {"mask.png", "mtf.png", "through_focus.png"},
    "export_a_mask.py": {"mask.dat", "mask.gds", "mask.png", "mask.stl", "mask.tif", "psf.png"},
    "tolerance.py": set(),
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name))
    assert {path.name for path in tmp_path.iterdir()} == FILES[name]
    assert all(path.stat().st_size > 100 for path in tmp_path.iterdir())
    text = (EXAMPLES / name).read_text()
    assert text.count("# %%") >= 3
    assert len(text.splitlines()) < 60
