"""Keys of results: they follow the code that a job can reach, as syntax, and the settings of what it is given."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluation import EvaluationError
from evaluation.image_attackers import attacker_names, make_attacker
from evaluation.image_attackers.discriminants import LinearProtected
from evaluation.image_attackers.known_blur import KnownPsf
from evaluation.image_attackers.published import AsPublished
from evaluation.matrix import source
from evaluation.matrix.keys import content_key, object_code_hash, settings_of
from evaluation.matrix.source import ROOMS, Code

HOME = Path(source.__file__).parent.parent.parent
#: Modules that write results into the store.
JOBS = ("jobs", "poison", "quality", "remember", "utility")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the rooms, to be edited."""
    folder = tmp_path_factory.mktemp("rooms")
    for room in ("ground", "optics", "faces", "sim", "evaluation"):
        shutil.copytree(HOME / room, folder / room, ignore=lambda _, names: [name for name in names if _unwanted(name)])
    return folder


def _unwanted(name: str) -> bool:
    return ("." in name and not name.endswith(".py")) or name == "__pycache__"


def hashes(folder: Path) -> dict[str, str]:
    """Read afresh."""
    code = Code(dict.fromkeys(ROOMS, folder))
    return {job: code.hash(f"evaluation.matrix.{job}") for job in JOBS}


@cache
def present() -> dict[str, str]:
    return hashes(HOME)


def changed(folder: Path, file: str, old: str, new: str) -> set[str]:
    """The jobs whose hash an edit changes."""
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = hashes(folder)
    path.write_text(text)
    return {job for job in JOBS if present()[job] != after[job]}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("optics/fabrication/gds.py", "\n\n\n", "\n\n\n# A remark.\n"),
        ("optics/fabrication/gds.py", "\n\n\n", "\n\n\nSOMETHING_ELSE = 1\n\n\n"),
        ("evaluation/services/base.py", "self.calls += 1", "self.calls += 2"),
        ("evaluation/training.py", "\n\n\n", "\n\n\n# A remark.\n\n"),
        ("evaluation/training.py", '"""Labels (N,) counted from 0', '"""In other words: labels (N,) counted from 0'),
        ("faces/families.py", "#: The recogniser that only judges.", '"""Only judges."""'),
    ],
)
def test_remarks_and_code_out_of_reach_change_no_key(rooms: Path, file: str, old: str, new: str) -> None:
    assert changed(rooms, file, old, new) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "jobs"),
    [
        ("faces/families.py", "_CHUNK = 64", "_CHUNK = 32", set(JOBS)),
        ("evaluation/training.py", "_MARGIN, _GROWTH = 0.2,", "_MARGIN, _GROWTH = 0.3,", set(JOBS) - {"remember"}),
        ("evaluation/image_attackers/preprocess.py", "0.299", "0.3", {"poison"}),
        ("ground/pool.py", "digest()[:6]", "digest()[:5]", set(JOBS) - {"remember"}),
        ("evaluation/matrix/remember.py", "_PIECE = 64", "_PIECE = 32", set(JOBS)),
    ],
)
def test_changed_code_within_reach_changes_the_keys_of_its_jobs(
    rooms: Path, file: str, old: str, new: str, jobs: set[str]
) -> None:
    assert changed(rooms, file, old, new) == jobs


def test_everything_within_reach_is_loaded_by_the_job() -> None:
    """Reading imports as text finds no module that Python itself does not load."""
    job = "evaluation.matrix.poison"
    reach = Code(dict.fromkeys(ROOMS, HOME)).reachable(job)
    script = f"import {job}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=HOME)
    late = {"faces.onnx_weights", "faces.tfjs_weights"}  # imported by functions
    assert set(reach) - late <= set(loaded.stdout.split())
    assert {"evaluation.training", "faces.recognisers", "ground.pool"} <= set(reach)
    assert not any(name.startswith(("optics", "sim", "evaluation.services")) for name in reach)


