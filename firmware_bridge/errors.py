"""Errors of this room. All of them are a :class:`BridgeError`; the message says what to change."""

from __future__ import annotations


class BridgeError(ValueError):
    """Something about the bench is not as it must be."""


class LinkError(BridgeError):
    """The other side does not answer, or speaks another protocol."""


class DeviceError(BridgeError):
    """A device is missing, refuses, or does not do what it said."""


class SessionError(BridgeError):
    """A capture session cannot be started, continued, sealed or read."""
