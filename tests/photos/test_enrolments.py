"""Enrolment files that somebody else made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from optishield.cli import main
from photos.enrolments import Enrolment, read_enrolment, write_enrolment
from photos.errors import PhotoError

ABOUT: dict[str, Any] = {
    "kind": "optishield enrolment 1", "method": "opom", "settings": [["a", "b"]], "px": 112, "photos": 3, "seed": 0,
}  # fmt: skip


def _written(path: Path, about: Any) -> Path:
    text = about if isinstance(about, str) else json.dumps(about)
    save_file({"masks": torch.zeros(1, 3, 112, 112)}, path, metadata={"enrolment": text})
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    masks = torch.arange(6.0).reshape(1, 3, 2)
    write_enrolment(tmp_path / "me", Enrolment("opom", (("a", "b"),), 112, 3, 7, {"masks": masks}))
    read = read_enrolment(tmp_path / "me")
    assert (read.method, read.settings, read.px, read.photos, read.seed) == ("opom", (("a", "b"),), 112, 3, 7)
    assert torch.equal(read.kept["masks"], masks)


@pytest.mark.parametrize(
    "change",
    [{"px": px} for px in (0, -5, 1, 7, True, 3.7, "112", None, 10**9, [112])]
    + [{"photos": 0}, {"photos": True}, {"seed": -1}, {"seed": 0.5}, {"seed": 10**40}, {"method": 5}]
    + [{"settings": settings} for settings in ("ab", [["a"]], [["a", 5]], [5], {"a": "b"})],
    ids=str,
)
def test_an_enrolment_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], capsys: Any
) -> None:
    path = _written(tmp_path / "me.safetensors", {**ABOUT, **change})
    (name,) = change
    with pytest.raises(
        PhotoError, match=rf"me\.safetensors is no enrolment that can be used: {name} must be .*; make one"
    ):
        read_enrolment(path)
    (tmp_path / "a.jpg").touch()
    words = ["protect", str(tmp_path / "a.jpg"), "--enrolment", str(path), "--out", str(tmp_path / "out")]
    assert main(words) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "", "nothing", "[]", "5", "null",
             '{"kind": "another"}', '{"kind": "optishield enrolment 1", "px": 1e999}'],
    ids=["lists", "tables", "empty", "text", "list", "number", "null", "kind", "infinite"],
)  # fmt: skip
def test_text_that_is_no_enrolment_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = _written(tmp_path / "me", text)
    with pytest.raises(
        PhotoError, match=r"^\S+ is no enrolment; make one with: optishield enroll PHOTO\.\.\. --out FILE$"
    ):
        read_enrolment(path)
