"""Exif written anew from what may stay in a protected photo.

A file can show the unprotected face beside its pixels: as a thumbnail, as a preview in the maker's note, in XMP, in
Photoshop blocks, or in bytes that no entry points to. So nothing is cut out of the old block: a new one is built
of the entries below (Exif 3.0, CIPA DC-008; TIFF 6.0), their values copied byte by byte. What is not known to show no
face is not copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

ORIENTATION = 0x0112
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005

#: Bytes of one value by the type of an entry: bytes, texts, numbers, fractions.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}

#: Longer values are left out: text and numbers are shorter, a picture of a face is not.
LONGEST_VALUE = 4096

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*", b"ftyp")

# fmt: off
_IMAGE_TAGS = frozenset({
    0x010D, 0x010E, 0x010F, 0x0110, ORIENTATION, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x013E, 0x013F,
    0x0211, 0x0213, 0x0214, 0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,
})
_EXIF_TAGS = frozenset({
    0x829A, 0x829D, 0x8822, 0x8824, 0x8827, *range(0x8830, 0x8836), 0x9000, 0x9003, 0x9004, *range(0x9010, 0x9013),
    0x9101, 0x9102, *range(0x9201, 0x920B), 0x9214, 0x9286, *range(0x9290, 0x9293), *range(0x9400, 0x9406),
    *range(0xA000, 0xA005), 0xA20B, 0xA20E, 0xA20F, 0xA210, 0xA214, 0xA215, 0xA217, 0xA300, 0xA301, 0xA302,
    *range(0xA401, 0xA40B), 0xA40C, 0xA420, *range(0xA430, 0xA43D), 0xA460, 0xA461, 0xA462, 0xA500,
})
#: How a TIFF file holds its pixels; said anew by whoever writes them.
_STRUCTURE = frozenset({
    *range(0xFE, 0x10D), 0x111, 0x115, 0x116, 0x117, 0x118, 0x119, 0x11C, 0x13D, *range(0x140, 0x146), 0x152, 0x153,
    *range(0x156, 0x200), 0x212, 0x8773,
})
# fmt: on
#: Where each directory hangs, and what it may hold.
_FOLDERS = {_EXIF: _EXIF_TAGS, _GPS: frozenset(range(0x20)), _INTEROP: frozenset((1, 2, 0x1000, 0x1001, 0x1002))}


_NAMED = {0x927C: "maker's note", 0x02BC: "XMP", 0x8649: "Photoshop blocks", 0x014A: "previews"}

#: A JPEG segment ends here.
_LONGEST_BLOCK = 65_000


@dataclass(frozen=True)
class Exif:
    """What of an Exif block stays.

    Attributes:
        data: a block of its own, beginning with the TIFF header; empty where there is nothing to keep.
        orientation: 1..8.
        located: whether the old block holds a GPS directory.
        left_out: what it held and the new one does not, for people.
    """

    data: bytes = b""
    orientation: int = 1
    located: bool = False
    left_out: tuple[str, ...] = ()


@dataclass
class _Entry:
    kind: int
    count: int
    value: bytes


def rebuilt(block: bytes, *, strip_gps: bool, interop: bool = True) -> Exif:
    """The Exif block that may stay, in the byte order of the old one.

    Args:
        block: from a file, with or without the prefix ``Exif``; may be damaged, then nothing of it stays.
        strip_gps: leave the GPS directory out.
        interop: keep the directory that hangs from the Exif directory; Pillow writes it at a wrong place in TIFF files.
    """
    block = block.removeprefix(b"Exif\0\0")
    if not block:
        return Exif()
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    try:
        if order is None or struct.unpack_from(order + "H", block, 2)[0] != 42:
            raise struct.error("no TIFF header")
        reader = _Reader(block, order)
        first, more = reader.folder(reader.number("I", 4), _IMAGE_TAGS)
        data = reader.rebuild(first, strip_gps, interop)
    except struct.error:
        return Exif(left_out=("damaged Exif",))
    if len(data) > _LONGEST_BLOCK:
        return Exif(left_out=("Exif, for its length",))
    if more:
        reader.left_out.add("Exif thumbnail")
    return Exif(data, reader.orientation(first), reader.located, tuple(sorted(reader.left_out)))


class _Reader:
    def __init__(self, block: bytes, order: str) -> None:
        self._block, self._order = block, order
        self._pointers: dict[int, int] = {}
        self.left_out: set[str] = set()
        self.located = False

    def number(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(self._order + kind, self._block, at)[0])

    def folder(self, at: int, allowed: frozenset[int]) -> tuple[dict[int, _Entry], int]:
        """Entries of a directory that may stay, and where the next one begins; notes pointers and what is dropped."""
        found = {}
        count = self.number("H", at)
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, length = (self.number(k, place + more) for k, more in (("H", 0), ("H", 2), ("I", 4)))
            if tag in _FOLDERS:
                self._pointers.setdefault(tag, self.number("I", place + 8))
                continue
            size = _SIZES.get(kind, 0) * length
            value = self._value(place + 8, size) if 0 < size <= LONGEST_VALUE else b""
            if tag in allowed and value and not any(mark in value for mark in _PICTURES):
                found[tag] = _Entry(kind, length, value)
            elif tag not in _STRUCTURE:
                self.left_out.add(_NAMED.get(tag, "Exif entries of other kinds"))
        return found, self.number("I", at + 2 + 12 * count)

    def rebuild(self, first: dict[int, _Entry], strip_gps: bool, interop: bool) -> bytes:
        exif = self._sub(_EXIF)
        inner = {_INTEROP: _Folder(self._sub(_INTEROP))} if exif is not None and interop else {}
        gps = self._sub(_GPS)
        self.located = bool(gps)
        subs = {_EXIF: _Folder(exif, inner), _GPS: _Folder(None if strip_gps else gps)}
        root = _Folder(first, subs)
        if not root.present():
            return b""
        head = self._block[:2] + struct.pack(self._order + "HI", 42, 8)
        return head + root.packed(self._order, 8)

    def orientation(self, first: dict[int, _Entry]) -> int:
        entry = first.get(ORIENTATION)
        if entry is None or entry.kind != 3:
            return 1
        value = int(struct.unpack_from(self._order + "H", entry.value)[0])
        return value if 1 <= value <= 8 else 1

    def _sub(self, tag: int) -> dict[int, _Entry] | None:
        if tag not in self._pointers:
            return None
        return self.folder(self._pointers[tag], _FOLDERS[tag])[0]

    def _value(self, at: int, size: int) -> bytes:
        start = at if size <= 4 else self.number("I", at)
        value = self._block[start : start + size]
        if len(value) < size:
            raise struct.error("a value ends beyond the block")
        return value


class _Folder:
    """A directory to be written, with those that hang from it."""

    def __init__(self, entries: dict[int, _Entry] | None, subs: dict[int, _Folder] | None = None) -> None:
        self._entries = entries or {}
        self._subs = {tag: sub for tag, sub in (subs or {}).items() if sub.present()}

    def present(self) -> bool:
        return bool(self._entries or self._subs)

    def packed(self, order: str, at: int) -> bytes:
        """Its bytes when it begins at this offset: entries in rising order, no next directory, then values."""
        entries = {**self._entries, **{tag: _Entry(4, 1, b"") for tag in self._subs}}
        head, tail = struct.pack(order + "H", len(entries)), b""
        end = at + 2 + 12 * len(entries) + 4
        pack: Callable[..., bytes] = struct.pack
        for tag, entry in sorted(entries.items()):
            value = entry.value
            if tag in self._subs:
                value = pack(order + "I", end + len(tail))
                tail += self._subs[tag].packed(order, end + len(tail))
            elif len(value) > 4:
                more = value + b"\0" * (len(value) % 2)
                value = pack(order + "I", end + len(tail))
                tail += more
            head += pack(order + "HHI", tag, entry.kind, entry.count) + value.ljust(4, b"\0")
        return head + pack(order + "I", 0) + tail
