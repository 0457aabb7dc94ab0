"""Names from outside can be shown: nothing in them acts on a terminal, and UTF-8 can hold them."""

from __future__ import annotations

import os

import pytest

from ground.text import encodable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("é日本 😀\u00a0\u3000", "é日本 😀\u00a0\u3000"),
        ("\x1b[31m.jpg", r"\x1b[31m.jpg"),
        ("a\x00\x7f\x9b", r"a\x00\x7f\x9b"),
        ("bell\a tab\t", r"bell\x07 tab\x09"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
        ("two\nlines\r\u2028", r"two\x0alines\x0d\u2028"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode("utf-8")


def test_line_breaks_stay_on_request() -> None:
    assert printable("a\n\x1bb\rc\n", lines=True) == "a\n\\x1bb\\x0dc\n"


def test_text_for_json_keeps_all_but_bytes_that_are_no_utf8() -> None:
    assert encodable(os.fsdecode(b"caf\xe9\x1b\n.jpg")) == "caf\\xe9\x1b\n.jpg"
    assert encodable("é😀") == "é😀"
