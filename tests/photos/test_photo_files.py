"""Photos as files: which pixels a result has, which files are refused, and how results are written."""

from __future__ import annotations

import errno
import os
import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from photos import files as photo_files
from photos.errors import PhotoError
from photos.files import decoded, encoded, read_photo, write_photo
from tests.photos.pictures import PIXELS, again, opened, saved

LOSSLESS = ("PNG", "TIFF", "WEBP", "BMP")


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_profile_and_resolution_are_kept(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    settings = {} if kind in ("BMP", "WEBP") else {"dpi": (300.0, 300.0)}
    result = opened(again(saved(PIXELS, kind, **settings, **({} if kind == "BMP" else {"icc_profile": profile}))))
    assert result.format == kind
    assert np.array_equal(np.asarray(result), PIXELS)
    assert result.info.get("icc_profile") == (None if kind == "BMP" else profile)
    if settings:
        assert [round(float(value)) for value in result.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_kept(kind: str) -> None:
    pixels = np.dstack([PIXELS, np.arange(24 * 40, dtype=np.uint8).reshape(24, 40)])
    result = opened(again(saved(pixels, kind)))
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_grey_photos_stay_grey(kind: str) -> None:
    photo = decoded(saved(PIXELS[..., 0], kind), Path("photo"))
    assert photo.stored.shape == (24, 40, 3)
    assert opened(encoded(photo)).mode == "L"


def test_palette_and_key_colour_become_true_colour() -> None:
    coarse = Image.fromarray(PIXELS // 128 * 255).quantize(8)
    stream = BytesIO()
    coarse.save(stream, "PNG", transparency=0)
    result = opened(again(stream.getvalue()))
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result)[..., 3], np.where(np.asarray(coarse) == 0, 0, 255))


@pytest.mark.parametrize(("quality", "own"), [(60, False), (95, False), (98, True)])
def test_jpeg_keeps_colour_and_is_never_coarser_than_quality_95(quality: int, own: bool) -> None:
    given = saved(PIXELS, "JPEG", quality=quality, subsampling=2)
    result, before, best = (opened(data) for data in (again(given), given, saved(PIXELS, "JPEG", quality=95)))
    assert isinstance(result, JpegImageFile) and isinstance(before, JpegImageFile) and isinstance(best, JpegImageFile)
    assert result.format == "JPEG"
    assert result.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]
    assert result.quantization == (before if own else best).quantization
    assert sum(best.quantization[0]) == photo_files._SUM_95


def test_smallest_photo(tmp_path: Path) -> None:
    data = again(saved(PIXELS[:1, :1], "PNG"))
    assert np.array_equal(np.asarray(opened(data)), PIXELS[:1, :1])


def _header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims to be large."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (body, data)
    )


def _moving(kind: str) -> bytes:
    stream = BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, save_all=True, append_images=[Image.fromarray(PIXELS[::-1].copy())])
    return stream.getvalue()


def _cmyk(kind: str) -> bytes:
    stream = BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(stream, kind)
    return stream.getvalue()


def _deep_png() -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = b"IDAT" + zlib.compress((b"\0" + bytes(12)) * 2)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (body, rows, b"IEND")
    )


