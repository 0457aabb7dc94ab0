"""Phase masks: every kind of relief in the pupil, and how one is trained."""

from __future__ import annotations

from optics.elements.masks.base import FlatMask, PhaseMask
from optics.elements.masks.diffractive import DiffractiveMask, controls_for_levels
from optics.elements.masks.heights import BoundedHeight, MeasuredHeight, limit_penalty, limit_slope
from optics.elements.masks.smooth import FreeformMask, ZernikeMask, random_mask
from optics.elements.masks.transport import controls_for_height, transport_height_m

__all__ = [
    "BoundedHeight",
    "DiffractiveMask",
    "FlatMask",
    "FreeformMask",
    "MeasuredHeight",
    "PhaseMask",
    "ZernikeMask",
    "controls_for_height",
    "controls_for_levels",
    "limit_penalty",
    "limit_slope",
    "random_mask",
    "transport_height_m",
]
