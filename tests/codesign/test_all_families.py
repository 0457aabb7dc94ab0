"""train-mask beyond the default: every baseline family in one run, and photographs in place of synthetic heads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codesign.config import TrainMaskConfig
from optishield.cli import main
from tests.codesign.conftest import Train, draw_album

# Whole runs take longer than the usual limit when the machine is busy.
pytestmark = pytest.mark.timeout(900)


def test_every_baseline_of_the_larger_budgets_runs_to_the_report(tmp_path: Path, train: Train) -> None:
    families = TrainMaskConfig.for_budget("full").proof.baselines
    out = tmp_path / "run"
    assert train(out, "--set", f"proof.baselines={json.dumps(list(families))}") == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["baselines"]) == set(families)
    assert all(row["rounds"] and row["parameter"] for row in summary["baselines"].values())
    assert set(summary["ablations"]) == {"same-field-mono-pixels", "same-sensor-no-mask"}
    assert summary["best_baseline"] not in summary["ablations"]
    for row in summary["ablations"].values():
        low, high = row["rank1"]["ci95"]
        assert low <= row["rank1"]["value"] <= high
        assert row["gap_closed"]["rank1"]["numerator"] == pytest.approx(row["rank1"]["value"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(name.replace("-", " ")[1:] in page for name in ("random-mask", "low-resolution"))
    assert sum("Taken off the worst rank-1" in line for line in summary["limits"]) == 2


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Pictures of as many people as the smallest split of a folder needs, in the layout of LFW."""
    return draw_album(tmp_path_factory.mktemp("crowd"), people=20, captures=3, first_identity=8_000_000)


def test_a_folder_of_photographs_trains_a_mask(tmp_path: Path, train: Train, crowd: Path) -> None:
    out = tmp_path / "run"
    assert train(out, "--faces", str(crowd), "--set", "proof.unet_steps=1") == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["mode"] == "photos"
    # Real people train beside synthetic ones, and are alone where thresholds are set and in the test; further people
    # of the attackers are synthetic.
    assert summary["identities"] == {"train": 16, "calibration": 4, "validation": 4, "test": 4, "attackers": 4}
    found = summary["photographs"]
    assert found["people"] == {"train": 8, "calibration": 4, "validation": 4, "test": 4}
    assert found["photographs"] + found["left_out"] == 60
    agreement = found["agreement"]
    assert agreement["sources"] == ["face-mesh", "face-landmark-68"]
    assert 0 < agreement["median"] < 0.2
    assert agreement["people"] == 20
    assert summary["config"]["faces"] == str(crowd)
    assert any("Nobody marked the photographs by hand" in line for line in summary["limits"])
    # Judged on the same folder, only those are shown to it whom it has not trained on.
    judged = tmp_path / "judged"
    assert main(["evaluate-mask", str(out), "--faces", str(crowd), "--out", str(judged), "--quiet"]) == 0
    again = json.loads((judged / "summary.json").read_text(encoding="utf-8"))
    assert (again["identities"], again["data"]["known"]) == (4, 16)
    # Photographs are left in no file of the run: its working files are gone, and its report shows curves.
    assert not (out / "work").exists()


def test_some_people_of_a_folder_set_thresholds_for_the_others(tmp_path: Path, finished: Path, crowd: Path) -> None:
    out = tmp_path / "judged"
    words = ["--faces", str(crowd), "--tune", "Person_0:Person_5", "--out", str(out), "--quiet"]
    assert main(["evaluate-mask", str(finished), *words]) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    # Person_0, 1, 10 to 19, 2 to 5, in alphabetical order.
    assert summary["data"]["people"] == {"train": 8, "calibration": 4, "validation": 4, "test": 4}
    assert summary["identities"] == 4
    assert all("tar_at_fmr_0.1" in row for row in summary["attackers"].values())
    assert not any("--tune" in line for line in summary["limits"])
