"""What became of photos: the records that the command shows and writes as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from photos.verification import Comparison


class Outcome(StrEnum):
    """What became of a photo."""

    protected = "protected"
    """Written, every face that was found is protected."""
    partly = "partly protected"
    """Written, but not every face is protected."""
    unprotected = "not protected"
    """Nothing was written: no face of it could be protected, or it could not be read or written."""
    no_face = "no face found"
    """The detector found no face; nothing was written, unless a copy was asked for."""
    exists = "exists already"
    """Its result was there before; the photo was not looked at."""
    not_reached = "not reached"
    """The command was interrupted before."""


#: Outcomes after which no face is known to be unprotected.
_SAFE = frozenset({Outcome.protected, Outcome.no_face, Outcome.exists})


@dataclass(frozen=True)
class FaceResult:
    """A face that was found.

    Attributes:
        box: Left, top, width and height in pixels of the upright photo.
        eyes_px: Distance of the eyes in pixels of the photo.
        roll_deg: By how much the head is turned clockwise on the upright photo, -180..180 degrees.
        reason: Why it was left unprotected; None where it is protected.
        comparisons: What recognisers said of the written file; empty without a check.
    """

    box: tuple[float, float, float, float]
    eyes_px: float
    roll_deg: float
    reason: str | None = None
    comparisons: tuple[Comparison, ...] = ()

    @property
    def recognised(self) -> bool:
        """Whether any recogniser matched it in any condition."""
        return any(comparison.matched for comparison in self.comparisons)


@dataclass(frozen=True)
class PhotoResult:
    """What became of a photo.

    Attributes:
        file: The original.
        outcome: What became of it.
        written: The result, None where nothing was written by this call.
        faces: The faces that were found, largest first; None where the photo was not looked at.
        reason: Why nothing was written; None otherwise.
        left_out: What the original's file holds and the result's does not.
        kind: Format of the result in the words of Pillow; empty where nothing was written.
        unchecked: Why the written file could not be compared with its original; None where it was, or was not to be.
    """

    file: Path
    outcome: Outcome
    written: Path | None = None
    faces: tuple[FaceResult, ...] | None = None
    reason: str | None = None
    left_out: tuple[str, ...] = ()
    kind: str = ""
    unchecked: str | None = None

    @property
    def safe(self) -> bool:
        """Whether no face of it is known to be unprotected."""
        return self.outcome in _SAFE

    @property
    def protected_faces(self) -> int:
        """How many faces of the result are protected."""
        return sum(face.reason is None for face in self.faces or ()) if self.written is not None else 0
