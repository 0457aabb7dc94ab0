"""A whole run that designs the camera of pairs, on a handful of people."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from codesign.files import load_tensors
from optishield.cli import main
from tests.codesign.conftest import Train

pytestmark = pytest.mark.timeout(600)


def test_the_summary_tells_the_whole_story(pairs: Path) -> None:
    summary = json.loads((pairs / "summary.json").read_text(encoding="utf-8"))
    jsonschema.validate(summary, json.loads((pairs / "summary.schema.json").read_text(encoding="utf-8")))
    assert set(summary["attackers"]) == {"winner-places", "landmarks-only", "fused"}
    assert summary["winners"]["tiles"] == 4
    assert [channel["name"] for channel in summary["winners"]["channels"]] == ["face", "upper-lip"]
    assert set(summary["ablations"]) == {"bare-lens", "unlearned-pairs"}
    assert all(row["error"]["value"] is not None for row in summary["ablations"].values())
    assert [surface["name"] for surface in summary["surfaces"]] == [
        "scene", "places of the winners", "released landmarks",
    ]  # fmt: skip
    assert [point["attacker"] for point in summary["learning_curve"]] == ["winner-places"] * 2
    assert [point["exposures"] for point in summary["exposures"]] == [1, 2]
    first, *others = summary["tolerances"]
    assert (first["name"], first.get("nme_change")) == ("as-designed", None)
    assert len(others) == 9
    for row in others:
        assert row["nme_change"]["value"] == pytest.approx(row["nme"] - first["nme"], abs=1e-9)
        assert 0 <= row["rank1"] <= row["pooled_rank1"] + 1 <= 2


def test_what_leaves_the_chip_is_whole_numbers_in_their_windows(pairs: Path) -> None:
    released = load_tensors(pairs / "proof" / "ours" / "released.safetensors")
    windows = load_tensors(pairs / "mask.safetensors")["windows"]
    places = released["places.test"]
    assert places.dtype == torch.int64
    top, left, height, width = windows[0].tolist()
    assert bool(((places[:, 0, 1] >= top) & (places[:, 0, 1] < top + height)).all())
    assert bool(((places[:, 0, 0] >= left) & (places[:, 0, 0] < left + width)).all())
    top, left, height, width = windows[1].tolist()
    offset = places[:, 1] - places[:, 0]
    assert bool(((offset[:, 1] >= top) & (offset[:, 1] < top + height)).all())
    assert bool(((offset[:, 0] >= left) & (offset[:, 0] < left + width)).all())


def test_the_files_hold_every_tile(pairs: Path) -> None:
    tiles = json.loads((pairs / "tiles.json").read_text(encoding="utf-8"))
    heights, psf = np.load(pairs / "tiles_height_m.npy"), np.load(pairs / "psf.npy")
    assert len(heights) == len(psf) == len(tiles["centres_m"]) == 4
    assert tiles["channel_of_pair"] == [0, 1]
    assert 0 <= float(heights.min()) < float(heights.max()) < 9e-5
    assert float(psf.sum((-2, -1)).max()) <= 1 + 1e-5
    assert (pairs / "report.html").is_file()


def test_the_number_of_processes_changes_no_bit(pairs: Path, train_pairs: Train, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert train_pairs(out, "--workers", "2") == 0
    for name in ("mask.safetensors", "proof/ours/released.safetensors", "proof/bare-lens/released.safetensors"):
        first, second = load_tensors(pairs / name), load_tensors(out / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_finished_run_is_told_again(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-mask", "--resume", str(pairs), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["winners"]["tiles"] == 4
