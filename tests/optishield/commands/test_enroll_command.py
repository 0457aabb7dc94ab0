"""``optishield enroll``, and what ``protect --enrolment`` makes of its file."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from faces.protection import Declaration, Threat
from faces.synthetic import generate
from optishield.cli import main
from protectors import registry
from protectors.base import PhotoProtector
from protectors.person import PersonProtector

LEVELS = 6


class Stripes(PersonProtector):
    """A mask that tells how it was made: stripes, whose sign the generator draws, of one level for each photo seen."""

    about = Declaration(
        name="stripes", title="stripes", source="own", threats=frozenset({Threat.dodge}), person_specific=True,
        additive=True,
    )  # fmt: skip

    def __init__(self, *, width: int = 8) -> None:
        super().__init__((), levels=LEVELS, width=width)
        self._width = width

    def masks(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        sign = 1 - 2 * float(torch.randint(0, 2, (), generator=generator))
        rows = torch.arange(images.shape[-1]) // self._width % 2
        return (sign * len(images) / 255 * rows).float()[None, None, :, None].expand(1, 3, -1, images.shape[-1]).clone()


class Forgetful(PhotoProtector):
    """Person-specific, but nothing of it can be kept."""

    about = Declaration(
        name="forgetful", title="forgets", source="own", threats=frozenset(), person_specific=True, additive=True
    )

    def __init__(self) -> None:
        super().__init__(())

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        return images


@pytest.fixture(scope="module", autouse=True)
def fetched(yunet_weights: Path) -> None:
    """The detector."""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("striping")
    module.Stripes, module.Forgetful = Stripes, Forgetful  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "striping", module)
    monkeypatch.setitem(registry._OWN, "stripes", "striping:Stripes")
    monkeypatch.setitem(registry._OWN, "forgetful", "striping:Forgetful")


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """(4, 256, 256, 3) photos of one synthetic person."""
    return generate(1, 4, size=256, seed=60).images.permute(0, 2, 3, 1).numpy() // 5 * 4 + 10


@pytest.fixture
def photos(heads: np.ndarray) -> np.ndarray:
    """Three photos in the folder ``me``, and a fourth beside it."""
    Path("me").mkdir()
    for number, head in enumerate(heads):
        Image.fromarray(head).save("new.png" if number == 3 else f"me/{number}.png")
    return heads


def _change(path: str, before: np.ndarray) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int) - before


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str, code: int = 0) -> dict[str, Any]:
        assert main([*words, "--json", "--quiet"]) == code
        return json.loads(capsys.readouterr().out)

    return call


def test_a_person_is_enrolled_once_and_then_protected(photos: np.ndarray, run: Run) -> None:
    told = run("enroll", "me", "--method", "stripes:width=16", "--out", "kept/me.safetensors")
    assert {key: told[key] for key in ("enrolment", "method", "photos", "frame_px", "refused")} == {
        "enrolment": "kept/me.safetensors", "method": "stripes:width=16", "photos": 3, "frame_px": 224, "refused": [],
    }  # fmt: skip
    told = run("protect", "new.png", "--enrolment", "kept/me.safetensors", "--out", "out")
    assert (told["method"], told["settings"], told["all_protected"]) == ("stripes", {"width": "16"}, True)
    change = np.abs(_change("out/new.png", photos[3]))
    assert change.max() == 3  # one level for each photo that was seen
    rows = change[:, 128, 0]
    assert (rows == 0).any()
    assert (rows == 3).any()
    # The same method may be named, another not.
    assert run("protect", "new.png", "--enrolment", "kept/me.safetensors", "--method", "stripes:width=16",
               "--out", "again")["all_protected"]  # fmt: skip
    assert Path("again/new.png").read_bytes() == Path("out/new.png").read_bytes()


def test_the_file_holds_the_mask_and_how_it_was_made_and_no_photo(photos: np.ndarray, run: Run) -> None:
    run("enroll", "me", "--method", "stripes", "--seed", "5", "--out", "me.safetensors")
    with safe_open("me.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["enrolment"])
        assert set(file.keys()) == {"masks", "people"}
        assert file.get_tensor("masks").shape == (1, 3, 224, 224)
    assert about.pop("kind") == "optishield enrolment 1"
    assert about == {"method": "stripes", "settings": [["width", "8"]], "px": 224, "photos": 3, "seed": 5}
    assert Path("me.safetensors").stat().st_size < 4 * 3 * 224 * 224 + 1000


def test_the_seed_decides(photos: np.ndarray, run: Run) -> None:
    for seed in ("0", "1", "2", "3"):
        run("enroll", "me", "--method", "stripes", "--seed", seed, "--out", f"{seed}.safetensors")
        run("enroll", "me", "--method", "stripes", "--seed", seed, "--out", f"{seed}-again.safetensors")
        assert Path(f"{seed}.safetensors").read_bytes() == Path(f"{seed}-again.safetensors").read_bytes()
    signs = {np.sign(_mask(f"{seed}.safetensors").sum()) for seed in range(4)}
    assert signs == {-1.0, 1.0}


def _mask(path: str) -> np.ndarray:
    with safe_open(path, framework="np") as file:
        return file.get_tensor("masks")


def test_photos_that_cannot_be_used_are_named(photos: np.ndarray, capsys: Any) -> None:
    Image.fromarray(np.concatenate([photos[0], photos[1]], axis=1)).save("me/two.png")
    Image.fromarray(np.full((99, 99, 3), 90, np.uint8)).save("me/wall.png")
    Path("me/broken.jpg").write_bytes(b"nothing")
    with Image.open("me/0.png") as image:
        image.resize((70, 70)).save("me/small.png")
    assert main(["enroll", "me", "--method", "stripes", "--out", "me.safetensors", "--quiet"]) == 6
    out, err = capsys.readouterr()
    assert dict(line.split() for line in out.splitlines())["photos"] == "3"
    assert [line.removeprefix("optishield: not used: me/")[:40] for line in err.splitlines()] == [
        "broken.jpg is damaged, or no JPEG, PNG, ",
        "small.png: the face is too small: an eye",
        "two.png shows 2 faces, so whose mask to ",
        "wall.png shows no face; use a photo of t",
    ]


def test_an_enrolment_is_not_laid_on_somebody_else(photos: np.ndarray, run: Run, capsys: Any) -> None:
    run("enroll", "me", "--method", "stripes", "--out", "me.safetensors")
    Image.fromarray(np.concatenate([photos[0], photos[1]], axis=1)).save("two.png")
    assert main(["protect", "two.png", "--enrolment", "me.safetensors", "--out", "out", "--json", "--quiet"]) == 6
    out, err = capsys.readouterr()
    (one,) = json.loads(out)["photos"]
    assert one["result"] is None
    assert [face["protected"] for face in one["faces"]] == [False, False]
    assert "two.png shows 2 faces, but an enrolment is of one person; crop the photo to that person." in err
    assert not Path("out").exists()


def test_what_cannot_be_enrolled_or_used(photos: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.full((99, 99, 3), 90, np.uint8)).save("wall.png")
    Path("old.safetensors").write_bytes(b"precious")
    enroll = ("enroll", "me", "--method", "stripes", "--out")
    for words, code, said in (
        ([*enroll, "old.safetensors"], 3, "old.safetensors exists already; name another file with --out."),
        (["enroll", "wall.png", "--method", "stripes", "--out", "x"], 3,
         "None of 1 photos can be used to enrol; the first: wall.png shows no face; use a photo of the person alone."),
        (["enroll", "me", "--method", "noise:linf=0.03", "--out", "x"], 3,
         "noise needs no enrolment; run: optishield protect PHOTOS --method noise:linf=0.03 --out DIR"),
        (["enroll", "me", "--method", "forgetful", "--out", "x"], 3,
         "forgetful cannot keep what it learns of a person, so it cannot enrol; choose another method."),
        (["protect", "new.png", "--method", "stripes", "--out", "out"], 3,
         "stripes protects one person and must see photos of them first; run: optishield enroll PHOTOS --method "
         "stripes --out ME.safetensors, then add --enrolment ME.safetensors"),
        (["protect", "new.png", "--enrolment", "old.safetensors", "--out", "out"], 3,
         "old.safetensors is no enrolment; make one with: optishield enroll PHOTO... --out FILE"),
        (["protect", "new.png", "--enrolment", "none.safetensors", "--out", "out"], 3,
         "none.safetensors: No such file or directory; check the path."),
        ([*enroll, "me.safetensors"], 0, None),
        (["protect", "new.png", "--enrolment", "me.safetensors", "--method", "stripes:width=9", "--out", "out"], 2,
         "me.safetensors was made with --method stripes; drop --method stripes:width=9, or enrol with it."),
    ):  # fmt: skip
        assert main([*words, "--quiet"]) == code
        err = capsys.readouterr().err
        assert err == ("" if said is None else f"optishield: error: {said}\n")
    assert Path("old.safetensors").read_bytes() == b"precious"
    assert not Path("x").exists()
    assert not Path("out").exists()

    class Wider(Stripes):
        def __init__(self, *, width: int = 12) -> None:
            super().__init__(width=width)

    monkeypatch.setattr(sys.modules["striping"], "Stripes", Wider)
    assert main(["protect", "new.png", "--enrolment", "me.safetensors", "--out", "out", "--quiet"]) == 3
    assert "was made by stripes with settings that this version no longer has; enrol" in capsys.readouterr().err


def test_smaller_faces_than_the_mask_are_refused(photos: np.ndarray, run: Run, capsys: Any) -> None:
    run("enroll", "me", "--method", "stripes", "--out", "me.safetensors")
    with Image.open("new.png") as image:
        image.resize((70, 70)).save("small.png")
    assert main(["protect", "small.png", "--enrolment", "me.safetensors", "--out", "out", "--quiet"]) == 6
    assert "pixels apart, and 30 are needed; use a larger photo." in capsys.readouterr().err
