"""Choice of the propagation method from the sampling rules."""

from __future__ import annotations

import logging

import torch

from optics.errors import OpticsError
from optics.propagation.angular_spectrum import AngularSpectrum
from optics.propagation.band_limited import BandLimitedAngularSpectrum
from optics.propagation.fraunhofer import Fraunhofer
from optics.propagation.free_space import FreeSpace
from optics.propagation.fresnel import FresnelTransform
from optics.propagation.propagator import Propagator, SamplingError

_log = logging.getLogger(__name__)

# From exact to approximate. FresnelTransfer is never better than AngularSpectrum, which costs the same.
_CANDIDATES: tuple[type[Propagator], ...] = (
    AngularSpectrum,
    FresnelTransform,
    BandLimitedAngularSpectrum,
    Fraunhofer,
)


def choose_propagator(space: FreeSpace, *, dtype: torch.dtype = torch.float32) -> Propagator:
    """Return the most exact operator whose sampling rules this geometry meets, and log which and why.

    In this order: :class:`AngularSpectrum` (exact; short distances), :class:`FresnelTransform` (paraxial; long
    distances), :class:`BandLimitedAngularSpectrum` (between the two, and for steep rays), :class:`Fraunhofer` (far
    field). The log record of level INFO gives the margins of the choice, those of level DEBUG why others were passed
    over.

    Args:
        space: Planes, wavelengths, distance and medium.
        dtype: torch.float32 or torch.float64, the precision of the complex field.

    Raises:
        OpticsError: An argument is invalid, or no method is valid; the message gives the reason of each.

    >>> from optics import Plane
    >>> pupil = Plane(128, 128, 4e-6)
    >>> type(choose_propagator(FreeSpace(pupil, pupil, 550e-9, 1e-3))).__name__
    'AngularSpectrum'
    >>> type(choose_propagator(FreeSpace(pupil, pupil, 550e-9, 0.1))).__name__
    'FresnelTransform'
    """
    reasons = []
    for candidate in _CANDIDATES:
        try:
            operator = candidate(space, dtype=dtype)
        except SamplingError as refusal:
            reasons.append(f"{candidate.__name__}: {refusal}")
            _log.debug("not %s", reasons[-1])
            continue
        _log.info("%s: %s", candidate.__name__, "; ".join(map(str, operator.check())))
        return operator
    depths = "split distance_m into nearer and farther depths, or " if len(space.distances_m) > 1 else ""
    raise OpticsError(f"no propagation method is valid here; {depths}follow one of these: {' | '.join(reasons)}")
