"""What the parts of a bench need on this machine, and what to install where it is missing."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from firmware_bridge.devices.aravis import LIBRARY
from ground.gates import Gate


def _package(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _program(name: str) -> bool:
    return shutil.which(name) is not None


def _library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Requirement:
    """Something that a part of a bench needs.

    Attributes:
        part: What needs it.
        names: Packages, programs or libraries, all of which are needed.
        found: Whether one of them is there.
        install: What to install where they are missing.
        selftest: Whether ``optishield bench selftest`` without a file needs it.
    """

    part: str
    names: tuple[str, ...]
    found: Callable[[str], bool]
    install: str
    selftest: bool = False


REQUIREMENTS = (
    Requirement("controllers", ("cobs", "cbor2"), _package, "pip install 'optishield[bench]'", selftest=True),
    Requirement(
        "emulated firmware", ("make", "gcc"), _program, "the Debian packages make, gcc and libc6-dev", selftest=True
    ),
    Requirement("cameras by GenICam", (LIBRARY,), _library, "the Debian package libaravis-0.8-0", selftest=True),
    Requirement("cameras by GenTL", ("harvesters",), _package, "pip install 'optishield[gentl]'"),
    Requirement("modulator window", ("pyglet", "mss"), _package, "pip install 'optishield[slm]'"),
    Requirement("displays", ("xrandr",), _program, "the Debian package x11-xserver-utils"),
    Requirement("export", ("h5py", "tifffile"), _package, "pip install 'optishield[export]'"),
)
"""Everything that is not installed with the program itself."""


def examine(requirements: tuple[Requirement, ...] = REQUIREMENTS) -> list[Gate]:
    """Whether each part has what it needs, and at the end whether the self-test on emulated devices can run."""
    gates, lacking = [], []
    for one in requirements:
        missing = [name for name in one.names if not one.found(name)]
        reason = f"{' and '.join(missing)} missing; install {one.install}" if missing else "installed"
        gates.append(Gate(one.part, not missing, reason))
        lacking += [one.part] if missing and one.selftest else []
    reason = f"needs: {', '.join(lacking)}" if lacking else "can run: optishield bench selftest"
    return [*gates, Gate("self-test", not lacking, reason)]
