"""Gates, verdicts and headline on tables made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluation.limits.information import Certificate
from evaluation.verdicts.rows import Judged, judge, surrogates

PEOPLE = 40
PROTECTORS: dict[str, dict[str, Any]] = {
    name: {"threats": threats, "control": control, "settings": {}, "surrogates": surrogates}
    for name, threats, control, surrogates in (
        ("identity", [], True, []),
        ("pixelate", ["dodge"], True, []),
        ("gaussian-blur", ["dodge"], True, []),
        ("cloak", ["dodge"], False, ["other"]),
        ("camera", ["sensor"], False, []),
    )
}


def _clean(**changes: Any) -> dict[str, Any]:
    return {
        "alpha": 0.01, "tar_clean": 0.99, "tar_ci95": [0.93, 1.0], "fmr": 0.01,
        "fmr_ci95": [0.005, 0.02],
        "identities": PEOPLE, "rank1": 1.0, "chance_rank1": 1 / PEOPLE,
        "shuffled_rank1": 0.02, "shuffled_rank1_ci95": [0.0, 0.1], **changes,
    }  # fmt: skip


def _attack(
    level: str, psr: float, rank1: float, ci95: tuple[float, float], rank1_ci95: tuple[float, float] | None = None
) -> dict[str, Any]:
    rows = [
        {
            "level": level, "frames": 1, "identities": PEOPLE, "combination": name, "psr": psr,
            "psr_net": psr, "ci95": list(ci95),
            "rank1": rank1, "rank1_clean": 1.0, "rank1_ci95": list(rank1_ci95 or (rank1, rank1)),
            "chance_rank1": 1 / PEOPLE, "auc_ci95": [0.4, 0.55],
        }
        for name in ("CC", "CP", "PC", "PP")
    ]  # fmt: skip
    points = [{"share": share, "psr_net": psr * (1 - 3 * share)} for share in (0.0, 0.1)]
    people = {name: np.where(np.arange(PEOPLE) < round(psr * PEOPLE), 1.0, 0.0) for name in ("CC", "CP", "PC", "PP")}
    return {"rows": rows, "people": people, "leakage": points, "templates": []}


def _judged(changes: dict[tuple[str, str], dict[str, Any]] | None = None, **others: Any) -> Judged:
    attacks = {
        ("identity", "plain"): _attack("K0", 0.0, 1.0, (0.0, 0.05)),
        ("identity", "trained"): _attack("K2", 0.0, 1.0, (0.0, 0.05)),
        ("pixelate", "plain"): _attack("K0", 0.9, 0.3, (0.85, 0.95)),
        ("pixelate", "trained"): _attack("K2", 0.1, 0.9, (0.05, 0.2)),
        ("cloak", "plain"): _attack("K0", 1.0, 0.0, (0.96, 1.0)),
        ("cloak", "trained"): _attack("K2", 0.6, 0.4, (0.55, 0.7)),
        ("camera", "plain"): _attack("K0", 1.0, 0.02, (0.96, 1.0)),
        ("camera", "trained"): _attack("K2", 0.95, 0.05, (0.9, 0.97), (0.02, 0.09)),
        **(changes or {}),
    }
    scored = {}
    for (protector, attacker), value in attacks.items():
        named = {"protector": protector, "attacker": attacker, "recogniser": "r"}
        scored[protector, attacker, "r"] = {**value, "rows": [{**named, **row} for row in value["rows"]]}
    recognisers = {"r": {"family": "of r", "reserved": False, "clean": others.pop("clean", _clean())}}
    given = {
        "equal_noise": {"cloak": {"spec": "noise:l2=3", "people": {"r": np.zeros(PEOPLE)}}}, "certificates": {},
        "qualities": {"cloak": {"fta": 0.02, "fta_clean": 0.0, "ssim_median": 0.95, "ssim_p5": 0.7}},
        "controls": ("identity", "pixelate", "gaussian-blur"), "exploratory": "", "seed": 0, **others,
    }  # fmt: skip
    return judge(PROTECTORS, recognisers, scored, **given)


def _verdict(judged: Judged, protector: str, attacker: str, combination: str = "CP") -> str:
    wanted = (protector, attacker, combination)
    (row,) = [row for row in judged.rows if (row["protector"], row["attacker"], row["combination"]) == wanted]
    return str(row["verdict"])


def test_verdicts_follow_the_bars() -> None:
    judged = _judged()
    assert _verdict(judged, "cloak", "plain") == "protects, strong"
    assert _verdict(judged, "cloak", "trained") == "withstands"
    assert _verdict(judged, "cloak", "plain", "CC") == "reference"
    assert _verdict(judged, "pixelate", "plain") == "control"
    assert _verdict(judged, "pixelate", "trained") == "broken"
    # Optics: upper limit of rank-1, .09, against max(2/40, 1/40 + .1) = .125.
    assert _verdict(judged, "camera", "trained") == "withstands"
    between = _judged({("cloak", "trained"): _attack("K2", 0.5, 0.5, (0.4, 0.6))})
    assert _verdict(between, "cloak", "trained") == "not shown"
    seen = _judged({("camera", "trained"): _attack("K2", 0.95, 0.2, (0.9, 0.97), (0.14, 0.3))})
    assert _verdict(seen, "camera", "trained") == "broken"


def test_headline_is_the_least_lower_limit() -> None:
    judged = _judged()
    head = judged.headline["cloak"]["CP"]
    assert (head["attacker"], head["low"], head["raw_psr"], head["attacks"]) == ("trained", 0.55, 1.0, 2)
    assert head["unseen"]["attacker"] == "trained"
    assert (head["worst_person"], head["worst_decile"]) == (0, 0)
    assert judged.headline["cloak"]["PC"]["leaked_share"] == pytest.approx(0.7)
    assert judged.headline["cloak"]["claims"] == {
        "protects": True, "strong": True, "withstands retraining": True, "leakage-tolerant": False,
        "unlinkable": True, "quality": False, "utility": None, "utility of optics": None, "certified": None,
    }  # fmt: skip
    assert judged.headline["identity"]["verdict"]["label"] == "control"
    # The Wiener control was not run, so the label of the whole is no claim.
    assert judged.headline["cloak"]["verdict"]["label"] == "no claim"
    wiener = _judged({("gaussian-blur", "wiener"): _attack("K3", 0.0, 1.0, (0.0, 0.05))})
    assert wiener.headline["cloak"]["verdict"]["label"] == "strong"
    assert {name: entry["CP"]["claimed"] for name, entry in judged.headline.items() if "CP" in entry} == {
        "identity": False, "pixelate": True, "cloak": True, "camera": True,
    }  # fmt: skip
    assert judged.rows[0]["unseen"] is None  # the camera uses no recogniser


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"clean": _clean(tar_clean=0.85)}, "recogniser-strength/r"),
        ({"clean": _clean(tar_ci95=[0.79, 1.0])}, "recogniser-strength/r"),
        ({"clean": _clean(fmr=0.03, fmr_ci95=[0.02, 0.04])}, "false-match-rate/r"),
        ({"clean": _clean(shuffled_rank1=0.5, shuffled_rank1_ci95=[0.4, 0.6])}, "label-shuffle/r"),
        ({"changes": {("identity", "plain"): _attack("K0", 0.1, 1.0, (0.0, 0.2))}}, "identity-control/r"),
    ],
)
def test_without_these_gates_nothing_is_claimed(changes: dict[str, Any], gate: str) -> None:
    judged = _judged(**changes)
    assert judged.gates[gate]["passed"] is False
    verdicts = {row["verdict"] for row in judged.rows if row["combination"] != "CC"}
    assert all(verdict.startswith(f"no claim ({gate}") for verdict in verdicts)


def test_a_claim_falls_with_noise_controls_or_certificate_but_broken_stays_broken() -> None:
    noise = {"cloak": {"spec": "noise:l2=3", "people": {"r": np.ones(PEOPLE)}}}
    assert _verdict(_judged(equal_noise=noise), "cloak", "plain").startswith("no claim (equal-noise/cloak/r")
    weak = _judged({("pixelate", "trained"): _attack("K2", 0.5, 0.5, (0.4, 0.6))})
    assert weak.gates["parrot-control/r"]["passed"] is False
    assert _verdict(weak, "cloak", "trained").startswith("no claim (parrot-control/r")
    lame = _judged({("identity", "plain"): _attack("K0", 0.0, 0.5, (0.0, 0.05))})
    assert _verdict(lame, "cloak", "plain").startswith("no claim (attacker-control/plain/r")
    stated = Certificate.of_bits(0.05, PEOPLE, 1, noise="Gaussian", assumptions="a model").to_dict()
    assert _judged(certificates={"camera": stated}).gates["certificate"]["passed"] is True
    over = _judged(
        {("camera", "trained"): _attack("K2", 0.95, 0.2, (0.9, 0.97), (0.14, 0.3))}, certificates={"camera": stated}
    )
    assert over.gates["certificate"]["passed"] is False
    assert "camera, trained, r, " in over.gates["certificate"]["reason"]
    assert _verdict(over, "cloak", "plain").startswith("no claim (certificate")
    assert _verdict(over, "camera", "trained") == "broken"
    few = _judged(exploratory="12 people")
    assert _verdict(few, "cloak", "plain") == "exploratory (12 people)"
    assert _verdict(few, "pixelate", "trained") == "broken"


def test_comparisons_are_paired_and_corrected() -> None:
    tests = [test for test in _judged().comparisons if test["combination"] == "CP"]
    found = {(test["first"], test["second"]): test for test in tests}
    # The worst attackers protect 36 of 40 and 24 of 40 people's probes: camera .95 against cloak .6.
    assert found["camera", "cloak"]["difference"] == pytest.approx(0.35)
    assert all(test["p_holm"] >= test["p"] for test in tests)
    assert len(tests) == 6


def test_surrogates_are_those_declared_whatever_the_settings_are_called() -> None:
    declared = {"settings": {"recogniser": "faceres", "model": "faceres"}, "surrogates": ["sface", "dlib-resnet"]}
    assert surrogates(declared) == ["sface", "dlib-resnet"]
    assert surrogates({**declared, "surrogates": []}) == []


def test_a_control_with_settings_of_the_user_decides_no_gate() -> None:
    judged = _judged(controls=("identity", "pixelate:cells=28", "gaussian-blur"))
    assert judged.gates["parrot-control/r"]["passed"] is None
    assert _judged().gates["parrot-control/r"]["passed"] is True
