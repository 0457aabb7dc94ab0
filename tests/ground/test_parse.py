"""JSON and TOML from outside end in a value or in one sentence."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from ground.errors import GroundError
from ground.parse import MOST_DEEP, json_of, toml_of

DEEP = 100_000


def lists(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_a_byte_order_mark_is_passed_over() -> None:
    assert toml_of(b"\xef\xbb\xbfa = 1\n", "x") == {"a": 1} == toml_of("\ufeffa = 1\n", "x")
    assert json_of(b'\xef\xbb\xbf{"a": 1}', "x") == {"a": 1}


@pytest.mark.parametrize(
    "text", [lists(DEEP), "[" * DEEP, '{"a":' * DEEP, lists(MOST_DEEP + 2), '{"a":' * 900 + "1" + "}" * 900]
)
def test_deep_json_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(GroundError, match="the journal holds lists or tables nested more than 64 times"):
        json_of(text, "the journal")


@pytest.mark.parametrize(
    "text", [f"a = {lists(DEEP)}", "a = " + "{b=" * 5000, ".".join(["a"] * DEEP) + " = 1", f"[{'.'.join('a' * 500)}]"]
)
def test_deep_toml_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(GroundError, match=r"bench\.toml holds lists or tables nested more than 64 times"):
        toml_of(text, "bench.toml")


def test_what_is_as_deep_as_allowed_is_read() -> None:
    value: Any = json_of(lists(MOST_DEEP + 1), "x")
    assert json.dumps(value) == lists(MOST_DEEP + 1)
    assert len(json_of("[" + ",".join(["[1.5]"] * 1000) + "]", "x")) == 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e400", "the number 1e400 is too large"),
        ('{"a": 1', r"line 1 column 8"),
        ("1" * 5000, "5000 digits"),
        (b"\xff\xfe", r"x is not text in UTF-8 \(byte 0 is 255\); save it as UTF-8"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(GroundError, match=message):
        json_of(text, "x")


def test_what_is_no_toml_is_named_with_its_place() -> None:
    with pytest.raises(GroundError, match=r"bench.toml is no valid TOML: .*line 2, column 8\); correct that place\.$"):
        toml_of("a = 1\nb = [1 2]\n", "bench.toml")


def test_toml_keeps_the_infinity_that_it_has_and_makes_no_other() -> None:
    values = toml_of("a = -inf\nb = nan\nc = 1e300", "x")
    assert (values["a"], values["c"]) == (-math.inf, 1e300)
    assert math.isnan(values["b"])
    with pytest.raises(GroundError, match=r"x is no valid TOML: the number -1e400 is too large; correct that place\.$"):
        toml_of("a = -1e400", "x")
