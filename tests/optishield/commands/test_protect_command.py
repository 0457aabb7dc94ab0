"""``optishield protect`` from outside, with the real detector and synthetic heads as photos: what becomes of them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faces.detection import FaceDetector
from optishield.cli import main
from photos import protection as photo_protection
from photos.files import read_photo
from photos.finding import find_faces
from protectors import registry
from tests.optishield.commands.protecting import NOISE, Brighten, pixels_of, printed_json, save

pytestmark = pytest.mark.usefixtures("detector", "own_folder")


def test_faces_of_a_photo_are_protected_and_the_rest_stays(heads: np.ndarray, capsys: Any) -> None:
    wide = np.full((400, 900, 3), 70, np.uint8)
    wide[60:316, 300:556] = heads[0]
    photo = save("a.png", wide)
    before = photo.read_bytes()
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    told = printed_json(capsys)
    assert photo.read_bytes() == before
    change = np.abs(pixels_of("new/a.png") - wide)
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
    save("in/x/a.png", heads[0])
    save("in/x/y/b.jpg", heads[1], quality=92)
    save("in/.hidden/c.png", heads[2])
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
    assert [line.partition("] ")[2] for line in err.splitlines()[:3]] == [
        "protecting photos (2 steps)", "a.png: 1 face in hundredths (100 steps)",
        "b.jpg: 1 face in hundredths (100 steps)",
    ]  # fmt: skip


@pytest.mark.parametrize("orientation", [3, 6])
def test_turned_photos_are_protected_where_the_face_is(heads: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save("in/straight.png", heads[0])
    save("in/turned.png", np.ascontiguousarray(np.rot90(heads[0], {3: 2, 6: 1}[orientation])), exif=exif)
    assert main(["protect", "in", "--method", "pixelate:cells=8", "--out", "new", "--quiet"]) == 0
    straight, turned = Path("new/straight.png"), Path("new/turned.png")
    assert read_photo(turned).exif.orientation == orientation
    assert np.array_equal(pixels_of(straight), read_photo(turned).upright)
    assert np.abs(pixels_of(straight) - heads[0]).mean() > 10


def test_hidden_face_leaves_no_detail_where_a_method_replaces(heads: np.ndarray, detector: FaceDetector) -> None:
    sharp = np.kron(heads[0], np.ones((3, 3, 1), np.uint8))
    save("a.png", sharp)
    assert main(["protect", "a.png", "--method", "pixelate:cells=6", "--out", "new", "--quiet"]) == 0
    left, top, width, height = detector.detect(sharp)[0].box.round().astype(int)
    inside = pixels_of("new/a.png")[top : top + height, left : left + width]
    # Six squares a frame: nearly all neighbours are equal.
    assert float((np.diff(inside, axis=1) == 0).mean()) > 0.8
    assert float((np.diff(sharp[top : top + height, left : left + width].astype(int), axis=1) == 0).mean()) < 0.8


def test_forty_faces_in_one_photo(heads: np.ndarray, brighten: type[Brighten], capsys: Any) -> None:
    small = heads[:, ::2, ::2] // 5 * 4  # nothing so bright that it is cut off
    rows = [np.concatenate([small[(row + column) % 4] for column in range(8)], axis=1) for row in range(5)]
    group = np.concatenate(rows)
    save("group.png", group)
    assert main(["protect", "group.png", "--method", "brighten", "--out", "new", "--json", "--quiet"]) == 0
    (one,) = printed_json(capsys)["photos"]
    assert len(one["faces"]) == 40
    assert all(face["protected"] for face in one["faces"])
    numbers = torch.cat([identity for _, identity in brighten.calls])
    assert sorted(numbers.tolist()) == list(range(40))
    change = pixels_of("new/group.png") - group
    assert set(np.unique(change)) <= {0, 10}
    for left, top, width, height in (np.round(face["box"]).astype(int) for face in one["faces"]):
        middle = np.s_[top + height // 4 : top + 3 * height // 4, left + width // 4 : left + 3 * width // 4]
        assert (change[middle] == 10).all()


def test_a_result_depends_on_its_photo_and_the_seed_alone(heads: np.ndarray) -> None:
    for number in range(3):
        save(f"in/{number}.png", heads[number])
    assert main(["protect", "in", *NOISE, "--out", "together", "--quiet"]) == 0
    assert main(["protect", "in/2.png", *NOISE, "--out", "alone", "--quiet"]) == 0
    assert Path("together/2.png").read_bytes() == Path("alone/2.png").read_bytes()


@pytest.mark.parametrize("together", [True, False])
def test_only_methods_that_look_at_the_batch_get_faces_of_several_photos(
    heads: np.ndarray, brighten: type[Brighten], monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    monkeypatch.setattr(Brighten, "about", replace(Brighten.about, batch_dependent=together))
    for number in range(4):
        save(f"in/{number}.png", heads[number])
    assert main(["protect", "in", "--method", "brighten", "--out", "new", "--quiet"]) == 0
    assert [len(images) for images, _ in brighten.calls] == ([4] if together else [1] * 4)
    monkeypatch.setattr(photo_protection, "BATCH_PIXELS", 256 * 256)
    assert main(["protect", "in", "--method", "brighten", "--out", "single", "--quiet"]) == 0
    assert [len(images) for images, _ in brighten.calls[-4:]] == [1] * 4
    assert [path.read_bytes() for path in sorted(Path("new").iterdir())] == [
        path.read_bytes() for path in sorted(Path("single").iterdir())
    ]


def test_photos_without_a_face_are_copied_if_asked_for_and_without_names(heads: np.ndarray, capsys: Any) -> None:
    exif = Image.Exif()
    exif[0x013B], exif[0x010F] = "Jane Doe", "Maker"
    sky = np.full((100, 100, 3), 200, np.uint8)
    save("in/sky.png", sky, exif=exif)
    save("in/face.png", heads[0])
    assert main(["protect", "in", *NOISE, "--out", "new", "--copy-faceless", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert np.array_equal(pixels_of("new/sky.png"), sky)
    assert b"Jane Doe" not in Path("new/sky.png").read_bytes()
    assert b"Maker" in Path("new/sky.png").read_bytes()
    assert "no face found, copied to new/sky.png" in out
    assert "Left out of the results' files: artist (1 photo)." in out.splitlines()
    assert "no face found in 1 photo: copied without protection. Look there yourself" in err


@pytest.mark.parametrize(("keep", "left"), [("camera", ["artist", "place (GPS)"]), ("all", [])])
def test_metadata_are_kept_as_asked_for_and_the_rest_is_named(
    heads: np.ndarray, capsys: Any, keep: str, left: list[str]
) -> None:
    exif = Image.Exif()
    exif[0x013B], exif[0x0110] = "Jane Doe", "Model"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 13.0, 4.5)})
    save("a.jpg", heads[0], exif=exif, quality=95)
    words = ["protect", "a.jpg", *NOISE, "--keep-metadata", keep, "--out", "new", "--quiet"]
    assert main([*words, "--json"]) == 0
    assert printed_json(capsys)["photos"][0]["left_out"] == left
    with Image.open("new/a.jpg") as result:
        kept = result.getexif()
        assert (kept.get(0x013B), kept[0x0110]) == (None if left else "Jane Doe", "Model")
        assert bool(kept.get_ifd(0x8825)) is not bool(left)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_photos_that_lie_turned_without_a_tag_are_protected_as_upright_ones(
    heads: np.ndarray, detector: FaceDetector, capsys: Any, turns: int
) -> None:
    save("straight.png", heads[0])
    save("turned.png", np.ascontiguousarray(np.rot90(heads[0], turns)))
    words = ["protect", "straight.png", "turned.png", "--method", "pixelate:cells=8", "--out", "new", "--json"]
    assert main([*words, "--quiet"]) == 0
    straight, turned = (one["faces"][0] for one in printed_json(capsys)["photos"])
    assert abs(straight["roll_deg"]) < 10
    # numpy turns counter-clockwise, a roll is clockwise.
    assert abs((turned["roll_deg"] + 90 * turns - straight["roll_deg"] + 180) % 360 - 180) < 10
    back = np.rot90(pixels_of("new/turned.png"), -turns)
    (face,) = detector.detect(heads[0])
    left, top, width, height = face.box.round().astype(int)
    inside = np.s_[top : top + height, left : left + width]
    assert np.abs(back - heads[0])[inside].mean() > 10
    # Squares of the same size at nearly the same places: the detector sees a turned window a little otherwise.
    assert np.abs(back - pixels_of("new/straight.png"))[inside].mean() < 0.5 * np.abs(back - heads[0])[inside].mean()


def test_what_holds_in_a_jpeg_is_said(heads: np.ndarray, capsys: Any) -> None:
    save("a.jpg", heads[0], quality=75)
    save("b.png", heads[1])
    assert main(["protect", "a.jpg", "b.png", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    assert [one["largest_change_kept"] for one in printed_json(capsys)["photos"]] == [False, True]
    assert np.abs(pixels_of("new/b.png") - heads[1]).max() <= 7
    for name, said in (("a.jpg", True), ("b.png", False)):
        assert main(["protect", name, *NOISE, "--out", f"new-{said}", "--quiet"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("JPEG results: compression changes") is said


def test_names_that_are_no_text_are_told(heads: np.ndarray, capsys: Any) -> None:
    for name in (b"caf\xe9.png", b"red\x1b[31m.png"):
        os.rename(save("a.png", heads[0]), name)
    assert main(["protect", ".", *NOISE, "--out", f"{os.getcwd()}-new", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["photos"]) == 2
    assert "\x1b" not in out + err
    assert main(["protect", ".", *NOISE, "--out", f"{os.getcwd()}-again"]) == 0
    assert "\x1b" not in "".join(capsys.readouterr())


def test_eight_megapixels(heads: np.ndarray, detector: FaceDetector, capsys: Any) -> None:
    large = np.asarray(Image.fromarray(heads[0]).resize((2304, 2304), Image.Resampling.BICUBIC))
    photo = np.full((2448, 3264, 3), 90, np.uint8)
    photo[100 : 100 + 2304, 800 : 800 + 2304] = large
    save("large.jpg", photo, quality=90)
    assert main(["protect", "large.jpg", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    assert len(printed_json(capsys)["photos"][0]["faces"]) == 1
    assert np.abs(pixels_of("new/large.jpg")[300:2300, 900:3000] - photo[300:2300, 900:3000]).mean() > 1
    assert len(find_faces(detector, read_photo(Path("new/large.jpg")).upright)) == 1


def test_list_shows_what_the_registry_holds(capsys: Any) -> None:
    assert main(["protect", "--list", "--json"]) == 0
    methods = {one["name"]: one for one in printed_json(capsys)["methods"]}
    assert sorted(methods) == sorted(registry.names())
    ranks = [
        3 if not one["threats"] else 2 if one["control"] else int(not one["recommended"]) for one in methods.values()
    ]
    assert ranks == sorted(ranks)
    assert list(methods)[-1] == "identity"
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
