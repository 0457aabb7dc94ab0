"""Exif written anew from what may stay in a protected photo.

A file can show the unprotected face beside its pixels: as a thumbnail, as a preview in the maker's note, in XMP, in
Photoshop blocks, or in bytes that no entry points to. So nothing is cut out of the old block: a new one is built
of the entries below (Exif 3.0, CIPA DC-008; TIFF 6.0), their values copied byte by byte. What is not known to show no
face is not copied. And whoever hides a face does not want its owner's name beside it: unless everything is asked for,
entries that name people, places or a single device are left out too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from photos import exif_tags as tags


class Keep(StrEnum):
    """What of a photo's metadata a result keeps. Orientation, colour and resolution stay with each of them."""

    none = "none"
    """Nothing else."""
    camera = "camera"
    """Camera model, lens, exposure and date: nothing that names a person, a place or a single device."""
    all = "all"
    """Every entry that cannot hold a picture, the place and names included."""


#: Bytes of one value by the type of an entry: bytes, texts, numbers, fractions.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}

#: Types whose values are bytes of any meaning; the others are numbers.
_BYTES = frozenset({1, 2, 6, 7, 129})

#: Whole numbers that an orientation may be stored as.
_WHOLE = {1: "B", 3: "H", 4: "I"}

#: Longer values are left out: text and numbers are shorter, a picture of a face is not.
LONGEST_VALUE = 4096

#: No picture that shows a face is shorter than this.
_SHORTEST_PICTURE = 64

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*", b"ftyp")

#: A JPEG segment ends here.
LONGEST_BLOCK = 65_000

_DAMAGED = "damaged Exif"


@dataclass(frozen=True)
class Exif:
    """What of an Exif block stays.

    Attributes:
        data: A block of its own, beginning with the TIFF header; empty where there is nothing to keep.
        orientation: How the stored pixels are turned to be seen, 1..8.
        left_out: What the old block held and the new one does not, in words for people.
    """

    data: bytes = b""
    orientation: int = 1
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    value: bytes


def rebuilt(block: bytes, keep: Keep, *, interop: bool = True, upright: bool = False) -> Exif:
    """The Exif block that may stay, in the byte order of the old one.

    Of a damaged block stays what can be read.

    Args:
        block: Exif block of a file, with or without the prefix ``Exif``.
        keep: Which entries stay.
        interop: Keep the directory that hangs from the Exif directory; Pillow writes it at a wrong place in TIFF files.
        upright: The pixels were turned upright when they were read, so the orientation says nothing any more.
    """
    block = block.removeprefix(b"Exif\0\0")
    if not block:
        return Exif()
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8 or struct.unpack_from(order + "H", block, 2)[0] != 42:
        return Exif(left_out=(_DAMAGED,))
    reader = _Reader(block, order, keep)
    root = reader.root(interop=interop, upright=upright)
    data = reader.packed(root)
    if len(data) > LONGEST_BLOCK:
        root = _Reader(block, order, Keep.none).root(interop=interop, upright=upright)
        reader.left_out.add("most of the Exif, for its length")
        data = reader.packed(root)
    return Exif(data, _orientation(root.entries, order), tuple(sorted(reader.left_out)))


def _orientation(entries: dict[int, _Entry], order: str) -> int:
    entry = entries.get(tags.ORIENTATION)
    if entry is None or entry.kind not in _WHOLE:
        return 1
    value = int(struct.unpack_from(order + _WHOLE[entry.kind], entry.value)[0])
    return value if 1 <= value <= 8 else 1


def _may_be_picture(kind: int, value: bytes) -> bool:
    """Whether a value may hold a picture: bytes with the mark of one, unless all of it is readable text."""
    if kind not in _BYTES or len(value) < _SHORTEST_PICTURE or not any(mark in value for mark in _PICTURES):
        return False
    text = value.rstrip(b"\0").removeprefix(b"ASCII\0\0\0").removeprefix(b"UNICODE\0")
    try:
        return not text.decode("utf-8").replace("\r", "").replace("\n", "").replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return True


