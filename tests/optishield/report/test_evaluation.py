"""The page of an evaluation: complete, repeatable, without people, and no bolder than its figures.

All figures here are made up; none was measured.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from evaluation.records import Missing, Summary
from ground.gates import Gate
from ground.jsonable import json_bytes
from optishield.errors import OptiShieldError
from optishield.report import appendix, charts
from optishield.report import evaluation as judgement_report
from optishield.report import standings as judgement
from tests.evaluation import made
from tests.optishield.report.evaluations import CERTIFICATE, ENCODER, MILD, PROTECTORS, example
from tests.optishield.report.pages import Page


@pytest.fixture(scope="module")
def page() -> str:
    return judgement_report.render(*example())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are slow, and tested on their own."""
    for name in ("tradeoff", "det", "lines", "people"):
        monkeypatch.setattr(charts, name, lambda *_, **__: Markup("<svg></svg>"))


def test_every_section_is_there_and_the_page_is_well_formed(page: str) -> None:
    parsed = Page(page)
    assert parsed.headings == [
        "What each protector claims of itself",
        "Orderings that the survey states",
        "What is shown",
        "Protection against picture quality",
        "What each attacker takes",
        "Error rates at every threshold",
        "Who is protected, and who is not",
        "More photos, more frames",
        "Certificates beside attacks",
        "Tables I and II of the survey, measured",
        "What protection does to the picture",
        "Cost",
        "What may be claimed",
        "Gates",
        "What is missing",
        "Deviations from the survey",
        "Every attack",
        "Thresholds and hashes",
    ]


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    addresses = re.findall(r'(?:href|src|url)\s*[=(]\s*"?([^")\s>]+)', page)
    assert addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in addresses)
    assert "<script" not in page and "@import" not in page


def test_no_marker_colour_is_left_in_a_chart(page: str) -> None:
    assert not re.search(r"#0000[0-9]{2}", page)
    assert "var(--ours)" in page


def test_the_same_run_gives_the_same_bytes(page: str) -> None:
    assert judgement_report.render(*example()) == page


def test_the_page_names_no_folder_of_the_machine(undrawn: None) -> None:
    summary, arrays = example()
    reason = f"PSR_net of {ENCODER} is no number"
    name = f"equal-noise/{ENCODER}/sface"
    said = summary.headline[ENCODER]
    assert said.linkage is not None
    refused = replace(said.linkage, verdict="no claim", reason=f"equal-noise: {reason}")
    summary = replace(
        summary,
        gates={**summary.gates, name: Gate(name, False, reason)},
        missing=(*summary.missing, Missing("attack", f"{ENCODER}, purifier, sface", reason)),
        headline={**summary.headline, ENCODER: replace(said, linkage=refused)},
    )
    page = judgement_report.render(summary, arrays)
    assert "/somewhere" not in page
    text = Page(page).text
    assert "equal noise · optical-encoder (run=a-run, px=112) · sface not met" in text
    assert text.count("PSR_net of optical-encoder (run=a-run, px=112) is no number") == 3


def test_pictures_are_of_synthetic_heads_only(undrawn: None) -> None:
    summary, arrays = example()
    assert "data:image" in judgement_report.render(summary, arrays)
    summary = replace(summary, mode="photos")
    with pytest.raises(OptiShieldError, match=r"on photographs shows no picture; drop the arrays strip_"):
        judgement_report.render(summary, arrays)
    page = judgement_report.render(summary, {k: v for k, v in arrays.items() if not k.startswith("strip_")})
    assert "data:image" not in page
    assert "Photographs from a folder; none of them is on this page." in page


def _empty(value: object) -> Any:
    empty: dict[type, Any] = {tuple: (), dict: {}, str: ""}
    return empty[type(value)]


