"""The blocks of docs/optics.md run in order and do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optics

PAGE = (Path(__file__).parents[2] / "docs" / "optics.md").read_text(encoding="utf-8")


def test_the_walk_through_runs() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/optics.md", "exec"), names)
    said = re.search(r"# ([\d.]+) and ([\d.]+)\n", PAGE)
    assert said is not None
    assert f"{float(names['before']):.2f}" == said[1]
    assert abs(float(names["after"].detach()) - float(said[2])) < 0.03
    assert names["codes"].shape == (1, 1, 32, 32)
    assert names["psf"].shape == (1, 61, 61)
    assert type(names["propagate"]).__name__ == "AngularSpectrum"


def test_the_first_mask_is_short() -> None:
    first = PAGE.split("```python\n")[1].split("```")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 20


def test_the_page_imports_names_one_by_one() -> None:
    assert "import *" not in PAGE


def test_every_name_at_the_top_or_its_kind_is_on_the_page() -> None:
    # Constants of materials and close relatives may stand for each other.
    missing = [name for name in optics.__all__ if name not in PAGE]
    assert set(missing) <= {"AIR", "PMMA", "OpticsError", "Material", "PhaseMask", "DiffractiveMask", "random_mask",
                            "PupilElement", "check_sampling", "Tolerance"}  # fmt: skip
