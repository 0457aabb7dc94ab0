"""What becomes of a value in JSON: it reads back, any parser takes it, and a terminal may show it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from ground.errors import GroundError
from ground.jsonable import json_bytes, plain


class _Section(BaseModel):
    bits: int = 8
    rate: float = float("nan")


def test_numbers_of_every_kind_become_plain_ones() -> None:
    value = {"a": np.float32(0.5), "b": [torch.tensor([1, 2]), (True, None)], 3: Path("x"), "c": _Section()}
    assert plain(value, "x") == {
        "a": 0.5, "b": [[1, 2], [True, None]], "3": "x", "c": {"bits": 8, "rate": None},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"rates": [0.0, float("inf")]}, r"^a: rates\[1\] is inf, which JSON cannot hold"),
        ({"rates": {"x": {1}}}, r"^a: rates: x holds a set, which JSON cannot hold"),
    ],
)
def test_what_json_cannot_hold_is_named_by_its_key(value: object, message: str) -> None:
    with pytest.raises(GroundError, match=message):
        json_bytes(value, "a")


def test_a_name_that_is_no_utf8_keeps_its_bytes_as_escapes() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    data = json_bytes({name: [name, Path(name)]}, "a")
    assert json.loads(data.decode("utf-8")) == {r"caf\xe9.jpg": [r"caf\xe9.jpg"] * 2}


def test_nothing_in_the_text_acts_on_a_terminal_and_all_reads_back() -> None:
    value = {"a\x1b[31m": "\x9b31m \u202e \u2028 é 日本 😀 \x7f\n"}
    data = json_bytes(value, "a").decode("utf-8")
    assert all(line.isprintable() for line in data.splitlines())
    assert "é 日本 😀" in data
    assert json.loads(data) == value
