"""Errors of this room. All of them are a :class:`BridgeError`; the message says what to change.

``exit_code`` is what the command line ends with: 3 for files that a person can mend, 4 for the bench itself.
"""

from __future__ import annotations

from collections.abc import Sequence


class BridgeError(ValueError):
    """Something about the bench is not as it must be."""

    exit_code = 4


class LinkError(BridgeError):
    """The other side does not answer, or speaks another protocol."""


class DeviceError(BridgeError):
    """A device is missing, refuses, or does not do what it said."""


class DevicesFailed(DeviceError):
    """Several devices were tried, and some failed; all of them are told at once, one a line.

    Args:
        sentence: What was tried, with the numbers; ends with a colon.
        failures: What each device says, with its kind in front.
    """

    def __init__(self, sentence: str, failures: Sequence[str]) -> None:
        self.sentence = sentence
        self.failures = tuple(" ".join(failure.split()) for failure in failures)
        super().__init__("\n  ".join([sentence, *self.failures]))


class SessionError(BridgeError):
    """The file of a bench, a plan or the folder of a session cannot be used as it is."""

    exit_code = 3


class UnfitBench(SessionError):
    """The bench is not the one that a session was begun with, or stayed unfit for too long."""

    exit_code = 4
