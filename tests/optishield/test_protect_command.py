"""``optishield protect`` from outside, with the real detector and synthetic heads as photos."""

from __future__ import annotations

import errno
import json
import os
import sys
import types
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from faces.detection import FaceDetector
from faces.families import load_recogniser
from faces.folders import crop_face
from faces.protection import Declaration, Threat
from faces.synthetic import generate
from ground import files
from optishield.cli import main
from photos import protection as protect_photos
from photos import verification
from photos.errors import PhotoError
from photos.files import read_photo
from photos.frames import find_faces
from photos.verification import THRESHOLDS, Verifier, judges
from protectors import registry
from protectors.base import PhotoProtector

NOISE = ("--method", "noise:linf=0.03")


class Brighten(PhotoProtector):
    """A protector as another package might bring it: additive, and it keeps what it was given."""

    about = Declaration(
        name="brighten", title="ten levels more", source="own", threats=frozenset({Threat.poison}), additive=True
    )
    calls: list[tuple[Tensor, Tensor]]

    def __init__(self) -> None:
        super().__init__(())

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        type(self).calls.append((images, identity))
        return images + 10 / 255


@pytest.fixture
def brighten(monkeypatch: pytest.MonkeyPatch) -> type[Brighten]:
    module = types.ModuleType("brightening")
    module.Brighten = Brighten  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "brightening", module)
    monkeypatch.setitem(registry._OWN, "brighten", "brightening:Brighten")
    Brighten.calls = []
    return Brighten


@pytest.fixture(scope="module", autouse=True)
def detector(yunet_weights: Path) -> FaceDetector:
    return FaceDetector(yunet_weights)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """(4, 256, 256, 3) synthetic heads."""
    return generate(4, 1, size=256, seed=50).images.permute(0, 2, 3, 1).numpy()


def _save(path: str, pixels: np.ndarray, **settings: Any) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return Path(path)


