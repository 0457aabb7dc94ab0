"""train-mask from the command line to the report: complete, consistent, repeatable, and resumable after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codesign.attackers import attackers_of
from codesign.cameras import build, ours
from codesign.config import ATTACKERS, TrainMaskConfig
from optishield.cli import main
from optishield.run.folder import RunFolder, stored_config

# Whole runs take longer than the usual limit when the machine is busy.
pytestmark = pytest.mark.timeout(600)


def figures(folder: Path) -> Any:
    """The summary of a run without what may differ between equal runs: name, times, number of processes."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for key in ("run", "timing"):
        del summary[key]
    del summary["config"]["workers"]
    return summary


def intervals(block: Any) -> list[tuple[float, list[float]]]:
    """Every (value, 95 % interval) below a table of figures."""
    if not isinstance(block, dict):
        return []
    found = [(block[key.removesuffix("_ci95")], block[key]) for key in block if key.endswith("_ci95")]
    return found + [pair for value in block.values() for pair in intervals(value)]


def test_run_leaves_what_it_promises(finished: Path) -> None:
    for name in (
        "mask.safetensors", "mask.json", "camera.json", "mask_height_m.npy", "psf.npy",
        "decoder.safetensors", "decoder.json", "README.md", "report.html", "summary.json", "metrics.jsonl", "data.json",
        "config.toml", "environment.json",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    assert not (finished / "work").exists()
    assert not list(finished.rglob("*.tmp"))
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_summary_is_consistent(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    assert summary["identities"] == {"train": 8, "calibration": 4, "validation": 4, "test": 4, "attackers": 4}
    assert summary["chance_rank1"] == 0.25
    for camera in (summary, summary["clean"], *summary["baselines"].values()):
        rates = {name: attacker["rank1"] for name, attacker in camera["attackers"].items()}
        assert rates[camera["worst_attacker"]] == max(rates.values())
        pooled = {name: attacker["pooled"] for name, attacker in camera["attackers"].items()}
        assert {found["probes"] for found in pooled.values()} == {1}
        assert 0 < camera["nme"] < 5
    assert set(summary["attackers"]) == set(attackers_of("ours", ATTACKERS))
    assert "sface-as-published" in summary["clean"]["attackers"]
    assert summary["best_baseline"] in summary["baselines"]
    assert summary["oracle"]["nme"] == pytest.approx(summary["nme"], abs=1e-4)
    assert set(summary["gap_closed"]) == set(summary["gap_closed_pooled"]) == {"rank1", "auc"}
    pairs = intervals(summary["attackers"]) + intervals(summary["baselines"]) + intervals(summary["clean"])
    assert len(pairs) > 30
    assert all(low <= value <= high for value, (low, high) in pairs)
    assert 0.5 < summary["throughput"] <= 1
    assert any("imulation" in line for line in summary["limits"])
    # So short a warm-up wakes no adversary, which is said; with such a budget it is no gate.
    alive = summary["findings"]["adversaries-alive"]
    assert summary["gates"] == {}
    assert alive["figures"]["chance"] == 1 / 8
    assert ("not trained for privacy" in " ".join(summary["limits"])) is not alive["passed"]


def test_learning_curve_exposures_and_weights_are_those_of_our_camera(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    curve = summary["learning_curve"]
    assert [point["trained_on"] for point in curve] == [6, 12]
    assert {point["attacker"] for point in curve} == {"crop-network"}
    whole = summary["attackers"]["crop-network"]
    assert {key: curve[-1][key] for key in whole} == whole
    one, several = summary["exposures"]
    assert (one["exposures"], several["exposures"]) == (1, 2)
    assert one["rank1"] == summary["attackers"][one["attacker"]]["rank1"]
    for camera in (summary, *summary["baselines"].values()):
        weights = camera["attackers"]["fused"]["weights"]
        assert set(weights) < set(camera["attackers"])
        assert sum(weights.values()) == pytest.approx(1.0)
    for start in ("Trained on 6, 12 people", "With 2 exposures of each still face averaged"):
        assert any(line.startswith(start) for line in summary["limits"])


def test_model_files_describe_the_camera_that_was_judged(finished: Path) -> None:
    config = stored_config(finished, TrainMaskConfig)
    camera = build(ours(config), config, load_file(finished / "mask.safetensors"))
    np.testing.assert_allclose(np.load(finished / "psf.npy"), camera.psf.detach().numpy(), atol=1e-7)
    height = np.load(finished / "mask_height_m.npy")
    assert height.shape == (config.optics.pupil_samples,) * 2
    assert height.min() >= 0
    assert height.max() <= config.mask.max_height_m
    stored = load_file(finished / "decoder.safetensors")
    judged = load_file(finished / "proof" / "ours" / "decoder.safetensors")
    assert all(torch.equal(stored[name], judged[name]) for name in judged)


def test_faces_of_the_parts_are_different_people(finished: Path) -> None:
    parts = json.loads((finished / "data.json").read_text(encoding="utf-8"))
    people = [set(part["identities"]) for part in parts.values()]
    assert len(set.union(*people)) == sum(map(len, people)) == 24


def test_every_job_is_logged_with_its_time(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    attacks = [line for line in lines if line.get("stage") == "attack"]
    assert {line["camera"] for line in attacks} == {"ours", "clean", "mono-pixels", "floor"}
    assert all(line["seconds"] > 0 for line in attacks)


@pytest.fixture
def more_threads(finished: Path) -> Iterator[None]:
    """As on a machine with more cores than that of the first run."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 2)
    yield
    torch.set_num_threads(before)


def test_killed_run_goes_on_to_the_same_figures_with_other_workers_and_threads(
    finished: Path,
    more_threads: None,
    train: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "second"
    mark = RunFolder.mark_stage
    resume = ["train-mask", "--resume", str(out), "--quiet"]

    def killed_at(name: str, *, after: bool) -> None:
        """Stop the program when a stage is about to be marked, or just after."""

        def stop(self: RunFolder, stage: str, result: Any = None) -> None:
            if stage == name and not after:
                raise KeyboardInterrupt
            mark(self, stage, result)
            if stage == name:
                raise KeyboardInterrupt

        monkeypatch.setattr(RunFolder, "mark_stage", stop)

    # The checkpoint of the second half is written, its mark is not: the half must be done again from the first.
    killed_at("design-0-6", after=False)
    assert train(out, "--workers", "1") == 130
    assert f"continue with: optishield train-mask --resume {out}" in capsys.readouterr().err
    assert not (out / "summary.json").exists()
    killed_at("attack-ours-sface-fine-tuned", after=True)
    assert main([*resume, "--workers", "1"]) == 130
    done = {path.name: path.stat().st_mtime_ns for path in (out / "stages").iterdir()}
    assert "camera-ours.json" in done
    monkeypatch.setattr(RunFolder, "mark_stage", mark)
    assert main([*resume, "--workers", "2"]) == 0
    assert all((out / "stages" / name).stat().st_mtime_ns == time for name, time in done.items())
    assert figures(out) == figures(finished)


def test_finished_run_is_not_done_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = figures(finished)
    monkeypatch.setattr("codesign.run.Designer", None)
    assert main(["train-mask", "--resume", str(finished), "--quiet"]) == 0
    assert figures(finished) == before
