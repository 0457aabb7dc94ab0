"""Tables of the report of an evaluation: rows of texts from its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.records import Judge, QualityColumns, Summary
from optishield.report.numbers import decimal, known
from optishield.report.standings import THREATS, Standing, label, tone, word
from optishield.report.texts import NOT_MEASURED, Bar, amount, bar, interval, place, rate, readable, seconds


def _seen(unseen: bool | None) -> str:
    return {True: "unseen", False: "surrogate", None: ""}[unseen]


@dataclass(frozen=True)
class JudgeRow:
    """One who judges a claim, as texts.

    Attributes:
        name: Its name.
        seen: Whether the protector was made with it.
        value: What the protector does to its claim.
        interval: Its interval.
        bar: Both as places on a bar.
        noise: The same of random noise of equal size.
        noise_at: Its place on the bar.
        raw: Plain rate with protection.
        clean: Plain rate without.
        verdict: Verdict before this judge.
        reason: Why.
        tone: CSS class of the verdict.
    """

    name: str
    seen: str
    value: str
    interval: str
    bar: Bar
    noise: str
    noise_at: float | None
    raw: str
    clean: str
    verdict: str
    reason: str
    tone: str


@dataclass(frozen=True)
class ClaimRow:
    """What a protector claims of itself, as texts.

    Attributes:
        name: The protector.
        claim: What it claims.
        measure: What is measured for that.
        rate: What the plain rate is called.
        bar: Bar that must be reached.
        verdict: The verdict.
        tone: CSS class of the verdict.
        reason: Why.
        deciding: Who decides.
        others: Who else was asked.
    """

    name: str
    claim: str
    measure: str
    rate: str
    bar: str
    verdict: str
    tone: str
    reason: str
    deciding: list[JudgeRow]
    others: list[JudgeRow]


def own_claims(summary: Summary) -> list[ClaimRow]:
    """What each protector claims of itself, with whoever decides first and all others behind."""
    table = []
    for claim in summary.own_claims:
        said, measure = THREATS[claim.threat]
        table.append(
            ClaimRow(
                name=label(claim.protector),
                claim=said,
                measure=measure,
                rate={"poison": "accuracy"}.get(claim.threat, "rate"),
                bar=rate(claim.bar) if known(claim.bar) else "",
                verdict=word(claim.verdict),
                tone=tone(claim.verdict),
                reason=readable(claim.reason, summary),
                deciding=[_judge_row(judge, summary) for judge in claim.judges if judge.primary],
                others=[_judge_row(judge, summary) for judge in claim.judges if not judge.primary],
            )
        )
    return table


def _judge_row(judge: Judge, summary: Summary) -> JudgeRow:
    return JudgeRow(
        name=judge.judge,
        seen=_seen(judge.unseen),
        value=rate(judge.value),
        interval=interval(judge.ci95),
        bar=bar(judge.value, judge.ci95),
        noise=rate(judge.noise),
        noise_at=place(judge.noise),
        raw=rate(judge.raw),
        clean=rate(judge.clean),
        verdict=word(judge.verdict),
        reason=readable(judge.reason, summary),
        tone=tone(judge.verdict),
    )


def orderings(summary: Summary) -> list[dict[str, str]]:
    """Pairs of the survey's methods in the order that it states, and what became of them."""
    relations = {"above": ">", "below": "<", "equal": "≈"}
    table = []
    for row in summary.orderings:
        pair = f"{label(row.first)} {relations[row.relation]} {label(row.second)}"
        within = f" within {row.margin:.2g}" if row.relation == "equal" else ""
        table.append(
            {
                "statement": f"{row.figure}: {pair}{within}",
                "judge": row.judge,
                "first": decimal(row.value_first),
                "second": decimal(row.value_second),
                "difference": decimal(row.difference),
                "interval": " to ".join(decimal(limit) for limit in row.ci95 or ()),
                "verdict": word(row.verdict),
                "tone": tone(row.verdict),
                "reason": readable(row.reason, summary),
            }
        )
    return table


