"""Protects photos, whole ones with any number of faces, one file after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faces.detection import Detection, FaceDetector
from faces.errors import FacesError
from faces.protection import Protector
from ground.protocols import Progress
from photos.errors import PhotoError
from photos.files import Photo, read_photo, write_photo
from photos.frames import (
    FRAME_PX,
    SMALL_FRAME_PX,
    Frame,
    Pixels,
    cut_frame,
    eye_distance,
    find_faces,
    paste,
    smallest_eye_distance,
)
from photos.verification import Check, Verifier

#: Photos are gathered until they hold this many faces or pixels; then their faces are protected together.
BATCH_FACES, BATCH_PIXELS = 16, 60_000_000


@dataclass
class FaceResult:
    """A face that was found.

    Attributes:
        box: left, top, width, height in pixels of the upright photo.
        eyes_px: distance of the eyes in pixels of the photo.
        reason: why it was left unprotected; None where it is protected.
        checks: of --verify.
    """

    box: tuple[float, float, float, float]
    eyes_px: float
    reason: str | None = None
    checks: list[Check] = field(default_factory=list)


@dataclass
class PhotoResult:
    """What became of a photo.

    Attributes:
        file: the original.
        written: the result, None where there is none.
        faces: largest first.
        reason: why nothing was written.
        left_out: what the original's file holds and the result's does not.
    """

    file: Path
    written: Path | None = None
    faces: list[FaceResult] = field(default_factory=list)
    reason: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def protected(self) -> bool:
        """Whether it was written with every face protected."""
        return self.written is not None and all(face.reason is None for face in self.faces)


@dataclass
class _Open:
    photo: Photo
    out: Path
    result: PhotoResult
    found: list[Detection]
    frames: list[Frame]
    protected: list[Pixels]


class PhotoProtection:
    """A method at work on photos.

    Args:
        protector: the method, fitted where it is person-specific.
        detector: finds the faces.
        generator: source of everything random.
        px: side of the frames where it is fixed; otherwise it follows the size of each face.
        person: the number under which the protector knows the only person whom photos may show; None: any faces, all
            different people.
        strip_gps: leave the place out of the results.
        verifier: checks every result; None for no check.
    """

    def __init__(
        self,
        protector: Protector,
        detector: FaceDetector,
        generator: torch.Generator,
        *,
        px: int | None = None,
        person: int | None = None,
        strip_gps: bool = False,
        verifier: Verifier | None = None,
    ) -> None:
        self._protector, self._detector, self._generator = protector, detector, generator
        self._px = px if px is not None else protector.photo_px
        self._person, self._strip_gps, self._verifier = person, strip_gps, verifier
        self._seen = 0

    def run(self, photos: Sequence[tuple[Path, Path]], progress: Progress) -> list[PhotoResult]:
        """Protect photos and write them. One that cannot be protected does not stop the others.

        Args:
            photos: (file, result).
            progress: shown per photo.

        Raises:
            ProtectorError: the method cannot work on these faces with these settings.
        """
        results: list[PhotoResult] = []
        waiting: list[_Open] = []
        with progress.stage("protecting photos", len(photos)) as stage:
            for file, out in photos:
                result = PhotoResult(file)
                results.append(result)
                try:
                    waiting.append(self._open(file, out, result))
                except PhotoError as error:
                    result.reason = str(error)
                    stage.advance()
                faces, pixels = sum(len(one.frames) for one in waiting), sum(one.photo.stored.size for one in waiting)
                if faces >= BATCH_FACES or pixels >= 3 * BATCH_PIXELS:
                    self._finish(waiting)
                    stage.advance(len(waiting))
                    waiting = []
            self._finish(waiting)
            stage.advance(len(waiting))
        return results

    def _open(self, file: Path, out: Path, result: PhotoResult) -> _Open:
        photo = read_photo(file, strip_gps=self._strip_gps)
        image = photo.upright
        found = find_faces(self._detector, image)
        result.faces = [FaceResult(_numbers(face.box), eye_distance(face.points5)) for face in found]
        if not found:
            raise PhotoError(f"{file} shows no face that the detector finds; nothing was protected.")
        if self._person is not None and len(found) > 1:
            for said in result.faces:
                said.reason = "an enrolment is of one person, and this photo shows several faces"
            raise PhotoError(
                f"{file} shows {len(found)} faces, but an enrolment is of one person; crop the photo to that person."
            )
        kept, frames = [], []
        for face, said in zip(found, result.faces, strict=True):
            try:
                frames.append(cut_frame(image, face.points5, self._side(said.eyes_px)))
                kept.append(face)
            except FacesError:
                least = smallest_eye_distance(self._px or SMALL_FRAME_PX)
                said.reason = f"its eyes are {said.eyes_px:.0f} pixels apart, and {least:.0f} are needed"
        if not kept:
            raise PhotoError(f"{file} shows faces that are too small: {result.faces[0].reason}; use a larger photo.")
        return _Open(photo, out, result, kept, frames, [])

    def _side(self, eyes_px: float) -> int:
        if self._px is not None:
            return self._px
        return FRAME_PX if eyes_px >= smallest_eye_distance(FRAME_PX) else SMALL_FRAME_PX

    def _finish(self, photos: Sequence[_Open]) -> None:
        """Protect the faces of all these photos together, then write one after the other."""
        frames = [frame for one in photos for frame in one.frames]
        protected = iter(self._protected(frames))
        additive = self._protector.declaration.additive
        for one in photos:
            after = [next(protected) for _ in one.frames]
            paste(one.photo.upright, one.frames, after, additive=additive)
            try:
                write_photo(one.photo, one.out)
            except PhotoError as error:
                one.result.reason = str(error)
                continue
            one.result.written = one.out
            one.result.left_out = one.photo.left_out
            if self._verifier is not None:
                self._verify(self._verifier, one)

    def _protected(self, frames: Sequence[Frame]) -> list[Pixels]:
        numbers = torch.arange(self._seen, self._seen + len(frames))
        self._seen += len(frames)
        if self._person is not None:
            numbers = torch.full((len(frames),), self._person)
        done: dict[int, Pixels] = {}
        for px in sorted({len(frame.pixels) for frame in frames}):
            rows = [row for row, frame in enumerate(frames) if len(frame.pixels) == px]
            images = torch.from_numpy(np.stack([frames[row].pixels for row in rows])).permute(0, 3, 1, 2).float() / 255
            points5 = torch.from_numpy(np.stack([frames[row].points5 for row in rows]))
            after = self._protector.protect(images, points5, numbers[rows], self._generator)
            levels = (after.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
            done.update(zip(rows, levels, strict=True))
        return [done[row] for row in range(len(frames))]

    def _verify(self, verifier: Verifier, one: _Open) -> None:
        """Compare the file as it was written with the original, both read anew."""
        original, written = read_photo(one.photo.path).upright, read_photo(one.out).upright
        places = [face for face in one.result.faces if face.reason is None]
        found = verifier.checks(original, written, [face.points5 for face in one.found])
        for face, checks in zip(places, found, strict=True):
            face.checks = checks


def _numbers(values: Any) -> tuple[float, float, float, float]:
    left, top, width, height = (float(value) for value in values)
    return left, top, width, height
