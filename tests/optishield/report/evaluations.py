"""A complete made-up evaluation; none of its figures was measured."""

from __future__ import annotations

from typing import Any

import numpy as np

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
