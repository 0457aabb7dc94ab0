"""What ``optishield protect`` does not protect is named, and costs no other photo; what it refuses, before the work."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from faces.detection import FaceDetector, UnsureError
from faces.errors import FaceFailed
from faces.protection import Declaration
from optishield.cli import main
from protectors import registry
from protectors.base import PhotoProtector
from protectors.errors import ProtectorError
from tests.optishield.commands.protecting import NOISE, Brighten, pixels_of, printed_json, save

pytestmark = pytest.mark.usefixtures("detector", "own_folder")


def test_small_faces_are_named_and_never_passed_over(heads: np.ndarray, brighten: type[Brighten], capsys: Any) -> None:
    two = np.full((300, 500, 3), 80, np.uint8)
    two[20:276, 10:266] = heads[0]
    two[100:148, 380:428] = np.asarray(Image.fromarray(heads[1]).resize((48, 48), Image.Resampling.LANCZOS))
    save("two.png", two)
    save("tiny.png", two[80:170, 350:460])
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


@pytest.mark.parametrize("cells", ["225", "100000"])
def test_a_setting_that_no_frame_allows_is_refused_before_any_photo_is_touched(
    heads: np.ndarray, capsys: Any, cells: str
) -> None:
    save("in/face.png", heads[0])
    save("in/nobody.png", np.full((200, 200, 3), 128, np.uint8))
    assert main(["protect", "in", "--method", f"pixelate:cells={cells}", "--out", "new", "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "pixelate" in err
    assert not list(Path("new").glob("*"))


def test_other_photos_go_on_when_one_cannot_be_protected(heads: np.ndarray, capsys: Any) -> None:
    save("in/1-face.png", heads[0])
    save("in/2-nobody.png", np.full((200, 200, 3), 128, np.uint8))
    Path("in/3-damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    Path("in/4-moving.gif").write_bytes(b"GIF89a")
    save("in/5-dot.bmp", heads[0][:1, :1])
    save("in/6-face.webp", heads[1], lossless=True)
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
    save("in/sky.png", np.full((100, 100, 3), 200, np.uint8))
    assert main(["protect", "in", *NOISE, "--out", "new", "--json", "--quiet"]) == 6
    told = printed_json(capsys)
    assert (told["all_protected"], told["no_face"]) == (False, 1)
    assert (told["photos"][0]["faces"], told["photos"][0]["outcome"]) == ([], "no face found")
    assert not Path("new").exists()
    save("in/face.png", heads[0])
    assert main(["protect", "in", *NOISE, "--out", "new", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["all_protected"] is True
    assert "NOT PROTECTED" not in err
    assert sorted(path.name for path in Path("new").iterdir()) == ["face.png"]


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
    save("in/1.png", heads[0] // 2)
    save("in/2.png", bright)
    group = np.concatenate([heads[1] // 2, bright, heads[2] // 2], axis=1)
    save("in/3.png", group)
    save("in/4.png", heads[2] // 2)
    assert main(["protect", "in", "--method", "fragile", "--out", "new", "--json", "--quiet"]) == 6
    out, err = capsys.readouterr()
    told = json.loads(out)["photos"]
    assert [one["outcome"] for one in told] == ["protected", "not protected", "partly protected", "protected"]
    assert sorted(path.name for path in Path("new").iterdir()) == ["1.png", "3.png", "4.png"]
    assert sorted(face["protected"] for face in told[2]["faces"]) == [False, True, True]
    change = pixels_of("new/3.png") - group
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
        save(f"in/{number}.png", pixels)
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


def test_an_empty_result_of_an_earlier_call_is_no_result(heads: np.ndarray, capsys: Any) -> None:
    save("in/a.png", heads[0])
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
    save("a.png", grey if "tint" in method else heads[0])
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
    save("in/a.png", heads[0])
    save("elsewhere/b.png", heads[1])
    save("in/closed/c.png", heads[2])
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


def test_a_face_of_which_cannot_be_told_which_way_up_it_is_is_named(
    heads: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsure(self: FaceDetector, image: np.ndarray, face: Any) -> Any:
        raise UnsureError("which way up the face at (5, 6) is cannot be told (scores 0.81 and 0.80); turn the photo")

    monkeypatch.setattr(FaceDetector, "settle", unsure)
    save("a.png", heads[0])
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--quiet"]) == 6
    assert "NOT PROTECTED: a.png shows no face that can be protected: which way up" in capsys.readouterr().err
    assert not Path("new").exists()


def test_a_gpu_that_is_asked_for_and_absent_is_an_error(heads: np.ndarray, capsys: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    save("a.png", heads[0])
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--device", "cuda"]) == 3
    assert "error: --device cuda: torch" in capsys.readouterr().err
    assert not Path("new").exists()


def test_nothing_begins_where_a_result_would_be_lost(heads: np.ndarray, capsys: Any, brighten: type[Brighten]) -> None:
    save("a/p.png", heads[0])
    save("b/P.png", heads[1])
    save("new/p.png", heads[2])
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
    save("a.png", heads[0])
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
    save("a.png", heads[0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["protect", "a.png", *NOISE, "--out", "new"]) == 3
    assert capsys.readouterr().err.endswith("photos need Pillow; run: pip install 'optishield[protect]'\n")


def test_a_photo_that_may_not_be_read_costs_no_other(heads: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    save("in/1.png", heads[0])
    save("in/2.png", heads[1])
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
    save("in/1.png", heads[0])
    save("in/sub/2.png", heads[1])
    Path("new/sub").mkdir(parents=True)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("new/sub") and access(path, mode))
    assert main(["protect", "in", "--method", "noise:linf=0.05", "--out", "new", "--quiet"]) == 3
    assert "new/sub may not be written; change the permissions" in capsys.readouterr().err
    assert [path.name for path in Path("new").iterdir()] == ["sub"]
