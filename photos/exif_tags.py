"""Entries of Exif directories by what they tell (Exif 3.0, CIPA DC-008; TIFF 6.0).

The directories are named by the entry that points to them; 0 is the first one.
"""

from __future__ import annotations

ORIENTATION = 0x0112
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005

#: Entries that point to a directory.
FOLDERS = frozenset({EXIF, GPS, INTEROP})

# fmt: off
#: What decides how the pixels look: orientation, resolution, colour. It always stays.
COLOUR: dict[int, frozenset[int]] = {
    0: frozenset({ORIENTATION, 0x011A, 0x011B, 0x0128, 0x013E, 0x013F, 0x0211, 0x0213, 0x0214}),
    EXIF: frozenset({0x9000, 0x9101, 0xA000, 0xA001, 0xA500}),
    GPS: frozenset(),
    INTEROP: frozenset({1, 2}),
}

#: Camera model, lens, exposure and date.
CAMERA: dict[int, frozenset[int]] = {
    0: frozenset({0x010F, 0x0110, 0x0132}),
    EXIF: frozenset({
        0x829A, 0x829D, 0x8822, 0x8824, 0x8827, *range(0x8830, 0x8836), 0x9003, 0x9004, *range(0x9010, 0x9013), 0x9102,
        *range(0x9201, 0x920B), 0x9214, *range(0x9290, 0x9293), 0xA002, 0xA003, 0xA20B, 0xA20E, 0xA20F, 0xA210, 0xA214,
        0xA215, 0xA217, 0xA300, 0xA301, 0xA302, *range(0xA401, 0xA40B), 0xA40C, 0xA432, 0xA433, 0xA434, 0xA460, 0xA461,
        0xA462,
    }),
    GPS: frozenset(),
    INTEROP: frozenset({0x1001, 0x1002}),
}

#: What may name a person, a place or a single device, or is free text.
FURTHER: dict[int, frozenset[int]] = {
    0: frozenset({0x010D, 0x010E, 0x0131, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0)}),
    EXIF: frozenset({
        0x9286, *range(0x9400, 0x9406), 0xA004, 0xA420, 0xA430, 0xA431, *range(0xA435, 0xA43D),
    }),
    GPS: frozenset(range(0x20)),
    INTEROP: frozenset({0x1000}),
}

#: How a TIFF file holds its pixels; said anew by whoever writes them.
STRUCTURE = frozenset({
    *range(0xFE, 0x10D), 0x111, 0x115, 0x116, 0x117, 0x118, 0x119, 0x11C, 0x13D, *range(0x140, 0x146), 0x152, 0x153,
    *range(0x156, 0x200), 0x212, 0x8773,
})

#: Words for entries that may be left out.
NAMED = {
    0x927C: "maker's note", 0x02BC: "XMP", 0x8649: "Photoshop blocks", 0x83BB: "IPTC", 0x014A: "previews",
    0x010D: "titles", 0x010E: "titles", 0x9C9B: "titles", 0x9C9F: "titles", 0xA436: "titles",
    0x013B: "artist", 0x9C9D: "artist", 0xA437: "artist", 0xA438: "artist",
    0x8298: "copyright", 0xA430: "owner", 0x013C: "computer",
    0x9286: "comments", 0x9C9C: "comments", 0x9C9E: "keywords",
    0xA431: "serial numbers", 0xA435: "serial numbers", 0xA420: "unique ids",
    0x0131: "software", 0xA439: "software", 0xA43A: "software", 0xA43B: "software", 0xA43C: "software",
    0x4746: "rating", 0x4749: "rating", 0xA004: "file names",
    **dict.fromkeys(range(0x9400, 0x9406), "surroundings (weather, depth, motion)"),
}
# fmt: on
