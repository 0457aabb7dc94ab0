"""Atomic file writing: a reader sees the old file, the new file, or none, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = f".{'[0-9a-f]' * 12}.tmp"
"""Glob pattern of the temporary files, for whoever cleans up after a killed process."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file or replace it, whole or not at all.

    The data reaches the disk before the name does, so a power cut cannot leave an empty file under the name; and when
    the function returns the name is there too, so that files written one after another also survive in that order.

    Args:
        path: The file to make or replace; its folder must exist.
        data: The whole content.

    Raises:
        OSError: The file could not be written; ``filename`` is ``path``, and nothing is left behind.
    """
    with writing(path, replace=True) as temporary:
        _fill(temporary, data)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, whole or not at all; a file that appears meanwhile is not replaced.

    On a disk without hard links (FAT, some network disks) a power cut in the last moment may leave an empty file.

    Args:
        path: The file to make; its folder must exist.
        data: The whole content.

    Raises:
        FileExistsError: There is such a file.
        OSError: As for :func:`write_atomic`.
    """
    with writing(path) as temporary:
        _fill(temporary, data)


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
    give_name: Callable[[Path, Path], None] = os.replace if replace else _name_new
    try:
        yield temporary
        _sync(temporary)
        give_name(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        hidden = (None, str(temporary), temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename in hidden:
            # Nobody has ever heard of the temporary file. What a library says in words alone stays as it is.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_all(handle: int, data: bytes | memoryview) -> None:
    """``os.write`` until nothing is left; one call may write a part only."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _fill(temporary: Path, data: bytes) -> None:
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_all(handle, data)
    finally:
        os.close(handle)


def _name_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    except OSError:
        # No hard links on this disk (FAT, some network disks): take the name first, and only then fill it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink()
            raise
    else:
        os.unlink(temporary)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    # Not every file system can do this for a folder; then the name is there a little later.
    with contextlib.suppress(OSError):
        _sync(folder)
