"""Longer tables of the report of an evaluation: certificates, the survey, every attack, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from evaluation.labels import Protected
from evaluation.records import LeakagePoint, PartFacts, Row, Summary, SurveyRow, Triple
from optishield.report.numbers import decimal, known, span
from optishield.report.standings import COMBINATIONS, Standing, label, tone, word
from optishield.report.tables import Grid
from optishield.report.texts import NOT_MEASURED, Bar, amount, bar, interval, rate, readable, seconds

#: Share of a gallery at which the survey's "leakage" is quoted; the whole curve is a chart.
LEAKED = 0.1


@dataclass(frozen=True)
class BestAttack:
    """The attack that names most people, as texts.

    Attributes:
        rank1: Share of probes that it names.
        interval: Its interval.
        bar: Both as places on a bar.
        attacker: Who attacks.
        recogniser: Through which recogniser.
    """

    rank1: str
    interval: str
    bar: Bar
    attacker: str
    recogniser: str


@dataclass(frozen=True)
class CertificateRow:
    """A certificate as texts.

    Attributes:
        name: The protector.
        tier: How far it holds.
        vacuous: Whether it says nothing.
        bound: The most that anybody may reach.
        terms: People, frames and information.
        noise: What noise it rests on.
        assumptions: What must be true.
        best: The strongest attack of no more frames than it allows; None if none was run.
    """

    name: str
    tier: str
    vacuous: bool
    bound: str
    terms: str
    noise: str
    assumptions: str
    best: BestAttack | None


def certificates(summary: Summary) -> list[CertificateRow]:
    """Certificates, each with the strongest attack of no more frames than it allows."""
    table = []
    for key, found in summary.certificates.items():
        tried = [
            row
            for row in summary.rows
            if row.protector == key and row.combination == "CP" and row.frames <= found.frames
        ]
        terms = [f"M = {found.people} people", f"T = {found.frames} frame{'' if found.frames == 1 else 's'}"]
        if found.bits is not None:
            terms.insert(0, f"{amount(found.bits)} bits")
        if found.delta is not None:
            terms.insert(0, f"δ = {amount(found.delta)}")
        table.append(
            CertificateRow(
                name=label(key),
                tier=found.tier,
                vacuous=found.vacuous,
                bound=rate(found.max_success),
                terms=", ".join(terms),
                noise=found.noise,
                assumptions=found.assumptions,
                best=_best(max(tried, key=lambda row: (row.rank1, row.attacker), default=None)),
            )
        )
    return table


def _best(row: Row | None) -> BestAttack | None:
    if row is None:
        return None
    shown = bar(row.rank1, row.rank1_ci95)
    return BestAttack(rate(row.rank1), interval(row.rank1_ci95), shown, row.attacker, row.recogniser)


def survey(summary: Summary) -> Grid | None:
    """Tables I and II of the survey, a row for each protector; None if there are none."""
    if not summary.tables:
        return None
    cells = [_survey_cells(row) for row in summary.tables]
    return Grid(
        list(cells[0]),
        [(label(row.protector), list(one.values())) for row, one in zip(summary.tables, cells, strict=True)],
    )


def _survey_cells(row: SurveyRow) -> dict[str, str]:
    """The columns as the page names them."""
    return {
        "source": row.source,
        "claims to prevent": ", ".join(row.threats) or "nothing",
        "auxiliary data": row.auxiliary_data,
        "keeps of a person": row.stores,
        "open set: lower limit of PSR net": _measured(row.open_set, rate),
        "p95 latency": _measured(row.latency_p95_s, seconds),
        "real time, 25 fps": _yes(row.real_time),
        "scalability, photos/s": _measured(row.scalability_images_per_s, amount),
        "hardware": _yes(row.hardware),
        "hits its target (ASR)": _measured(row.target_asr, rate),
        "one mask a person: PSR net": _measured(row.person_specific, rate),
        f"{LEAKED:.0%} clean leaked: PSR net": _leaked(row.leakage),
        "commercial services": row.api or NOT_MEASURED,
    }


def _measured(value: float | None, written: Callable[[float], str]) -> str:
    return NOT_MEASURED if value is None else written(value)


def _yes(value: bool | None) -> str:
    return NOT_MEASURED if value is None else "yes" if value else "no"


def _leaked(points: Sequence[LeakagePoint] | None) -> str:
    found = (point.psr_net for point in points or () if point.share == LEAKED)
    return next((rate(value) for value in found if known(value)), NOT_MEASURED)


@dataclass(frozen=True)
class AttackRow:
    """One attack through one recogniser, as texts.

    Attributes:
        level: What the attacker knows.
        attacker: Who attacks.
        recogniser: Through which recogniser.
        cells: Protection with its interval, for each combination.
        rank1: Share of protected probes that are named.
        auc: Area under the ROC curve of protected probes.
        verdict: Verdict in the combination of the protector.
        reason: Why.
        tone: CSS class of the verdict.
    """

    level: str
    attacker: str
    recogniser: str
    cells: list[tuple[str, str]]
    rank1: str
    auc: str
    verdict: str
    reason: str
    tone: str


@dataclass(frozen=True)
class AttackTable:
    """Every attack on one protector.

    Attributes:
        name: The protector.
        combination: The combination that the verdicts are about.
        rows: The attacks.
    """

    name: str
    combination: str
    rows: list[AttackRow]


def attacks(found: Sequence[Standing], summary: Summary) -> list[AttackTable]:
    """Every attack on every protector, with all combinations."""
    cells: dict[Triple, dict[Protected, Row]] = {}
    for row in summary.rows:
        if row.combination != "CC":
            cells.setdefault(row.triple, {})[row.combination] = row
    shown = []
    for one in found:
        rows = [
            _attack_row(triple, by, one.combination, summary)
            for triple, by in cells.items()
            if triple.protector == one.key
        ]
        if rows:
            rows.sort(key=lambda row: (row.level, row.attacker, row.recogniser))
            shown.append(AttackTable(one.name, COMBINATIONS[one.combination], rows))
    return shown


def _attack_row(triple: Triple, by: Mapping[Protected, Row], combination: Protected, summary: Summary) -> AttackRow:
    judged, evasion = by.get(combination), by.get("CP")
    return AttackRow(
        level=next(iter(by.values())).level,
        attacker=triple.attacker,
        recogniser=triple.recogniser,
        cells=[(rate(by[name].psr_net), interval(by[name].ci95)) if name in by else ("–", "") for name in COMBINATIONS],
        rank1=rate(None if evasion is None else evasion.rank1),
        auc=decimal(None if evasion is None else evasion.auc, 2),
        verdict="" if judged is None else word(judged.verdict),
        reason="" if judged is None else readable(judged.reason, summary),
        tone="open" if judged is None else tone(judged.verdict),
    )


def comparisons(summary: Summary) -> list[dict[str, str]]:
    """Protectors against each other."""
    return [
        {
            "combination": COMBINATIONS[test.combination],
            "first": label(test.first),
            "second": label(test.second),
            "difference": decimal(test.difference, 2),
            "interval": span(test.ci95, "decimal"),
            "p": decimal(test.p_holm, 3),
        }
        for test in summary.comparisons
    ]


def missing(summary: Summary) -> list[tuple[str, str]]:
    """What failed, and why."""
    return [
        (readable(f"{entry.stage}, {entry.what}", summary), readable(entry.reason, summary))
        for entry in summary.missing
    ]


def inapplicable(summary: Summary) -> list[tuple[str, str]]:
    """Attackers that could not be tried, with the protectors in one line for each reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for entry in summary.inapplicable:
        grouped.setdefault((entry.attacker, entry.reason), []).append(label(entry.protector))
    return [(f"{attacker} on {', '.join(names)}", reason) for (attacker, reason), names in grouped.items()]


def thresholds(summary: Summary) -> list[dict[str, str]]:
    """Frozen thresholds, with what they belong to."""
    weights = summary.manifest.weights
    return [
        {
            "recogniser": name,
            "fmr": f"{entry.alpha:.3g}",
            "value": decimal(entry.value, 4),
            "n": f"{entry.n:,}",
            "supported": "yes" if entry.supported else "no",
            "manifest": entry.manifest_hash[:16],
            "weights": weights.get(name, "")[:16],
        }
        for name, entries in summary.manifest.thresholds.items()
        for entry in entries
    ]


def faces(summary: Summary) -> list[tuple[str, str]]:
    """What is written down of the faces, as rows of name and value."""
    rows = [("hash", summary.manifest.faces_hash)]
    for name, part in summary.manifest.faces.items():
        rows += [(f"{name}: {one.name}", _fact(part, one.name)) for one in fields(PartFacts)]
    return rows


def _fact(part: PartFacts, name: str) -> str:
    value = getattr(part, name)
    return ", ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
