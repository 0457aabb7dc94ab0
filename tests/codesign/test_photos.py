"""evaluate-mask on a folder of pictures; the people on them are synthetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codesign import data
from codesign.proof import EMBEDDED
from optishield.cli import main

# Whole runs take longer than the usual limit when the machine is busy.
pytestmark = pytest.mark.timeout(600)

PEOPLE, CAPTURES = 3, 4
PARTS = EMBEDDED


def evaluate(run: Path, faces: Path, out: Path, *words: str) -> int:
    return main(["evaluate-mask", str(run), "--faces", str(faces), "--out", str(out), "--quiet", *words])


def test_photographs_are_judged_and_not_kept(finished: Path, album: Path, tmp_path: Path) -> None:
    shutil.copytree(album, tmp_path / "album")
    (tmp_path / "album" / "Person_0" / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "result"
    assert evaluate(finished, tmp_path / "album", out) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["mode"] == "photos"
    assert summary["exploratory"]
    assert summary["identities"] == PEOPLE
    assert summary["chance_rank1"] == pytest.approx(1 / PEOPLE)
    assert summary["data"]["photographs"] == PEOPLE * CAPTURES
    assert summary["data"]["enrolled"] == PEOPLE * CAPTURES // 2
    assert len(summary["left_out"]) == 1
    assert "broken.jpg" in summary["left_out"][0]
    trained = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["attackers"]) == set(trained["attackers"])
    assert set(summary["clean"]["attackers"]) == set(trained["clean"]["attackers"])
    # Sharp heads are no riddle for the published recogniser, in front of the clean camera.
    assert summary["clean"]["attackers"]["sface-as-published"]["rank1"] == 1
    assert not any(key.startswith("tar") for key in summary["attackers"]["wiener-sface"])
    assert 0 < summary["nme"] < 2
    # Nothing that shows a face is left behind.
    assert {path.name for path in out.iterdir()} == {
        "config.toml", "environment.json", "metrics.jsonl", "report.html", "report.safetensors", "stages",
        "summary.json", "summary.schema.json",
    }  # fmt: skip
    assert set(load_file(out / "report.safetensors")) == {
        "mask_height_m", "pupil_diameter_m", "psf", "psf_pitch_m", "wavelengths_m",
    }  # fmt: skip
    assert "Exploratory" in (out / "report.html").read_text(encoding="utf-8")


def test_pictures_enter_the_report_on_demand(
    finished: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Attackers are tested elsewhere; here each guesses.
    def quick(
        folder: Path, config: object, spec: dict[str, str], name: str, device: torch.device
    ) -> dict[str, torch.Tensor]:
        count = {part: len(load_file(folder / "work" / f"faces-{part}.safetensors")["identity"]) for part in PARTS}
        generator = torch.Generator().manual_seed(0)
        result = {
            part: torch.eye(4)[:1].repeat(count[part], 1) + torch.rand(count[part], 4, generator=generator)
            for part in PARTS
        }
        return result | ({"pictures": torch.zeros(PEOPLE, 1, 64, 64)} if name == "unet-inverter" else {})

    monkeypatch.setattr("codesign.photos.attack", quick)
    monkeypatch.setattr(
        "codesign.photos.run_jobs", lambda job, given, _: [(i, job(*a), 0.1) for i, a in enumerate(given)]
    )
    out = tmp_path / "result"
    assert evaluate(finished, album, out, "--pictures") == 0
    arrays = load_file(out / "report.safetensors")
    assert arrays["scenes"].shape == (PEOPLE, 64, 64, 3)
    assert arrays["frames_clean"].shape == (PEOPLE, 64, 64, 3)
    assert arrays["frames_ours"].shape[0] == PEOPLE
    assert arrays["landmarks_pred"].shape == arrays["landmarks_true"].shape == (PEOPLE, 5, 2)
    assert "reconstructions_unet" in arrays


def test_unfinished_run_is_refused(
    finished: Path, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / "half"
    shutil.copytree(finished, half, ignore=shutil.ignore_patterns("summary.json"))
    assert evaluate(half, album, tmp_path / "result") == 3
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert "is not a finished training run (it has no summary.json)" in message


def test_one_person_is_not_enough(
    finished: Path, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = tmp_path / "single"
    shutil.copytree(album / "Person_1", single / "Person_1")
    assert evaluate(finished, single, tmp_path / "result") == 3
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert "at least two people with usable photographs, found 1" in message
    assert not (tmp_path / "result" / "summary.json").exists()


def test_other_training_faces_are_noticed(
    finished: Path,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a version of the program that renders people otherwise."""
    manifest = data.manifest

    def rendered_otherwise(splits: data.Splits) -> dict[str, dict[str, object]]:
        found = manifest(splits)
        return found | {"train": {**found["train"], "images_sha256": "0" * 64}}

    monkeypatch.setattr("codesign.photos.data.manifest", rendered_otherwise)
    assert evaluate(finished, album, tmp_path / "result") == 3
    assert "the faces of the part 'train' are not those" in capsys.readouterr().err
