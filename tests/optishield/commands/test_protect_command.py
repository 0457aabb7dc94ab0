"""``optishield protect`` from outside, with the real detector and synthetic heads as photos."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import types
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from faces import families
from faces.detection import FaceDetector, UnsureError
from faces.errors import FaceFailed, FacesError
from faces.families import load_recogniser, matching_from
from faces.folders import crop_face
from faces.protection import Declaration, Threat
from faces.synthetic import generate
from optishield.cli import main
from photos import protection as photo_protection
from photos.errors import PhotoError
from photos.files import read_photo
from photos.finding import find_faces
from photos.verification import Verifier, judges
from protectors import registry
from protectors.base import PhotoProtector
from protectors.errors import ProtectorError

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
    assert [line.partition("] ")[2] for line in err.splitlines()[:3]] == [
        "protecting photos (2 steps)", "a.png: 1 face in hundredths (100 steps)",
        "b.jpg: 1 face in hundredths (100 steps)",
    ]  # fmt: skip


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


def test_a_result_depends_on_its_photo_and_the_seed_alone(heads: np.ndarray) -> None:
    for number in range(3):
        _save(f"in/{number}.png", heads[number])
    assert main(["protect", "in", *NOISE, "--out", "together", "--quiet"]) == 0
    assert main(["protect", "in/2.png", *NOISE, "--out", "alone", "--quiet"]) == 0
    assert Path("together/2.png").read_bytes() == Path("alone/2.png").read_bytes()


@pytest.mark.parametrize("together", [True, False])
def test_only_methods_that_look_at_the_batch_get_faces_of_several_photos(
    heads: np.ndarray, brighten: type[Brighten], monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    monkeypatch.setattr(Brighten, "about", replace(Brighten.about, batch_dependent=together))
    for number in range(4):
        _save(f"in/{number}.png", heads[number])
    assert main(["protect", "in", "--method", "brighten", "--out", "new", "--quiet"]) == 0
    assert [len(images) for images, _ in brighten.calls] == ([4] if together else [1] * 4)
    monkeypatch.setattr(photo_protection, "BATCH_PIXELS", 256 * 256)
    assert main(["protect", "in", "--method", "brighten", "--out", "single", "--quiet"]) == 0
    assert [len(images) for images, _ in brighten.calls[-4:]] == [1] * 4
    assert [path.read_bytes() for path in sorted(Path("new").iterdir())] == [
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
    # Of a file that was never read nobody knows the faces.
    assert [line.split(maxsplit=3)[1:] for line in out.splitlines()[1:]] == [
        ["1", "1", "new/1-face.png"], ["0", "0", "no face found, nothing written"], ["-", "-", "nothing written"],
        ["-", "-", "nothing written"], ["0", "0", "no face found, nothing written"], ["1", "1", "new/6-face.webp"],
    ]  # fmt: skip
    damaged, moving, faceless = err.splitlines()
    assert damaged.startswith("optishield: NOT PROTECTED: in/3-damaged.jpg is damaged")
    assert moving.startswith("optishield: NOT PROTECTED: in/4-moving.gif is damaged")
    assert faceless == (
        "optishield: no face found in 2 photos: nothing was written. Look there yourself before you share anything: "
        "the detector can miss a face."
    )


def test_a_landscape_among_photos_is_no_alarm_but_photos_without_any_face_are(heads: np.ndarray, capsys: Any) -> None:
    _save("in/sky.png", np.full((100, 100, 3), 200, np.uint8))
    assert main(["protect", "in", *NOISE, "--out", "new", "--json", "--quiet"]) == 6
    told = _json(capsys)
    assert (told["all_protected"], told["no_face"]) == (False, 1)
    assert (told["photos"][0]["faces"], told["photos"][0]["outcome"]) == ([], "no face found")
    assert not Path("new").exists()
    _save("in/face.png", heads[0])
    assert main(["protect", "in", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["all_protected"] is True
    assert "NOT PROTECTED" not in err
    assert sorted(path.name for path in Path("new").iterdir()) == ["face.png"]


def test_photos_without_a_face_are_copied_if_asked_for_and_without_names(heads: np.ndarray, capsys: Any) -> None:
    exif = Image.Exif()
    exif[0x013B], exif[0x010F] = "Jane Doe", "Maker"
    sky = np.full((100, 100, 3), 200, np.uint8)
    _save("in/sky.png", sky, exif=exif)
    _save("in/face.png", heads[0])
    assert main(["protect", "in", *NOISE, "--out", "new", "--copy-faceless", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert np.array_equal(_read("new/sky.png"), sky)
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
    _save("a.jpg", heads[0], exif=exif, quality=95)
    words = ["protect", "a.jpg", *NOISE, "--keep-metadata", keep, "--out", "new", "--quiet"]
    assert main([*words, "--json"]) == 0
    assert _json(capsys)["photos"][0]["left_out"] == left
    with Image.open("new/a.jpg") as result:
        kept = result.getexif()
        assert (kept.get(0x013B), kept[0x0110]) == (None if left else "Jane Doe", "Model")
        assert bool(kept.get_ifd(0x8825)) is not bool(left)


class Fragile(PhotoProtector):
    """Ten levels more, but it fails on a bright face; with KeyboardInterrupt for its error, a signal ends the work."""

    about = Declaration(name="fragile", title="fails", source="own", threats=frozenset(), additive=True)
    error: ClassVar[type[BaseException]] = FaceFailed
    sent: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__(())

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        third = images.shape[-1] // 3
        means = images[..., third:-third, third:-third].mean((1, 2, 3))
        for row in torch.nonzero(means > 0.7)[:, 0].tolist():
            if self.error is KeyboardInterrupt:
                os.kill(os.getpid(), self.sent)
            raise FaceFailed(row, "it is too bright.") if self.error is FaceFailed else self.error("it is too bright.")
        return images + 10 / 255


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> type[Fragile]:
    module = types.ModuleType("fragility")
    module.Fragile = Fragile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fragility", module)
    monkeypatch.setitem(registry._OWN, "fragile", "fragility:Fragile")
    return Fragile


@pytest.fixture(scope="module")
def bright(heads: np.ndarray) -> np.ndarray:
    """A head that the method fails on; the others stay darker."""
    return (255 - (255 - heads[3].astype(int)) // 4).astype(np.uint8)


@pytest.mark.parametrize(
    ("error", "said"),
    [(FaceFailed, "it is too bright."), (ProtectorError, "it is too bright."), (RuntimeError, "RuntimeError: it is"),
     (ZeroDivisionError, "ZeroDivisionError: it is too bright"), (MemoryError, "MemoryError: it is too bright")],
)  # fmt: skip
def test_a_face_on_which_the_method_fails_is_named_and_costs_no_other(
    heads: np.ndarray, bright: np.ndarray, fragile: type[Fragile], monkeypatch: pytest.MonkeyPatch, capsys: Any,
    error: type[Exception], said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(fragile, "error", error)
    _save("in/1.png", heads[0] // 2)
    _save("in/2.png", bright)
    group = np.concatenate([heads[1] // 2, bright, heads[2] // 2], axis=1)
    _save("in/3.png", group)
    _save("in/4.png", heads[2] // 2)
    assert main(["protect", "in", "--method", "fragile", "--out", "new", "--json", "--quiet"]) == 6
    out, err = capsys.readouterr()
    told = json.loads(out)["photos"]
    assert [one["outcome"] for one in told] == ["protected", "not protected", "partly protected", "protected"]
    assert sorted(path.name for path in Path("new").iterdir()) == ["1.png", "3.png", "4.png"]
    assert sorted(face["protected"] for face in told[2]["faces"]) == [False, True, True]
    change = _read("new/3.png") - group
    assert (change[100:150, [128, 640]] == 10).all()
    assert not change[100:150, 384].any()
    assert f"NOT PROTECTED: no face of in/2.png could be protected: {said}" in err
    assert f" of 3 in new/3.png: {said}" in err


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_after_a_signal_everything_is_told_and_the_next_call_goes_on(
    heads: np.ndarray, bright: np.ndarray, fragile: type[Fragile], monkeypatch: pytest.MonkeyPatch, capsys: Any,
    sent: signal.Signals,
) -> None:  # fmt: skip
    monkeypatch.setattr(fragile, "error", KeyboardInterrupt)
    monkeypatch.setattr(fragile, "sent", sent)
    for number, pixels in enumerate((heads[0] // 2, heads[1] // 2, bright, heads[2] // 2)):
        _save(f"in/{number}.png", pixels)
    before = signal.getsignal(sent)
    words = ["protect", "in", "--method", "fragile", "--out", "new", "--quiet"]
    assert main([*words, "--json"]) == 130
    assert signal.getsignal(sent) is before
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["interrupted"] is True
    assert [one["outcome"] for one in told["photos"]] == ["protected", "protected", "not reached", "not reached"]
    assert "interrupted: 2 photos done, 2 left; give the same command with --skip-existing to go on." in err
    first = {path.name: (path.stat().st_ino, path.read_bytes()) for path in Path("new").iterdir()}
    assert sorted(first) == ["0.png", "1.png"]
    assert main(words) == 3
    assert "or go on where an earlier call ended with --skip-existing." in capsys.readouterr().err
    os.replace("in/3.png", "in/2.png")
    assert main([*words, "--skip-existing"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split(maxsplit=3) == ["in/0.png", "-", "-", "exists already"]
    assert "2 photos skipped, because the result exists; it was not looked at again." in err
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in Path("new").iterdir()}
    assert {name: after[name] for name in first} == first
    assert sorted(after) == ["0.png", "1.png", "2.png"]


def test_a_photo_that_was_written_is_told_although_its_check_was_interrupted(
    heads: np.ndarray, brighten: type[Brighten], monkeypatch: pytest.MonkeyPatch, capsys: Any, sface_weights: Path
) -> None:
    def interrupted(self: Verifier, *given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(families, "_LOADERS", {"sface": families._LOADERS["sface"]})
    monkeypatch.setattr(Verifier, "comparisons", interrupted)
    _save("a.png", heads[0])
    assert main(["protect", "a.png", "--method", "brighten", "--out", "new", "--verify", "--json", "--quiet"]) == 130
    (one,) = _json(capsys)["photos"]
    assert (one["outcome"], one["result"], one["unchecked"]) == (
        "protected",
        "new/a.png",
        "the command was interrupted",
    )
    assert Path("new/a.png").is_file()


def test_a_check_that_fails_costs_no_other_photo_and_is_no_success(
    heads: np.ndarray, brighten: type[Brighten], monkeypatch: pytest.MonkeyPatch, capsys: Any, sface_weights: Path
) -> None:
    real = read_photo

    def gone(path: Path, *given: Any) -> Any:
        if path == Path("new/a.png"):
            raise PhotoError("new/a.png: No such file or directory; check the path.")
        return real(path, *given)

    monkeypatch.setattr(families, "_LOADERS", {"sface": families._LOADERS["sface"]})
    monkeypatch.setattr(photo_protection, "read_photo", gone)
    _save("in/a.png", heads[0])
    _save("in/b.png", heads[1])
    assert main(["protect", "in", "--method", "brighten", "--out", "new", "--verify", "--quiet"]) == 5
    out, err = capsys.readouterr()
    assert "not checked: new/a.png: new/a.png: No such file or directory; check the path." in err
    assert "new/b.png, face 1:" in out


def test_an_empty_result_of_an_earlier_call_is_no_result(heads: np.ndarray, capsys: Any) -> None:
    _save("in/a.png", heads[0])
    Path("new").mkdir()
    Path("new/a.png").touch()
    assert main(["protect", "in", *NOISE, "--out", "new", "--skip-existing", "--quiet"]) == 6
    assert (
        "new/a.png is empty, so an earlier call was cut off while it was written; delete it" in capsys.readouterr().err
    )


class Faint(PhotoProtector):
    """Adds what is less than half a level, or, on grey photos, what their one channel cannot hold."""

    about = Declaration(name="faint", title="faint", source="own", threats=frozenset(), additive=True)

    def __init__(self, *, tint: int = 0) -> None:
        super().__init__((), tint=tint)
        self._tint = tint

    def change(self, images: Tensor, points5: Tensor, identity: Tensor, generator: torch.Generator) -> Tensor:
        # Blue weighs .114 in the luminance, so two levels of it are lost in rounding.
        return images + torch.tensor([0.0, 0.0, 3.0])[:, None, None] / 255 if self._tint else images + 0.4 / 255


@pytest.mark.parametrize("method", ["identity", "faint", "faint:tint=1"])
def test_an_unchanged_face_is_never_protected(
    heads: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: Any, method: str
) -> None:
    module = types.ModuleType("faintness")
    module.Faint = Faint  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faintness", module)
    monkeypatch.setitem(registry._OWN, "faint", "faintness:Faint")
    grey = heads[0][..., 1] // 2 * 2
    _save("a.png", grey if "tint" in method else heads[0])
    assert main(["protect", "a.png", "--method", method, "--out", "new", "--json", "--quiet"]) == 6
    out, err = capsys.readouterr()
    (one,) = json.loads(out)["photos"]
    assert (one["protected"], one["result"], one["faces"][0]["protected"]) == (False, None, False)
    assert "changed" in one["faces"][0]["reason"]
    assert "NOT PROTECTED: no face of a.png could be protected: " in err
    assert not Path("new").exists()


def test_what_is_passed_over_in_a_folder_is_named(
    heads: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save("in/a.png", heads[0])
    _save("elsewhere/b.png", heads[1])
    _save("in/closed/c.png", heads[2])
    Path("in/linked").symlink_to(Path("elsewhere").resolve())
    Path("in/gone.jpg").symlink_to("nowhere.jpg")
    Path("in/notes.txt").symlink_to("nowhere.txt")
    Path("in/d.HIF").write_bytes(b"nothing")
    os.mkfifo("in/pipe.png")
    real = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert main(["protect", "in", *NOISE, "--out", "new", "--json", "--quiet"]) == 6
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["all_protected"] is False
    assert [one["path"] for one in told["passed_over"]] == ["in/closed", "in/gone.jpg", "in/linked", "in/pipe.png"]
    assert [one["file"] for one in told["photos"]] == ["in/a.png", "in/d.HIF"]
    assert [line.partition(": ")[2] for line in err.splitlines()[:4]] == [
        "NOT LOOKED INTO: in/closed: Permission denied; change the permissions, or choose another folder.",
        "NOT LOOKED INTO: in/gone.jpg is a link that leads nowhere; delete it, or bring back what it names.",
        "NOT LOOKED INTO: in/linked is a link to a folder, which is not followed; name that folder itself.",
        "NOT LOOKED INTO: in/pipe.png is named like a photo and is no file; delete it, or rename it.",
    ]
    assert "NOT PROTECTED: in/d.HIF is damaged" in err


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_photos_that_lie_turned_without_a_tag_are_protected_as_upright_ones(
    heads: np.ndarray, detector: FaceDetector, capsys: Any, turns: int
) -> None:
    _save("straight.png", heads[0])
    _save("turned.png", np.ascontiguousarray(np.rot90(heads[0], turns)))
    words = ["protect", "straight.png", "turned.png", "--method", "pixelate:cells=8", "--out", "new", "--json"]
    assert main([*words, "--quiet"]) == 0
    straight, turned = (one["faces"][0] for one in _json(capsys)["photos"])
    assert abs(straight["roll_deg"]) < 10
    # numpy turns counter-clockwise, a roll is clockwise.
    assert abs((turned["roll_deg"] + 90 * turns - straight["roll_deg"] + 180) % 360 - 180) < 10
    back = np.rot90(_read("new/turned.png"), -turns)
    (face,) = detector.detect(heads[0])
    left, top, width, height = face.box.round().astype(int)
    inside = np.s_[top : top + height, left : left + width]
    assert np.abs(back - heads[0])[inside].mean() > 10
    # Squares of the same size at nearly the same places: the detector sees a turned window a little otherwise.
    assert np.abs(back - _read("new/straight.png"))[inside].mean() < 0.5 * np.abs(back - heads[0])[inside].mean()


def test_a_face_of_which_cannot_be_told_which_way_up_it_is_is_named(
    heads: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsure(self: FaceDetector, image: np.ndarray, face: Any) -> Any:
        raise UnsureError("which way up the face at (5, 6) is cannot be told (scores 0.81 and 0.80); turn the photo")

    monkeypatch.setattr(FaceDetector, "settle", unsure)
    _save("a.png", heads[0])
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--quiet"]) == 6
    assert "NOT PROTECTED: a.png shows no face that can be protected: which way up" in capsys.readouterr().err
    assert not Path("new").exists()


def test_what_holds_in_a_jpeg_is_said(heads: np.ndarray, capsys: Any) -> None:
    _save("a.jpg", heads[0], quality=75)
    _save("b.png", heads[1])
    assert main(["protect", "a.jpg", "b.png", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    assert [one["largest_change_kept"] for one in _json(capsys)["photos"]] == [False, True]
    assert np.abs(_read("new/b.png") - heads[1]).max() <= 7
    for name, said in (("a.jpg", True), ("b.png", False)):
        assert main(["protect", name, *NOISE, "--out", f"new-{said}", "--quiet"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("JPEG results: compression changes") is said


def test_names_that_are_no_text_are_told(heads: np.ndarray, capsys: Any) -> None:
    for name in (b"caf\xe9.png", b"red\x1b[31m.png"):
        os.rename(_save("a.png", heads[0]), name)
    assert main(["protect", ".", *NOISE, "--out", f"{os.getcwd()}-new", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["photos"]) == 2
    assert "\x1b" not in out + err
    assert main(["protect", ".", *NOISE, "--out", f"{os.getcwd()}-again"]) == 0
    assert "\x1b" not in "".join(capsys.readouterr())


def test_a_gpu_that_is_asked_for_and_absent_is_an_error(heads: np.ndarray, capsys: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    _save("a.png", heads[0])
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--device", "cuda"]) == 3
    assert "error: --device cuda: torch" in capsys.readouterr().err
    assert not Path("new").exists()


def test_both_gates_are_told(
    heads: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch, sface_weights: Path
) -> None:
    monkeypatch.setattr(families, "_LOADERS", {"sface": families._LOADERS["sface"]})
    _save("in/a.png", heads[0])
    Path("in/b.jpg").write_bytes(b"nothing")
    assert main(["protect", "in", *NOISE, "--out", "new", "--verify", "--quiet"]) == 6
    err = capsys.readouterr().err
    assert "NOT PROTECTED: in/b.jpg is damaged" in err
    assert "gate not met: 1 of 1 protected faces are still recognised." in err


def test_nothing_begins_where_a_result_would_be_lost(heads: np.ndarray, capsys: Any, brighten: type[Brighten]) -> None:
    _save("a/p.png", heads[0])
    _save("b/P.png", heads[1])
    _save("new/p.png", heads[2])
    before = Path("new/p.png").read_bytes()
    for words, said in (
        (["b/P.png", "a/p.png", "--out", "other"], "b/P.png and a/p.png would both become other/p.png; protect"),
        (["a", "--out", "new"], "new/p.png exists already; name another folder with --out, or go on where an earlier"),
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

    monkeypatch.setattr(os, "open", refuses)
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
        assert f">= {matching_from(name):g}, " in out
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
    monkeypatch.setattr(families, "_LOADERS", {"sface": families._LOADERS["sface"]})
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
    ((saved, jpeg, half),) = Verifier(["sface"], detector).comparisons(before, after, [face.points5])
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
    assert saved.threshold == matching_from("sface") == recogniser.matches_from


def test_a_face_that_is_gone_is_looked_for_at_its_old_place(
    heads: np.ndarray, detector: FaceDetector, sface_weights: Path
) -> None:
    (face,) = detector.detect(heads[0])
    (checks,) = Verifier(["sface"], detector).comparisons(heads[0], np.full_like(heads[0], 90), [face.points5])
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


def test_a_method_that_used_every_recogniser_is_not_verified() -> None:
    about = Declaration("x", "x", "own", frozenset(), surrogates=("sface", "dlib-resnet", "faceres"))
    with pytest.raises(PhotoError, match=r"^x uses all of the recognisers sface, .* leave --verify out"):
        judges(about)


def test_a_recogniser_without_a_threshold_is_an_error_before_any_work(
    heads: np.ndarray, brighten: type[Brighten], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(families._LOADERS, "new-one", families._LOADERS["sface"])
    with pytest.raises(FacesError, match=r"^The recogniser new-one has no threshold .*measure it"):
        Verifier(["new-one"], None)  # type: ignore[arg-type]
    _save("a.png", heads[0])
    assert main(["protect", "a.png", "--method", "brighten", "--out", "new", "--verify", "--quiet"]) == 3
    assert "error: The recogniser new-one has no threshold from which it counts" in capsys.readouterr().err
    assert brighten.calls == []


def test_list_shows_what_the_registry_holds(capsys: Any) -> None:
    assert main(["protect", "--list", "--json"]) == 0
    methods = {one["name"]: one for one in _json(capsys)["methods"]}
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


def test_a_photo_that_may_not_be_read_costs_no_other(heads: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    _save("in/1.png", heads[0])
    _save("in/2.png", heads[1])
    access, read = os.access, Path.read_bytes

    def refuses(path: Path) -> bytes:
        if path.name == "1.png":
            raise PermissionError(13, os.strerror(13), str(path))
        return read(path)

    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("1.png") and access(path, mode))
    monkeypatch.setattr(Path, "read_bytes", refuses)
    assert main(["protect", "in/1.png", "in/2.png", "--method", "noise:linf=0.05", "--out", "new", "--quiet"]) == 6
    assert [path.name for path in Path("new").iterdir()] == ["2.png"]


def test_a_folder_of_results_that_may_not_be_written_is_refused_before_the_work(
    heads: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _save("in/1.png", heads[0])
    _save("in/sub/2.png", heads[1])
    Path("new/sub").mkdir(parents=True)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("new/sub") and access(path, mode))
    assert main(["protect", "in", "--method", "noise:linf=0.05", "--out", "new", "--quiet"]) == 3
    assert "new/sub may not be written; change the permissions" in capsys.readouterr().err
    assert [path.name for path in Path("new").iterdir()] == ["sub"]
