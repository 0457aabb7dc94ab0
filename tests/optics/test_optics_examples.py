"""The example scripts run from an empty folder, hold what they assert, and leave the files they promise."""

from __future__ import annotations

import re
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
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("sys.argv", [name, str(out)])
    runpy.run_path(str(EXAMPLES / name))
    assert {path.name for path in out.iterdir()} == FILES[name]
    assert all(path.stat().st_size > 100 for path in out.iterdir())
    assert not list(work.iterdir())
    text = (EXAMPLES / name).read_text()
    assert text.count("# %%") >= 3
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize("name", [name for name, files in FILES.items() if files])
def test_an_example_that_writes_takes_a_fresh_folder_each_time(name: str) -> None:
    # Running an example twice, or two of them in one folder, must not collide: nothing is written where they are run.
    text = (EXAMPLES / name).read_text()
    assert (
        f'folder = Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp(prefix="{name[:-3].replace("_", "-")}-"))' in text
    )
    written = re.findall(r"(?:save_figure|export_relief)\(.*", text)
    assert written and all("folder /" in line for line in written)
