"""Enrolment files that somebody else made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from faces.protection import Enrolling
from optishield.cli import main
from photos.enrolments import Enrolment, enrolled, read_enrolment, write_enrolment
from photos.errors import PhotoError
from protectors.registry import make_protector

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


def _enrolment(method: str, people: list[int], side: int, px: int) -> Enrolment:
    masks = torch.ones(len(people), 3, side, side)
    kept = {"people": torch.tensor(people, dtype=torch.int64), "masks": masks}
    return Enrolment(method, make_protector(method).declaration.settings, px, 3, 0, kept)


@pytest.mark.parametrize(
    ("people", "side", "said"),
    [
        ([3], 112, "opom must see a person before it protects them: it was not shown 0"),
        ([], 112, "opom must see a person before it protects them: it was not shown 0"),
        ([0], 64, "opom was shown photos of 64 pixels and cannot protect photos of 112"),
    ],
    ids=["another number", "nobody", "other frames"],
)
def test_an_enrolment_of_somebody_else_is_refused_once_before_any_photo(
    tmp_path: Path, people: list[int], side: int, said: str, capsys: Any
) -> None:
    path = tmp_path / "other.safetensors"
    write_enrolment(path, _enrolment("opom", people, side, 112))
    with pytest.raises(PhotoError, match=rf"^\S+ does not fit photos of one person in frames of 112 .*{said}"):
        enrolled(read_enrolment(path), path)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"never opened")
    words = ["protect", str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), "--out", str(tmp_path / "out")]
    assert main([*words, "--enrolment", str(path), "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1 and said in err
    assert not (tmp_path / "out").exists()


def test_an_enrolment_of_the_person_is_ready(tmp_path: Path) -> None:
    enrolment = _enrolment("opom", [0], 112, 112)
    assert isinstance(enrolled(enrolment, tmp_path / "me"), Enrolling)


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
