"""From pupil to picture: point-spread functions, on and off the axis, and what happens to an image on its way."""

from __future__ import annotations

from optics.imaging.convolve import bin_pixels, convolve
from optics.imaging.distortion import BrownConrady, DistortionWarp
from optics.imaging.motion import expose, motion_psf, straight_path, vibration_path
from optics.imaging.mtf import Mtf, encircled_energy, ideal_mtf, psf_mtf, strehl_ratio
from optics.imaging.off_axis import ClearAperture, OffAxis, Seidel
from optics.imaging.psf import PointPsf, PupilToPsf
from optics.imaging.spectrum import polychromatic_psf, spectral_response, spectral_weights
from optics.imaging.stray_light import Ghost, add_ghosts, harvey_scatter, veiling_glare
from optics.imaging.varying import FieldGrid, LowRankBlur, PatchBlur

__all__ = [
    "BrownConrady",
    "ClearAperture",
    "DistortionWarp",
    "FieldGrid",
    "Ghost",
    "LowRankBlur",
    "Mtf",
    "OffAxis",
    "PatchBlur",
    "PointPsf",
    "PupilToPsf",
    "Seidel",
    "add_ghosts",
    "bin_pixels",
    "convolve",
    "encircled_energy",
    "expose",
    "harvey_scatter",
    "ideal_mtf",
    "motion_psf",
    "polychromatic_psf",
    "psf_mtf",
    "spectral_response",
    "spectral_weights",
    "straight_path",
    "strehl_ratio",
    "veiling_glare",
    "vibration_path",
]
