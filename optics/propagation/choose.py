"""Choice of the propagation method from the sampling rules."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from optics.errors import OpticsError
from optics.plane import Plane
from optics.propagation.angular_spectrum import AngularSpectrum
from optics.propagation.band_limited import BandLimitedAngularSpectrum
from optics.propagation.fraunhofer import Fraunhofer
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


def choose_propagator(
    input_plane: Plane,
    output_plane: Plane,
    wavelengths_m: float | Sequence[float],
    distance_m: float | torch.Tensor,
    *,
    index: float | Sequence[float] = 1.0,
    bandwidth_per_m: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Propagator:
    """Return the most exact operator whose sampling rules this geometry meets, and log which and why.

    In this order: :class:`AngularSpectrum` (exact; short distances), :class:`FresnelTransform` (paraxial; long
    distances), :class:`BandLimitedAngularSpectrum` (between the two, and for steep rays), :class:`Fraunhofer` (far
    field). The log record of level INFO gives the margins of the choice, those of level DEBUG why others were passed
    over.

    Args: as for :class:`optics.propagation.Propagator`.

    Raises:
        OpticsError: An argument is invalid, or no method is valid; the message gives the reason of each.
    """
    reasons = []
    for candidate in _CANDIDATES:
        try:
            operator = candidate(
                input_plane,
                output_plane,
                wavelengths_m,
                distance_m,
                index=index,
                bandwidth_per_m=bandwidth_per_m,
                dtype=dtype,
            )
        except SamplingError as refusal:
            reasons.append(f"{candidate.__name__}: {refusal}")
            _log.debug("not %s", reasons[-1])
            continue
        _log.info("%s: %s", candidate.__name__, "; ".join(map(str, operator.check())))
        return operator
    depths = "split distance_m into nearer and farther depths, or " if _many(distance_m) else ""
    raise OpticsError(f"no propagation method is valid here; {depths}follow one of these: {' | '.join(reasons)}")


def _many(distance_m: float | torch.Tensor) -> bool:
    return isinstance(distance_m, torch.Tensor) and distance_m.numel() > 1
