"""Photos of people as files: read as they are, written with other pixels and nothing that shows the old ones.

A result keeps format, orientation, colour profile, transparency, resolution and what it may of the Exif
(:mod:`photos.metadata`). Everything else that a file can hold is left out, because previews and names hide there: XMP,
IPTC and other Photoshop blocks, comments and texts, further pictures (MPF), and whatever follows the picture.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ground.errors import describe_os_error, one_line
from ground.files import write_new
from photos.errors import PhotoError
from photos.heif import is_heif, open_heif
from photos.metadata import Exif, Keep, rebuilt

if TYPE_CHECKING:
    from PIL.Image import Image

#: The largest photo that is read: three bytes a pixel, held as it was, with protected faces, and while it is written.
LARGEST_PIXELS = 150_000_000

#: Quality of a JPEG as it is written, without reduced colour. Half the colour resolution (4:2:0), or less quality,
#: costs protection: docs/decisions/0012-photos-of-people.md.
JPEG_QUALITY = 95

#: Sum of the luminance table of JPEG quality 95; a photo whose own tables are finer keeps them.
_SUM_95 = 369

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_NAMED_ONLY = ("GIF", "AVIF")
_KINDS = "JPEG, PNG, WebP, TIFF or BMP"
_LEFT_OUT = {
    "xmp": "XMP", "XML:com.adobe.xmp": "XMP", "photoshop": "Photoshop blocks", "comment": "comment", "mp": "previews",
    "Raw profile type exif": "Exif in a text", "Raw profile type xmp": "XMP", "Raw profile type iptc": "IPTC",
    "iptc": "IPTC",
}  # fmt: skip

_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, LookupError, TypeError, ArithmeticError
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo and what its file says of it.

    Attributes:
        path: Where it was read.
        stored: (H, W, 3) uint8 as the file holds it.
        alpha: (H, W) uint8 transparency, or None.
        grey: Whether the file holds one channel, so that a result is reduced to one.
        kind: Format of a result in the words of Pillow.
        exif: What of its Exif stays.
        extras: Colour profile and resolution, in the words of Pillow.
        tables: Quantisation of a JPEG.
        left_out: What the file held and a result will not, in words for people.
    """

    path: Path
    stored: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    grey: bool
    kind: str
    exif: Exif
    extras: Mapping[str, Any]
    tables: Mapping[int, Sequence[int]]
    left_out: tuple[str, ...]

    @property
    def upright(self) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) as people see them; a view of ``stored``."""
        return _turned(self.stored, self.exif.orientation)

    def with_upright(self, pixels: NDArray[np.uint8]) -> Photo:
        """The same photo with other pixels.

        Args:
            pixels: (H, W, 3) as people see them, of the shape of :attr:`upright`.
        """
        return replace(
            self, stored=np.ascontiguousarray(_turned(pixels, _BACK.get(self.exif.orientation, self.exif.orientation)))
        )


def read_photo(path: Path, keep: Keep = Keep.camera) -> Photo:
    """Read a photo for protection.

    Args:
        path: A JPEG, PNG, WebP, TIFF or BMP file, or a HEIC file where pillow-heif is installed; its content decides,
            not its name.
        keep: What of its metadata a result keeps.

    Raises:
        PhotoError: It is no such photo, damaged, too large, animated, not 8 bits a channel, or not in RGB or grey.
        PhotoError: Pillow is not installed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(describe_os_error(error)) from error
    return decoded(data, path, keep)


def decoded(data: bytes, path: Path, keep: Keep = Keep.camera) -> Photo:
    """The photo in the bytes of a file; see :func:`read_photo`. ``path`` is for errors."""
    library = pillow()
    if is_heif(data):
        return _decoded_heif(data, path, keep)
    # Pillow warns of large photos, which have a limit here, and of damaged metadata, which is not kept.
    with warnings.catch_warnings(action="ignore"):
        try:
            with library.open(BytesIO(data), formats=(*_FORMATS, *_NAMED_ONLY)) as image:
                _refuse(image, data, path)
                return _decoded(image, data, path, keep)
        except library.DecompressionBombError as error:
            raise PhotoError(_too_large(path, "more than 178")) from error
        except (PhotoError, MemoryError):
            raise
        except _BROKEN as error:
            what = "is empty" if not data else f"is damaged, or no {_KINDS} file"
            known = isinstance(error, library.UnidentifiedImageError)
            detail = "" if known else f" ({one_line(str(error)).rstrip('.')})"
            raise PhotoError(f"{path} {what}{detail}; export the photo again as JPEG or PNG.") from error


def encoded(photo: Photo) -> bytes:
    """The file of a photo, in its own format and orientation.

    Raises:
        PhotoError: the format cannot hold it.
    """
    library = pillow()
    image = library.fromarray(encoded_pixels(photo.stored, grey=photo.grey))
    if photo.alpha is not None:
        image.putalpha(library.fromarray(photo.alpha))
    settings: dict[str, Any] = dict(photo.extras)
    if photo.exif.data:
        settings["exif"] = b"Exif\0\0" + photo.exif.data
    if photo.kind == "JPEG":
        settings["subsampling"] = 0
        finer = photo.tables and sum(photo.tables[min(photo.tables)]) < _SUM_95
        # Pillow would scale the tables by the quality if it got both.
        settings |= {"qtables": {k: list(v) for k, v in photo.tables.items()}} if finer else {"quality": JPEG_QUALITY}
    elif photo.kind == "WEBP":
        # Its lossy form always halves the resolution of colour.
        settings |= {"lossless": True, "exact": True}
    stream = BytesIO()
    try:
        image.save(stream, photo.kind, **settings)
    except _BROKEN as error:
        raise PhotoError(
            f"{photo.path} cannot be written as {photo.kind} ({one_line(str(error))}); convert it to PNG."
        ) from error
    return stream.getvalue()


