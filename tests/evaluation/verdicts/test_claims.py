"""Own claims on tables made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from evaluation.measures.gates import claim_verdict
from evaluation.measures.intervals import Interval
from evaluation.records import Claim, EqualNoise, Evidence, Inapplicable, Method, PoisonRow, Row
from evaluation.verdicts.claims import own_claims
from ground.gates import Gate
from tests.evaluation import made


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
    assert claim_verdict(interval, 0.8, gates, exploratory).label == verdict


def _plain(protector: str, recogniser: str, psr: float, **more: Any) -> Row:
    given = {
        "protector": protector, "recogniser": recogniser, "ci95": (psr - 0.1, psr + 0.05),
        "unseen": recogniser == "judge", "verdict": "broken", **more,
    }  # fmt: skip
    return made.row(psr, **given)


def _victim(protector: str, victim: str, countermeasure: str, verdict: str, weak: bool = False) -> PoisonRow:
    return made.poison_row(
        protector=protector, victim=victim, countermeasure=countermeasure, verdict=verdict, weak=weak
    )


def _gates(*weak: str) -> dict[str, Gate]:
    names = ("recogniser-strength", "false-match-rate", "label-shuffle", "identity-control")
    gates = [Gate(f"{name}/{judge}", judge not in weak, "measured") for name in names for judge in ("seen", "judge")]
    gates += [Gate(f"equal-noise/cloak/{judge}", True, "beaten") for judge in ("seen", "judge")]
    return {gate.name: gate for gate in gates}


def _claims(
    said: Method,
    rows: Sequence[Row] = (),
    poisoned: Sequence[PoisonRow] = (),
    gates: dict[str, Gate] | None = None,
    inapplicable: Sequence[Inapplicable] = (),
) -> Claim:
    evidence = Evidence(
        protectors={"cloak": said, "identity": made.method("dodge", control=True)},
        recognisers={},
        scored={},
        equal_noise={"cloak": EqualNoise("noise:l2=3", "key", 3.0, {}, {"seen": 0.02})},
        certified={},
        qualities={},
        controls=(),
        exploratory="",
        seed=0,
    )
    (claim,) = own_claims(evidence, rows, poisoned, (), gates or _gates(), inapplicable)
    return claim


def test_dodging_holds_before_every_recogniser_or_not_at_all() -> None:
    rows = [_plain("cloak", "seen", 0.95), _plain("cloak", "judge", 0.3), _plain("identity", "seen", 0.0)]
    rows += [_plain("cloak", "seen", 0.0, level="K2"), _plain("cloak", "seen", 0.0, combination="PC")]
    rows += [_plain("cloak", "seen", 0.0, frames=4)]
    claim = _claims(made.method("dodge"), rows)
    assert [(judge.judge, judge.unseen, judge.verdict, judge.noise) for judge in claim.judges] == [
        ("seen", False, "holds", 0.02), ("judge", True, "fails", None),
    ]  # fmt: skip
    assert (claim.verdict, claim.bar, claim.reason[:6]) == ("fails", 0.8, "judge:")
    assert claim.judges[0].clean == pytest.approx(0.02)
    # A recogniser that fails its gate does not judge.
    alone = _claims(made.method("dodge"), rows, gates=_gates("judge"))
    assert (alone.verdict, [judge.weak for judge in alone.judges]) == ("holds", [False, True])
    nobody = _claims(made.method("dodge"), rows, gates=_gates("judge", "seen"))
    assert (nobody.verdict, nobody.reason) == ("no claim", "judge: recogniser-strength/judge: measured")
    assert _claims(made.method("dodge")).verdict == "not measured"


def test_poison_is_judged_by_the_kind_of_victim_that_it_was_made_for() -> None:
    poisoned = [
        _victim("cloak", "scratch", "as-is", "holds"),
        _victim("cloak", "scratch", "grey", "fails"),
        _victim("cloak", "linear/seen", "as-is", "fails"),
        _victim("cloak", "nearest/seen", "as-is", "not shown"),
        _victim("other", "scratch", "as-is", "fails"),
    ]
    claim = _claims(made.method("poison"), poisoned=poisoned)
    assert (claim.verdict, claim.reason) == ("holds", "scratch: because")
    assert [judge.judge for judge in claim.judges] == ["scratch", "scratch, grey", "linear/seen", "nearest/seen"]
    assert [judge.primary for judge in claim.judges] == [True, False, False, False]
    tuned = _claims(made.method("poison", surrogates=("seen",)), poisoned=poisoned)
    assert (tuned.verdict, tuned.reason) == ("fails", "linear/seen: because")
    weak = [_victim("cloak", "scratch", "as-is", "no claim", weak=True), *poisoned[1:]]
    assert _claims(made.method("poison"), poisoned=weak).verdict == "no claim"
    untried = [Inapplicable("cloak", "scratch", "too few photographs")]
    absent = _claims(made.method("poison"), poisoned=poisoned[2:4], inapplicable=untried)
    assert (absent.verdict, absent.reason) == ("not measured", "too few photographs")


def test_optics_answer_for_every_attack() -> None:
    rows = [
        _plain("cloak", "seen", 0.99, verdict="strong"),
        _plain("cloak", "seen", 0.6, level="K2", attacker="trained", verdict="withstands"),
        _plain("cloak", "seen", 0.7, combination="PP", attacker="linked", verdict="not shown"),
        _plain("cloak", "seen", 0.1, combination="PC", verdict="broken"),
    ]
    claim = _claims(made.method("sensor"), rows)
    assert (claim.verdict, claim.judges[0].judge) == ("not shown", "linked, seen")
    assert _claims(made.method("sensor"), rows[:2]).verdict == "holds"
    refused = _plain("cloak", "seen", 0.99, verdict="no claim", reason="equal-noise: as much")
    assert _claims(made.method("sensor"), [refused]).reason == "as-published, seen: equal-noise: as much"
