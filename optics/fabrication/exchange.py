"""Checked export, import, and the proof that a file keeps the PSF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Protocol

import torch

from optics.elements.masks import MeasuredHeight
from optics.errors import OpticsError
from optics.fabrication.files import new_file
from optics.fabrication.gds import Gds
from optics.fabrication.images import Png, Tiff
from optics.fabrication.limits import LimitReport, ProcessLimits, check_limits
from optics.fabrication.relief import Relief
from optics.fabrication.stl import Stl
from optics.fabrication.zygo import Zygo
from optics.imaging.psf import PupilToPsf
from optics.lens import ThinLens


class ReliefFormat(Protocol):
    """A file format: writes a relief to a path, and reads it back without further knowledge."""

    suffix: ClassVar[str]

    def write(self, relief: Relief, path: Path) -> None:
        """Write the whole file; the path is a temporary one, so its suffix is not ``suffix``."""

    @staticmethod
    def read(path: Path) -> Relief:
        """Read the file."""


READERS: dict[str, type[ReliefFormat]] = {kind.suffix: kind for kind in (Gds, Png, Stl, Tiff, Zygo)}


def export_relief(relief: Relief, path: str | Path, file_format: ReliefFormat, limits: ProcessLimits) -> LimitReport:
    """Write a relief to a new file if the process can make it.

    Args:
        relief: What is to be made.
        path: File to make, with the suffix of the format; written under another name and renamed when complete.
        file_format: ``Tiff``, ``Png``, ``Zygo``, ``Stl`` or ``Gds``.
        limits: Limits of the process; ``ProcessLimits()`` has none.

    Returns:
        The report of the limits, without violations.

    Raises:
        OpticsError: A limit is broken, the format cannot hold the relief, the file exists, or the suffix is another's.
    """
    path = Path(path)
    if path.suffix != file_format.suffix:
        raise OpticsError(f"path={str(path)!r} must end in {file_format.suffix!r}, so that import_relief can read it.")
    report = check_limits(relief, limits)
    report.refuse()
    with new_file(path) as temporary:
        file_format.write(relief, temporary)
    return report


def import_relief(path: str | Path) -> Relief:
    """Read a file that :func:`export_relief` wrote; the format follows from the suffix.

    Raises:
        OpticsError: There is no such file, or it was not written by :func:`export_relief`.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise OpticsError(f"path={str(path)!r} has no known suffix; use one of {', '.join(sorted(READERS))}.")
    if not path.is_file():
        raise OpticsError(f"path={str(path)!r}: there is no such file.")
    return READERS[path.suffix].read(path)


@dataclass(frozen=True)
class RoundTrip:
    """What export and import changed.

    Attributes:
        relief: The relief as it was read back.
        peak_change: Largest change of the PSF over its maximum.
        total_change: Sum of the absolute changes over the sum of the PSF, for the worst wavelength.
        height_error_m: Largest change of height inside the aperture in metres.
    """

    relief: Relief
    peak_change: float
    total_change: float
    height_error_m: float


def round_trip(
    relief: Relief,
    file_format: ReliefFormat,
    lens: ThinLens,
    pitch_m: float,
    samples: int,
    *,
    object_distance_m: float | None = None,
) -> RoundTrip:
    """Export, import, and compare the PSFs, in float64.

    The second PSF is computed from the file alone: its heights, pitch, material and wavelengths.

    Args:
        relief: What is to be made.
        file_format: Format to try.
        lens: Lens behind the relief.
        pitch_m: Side of a PSF cell in metres.
        samples: Cells along one side of the PSF window, odd.
        object_distance_m: Distance of the object in metres; None means in focus.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, f"relief{file_format.suffix}")
        export_relief(relief, path, file_format, ProcessLimits())
        back = import_relief(path)
    before, after = (_psf(r, lens, pitch_m, samples, object_distance_m) for r in (relief, back))
    change = (after - before).abs()
    inside = relief.grid.amplitude > 0
    height = (back.height_m.double().cpu() - relief.height_m.double().cpu()).abs()[inside]
    return RoundTrip(
        back,
        float((change.amax(dim=(1, 2)) / before.amax(dim=(1, 2))).max()),
        float((change.sum(dim=(1, 2)) / before.sum(dim=(1, 2))).max()),
        float(height.max()),
    )


def _psf(relief: Relief, lens: ThinLens, pitch_m: float, samples: int, object_distance_m: float | None) -> torch.Tensor:
    to_psf = PupilToPsf(relief.grid, lens, relief.wavelengths_m, pitch_m, samples, dtype=torch.float64)
    mask = MeasuredHeight(relief.grid, relief.height_m.detach(), material=relief.material, dtype=torch.float64).cpu()
    psf: torch.Tensor = to_psf(mask, object_distance_m)
    return psf
