"""The error that every user mistake in this package raises."""

from __future__ import annotations


class FacesError(ValueError):
    """A face source, image batch, model or split was used wrongly; the message says what to change."""


class FaceFailed(FacesError):
    """A protector could not protect one face of a batch; the others may be tried again without it.

    Args:
        index: Row of the face in the batch that was given.
        reason: One sentence for people: why, with the numbers, and what to change.
    """

    def __init__(self, index: int, reason: str) -> None:
        # Both arguments go to the base class, so that the error survives the way out of another process.
        super().__init__(index, reason)
        self.index, self.reason = index, reason

    def __str__(self) -> str:
        return f"face {self.index + 1} of the batch: {self.reason}"
