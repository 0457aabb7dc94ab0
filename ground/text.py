"""Text from outside (names of files, messages of devices) in a form that a terminal and JSON can show."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Text without anything that a terminal obeys instead of showing it.

    Control characters, escape sequences, invisible marks that reorder text, and bytes that are no UTF-8 become escapes
    as Python writes them: ``\x1b``, ``\u202e``. Spaces of every kind and all visible characters stay.

    Args:
        text: Any text, also the name of a file as ``os.fsdecode`` gives it.
        lines: Whether line breaks stay; otherwise they become escapes, so that the result is one line.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or (lines and character == "\n") or _is_space(character)
        else escaped(character)
        for character in text
    )


def encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: a byte that is no UTF-8 becomes an escape, ``caf\xe9.jpg``; all else stays."""
    return _SURROGATE.sub(lambda found: escaped(found.group()), text)


def escaped(character: str) -> str:
    r"""One character as an escape; a byte that ``os.fsdecode`` could not read gives that byte, ``\xe9``."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _is_space(character: str) -> bool:
    """A space of another width; not the separators of lines and paragraphs."""
    return character.isspace() and ord(character) > 0x9F and character not in "\u2028\u2029"
