"""Impersonation: a photo of the target itself always passes, an unchanged one no more often than a stranger's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evaluation.matrix import impersonation
from evaluation.records import Imitation, ImpersonationRow
from ground.gates import Gate

Evaluate = Callable[..., dict[str, Any]]


def test_a_photo_of_the_target_passes_and_a_photo_left_alone_does_not(evaluated: Evaluate) -> None:
    summary = evaluated(protectors=["paste", "wish"], attackers=["as-published"])
    found = {row["protector"]: row for row in summary["impersonation"]}
    paste, wish = found["paste"], found["wish"]
    assert (paste["asr"], paste["asr_net"], paste["rank1_target"], paste["targets"]) == (1, 1, 1, 2)
    assert (paste["verdict"], paste["unseen"]) == ("holds", None)
    assert paste["asr_at_fmr"]["0.1"] == 1
    assert wish["asr"] == wish["asr_clean"] == paste["asr_clean"] < 0.06  # FMR .01, the better of two targets
    assert (wish["asr_net"], wish["rank1_target"], wish["verdict"]) == (0, 0, "fails")
    assert wish["asr_at_fmr"]["0.1"] < 0.4
    # Noise as large as the change is no photo of the target.
    assert paste["asr_net_noise"] < 0.1
    assert wish["asr_net_noise"] is None  # there is no change to match
    claims = {claim["protector"]: claim for claim in summary["own_claims"]}
    assert [claims[name]["verdict"] for name in ("paste", "wish")] == ["holds", "fails"]
    assert claims["paste"]["judges"][0] | {"ci95": None} == {
        "judge": "pixels", "unseen": None, "value": 1, "ci95": None, "raw": 1, "clean": paste["asr_clean"],
        "noise": paste["asr_net_noise"], "verdict": "holds", "reason": paste["reason"], "primary": True,
        "weak": False,
    }  # fmt: skip
    table = {row["protector"]: row["target_asr"] for row in summary["tables"]}
    assert (table["paste"], table["wish"], table["identity"]) == (1, wish["asr"], None)


def _measured(protected: np.ndarray, clean: np.ndarray, noise: np.ndarray) -> Imitation:
    return Imitation(
        identity=tuple(np.repeat(np.arange(40), 2).tolist()),
        clean=tuple(clean.tolist()),
        protected=tuple(protected.tolist()),
        noise=tuple(noise.tolist()),
        at={"0.01": 0.5},
        first=tuple(protected.tolist()),
        people=1,
    )


def _row(*sides: np.ndarray, passed: bool | None = True, exploratory: str = "") -> ImpersonationRow:
    gates = {"recogniser-strength/r": Gate("recogniser-strength/r", passed, "why")}
    (row,) = impersonation.rows(
        {"cloak": {"r": _measured(*sides)}}, lambda protector, recogniser: False, gates, exploratory, 0
    )
    return row


def test_what_passed_before_is_no_success() -> None:
    place = np.arange(80)
    clean, protected, none = place < 16, place < 64, np.zeros(80, dtype=bool)
    row = _row(protected, clean, none)
    assert (row.asr, row.asr_clean, row.asr_net_noise) == (0.8, 0.2, 0)
    assert row.asr_net == pytest.approx(48 / 64)
    assert row.asr_net_ci95 is not None
    assert row.asr_net_ci95[0] > 0.5
    assert (row.verdict, row.unseen, row.weak) == ("holds", False, False)
    # Noise that does as much, a weak recogniser, few people: nothing is claimed.
    assert _row(protected, clean, protected).reason.startswith("equal-noise: it passes +0.000")
    weak = _row(protected, clean, none, passed=False)
    assert (weak.verdict, weak.weak, weak.reason) == ("no claim", True, "recogniser-strength/r: why")
    assert _row(protected, clean, none, exploratory="few").verdict == "exploratory"
    assert _row(place < 45, none, none).verdict == "not shown"
    assert _row(place < 10, none, none).verdict == "fails"
    assert _row(protected, ~none, none).asr_net is None
