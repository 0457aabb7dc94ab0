"""What a session may be doing, and what it may do next."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """What a session is doing."""

    disconnected = "DISCONNECTED"
    """No device is open."""
    safe = "SAFE"
    """Devices are open: parked, dark, still."""
    armed = "ARMED"
    """The operator allowed light and motion; there is none yet."""
    running = "RUNNING"
    """Frames are taken."""
    suspended = "SUSPENDED"
    """The bench is safe until conditions are good again."""
    fault = "FAULT"
    """The bench was made safe after an error; only disconnecting, which every state allows, leads out."""


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.disconnected: frozenset({State.safe}),
    State.safe: frozenset({State.armed, State.disconnected}),
    State.armed: frozenset({State.running, State.safe, State.fault, State.disconnected}),
    State.running: frozenset({State.suspended, State.safe, State.fault, State.disconnected}),
    State.suspended: frozenset({State.armed, State.safe, State.fault, State.disconnected}),
    State.fault: frozenset({State.disconnected}),
}
