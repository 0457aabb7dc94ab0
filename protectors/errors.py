"""The one exception class of this room."""

from __future__ import annotations


class ProtectorError(ValueError):
    """A protector was named, set or used wrongly; the message says what to change."""
