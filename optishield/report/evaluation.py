"""The report of an evaluation: one HTML page that needs nothing else, not even the network.

It shows figures of ``evaluation.run.evaluate`` as they are: what was not measured is named as such, and where a
gate is not met no claim is printed. It never shows a photograph of a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluation.labels import ClaimLabel
from evaluation.records import Summary
from ground.files import write_atomic
from optishield.errors import OptiShieldError
from optishield.report import appendix, figures, panels, pictures, tables, texts
from optishield.report.page import render_page
from optishield.report.panels import Arrays
from optishield.report.standings import (
    COMBINATIONS,
    STEPS,
    Standing,
    sentence,
    standings,
    tone,
    word,
)

#: Verdicts of own claims behind their number, one and several.
_VERDICTS: dict[ClaimLabel, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "not shown": ("is not shown", "are not shown"),
    "exploratory": ("is exploratory", "are exploratory"),
    "no claim": ("cannot be judged", "cannot be judged"),
    "not measured": ("is not measured", "are not measured"),
    "control": ("is a control", "are controls"),
}

STRIP = "strip_"
FACES_SHOWN = 6
#: CSS classes of line styles in a legend, in the order of ``charts.DASHES``.
DASHES = ("", "dash", "dot")


@dataclass(frozen=True)
class Strip:
    """One protector at the head of the page, as texts.

    Attributes:
        name: The protector.
        title: What it does.
        control: Whether it is a control.
        variable: CSS variable of its colour.
        verdict: The verdict.
        tone: CSS class of the verdict.
        reason: What the verdict rests on.
        today: What may be said against the attackers of today; "" of a control.
        worst: The worst attack; None if no attack could be judged.
    """

    name: str
    title: str
    control: bool
    variable: str
    verdict: str
    tone: str
    reason: str
    today: str
    worst: WorstStrip | None


@dataclass(frozen=True)
class WorstStrip:
    """The worst attack on a protector, as texts.

    Attributes:
        claimed: Whether the protector claims anything there.
        combination: Where it does worst.
        value: Protection that is left.
        low: Its lower limit.
        raw: What the survey would report.
        raw_at: Its place on the bar.
        bar: Protection with its interval, as places on the bar.
        attacker: Who attacks.
        level: What the attacker knows.
        recogniser: Through which recogniser.
        attacks: Attacks that were tried.
        others: Lower limit of each combination.
    """

    claimed: bool
    combination: str
    value: str
    low: str
    raw: str
    raw_at: float | None
    bar: texts.Bar
    attacker: str
    level: str
    recogniser: str
    attacks: int
    others: list[tuple[str, str]]


def _strip(one: Standing, summary: Summary) -> Strip:
    verdict = one.verdict
    return Strip(
        name=one.name,
        title=one.about.title,
        control=one.control,
        variable=one.variable,
        verdict=word(verdict.label) if one.worst is not None else "not judged",
        tone="open" if one.control else tone(verdict.label),
        reason=texts.readable(verdict.reason, summary),
        today="" if one.control else word(one.today.label),
        worst=_worst_strip(one),
    )


def _worst_strip(one: Standing) -> WorstStrip | None:
    worst, row = one.worst, one.worst_row
    if worst is None:
        return None
    return WorstStrip(
        claimed=worst.claimed,
        combination=COMBINATIONS[one.combination],
        value=texts.rate(worst.psr_net),
        low=texts.rate(worst.low),
        raw=texts.rate(worst.raw_psr),
        raw_at=texts.place(worst.raw_psr),
        bar=texts.bar(worst.psr_net, None if row is None else row.ci95),
        attacker=worst.attacker,
        level=worst.level,
        recogniser=worst.recogniser,
        attacks=worst.attacks,
        others=[(COMBINATIONS[key], texts.rate(part.low)) for key, part in one.headline.worst.items()],
    )


@dataclass(frozen=True)
class PictureRow:
    """Pictures by one protector.

    Attributes:
        name: The protector.
        cells: The pictures.
    """

    name: str
    cells: list[Markup]


def _pictures(found: Sequence[Standing], arrays: Arrays) -> list[PictureRow]:
    rows = []
    for one in sorted(found, key=lambda one: one.base != "identity"):
        frames = arrays.get(STRIP + one.key)
        if frames is None:
            continue
        if frames.ndim != 4:
            raise OptiShieldError(f"{STRIP}{one.key} has shape {frames.shape}; it must be n x h x w x C.")
        name = "clean" if one.base == "identity" else one.name
        cells = [pictures.photo(image, f"{name}, head {i + 1}") for i, image in enumerate(frames[:FACES_SHOWN])]
        rows.append(PictureRow(name, cells))
    return rows


def _words(summary: Summary, found: Sequence[Standing], gates: tables.GateRows) -> list[str]:
    rows = summary.rows
    alphas = {row.alpha for row in rows}
    words = []
    if rows:
        words.append(
            f"{_count(len(found), 'protector')} (with controls) against "
            f"{_count(len({row.attacker for row in rows}), 'attacker')} through "
            f"{_count(len({row.recogniser for row in rows}), 'recogniser')}, on {summary.identities} people whom none "
            "of them knew."
        )
        words.append(
            "PSR net: of the pairs of photos that match clean, the share that no longer does, at a threshold frozen at "
            f"a false match rate of {', '.join(f'{alpha:.3g}' for alpha in sorted(alphas))} on other people. The worst "
            "attacker counts, with the lower 95% limit over people."
        )
    verdicts = Counter(claim.verdict for claim in summary.own_claims)
    if verdicts:
        said = [f"{count} {_VERDICTS[label][count > 1]}" for label, count in verdicts.items()]
        words.append(f"Of the protectors' own claims {', '.join(said)}.")
    if summary.exploratory:
        words.append(f"Exploratory: {summary.exploratory}.")
    if gates.unmet:
        words.append(f"{_are(len(gates.unmet), 'gate')} not met: no claim that rests on one of them stands.")
    if summary.missing:
        words.append(f"{_are(len(summary.missing), 'job')} missing because of a failure; the list is below.")
    return words


def _are(number_of: int, noun: str) -> str:
    return f"{_count(number_of, noun)} {'is' if number_of == 1 else 'are'}"


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}" if number_of == 1 else f"{number_of} {noun}s"


@dataclass(frozen=True)
class Legend:
    """One line of a legend.

    Attributes:
        name: The protector.
        variable: CSS variable of its colour.
        dash: CSS class of its line style.
        ours: Whether it is our own camera.
    """

    name: str
    variable: str
    dash: str
    ours: bool


def _context(summary: Summary, arrays: Arrays) -> dict[str, Any]:
    synthetic = summary.mode == "synthetic"
    if not synthetic and any(key.startswith(STRIP) for key in arrays):
        raise OptiShieldError(f"The report of a run on photographs shows no picture; drop the arrays {STRIP}*.")
    found, curves, gates = standings(summary), panels.Curves(summary, arrays), tables.gates(summary)
    judged = [one for one in found if one.worst is not None]
    # Controls would bury the others in charts of many lines.
    drawn = [one for one in judged if not one.control] or judged
    return {
        "synthetic": synthetic,
        "run": summary.run,
        "tier": summary.tier,
        "seed": summary.seed,
        "exploratory": bool(summary.exploratory),
        "headline": sentence(summary),
        "words": _words(summary, found, gates),
        "own_claims": tables.own_claims(summary),
        "orderings": tables.orderings(summary),
        "strip": [_strip(one, summary) for one in found],
        "pictures": _pictures(found, arrays),
        "tradeoff": panels.tradeoff(found),
        "det": panels.error_rates(judged, curves, summary),
        "steps": STEPS,
        "waterfall": panels.falls(judged),
        "people": panels.persons(judged, curves),
        "curves": panels.curve_figures(drawn, curves),
        "legend": [Legend(one.name, one.variable, DASHES[one.dash], one.colour == figures.OURS) for one in drawn],
        "claims": tables.claims(found),
        "quality": tables.quality(found),
        "cost": tables.cost(summary),
        "gates": gates,
        "facts": summary.facts,
        "certificates": appendix.certificates(summary),
        "survey": appendix.survey(summary),
        "attacks": appendix.attacks(judged, summary),
        "combinations": COMBINATIONS,
        "comparisons": appendix.comparisons(summary),
        "missing": appendix.missing(summary),
        "inapplicable": appendix.inapplicable(summary),
        "left_out": summary.left_out,
        "deviations": summary.deviations,
        "thresholds": appendix.thresholds(summary),
        "manifest": appendix.faces(summary),
    }


def render(summary: Summary, arrays: Arrays) -> str:
    """The page as text; see :func:`write_judgement`."""
    return render_page("evaluation.html.j2", ("report.css", "evaluation.css"), _context(summary, arrays))


def write_judgement(out: Path, summary: Summary, arrays: Arrays) -> Path:
    """Write the report of an evaluation.

    Args:
        out: A run folder (the page becomes ``report.html`` in it) or the file to write.
        summary: What ``evaluation.run.evaluate`` returns.
        arrays: Arrays of ``curves.safetensors``: ``fmr`` (K,), ``fnmr`` (N, 4, 3, K), ``people`` (N, 4, G) in the
            order of ``summary.curves.points``. Of a run on synthetic heads also ``strip_<protector>``
            (n, h, w, C), display values 0..1.

    Returns:
        The file written.

    Raises:
        OptiShieldError: An array whose shape is not the one above, or pictures of a run on photographs.
        OSError: The file cannot be written.
    """
    path = out / "report.html" if out.is_dir() else out
    write_atomic(path, render(summary, arrays).encode("utf-8"))
    return path
