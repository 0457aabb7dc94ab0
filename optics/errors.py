"""The one exception of the optics room."""

from __future__ import annotations


class OpticsError(ValueError):
    """A request that the optics cannot honour; the message gives the numbers and the argument to change."""
