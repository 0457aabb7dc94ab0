"""Gates, verdicts and headline on tables made by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from evaluation.labels import Level
from evaluation.limits.information import Certificate
from evaluation.matrix.scoring import COMBINATIONS
from evaluation.records import (
    CertificateFacts,
    CleanFigures,
    EqualNoise,
    Evidence,
    LeakagePoint,
    Quality,
    Row,
    Scored,
    Triple,
)
from evaluation.verdicts.rows import Judged, judge, unseen
from tests.evaluation import made

PEOPLE = made.PEOPLE
PROTECTORS = {
    "identity": made.method(control=True),
    "pixelate": made.method("dodge", control=True),
    "gaussian-blur": made.method("dodge", control=True),
    "cloak": made.method("dodge", surrogates=("other",)),
    "camera": made.method("sensor"),
}
Change = dict[tuple[str, str], "Attack"]


@dataclass(frozen=True)
class Attack:
    """One attack in short: the same figures in every combination."""

    level: Level
    psr: float
    rank1: float
    ci95: tuple[float, float]
    rank1_ci95: tuple[float, float] | None = None

    def scored(self, protector: str, attacker: str) -> Scored:
        people = np.where(np.arange(PEOPLE) < round(self.psr * PEOPLE), 1.0, 0.0)
        rows = tuple(
            made.scored_row(
                self.psr,
                protector=protector,
                attacker=attacker,
                level=self.level,
                combination=name,
                ci95=self.ci95,
                rank1=self.rank1,
                rank1_ci95=self.rank1_ci95 or (self.rank1, self.rank1),
            )
            for name in COMBINATIONS
        )
        return Scored(
            rows=rows,
            det={},
            people=dict.fromkeys(COMBINATIONS, people),
            identities=tuple(range(PEOPLE)),
            leakage=tuple(LeakagePoint(share, self.psr * (1 - 3 * share), None) for share in (0.0, 0.1)),
            templates=(),
        )


def _noise(protection: float) -> dict[str, EqualNoise]:
    return {"cloak": EqualNoise("noise:l2=3", "key", 3.0, {"r": np.full(PEOPLE, protection)}, {"r": protection})}


def _judged(changes: Change | None = None, clean: CleanFigures | None = None, **others: Any) -> Judged:
    attacks = {
        ("identity", "plain"): Attack("K0", 0.0, 1.0, (0.0, 0.05)),
        ("identity", "trained"): Attack("K2", 0.0, 1.0, (0.0, 0.05)),
        ("pixelate", "plain"): Attack("K0", 0.9, 0.3, (0.85, 0.95)),
        ("pixelate", "trained"): Attack("K2", 0.1, 0.9, (0.05, 0.2)),
        ("cloak", "plain"): Attack("K0", 1.0, 0.0, (0.96, 1.0)),
        ("cloak", "trained"): Attack("K2", 0.6, 0.4, (0.55, 0.7)),
        ("camera", "plain"): Attack("K0", 1.0, 0.02, (0.96, 1.0)),
        ("camera", "trained"): Attack("K2", 0.95, 0.05, (0.9, 0.97), (0.02, 0.09)),
        **(changes or {}),
    }
    evidence = Evidence(
        protectors=PROTECTORS,
        recognisers={"r": made.recogniser(clean=clean or made.clean_figures())},
        scored={Triple(*names, "r"): attack.scored(*names) for names, attack in attacks.items()},
        equal_noise=_noise(0.0),
        certified={},
        qualities={"cloak": Quality(fta=0.02, fta_clean=0.0, ssim_median=0.95, ssim_p5=0.7)},
        controls=("identity", "pixelate", "gaussian-blur"),
        exploratory="",
        seed=0,
    )
    return judge(replace(evidence, **others))


def _row(judged: Judged, protector: str, attacker: str, combination: str = "CP") -> Row:
    wanted = (protector, attacker, combination)
    (row,) = [row for row in judged.rows if (row.protector, row.attacker, row.combination) == wanted]
    return row


def _verdict(judged: Judged, protector: str, attacker: str, combination: str = "CP") -> str:
    return _row(judged, protector, attacker, combination).verdict


def test_verdicts_follow_the_bars() -> None:
    judged = _judged()
    assert _verdict(judged, "cloak", "plain") == "strong"
    assert _verdict(judged, "cloak", "trained") == "withstands"
    assert _verdict(judged, "cloak", "plain", "CC") == "reference"
    assert _verdict(judged, "pixelate", "plain") == "control"
    assert _verdict(judged, "pixelate", "trained") == "broken"
    # Optics: upper limit of rank-1, .09, against max(2/40, 1/40 + .1) = .125.
    assert _verdict(judged, "camera", "trained") == "withstands"
    between = _judged({("cloak", "trained"): Attack("K2", 0.5, 0.5, (0.4, 0.6))})
    assert _verdict(between, "cloak", "trained") == "not shown"
    seen = _judged({("camera", "trained"): Attack("K2", 0.95, 0.2, (0.9, 0.97), (0.14, 0.3))})
    assert _verdict(seen, "camera", "trained") == "broken"


def test_headline_is_the_least_lower_limit() -> None:
    judged = _judged()
    head = judged.headline["cloak"].worst["CP"]
    assert (head.attacker, head.low, head.raw_psr, head.attacks) == ("trained", 0.55, 1.0, 2)
    assert head.unseen is not None
    assert head.unseen.attacker == "trained"
    assert (head.worst_person, head.worst_decile) == (0, 0)
    assert judged.headline["cloak"].worst["PC"].leaked_share == pytest.approx(0.7)
    assert judged.headline["cloak"].claims == {
        "protects": True, "strong": True, "withstands retraining": True, "leakage-tolerant": False,
        "unlinkable": True, "quality": False, "utility": None, "utility of optics": None, "certified": None,
    }  # fmt: skip
    assert judged.headline["identity"].verdict.label == "control"
    # The Wiener control was not run, so the label of the whole is no claim.
    assert judged.headline["cloak"].verdict.label == "no claim"
    wiener = _judged({("gaussian-blur", "wiener"): Attack("K3", 0.0, 1.0, (0.0, 0.05))})
    assert wiener.headline["cloak"].verdict.label == "strong"
    assert {name: said.worst["CP"].claimed for name, said in judged.headline.items() if "CP" in said.worst} == {
        "identity": False, "pixelate": True, "cloak": True, "camera": True,
    }  # fmt: skip
    assert judged.rows[0].unseen is None  # the camera uses no recogniser


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"clean": made.clean_figures(tar_clean=0.85)}, "recogniser-strength/r"),
        ({"clean": made.clean_figures(tar_ci95=(0.79, 1.0))}, "recogniser-strength/r"),
        ({"clean": made.clean_figures(fmr=0.03, fmr_ci95=(0.02, 0.04))}, "false-match-rate/r"),
        ({"clean": made.clean_figures(shuffled_rank1=0.5, shuffled_rank1_ci95=(0.4, 0.6))}, "label-shuffle/r"),
        ({"changes": {("identity", "plain"): Attack("K0", 0.1, 1.0, (0.0, 0.2))}}, "identity-control/r"),
    ],
)
def test_without_these_gates_nothing_is_claimed(changes: dict[str, Any], gate: str) -> None:
    judged = _judged(**changes)
    assert judged.gates[gate].passed is False
    asked = [row for row in judged.rows if row.combination != "CC"]
    assert {row.verdict for row in asked} == {"no claim"}
    assert all(row.reason.startswith(f"{gate}: ") for row in asked)


def _blocked(judged: Judged, attacker: str, gate: str) -> bool:
    row = _row(judged, "cloak", attacker)
    return row.verdict == "no claim" and row.reason.startswith(gate)


def test_a_claim_falls_with_noise_controls_or_certificate_but_broken_stays_broken() -> None:
    assert _blocked(_judged(equal_noise=_noise(1.0)), "plain", "equal-noise/cloak/r: ")
    weak = _judged({("pixelate", "trained"): Attack("K2", 0.5, 0.5, (0.4, 0.6))})
    assert weak.gates["parrot-control/r"].passed is False
    assert _blocked(weak, "trained", "parrot-control/r: ")
    lame = _judged({("identity", "plain"): Attack("K0", 0.0, 0.5, (0.0, 0.05))})
    assert _blocked(lame, "plain", "attacker-control/plain/r: ")
    stated = Certificate.of_bits(0.05, PEOPLE, 1, noise="Gaussian", assumptions="a model")
    facts = CertificateFacts(**stated.to_dict())
    assert _judged(certified={"camera": facts}).gates["certificate"].passed is True
    over = _judged(
        {("camera", "trained"): Attack("K2", 0.95, 0.2, (0.9, 0.97), (0.14, 0.3))}, certified={"camera": facts}
    )
    assert over.gates["certificate"].passed is False
    assert "camera, trained, r, " in over.gates["certificate"].reason
    assert _blocked(over, "plain", "certificate: ")
    assert _verdict(over, "camera", "trained") == "broken"
    few = _judged(exploratory="12 people")
    assert (_verdict(few, "cloak", "plain"), _row(few, "cloak", "plain").reason) == ("exploratory", "12 people")
    assert _verdict(few, "pixelate", "trained") == "broken"


def test_comparisons_are_paired_and_corrected() -> None:
    tests = [test for test in _judged().comparisons if test.combination == "CP"]
    found = {(test.first, test.second): test for test in tests}
    # The worst attackers protect 36 of 40 and 24 of 40 people's probes: camera .95 against cloak .6.
    assert found["camera", "cloak"].difference == pytest.approx(0.35)
    assert all(test.p_holm >= test.p for test in tests)
    assert len(tests) == 6


def test_a_control_with_settings_of_the_user_decides_no_gate() -> None:
    judged = _judged(controls=("identity", "pixelate:cells=28", "gaussian-blur"))
    assert judged.gates["parrot-control/r"].passed is None
    assert _judged().gates["parrot-control/r"].passed is True


def test_what_is_unseen_follows_the_declaration_whatever_the_settings_are_called() -> None:
    judges = {"sface": made.recogniser(family="a"), "faceres": made.recogniser(family="b")}
    tuned = made.method("dodge", surrogates=("sface",), settings={"recogniser": "faceres", "surrogates": "faceres"})
    assert [unseen(name, tuned, judges) for name in judges] == [False, True]
    assert unseen("sface", made.method("dodge", settings={"surrogates": "sface"}), judges) is None
    # A recogniser of the family of a surrogate is no stranger to it.
    assert unseen("faceres", tuned, {**judges, "faceres": made.recogniser(family="a")}) is False