def _read(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def _json(capsys: Any) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_faces_of_a_photo_are_protected_and_the_rest_stays(heads: np.ndarray, capsys: Any) -> None:
    wide = np.full((400, 900, 3), 70, np.uint8)
    wide[60:316, 300:556] = heads[0]
    photo = _save("a.png", wide)
    before = photo.read_bytes()
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    told = _json(capsys)
    assert photo.read_bytes() == before
    change = np.abs(_read("new/a.png") - wide)
    assert 5 <= change.max() <= 7
    assert not change[:, :150].any()
    assert not change[:, 700:].any()
    (one,) = told["photos"]
    assert (one["file"], one["result"], one["protected"], one["reason"]) == ("a.png", "new/a.png", True, None)
    ((left, top, width, height),) = [face["box"] for face in one["faces"]]
    assert change[round(top) : round(top + height), round(left) : round(left + width)].mean() > 1
    assert told["settings"] == {"linf": "0.03"}
    assert told["all_protected"] is True


def test_folders_keep_their_layout_and_a_seed_its_bits(heads: np.ndarray, capsys: Any) -> None:
    _save("in/x/a.png", heads[0])
    _save("in/x/y/b.jpg", heads[1], quality=92)
    _save("in/.hidden/c.png", heads[2])
    Path("in/x/notes.txt").write_text("no photo")
    for seed, out in (("1", "first"), ("1", "again"), ("2", "other")):
        assert main(["protect", "in", *NOISE, "--out", out, "--seed", seed]) == 0
    found = {
        out: {str(path.relative_to(out)): path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
        for out in ("first", "again", "other")
    }
    assert set(found["first"]) == {"x/a.png", "x/y/b.jpg"}
    assert found["first"] == found["again"]
    assert found["first"]["x/a.png"] != found["other"]["x/a.png"]
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["photo", "faces", "protected", "result"]
    assert out.splitlines()[1].split() == ["in/x/a.png", "1", "1", "first/x/a.png"]
    assert err.splitlines()[0].endswith("protecting photos (2 steps)")


@pytest.mark.parametrize("orientation", [3, 6])
def test_turned_photos_are_protected_where_the_face_is(heads: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _save("in/straight.png", heads[0])
    _save("in/turned.png", np.ascontiguousarray(np.rot90(heads[0], {3: 2, 6: 1}[orientation])), exif=exif)
    assert main(["protect", "in", "--method", "pixelate:cells=8", "--out", "new", "--quiet"]) == 0
    straight, turned = Path("new/straight.png"), Path("new/turned.png")
    assert read_photo(turned).exif.orientation == orientation
    assert np.array_equal(_read(straight), read_photo(turned).upright)
    assert np.abs(_read(straight) - heads[0]).mean() > 10


def test_hidden_face_leaves_no_detail_where_a_method_replaces(heads: np.ndarray, detector: FaceDetector) -> None:
    sharp = np.kron(heads[0], np.ones((3, 3, 1), np.uint8))
    _save("a.png", sharp)
    assert main(["protect", "a.png", "--method", "pixelate:cells=6", "--out", "new", "--quiet"]) == 0
    left, top, width, height = detector.detect(sharp)[0].box.round().astype(int)
    inside = _read("new/a.png")[top : top + height, left : left + width]
    # Six squares a frame: nearly all neighbours are equal.
    assert float((np.diff(inside, axis=1) == 0).mean()) > 0.8
    assert float((np.diff(sharp[top : top + height, left : left + width].astype(int), axis=1) == 0).mean()) < 0.8


def test_forty_faces_in_one_photo(heads: np.ndarray, brighten: type[Brighten], capsys: Any) -> None:
    small = heads[:, ::2, ::2] // 5 * 4  # nothing so bright that it is cut off
    rows = [np.concatenate([small[(row + column) % 4] for column in range(8)], axis=1) for row in range(5)]
    group = np.concatenate(rows)
    _save("group.png", group)
    assert main(["protect", "group.png", "--method", "brighten", "--out", "new", "--json", "--quiet"]) == 0
    (one,) = _json(capsys)["photos"]
    assert len(one["faces"]) == 40
    assert all(face["protected"] for face in one["faces"])
    numbers = torch.cat([identity for _, identity in brighten.calls])
    assert sorted(numbers.tolist()) == list(range(40))
    change = _read("new/group.png") - group
    assert set(np.unique(change)) <= {0, 10}
    for left, top, width, height in (np.round(face["box"]).astype(int) for face in one["faces"]):
        middle = np.s_[top + height // 4 : top + 3 * height // 4, left + width // 4 : left + 3 * width // 4]
        assert (change[middle] == 10).all()


def test_photos_are_worked_on_together_as_memory_allows(
    heads: np.ndarray, brighten: type[Brighten], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        _save(f"in/{number}.png", heads[number])
    assert main(["protect", "in", "--method", "brighten", "--out", "together", "--quiet"]) == 0
    assert [len(images) for images, _ in brighten.calls] == [4]
    monkeypatch.setattr(protect_photos, "BATCH_PIXELS", 256 * 256)
    assert main(["protect", "in", "--method", "brighten", "--out", "single", "--quiet"]) == 0
    assert [len(images) for images, _ in brighten.calls[1:]] == [1] * 4
    assert [path.read_bytes() for path in sorted(Path("together").iterdir())] == [
        path.read_bytes() for path in sorted(Path("single").iterdir())
    ]


def test_small_faces_are_named_and_never_passed_over(heads: np.ndarray, brighten: type[Brighten], capsys: Any) -> None:
    two = np.full((300, 500, 3), 80, np.uint8)
    two[20:276, 10:266] = heads[0]
    two[100:148, 380:428] = np.asarray(Image.fromarray(heads[1]).resize((48, 48), Image.Resampling.LANCZOS))
    _save("two.png", two)
    _save("tiny.png", two[80:170, 350:460])
    assert main(["protect", "two.png", "tiny.png", "--method", "brighten", "--out", "new", "--json", "--quiet"]) == 6
    out, err = capsys.readouterr()
    first, second = json.loads(out)["photos"]
    assert (first["result"], first["protected"], second["result"]) == ("new/two.png", False, None)
    assert [face["protected"] for face in first["faces"] + second["faces"]] == [True, False, False]
    assert first["faces"][1]["eyes_px"] < 14.84
    assert sorted(path.name for path in Path("new").iterdir()) == ["two.png"]
    eyes = round(first["faces"][1]["eyes_px"])
    assert f"NOT PROTECTED: face 2 of 2 in new/two.png: its eyes are {eyes} pixels apart, and 15 are needed." in err
    assert "NOT PROTECTED: tiny.png shows faces that are too small: its eyes are" in err


def test_other_photos_go_on_when_one_cannot_be_protected(heads: np.ndarray, capsys: Any) -> None:
    _save("in/1-face.png", heads[0])
    _save("in/2-nobody.png", np.full((200, 200, 3), 128, np.uint8))
    Path("in/3-damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    Path("in/4-moving.gif").write_bytes(b"GIF89a")
    _save("in/5-dot.bmp", heads[0][:1, :1])
    _save("in/6-face.webp", heads[1], lossless=True)
    assert main(["protect", "in", *NOISE, "--out", "new", "--quiet"]) == 6
    out, err = capsys.readouterr()
    assert sorted(path.name for path in Path("new").iterdir()) == ["1-face.png", "6-face.webp"]
    assert [line.split()[1:3] for line in out.splitlines()[1:]] == [
        ["1", "1"], ["0", "0"], ["0", "0"], ["0", "0"], ["0", "0"], ["1", "1"],
    ]  # fmt: skip
    lines = err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("optishield: NOT PROTECTED: in/") for line in lines)
    assert lines[0].endswith("in/2-nobody.png shows no face that the detector finds; nothing was protected.")
    assert "is damaged" in lines[1]


def test_only_a_photo_without_a_face(capsys: Any) -> None:
    _save("sky.png", np.full((100, 100, 3), 200, np.uint8))
    assert main(["protect", "sky.png", *NOISE, "--out", "new", "--json", "--quiet"]) == 6
    told = _json(capsys)
    assert told["all_protected"] is False
    assert told["photos"][0]["faces"] == []
    assert not Path("new").exists()


def test_nothing_begins_where_a_result_would_be_lost(heads: np.ndarray, capsys: Any, brighten: type[Brighten]) -> None:
    _save("a/p.png", heads[0])
    _save("b/P.png", heads[1])
    _save("new/p.png", heads[2])
    before = Path("new/p.png").read_bytes()
    for words, said in (
        (["b/P.png", "a/p.png", "--out", "other"], "b/P.png and a/p.png would both become other/p.png; protect"),
        (["a", "--out", "new"], "new/p.png exists already; name another folder with --out."),
        (["a", "--out", "a/new"], "a/new lies in a, whose photos are protected; name a folder outside"),
        (["a", "--out", "a/p.png"], "a/p.png is a file, not a folder; name another folder with --out."),
    ):
        assert main(["protect", *words, "--method", "brighten"]) == 3
        assert said in capsys.readouterr().err
    assert brighten.calls == []
    assert Path("new/p.png").read_bytes() == before
    assert not Path("other").exists()


def test_read_only_folder(heads: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _save("a.png", heads[0])
    real = os.open

    def refuses(path: Any, flags: int, mode: int = 0o777) -> int:
        if str(path).startswith("new"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(files.os, "open", refuses)
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--quiet"]) == 6
    assert "NOT PROTECTED: new/a.png: Permission denied; change the permissions" in capsys.readouterr().err
    assert list(Path("new").iterdir()) == []


def test_missing_package_is_named(heads: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _save("a.png", heads[0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["protect", "a.png", *NOISE, "--out", "new"]) == 3
    assert capsys.readouterr().err.endswith("photos need Pillow; run: pip install 'optishield[protect]'\n")


def test_eight_megapixels(heads: np.ndarray, detector: FaceDetector, capsys: Any) -> None:
    large = np.asarray(Image.fromarray(heads[0]).resize((2304, 2304), Image.Resampling.BICUBIC))
    photo = np.full((2448, 3264, 3), 90, np.uint8)
    photo[100 : 100 + 2304, 800 : 800 + 2304] = large
    _save("large.jpg", photo, quality=90)
    assert main(["protect", "large.jpg", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    assert len(_json(capsys)["photos"][0]["faces"]) == 1
    assert np.abs(_read("new/large.jpg")[300:2300, 900:3000] - photo[300:2300, 900:3000]).mean() > 1
    assert len(find_faces(detector, read_photo(Path("new/large.jpg")).upright)) == 1


def test_verification_says_who_still_recognises(heads: np.ndarray, capsys: Any, faceres_weights: Path,
                                                sface_weights: Path, dlib_resnet_weights: Path) -> None:  # fmt: skip
    _save("a.png", heads[0])
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--verify", "--quiet"]) == 5
    out, err = capsys.readouterr()
    for name in ("sface", "dlib-resnet", "faceres"):
        assert f"new/a.png, face 1: NOT protected against {name} (similarity 0.9" in out
        assert f">= {THRESHOLDS[name]:g}, " in out
    assert out.endswith("Other recognisers, and these retrained on protected photos, may still succeed.\n")
    assert err == "optishield: gate not met: 1 of 1 protected faces are still recognised.\n"

    assert main(["protect", "a.png", "--method", "pixelate:cells=2", "--out", "grey", "--verify", "--json"]) in (0, 5)
    told = _json(capsys)
    checks = told["photos"][0]["faces"][0]["checks"]
    assert [(check["recogniser"], check["condition"]) for check in checks] == [
        (name, condition) for name in ("sface", "dlib-resnet", "faceres")
        for condition in ("as saved", "JPEG 75", "half size")
    ]  # fmt: skip
    assert all(check["matched"] == (check["similarity"] >= check["threshold"]) for check in checks)
    assert not any(check["matched"] for check in checks if check["recogniser"] == "sface")
    assert told["verification"]["recognised"] == int(any(check["matched"] for check in checks))


def test_verification_of_a_method_that_claims_something_else(
    heads: np.ndarray, capsys: Any, brighten: type[Brighten], sface_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "recogniser_names", lambda: ("sface",))
    _save("a.png", heads[0])
    assert main(["protect", "a.png", "--method", "brighten", "--out", "new", "--verify", "--quiet"]) == 5
    said = "brighten claims poison, not that a protected photo is not matched; --verify measures the latter."
    assert said in capsys.readouterr().err


def test_similarities_are_those_of_the_recogniser(
    heads: np.ndarray, detector: FaceDetector, sface_weights: Path
) -> None:
    before = heads[1]
    after = np.clip(before + np.random.default_rng(1).normal(0, 25, before.shape), 0, 255).astype(np.uint8)
    (face,) = detector.detect(before)
    ((saved, jpeg, half),) = Verifier(["sface"], detector).checks(before, after, [face.points5])
    stream = BytesIO()
    Image.fromarray(after).save(stream, "JPEG", quality=75)
    recogniser = load_recogniser("sface")

    def embedded(pixels: np.ndarray, points: np.ndarray, px: int) -> Tensor:
        frame, inside, _ = crop_face(pixels, points, px)
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        return recogniser.embed(image, torch.from_numpy(inside)[None])[0]

    clean = embedded(before, face.points5, 224)
    compressed = np.asarray(Image.open(stream))
    reduced = after.reshape(128, 2, 128, 2, 3).mean((1, 3)).round().astype(np.uint8)
    for check, pixels, px in ((saved, after, 224), (jpeg, compressed, 224), (half, reduced, 112)):
        (again,) = detector.detect(np.ascontiguousarray(pixels))
        assert check.found
        # The window around the face is searched at another scale than the whole photo.
        assert check.similarity == pytest.approx(float(clean @ embedded(pixels, again.points5, px)), abs=0.06)
    assert (saved.condition, jpeg.condition, half.condition) == ("as saved", "JPEG 75", "half size")
    assert saved.threshold == THRESHOLDS["sface"]


def test_a_face_that_is_gone_is_looked_for_at_its_old_place(
    heads: np.ndarray, detector: FaceDetector, sface_weights: Path
) -> None:
    (face,) = detector.detect(heads[0])
    (checks,) = Verifier(["sface"], detector).checks(heads[0], np.full_like(heads[0], 90), [face.points5])
    assert [check.found for check in checks] == [False] * 3
    assert all(check.similarity < 0.5 for check in checks)


@pytest.mark.parametrize(
    ("surrogates", "left"),
    [((), ["sface", "dlib-resnet", "faceres"]), (("sface",), ["dlib-resnet", "faceres"]),
     (("dlib-resnet", "sface"), ["faceres"]), (("other:arcface",), ["sface", "dlib-resnet", "faceres"])],
)  # fmt: skip
def test_recognisers_that_a_method_used_do_not_judge_it(surrogates: tuple[str, ...], left: list[str]) -> None:
    # What its settings are called says nothing.
    settings = (("surrogates", "faceres"), ("model", "faceres"))
    about = Declaration("x", "x", "own", frozenset(), settings=settings, surrogates=surrogates)
    assert judges(about) == left


def test_method_that_does_not_state_its_recognisers_is_not_verified() -> None:
    with pytest.raises(PhotoError, match=r"^x does not state which recognisers it uses, so nothing unseen can judge"):
        judges(Declaration("x", "x", "own", frozenset()))


def test_list_shows_what_the_registry_holds(capsys: Any) -> None:
    assert main(["protect", "--list", "--json"]) == 0
    methods = {one["name"]: one for one in _json(capsys)["methods"]}
    assert list(methods) == registry.names()
    noise = methods["noise"]
    assert (noise["source"], noise["threats"], noise["control"]) == ("control", ["dodge", "poison"], True)
    assert noise["parameters"] == [
        {"name": name, "kind": "float", "required": False, "default": None} for name in ("linf", "l2")
    ]
    assert methods["gaussian-blur"]["usage"] == "gaussian-blur:sd=0.1,px=128"
    assert {"stores", "auxiliary_data", "presets", "person_specific", "title", "package"} <= set(noise)
    assert main(["protect", "--list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("photo-cloak: Changes a single photo")
    assert shown[0].endswith(" Recommended.")
    assert "  usage     noise:linf=0.03" in shown
