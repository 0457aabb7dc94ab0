"""Atomic file writing: a reader sees the old file, the new file, or none, whatever happens in between."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = f".{'[0-9a-f]' * 12}.tmp"
"""Glob pattern of the temporary files, for whoever cleans up after a killed process."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes through a temporary file in the same folder and ``os.replace``.

    The data reaches the disk before the name does, so a power cut cannot leave an empty file under the name.

    Args:
        path: The file to make or replace; its folder must exist.
        data: The whole content.

    Raises:
        OSError: With ``filename`` set to ``path``; the temporary file is removed.
    """
    _through_temporary(path, data, os.replace)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, whole or not at all; a file that appears meanwhile is not replaced.

    Args:
        path: The file to make; its folder must exist.
        data: The whole content.

    Raises:
        FileExistsError: There is such a file.
        OSError: As for :func:`write_atomic`.
    """
    _through_temporary(path, data, _name_new)


def _name_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this disk (FAT, some network disks): take the name first, and only then fill it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        os.replace(temporary, path)
    else:
        os.unlink(temporary)


def _through_temporary(path: Path, data: bytes, name: Callable[[Path, Path], None]) -> None:
    temporary = path.parent / f".{secrets.token_hex(6)}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        name(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def writing(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` for whoever writes a file piece by piece; it gets its name at the end.

    Args:
        path: The file to make; its folder must exist.
        replace: Whether a file of that name may be replaced. Otherwise it is an error, also if it appears meanwhile.

    Yields:
        The path to write to. What lies there when the context is left becomes ``path``; after an error it is removed.

    Raises:
        FileExistsError: There is such a file and ``replace`` is false; it is looked for before anything is written.
        OSError: As for :func:`write_atomic`.
    """
    if not replace and (path.exists() or path.is_symlink()):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = path.parent / f".{secrets.token_hex(6)}.tmp"
    try:
        yield temporary
        handle = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        (os.replace if replace else _name_new)(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_all(handle: int, data: bytes | memoryview) -> None:
    """``os.write`` until nothing is left; one call may write a part only."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