@pytest.mark.parametrize(
    "gone",
    [
        *(one.name for one in fields(Summary) if isinstance(getattr(made.summary(), one.name), tuple | dict)),
        "exploratory",
        *sorted(set(example()[1]) - {"fmr"}),
    ],
)
def test_anything_may_be_empty(gone: str, undrawn: None) -> None:
    summary, arrays = example()
    if gone in arrays:
        del arrays[gone]
    else:
        summary = replace(summary, **{gone: _empty(getattr(summary, gone))})
    Page(judgement_report.render(summary, arrays))  # whose tags all close


def test_the_page_of_a_stored_summary_is_that_of_the_fresh_one(page: str) -> None:
    summary, arrays = example()
    stored = json.loads(json_bytes(summary.to_json(), "summary"))
    assert Summary.from_json(stored) == summary
    assert judgement_report.render(Summary.from_json(stored), arrays) == page


def test_an_empty_evaluation_still_gives_a_page() -> None:
    parsed = Page(judgement_report.render(made.summary(), {}))
    assert parsed.headings == ["Thresholds and hashes"]


def test_what_was_not_measured_is_said_and_is_not_zero(undrawn: None) -> None:
    summary, arrays = example()
    blank: dict[str, Any] = {
        "psr_net": None,
        "ci95": None,
        "ssim": None,
        "verdict": "no claim",
        "reason": "nobody is matched clean",
    }
    rows = tuple(replace(row, **blank) for row in summary.rows)
    summary = replace(summary, rows=rows, headline=dict.fromkeys(PROTECTORS, made.headline("no claim")))
    text = Page(judgement_report.render(summary, arrays)).text
    assert "no attack could be judged" in text
    assert "not measured" in text
    assert not re.search(r"\bnan\b|\bNone\b", text)
    assert judgement.sentence(summary) == "Of 3 protectors 3 allow no claim."


def test_failures_and_their_reasons_are_listed(page: str) -> None:
    text = Page(page).text
    assert "1 job is missing because of a failure" in text
    assert "attack, cloak, purifier, sface RuntimeError: it fell over" in text
    once = (
        "video-average-4 on identity, gaussian-blur (sd=0.05, px=112), pixelate (cells=28) the same picture each time"
    )
    assert once in text
    assert "a.jpg: no face" in text


def test_own_claims_come_first_with_whoever_decides(page: str) -> None:
    text = Page(page).text
    assert text.index("What each protector claims of itself") < text.index("protection left (PSR net)")
    assert (
        "cloak (budget=0.05) is not recognised PSR net sface surrogate 93.0% 88–100% rate 12%, clean 93.0%; noise 4.0% "
        "80% holds why holds faceres unseen 91.0% 86–100%"
    ) in text
    # Less than nothing is printed as such, and drawn at nothing.
    assert "scratch unseen −2% −7 to 100% accuracy 12%, clean 93.0%; noise 4.0% 80% fails why fails" in text
    assert "left:-" not in page
    assert "spoils training: what does not decide, countermeasures among it (1)" in text
    assert "Of the protectors' own claims 1 holds, 1 fails, 1 is not measured." in text
    assert "scratch, grey unseen – 12% 93.0% no claim" in text
    assert "cloak (budget=0.02) passes for a target ASR net nobody not measured 80% not measured" in text


def test_orderings_of_the_survey_stand_with_their_verdicts(page: str) -> None:
    text = Page(page).text
    assert (
        "PSR: cloak (budget=0.02) > cloak (budget=0.05) sface 0.200 0.500 −0.300 −0.400 to −0.200 contradicted" in text
    )
    assert "SSIM: em ≈ rem within 0.02 – – – not measured SSIM of em was not measured" in text


def test_bars_are_met_not_met_or_not_measured(page: str) -> None:
    text = Page(page).text
    assert "cloak (budget=0.05) protects met not met not measured" in text
    assert "cloak (budget=0.02) fails not met met not measured" in text


def test_the_worst_decile_is_that_of_the_run(page: str) -> None:
    assert "worst decile 12%, least 1%" in Page(page).text


