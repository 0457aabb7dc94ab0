"""Atomic file writing: a reader sees the old file, the new file, or none, whatever happens in between."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TEMPORARY = f".{'[0-9a-f]' * 12}.tmp"
"""Glob pattern of the temporary files, for whoever cleans up after a killed process."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes through a temporary file in the same folder and ``os.replace``.

    The data reaches the disk before the name does, so a power cut cannot leave an empty file under the name.

    Args:
        path: the file to make or replace; its folder must exist.
        data: the whole content.

    Raises:
        OSError: with ``filename`` set to ``path``; the temporary file is removed.
    """
    temporary = path.parent / f".{secrets.token_hex(6)}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_all(handle: int, data: bytes) -> None:
    """``os.write`` until nothing is left; one call may write a part only."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
