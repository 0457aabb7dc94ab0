"""Reads a folder of photographs, one sub-folder per person (the layout of LFW), into a ``FaceSet``."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from faces.alignment import similarity
from faces.detection import Detection, FaceDetector, read_image, turned
from faces.errors import FacesError
from faces.files import PHOTO_SUFFIXES, named_like_photo
from faces.samples import FaceSet, linear_to_srgb, srgb_to_linear

_LOG = logging.getLogger(__name__)

#: Where the five points of a straight synthetic head lie, as fractions of the frame: eye distance .265 of the width,
#: eyes above the middle. Photos are scaled and shifted to match, so both sources fill the frame alike.
FRAME_POINTS = ((0.3675, 0.410), (0.6325, 0.410), (0.500, 0.564), (0.392, 0.700), (0.608, 0.700))

#: A face is refused if it would have to be enlarged by more than this.
LARGEST_ENLARGEMENT = 2.0

#: A face of which the detector saw another roll at first, by so many degrees, is refused.
MOST_TURNED_DEG = 30.0

#: Landmarks of the iBUG order that a five-point detector delivers: nose tip and mouth corners.
KNOWN_LANDMARKS = {30: 2, 48: 3, 54: 4}


@dataclass(frozen=True)
class Refusal:
    """A photograph that was left out, and why."""

    file: Path
    reason: str


@dataclass(frozen=True)
class FolderFaces:
    """What a folder held.

    Attributes:
        faces: the photographs; of their landmarks only nose tip (30) and mouth corners (48, 54) are known, as far as
            the detector saw them, the others are NaN.
        points5: (N, 5, 2) float32 eye centres, nose tip and mouth corners in the frames, for alignment.
        files: the file of every image.
        padding: (N,) share of each frame that lies outside its photograph and is black.
        refused: photographs that were left out.
    """

    faces: FaceSet
    points5: torch.Tensor
    files: tuple[Path, ...]
    padding: torch.Tensor
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class _Photo:
    file: Path
    person: str
    image: NDArray[np.uint8]
    points5: NDArray[np.float32]
    padding: float


def load_folder(
    path: Path,
    size: int = 64,
    *,
    min_photos: int = 2,
    strict: bool = False,
    detector: FaceDetector | None = None,
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
        licence: terms of the photographs.
        progress: called with (photographs done, photographs in total).

    Raises:
        FacesError: if the folder is missing, has no photographs or not the layout, if fewer than two people remain,
            if the detector's weights are missing, or (strict) if a photograph or person cannot be used.
    """
    if size < 8 or min_photos < 1:
        raise FacesError(f"load_folder needs size >= 8 and min_photos >= 1, got {size} and {min_photos}.")
    people = list_people(path)
    found = FaceDetector() if detector is None else detector
    total = sum(len(files) for files in people.values())
    photos: list[_Photo] = []
    refused: list[Refusal] = []
    seen: dict[str, Path] = {}
    done = 0
    for person, files in people.items():
        usable: list[_Photo] = []
        for file in files:
            try:
                photo = _load_photo(file, person, size, found)
                key = hashlib.sha256(photo.image.tobytes()).hexdigest()
                if key in seen:
                    raise FacesError(f"{file} shows the same picture as {seen[key]}; delete one of them.")
                seen[key] = file
                usable.append(photo)
            except FacesError as error:
                if strict:
                    raise
                refused.append(Refusal(file, str(error)))
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


def crop_face(
    image: NDArray[np.uint8], points5: NDArray[np.float32], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], float]:
    """Cuts a square frame around a face so that its five points fall near :data:`FRAME_POINTS`, without rotation.

    Args:
        image: (H, W, 3) RGB, sRGB-encoded.
        points5: (5, 2) eye centres, nose tip, mouth corners in pixels.
        size: side of the frame in pixels.

    Returns:
        The frame (size, size, 3), the points in it, and the share of it that lies outside the image (black:
        repeated or mirrored edges raised the similarity of strangers in a recogniser from .09 to .21).

    Raises:
        FacesError: if the face is too small for that size.
    """
    target = np.array(FRAME_POINTS) * size - 0.5
    turn, _ = similarity(torch.from_numpy(points5).double(), torch.from_numpy(target))
    scale = float(turn.abs())
    if scale > LARGEST_ENLARGEMENT:
        raise FacesError(
            f"the face is too small: an eye distance of about {0.265 * size / scale:.0f} pixels would be enlarged "
            f"{scale:.1f} times for frames of {size} pixels (at most {LARGEST_ENLARGEMENT:g})"
        )
    shift = target.mean(0) - scale * points5.mean(0)
    # Sampled at about the resolution of the photo, then averaged over blocks: no aliasing at any reduction.
    fine = max(1, math.ceil(1 / scale - 0.01))
    step = 1 / (fine * scale)
    start = (0.5 / fine - 0.5 - shift) / scale
    matrix = np.array([[step, 0, start[0]], [0, step, start[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    big = cv2.warpAffine(image, matrix, (size * fine, size * fine), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    table = srgb_to_linear(torch.arange(256, dtype=torch.float64) / 255).float().numpy()
    light = table[big].reshape(size, fine, size, fine, 3).mean(axis=(1, 3))
    frame = (linear_to_srgb(torch.from_numpy(light)) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    corners = (np.array([[-0.5], [size - 0.5]]) - shift) / scale
    limits = np.array([image.shape[1], image.shape[0]]) - 0.5
    inside = np.clip(corners, -0.5, limits)
    covered = float(np.prod(inside[1] - inside[0]) / np.prod(corners[1] - corners[0]))
    return frame, (points5 * scale + shift).astype(np.float32), 1 - covered


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


def _load_photo(file: Path, person: str, size: int, detector: FaceDetector) -> _Photo:
    image = read_image(file)
    found = detector.detect(image)
    if not found:
        raise FacesError(f"No face was found in {file}; take a photograph that shows the face from the front.")
    face = _central(found, image)
    try:
        settled = detector.settle(image, face)
        if turned(settled, face) > MOST_TURNED_DEG:
            raise FacesError(
                f"the face is turned by {settled.roll_deg:.0f} degrees, and the detector puts its eyes and mouth at "
                "wrong places; turn the photograph upright"
            )
        frame, points, padding = crop_face(image, face.points5, size)
    except FacesError as error:
        raise FacesError(f"{file}: {error}.") from error
    return _Photo(file, person, frame, points, padding)


def _central(found: list[Detection], image: NDArray[np.uint8]) -> Detection:
    """The largest face that covers the middle of the photograph, else the largest."""
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    for face in found:
        if bool((np.abs(face.box[:2] + face.box[2:] / 2 - middle) <= face.box[2:] / 2).all()):
            return face
    return found[0]


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
    points5 = torch.from_numpy(np.stack([photo.points5 for photo in photos]))
    landmarks = torch.full((len(photos), 68, 2), math.nan)
    for landmark, point in KNOWN_LANDMARKS.items():
        landmarks[:, landmark] = points5[:, point]
    faces = FaceSet(
        images=torch.from_numpy(np.stack([photo.image for photo in photos])).permute(0, 3, 1, 2).contiguous(),
        identity=torch.tensor(numbers, dtype=torch.int64),
        capture=torch.tensor(captures, dtype=torch.int64),
        landmarks=landmarks,
        source=str(path),
        licence=licence,
        names=names,
    )
    padding = torch.tensor([photo.padding for photo in photos])
    return FolderFaces(faces, points5, tuple(photo.file for photo in photos), padding, tuple(refused))
