"""What a first user sees: the names at the top, what `import optics` loads, and examples that run."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import optics

ROOMS = Path(optics.__file__).parents[1]
SUBMODULES = ("elements", "imaging", "sensor", "propagation", "tolerance", "fabrication", "materials", "pictures")


def run(code: str) -> str:
    """Output of a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_some_forty_names_stand_at_the_top_and_each_loads() -> None:
    assert 35 <= len(optics.__all__) <= 50
    assert sorted(set(optics.__all__)) == sorted(optics.__all__)
    for name in optics.__all__:
        assert name in dir(optics)
        value = getattr(optics, name)
        assert getattr(value, "__name__", name) == name
    with pytest.raises(AttributeError, match="module 'optics' has no attribute 'FieldStopp'"):
        optics.FieldStopp  # noqa: B018


def test_type_checkers_are_told_the_homes_that_are_used() -> None:
    told = {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(optics.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("optics.")
        for alias in node.names
    }
    assert set(told) == set(optics.__all__)
    for name, module in told.items():
        assert getattr(importlib.import_module(str(module)), name) is getattr(optics, name)


@pytest.mark.parametrize("name", SUBMODULES)
def test_every_submodule_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(f"optics.{name}")
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)


def test_import_alone_loads_nothing_heavy() -> None:
    loaded = run(
        "import sys, optics; print(*(m for m in ('torch', 'numpy', 'scipy', 'matplotlib') if m in sys.modules))"
    )
    assert loaded == ""


def test_a_psf_needs_neither_scipy_nor_matplotlib() -> None:
    code = """
import sys
from optics import FreeformMask, PupilGrid, PupilToPsf, ThinLens
grid = PupilGrid(1e-3, 16)
PupilToPsf(grid, ThinLens(4e-3, 1.0), [540e-9], 4e-6, 5)(FreeformMask(grid, 6, 1e-6))
print(*(m for m in ("scipy.optimize", "matplotlib", "PIL") if m in sys.modules))
"""
    assert run(code) == ""


def test_every_room_is_typed() -> None:
    for room in ("optics", "ground", "sim", "evaluation", "protectors", "codesign", "optishield"):
        assert (ROOMS / room / "py.typed").is_file()


def modules() -> list[ModuleType]:
    return [importlib.import_module(found.name) for found in pkgutil.walk_packages(optics.__path__, "optics.")]


def test_examples_in_docstrings_run() -> None:
    results = [doctest.testmod(module) for module in modules()]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) > 40


def test_references_in_docstrings_lead_somewhere() -> None:
    for module in modules():
        for reference in re.findall(
            r":\w+:`~?(optics\.[\w.]*)`", Path(str(module.__file__)).read_text(encoding="utf-8")
        ):
            assert pydoc.locate(reference) is not None, f"{module.__name__} names {reference}"
