"""Differentiable camera optics: pupil, phase mask, ideal lens, PSF per wavelength, image formation and sensor.

SI units throughout; arrays are [y, x], x right and y down. This room imports no other room but ``ground``. The names
here are those that a first design needs, loaded when they are first used; the rest is in ``optics.elements``,
``optics.imaging``, ``optics.sensor``, ``optics.propagation``, ``optics.tolerance``, ``optics.fabrication``,
``optics.materials`` and ``optics.pictures``. See docs/optics.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optics.elements import (
        DiffractiveMask,
        ElementStack,
        FlatMask,
        FreeformMask,
        PhaseMask,
        PupilElement,
        ZernikeMask,
        random_mask,
    )
    from optics.errors import OpticsError
    from optics.fabrication import export_relief, import_relief
    from optics.imaging import (
        Mtf,
        OffAxis,
        PointPsf,
        PupilToPsf,
        Seidel,
        bin_pixels,
        convolve,
        encircled_energy,
        psf_mtf,
        strehl_ratio,
    )
    from optics.lens import ThinLens
    from optics.materials import AIR, FUSED_SILICA, PMMA, Material, get_material, index_differences
    from optics.pictures import mask_figure, psf_figure, save_figure
    from optics.plane import Plane
    from optics.propagation import AngularSpectrum, FreeSpace, choose_propagator
    from optics.pupil import PupilGrid
    from optics.sampling import check_sampling
    from optics.sensor import FieldStop, Sensor, SensorSpec, emva_report
    from optics.tolerance import Tolerance, ToleranceCamera, monte_carlo, sensitivities

# Where each name lives; the imports above say the same to type checkers.
_HOMES = {
    "optics.elements": (
        "DiffractiveMask",
        "ElementStack",
        "FlatMask",
        "FreeformMask",
        "PhaseMask",
        "PupilElement",
        "ZernikeMask",
        "random_mask",
    ),
    "optics.errors": ("OpticsError",),
    "optics.fabrication": (
        "export_relief",
        "import_relief",
    ),
    "optics.imaging": (
        "Mtf",
        "OffAxis",
        "PointPsf",
        "PupilToPsf",
        "Seidel",
        "bin_pixels",
        "convolve",
        "encircled_energy",
        "psf_mtf",
        "strehl_ratio",
    ),
    "optics.lens": ("ThinLens",),
    "optics.materials": (
        "AIR",
        "FUSED_SILICA",
        "PMMA",
        "Material",
        "get_material",
        "index_differences",
    ),
    "optics.pictures": (
        "mask_figure",
        "psf_figure",
        "save_figure",
    ),
    "optics.plane": ("Plane",),
    "optics.propagation": (
        "AngularSpectrum",
        "FreeSpace",
        "choose_propagator",
    ),
    "optics.pupil": ("PupilGrid",),
    "optics.sampling": ("check_sampling",),
    "optics.sensor": (
        "FieldStop",
        "Sensor",
        "SensorSpec",
        "emva_report",
    ),
    "optics.tolerance": (
        "Tolerance",
        "ToleranceCamera",
        "monte_carlo",
        "sensitivities",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AIR",
    "FUSED_SILICA",
    "PMMA",
    "AngularSpectrum",
    "DiffractiveMask",
    "ElementStack",
    "FieldStop",
    "FlatMask",
    "FreeSpace",
    "FreeformMask",
    "Material",
    "Mtf",
    "OffAxis",
    "OpticsError",
    "PhaseMask",
    "Plane",
    "PointPsf",
    "PupilElement",
    "PupilGrid",
    "PupilToPsf",
    "Seidel",
    "Sensor",
    "SensorSpec",
    "ThinLens",
    "Tolerance",
    "ToleranceCamera",
    "ZernikeMask",
    "bin_pixels",
    "check_sampling",
    "choose_propagator",
    "convolve",
    "emva_report",
    "encircled_energy",
    "export_relief",
    "get_material",
    "import_relief",
    "index_differences",
    "mask_figure",
    "monte_carlo",
    "psf_figure",
    "psf_mtf",
    "random_mask",
    "save_figure",
    "sensitivities",
    "strehl_ratio",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
