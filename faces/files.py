"""Files that are whole or absent, and where they are kept between runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

#: File names that are taken for photographs. Kinds that cannot be read are among them, so that a command says so
#: instead of passing a face over.
PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    ".heic", ".heif", ".hif", ".avif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2",
    ".ppm", ".pgm",
)  # fmt: skip


def named_like_photo(path: Path) -> bool:
    """Whether the name of a file, which may be hidden, ends as those of photographs do."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file through a temporary one beside it; after a failure the old file, or none, is there.

    Args:
        path: the file; missing folders are made.
        data: all of it.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def cache_folder(kind: str) -> Path:
    """Where things are kept between runs: ``$OPTISHIELD_CACHE/KIND``, or ``~/.cache/optishield/KIND``."""
    base = os.environ.get("OPTISHIELD_CACHE")
    return (Path(base) if base else Path.home() / ".cache" / "optishield") / kind
