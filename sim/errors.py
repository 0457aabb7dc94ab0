"""Errors of the simulation that a user can mend."""

from __future__ import annotations


class SimError(ValueError):
    """A simulated camera cannot be made or read; the message says what to change."""
