"""Protects photos, whole ones with any number of faces, and writes each as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from faces.detection import FaceDetector
from faces.errors import FacesError
from faces.protection import Protector, check_side
from ground.protocols import Progress
from ground.text import printable
from photos.errors import PhotoError
from photos.files import Photo, encoded_pixels, read_photo, write_photo
from photos.finding import FoundFace, find_faces
from photos.frames import (
    FRAME_PX,
    SMALL_FRAME_PX,
    Frame,
    Pixels,
    cut_frame,
    eye_distance,
    paste,
    smallest_eye_distance,
)
from photos.isolation import BATCH_FACES, FACE_STEPS, FaceWork, Failed
from photos.metadata import Keep
from photos.paths import Job
from photos.results import FaceResult, Outcome, PhotoResult
from photos.verification import Comparison, Verifier

#: Where a result depends on the other photos, they are gathered until they hold so many faces or pixels.
BATCH_PIXELS = 60_000_000


@dataclass(frozen=True, eq=False)
class _Open:
    """A photo whose faces are to be protected.

    Attributes:
        job: File and result.
        photo: What was read.
        faces: All of its faces, as they are known so far.
        frames: The frame of each face that can be protected, by its place among ``faces``.
    """

    job: Job
    photo: Photo
    found: tuple[FoundFace, ...]
    faces: tuple[FaceResult, ...]
    frames: dict[int, Frame]


class PhotoProtection:
    """A method at work on photos.

    Args:
        protector: The method, fitted where it is person-specific.
        detector: Finds the faces.
        seed: Seed for all random numbers drawn for the photos.
        px: Side of the frames where it is fixed; otherwise it follows the size of each face.
        person: Number under which the protector knows the only person whom photos may show; None for any faces, all
            of different people.
        keep: What of their metadata the results keep.
        copy_faceless: Whether a photo without a face is written too, unprotected.
        verifier: Checks every result; None for no check.
        device: Where the method computes; None for the CPU.
    """

    def __init__(
        self,
        protector: Protector,
        detector: FaceDetector,
        seed: int,
        *,
        px: int | None = None,
        person: int | None = None,
        keep: Keep = Keep.camera,
        copy_faceless: bool = False,
        verifier: Verifier | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._about, self._detector = protector.declaration, detector
        self._work = FaceWork(protector, seed, person, torch.device("cpu") if device is None else device)
        self._px = px if px is not None else protector.photo_px
        check_side(protector, self._px or FRAME_PX)
        self._alone, self._keep, self._copy = person is not None, keep, copy_faceless
        self._verifier = verifier

    def run(self, jobs: Sequence[Job], progress: Progress, done: Callable[[PhotoResult], None]) -> None:
        """Protect photos and write them. One that cannot be protected does not stop the others.

        A photo is written as soon as its faces are protected. Only a method whose results depend on the other photos of
        a batch gets the faces of several photos at once.

        Args:
            jobs: The photos and their results.
            progress: Shows photos and, within each, faces.
            done: Called with what became of each photo when it is finished; also when the check of a written photo is
                interrupted.
        """
        waiting: list[_Open] = []
        with progress.stage("protecting photos", len(jobs)) as stage:
            for job in jobs:
                stage.note(printable(job.file.name))
                opened = self._opened(job)
                if isinstance(opened, PhotoResult):
                    done(opened)
                    stage.advance()
                    continue
                waiting.append(opened)
                if self._full(waiting):
                    self._finish(waiting, progress, done, stage.advance)
                    waiting = []
            self._finish(waiting, progress, done, stage.advance)

    def _full(self, waiting: Sequence[_Open]) -> bool:
        faces, pixels = sum(len(one.frames) for one in waiting), sum(one.photo.stored.size for one in waiting)
        return not self._about.batch_dependent or faces >= BATCH_FACES or pixels >= 3 * BATCH_PIXELS

    def _opened(self, job: Job) -> _Open | PhotoResult:
        if job.exists:
            return _existing(job)
        try:
            photo = read_photo(job.file, self._keep)
            found = tuple(find_faces(self._detector, photo.upright))
        except (PhotoError, FacesError) as error:
            return PhotoResult(job.file, Outcome.unprotected, reason=str(error))
        except MemoryError:
            reason = f"{job.file} needs more memory than there is; reduce it."
            return PhotoResult(job.file, Outcome.unprotected, reason=reason)
        if not found:
            return self._faceless(job, photo)
        faces, frames = self._framed(photo.upright, found)
        if frames:
            return _Open(job, photo, found, faces, frames)
        if self._alone and len(found) > 1:
            why = f"shows {len(found)} faces, but an enrolment is of one person; crop the photo to that person."
        elif found[0].doubt is not None:
            why = f"shows no face that can be protected: {found[0].doubt}."
        else:
            why = f"shows faces that are too small: {faces[0].reason}; use a larger photo."
        reason = f"{job.file} {why}"
        return PhotoResult(job.file, Outcome.unprotected, faces=faces, reason=reason)

    def _framed(self, image: Pixels, found: Sequence[FoundFace]) -> tuple[tuple[FaceResult, ...], dict[int, Frame]]:
        """What is known of the faces, and the frames of those that can be protected."""
        faces: list[FaceResult] = []
        frames: dict[int, Frame] = {}
        for place, face in enumerate(found):
            eyes, reason = eye_distance(face.seen.points5), face.doubt
            if self._alone and len(found) > 1:
                reason = "an enrolment is of one person, and this photo shows several faces"
            if reason is None:
                try:
                    frames[place] = cut_frame(image, face.seen.points5, self._side(eyes))
                except FacesError:
                    least = smallest_eye_distance(self._px or SMALL_FRAME_PX)
                    reason = f"its eyes are {eyes:.0f} pixels apart, and {least:.0f} are needed"
            left, top, width, height = (float(value) for value in face.seen.box)
            faces.append(FaceResult((left, top, width, height), eyes, face.seen.roll_deg, reason))
        return tuple(faces), frames

    def _side(self, eyes_px: float) -> int:
        if self._px is not None:
            return self._px
        return FRAME_PX if eyes_px >= smallest_eye_distance(FRAME_PX) else SMALL_FRAME_PX

    def _faceless(self, job: Job, photo: Photo) -> PhotoResult:
        if not self._copy:
            return PhotoResult(job.file, Outcome.no_face, faces=())
        try:
            write_photo(photo, job.out)
        except PhotoError as error:
            return PhotoResult(job.file, Outcome.unprotected, faces=(), reason=str(error))
        return PhotoResult(job.file, Outcome.no_face, job.out, (), left_out=photo.left_out, kind=photo.kind)

    def _finish(
        self,
        photos: Sequence[_Open],
        progress: Progress,
        done: Callable[[PhotoResult], None],
        advance: Callable[[], None],
    ) -> None:
        """Protect the faces of these photos together, then write one after the other."""
        if not photos:
            return
        frames = [frame for one in photos for frame in one.frames.values()]
        names = photos[0].job.file.name + (f" and {len(photos) - 1} more" if len(photos) > 1 else "")
        faces = f"{len(frames)} faces" if len(frames) > 1 else "1 face"
        with progress.stage(printable(f"{names}: {faces} in hundredths"), FACE_STEPS * len(frames)) as stage:
            protected = iter(self._work.protected(frames, stage.advance))
        for one in photos:
            self._write(one, {place: next(protected) for place in one.frames}, done)
            advance()

    def _write(self, one: _Open, protected: dict[int, Pixels | Failed], done: Callable[[PhotoResult], None]) -> None:
        """Write a photo with its protected faces, check it, and tell what became of it."""
        photo, failed = self._pasted(one, protected)
        faces = [replace(face, reason=failed.get(place, face.reason)) for place, face in enumerate(one.faces)]
        places = [place for place, face in enumerate(faces) if face.reason is None]
        if not places:
            reason = f"no face of {one.job.file} could be protected: {faces[0].reason}."
            done(PhotoResult(one.job.file, Outcome.unprotected, faces=tuple(faces), reason=reason))
            return
        try:
            write_photo(photo, one.job.out)
        except PhotoError as error:
            done(PhotoResult(one.job.file, Outcome.unprotected, faces=tuple(faces), reason=str(error)))
            return
        unchecked: str | None = "the command was interrupted"
        try:
            for place, comparisons in zip(places, self._compared(one, places), strict=True):
                faces[place] = replace(faces[place], comparisons=comparisons)
            unchecked = None
        except (PhotoError, FacesError) as error:
            unchecked = str(error)
        finally:
            # Also when Ctrl-C ends the check: the photo is written.
            outcome = Outcome.protected if len(places) == len(faces) else Outcome.partly
            done(
                PhotoResult(
                    one.job.file, outcome, one.job.out, tuple(faces), left_out=photo.left_out, kind=photo.kind,
                    unchecked=unchecked,
                )
            )  # fmt: skip

    def _pasted(self, one: _Open, protected: dict[int, Pixels | Failed]) -> tuple[Photo, dict[int, str]]:
        """The photo with its protected faces, and by place why others are not."""
        failed = {place: after.reason for place, after in protected.items() if isinstance(after, Failed)}
        places = [place for place in protected if place not in failed]
        before = one.photo.upright
        frames = [one.frames[place] for place in places]
        levels = [after for after in protected.values() if not isinstance(after, Failed)]
        after = paste(before, frames, levels, additive=self._about.additive)
        for place, frame in zip(places, frames, strict=True):
            top, bottom, left, right = frame.window(before.shape)
            window = np.s_[top:bottom, left:right]
            old, new = (encoded_pixels(pixels[window], grey=one.photo.grey) for pixels in (before, after))
            if np.array_equal(old, new):
                failed[place] = f"nothing of what the method {self._about.name} changed is left in the photo"
        return one.photo.with_upright(after), failed

    def _compared(self, one: _Open, places: Sequence[int]) -> list[tuple[Comparison, ...]]:
        """Compare the file as it was written, read anew, with the original."""
        if self._verifier is None:
            return [() for _ in places]
        written = read_photo(one.job.out).upright
        return self._verifier.comparisons(
            one.photo.upright, written, [one.found[place].seen.points5 for place in places]
        )


def _existing(job: Job) -> PhotoResult:
    """A photo whose result was there before. An empty file is what a disk without links keeps of a cut-off call."""
    try:
        empty = job.out.is_file() and job.out.stat().st_size == 0
    except OSError:
        empty = False
    if empty:
        reason = f"{job.out} is empty, so an earlier call was cut off while it was written; delete it and start again."
        return PhotoResult(job.file, Outcome.unprotected, reason=reason)
    return PhotoResult(job.file, Outcome.exists)