REFUSED = {
    "empty": (b"", r"is empty; export the photo again"),
    "text": (b"not a photo", r"is damaged, or no JPEG, PNG, WebP, TIFF or BMP file; export"),
    "truncated JPEG": (saved(PIXELS, "JPEG")[:-200], r"is damaged.*truncated.*; export"),
    "truncated PNG": (saved(PIXELS, "PNG")[:-900], r"is damaged.*; export"),
    "corrupt PNG": (saved(PIXELS, "PNG")[:60] + bytes(200), r"is damaged.*; export"),
    "CMYK JPEG": (_cmyk("JPEG"), r"is stored as CMYK.*convert it to sRGB"),
    "CMYK TIFF": (_cmyk("TIFF"), r"is stored as CMYK.*convert it to sRGB"),
    "16 bits": (_deep_png(), r"has 16 bits a channel.*save it with 8 bits"),
    "16 bits grey": (saved(np.zeros((4, 4), np.uint16), "PNG"), r"has 16 bits a channel"),
    "32 bits": (saved(np.zeros((4, 4), np.float32), "TIFF"), r"has 32 bits a channel"),
    "GIF": (saved(PIXELS, "GIF"), r"is a GIF file.*save it as PNG"),
    "animated GIF": (_moving("GIF"), r"holds 2 pictures; save the one"),
    "animated WebP": (_moving("WEBP"), r"holds 2 pictures; save the one"),
    "animated PNG": (_moving("PNG"), r"holds 2 pictures; save the one"),
    "pages": (_moving("TIFF"), r"holds 2 pictures; save the one"),
    "large": (_header(16_000, 10_000), r"has 160 megapixels, at most 150 are read; reduce it"),
    "bomb": (_header(60_000, 60_000), r"has more than 178 megapixels, at most 150 are read; reduce it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_photos_are_refused_with_what_to_change(name: str, tmp_path: Path) -> None:
    data, words = REFUSED[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(PhotoError, match=f"^{path} {words}"):
        read_photo(path)
    assert path.read_bytes() == data


def test_absent_photo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"none\.jpg: No such file or directory; check the path"):
        read_photo(tmp_path / "none.jpg")


def test_limit_is_ours_and_pillow_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert decoded(saved(PIXELS, "PNG"), Path("photo")).stored.shape == (24, 40, 3)  # Pillow would warn
    assert Image.MAX_IMAGE_PIXELS == 500
    monkeypatch.setattr(photo_files, "LARGEST_PIXELS", 959)
    with pytest.raises(PhotoError, match="megapixels"):
        decoded(saved(PIXELS, "PNG"), Path("photo"))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(PhotoError, match=r"photos need Pillow; run: pip install 'optishield\[protect\]'"):
        decoded(b"", Path("photo"))


@pytest.mark.parametrize("links", [True, False])
def test_nothing_is_ever_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    photo = decoded(saved(PIXELS, "PNG"), Path("photo"))
    write_photo(photo, tmp_path / "new" / "photo.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "photo.png")), PIXELS)
    (tmp_path / "old.png").write_bytes(b"precious")
    with pytest.raises(PhotoError, match=r"old\.png exists already; name another folder with --out"):
        write_photo(photo, tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "old.png", "photo.png"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_failed_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fails(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(PhotoError, match=rf"photo\.png: {os.strerror(code)}; "):
        write_photo(decoded(saved(PIXELS, "PNG"), Path("photo")), tmp_path / "photo.png")
    assert list(tmp_path.iterdir()) == []


def _heic(pixels: np.ndarray, **settings: Any) -> bytes:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    stream = BytesIO()
    heif.from_pillow(Image.fromarray(pixels)).save(stream, quality=-1, chroma=444, **settings)
    return stream.getvalue()


#: The first bytes of a photo of an iPhone.
HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_becomes_an_upright_jpeg(orientation: int) -> None:
    smooth = np.kron(PIXELS[::8, ::8], np.ones((32, 32, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x013B] = orientation, "Maker", "Jane Doe"
    photo = decoded(_heic(smooth, exif=exif.tobytes()), Path("photo.heic"))
    result = opened(encoded(photo))
    assert (result.format, photo.left_out) == ("JPEG", ("artist",))
    assert dict(result.getexif()) == {0x010F: "Maker"}
    shown = np.rot90(smooth, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    assert photo.upright.shape == shown.shape
    # HEVC and the change of colour space cost a few levels.
    assert np.abs(np.asarray(result).astype(int) - shown).mean() < 4


def test_heic_without_its_package_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        PhotoError, match=r"^a\.heic is a HEIC photo, .*Most Compatible.*pip install 'optishield\[heif\]'$"
    ):
        decoded(HEIC_HEAD + bytes(40), Path("a.heic"))


def test_damaged_and_deep_heic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    with pytest.raises(PhotoError, match=r"^a\.heic is damaged \(.*\); export the photo again as JPEG or PNG\.$"):
        decoded(HEIC_HEAD + bytes(40), Path("a.heic"))
    stream = BytesIO()
    deep = np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3)
    heif.from_bytes(mode="RGB;16", size=(64, 64), data=deep.tobytes()).save(stream)
    with pytest.raises(PhotoError, match=r"^a\.heic has 1[02] bits a channel, and protected photos have 8"):
        decoded(stream.getvalue(), Path("a.heic"))
