"""evaluate-mask on the camera of pairs; the people on the pictures are synthetic."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

from codesign.config import TrainMaskConfig
from codesign.data import PARTS, load_splits, part_of
from codesign.proof import EMBEDDED
from codesign.real_people import joined
from codesign.winners.photographs import StoredPairs
from faces.synthetic import generate
from optishield.cli import main
from optishield.progress import QuietProgress
from optishield.run.folder import stored_config

pytestmark = pytest.mark.timeout(600)

PEOPLE, CAPTURES = 3, 4


def evaluate(run: Path, faces: Path, out: Path, *words: str) -> int:
    return main(["evaluate-mask", str(run), "--faces", str(faces), "--out", str(out), "--quiet", *words])


def test_photographs_are_judged_by_what_leaves_the_chip(pairs: Path, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "result"
    assert evaluate(pairs, album, out) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    jsonschema.validate(summary, json.loads((out / "summary.schema.json").read_text(encoding="utf-8")))
    assert summary["mode"] == "photos"
    assert summary["data"]["photographs"] == PEOPLE * CAPTURES
    assert set(summary["attackers"]) == {"winner-places", "landmarks-only", "fused"}
    assert "winner-places" not in summary["clean"]["attackers"]
    assert summary["clean"]["attackers"]["sface-as-published"]["rank1"] == 1
    assert 0 < summary["nme"] < 2
    assert [surface["name"] for surface in summary["surfaces"]] == [
        "scene", "places of the winners", "released landmarks",
    ]  # fmt: skip
    assert any("one bit of presence leaves the chip" in text for text in summary["limits"])
    # Nothing that shows a face is left behind.
    assert {path.name for path in out.iterdir()} == {
        "config.toml", "environment.json", "metrics.jsonl", "report.html", "report.safetensors", "stages",
        "summary.json", "summary.schema.json",
    }  # fmt: skip
    arrays = load_file(out / "report.safetensors")
    assert set(arrays) == {
        "pairs_height_m", "pairs_psf", "pairs_channel", "pairs_windows", "filter_weights", "pupil_diameter_m",
        "psf_pitch_m", "wavelengths_m",
    }  # fmt: skip
    trained = load_file(pairs / "report.safetensors")
    assert torch.equal(arrays["pairs_height_m"], trained["pairs_height_m"])


def test_pictures_enter_the_report_on_demand(
    pairs: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Attackers are tested elsewhere; here each guesses.
    def guess(folder: Path, config: object, spec: object, name: str, device: object) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        faces = {part: load_file(folder / "work" / f"faces-{part}.safetensors")["identity"] for part in EMBEDDED}
        return {part: torch.rand(len(identity), 4, generator=generator) for part, identity in faces.items()}

    monkeypatch.setattr("codesign.photos._one_attack", guess)
    monkeypatch.setattr(
        "codesign.photos.run_jobs", lambda job, given, _: [(i, job(*a), 0.1) for i, a in enumerate(given)]
    )
    out = tmp_path / "result"
    assert evaluate(pairs, album, out, "--pictures") == 0
    arrays = load_file(out / "report.safetensors")
    assert arrays["scenes"].shape == arrays["frames_clean"].shape == (PEOPLE, 64, 64, 3)
    assert arrays["frames_ours"].shape == (PEOPLE, 32, 32, 1)
    # A picture of what leaves the chip is dark but for the place of each of the two winners.
    assert set(arrays["frames_ours"].sum((1, 2, 3)).tolist()) <= {1.0, 2.0}
    assert arrays["landmarks_pred"].shape == arrays["landmarks_true"].shape == (PEOPLE, 5, 2)


def test_people_of_the_run_are_not_seen_again(pairs: Path) -> None:
    config = stored_config(pairs, TrainMaskConfig)
    splits = load_splits(config, QuietProgress())
    own = {name: len(splits[name]) for name in PARTS}
    more = generate(2, 2, size=64, seed=5, first_identity=8_000_000)
    parts = {**splits, "train": part_of(joined(splits["train"].faces, more), 0.5), "test": part_of(more, 0.5)}
    camera = StoredPairs.load(pairs, config)
    found, error = camera.told(parts, {**own, "test": 0}, config, seed=3)
    first, rounds = own["train"], config.proof.attacker_copies
    assert found["places.train"].shape[0] == first + 4
    assert torch.equal(found["places.train"][:first], camera.known["places.train"])
    # Each round of moved copies holds first the known people and then the others.
    copies = found["copies.train"].unflatten(0, (rounds, first + 4))
    assert torch.equal(copies[:, :first].flatten(0, 1), camera.known["copies.train"])
    assert torch.equal(found["places.attackers"], camera.known["places.attackers"])
    assert len(found["places.test"]) == len(found["test.exposures"]) == 4
    # The decoder's landmarks of these four, against where they truly are.
    true = more.landmarks
    corners = (true[:, 36] - true[:, 45]).norm(dim=-1)
    five = torch.stack([true[:, 36:42].mean(1), true[:, 42:48].mean(1), true[:, 30], true[:, 48], true[:, 54]], 1)
    with torch.no_grad():
        far = (camera.decoder(found["places.test"]) - five).norm(dim=-1).mean(1)
    assert error == pytest.approx(float((far / corners).mean()), rel=1e-4)
