"""The error that every user mistake in this package raises."""

from __future__ import annotations


class FacesError(ValueError):
    """A face source, image batch, model or split was used wrongly; the message says what to change."""
