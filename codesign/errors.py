"""Errors of the main job that a user can mend."""

from __future__ import annotations


class CodesignError(ValueError):
    """The job cannot go on as configured; the message says what to change."""
