"""What the report of an evaluation draws: each drawing with the texts that go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from evaluation.labels import Combination
from evaluation.records import CurvePoints, Limits, Row, Summary, Triple
from optishield.errors import OptiShieldError
from optishield.report import charts, figures, texts
from optishield.report.numbers import number, percent
from optishield.report.standings import COMBINATIONS, Standing, Step, waterfall

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tradeoff:
    """Protection against picture quality.

    Attributes:
        chart: The drawing.
        absent: Names of protectors that have no place in it.
    """

    chart: Markup
    absent: list[str]


def tradeoff(found: Sequence[Standing]) -> Tradeoff | None:
    """Protection against picture quality; None where no protector has both."""
    points, absent = [], []
    for one in found:
        quality = next((row.ssim for row in one.rows), None)
        if one.worst is None or quality is None:
            absent.append(one.name)
            continue
        plain, row = one.plain_row(), one.worst_row
        low, high = (row.ci95 if row is not None else None) or (np.nan, np.nan)
        before = number(None if plain is None else plain.psr_net)
        points.append(charts.Point(one.name, one.base, one.colour, quality, before, one.worst.psr_net, low, high))
    return Tradeoff(charts.tradeoff(points), absent) if points else None


class Curves:
    """Curves of the attacks, looked up by attack."""

    def __init__(self, summary: Summary, arrays: Arrays) -> None:
        self.points: dict[Triple, CurvePoints] = {point.triple: point for point in summary.curves.points}
        self.fmr = np.asarray(arrays.get("fmr", ()), dtype=np.float64)
        self._row = {triple: place for place, triple in enumerate(self.points)}
        self._fnmr, self._people = arrays.get("fnmr"), arrays.get("people")
        count, levels = len(summary.curves.points), len(self.fmr)
        if self._fnmr is not None and self._fnmr.shape != (count, 4, 3, levels):
            raise _wrong_shape("fnmr", self._fnmr, count, f"3, {levels}")
        if self._people is not None and (self._people.ndim != 3 or self._people.shape[:2] != (count, 4)):
            raise _wrong_shape("people", self._people, count, "people")

    def fnmr(self, triple: Triple | None, combination: Combination) -> NDArray[np.floating] | None:
        """FNMR at each FMR, with the limits of its band (3, K)."""
        return self._of(self._fnmr, triple, combination)

    def people(self, triple: Triple | None, combination: Combination) -> NDArray[np.floating] | None:
        """Protection of each person."""
        return self._of(self._people, triple, combination)

    def _of(
        self, values: NDArray[Any] | None, triple: Triple | None, combination: Combination
    ) -> NDArray[np.floating] | None:
        if values is None or triple not in self._row:
            return None
        return np.asarray(values[self._row[triple], ("CC", "CP", "PC", "PP").index(combination)])


def _wrong_shape(name: str, values: NDArray[Any], attacks: int, rest: str) -> OptiShieldError:
    return OptiShieldError(f"{name} has shape {values.shape}; of {attacks} attacks it must be ({attacks}, 4, {rest}).")


@dataclass(frozen=True)
class Panel:
    """A drawing about one attack.

    Attributes:
        name: The protector.
        chart: The drawing.
        attacker: Who attacks.
        recogniser: Through which recogniser.
        combination: Which of gallery and probe are protected.
    """

    name: str
    chart: Markup
    attacker: str
    recogniser: str
    combination: str


def error_rates(found: Sequence[Standing], curves: Curves, summary: Summary) -> list[Panel]:
    """The DET curves of each protector: clean, recogniser as published, and worst attacker."""
    if not curves.fmr.size:
        return []
    rows = {(row.triple, row.combination): row for row in summary.rows}
    panels = []
    for place, one in enumerate(found):
        row, attack = one.plain_row(), one.attack
        plain = None if row is None else row.triple
        wanted: list[tuple[str, Triple | None, Combination]] = [
            (figures.CLEAN, plain, "CC"),
            (figures.MUTED, plain, one.combination),
            (figures.OURS, attack, one.combination),
        ]
        drawn = []
        for colour, triple, combination in wanted:
            values = curves.fnmr(triple, combination)
            if triple is not None and values is not None:
                drawn.append(charts.Det(colour, values, _operating_point(rows.get((triple, combination)))))
        if drawn and attack is not None:
            chart = charts.det(f"det-{place}", one.name, curves.fmr, drawn)
            panels.append(Panel(one.name, chart, attack.attacker, attack.recogniser, COMBINATIONS[one.combination]))
    return panels


def _operating_point(row: Row | None) -> tuple[float, float, float, float] | None:
    return None if row is None else (row.alpha, row.psr, *row.psr_ci95)


@dataclass(frozen=True)
class Fall:
    """A step of the waterfall, as texts and places.

    Attributes:
        run: Whether any attack of the level was run.
        value: Protection against the strongest.
        interval: Its interval.
        left: What is left after this level, in percent.
        lost: What this level takes, in percent.
        lower: Whether it takes anything.
        attacker: The strongest of the level.
        recogniser: Through which recogniser.
    """

    run: bool
    value: str
    interval: str
    left: float
    lost: float
    lower: bool
    attacker: str
    recogniser: str


@dataclass(frozen=True)
class Waterfall:
    """The steps of one protector.

    Attributes:
        name: The protector.
        combination: The combination that is drawn.
        variable: CSS variable of its colour.
        cells: The steps.
    """

    name: str
    combination: str
    variable: str
    cells: list[Fall]


def falls(found: Sequence[Standing]) -> list[Waterfall]:
    """What each level of attackers takes from each protector."""
    return [
        Waterfall(one.name, COMBINATIONS[one.combination], one.variable, [_fall(step) for step in waterfall(one)])
        for one in found
        if one.rows
    ]


def _fall(step: Step) -> Fall:
    row = step.row
    return Fall(
        run=row is not None,
        value=texts.rate(None if row is None else row.psr_net),
        interval=texts.interval(None if row is None else row.ci95),
        left=100 * max(step.left, 0.0),
        lost=100 * max(step.before - step.left, 0.0),
        lower=step.left < step.before,
        attacker="" if row is None else row.attacker,
        recogniser="" if row is None else row.recogniser,
    )


@dataclass(frozen=True)
class Persons:
    """Protection of each person.

    Attributes:
        name: The protector.
        attacker: The worst attacker.
        variable: CSS variable of its colour.
        chart: The drawing.
        mean: Mean over people.
        decile: Mean of the least protected tenth.
        least: The least protected person.
    """

    name: str
    attacker: str
    variable: str
    chart: Markup
    mean: str
    decile: str
    least: str


def persons(found: Sequence[Standing], curves: Curves) -> list[Persons]:
    """Protection of each person under the worst attacker, a strip for each protector."""
    strips = []
    for one in found:
        rates, worst = curves.people(one.attack, one.combination), one.worst
        if rates is None or worst is None:
            continue
        strips.append(
            Persons(
                name=one.name,
                attacker=worst.attacker,
                variable=one.variable,
                chart=charts.people(rates, f"protection of each of {len(rates)} people by {one.name}"),
                mean=percent(rates.mean()),
                decile=percent(worst.worst_decile),
                least=percent(worst.worst_person),
            )
        )
    return strips


Points = list[tuple[float, float | None, Limits | None]]


def _series(found: Sequence[Standing], points: Callable[[Standing], Points]) -> tuple[list[charts.Line], list[float]]:
    """Lines of (x, PSR net, interval) by protector, without points that were not measured, and all x."""
    series = []
    for one in found:
        rows = [(float(x), y, *limits) for x, y, limits in points(one) if y is not None and limits is not None]
        if len(rows) > 1:
            series.append(charts.Line(one.name, one.colour, one.dash, tuple(sorted(rows))))
    return series, sorted({point[0] for line in series for point in line.points})


@dataclass(frozen=True)
class CurveFigure:
    """A figure of lines with its heading.

    Attributes:
        title: Heading.
        note: What is drawn.
        chart: The drawing.
    """

    title: str
    note: str
    chart: Markup


def curve_figures(found: Sequence[Standing], curves: Curves) -> list[CurveFigure]:
    """Protection as the attacker gathers more: leaked photos, photos in a template, frames."""

    def leakage(one: Standing) -> Points:
        worst = one.headline.worst.get("PC")
        point = None if worst is None else curves.points.get(Triple(one.key, worst.attacker, worst.recogniser))
        return [] if point is None else [(p.share, p.psr_net, p.ci95) for p in point.leakage]

    def templates(one: Standing) -> Points:
        point = None if one.attack is None else curves.points.get(one.attack)
        mine = () if point is None else point.templates
        return [(p.photos, p.psr_net, p.ci95) for p in mine if p.combination == one.combination]

    def frames(one: Standing) -> Points:
        """Through the recogniser of the worst attack."""
        recogniser = None if one.worst is None else one.worst.recogniser
        mine = [row for row in one.rows if row.level == "K0" and row.recogniser == recogniser]
        return [(row.frames, row.psr_net, row.ci95) for row in mine]

    wanted = (
        (
            "leakage",
            "Leaked clean photos",
            "Poisoning: the gallery holds protected photos and this share of clean ones.",
            "clean share of a protected gallery",
            leakage,
        ),
        (
            "templates",
            "Averaged templates",
            "More enrolled photos of a person, averaged.",
            "gallery photos in a template",
            templates,
        ),
        (
            "frames",
            "Averaged frames",
            "The recogniser as published on the average of several captures.",
            "averaged frames",
            frames,
        ),
    )
    shown = []
    for name, title, note, axis, points in wanted:
        series, ticks = _series(found, points)
        if series:
            shown.append(CurveFigure(title, note, charts.lines(name, series, axis, ticks, share=name == "leakage")))
    return shown
