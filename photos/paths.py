"""Which photos a command works on, and where their results go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from faces.files import named_like_photo
from ground.errors import describe_os_error
from photos.errors import NothingNamedError, PhotoError
from photos.heif import HEIF_SUFFIXES


@dataclass(frozen=True)
class PassedOver:
    """Something in a folder that may hold photos and was not looked into.

    Attributes:
        path: Its path.
        reason: One sentence that names the path and says what to do.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """What was found under the paths that a command was given.

    Attributes:
        photos: (file, its place below the folder of the results), in the order given, those of a folder by name.
        passed_over: What may hold photos and was not looked into.
    """

    photos: tuple[tuple[Path, Path], ...]
    passed_over: tuple[PassedOver, ...]


@dataclass(frozen=True)
class Job:
    """A photo and its result.

    Attributes:
        file: The original.
        out: The result.
        exists: Whether the result was there before the command began.
    """

    file: Path
    out: Path
    exists: bool = False


def photos_in(paths: Sequence[Path]) -> Found:
    """The photos that paths name.

    Files are taken whatever they are called; in folders, and the folders in them, what is named like a photo. Hidden
    files and folders are no photos. Links to folders are not followed, since two of them can lead in a circle.

    Raises:
        NothingNamedError: Nothing is named.
        PhotoError: A path does not exist, or a folder holds no photo.
    """
    if not paths:
        raise NothingNamedError("No photo is named; name files or folders.")
    photos: list[tuple[Path, Path]] = []
    passed_over: list[PassedOver] = []
    for path in paths:
        if path.is_file():
            photos.append((path, Path(path.name)))
        elif path.is_dir():
            inside = list(_below(path))
            if not inside:
                raise PhotoError(f"{path} holds no photos; name a folder with photos, or the files.")
            photos += [(one, one.relative_to(path)) for one in inside if isinstance(one, Path)]
            passed_over += [one for one in inside if isinstance(one, PassedOver)]
        else:
            raise PhotoError(f"There is no file or folder {path}; check the path.")
    return Found(tuple(photos), tuple(passed_over))


def destinations(
    photos: Sequence[tuple[Path, Path]], folders: Sequence[Path], out: Path, *, skip_existing: bool = False
) -> list[Job]:
    """The results of photos, after everything that one of them could overwrite was ruled out.

    The result of a HEIC photo is a JPEG file and is called like it with ``.jpg`` added.

    Args:
        photos: From :func:`photos_in`.
        folders: What was named; ``out`` may not lie in any of them, since its photos would be protected again.
        out: Folder of the results.
        skip_existing: Mark results that exist instead of refusing them.

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
        target = out / (place.with_name(place.name + ".jpg") if place.suffix.lower() in HEIF_SUFFIXES else place)
        # Many disks hold A.jpg and a.jpg for one name.
        other = taken.setdefault(str(target).casefold(), file)
        if other is not file and other.resolve() == file.resolve():
            raise PhotoError(f"{file} is named twice; name it once.")
        if other is not file:
            raise PhotoError(f"{other} and {file} would both become {target}; protect them into different folders.")
        exists = target.exists() or target.is_symlink()
        if exists and not skip_existing:
            raise PhotoError(
                f"{target} exists already; name another folder with --out, or go on where an earlier call ended with "
                "--skip-existing."
            )
        result.append(Job(file, target, exists))
    return result


def check_writable(out: Path) -> None:
    """Refuse a file or folder that could not be made, before any work is done for it.

    Raises:
        PhotoError: The nearest folder above it that exists may not be written, or is no folder.
    """
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not above.is_dir():
        raise PhotoError(f"{above} is a file, not a folder; name another place with --out.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PhotoError(f"{above} may not be written; change the permissions, or name another place with --out.")


def _below(folder: Path) -> Iterator[Path | PassedOver]:
    """Photos in a folder and its folders by name, and what could not be looked into."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield PassedOver(folder, describe_os_error(error))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(path)
            elif (one := _looked_at(path)) is not None:
                yield one
        except OSError as error:
            yield PassedOver(path, describe_os_error(error))


def _looked_at(path: Path) -> Path | PassedOver | None:
    """A photo, something that may be one, or None for anything else."""
    if path.is_symlink() and not path.exists():
        if named_like_photo(path) or not path.suffix:
            return PassedOver(path, f"{path} is a link that leads nowhere; delete it, or bring back what it names.")
        return None
    if path.is_dir():
        return PassedOver(path, f"{path} is a link to a folder, which is not followed; name that folder itself.")
    if not named_like_photo(path):
        return None
    if not path.is_file():
        return PassedOver(path, f"{path} is named like a photo and is no file; delete it, or rename it.")
    return path
