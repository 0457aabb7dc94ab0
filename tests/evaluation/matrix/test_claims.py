"""Own claims on tables made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.measures.gates import Gate, claim_verdict
from evaluation.measures.statistics import Interval
from evaluation.verdicts.claims import own_claims


@pytest.mark.parametrize(
    ("value", "judge", "noise", "exploratory", "verdict"),
    [
        ((0.9, 0.8, 1.0), True, True, "", "holds"),
        ((0.9, 0.79, 1.0), True, True, "", "not shown"),
        ((0.6, 0.4, 0.79), True, True, "", "fails"),
        ((0.6, 0.4, 0.79), True, False, "few", "fails"),
        ((0.9, 0.8, 1.0), True, True, "few", "exploratory"),
        ((0.9, 0.8, 1.0), True, False, "", "no claim"),
        ((0.9, 0.8, 1.0), True, None, "", "no claim"),
        ((0.1, 0.0, 0.2), False, True, "", "no claim"),
        ((0.1, 0.0, 0.2), None, True, "", "no claim"),
        (None, True, True, "", "no claim"),
    ],
)
def test_a_claim_holds_by_its_lower_limit(
    value: tuple[float, float, float] | None, judge: bool | None, noise: bool | None, exploratory: str, verdict: str
) -> None:
    interval = None if value is None else Interval(*value, people=40)
    gates = [Gate("judge", judge, "strong"), Gate("noise", noise, "beaten")]
    assert claim_verdict(interval, 0.8, gates, exploratory)[0] == verdict


def _said(*threats: str, control: bool = False, surrogates: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"threats": list(threats), "control": control, "settings": {}, "surrogates": list(surrogates)}


def _plain(protector: str, recogniser: str, psr: float, **more: Any) -> dict[str, Any]:
    return {
        "protector": protector, "recogniser": recogniser, "combination": "CP", "level": "K0", "frames": 1,
        "attacker": "as-published", "psr_net": psr, "ci95": [psr - 0.1, psr + 0.05], "psr": psr, "tar_clean": 0.98,
        "identities": 40, "unseen": recogniser == "judge", "verdict": "broken", **more,
    }  # fmt: skip


def _victim(protector: str, victim: str, countermeasure: str, verdict: str, weak: bool = False) -> dict[str, Any]:
    return {
        "protector": protector, "victim": victim, "countermeasure": countermeasure, "unseen": True, "delta": 0.9,
        "delta_ci95": [0.85, 0.95], "accuracy": 0.1, "accuracy_clean": 0.9, "delta_noise": 0.1, "verdict": verdict,
        "reason": "because", "weak": weak,
    }  # fmt: skip


def _gates(*weak: str) -> dict[str, dict[str, Any]]:
    gates = {
        f"{name}/{judge}": {"passed": judge not in weak, "reason": "measured"}
        for name in ("recogniser-strength", "false-match-rate", "label-shuffle", "identity-control")
        for judge in ("seen", "judge")
    }
    gates |= {f"equal-noise/cloak/{judge}": {"passed": True, "reason": "beaten"} for judge in ("seen", "judge")}
    return gates


def _claims(said: dict[str, Any], rows: Any = (), poisoned: Any = (), gates: Any = None, **more: Any) -> dict[str, Any]:
    protectors = {"cloak": said, "identity": _said("dodge", control=True)}
    noise = {"cloak": {"psr_net": {"seen": 0.02}}}
    given = {"inapplicable": [], "exploratory": "", **more}
    (claim,) = own_claims(protectors, rows, poisoned, [], noise, gates or _gates(), **given)
    return claim


def test_dodging_holds_before_every_recogniser_or_not_at_all() -> None:
    rows = [_plain("cloak", "seen", 0.95), _plain("cloak", "judge", 0.3), _plain("identity", "seen", 0.0)]
    rows += [_plain("cloak", "seen", 0.0, level="K2"), _plain("cloak", "seen", 0.0, combination="PC")]
    rows += [_plain("cloak", "seen", 0.0, frames=4)]
    claim = _claims(_said("dodge"), rows)
    assert [(judge["judge"], judge["unseen"], judge["verdict"], judge["noise"]) for judge in claim["judges"]] == [
        ("seen", False, "holds", 0.02), ("judge", True, "fails", None),
    ]  # fmt: skip
    assert (claim["verdict"], claim["bar"], claim["reason"][:6]) == ("fails", 0.8, "judge:")
    assert claim["judges"][0]["clean"] == pytest.approx(0.02)
    # A recogniser that fails its gate does not judge.
    alone = _claims(_said("dodge"), rows, gates=_gates("judge"))
    assert (alone["verdict"], [judge["weak"] for judge in alone["judges"]]) == ("holds", [False, True])
    nobody = _claims(_said("dodge"), rows, gates=_gates("judge", "seen"))
    assert (nobody["verdict"], nobody["reason"]) == ("no claim", "judge: recogniser-strength/judge: measured")
    assert _claims(_said("dodge"))["verdict"] == "not measured"


def test_poison_is_judged_by_the_kind_of_victim_that_it_was_made_for() -> None:
    poisoned = [
        _victim("cloak", "scratch", "as-is", "holds"),
        _victim("cloak", "scratch", "grey", "fails"),
        _victim("cloak", "linear/seen", "as-is", "fails"),
        _victim("cloak", "nearest/seen", "as-is", "not shown"),
        _victim("other", "scratch", "as-is", "fails"),
    ]
    claim = _claims(_said("poison"), poisoned=poisoned)
    assert (claim["verdict"], claim["reason"]) == ("holds", "scratch: because")
    assert [judge["judge"] for judge in claim["judges"]] == ["scratch", "scratch, grey", "linear/seen", "nearest/seen"]
    assert [judge["primary"] for judge in claim["judges"]] == [True, False, False, False]
    made = _claims(_said("poison", surrogates=("seen",)), poisoned=poisoned)
    assert (made["verdict"], made["reason"]) == ("fails", "linear/seen: because")
    weak = [_victim("cloak", "scratch", "as-is", "no claim", weak=True), *poisoned[1:]]
    assert _claims(_said("poison"), poisoned=weak)["verdict"] == "no claim"
    untried = [{"protector": "cloak", "attacker": "scratch", "reason": "too few photographs"}]
    absent = _claims(_said("poison"), poisoned=poisoned[2:4], inapplicable=untried)
    assert (absent["verdict"], absent["reason"]) == ("not measured", "too few photographs")


def test_optics_answer_for_every_attack() -> None:
    rows = [
        _plain("cloak", "seen", 0.99, verdict="protects, strong"),
        _plain("cloak", "seen", 0.6, level="K2", attacker="trained", verdict="withstands"),
        _plain("cloak", "seen", 0.7, combination="PP", attacker="linked", verdict="not shown"),
        _plain("cloak", "seen", 0.1, combination="PC", verdict="broken"),
    ]
    claim = _claims(_said("sensor"), rows)
    assert (claim["verdict"], claim["judges"][0]["judge"]) == ("not shown", "linked, seen")
    assert _claims(_said("sensor"), rows[:2])["verdict"] == "holds"
    refused = _plain("cloak", "seen", 0.99, verdict="no claim (equal-noise: as much)")
    assert _claims(_said("sensor"), [refused])["reason"] == "as-published, seen: equal-noise: as much"
