"""Propagation of coherent fields between two sampled planes: prepared operators, their choice and their cache."""

from __future__ import annotations

from optics.propagation.angular_spectrum import AngularSpectrum
from optics.propagation.band_limited import BandLimitedAngularSpectrum
from optics.propagation.cache import KernelCache, kernel_cache
from optics.propagation.choose import choose_propagator
from optics.propagation.fraunhofer import Fraunhofer
from optics.propagation.free_space import FreeSpace
from optics.propagation.fresnel import FresnelTransfer, FresnelTransform
from optics.propagation.propagator import Margin, Propagator, SamplingError, carrier_turns

__all__ = [
    "AngularSpectrum",
    "BandLimitedAngularSpectrum",
    "Fraunhofer",
    "FreeSpace",
    "FresnelTransfer",
    "FresnelTransform",
    "KernelCache",
    "Margin",
    "Propagator",
    "SamplingError",
    "carrier_turns",
    "choose_propagator",
    "kernel_cache",
]