def test_names_handed_on_by_a_package_lead_to_the_module_that_defines_them(tmp_path: Path) -> None:
    files = {
        "pack/__init__.py": "from pack.one import first as renamed\nfrom .two import second\nOWN = 1\n",
        "pack/one.py": "def first():\n    return 1\n",
        "pack/two.py": "def second():\n    return 2\n",
        "pack/three.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack import two\n",
        "pack/four.py": "def late():\n    from pack import renamed\n    return renamed\n",
        "pack/five.py": "from . import OWN\n",
    }
    (tmp_path / "pack").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    code = Code({"pack": tmp_path})
    assert set(code.reachable("pack.three")) == {"pack.three"}
    assert set(code.reachable("pack.four")) == {"pack.four", "pack.one"}
    assert set(code.reachable("pack.five")) == {"pack.five", "pack", "pack.one", "pack.two"}
    with pytest.raises(EvaluationError, match=r"no module 'pack\.six' among pack"):
        code.hash("pack.six")
    (tmp_path / "pack" / "six.py").write_text("def broken(:\n")
    with pytest.raises(EvaluationError, match=r"six.py cannot be read as Python"):
        code.hash("pack.six")


def test_a_key_names_its_kind_and_follows_its_parts() -> None:
    key = content_key("kind", "evaluation.matrix.store", a=1)
    assert key.startswith("kind-")
    assert key == content_key("kind", "evaluation.matrix.store", a=1)
    others = [
        content_key("kind", "evaluation.matrix.store", a=2),
        content_key("other", "evaluation.matrix.store", a=1),
        content_key("kind", "evaluation.matrix.jobs", a=1),
    ]
    assert len({key.partition("-")[2], *(other.partition("-")[2] for other in others)}) == 4


def test_code_of_an_attacker_is_its_own_and_that_of_the_attackers_in_it() -> None:
    def linear(inner: AsPublished | KnownPsf) -> LinearProtected:
        return LinearProtected(inner, name="linear", level="K2", knowledge="test", control="test", most=4)

    one, two = object_code_hash(linear(AsPublished())), object_code_hash(linear(KnownPsf(most=4)))
    assert one == object_code_hash(linear(AsPublished()))
    assert one != two, "the attacker whose embeddings are mapped belongs to it"


def test_settings_tell_budgets_and_tiers_apart() -> None:
    assert settings_of(KnownPsf(most=4)) == settings_of(KnownPsf(most=4)) != settings_of(KnownPsf(most=4, wrong=0.1))
    for name in attacker_names():
        again = make_attacker(name, "standard")
        assert settings_of(make_attacker(name, "standard")) == settings_of(again), f"{name} is made alike each time"
    assert settings_of(make_attacker("restorer", "standard")) != settings_of(make_attacker("restorer", "full"))


def test_settings_are_found_in_whatever_holds_them() -> None:
    class Holder:
        def __init__(self, value: object) -> None:
            self.values = {"one": [value]}
            self.itself = self

    first = [1, 0.5, "a", {3, 1}, torch.arange(3), np.arange(3), partial(max, 1), nn.Linear(2, 2), lambda: 1, Path("a")]
    other = [2, 0.6, "b", {3, 2}, torch.arange(4), np.arange(4), partial(max, 2), nn.Linear(2, 3), lambda x=2: x, "a/"]
    for one, two in zip(first, other, strict=True):
        assert settings_of(Holder(one)) == settings_of(Holder(one)) != settings_of(Holder(two))


def test_code_of_another_package_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = tmp_path / "stranger"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    (pack / "helper.py").write_text("GAIN = 2\n")
    (pack / "attacker.py").write_text("from stranger.helper import GAIN\n\nclass Attacker:\n    gain = GAIN\n")
    monkeypatch.syspath_prepend(tmp_path)
    hash_of = []
    for text in ("GAIN = 2\n", "GAIN = 2  # a remark\n", "GAIN = 3\n"):
        (pack / "helper.py").write_text(text)
        source.project.cache_clear()
        object_code_hash.__globals__["_code_of"].cache_clear()
        hash_of.append(object_code_hash(importlib.import_module("stranger.attacker").Attacker()))
    assert hash_of[0] == hash_of[1] != hash_of[2]


def test_a_class_without_a_file_is_refused() -> None:
    made: type = type("Made", (), {"__module__": "nowhere"})
    with pytest.raises(EvaluationError, match="Made was not defined in a file, so its results cannot be kept"):
        object_code_hash(made())
