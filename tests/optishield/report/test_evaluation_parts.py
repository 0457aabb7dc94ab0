"""What the report of an evaluation is made of, without its page: sentence, standings, charts, tables, labels.

All figures here are made up; none was measured.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.records import Summary
from optishield.report import charts, texts
from optishield.report import standings as judgement
from optishield.report import tables as judgement_tables
from optishield.report.figures import BASES
from tests.evaluation import made
from tests.optishield.report.evaluations import BLUR, CLOAK, ENCODER, MILD, PIXELATE, example


def _verdicts(**verdicts: tuple[str, str]) -> Summary:
    return made.summary(
        headline={
            name: made.headline(today, evasion=made.worst(verdict=verdict))
            for name, (verdict, today) in verdicts.items()
        },
        protectors={name: made.method(control=name == "idle") for name in verdicts},
    )


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ({"idle": ("broken", "control")}, "Controls only: no protector was judged."),
        ({"a": ("broken", "protects"), "idle": ("control", "control")}, "The protector a is broken by preprocess."),
        ({"a": ("strong", "protects")}, "The protector a withstands every attacker that was tried."),
        ({"a": ("withstands", "strong")}, "The protector a withstands every attacker that was tried."),
        # The worst attack is above its own bar, but a weaker attacker is not below the higher one for today's attacks.
        ({"a": ("withstands", "fails")}, "No claim for a."),
        ({"a": ("withstands", "no claim")}, "No claim for a."),
        ({"a": ("no claim", "protects")}, "No claim for a."),
        ({"a": ("not shown", "protects")}, "No claim for a."),
        (dict.fromkeys("ab", ("broken", "protects")), "All 2 protectors are broken by their strongest attacker."),
        (
            {"a": ("protects", "protects"), "b": ("withstands", "protects")},
            "All 2 protectors withstand every attacker that was tried.",
        ),
        (
            {"a": ("broken", "protects"), "b": ("not shown", "protects")},
            "Of 2 protectors 1 is broken; 1 allows no claim.",
        ),
    ],
)
def test_the_headline_says_no_more_than_the_verdicts(verdicts: dict[str, tuple[str, str]], said: str) -> None:
    assert judgement.sentence(_verdicts(**verdicts)) == said


def test_protectors_come_before_controls_and_count_where_they_claim_least() -> None:
    found = judgement.standings(example()[0])
    assert [one.key for one in found] == [MILD, CLOAK, ENCODER, "identity", BLUR, PIXELATE]
    # The encoder claims evasion and linkage; linkage is worse. The cloak does not claim linkage, where it is worst.
    assert [one.combination for one in found[:3]] == ["CP", "CP", "PP"]
    assert found[0].colour == found[1].colour != found[2].colour
    assert found[0].dash != found[1].dash


def test_the_waterfall_keeps_the_least_that_earlier_levels_left() -> None:
    rows = (
        made.row(0.75, protector="a", level="K0", attacker="a"),
        made.row(0.5, protector="a", level="K0", attacker="b"),
        made.row(0.625, protector="a", level="K1", attacker="c"),
        made.row(0.25, protector="a", level="K2", attacker="d", recogniser="other", unseen=True),
        made.row(None, protector="a", level="K3", attacker="e"),
    )
    (one,) = judgement.standings(made.summary(protectors={"a": made.method()}, rows=rows))
    steps = judgement.waterfall(one)
    assert [(step.name, step.before, step.left, step.row and step.row.attacker) for step in steps] == [
        ("K0", 1.0, 0.5, "b"),
        ("K1", 0.5, 0.5, "c"),
        ("K2", 0.5, 0.25, "d"),
        ("K3", 0.25, 0.25, None),
        ("unseen", 0.25, 0.25, "d"),
    ]


def test_the_worst_decile_of_people_is_marked() -> None:
    rates = np.linspace(0, 1, 21)
    drawn = charts.people(rates[::-1], "some")
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"/>', drawn)]
    assert heights == pytest.approx(np.maximum(40 * rates, 1.2), abs=0.005)
    assert [m.start() for m in re.finditer('class="worst"', drawn)] == [
        m.start() + len("<rect ") for m in list(re.finditer("<rect", drawn))[:2]
    ]


def test_names_in_the_tradeoff_do_not_cover_each_other() -> None:
    names = ("first", "second", "third")
    same = [charts.Point(name, name, BASES[0], 0.9, 0.6, 0.5, 0.4, 0.55) for name in names]
    drawn = charts.tradeoff(same)
    places = sorted(float(y) for y in re.findall(r'<text [^>]* y="([\d.]+)"[^>]*>(?:first|second|third)</text>', drawn))
    assert len(places) == 3
    assert min(np.diff(places)) > 11  # the size of the letters


def test_names_stay_at_their_height_where_they_can() -> None:
    assert charts.spread([0.1, 0.5, 0.9], 0.2, 1.0) == [0.1, 0.5, 0.9]
    assert charts.spread([0.1, 0.1, 0.9], 0.2, 1.0) == pytest.approx([0.1, 0.3, 0.9])
    assert charts.spread([0.9, 0.95, 1.0], 0.2, 1.0) == pytest.approx([0.6, 0.8, 1.0])


def test_labels_leave_settings_and_drop_folders() -> None:
    assert judgement.label("identity") == "identity"
    assert judgement.label("noise:linf=0.03,seed=2") == "noise (linf=0.03, seed=2)"
    assert judgement.label("optical-encoder:run=/a/b/c") == "optical-encoder (run=c)"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0%"), (1e-5, "<0.1%"), (0.034, "3.4%"), (0.5, "50%"), (0.956, "95.6%"), (0.99999, ">99.9%"), (None, "–")],
)
def test_rates_are_finer_near_their_ends_and_never_rounded_to_certainty(share: float | None, shown: str) -> None:
    assert texts.rate(share) == shown


def test_only_whole_names_of_protectors_are_replaced() -> None:
    summary = made.summary(protectors=dict.fromkeys(("noise:l2=4", "noise:l2=4,px=64"), made.method()))
    said = "noise:l2=4.1, noise:l2=4 and noise:l2=4,px=64 beat noise:l2=4."
    assert texts.readable(said, summary) == ("noise:l2=4.1, noise (l2=4) and noise (l2=4, px=64) beat noise (l2=4).")


def test_costs_add_up_and_empty_columns_are_left_out() -> None:
    table = judgement_tables.cost(example()[0])
    assert table[0] == {
        "name": "identity",
        "per photo": "4 ms",
        "p95, one photo": "12.3 ms",
        "preparation": "0 ms",
        "all attacks on it": "–",
    }
    assert next(row for row in table if row["name"] == "cloak (budget=0.05)")["all attacks on it"] == "3.5 s"


def test_what_is_left_of_use_stands_beside_the_quality() -> None:
    summary, _ = example()
    measured: dict[str, Any] = {
        "gender_agreement": 0.9083, "gender_balanced_agreement": 0.84, "expression_unchanged": 0.5, "nme_clean": 0.0704,
        "expression_agreement": 0.5462, "nme_increase": -0.0004, "kid": 0.0224, "kid_sd": 0.0016, "kid_photos": 120,
        "utility_photos": 120, "gender_accuracy": None,
    }  # fmt: skip
    rows = tuple(replace(row, **measured) if row.protector == MILD else row for row in summary.rows)
    table = judgement_tables.quality(judgement.standings(replace(summary, rows=rows)))
    mine = next(row for row in table if row["name"] == judgement.label(MILD))
    assert {key: value for key, value in mine.items() if key not in ("name", "SSIM")} == {
        "same gender read": "90.8%",
        "same gender read, balanced": "84%",
        "same expression read": "50%",
        "expression, 1 − total variation": "0.546",
        "landmark error (NME), clean": "0.070",
        "rise of landmark error": "−0.0004",
        "kernel distance (KID)": "0.022 ± 0.002",
        "photos read": "120",
        "photos in KID": "120",
    }
    other = next(row for row in table if row["name"] == "identity")
    assert {other[key] for key in mine if key not in ("name", "SSIM")} == {"–"}
