"""Surface maps for metrology tools: the MetroPro binary file of Zygo (.dat).

Layout (Zygo, MetroPro Reference Guide OMP-0347, "MetroPro data file", format 1; also read by prysm, Gwyddion and
SurfaceTopography). Header of 834 bytes, big-endian, then int32 phase samples by rows from the top left; no intensity.

====== ======= ==================================================================
offset type    what we write
====== ======= ==================================================================
0      uint32  magic number 0x881B036F
4      uint16  format 1
6      uint32  header size 834
68     uint16  width, 70 height of the phase data; 72 uint32 its bytes
80     char82  material, design wavelengths, levels (``Relief.brief``)
164    float32 interferometric scale factor S = 1
168    float32 wavelength of the unit, 632.8e-9 m
176    float32 obliquity O = 1
184    float32 lateral resolution: pitch in metres
218    uint16  phase resolution code 2, that is R = 131072
====== ======= ==================================================================

``height = code S O wavelength / R``: 4.8 pm a code, 10 mm of range. Codes of 2147483640 and more mean no data; they
stand outside the aperture and become height 0 on import. The type of the result is float64.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from optics.errors import OpticsError
from optics.fabrication.relief import Relief

_MAGIC, _SIZE, _NO_DATA = 0x881B036F, 834, 2147483640
_RESOLUTION = {0: 4096, 1: 32768, 2: 131072}
# As the float32 that the header can hold.
_WAVELENGTH_M = float(np.float32(632.8e-9))
_COMMENT = 82


@dataclass(frozen=True)
class Zygo:
    """MetroPro surface map; no data outside the aperture."""

    suffix: ClassVar[str] = ".dat"

    def write(self, relief: Relief, path: Path) -> None:
        """Write the file; see the module for its layout.

        Raises:
            OpticsError: A height exceeds the range, the grid 65535 cells, or the description its field.
        """
        height = relief.height_m.detach().double().cpu().numpy()
        codes = np.rint(height * (_RESOLUTION[2] / _WAVELENGTH_M))
        if np.abs(codes).max() >= _NO_DATA or len(height) > 65535:
            raise OpticsError(
                f"height_m reaches {np.abs(height).max():g} m on {len(height)} cells; a Zygo file holds 10 mm and "
                "65535 cells: use Tiff."
            )
        codes[relief.grid.amplitude.numpy() == 0] = _NO_DATA
        header = bytearray(_SIZE)
        side = len(height)
        struct.pack_into(">IHI", header, 0, _MAGIC, 1, _SIZE)
        struct.pack_into(">HHI", header, 68, side, side, codes.size * 4)
        struct.pack_into(f"{_COMMENT}s", header, 80, relief.brief(_COMMENT).encode("ascii"))
        struct.pack_into(">ff", header, 164, 1.0, _WAVELENGTH_M)
        struct.pack_into(">f", header, 176, 1.0)
        struct.pack_into(">f", header, 184, relief.pitch_m)
        struct.pack_into(">H", header, 218, 2)
        path.write_bytes(bytes(header) + codes.astype(">i4").tobytes())

    @staticmethod
    def read(path: Path) -> Relief:
        """Read the file back as float64 metres; cells without data are 0."""
        data = path.read_bytes()
        if len(data) < _SIZE or struct.unpack_from(">I", data)[0] != _MAGIC:
            raise OpticsError(f"path={str(path)!r} is no MetroPro file of format 1.")
        width, rows = struct.unpack_from(">HH", data, 68)
        resolution = _RESOLUTION.get(struct.unpack_from(">H", data, 218)[0])
        if len(data) < _SIZE + 4 * width * rows or resolution is None:
            raise OpticsError(f"path={str(path)!r} is cut short or has an unknown phase resolution; export it again.")
        scale, wavelength = struct.unpack_from(">ff", data, 164)
        (obliquity,) = struct.unpack_from(">f", data, 176)
        (pitch,) = struct.unpack_from(">f", data, 184)
        codes = np.frombuffer(data, ">i4", width * rows, _SIZE).reshape(rows, width).astype(np.float64)
        height = np.where(codes >= _NO_DATA, 0.0, codes * (scale * obliquity * wavelength / resolution))
        # The shortest decimal that is this float32 is the pitch that was written, up to 7 digits.
        comment = data[80 : 80 + _COMMENT].decode("ascii", "replace")
        return Relief.from_brief(torch.from_numpy(height), float(str(np.float32(pitch))), comment)
