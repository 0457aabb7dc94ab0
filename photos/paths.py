"""Which photos a command works on, and where their results go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from photos.errors import NothingNamedError, PhotoError

#: File names in folders that are taken for photos. Kinds that cannot be read are among them, so that the command says
#: so instead of passing a face over.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic",
    ".heif", ".avif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".ppm", ".pgm",
)  # fmt: skip


def photos_in(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Photos as (file, its place below the result's folder), in the order given, those of a folder by name.

    Files are taken whatever they are called; in folders, and the folders in them, what is named like a photo.

    Raises:
        NothingNamedError: nothing is named.
        PhotoError: a path does not exist, or a folder holds no photo.
    """
    if not paths:
        raise NothingNamedError("No photo is named; name files or folders.")
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_file():
            found.append((path, Path(path.name)))
        elif path.is_dir():
            inside = [(file, file.relative_to(path)) for file in _photos_below(path)]
            if not inside:
                raise PhotoError(f"{path} holds no photos; name a folder with photos, or the files.")
            found += inside
        else:
            raise PhotoError(f"There is no file or folder {path}; check the path.")
    return found


def destinations(photos: Sequence[tuple[Path, Path]], folders: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Photos as (file, result), after everything that a result could overwrite was ruled out.

    Args:
        photos: as from :func:`photos_in`.
        folders: what was named; ``out`` may not lie in any of them, since its photos would be protected again.
        out: the result's folder.

    Raises:
        PhotoError: ``out`` is no folder or lies in a folder of photos, a result exists, or two share a name.
    """
    if out.exists() and not out.is_dir():
        raise PhotoError(f"{out} is a file, not a folder; name another folder with --out.")
    for folder in folders:
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise PhotoError(f"{out} lies in {folder}, whose photos are protected; name a folder outside with --out.")
    taken: dict[str, Path] = {}
    result = []
    for file, place in photos:
        target = out / place
        # Many disks hold A.jpg and a.jpg for one name.
        other = taken.setdefault(str(place).casefold(), file)
        if other is not file and other.resolve() == file.resolve():
            raise PhotoError(f"{file} is named twice; name it once.")
        if other is not file:
            raise PhotoError(f"{other} and {file} would both become {target}; protect them into different folders.")
        if target.exists() or target.is_symlink():
            raise PhotoError(f"{target} exists already; name another folder with --out.")
        result.append((file, target))
    return result


def _photos_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in SUFFIXES and path.is_file():
            yield path
