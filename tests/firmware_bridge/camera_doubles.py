"""Shared by the tests with an emulated GigE camera: the library is there, and one test at a time has the port."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.devices import aravis


@contextlib.contextmanager
def gige_port() -> Iterator[None]:
    """The one port of a GigE camera on this machine, for this test alone; skips without the library."""
    try:
        ctypes.CDLL(aravis.LIBRARY)
    except OSError:
        pytest.skip(f"there is no {aravis.LIBRARY}; install the Debian package libaravis-0.8-0")
    # Parallel test processes wait for each other here.
    with (Path(tempfile.gettempdir()) / "optishield-gige.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
