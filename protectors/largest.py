"""Largest values of settings: far beyond what is useful, so that a slip of the exponent does not run for ever."""

from __future__ import annotations

from protectors.errors import ProtectorError

#: No frame of a face is larger.
LARGEST_PX = 2048

_STEPS, _WEIGHT = 100_000, 1e6

#: Of each setting, for all methods alike.
LARGEST: dict[str, float] = {
    **dict.fromkeys(
        ("steps", "attack_steps", "train_steps", "update_every", "train_batches", "rounds", "epochs", "universal"),
        _STEPS,
    ),
    **dict.fromkeys(("apart", "gamma", "structure", "makeup", "residual"), _WEIGHT),
    **dict.fromkeys(("people", "classes"), 100_000),
    "captures": 1000,
    "batch": 10_000,
    "population": 10_000,
    "width": 1024,
    "resolution": 1024,
    "px": LARGEST_PX,
    "cells": LARGEST_PX,
    "pixels": LARGEST_PX**2,
    "step_levels": 255,
    "l2": 10_000.0,
    "rate": 10_000.0,
}


def check_largest(method: str, **given: float) -> None:
    """Refuse settings that are larger than can be meant.

    Args:
        method: Name of the protector.
        given: Settings by name, each a key of :data:`LARGEST`.

    Raises:
        ProtectorError: One of them is too large.
    """
    for name, value in given.items():
        if value > LARGEST[name]:
            raise ProtectorError(f"{method} takes {name} up to {LARGEST[name]:,.0f}, got {value:,}; give less.")
