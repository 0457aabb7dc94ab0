"""Photos as files: what is kept, what must never be in a result, and what is refused."""

from __future__ import annotations

import base64
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
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from photos import files as photo_files
from photos import metadata
from photos.errors import PhotoError
from photos.files import decoded, encoded, read_photo, write_photo
from photos.metadata import Keep, rebuilt

PIXELS = np.random.default_rng(5).integers(0, 256, (24, 40, 3), dtype=np.uint8)
LOSSLESS = ("PNG", "TIFF", "WEBP", "BMP")


def _file(pixels: np.ndarray, kind: str, **settings: Any) -> bytes:
    stream = BytesIO()
    if kind == "WEBP":
        settings = {"lossless": True, "exact": True, **settings}
    Image.fromarray(pixels).save(stream, kind, **settings)
    return stream.getvalue()


#: A picture that stands for the unprotected face.
SECRET = _file(np.random.default_rng(6).integers(0, 256, (24, 24, 3), dtype=np.uint8), "JPEG", quality=90)


def _opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def _again(data: bytes, keep: Keep = Keep.camera) -> bytes:
    return encoded(decoded(data, Path("photo"), keep))


def _exif(*, orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8298] = "Maker", orientation, "A. Photographer"
    exif.get_ifd(0x8769).update(
        {0x829A: (1, 125), 0x9003: "2024:05:06 07:08:09", 0x9286: b"ASCII\0\0\0hello", 0xA002: 40, 0xA005: {1: "R98"}}
    )
    exif.get_ifd(0x8825).update({0: b"\2\3\0\0", 1: "N", 2: (52.0, 13.0, 4.5)})
    return exif


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_see_and_kept_in_the_file(kind: str, orientation: int) -> None:
    data = _file(PIXELS, kind, exif=_exif(orientation=orientation).tobytes())
    photo = decoded(data, Path("photo"))
    image = _opened(data)
    image.load()  # Pillow turns TIFF when it loads it
    shown = np.asarray(image if kind == "TIFF" else ImageOps.exif_transpose(image))
    assert np.array_equal(photo.upright, shown)
    pixels = photo.upright.copy()
    pixels[0, 0] = 0
    before, photo = photo, photo.with_upright(pixels)
    assert np.array_equal(before.stored, PIXELS) or kind == "JPEG"
    result = _opened(encoded(photo))
    if kind == "TIFF":
        assert isinstance(result, TiffImagePlugin.TiffImageFile)
        assert (result.tag_v2[256], result.tag_v2[257]) == (40, 24)
    else:
        assert result.size == (40, 24)
    assert result.getexif()[0x0112] == orientation
    if kind != "JPEG":
        changed = decoded(encoded(photo), Path("photo"))
        assert int((changed.stored != photo.stored).sum()) == 0
        assert int((changed.stored != PIXELS).any(2).sum()) == 1
        assert changed.upright[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_of_exif_are_copied_byte_by_byte(order: str) -> None:
    entries = [(0x010F, 2, b"Maker\0"), (0x011A, 5, struct.pack(order + "II", 72, 1)), (0x0112, 3, None)]
    block = b"II" if order == "<" else b"MM"
    block += struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", len(entries))
    values, after = b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        if value is None:
            block += struct.pack(order + "HHIHH", tag, kind, 1, 8, 0)
            continue
        count = len(value) if kind == 2 else 1
        block += struct.pack(order + "HHII", tag, kind, count, after + len(values))
        values += value
    found = rebuilt(b"Exif\0\0" + block + struct.pack(order + "I", 0) + values, Keep.all)
    assert found.orientation == 8
    assert found.data[:2] == block[:2]
    assert all(value in found.data for _, _, value in entries if value is not None)
    assert found.left_out == ()
    read = Image.Exif()
    read.load(found.data)
    assert dict(read) == {0x010F: "Maker", 0x0112: 8, 0x011A: 72.0}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("keep", list(Keep))
def test_each_choice_keeps_its_entries_and_orientation_always(kind: str, keep: Keep) -> None:
    given = _exif()
    photo = decoded(_file(PIXELS, kind, exif=given.tobytes()), Path("photo"), keep)
    kept = _opened(encoded(photo)).getexif()
    camera, everything = keep is not Keep.none, keep is Keep.all
    assert {tag: kept.get(tag) for tag in (0x010F, 0x0112, 0x8298)} == {
        0x010F: "Maker" if camera else None, 0x0112: 6, 0x8298: "A. Photographer" if everything else None,
    }  # fmt: skip
    inner = kept.get_ifd(0x8769)
    assert dict(kept.get_ifd(0xA005)) == ({} if kind == "TIFF" else {1: "R98"})
    if camera:
        assert inner[0x829A] == (1, 125) or float(inner[0x829A]) == 1 / 125
    assert (inner.get(0x9003), inner.get(0xA002)) == (("2024:05:06 07:08:09", 40) if camera else (None, None))
    assert inner.get(0x9286) == (b"ASCII\0\0\0hello" if everything else None)
    assert dict(kept.get_ifd(0x8825)) == (dict(given.get_ifd(0x8825)) if everything else {})
    assert (
        photo.left_out
        == {
            Keep.all: (),
            Keep.camera: ("comments", "copyright", "place (GPS)"),
            Keep.none: ("camera and date", "comments", "copyright", "place (GPS)"),
        }[keep]
    )


#: What names a person, a place or a single device: (directory, entry, value).
NAMING: dict[str, tuple[int, int, str | bytes]] = {
    "artist": (0, 0x013B, "Jane Doe"),
    "copyright": (0, 0x8298, "Jane Doe"),
    "titles": (0, 0x010E, "my child Tim"),
    "computer": (0, 0x013C, "Jane's laptop"),
    "software": (0, 0x0131, "Editor of Jane Doe"),
    "artist in Unicode": (0, 0x9C9D, "Jane Doe".encode("utf-16-le")),
    "owner": (0x8769, 0xA430, "Jane Doe"),
    "serial numbers": (0x8769, 0xA431, "SN123456"),
    "serial number of the lens": (0x8769, 0xA435, "SN123456"),
    "unique ids": (0x8769, 0xA420, "0123456789abcdef"),
    "comments": (0x8769, 0x9286, b"ASCII\0\0\0my child Tim"),
    "photographer": (0x8769, 0xA437, "Jane Doe"),
    "place (GPS)": (0x8825, 0x1D, "2024:05:06"),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", NAMING)
def test_nothing_that_names_somebody_stays_unless_all_is_asked_for(kind: str, name: str) -> None:
    folder, tag, value = NAMING[name]
    exif = Image.Exif()
    exif[0x0112] = 6
    (exif.get_ifd(folder) if folder else exif)[tag] = value
    data = _file(PIXELS, kind, exif=exif.tobytes())
    raw = value if isinstance(value, bytes) else value.encode()
    assert raw in data
    assert raw in _again(data, Keep.all)
    for keep in (Keep.camera, Keep.none):
        photo = decoded(data, Path("photo"), keep)
        assert raw not in encoded(photo)
        assert len(photo.left_out) == 1
        assert _opened(encoded(photo)).getexif()[0x0112] == 6
    if name in ("artist", "copyright", "titles", "owner", "serial numbers", "comments", "place (GPS)"):
        assert photo.left_out == (name,)


def test_lens_and_exposure_stay() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(
        {
            0x8827: 200,
            0x920A: TiffImagePlugin.IFDRational(50),
            0xA434: "50 mm f/1.8",
            0x9202: TiffImagePlugin.IFDRational(9, 5),
        }
    )
    photo = decoded(_file(PIXELS, "JPEG", exif=exif.tobytes()), Path("photo"))
    assert photo.left_out == ()
    inner = _opened(encoded(photo)).getexif().get_ifd(0x8769)
    assert (inner[0x8827], inner[0xA434], float(inner[0x920A]), float(inner[0x9202])) == (200, "50 mm f/1.8", 50.0, 1.8)


def test_text_that_spells_the_mark_of_a_picture_is_text() -> None:
    exif = Image.Exif()
    exif[0x010E] = "RIFF and ftyp are words of four letters; a sentence that holds them shows nobody's face."
    assert len(exif[0x010E]) > 64
    photo = decoded(_file(PIXELS, "JPEG", exif=exif.tobytes()), Path("photo"), Keep.all)
    assert photo.left_out == ()
    assert _opened(encoded(photo)).getexif()[0x010E] == exif[0x010E]


def _entries(*entries: tuple[int, int, int, int], more: int = 0) -> bytes:
    """A directory at 8 with (tag, type, count, value or offset), little-endian."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II" + struct.pack("<HIH", 42, 8, len(entries)) + body + struct.pack("<I", more)


@pytest.mark.parametrize(
    ("block", "left_out"),
    [
        # A maker's note that points beyond the block.
        (_entries((0x0112, 3, 1, 6), (0x8769, 4, 1, 38)) + struct.pack("<HHHIII", 1, 0x927C, 7, 9000, 99999, 0),
         ("maker's note",)),
        # A text that does.
        (_entries((0x010F, 2, 30, 9999), (0x0112, 3, 1, 6)), ("damaged Exif",)),
        # A directory that does, a next one that does, and one that is cut in the middle of an entry.
        (_entries((0x0112, 3, 1, 6), (0x8769, 4, 1, 9999)), ("damaged Exif",)),
        (_entries((0x0112, 3, 1, 6), more=9999), ("Exif thumbnail",)),
        (_entries((0x0112, 3, 1, 6), (0x0110, 2, 4, 0x41414141))[:-10], ("damaged Exif",)),
        # More entries than can be.
        (b"II" + struct.pack("<HIHHHIHH", 42, 8, 65535, 0x0112, 3, 1, 6, 0), ("damaged Exif",)),
        # Orientation as a long number.
        (_entries((0x0112, 4, 1, 6)), ()),
    ],
    ids=["note", "text", "directory", "next", "cut", "many", "long"],
)  # fmt: skip
def test_of_damaged_exif_stays_what_can_be_read(block: bytes, left_out: tuple[str, ...]) -> None:
    found = rebuilt(block, Keep.all)
    assert found.orientation == 6
    assert set(left_out) <= set(found.left_out)
    read = Image.Exif()
    read.load(found.data)
    assert read[0x0112] == 6
    photo = decoded(_file(PIXELS, "JPEG", exif=b"Exif\0\0" + block), Path("photo"), Keep.all)
    assert photo.upright.shape == (40, 24, 3)


def test_of_two_entries_of_one_kind_the_first_holds() -> None:
    entries = b"".join(struct.pack("<HHII", 0x0112, 3, 1, value) for value in (6, 1))
    found = rebuilt(b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4), Keep.camera)
    assert found.orientation == 6
    assert struct.pack("<HHII", 0x0112, 3, 1, 6) in found.data


def test_of_exif_that_a_jpeg_cannot_hold_orientation_and_colour_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "LONGEST_BLOCK", 120)
    found = rebuilt(_exif().tobytes(), Keep.all)
    assert (found.orientation, found.left_out) == (6, ("most of the Exif, for its length",))
    read = Image.Exif()
    read.load(found.data)
    assert dict(read)[0x0112] == 6


def _segments(*parts: tuple[int, bytes]) -> bytes:
    """A JPEG with these segments before its own."""
    plain = _file(PIXELS, "JPEG")
    return (
        plain[:2] + b"".join(struct.pack(">BBH", 255, mark, len(body) + 2) + body for mark, body in parts) + plain[2:]
    )


def _thumbnail() -> bytes:
    """Exif with a second directory that points to a picture, and the same picture where nothing points to."""
    first = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 26)
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(SECRET), 0)
    return b"Exif\0\0II" + struct.pack("<HI", 42, 8) + first + second + SECRET + SECRET


def _maker_note() -> bytes:
    exif = _exif()
    exif.get_ifd(0x8769)[0x927C] = b"Preview" + SECRET
    return exif.tobytes()


def _user_comment() -> bytes:
    exif = _exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + SECRET
    return exif.tobytes()


def _several() -> bytes:
    stream = BytesIO()
    Image.fromarray(PIXELS).save(stream, "MPO", save_all=True, append_images=[_opened(SECRET)])
    return stream.getvalue()


def _chunk(name: bytes, body: bytes) -> bytes:
    """A PNG with a chunk of its own after the header."""
    plain = _file(PIXELS, "PNG")
    return (
        plain[:33]
        + struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
        + plain[33:]
    )


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><Thumb>' + base64.b64encode(SECRET) + b"</Thumb></x:xmpmeta>"
HIDDEN = {
    "thumbnail": (_file(PIXELS, "JPEG", exif=_thumbnail()), "Exif thumbnail"),
    "maker's note": (_file(PIXELS, "JPEG", exif=_maker_note()), "maker's note"),
    "user comment": (_file(PIXELS, "JPEG", exif=_user_comment()), "comments"),
    "thumbnail of PNG": (_file(PIXELS, "PNG", exif=_thumbnail()), "Exif thumbnail"),
    "thumbnail of WebP": (_file(PIXELS, "WEBP", exif=_thumbnail()), "Exif thumbnail"),
    "XMP": (_segments((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)), "XMP"),
    "long XMP": (_segments((0xE1, b"http://ns.adobe.com/xmp/extension/\0" + XMP)), None),
    "Photoshop": (_segments((0xED, b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + struct.pack(">I", len(SECRET)) + SECRET)),
                  "Photoshop blocks"),
    "text of PNG": (_chunk(b"tEXt", b"Comment\0" + SECRET), "texts"),
    "comment": (_segments((0xFE, SECRET)), "comment"),
    "unknown segment": (_segments((0xE9, SECRET)), None),
    "second picture": (_several(), "previews"),
    "after the end": (_file(PIXELS, "JPEG") + SECRET, None),
    "XMP of WebP": (_file(PIXELS, "WEBP", xmp=XMP), "XMP"),
    "XMP of PNG": (_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), "XMP"),
    "unknown chunk": (_chunk(b"prVt", SECRET), None),
    "XMP of TIFF": (_file(PIXELS, "TIFF", tiffinfo={700: XMP}), "XMP"),
    "Photoshop of TIFF": (_file(PIXELS, "TIFF", tiffinfo={0x8649: SECRET}), "Photoshop blocks"),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
def test_no_other_picture_of_the_face_survives(name: str) -> None:
    data, said = HIDDEN[name]
    hidden: tuple[bytes, ...] = (SECRET[20:], base64.b64encode(SECRET)[40:], SECRET[-60:-2])
    if name == "second picture":  # Pillow compressed it anew
        hidden = (data[data.rfind(b"\xff\xd8\xff") + 20 :],)
    assert any(piece in data for piece in hidden), "the test hides nothing"
    photo = decoded(data, Path("photo"), Keep.all)
    result = encoded(photo)
    assert not any(piece in result for piece in hidden)
    assert result.count(b"\xff\xd8\xff") <= 1
    assert int(getattr(_opened(result), "n_frames", 1)) == 1
    if said is not None:
        assert said in photo.left_out


@pytest.mark.parametrize("damage", [b"", b"II", b"II*\0\xff\xff\xff\0", b"XX*\0\x08\0\0\0", _thumbnail()[6:22]])
def test_exif_of_which_nothing_can_be_read_is_left_out(damage: bytes) -> None:
    found = rebuilt(damage, Keep.all)
    assert (found.data, found.orientation) == (b"", 1)
    assert found.left_out == (("damaged Exif",) if damage else ())


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_profile_and_resolution_are_kept(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    settings = {} if kind in ("BMP", "WEBP") else {"dpi": (300.0, 300.0)}
    result = _opened(_again(_file(PIXELS, kind, **settings, **({} if kind == "BMP" else {"icc_profile": profile}))))
    assert result.format == kind
    assert np.array_equal(np.asarray(result), PIXELS)
    assert result.info.get("icc_profile") == (None if kind == "BMP" else profile)
    if settings:
        assert [round(float(value)) for value in result.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_kept(kind: str) -> None:
    pixels = np.dstack([PIXELS, np.arange(24 * 40, dtype=np.uint8).reshape(24, 40)])
    result = _opened(_again(_file(pixels, kind)))
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_grey_photos_stay_grey(kind: str) -> None:
    photo = decoded(_file(PIXELS[..., 0], kind), Path("photo"))
    assert photo.stored.shape == (24, 40, 3)
    assert _opened(encoded(photo)).mode == "L"


def test_palette_and_key_colour_become_true_colour() -> None:
    coarse = Image.fromarray(PIXELS // 128 * 255).quantize(8)
    stream = BytesIO()
    coarse.save(stream, "PNG", transparency=0)
    result = _opened(_again(stream.getvalue()))
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result)[..., 3], np.where(np.asarray(coarse) == 0, 0, 255))


@pytest.mark.parametrize(("quality", "own"), [(60, False), (95, False), (98, True)])
def test_jpeg_keeps_colour_and_is_never_coarser_than_quality_95(quality: int, own: bool) -> None:
    given = _file(PIXELS, "JPEG", quality=quality, subsampling=2)
    result, before, best = (_opened(data) for data in (_again(given), given, _file(PIXELS, "JPEG", quality=95)))
    assert isinstance(result, JpegImageFile) and isinstance(before, JpegImageFile) and isinstance(best, JpegImageFile)
    assert result.format == "JPEG"
    assert result.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]
    assert result.quantization == (before if own else best).quantization
    assert sum(best.quantization[0]) == photo_files._SUM_95


def test_smallest_photo(tmp_path: Path) -> None:
    data = _again(_file(PIXELS[:1, :1], "PNG"))
    assert np.array_equal(np.asarray(_opened(data)), PIXELS[:1, :1])


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
    "truncated JPEG": (_file(PIXELS, "JPEG")[:-200], r"is damaged.*truncated.*; export"),
    "truncated PNG": (_file(PIXELS, "PNG")[:-900], r"is damaged.*; export"),
    "corrupt PNG": (_file(PIXELS, "PNG")[:60] + bytes(200), r"is damaged.*; export"),
    "CMYK JPEG": (_cmyk("JPEG"), r"is stored as CMYK.*convert it to sRGB"),
    "CMYK TIFF": (_cmyk("TIFF"), r"is stored as CMYK.*convert it to sRGB"),
    "16 bits": (_deep_png(), r"has 16 bits a channel.*save it with 8 bits"),
    "16 bits grey": (_file(np.zeros((4, 4), np.uint16), "PNG"), r"has 16 bits a channel"),
    "32 bits": (_file(np.zeros((4, 4), np.float32), "TIFF"), r"has 32 bits a channel"),
    "GIF": (_file(PIXELS, "GIF"), r"is a GIF file.*save it as PNG"),
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
    assert decoded(_file(PIXELS, "PNG"), Path("photo")).stored.shape == (24, 40, 3)  # Pillow would warn
    assert Image.MAX_IMAGE_PIXELS == 500
    monkeypatch.setattr(photo_files, "LARGEST_PIXELS", 959)
    with pytest.raises(PhotoError, match="megapixels"):
        decoded(_file(PIXELS, "PNG"), Path("photo"))


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
    photo = decoded(_file(PIXELS, "PNG"), Path("photo"))
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
        write_photo(decoded(_file(PIXELS, "PNG"), Path("photo")), tmp_path / "photo.png")
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
    result = _opened(encoded(photo))
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
