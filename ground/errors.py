"""The error of this room, and sentences for failures of the operating system."""

from __future__ import annotations

import errno


class GroundError(ValueError):
    """A file, a setting of the pool or a stored value that cannot be used as it is; the message says what to change."""


def describe_os_error(error: OSError) -> str:
    """One sentence for a failed file operation, with what to change.

    Args:
        error: The error as the operating system reported it.

    Returns:
        A sentence without a final line break.
    """
    where = str(error.filename2 or error.filename or "the file")
    reason = error.strerror or str(error) or type(error).__name__
    advice = {
        errno.ENOSPC: "free space on that disk, or choose another one with --out",
        errno.EDQUOT: "your quota is used up: free space, or choose another disk with --out",
        errno.EROFS: "the disk is read-only: choose another folder with --out",
        errno.EEXIST: "something else has that name: move it away",
        errno.EACCES: "change the permissions, or choose another folder",
        errno.EPERM: "change the permissions, or choose another folder",
        errno.ENOENT: "check the path",
        errno.ENOTDIR: "part of the path is a file, not a folder: check the path",
        errno.EISDIR: "a file is needed here, not a folder: check the path",
        errno.ENAMETOOLONG: "choose a shorter name",
    }.get(error.errno or 0)
    sentence = f"{where}: {reason}"
    return f"{sentence}; {advice}." if advice else f"{sentence}."


def one_line(text: str) -> str:
    """Fold a message into one line."""
    return " ".join(text.split())
