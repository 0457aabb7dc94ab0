"""Elements in the pupil: each gives a path error in metres and an amplitude factor. See docs/optics.md."""

from __future__ import annotations

from optics.elements.amplitude import FixedCode, TrainedCode, mura, mura_decoder
from optics.elements.base import ElementStack, PupilElement
from optics.elements.masks import (
    BoundedHeight,
    DiffractiveMask,
    FlatMask,
    FreeformMask,
    MeasuredHeight,
    PhaseMask,
    ZernikeMask,
    controls_for_height,
    controls_for_levels,
    limit_penalty,
    limit_slope,
    random_mask,
    transport_height_m,
)
from optics.elements.mirror import DeformableMirror, gaussian_influence
from optics.elements.slm import SpatialLightModulator, linear_phase_table
from optics.elements.wavefront import MeasuredWavefront, ZernikeWavefront
from optics.elements.zernike import ZernikeBasis, nm_to_noll, noll_to_nm, zernike_basis, zernike_values
from optics.elements.zernike_index import convert_coefficients, index_to_nm, nm_to_index, rms_of_unit_peak

__all__ = [
    "BoundedHeight",
    "DeformableMirror",
    "DiffractiveMask",
    "ElementStack",
    "FixedCode",
    "FlatMask",
    "FreeformMask",
    "MeasuredHeight",
    "MeasuredWavefront",
    "PhaseMask",
    "PupilElement",
    "SpatialLightModulator",
    "TrainedCode",
    "ZernikeBasis",
    "ZernikeMask",
    "ZernikeWavefront",
    "controls_for_height",
    "controls_for_levels",
    "convert_coefficients",
    "gaussian_influence",
    "index_to_nm",
    "limit_penalty",
    "limit_slope",
    "linear_phase_table",
    "mura",
    "mura_decoder",
    "nm_to_index",
    "nm_to_noll",
    "noll_to_nm",
    "random_mask",
    "rms_of_unit_peak",
    "transport_height_m",
    "zernike_basis",
    "zernike_values",
]
