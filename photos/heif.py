"""Photos in HEIC, as iPhones take them, through the optional package pillow-heif."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ground.errors import one_line
from photos.errors import PhotoError

#: What a file says of itself in its first box: still pictures and bursts coded as HEVC. AVIF names itself otherwise.
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_ANY_BRAND = (b"mif1", b"msf1")

#: Names of files that hold such photos; their results are JPEG files with ``.jpg`` added to the name.
HEIF_SUFFIXES = (".heic", ".heif", ".hif")

_WITHOUT = (
    "as JPEG (iPhone: Settings > Camera > Formats > Most Compatible takes new photos so), or run: pip install "
    "'optishield[heif]'"
)


@dataclass(frozen=True)
class HeifPicture:
    """The main picture of a file, not yet decoded.

    Attributes:
        width: Pixels of a row as people see the picture.
        height: Rows.
        pixels: Decodes it: (H, W, 3) uint8, turned upright.
        exif: Its Exif block; the orientation in it has been followed already.
        profile: Its ICC profile; empty where there is none.
        left_out: What else the file holds, in words for people.
    """

    width: int
    height: int
    pixels: Callable[[], NDArray[np.uint8]]
    exif: bytes
    profile: bytes
    left_out: tuple[str, ...]


def is_heif(data: bytes) -> bool:
    """Whether the bytes of a file begin as HEIC does."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    return brands[0] in _BRANDS or (brands[0] in _ANY_BRAND and any(brand in _BRANDS for brand in brands))


def open_heif(data: bytes, path: Path) -> HeifPicture:
    """Look into a HEIC file.

    Args:
        data: The bytes of the file.
        path: Name of the file, for errors.

    Raises:
        PhotoError: pillow-heif is not installed, or the file is damaged, has more than 8 bits a channel, or is
            transparent.
    """
    try:
        from pillow_heif import open_heif as opened
    except ImportError as error:
        raise PhotoError(f"{path} is a HEIC photo, which cannot be read here; export it {_WITHOUT}") from error
    try:
        file = opened(data, convert_hdr_to_8bit=False)
        main = file[file.primary_index]
        info: dict[str, Any] = main.info
        depth, mode = int(info.get("bit_depth", 8)), str(main.mode)
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError, IndexError) as error:
        raise _damaged(path, error) from error
    if depth > 8:
        raise PhotoError(f"{path} has {depth} bits a channel, and protected photos have 8; export it as JPEG.")
    if mode != "RGB":
        raise PhotoError(f"{path} is stored as {mode}, and protected HEIC photos are RGB; save it as PNG.")

    def pixels() -> NDArray[np.uint8]:
        try:
            return np.array(main.to_pillow().convert("RGB"))
        except (OSError, ValueError, SyntaxError, RuntimeError, EOFError) as error:
            raise _damaged(path, error) from error

    more = len(file) > 1 or bool(info.get("thumbnails") or info.get("depth_images") or info.get("aux"))
    left_out = [said for said, held in (("previews", more), ("XMP", bool(info.get("xmp")))) if held]
    width, height = main.size
    return HeifPicture(width, height, pixels, info.get("exif") or b"", info.get("icc_profile") or b"", tuple(left_out))


def _damaged(path: Path, error: Exception) -> PhotoError:
    return PhotoError(f"{path} is damaged ({one_line(str(error)).rstrip('.')}); export the photo again as JPEG or PNG.")
