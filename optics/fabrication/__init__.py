"""From a design to a workshop and back: files, limits of processes, and the proof that a file keeps the PSF.

Every file says what it is: unit, pitch, material, wavelengths and orientation stand inside, so import needs nothing
else. Files are written under another name and renamed when complete; existing files are refused. The packages for the
formats are the extra ``fabrication``.
"""

from __future__ import annotations

from optics.fabrication.coefficients import ZernikeCoefficients, export_zernike, import_zernike
from optics.fabrication.exchange import ReliefFormat, RoundTrip, export_relief, import_relief, round_trip
from optics.fabrication.gds import Gds
from optics.fabrication.images import Png, Tiff
from optics.fabrication.limits import LimitReport, ProcessLimits, Violation, check_limits
from optics.fabrication.modulator import (
    MirrorCommands,
    SlmPattern,
    export_mirror,
    export_slm,
    import_mirror,
    import_slm,
)
from optics.fabrication.relief import Relief
from optics.fabrication.stl import Stl
from optics.fabrication.zygo import Zygo

__all__ = [
    "Gds",
    "LimitReport",
    "MirrorCommands",
    "Png",
    "ProcessLimits",
    "Relief",
    "ReliefFormat",
    "RoundTrip",
    "SlmPattern",
    "Stl",
    "Tiff",
    "Violation",
    "ZernikeCoefficients",
    "Zygo",
    "check_limits",
    "export_mirror",
    "export_relief",
    "export_slm",
    "export_zernike",
    "import_mirror",
    "import_relief",
    "import_slm",
    "import_zernike",
    "round_trip",
]
