"""Shared by the tests with an emulated GigE camera: the library is there, and one test at a time has the port."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from firmware_bridge.devices import aravis

# A test may have to wait for all others that want the port.
WAIT_S = 900.0
waits_for_the_port = pytest.mark.timeout(WAIT_S + 120)

# A name of the kernel, not of a file: it goes with the process that holds it, and is seen by all that see the port.
_LOCK = "\0optishield-gige-camera"
_PORT = ("127.0.0.1", 3956)


@contextlib.contextmanager
def gige_port() -> Iterator[None]:
    """The one port of a GigE camera on this machine, for this test alone; skips without the library.

    Tests of all processes, checkouts and users wait for each other here. A port that somebody else keeps is a failure,
    not a skip.
    """
    try:
        ctypes.CDLL(aravis.LIBRARY)
    except OSError:
        pytest.skip(f"there is no {aravis.LIBRARY}; install the Debian package libaravis-0.8-0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        _until(lambda: _bound(lock, _LOCK), "other tests have had the port of the GigE camera")
        # A camera that was killed, or one of no test.
        _until(_free, f"a program of no test has had port {_PORT[1]} of the GigE camera")
        yield


def _until(true: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not true():
        if time.monotonic() > end_s:
            pytest.fail(f"{what} for {WAIT_S:g} s; end them.")
        time.sleep(0.1)


def _bound(lock: socket.socket, name: str | tuple[str, int]) -> bool:
    try:
        lock.bind(name)
    except OSError:
        return False
    return True


def _free() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return _bound(probe, _PORT)
