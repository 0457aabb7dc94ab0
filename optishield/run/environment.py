"""What a run ran on: versions, commit, processor, threads. Read without importing the heavy packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optishield import __version__

_PACKAGES = ("torch", "numpy", "scipy", "opencv-python", "pydantic", "safetensors", "matplotlib", "joblib")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def describe_environment(
    *, command: Sequence[str], seeds: Mapping[str, int], now: datetime | None = None
) -> dict[str, Any]:
    """Collect what is needed to repeat a run. It holds no name of a host or user, unless the user typed one.

    Args:
        command: The command line as typed, ``sys.argv``. Its home folder is written as ``~``, the program without its
            folder; all else stays, also paths elsewhere.
        seeds: Every seed by name.
        now: The time to note; None reads the clock.

    Returns:
        A dictionary of JSON values.
    """
    return {
        "utc": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "command": [Path(word).name if place == 0 else _without_home(word) for place, word in enumerate(command)],
        "seeds": dict(seeds),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "versions": {"optishield": __version__, **{name: package_version(name) for name in _PACKAGES}},
        "git": git_state(Path(__file__).resolve().parents[2]),
    }


def _without_home(word: str) -> str:
    home = os.path.expanduser("~")
    if home in ("", "~", "/"):
        return word
    return re.sub(rf"(?<![^=:,]){re.escape(home)}(?=/|$)", "~", word)


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """The processor's model as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout the program runs from, and whether files were changed; None outside a checkout."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):  # no git program, or a repository without a commit
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
