"""Reads a folder of photographs, one sub-folder per person (the layout of LFW), into a ``FaceSet``."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from faces.detection import FaceDetector
from faces.errors import FacesError
from faces.files import PHOTO_SUFFIXES, named_like_photo
from faces.framed import Framed, Framer
from faces.framing import ALIGNED, Framing
from faces.samples import FaceSet
from faces.truth import DisagreementError, LandmarkTruth
from ground.pool import threads

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """A photograph that was left out, and why.

    Attributes:
        file: The photograph.
        reason: What is wrong with it.
        disagreement: Whether two landmark networks disagreed about it; see :mod:`faces.truth`.
    """

    file: Path
    reason: str
    disagreement: bool = False


@dataclass(frozen=True)
class FolderFaces:
    """What a folder held.

    Attributes:
        faces: the photographs. Without landmark networks only nose tip (30) and mouth corners (48, 54) of their
            landmarks are known, as far as the detector saw them; the others are NaN.
        points5: (N, 5, 2) float32 eye centres, nose tip and mouth corners in the frames, for alignment.
        files: the file of every image.
        padding: (N,) share of each frame that lies outside its photograph and is black.
        refused: photographs that were left out.
        apart: (N,) how far the two landmark networks put the five points apart, as a share of the outer eye distance;
            None without them.
        sha256: SHA-256 of each file.
    """

    faces: FaceSet
    points5: torch.Tensor
    files: tuple[Path, ...]
    padding: torch.Tensor
    refused: tuple[Refusal, ...]
    apart: torch.Tensor | None = None
    sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Photo:
    file: Path
    person: str
    sha256: str
    framed: Framed


def load_folder(
    path: Path,
    size: int = 64,
    *,
    min_photos: int = 2,
    strict: bool = False,
    detector: FaceDetector | None = None,
    truth: LandmarkTruth | None = None,
    framing: Framing = ALIGNED,
    cache: Path | None = None,
    licence: str = "unknown: photographs given by the user",
    progress: Callable[[int, int], None] | None = None,
) -> FolderFaces:
    """Finds the face in every photograph and cuts out a frame like those of the synthetic heads.

    Frames are scaled and centred, not rotated: the camera model should meet faces as people hold them. They are
    resampled in linear light. Of several faces the one in the middle of the photograph counts, as in LFW.

    Args:
        path: folder with one sub-folder per person; see :data:`faces.files.PHOTO_SUFFIXES` for the files that are read.
        size: side of the frames in pixels.
        min_photos: people with fewer usable photographs are left out; 2 makes a gallery and a probe.
        strict: raise at the first photograph or person that cannot be used, instead of collecting it in ``refused``.
        detector: the face detector; default: :class:`faces.detection.FaceDetector` with the fetched weights.
        truth: two networks that mark all 68 landmarks; photographs on which they disagree are refused. Default: the
            five points of the detector alone.
        framing: size and place of faces in their frames; each photograph's own is drawn by its pixels.
        cache: folder in which frames and points of photographs are kept under the hash of their files, so that they
            need not be made again; only with the default detector, whose weights are part of that hash.
        licence: terms of the photographs.
        progress: called with (photographs done, photographs in total).

    Raises:
        FacesError: if the folder is missing, has no photographs or not the layout, if fewer than two people remain,
            if the detector's weights are missing, or (strict) if a photograph or person cannot be used.
    """
    if size < 8 or min_photos < 1:
        raise FacesError(f"load_folder needs size >= 8 and min_photos >= 1, got {size} and {min_photos}.")
    if cache is not None and detector is not None:
        raise FacesError("frames are kept for the default detector alone; leave out either detector or cache.")
    people = list_people(path)
    framer = Framer(FaceDetector() if detector is None else detector, truth, framing, size, cache)
    total = sum(len(files) for files in people.values())
    photos: list[_Photo] = []
    refused: list[Refusal] = []
    seen: dict[str, Path] = {}
    done = 0
    for person, files in people.items():
        usable: list[_Photo] = []
        for file in files:
            try:
                # One thread, whatever the caller has: the last bits of a sum depend on their number.
                with threads(1):
                    usable.append(_load_photo(file, person, framer, seen))
            except FacesError as error:
                if strict:
                    raise
                refused.append(Refusal(file, str(error), isinstance(error.__cause__, DisagreementError)))
            done += 1
            if progress is not None:
                progress(done, total)
        if len(usable) < min_photos:
            reason = f"{person} has {len(usable)} usable photographs of {len(files)}, but {min_photos} are needed"
            if strict:
                raise FacesError(f"{path}: {reason}; add photographs or delete the folder of that person.")
            refused += [Refusal(photo.file, f"{reason}.") for photo in usable]
        else:
            photos += usable
    for refusal in refused:
        _LOG.info("left out %s: %s", refusal.file, refusal.reason)
    return _assemble(path, photos, refused, licence)


def list_people(path: Path) -> dict[str, list[Path]]:
    """Photographs by person: the layout that :func:`load_folder` reads, which is checked without opening a file.

    Raises:
        FacesError: The folder is missing, holds no photographs, or holds them without a folder for each person.
    """
    if not path.is_dir():
        raise FacesError(f"There is no folder {path}; give a folder that holds one folder of photographs per person.")
    people = {
        entry.name: sorted(file for file in entry.iterdir() if _is_photo(file))
        for entry in sorted(path.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }
    people = {person: files for person, files in people.items() if files}
    if people:
        return people
    loose = sum(_is_photo(file) for file in path.iterdir())
    if loose:
        raise FacesError(
            f"{path} holds {loose} photographs but no folders; put the photographs of each person into a folder."
        )
    raise FacesError(f"{path} holds no photographs; expected PERSON/PHOTO with one of {', '.join(PHOTO_SUFFIXES)}.")


def _is_photo(file: Path) -> bool:
    return file.is_file() and named_like_photo(file) and not file.name.startswith(".")


def _load_photo(file: Path, person: str, framer: Framer, seen: dict[str, Path]) -> _Photo:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise FacesError(f"Cannot read {file} ({error.strerror}).") from error
    framed = framer.framed(file, data)
    key = hashlib.sha256(framed.image.tobytes()).hexdigest()
    if key in seen:
        raise FacesError(f"{file} shows the same picture as {seen[key]}; delete one of them.")
    seen[key] = file
    return _Photo(file, person, hashlib.sha256(data).hexdigest(), framed)


def _assemble(path: Path, photos: list[_Photo], refused: list[Refusal], licence: str) -> FolderFaces:
    names = tuple(dict.fromkeys(photo.person for photo in photos))
    if len(names) < 2:
        first = f"; the first: {refused[0].reason}" if refused else ""
        raise FacesError(
            f"{path} needs at least two people with usable photographs, found {len(names)} "
            f"({len(refused)} photographs refused{first})."
        )
    numbers = [names.index(photo.person) for photo in photos]
    captures: list[int] = []
    for index, number in enumerate(numbers):
        captures.append(numbers[:index].count(number))
    framed = [photo.framed for photo in photos]
    faces = FaceSet(
        images=torch.from_numpy(np.stack([one.image for one in framed])).permute(0, 3, 1, 2).contiguous(),
        identity=torch.tensor(numbers, dtype=torch.int64),
        capture=torch.tensor(captures, dtype=torch.int64),
        landmarks=torch.from_numpy(np.stack([one.landmarks for one in framed])),
        source=str(path),
        licence=licence,
        names=names,
    )
    apart = torch.tensor([one.apart for one in framed])
    return FolderFaces(
        faces,
        torch.from_numpy(np.stack([one.points5 for one in framed])),
        tuple(photo.file for photo in photos),
        torch.tensor([one.padding for one in framed]),
        tuple(refused),
        None if bool(apart.isnan().any()) else apart,
        tuple(photo.sha256 for photo in photos),
    )
