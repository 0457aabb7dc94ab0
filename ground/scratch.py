"""Temporary folders that do not outlive their program for ever: the next one removes what a killed one left."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ALIVE = ".alive"


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder, removed at the end. Folders of the same prefix whose programs were killed go first.

    A program that lives holds a lock on a file in its folder. The operating system lets go of the lock however the
    program ends, so that neither the number of another process nor the age of a folder has to be trusted.

    Args:
        prefix: Beginning of its name.

    Yields:
        The folder, empty but for the hidden file of the lock.
    """
    parent = Path(tempfile.gettempdir())
    _sweep(parent, prefix)
    # The name that is swept comes only after the lock, or another program might remove the folder in between.
    hidden = Path(tempfile.mkdtemp(prefix=f".{prefix}-", dir=parent))
    handle = os.open(hidden / _ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder = hidden.with_name(hidden.name.removeprefix("."))
        os.rename(hidden, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
        shutil.rmtree(hidden, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}-*"):
        # Folders of other users, and those that vanish meanwhile, are none of this program's business.
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder / _ALIVE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
