"""Shared by all tests: one thread a process, nothing written outside pytest's own folders, and fetched weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch and numpy are imported: small arrays gain nothing from threads, and parallel workers lose by them.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def _fetched(name: str) -> Path:
    # Imported here: the settings above must come before torch and numpy.
    from faces import weights

    # Weights that cannot be fetched are a failure, unless the run is declared offline.
    if os.environ.get("OPTISHIELD_OFFLINE") == "1" and not weights.cached_path(name).is_file():
        pytest.skip(f"OPTISHIELD_OFFLINE=1 and the weights {name!r} are not in the cache")
    return weights.fetch(name)


@pytest.fixture(scope="session")
def sface_weights() -> Path:
    """The fetched weights of SFace."""
    return _fetched("sface")


@pytest.fixture(scope="session")
def yunet_weights() -> Path:
    """The fetched weights of YuNet."""
    return _fetched("yunet")
