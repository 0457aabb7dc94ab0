"""Differentiable camera optics: pupil, phase mask, ideal lens, PSF per wavelength, image formation and sensor.

SI units throughout; arrays are [y, x], x right and y down. This room imports no other room. See docs/optics.md.
"""

from __future__ import annotations

from optics.errors import OpticsError
from optics.imaging import bin_pixels, convolve
from optics.information import (
    Certificate,
    check_attack,
    class_bits_upper,
    fano_bound,
    gaussian_bits,
    scene_distance,
    signal_dependent_bits,
    stationary_bits,
)
from optics.lens import ThinLens
from optics.masks import FlatMask, FreeformMask, PhaseMask, ZernikeMask, random_mask
from optics.materials import AIR, FUSED_SILICA, PMMA, Material, get_material, index_differences
from optics.psf import PointPsf, PupilToPsf
from optics.pupil import PupilGrid
from optics.release import clip_to_ball, noisy_release, release_bound, tar_bound
from optics.sampling import SamplingReport, check_sampling
from optics.sensor import Sensor, SensorSpec
from optics.zernike import nm_to_noll, noll_to_nm, zernike_basis, zernike_values

__all__ = [
    "AIR",
    "FUSED_SILICA",
    "PMMA",
    "Certificate",
    "FlatMask",
    "FreeformMask",
    "Material",
    "OpticsError",
    "PhaseMask",
    "PointPsf",
    "PupilGrid",
    "PupilToPsf",
    "SamplingReport",
    "Sensor",
    "SensorSpec",
    "ThinLens",
    "ZernikeMask",
    "bin_pixels",
    "check_attack",
    "check_sampling",
    "class_bits_upper",
    "clip_to_ball",
    "convolve",
    "fano_bound",
    "gaussian_bits",
    "get_material",
    "index_differences",
    "nm_to_noll",
    "noisy_release",
    "noll_to_nm",
    "random_mask",
    "release_bound",
    "scene_distance",
    "signal_dependent_bits",
    "stationary_bits",
    "tar_bound",
    "zernike_basis",
    "zernike_values",
]
