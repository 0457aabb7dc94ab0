"""What this installation can do, and what to change where it cannot."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable

import typer

from ground.gates import Gate
from optishield.console import Json, print_json, show
from optishield.errors import ExitCode, user_error
from optishield.run.environment import package_version, processor_name


def doctor(json_output: Json = False) -> None:
    """Check what this installation can do: Python, torch, OpenCV, weights, cache folder."""
    checks = examine()
    sound = all(check.passed for check in checks)
    if json_output:
        listed = [{"name": check.name, "ok": check.passed, "text": check.reason} for check in checks]
        print_json({"ok": sound, "checks": listed})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            show(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<{width}}  {check.reason}")
    if not sound:
        raise typer.Exit(ExitCode.BAD_INPUT)


def examine() -> list[Gate]:
    """Run all checks. A check that fails says what to change; none stops the others."""
    checks = {
        "python": _python,
        "processor": _processor,
        "torch": _torch,
        "opencv": _opencv,
        "weights": _weights,
        "cache": _cache,
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], tuple[bool, str]]) -> Gate:
    try:
        ok, text = check()
    except ImportError as error:
        ok, text = False, f"cannot be imported ({error}); install again in a fresh environment"
    except (OSError, ValueError) as error:
        known = user_error(error)
        ok, text = False, known[0] if known is not None else str(error)
    return Gate(name, ok, text)


def _python() -> tuple[bool, str]:
    return True, f"{platform.python_version()} in {sys.prefix}"


def _processor() -> tuple[bool, str]:
    return True, f"{processor_name()}, {os.cpu_count()} cores"


def _torch() -> tuple[bool, str]:
    import torch

    device = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "CPU"
    return True, f"{torch.__version__} on {device}, {torch.get_num_threads()} threads"


def _opencv() -> tuple[bool, str]:
    import cv2

    if not hasattr(cv2, "FaceDetectorYN"):
        return False, f"{cv2.__version__} has no FaceDetectorYN; install opencv-python 5 and no second OpenCV package"
    others = [name for name in ("opencv-contrib-python", "opencv-python-headless") if package_version(name)]
    if others:
        return False, f"{cv2.__version__}, but {' and '.join(others)} overwrites the same files; uninstall it"
    return True, f"{cv2.__version__}, {cv2.getNumThreads()} threads"


def _weights() -> tuple[bool, str]:
    from faces.errors import FacesError
    from faces.weights import cached_path, list_weights, verify

    states, damaged = [], False
    for name in (entry.name for entry in list_weights()):
        if not cached_path(name).is_file():
            states.append(f"{name} absent (needed for photographs only: optishield weights fetch {name})")
            continue
        try:
            verify(name)
        except FacesError as error:
            states.append(str(error))
            damaged = True
        else:
            states.append(f"{name} intact")
    return not damaged, "; ".join(states)


def _cache() -> tuple[bool, str]:
    from faces.weights import default_cache

    folder = default_cache().parent
    # The folder may not exist yet; then what counts is the nearest folder above it.
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return False, f"{folder} cannot be written; set OPTISHIELD_CACHE to a folder of yours"
    return True, f"{folder} ({shutil.disk_usage(existing).free / 1e9:.1f} GB free)"
