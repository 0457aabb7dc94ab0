"""The survey's orderings on numbers made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evaluation.config import EvaluateConfig, Preset
from evaluation.labels import Combination, Level
from evaluation.matrix import poison
from evaluation.matrix.poison import AS_IS, SCRATCH
from evaluation.measures.quality import ssim
from evaluation.records import PoisonRow, Scored, Triple
from evaluation.verdicts import orderings
from evaluation.verdicts.orderings import EQUAL_SSIM, STATEMENTS, decide
from tests.evaluation import made
from tests.evaluation.matrix import matrix_fakes

Evaluate = Callable[..., dict[str, Any]]
#: Values of nine people whose differences have the mean 0 and the standard deviation 1.
SPREAD = np.array([-1, 1, -1, 1, -1, 1, -1, 1, 0.0])


@pytest.mark.parametrize(
    ("relation", "mean", "verdict"),
    [
        ("above", 0.8, "replicated"), ("above", 0.7, "not decided"), ("above", -0.8, "contradicted"),
        ("below", -0.8, "replicated"), ("below", 0.7, "not decided"), ("below", 0.8, "contradicted"),
    ],
)  # fmt: skip
def test_a_pair_is_decided_where_zero_is_outside(relation: Any, mean: float, verdict: str) -> None:
    # t(.975, 8) = 2.306, so the interval reaches 2.306 / 3 = .7687 to each side.
    found, difference = decide(SPREAD + mean + 5, np.full(9, 5.0), relation, 0, 0)
    assert found == verdict
    assert difference.ci == pytest.approx([mean - 2.306004 / 3, mean + 2.306004 / 3], abs=1e-6)


@pytest.mark.parametrize(
    ("mean", "margin", "verdict"),
    # t(.95, 8) = 1.8595: the 90 % interval reaches .6198.
    [(0.1, 0.73, "replicated"), (0.1, 0.71, "not decided"), (2.0, 1.2, "contradicted"), (-2.0, 1.2, "contradicted"),
     (2.0, 1.3, "not decided")],
)  # fmt: skip
def test_equality_needs_an_interval_within_the_margin(mean: float, margin: float, verdict: str) -> None:
    assert decide(SPREAD + mean, np.zeros(9), "equal", margin, 0)[0] == verdict


def _config(preset: Preset, *protectors: str) -> EvaluateConfig:
    return EvaluateConfig.for_preset(preset, "smoke").model_copy(update={"protectors": protectors})


def _poisoned(**accuracy: float) -> list[PoisonRow]:
    wobble = 0.01 * SPREAD
    return [
        made.poison_row(protector=name, victim=victim, countermeasure=countermeasure, people=tuple(value + wobble))
        for name, value in accuracy.items()
        for victim, countermeasure in ((SCRATCH, "grey"), (SCRATCH, AS_IS), ("linear/r", AS_IS))
    ]


def test_the_first_experiment_reads_trained_recognisers() -> None:
    similar = {"em:budget=uniform": [0.9] * 9, "rem": [0.93] * 9, "opom": [0.5] * 9}
    poisoned = _poisoned(**{"em:budget=uniform": 0.2, "rem": 0.6, "opom": 0.5})
    found = orderings.orderings(_config("S1", "rem", "opom", "em:budget=uniform", "em"), {}, poisoned, similar)
    # PSR of OPOM is .5, of EM .8, of REM .4; DFPP was not run; EM is .03 less similar than REM.
    assert [(row.first, row.relation, row.second, row.judge, row.verdict) for row in found] == [
        ("opom", "below", "em:budget=uniform", SCRATCH, "replicated"),
        ("opom", "below", "rem", SCRATCH, "contradicted"),
        ("opom", "below", "dfpp", SCRATCH, "not measured"),
        ("em:budget=uniform", "equal", "rem", "", "contradicted"),
    ]
    assert found[0].difference == pytest.approx(-0.3)
    assert [found[0].value_first, found[0].value_second] == pytest.approx([0.5, 0.8])
    assert (found[2].difference, found[2].reason) == (None, "PSR of dfpp was not measured")
    assert found[3].margin == EQUAL_SSIM
    alone = orderings.orderings(_config("S1", "em"), {}, [], {})
    assert {row.verdict for row in alone} == {"not measured"}
    assert orderings.orderings(EvaluateConfig.for_tier("smoke"), {}, poisoned, similar) == ()


def _attack(level: Level, frames: int, psr: float) -> Scored:
    row = made.scored_row(psr, level=level, frames=frames)
    people: dict[Combination, np.ndarray] = {"CP": psr + 0.01 * SPREAD}
    return Scored(rows=(row,), det={}, people=people, identities=(), leakage=(), templates=())


def test_the_second_experiment_reads_recognisers_as_published() -> None:
    psr = {"apf": 0.9, "tip-im": 0.5, "fawkes": 0.1}
    scored = {Triple(name, "plain", r): _attack("K0", 1, value) for name, value in psr.items() for r in ("one", "two")}
    scored |= {Triple(name, "video", "one"): _attack("K0", 4, 1 - value) for name, value in psr.items()}
    scored |= {Triple(name, "trained", "one"): _attack("K2", 1, 1 - value) for name, value in psr.items()}
    similar = {"apf": [0.99] * 9, "tip-im": [0.9] * 9, "fawkes": [0.95] * 9}
    found = orderings.orderings(_config("S2", *psr), scored, [], similar)
    assert [(row.figure, row.judge, row.verdict) for row in found] == [
        ("SSIM", "", "replicated"), ("SSIM", "", "contradicted"), ("PSR", "one", "replicated"),
        ("PSR", "two", "replicated"), ("PSR", "one", "replicated"), ("PSR", "two", "replicated"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["S1", "S2"])
def test_presets_bring_the_methods_that_the_statements_name(name: Preset) -> None:
    for tier in ("smoke", "standard"):
        config = EvaluateConfig.for_preset(name, tier)
        methods = [spec.partition(":")[0] for spec in config.protectors]
        named = {method for said in STATEMENTS[name] for method in (said.first, said.second)}
        assert set(methods) == named and len(methods) == len(named)
        assert all(spec.endswith(":budget=uniform") for spec in config.protectors) == (name == "S1")
    # Enough photographs to train on in S1, and none to train on in S2.
    enough = {tier: EvaluateConfig.for_preset(name, tier).people.gallery_captures for tier in ("smoke", "full")}
    assert all(bool(poison.inapplicable(count)) == (name == "S2") for count in enough.values())


def test_a_run_under_a_preset_compares_its_methods(evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = evaluated(protectors=["fawkes", "apf:x=1"], preset="S2", attackers=["as-published"])
    found = {(row["figure"], row["first"], row["second"]): row for row in summary["orderings"]}
    # Neither is what its name says here: both are negatives of the photo, and so the same.
    assert found["SSIM", "tip-im", "apf:x=1"]["verdict"] == "not measured"
    assert found["PSR", "apf:x=1", "tip-im"]["reason"] == "PSR of tip-im was not measured"
    assert len(found) == 4
    monkeypatch.setitem(STATEMENTS, "S2", (orderings.Statement("SSIM", "fawkes", "equal", "apf"),))
    (row,) = evaluated("again", protectors=["fawkes", "apf:x=1"], preset="S2", attackers=["as-published"])["orderings"]
    assert (row["verdict"], row["difference"]) == ("replicated", 0)
    faces = matrix_fakes.heads(30, 4, 13_000_000)
    probes = faces.images[faces.capture >= 2].float() / 255
    assert row["value_first"] == pytest.approx(float(ssim(probes, 1 - probes).clamp(0, 1).mean()), abs=1e-6)