def encoded_pixels(pixels: NDArray[np.uint8], *, grey: bool) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) as a file holds them before compression: (H, W) where it has one channel."""
    return np.asarray(pillow().fromarray(pixels).convert("L")) if grey else pixels


def write_photo(photo: Photo, path: Path) -> None:
    """Write a photo, whole or not at all, never over an existing file; missing folders are made.

    Raises:
        PhotoError: there is such a file, the folder cannot be written, or the format cannot hold the photo.
    """
    data = encoded(photo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, data)
    except FileExistsError as error:
        raise PhotoError(f"{path} exists already; name another folder with --out.") from error
    except OSError as error:
        raise PhotoError(describe_os_error(error)) from error


def pillow() -> ModuleType:
    """Pillow's module of images.

    Raises:
        PhotoError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise PhotoError("photos need Pillow; run: pip install 'optishield[protect]'") from error
    return Image


def _too_large(path: Path, megapixels: str) -> str:
    return f"{path} has {megapixels} megapixels, at most {LARGEST_PIXELS // 1_000_000} are read; reduce it."


def _refuse(image: Image, data: bytes, path: Path) -> None:
    """Refuse what a result could not hold, before any pixel is decoded."""
    pixels = image.width * image.height
    if pixels > LARGEST_PIXELS:
        raise PhotoError(_too_large(path, f"{pixels / 1e6:.0f}"))
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        raise PhotoError(f"{path} holds {frames} pictures; save the one to be protected as JPEG or PNG.")
    if image.format in _NAMED_ONLY:
        raise PhotoError(f"{path} is a {image.format} file, which cannot be written faithfully; save it as PNG.")
    depth = max(_depths(image, data))
    if depth > 8:
        raise PhotoError(f"{path} has {depth} bits a channel, and protected photos have 8; save it with 8 bits.")
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
        raise PhotoError(f"{path} is stored as {image.mode}, and protected photos are RGB or grey; convert it to sRGB.")


def _depths(image: Image, data: bytes) -> tuple[int, ...]:
    """Bits of each channel, which Pillow reduces silently."""
    if image.format == "PNG":
        return (data[24],)
    if image.format == "TIFF":
        return tuple(int(bits) for bits in image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    return (16,) if image.mode.startswith(("I", "F")) else (8,)


def _decoded(image: Image, data: bytes, path: Path, keep: Keep) -> Photo:
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    tiff = kind == "TIFF"
    exif = rebuilt(data if tiff else image.info.get("exif", b""), keep, interop=not tiff)
    left_out = set(exif.left_out)
    if image.format == "MPO":
        left_out.add("previews")
    extras = {key: image.info[key] for key in ("icc_profile", "dpi") if image.info.get(key)}
    tables = dict(getattr(image, "quantization", {}))
    image.load()
    # The texts of a PNG are all known only once its pixels are read.
    texts = set(getattr(image, "text", {})) - set(_LEFT_OUT)
    left_out |= {_LEFT_OUT[key] for key in _LEFT_OUT if key in image.info} | ({"texts"} if texts else set())
    grey = image.mode in ("L", "LA", "1")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
    stored = np.array(image.convert("RGB"))
    if tiff:
        # Pillow turns TIFF upright, and no other format.
        back = _BACK.get(exif.orientation, exif.orientation)
        stored = np.ascontiguousarray(_turned(stored, back))
        alpha = None if alpha is None else np.ascontiguousarray(_turned(alpha, back))
    return Photo(path, stored, alpha, grey, kind, exif, extras, tables, tuple(sorted(left_out)))


def _decoded_heif(data: bytes, path: Path, keep: Keep) -> Photo:
    """A HEIC photo, which becomes a JPEG: every program reads it, and few write HEIC."""
    picture = open_heif(data, path)
    if picture.width * picture.height > LARGEST_PIXELS:
        raise PhotoError(_too_large(path, f"{picture.width * picture.height / 1e6:.0f}"))
    exif = rebuilt(picture.exif, keep, upright=True)
    extras = {"icc_profile": picture.profile} if picture.profile else {}
    left_out = tuple(sorted({*exif.left_out, *picture.left_out}))
    return Photo(path, picture.pixels(), None, False, "JPEG", exif, extras, {}, left_out)


#: The orientation that undoes another, where it is not its own inverse.
_BACK = {6: 8, 8: 6}


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A view (H, W, ...) turned as an Exif orientation says."""
    if orientation in (2, 7):
        pixels = pixels[:, ::-1]
    elif orientation in (4, 5):
        pixels = pixels[::-1]
    return np.rot90(pixels, {3: 2, 5: -1, 6: -1, 7: -1, 8: 1}.get(orientation, 0))
