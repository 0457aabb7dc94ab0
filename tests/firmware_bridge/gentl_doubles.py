"""Shared by the tests with a GenTL producer: the one of ``gentl_double/``, built for this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def gentl_producer(folder: Path) -> Path:
    """The producer, built into a folder; skips without a compiler or harvesters."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc; install the Debian packages gcc and libc6-dev")
    pytest.importorskip("harvesters.core", reason="harvesters is not installed; install the extra gentl")
    built = folder / "double.cti"
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-fvisibility=hidden"]
    command += ["-Wa,-I.", "-o", str(built), "producer.c", "-lm", "-lpthread"]
    subprocess.run(command, check=True, cwd=Path(__file__).parent / "gentl_double")
    return built
