"""What a photo's file holds beside its pixels: what is kept, and what must never be in a result."""

from __future__ import annotations

import base64
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from photos import metadata
from photos.files import decoded, encoded
from photos.metadata import Keep, rebuilt
from tests.photos.pictures import PIXELS, again, opened, saved

#: A picture that stands for the unprotected face.
SECRET = saved(np.random.default_rng(6).integers(0, 256, (24, 24, 3), dtype=np.uint8), "JPEG", quality=90)


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
    data = saved(PIXELS, kind, exif=_exif(orientation=orientation).tobytes())
    photo = decoded(data, Path("photo"))
    image = opened(data)
    image.load()  # Pillow turns TIFF when it loads it
    shown = np.asarray(image if kind == "TIFF" else ImageOps.exif_transpose(image))
    assert np.array_equal(photo.upright, shown)
    pixels = photo.upright.copy()
    pixels[0, 0] = 0
    before, photo = photo, photo.with_upright(pixels)
    assert np.array_equal(before.stored, PIXELS) or kind == "JPEG"
    result = opened(encoded(photo))
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
    photo = decoded(saved(PIXELS, kind, exif=given.tobytes()), Path("photo"), keep)
    kept = opened(encoded(photo)).getexif()
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
    data = saved(PIXELS, kind, exif=exif.tobytes())
    raw = value if isinstance(value, bytes) else value.encode()
    assert raw in data
    assert raw in again(data, Keep.all)
    for keep in (Keep.camera, Keep.none):
        photo = decoded(data, Path("photo"), keep)
        assert raw not in encoded(photo)
        assert len(photo.left_out) == 1
        assert opened(encoded(photo)).getexif()[0x0112] == 6
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
    photo = decoded(saved(PIXELS, "JPEG", exif=exif.tobytes()), Path("photo"))
    assert photo.left_out == ()
    inner = opened(encoded(photo)).getexif().get_ifd(0x8769)
    assert (inner[0x8827], inner[0xA434], float(inner[0x920A]), float(inner[0x9202])) == (200, "50 mm f/1.8", 50.0, 1.8)


def test_text_that_spells_the_mark_of_a_picture_is_text() -> None:
    exif = Image.Exif()
    exif[0x010E] = "RIFF and ftyp are words of four letters; a sentence that holds them shows nobody's face."
    assert len(exif[0x010E]) > 64
    photo = decoded(saved(PIXELS, "JPEG", exif=exif.tobytes()), Path("photo"), Keep.all)
    assert photo.left_out == ()
    assert opened(encoded(photo)).getexif()[0x010E] == exif[0x010E]


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
    photo = decoded(saved(PIXELS, "JPEG", exif=b"Exif\0\0" + block), Path("photo"), Keep.all)
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
    plain = saved(PIXELS, "JPEG")
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
    Image.fromarray(PIXELS).save(stream, "MPO", save_all=True, append_images=[opened(SECRET)])
    return stream.getvalue()


def _chunk(name: bytes, body: bytes) -> bytes:
    """A PNG with a chunk of its own after the header."""
    plain = saved(PIXELS, "PNG")
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
    "thumbnail": (saved(PIXELS, "JPEG", exif=_thumbnail()), "Exif thumbnail"),
    "maker's note": (saved(PIXELS, "JPEG", exif=_maker_note()), "maker's note"),
    "user comment": (saved(PIXELS, "JPEG", exif=_user_comment()), "comments"),
    "thumbnail of PNG": (saved(PIXELS, "PNG", exif=_thumbnail()), "Exif thumbnail"),
    "thumbnail of WebP": (saved(PIXELS, "WEBP", exif=_thumbnail()), "Exif thumbnail"),
    "XMP": (_segments((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)), "XMP"),
    "long XMP": (_segments((0xE1, b"http://ns.adobe.com/xmp/extension/\0" + XMP)), None),
    "Photoshop": (_segments((0xED, b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + struct.pack(">I", len(SECRET)) + SECRET)),
                  "Photoshop blocks"),
    "text of PNG": (_chunk(b"tEXt", b"Comment\0" + SECRET), "texts"),
    "comment": (_segments((0xFE, SECRET)), "comment"),
    "unknown segment": (_segments((0xE9, SECRET)), None),
    "second picture": (_several(), "previews"),
    "after the end": (saved(PIXELS, "JPEG") + SECRET, None),
    "XMP of WebP": (saved(PIXELS, "WEBP", xmp=XMP), "XMP"),
    "XMP of PNG": (_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), "XMP"),
    "unknown chunk": (_chunk(b"prVt", SECRET), None),
    "XMP of TIFF": (saved(PIXELS, "TIFF", tiffinfo={700: XMP}), "XMP"),
    "Photoshop of TIFF": (saved(PIXELS, "TIFF", tiffinfo={0x8649: SECRET}), "Photoshop blocks"),
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
    assert int(getattr(opened(result), "n_frames", 1)) == 1
    if said is not None:
        assert said in photo.left_out


@pytest.mark.parametrize("damage", [b"", b"II", b"II*\0\xff\xff\xff\0", b"XX*\0\x08\0\0\0", _thumbnail()[6:22]])
def test_exif_of_which_nothing_can_be_read_is_left_out(damage: bytes) -> None:
    found = rebuilt(damage, Keep.all)
    assert (found.data, found.orientation) == (b"", 1)
    assert found.left_out == (("damaged Exif",) if damage else ())