def test_gates_are_met_not_met_or_not_tried(page: str) -> None:
    text = Page(page).text
    assert "equal noise · cloak (budget=0.05) · sface not met" in text
    assert "certificate not tried" in text
    assert "recogniser strength · sface met" in text
    assert "1 gate is not met: no claim that rests on one of them stands." in text


def test_a_vacuous_certificate_is_called_so_beside_the_best_attack(undrawn: None) -> None:
    summary, arrays = example()
    text = Page(judgement_report.render(summary, arrays)).text
    # The best attack on the encoder leaves .71 of evasion, so it names .29.
    assert "model-based 74% VACUOUS 4.31 bits, M = 60 people, T = 4 frames 29%" in text
    strict = replace(CERTIFICATE, max_success=0.04, vacuous=False, tier="certified", bits=None, delta=0.5, frames=1)
    summary = replace(summary, certificates={ENCODER: strict})
    text = Page(judgement_report.render(summary, arrays)).text
    assert "VACUOUS" not in text
    assert "certified 4.0% δ = 0.5, M = 60 people, T = 1 frame 29%" in text


def test_an_attack_with_more_frames_than_the_certificate_is_not_held_against_it(undrawn: None) -> None:
    summary, _ = example()
    rows = tuple(replace(row, rank1=0.9) if row.frames > 1 else row for row in summary.rows)
    found = []
    for frames in (4, 1):
        stated = {ENCODER: replace(CERTIFICATE, frames=frames)}
        best = appendix.certificates(replace(summary, rows=rows, certificates=stated))[0].best
        found.append(None if best is None else best.rank1)
    assert found == ["90%", "29%"]


def test_exploratory_runs_say_so_first(undrawn: None) -> None:
    summary, arrays = example()
    summary = replace(summary, exploratory="12 tested people are fewer than 30")
    parsed = Page(judgement_report.render(summary, arrays))
    assert parsed.text.count("Exploratory") == 3  # label, headline, sentence
    assert "Exploratory: of 3 protectors 1 withstands every attacker that was tried; 2 are broken." in parsed.text


def test_a_point_without_interval_or_quality_does_not_break_the_chart(undrawn: None) -> None:
    summary, arrays = example()
    rows = tuple(replace(row, ssim=None) if row.protector == MILD else row for row in summary.rows)
    summary = replace(summary, rows=rows)
    assert "No place here, as quality or protection was not measured: cloak (budget=0.02)." in judgement_report.render(
        summary, arrays
    )


def test_names_cannot_carry_markup(undrawn: None) -> None:
    summary, arrays = example()
    summary = replace(summary, run="<b>run</b>", missing=(Missing("attack", "a", "<script>alert(1)</script>"),))
    page = judgement_report.render(summary, arrays)
    assert "<b>run</b>" not in page and "<script" not in page


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fnmr", np.zeros((3, 4, 3, 49)), r"fnmr has shape \(3, 4, 3, 49\); of 46 attacks it must be \(46, 4, 3, 49\)"),
        ("fnmr", np.zeros((46, 4, 49)), r"fnmr has shape \(46, 4, 49\)"),
        (
            "people",
            np.zeros((46, 3, 60)),
            r"people has shape \(46, 3, 60\); of 46 attacks it must be \(46, 4, people\)",
        ),
        ("strip_identity", np.zeros((16, 16, 3)), r"strip_identity has shape \(16, 16, 3\); it must be n x h x w x C"),
    ],
)
def test_wrong_arrays_are_refused(name: str, value: np.ndarray, message: str, undrawn: None) -> None:
    summary, arrays = example()
    with pytest.raises(OptiShieldError, match=message):
        judgement_report.render(summary, {**arrays, name: value})


def test_the_file_goes_into_the_run_folder(tmp_path: Path, undrawn: None) -> None:
    assert judgement_report.write_judgement(tmp_path, made.summary(), {}) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