def cost(summary: Summary) -> list[dict[str, str]]:
    """What protection and attacks took; a column without a value is left out."""
    table = []
    for row in (row for row in summary.cost if row.kind == "protect"):
        against = [one for one in summary.cost if one.kind == "attack" and one.protector == row.protector]
        spent = sum(one.fit_s + (one.embed_s or 0.0) for one in against)
        growth = row.peak_growth_bytes
        table.append(
            {
                "name": label(row.protector),
                "per photo": seconds(row.seconds_per_image),
                "p95, one photo": seconds(row.latency_p95_s),
                "photos/s": _amount_or_dash(row.images_per_s),
                "preparation": seconds(row.fit_s),
                "growth of memory": f"{amount(growth / 1e6)} MB" if growth else "–",
                "all attacks on it": seconds(spent) if against else "–",
            }
        )
    return _filled(table)


def _amount_or_dash(value: float | None) -> str:
    return amount(value) if known(value) else "–"


def _filled(table: list[dict[str, str]]) -> list[dict[str, str]]:
    """The table without columns in which nobody has a value."""
    keep = [key for key in (table[0] if table else ()) if any(row[key] != "–" for row in table)]
    return [{key: row[key] for key in keep} for row in table]


def _with_sd(value: float | None, sd: float | None) -> str:
    return f"{decimal(value)} ± {decimal(sd)}" if known(value) and known(sd) else "–"


def quality(found: Sequence[Standing]) -> list[dict[str, str]]:
    """What protection does to the pictures, and to what they serve for; a column without a value is left out."""
    shown = _filled([_quality_row(one.name, one.rows[0] if one.rows else QualityColumns()) for one in found])
    return shown if any(len(row) > 1 for row in shown) else []


def _quality_row(name: str, row: QualityColumns) -> dict[str, str]:
    return {
        "name": name,
        "SSIM": decimal(row.ssim),
        "SSIM, 5th percentile": decimal(row.ssim_p5),
        "PSNR": "–" if row.psnr is None else f"{row.psnr:.1f} dB",
        "DSSIM": decimal(row.dssim),
        "distance of features": decimal(row.deep_distance),
        "no face found": rate(row.fta),
        "no face found, clean": rate(row.fta_clean),
        "same gender read": rate(row.gender_agreement),
        "same gender read, balanced": rate(row.gender_balanced_agreement),
        "gender read rightly": rate(row.gender_accuracy),
        "gender read rightly, clean": rate(row.gender_accuracy_clean),
        "same expression read": rate(row.expression_unchanged),
        "expression, 1 − total variation": decimal(row.expression_agreement),
        "landmark error (NME), clean": decimal(row.nme_clean),
        "rise of landmark error": decimal(row.nme_increase, 4),
        "kernel distance (KID)": _with_sd(row.kid, row.kid_sd),
        "photos read": _amount_or_dash(row.utility_photos),
        "photos in KID": _amount_or_dash(row.kid_photos),
    }


@dataclass(frozen=True)
class Grid:
    """A table of texts with a name for each row.

    Attributes:
        columns: Headings.
        rows: Name and cells of each row.
    """

    columns: list[str]
    rows: list[tuple[str, list[str]]]


def claims(found: Sequence[Standing]) -> Grid | None:
    """Which bars each protector reaches, by claim: ``met``, ``not met`` or ``not measured``; today's verdict first."""
    judged = [one for one in found if one.claims and not one.control]
    if not judged:
        return None
    names = list(judged[0].claims)
    words = {True: "met", False: "not met", None: NOT_MEASURED}
    rows = [(one.name, [word(one.today.label), *(words[one.claims.get(name)] for name in names)]) for one in judged]
    return Grid(names, rows)


@dataclass(frozen=True)
class GateRows:
    """Gates as (name, reason), by what became of them.

    Attributes:
        unmet: Gates that failed.
        untried: Gates that could not be tried.
        met: Gates that passed.
    """

    unmet: list[tuple[str, str]]
    untried: list[tuple[str, str]]
    met: list[tuple[str, str]]


def gates(summary: Summary) -> GateRows:
    """Gates by what became of them."""
    found = GateRows([], [], [])
    for key, gate in summary.gates.items():
        kind, *of = readable(key, summary).split("/")
        rows = found.untried if gate.passed is None else found.met if gate.passed else found.unmet
        rows.append((" · ".join([kind.replace("-", " "), *of]), readable(gate.reason, summary)))
    return found
