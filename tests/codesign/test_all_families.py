"""train-mask beyond the default: every baseline family in one run, and photographs in place of synthetic heads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codesign.config import TrainMaskConfig
from tests.codesign.conftest import SMALL, Train, draw_album

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
    assert summary["identities"] == {"train": 8, "calibration": 4, "validation": 4, "test": 4}
    assert summary["config"]["faces"] == str(crowd)
    assert any("Teacher landmarks" in line for line in summary["limits"])
    # Photographs are left in no file of the run: its working files are gone, and its report shows curves.
    assert not (out / "work").exists()


def test_smallest_split_is_that_of_the_test_settings() -> None:
    assert sum(SMALL[f"data.{part}_people"] for part in ("train", "calibration", "validation", "test")) == 20