class _Reader:
    """Reads the directories of a block and notes what it does not keep."""

    def __init__(self, block: bytes, order: str, keep: Keep) -> None:
        self._block, self._order, self._keep = block, order, keep
        self._pointers: dict[int, int] = {}
        self.left_out: set[str] = set()

    def root(self, *, interop: bool, upright: bool) -> _Folder:
        """The first directory with those that hang from it."""
        entries, more = self._folder(self._number("I", 4) or 0, 0)
        if upright:
            entries.pop(tags.ORIENTATION, None)
        if more:
            self.left_out.add("Exif thumbnail")
        exif = self._sub(tags.EXIF)
        inner = {tags.INTEROP: _Folder(self._sub(tags.INTEROP))} if interop and exif is not None else {}
        subs = {tags.EXIF: _Folder(exif, inner)}
        if self._keep is Keep.all:
            subs[tags.GPS] = _Folder(self._sub(tags.GPS))
        elif tags.GPS in self._pointers:
            self.left_out.add("place (GPS)")
        return _Folder(entries, subs)

    def packed(self, root: _Folder) -> bytes:
        """The block that holds this directory."""
        if not root.present():
            return b""
        return self._block[:2] + struct.pack(self._order + "HI", 42, 8) + root.packed(self._order, 8)

    def _number(self, kind: str, at: int) -> int | None:
        """The number at an offset; None beyond the end of the block."""
        try:
            return int(struct.unpack_from(self._order + kind, self._block, at)[0])
        except struct.error:
            return None

    def _folder(self, at: int, which: int) -> tuple[dict[int, _Entry], int]:
        """Entries of a directory that may stay, and where the next one begins (0: nowhere)."""
        found: dict[int, _Entry] = {}
        count = self._number("H", at) if at >= 8 else None
        if count is None:
            self.left_out.add(_DAMAGED)
            return found, 0
        for place in range(at + 2, at + 2 + 12 * count, 12):
            if place + 12 > len(self._block):
                self.left_out.add(_DAMAGED)
                return found, 0
            tag, kind, length, offset = struct.unpack_from(self._order + "HHII", self._block, place)
            if tag in tags.FOLDERS and tag != which:
                self._pointers.setdefault(tag, offset)
            elif entry := self._entry(tag, kind, length, place, which):
                # Whoever shows a photo takes the first of two.
                found.setdefault(tag, entry)
        return found, self._number("I", at + 2 + 12 * count) or 0

    def _entry(self, tag: int, kind: int, length: int, place: int, which: int) -> _Entry | None:
        """The entry if it may stay; otherwise it is noted."""
        if which == 0 and tag in tags.STRUCTURE:
            return None
        size = _SIZES.get(kind, 0) * length
        known = tag in tags.CAMERA[which] or tag in tags.COLOUR[which] or tag in tags.FURTHER[which]
        allowed = tag in tags.COLOUR[which] or (
            known if self._keep is Keep.all else self._keep is Keep.camera and tag in tags.CAMERA[which]
        )
        if not allowed or not 0 < size <= LONGEST_VALUE:
            self.left_out.add(self._said(tag, which))
            return None
        start = place + 8 if size <= 4 else (self._number("I", place + 8) or 0)
        value = self._block[start : start + size]
        if len(value) < size:
            self.left_out.add(_DAMAGED)
            return None
        if _may_be_picture(kind, value):
            self.left_out.add(self._said(tag, which))
            return None
        return _Entry(kind, length, value)

    def _said(self, tag: int, which: int) -> str:
        if self._keep is Keep.none and tag in tags.CAMERA[which]:
            return "camera and date"
        return tags.NAMED.get(tag, "Exif entries of other kinds")

    def _sub(self, tag: int) -> dict[int, _Entry] | None:
        if tag not in self._pointers:
            return None
        return self._folder(self._pointers[tag], tag)[0]


class _Folder:
    """A directory to be written, with those that hang from it."""

    def __init__(self, entries: dict[int, _Entry] | None, subs: dict[int, _Folder] | None = None) -> None:
        self.entries = entries or {}
        self._subs = {tag: sub for tag, sub in (subs or {}).items() if sub.present()}

    def present(self) -> bool:
        return bool(self.entries or self._subs)

    def packed(self, order: str, at: int) -> bytes:
        """Its bytes when it begins at this offset: entries in rising order, no next directory, then values."""
        entries = {**self.entries, **{tag: _Entry(4, 1, b"") for tag in self._subs}}
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
