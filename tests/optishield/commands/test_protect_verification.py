"""``optishield protect --verify``: which recognisers judge, what they measure, and what is told of it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from faces import families
from faces.detection import FaceDetector
from faces.errors import FacesError
from faces.families import load_recogniser, matching_from
from faces.framing import crop_face
from faces.protection import Declaration
from optishield.cli import main
from photos import protection as photo_protection
from photos.errors import PhotoError
from photos.files import read_photo
from photos.verification import Verifier, judges
from tests.optishield.commands.protecting import NOISE, Brighten, printed_json, save

pytestmark = pytest.mark.usefixtures("detector", "own_folder")


def test_a_photo_that_was_written_is_told_although_its_check_was_interrupted(
    heads: np.ndarray, brighten: type[Brighten], monkeypatch: pytest.MonkeyPatch, capsys: Any, sface_weights: Path
) -> None:
    def interrupted(self: Verifier, *given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(families, "_LOADERS", {"sface": families._LOADERS["sface"]})
    monkeypatch.setattr(Verifier, "comparisons", interrupted)
    save("a.png", heads[0])
    assert main(["protect", "a.png", "--method", "brighten", "--out", "new", "--verify", "--json", "--quiet"]) == 130
    (one,) = printed_json(capsys)["photos"]
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
    save("in/a.png", heads[0])
    save("in/b.png", heads[1])
    assert main(["protect", "in", "--method", "brighten", "--out", "new", "--verify", "--quiet"]) == 5
    out, err = capsys.readouterr()
    assert "not checked: new/a.png: new/a.png: No such file or directory; check the path." in err
    assert "new/b.png, face 1:" in out


def test_both_gates_are_told(
    heads: np.ndarray, capsys: Any, monkeypatch: pytest.MonkeyPatch, sface_weights: Path
) -> None:
    monkeypatch.setattr(families, "_LOADERS", {"sface": families._LOADERS["sface"]})
    save("in/a.png", heads[0])
    Path("in/b.jpg").write_bytes(b"nothing")
    assert main(["protect", "in", *NOISE, "--out", "new", "--verify", "--quiet"]) == 6
    err = capsys.readouterr().err
    assert "NOT PROTECTED: in/b.jpg is damaged" in err
    assert "gate not met: 1 of 1 protected faces are still recognised." in err


def test_verification_says_who_still_recognises(heads: np.ndarray, capsys: Any, faceres_weights: Path,
                                                sface_weights: Path, dlib_resnet_weights: Path) -> None:  # fmt: skip
    save("a.png", heads[0])
    assert main(["protect", "a.png", *NOISE, "--out", "new", "--verify", "--quiet"]) == 5
    out, err = capsys.readouterr()
    for name in ("sface", "dlib-resnet", "faceres"):
        assert f"new/a.png, face 1: NOT protected against {name} (similarity 0.9" in out
        assert f">= {matching_from(name):g}, " in out
    assert out.endswith("Other recognisers, and these retrained on protected photos, may still succeed.\n")
    assert err == "optishield: gate not met: 1 of 1 protected faces are still recognised.\n"

    assert main(["protect", "a.png", "--method", "pixelate:cells=2", "--out", "grey", "--verify", "--json"]) in (0, 5)
    told = printed_json(capsys)
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
    save("a.png", heads[0])
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
    save("a.png", heads[0])
    assert main(["protect", "a.png", "--method", "brighten", "--out", "new", "--verify", "--quiet"]) == 3
    assert "error: The recogniser new-one has no threshold from which it counts" in capsys.readouterr().err
    assert brighten.calls == []
