"""The report of an evaluation: complete, repeatable, without people, and no bolder than its figures.

All figures here are made up; none was measured.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from evaluation.labels import PROTECTED, Protected
from evaluation.records import (
    CertificateFacts,
    Claim,
    Comparison,
    CostRow,
    CurvePoints,
    Curves,
    Headline,
    Inapplicable,
    Judge,
    LeakagePoint,
    Manifest,
    Missing,
    Ordering,
    PartFacts,
    Row,
    Summary,
    SurveyRow,
    TemplatePoint,
    Triple,
    WorstAttack,
)
from faces.protection import Threat
from ground.gates import Gate
from ground.jsonable import json_bytes
from optishield.errors import OptiShieldError
from optishield.report import appendix, charts, texts
from optishield.report import evaluation as judgement_report
from optishield.report import standings as judgement
from optishield.report import tables as judgement_tables
from optishield.report.figures import BASES
from tests.evaluation import made

ENCODER, CLOAK, MILD = "optical-encoder:run=/somewhere/runs/a-run,px=112", "cloak:budget=0.05", "cloak:budget=0.02"
PIXELATE, BLUR = "pixelate:cells=28", "gaussian-blur:sd=0.05,px=112"
PROTECTORS: dict[str, tuple[str, bool, list[str], float]] = {
    "identity": ("control", True, [], 1.0),
    BLUR: ("control", True, [], 0.93),
    PIXELATE: ("control", True, [], 0.81),
    MILD: ("Somebody et al.", False, ["dodge", "poison"], 0.96),
    CLOAK: ("Somebody et al.", False, ["dodge", "poison"], 0.88),
    ENCODER: ("own", False, ["sensor", "dodge"], 0.34),
}
ATTACKERS = {
    "as-published": ("K0", 1),
    "video-average-4": ("K0", 4),
    "preprocess": ("K1", 1),
    "linear-protected": ("K2", 1),
    "known-psf": ("K3", 1),
}
# PSR net against each attacker.
LEFT = {
    "identity": (0.0, None, 0.0, 0.0, None),
    BLUR: (0.12, None, 0.08, 0.05, 0.01),
    PIXELATE: (0.3, None, 0.28, 0.04, None),
    MILD: (0.62, 0.6, 0.31, 0.09, None),
    CLOAK: (0.93, 0.9, 0.66, 0.14, None),
    ENCODER: (0.98, 0.94, 0.95, 0.71, 0.83),
}
TODAY = {MILD: "fails", CLOAK: "protects", ENCODER: "protects"}
PEOPLE = 60
FMR = np.logspace(-4, 0, 49)


def _rows(triple: Triple) -> tuple[list[Row], CurvePoints, list[Any], list[Any]]:
    """Rows, points of curves, DET curves and people of one attack."""
    rng = np.random.default_rng(len(triple.name))
    base = LEFT[triple.protector][list(ATTACKERS).index(triple.attacker)]
    assert base is not None
    left = min(1.0, base + (0.02 if triple.recogniser == "faceres" and base else 0.0))
    level, frames = ATTACKERS[triple.attacker]
    _, control, _, ssim = PROTECTORS[triple.protector]
    rows, curves, people = [], [], []
    for combination, shift in {"CC": None, "CP": 0.0, "PC": 0.01, "PP": -0.08}.items():
        net = 0.0 if shift is None else float(np.clip(left + shift, 0, 1) if left else 0.0)
        low, high = max(0.0, net - 0.07), min(1.0, net + 0.06)
        word = "reference" if shift is None else "broken" if high < 0.5 else "control" if control else "withstands"
        rows.append(
            made.row(
                net,
                **triple._asdict(),
                level=level,
                frames=frames,
                combination=combination,
                identities=PEOPLE,
                psr=net * 0.97 + 0.02,
                psr_ci95=(low, high),
                ci95=(low, high),
                tar_clean=0.97,
                rank1_ci95=(1 - high, 1 - low),
                auc=1 - net / 2,
                verdict=word,
                ssim=ssim,
                unseen=True if "cloak" in triple.protector and triple.recogniser == "faceres" else None,
            )
        )
        value = net + (1 - net) * 0.12 * (1 - FMR**0.3)
        curves.append([value, value - 0.05, value + 0.05])
        people.append(np.clip(net + 0.2 * rng.normal(size=PEOPLE), 0, 1))
    points = CurvePoints(
        *triple,
        frames,
        tuple(
            LeakagePoint(share, left * (1 - share), (max(0.0, left * (1 - share) - 0.06), left * (1 - share)))
            for share in (0.0, 0.1, 0.5)
        ),
        tuple(TemplatePoint(n, c, left / (1 + 0.1 * n), (0.0, 1.0)) for n in (1, 3, 5) for c in PROTECTED),
    )
    return rows, points, curves, people


def _worst(rows: list[Row], protector: str, combination: Protected) -> WorstAttack:
    mine = [row for row in rows if (row.protector, row.combination) == (protector, combination)]
    one = min(mine, key=lambda row: (row.psr_ci95[0], row.psr_net, row.attacker, row.recogniser))
    claims = {"dodge": ["CP"], "poison": ["PC"], "sensor": ["CP", "PP"]}
    assert one.psr_net is not None
    return made.worst(
        one.psr_net,
        claimed=combination in [name for threat in PROTECTORS[protector][2] for name in claims[threat]],
        attacker=one.attacker,
        level=one.level,
        recogniser=one.recogniser,
        low=one.psr_ci95[0],
        attacks=len(mine),
        verdict=one.verdict,
        raw_psr=min(row.psr for row in mine if row.level == "K0"),
        worst_person=0.011,
        worst_decile=0.123,
    )


def _judge(name: str, unseen: bool | None, value: float | None, verdict: Any, primary: bool = True) -> Judge:
    return Judge(
        judge=name,
        unseen=unseen,
        value=value,
        ci95=None if value is None else (value - 0.05, 1.0),
        raw=0.12,
        clean=0.93,
        noise=0.04,
        verdict=verdict,
        reason=f"by {name}",
        primary=primary,
        weak=False,
    )


def _claim(protector: str, threat: str, verdict: Any, *judges: Judge) -> Claim:
    return Claim(
        protector=protector,
        threat=Threat(threat),
        measure="m",
        bar=0.8,
        verdict=verdict,
        reason=f"why {verdict}",
        judges=judges,
    )


ORDERINGS = (
    Ordering(
        preset="S2",
        figure="PSR",
        judge="sface",
        margin=0.0,
        first=MILD,
        relation="above",
        second=CLOAK,
        value_first=0.2,
        value_second=0.5,
        difference=-0.3,
        ci95=(-0.4, -0.2),
        verdict="contradicted",
        reason="",
    ),
    Ordering(
        preset="S2",
        figure="SSIM",
        judge="",
        margin=0.02,
        first="em",
        relation="equal",
        second="rem",
        value_first=None,
        value_second=None,
        difference=None,
        ci95=None,
        verdict="not measured",
        reason="SSIM of em was not measured",
    ),
)
OWN_CLAIMS = (
    _claim(CLOAK, "dodge", "holds", _judge("sface", False, 0.93, "holds"), _judge("faceres", True, 0.91, "holds")),
    _claim(
        CLOAK,
        "poison",
        "fails",
        _judge("scratch", True, -0.02, "fails"),
        _judge("scratch, grey", True, None, "no claim", primary=False),
    ),
    _claim(MILD, "impersonate", "not measured"),
)
CERTIFICATE = CertificateFacts(
    tier="model-based",
    max_success=0.74,
    people=PEOPLE,
    frames=4,
    noise="Gaussian, sd .02",
    assumptions="Faces are a stationary Gaussian field.",
    bits=4.31,
    delta=None,
    vacuous=True,
)


def _gates() -> dict[str, Gate]:
    found = (
        Gate("recogniser-strength/sface", True, "clean TAR 0.97 (lower limit 0.93)"),
        Gate(f"equal-noise/{CLOAK}/sface", False, "protects -0.02 more than noise:l2=4.1"),
        Gate("certificate", None, "no protector has a certificate"),
    )
    return {gate.name: gate for gate in found}


def _survey_row(key: str) -> SurveyRow:
    source, _, threats, _ = PROTECTORS[key]
    return SurveyRow(
        protector=key,
        source=source,
        threats=tuple(Threat(threat) for threat in threats),
        auxiliary_data="none",
        stores="nothing",
        open_set=0.41,
        latency_p95_s=0.0123,
        real_time=True,
        scalability_images_per_s=None,
        hardware="sensor" in threats,
        target_asr=None,
        person_specific=None,
        leakage=(LeakagePoint(0.1, 0.25, (0.2, 0.3)),),
        api=None,
    )


def _headline(key: str, rows: list[Row]) -> Headline:
    control = PROTECTORS[key][1]
    return made.headline(
        "control" if control else TODAY[key],
        "by its lower limit",
        evasion=_worst(rows, key, "CP"),
        poisoning=_worst(rows, key, "PC"),
        linkage=_worst(rows, key, "PP"),
        claims={"protects": TODAY.get(key) == "protects", "quality": key == MILD, "utility": None},
    )


def example() -> tuple[Summary, dict[str, np.ndarray]]:
    """A complete made-up evaluation."""
    rng = np.random.default_rng(0)
    triples = sorted(
        Triple(protector, attacker, recogniser)
        for protector in PROTECTORS
        for place, attacker in enumerate(ATTACKERS)
        for recogniser in ("sface", "faceres")
        if LEFT[protector][place] is not None
    )
    attacks = [_rows(triple) for triple in triples]
    rows = [row for one in attacks for row in one[0]]
    thresholds = {"sface": (made.threshold(),), "faceres": (made.threshold(),)}
    summary = made.summary(
        run="20240503-evaluate",
        tier="standard",
        identities=PEOPLE,
        facts=("No person is in two parts.",),
        rows=tuple(rows),
        own_claims=OWN_CLAIMS,
        orderings=ORDERINGS,
        protectors={
            key: made.method(*threats, title=f"what {key.partition(':')[0]} does", source=source, control=control)
            for key, (source, control, threats, _) in PROTECTORS.items()
        },
        headline={key: _headline(key, rows) for key in PROTECTORS},
        gates=_gates(),
        certificates={ENCODER: CERTIFICATE},
        missing=(Missing("attack", "cloak, purifier, sface", "RuntimeError: it fell over"),),
        inapplicable=tuple(
            Inapplicable(key, "video-average-4", "the same picture each time") for key in ("identity", BLUR, PIXELATE)
        ),
        left_out=("a.jpg: no face",),
        deviations=("Data: 60 people, synthetic heads; published: 50.",),
        curves=Curves("curves.safetensors", tuple(one[1] for one in attacks)),
        cost=(
            *(
                CostRow(kind="protect", protector=key, seconds_per_image=0.004, fit_s=0.0, latency_p95_s=0.0123)
                for key in PROTECTORS
            ),
            CostRow(kind="attack", protector=CLOAK, attacker="preprocess", recogniser="sface", fit_s=2.0, embed_s=1.5),
        ),
        tables=tuple(_survey_row(key) for key in PROTECTORS),
        comparisons=(
            Comparison(
                combination="CP",
                first=CLOAK,
                second=ENCODER,
                difference=-0.5,
                ci95=(-0.6, -0.4),
                p=0.0005,
                p_holm=0.001,
            ),
        ),
        recognisers={"sface": made.recogniser(), "faceres": made.recogniser()},
        manifest=Manifest(
            code_sha256="00" * 32,
            faces={
                "test": PartFacts(
                    source="heads",
                    licence="CC0-1.0",
                    images=120,
                    identities=(1, 2),
                    content_sha256="ef" * 32,
                    images_sha256="fe" * 32,
                )
            },
            faces_hash="cd" * 32,
            thresholds=thresholds,
            weights={"sface": "12" * 32, "faceres": "34" * 32},
        ),
    )
    arrays = {
        "fmr": FMR,
        "fnmr": np.array([one[2] for one in attacks]),
        "people": np.array([one[3] for one in attacks]),
        "identities": np.arange(PEOPLE),
        "strip_identity": rng.random((6, 16, 16, 3)),
        f"strip_{ENCODER}": rng.random((6, 16, 16, 3)),
    }
    return summary, arrays


class Page(HTMLParser):
    """Collects headings and text; complains about tags that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta" and tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.words.append(data)


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
    assert parsed.open == []
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
    assert Page(judgement_report.render(summary, arrays)).open == []


def test_the_page_of_a_stored_summary_is_that_of_the_fresh_one(page: str) -> None:
    summary, arrays = example()
    stored = json.loads(json_bytes(summary.to_json(), "summary"))
    assert Summary.from_json(stored) == summary
    assert judgement_report.render(Summary.from_json(stored), arrays) == page


def test_an_empty_evaluation_still_gives_a_page() -> None:
    parsed = Page(judgement_report.render(made.summary(), {}))
    assert parsed.open == []
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
