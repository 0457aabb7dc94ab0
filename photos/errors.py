"""Errors of this room."""

from __future__ import annotations


class PhotoError(ValueError):
    """A photo that cannot be read, protected or written; the message says what to change."""


class NothingNamedError(PhotoError):
    """The command names no photo at all: wrong usage rather than a bad photo."""

    exit_code = 2
