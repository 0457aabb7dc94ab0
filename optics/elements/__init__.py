"""Elements in the pupil: each gives a path error in metres and an amplitude factor. See docs/optics.md."""

from __future__ import annotations

from optics.elements.amplitude import FixedCode, TrainedCode, mura, mura_decoder
from optics.elements.base import ElementStack, MaskElement, PupilElement
from optics.elements.heights import BoundedHeight, MeasuredHeight, limit_penalty, limit_slope
from optics.elements.mirror import DeformableMirror, gaussian_influence
from optics.elements.slm import SpatialLightModulator, linear_phase_table
from optics.elements.wavefront import MeasuredWavefront, ZernikeWavefront

__all__ = [
    "BoundedHeight",
    "DeformableMirror",
    "ElementStack",
    "FixedCode",
    "MaskElement",
    "MeasuredHeight",
    "MeasuredWavefront",
    "PupilElement",
    "SpatialLightModulator",
    "TrainedCode",
    "ZernikeWavefront",
    "gaussian_influence",
    "limit_penalty",
    "limit_slope",
    "linear_phase_table",
    "mura",
    "mura_decoder",
]
