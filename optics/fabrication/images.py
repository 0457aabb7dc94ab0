"""Heights as pictures: float TIFF, 16-bit TIFF and 16-bit PNG.

Layout. Row 0 is the top (y down), column 0 the left, seen looking at the relief. The text that comes with the picture
(TIFF tag ImageDescription, PNG text chunk ``optishield``) is the JSON of :meth:`optics.fabrication.Relief.metadata`;
the resolution tags repeat the pitch. Float TIFF holds metres in the type of the relief. 16-bit files add ``scale_m``,
``offset_m`` to the JSON (``height = offset_m + scale_m * code``) and the largest error of a cell, ``error_m``: at most
the range of a continuous relief over 131070. For a stepped relief the code is the level, and exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from optics.errors import OpticsError
from optics.fabrication.files import optional
from optics.fabrication.relief import Relief

_TEXT = "optishield"
_TOP = 65535


def _to_codes(relief: Relief) -> tuple[np.ndarray, dict[str, Any]]:
    height = relief.height_m.detach().double().cpu().numpy()
    offset = 0.0 if relief.step_m else float(height.min())
    scale = relief.step_m or (float(height.max()) - offset) / _TOP
    codes = np.rint((height - offset) / scale) if scale > 0 else np.zeros_like(height)
    error = float(np.abs(offset + scale * codes - height).max())
    numbers = {"scale_m": scale, "offset_m": offset, "error_m": error}
    return codes.astype(np.uint16), relief.metadata() | numbers


def _from_picture(path: Path, array: np.ndarray, text: str | None) -> Relief:
    try:
        metadata = json.loads(text or "null")
        if isinstance(metadata, dict) and array.dtype.kind in "iu":
            array = metadata["offset_m"] + metadata["scale_m"] * array.astype(np.float64)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise OpticsError(
            f"path={str(path)!r}: the text in the file is no description of a relief ({error})."
        ) from error
    return Relief.from_metadata(torch.from_numpy(np.array(array)), metadata)


@dataclass(frozen=True)
class Tiff:
    """TIFF in metres (float32 or float64, the type of the relief), or in 16-bit codes; needs tifffile.

    Attributes:
        integer: Write 16-bit codes with scale and offset.
    """

    integer: bool = False
    suffix: ClassVar[str] = ".tif"

    def write(self, relief: Relief, path: Path) -> None:
        """Write the file; see the module for its layout."""
        if self.integer:
            array, metadata = _to_codes(relief)
        else:
            array, metadata = relief.height_m.detach().cpu().numpy(), relief.metadata()
        per_cm = 1e-2 / relief.pitch_m
        optional("tifffile").imwrite(
            path,
            array,
            photometric="minisblack",
            description=json.dumps(metadata),
            metadata=None,
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
        )

    @staticmethod
    def read(path: Path) -> Relief:
        """Read the file back; 16-bit codes become float64 metres."""
        tifffile = optional("tifffile")
        try:
            with tifffile.TiffFile(path) as file:
                page = file.pages[0]
                array, text = page.asarray(), page.description
        except tifffile.TiffFileError as error:
            raise OpticsError(f"path={str(path)!r} is no TIFF file ({error}).") from error
        return _from_picture(path, array, text)


@dataclass(frozen=True)
class Png:
    """Grey PNG of 16-bit codes with scale and offset; needs Pillow."""

    suffix: ClassVar[str] = ".png"

    def write(self, relief: Relief, path: Path) -> None:
        """Write the file; see the module for its layout."""
        codes, metadata = _to_codes(relief)
        write_grey_png(path, codes, {_TEXT: json.dumps(metadata)}, relief.pitch_m)

    @staticmethod
    def read(path: Path) -> Relief:
        """Read the file back as float64 metres."""
        codes, text = read_grey_png(path)
        return _from_picture(path, codes, text.get(_TEXT))


def write_grey_png(path: Path, codes: np.ndarray, text: dict[str, str], pitch_m: float) -> None:
    """Write a grey PNG of uint8 or uint16 codes with text chunks; the pitch goes to the physical size."""
    image, info = optional("PIL.Image"), optional("PIL.PngImagePlugin").PngInfo()
    for key, value in text.items():
        info.add_itxt(key, value)
    image.fromarray(codes).save(path, format="PNG", pnginfo=info, dpi=(25.4e-3 / pitch_m,) * 2)


def read_grey_png(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Return the codes and the text chunks of a grey PNG.

    Raises:
        OpticsError: It is no grey PNG.
    """
    image = optional("PIL.Image")
    try:
        with image.open(path, formats=["PNG"]) as picture:
            codes, text = np.array(picture), {k: str(v) for k, v in picture.text.items()}
    except image.UnidentifiedImageError as error:
        raise OpticsError(f"path={str(path)!r} is no PNG file.") from error
    if codes.ndim != 2:
        raise OpticsError(f"path={str(path)!r} is a colour picture; codes are grey.")
    return codes, text
