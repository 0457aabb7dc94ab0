"""Where things are kept between runs."""

from __future__ import annotations

import os
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


def cache_folder(kind: str) -> Path:
    """Where things are kept between runs: ``$OPTISHIELD_CACHE/KIND``, or ``~/.cache/optishield/KIND``."""
    base = os.environ.get("OPTISHIELD_CACHE")
    return (Path(base) if base else Path.home() / ".cache" / "optishield") / kind
