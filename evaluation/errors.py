"""The one exception class of this room."""

from __future__ import annotations


class EvaluationError(ValueError):
    """A measurement that cannot be made from what was given; the message says what to change."""
