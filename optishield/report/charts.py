"""Charts of the report of an evaluation; drawn as those of ``optishield.report.figures``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from optishield.report.figures import BASES, CLEAN, INK, MUTED, OURS, PAPER, STYLE, to_svg

#: Line styles; they tell settings of one protector apart.
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.6)))
#: Letters of a name that fit beside the trade-off chart.
_LONGEST = 36
_SHAPES = ("o", "s", "^", "v", "P", "X")


@dataclass(frozen=True)
class Point:
    """A protector on the plane of picture quality and protection.

    Attributes:
        name: Name that is printed beside it.
        family: Name of its family; points of one family are joined, in the order of quality.
        colour: Marker colour.
        quality: SSIM of the protected photographs.
        plain: PSR_net against the recogniser as published, NaN if not run.
        left: PSR_net against the worst attacker.
        low: Lower limit of ``left``.
        high: Upper limit of ``left``.
    """

    name: str
    family: str
    colour: str
    quality: float
    plain: float
    left: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A measured curve: (x, y, low, high) of each point."""

    name: str
    colour: str
    dash: int
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Det:
    """One curve of a DET panel: FNMR with the limits of its band (3, K), and the interval at the frozen threshold."""

    colour: str
    fnmr: NDArray[np.floating]
    at: tuple[float, float, float, float] | None


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def shape(family: str, families: Sequence[str]) -> str:
    """Marker of a family; with the colours of six families they tell 36 apart."""
    return _SHAPES[list(families).index(family) // len(BASES) % len(_SHAPES)]


def tradeoff(points: Sequence[Point]) -> Markup:
    """Protection over quality: filled against the worst attacker with its interval, hollow as published."""
    families = list(dict.fromkeys(point.family for point in points))
    with matplotlib.rc_context(STYLE):
        tall = max(5.4, 0.9 + 0.27 * len(points))
        figure = Figure(figsize=(11.4, tall))
        # Room to the right for the names, and below for the axis, in inches.
        axes = figure.add_axes((0.8 / 11.4, 0.75 / tall, 7.6 / 11.4, (tall - 0.9) / tall))
        for family in families:
            mine = sorted((p for p in points if p.family == family), key=lambda p: p.quality)
            colour, marker = mine[0].colour, shape(family, families)
            x = np.array([p.quality for p in mine])
            left = np.array([p.left for p in mine])
            if len(mine) > 1:
                axes.plot(x, left, color=colour, zorder=4, alpha=0.9)
                axes.plot(x, [p.plain for p in mine], color=colour, zorder=2, alpha=0.45, linewidth=1)
            axes.vlines(x, left, [p.plain for p in mine], color=colour, linewidth=1, linestyle=(0, (1, 2)), zorder=2)
            axes.vlines(
                x, [p.low for p in mine], [p.high for p in mine], color=colour, linewidth=5, alpha=0.3, zorder=3
            )
            axes.scatter(
                x, [p.plain for p in mine], s=44, marker=marker, zorder=4, facecolors="none", edgecolors=colour
            )
            size = 110 if colour == OURS else 60
            axes.scatter(x, left, s=size, marker=marker, zorder=6, color=colour, edgecolors=PAPER, linewidths=1.2)
        axes.set_ylim(-0.04, 1.04)
        low = min(p.quality for p in points)
        axes.set_xlim(low - 0.08 * (1 - low) - 0.01, 1.0 + 0.12 * (1 - low) + 0.01)
        axes.xaxis.set_major_locator(FixedLocator([t for t in np.arange(0, 1.01, 0.1) if t >= axes.get_xlim()[0]]))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.1f}")
        _names(axes, points, 0.25 * 1.08 / (tall - 0.9))
        _plain(axes)
        axes.set_xlabel("SSIM between protected and clean photo")
        axes.set_ylabel("protection left, PSR net")
        return to_svg(
            figure, "tradeoff", "Protection left over picture quality, as published and at the worst attacker"
        )


def spread(heights: Sequence[float], least: float, top: float) -> list[float]:
    """Places for names as near as possible to rising heights, ``least`` apart and none above ``top``."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + least) if places else height)
    for index in reversed(range(len(places))):
        places[index] = min(places[index], places[index + 1] - least if index + 1 < len(places) else top)
    return places


def _names(axes: Axes, points: Sequence[Point], line: float) -> None:
    """Names in a column to the right, each led to its point."""
    edge = axes.get_xlim()[1]
    order = sorted(points, key=lambda p: (p.left, -p.quality))
    for point, height in zip(order, spread([p.left for p in order], line, 1.02), strict=True):
        name = point.name if len(point.name) <= _LONGEST else f"{point.name[: _LONGEST - 1]}…"
        axes.annotate(
            name,
            (point.quality, point.left),
            xytext=(edge, height),
            textcoords="data",
            va="center",
            fontsize=12 if point.colour == OURS else 11,
            color=INK if point.colour == OURS else MUTED,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": point.colour,
                "alpha": 0.45,
                "linewidth": 0.7,
                "shrinkA": 2,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            },
        )


def det(name: str, protector: str, fmr: NDArray[np.floating], curves: Sequence[Det]) -> Markup:
    """FNMR over FMR of one protector, with bands and, at the frozen threshold, intervals over people.

    Args:
        name: Name of the chart, unique on the page.
        protector: Name of the protector.
        fmr: False match rates (K,), all above 0.
        curves: Curves with their intervals; see :class:`Det`.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.3, 3.2), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            style = {CLEAN: (0, (4, 2.5)), MUTED: "-"}.get(curve.colour, "-")
            front = {CLEAN: 2, MUTED: 3}.get(curve.colour, 5)
            value, low, high = curve.fnmr
            axes.fill_between(fmr, low, high, color=curve.colour, alpha=0.15, linewidth=0, step="post", zorder=1)
            axes.plot(fmr, value, color=curve.colour, linestyle=style, zorder=front, drawstyle="steps-post")
            if curve.at is not None:
                x, y, least, most = curve.at
                axes.vlines([x], [least], [most], color=curve.colour, linewidth=6, alpha=0.3, zorder=front)
                axes.scatter([x], [y], s=26, color=curve.colour, zorder=front + 1, edgecolors=PAPER, linewidths=0.8)
        axes.set_xscale("log")
        axes.set_xlim(1e-3, 1)
        axes.set_ylim(-0.03, 1.03)
        axes.xaxis.set_major_locator(FixedLocator([1e-3, 1e-2, 1e-1, 1]))
        axes.xaxis.set_major_formatter(FixedFormatter(["0.1%", "1%", "10%", "100%"]))
        axes.xaxis.set_minor_locator(NullLocator())
        _plain(axes)
        axes.set_xlabel("false match rate")
        axes.set_ylabel("false non-match rate")
        return to_svg(figure, name, f"DET of {protector}: clean, protected, and under the worst attacker")


def lines(name: str, series: Sequence[Line], axis: str, ticks: Sequence[float], *, share: bool) -> Markup:
    """PSR net over one quantity, with intervals over people.

    Args:
        name: Name of the chart, unique on the page.
        series: Lines with at least one point each.
        axis: Text under the axis: what x means.
        ticks: Values of x that were measured; equally spaced on the page.
        share: Whether x is a share rather than a number.
    """
    place = {value: index for index, value in enumerate(ticks)}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.3, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, line in enumerate(series):
            # A small step aside keeps intervals of different protectors apart.
            x = np.array([place[p[0]] for p in line.points]) + 0.06 * (index - (len(series) - 1) / 2)
            y, low, high = (np.array([p[i] for p in line.points]) for i in (1, 2, 3))
            front = 6 if line.colour == OURS else 3
            axes.plot(x, y, color=line.colour, linestyle=DASHES[line.dash], zorder=front)
            axes.scatter(x, y, s=34, color=line.colour, edgecolors=PAPER, linewidths=0.8, zorder=front + 1)
            axes.vlines(x, low, high, color=line.colour, linewidth=1.4, alpha=0.55, zorder=front)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(-0.4, len(ticks) - 0.6)
        axes.xaxis.set_major_locator(FixedLocator(list(range(len(ticks)))))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{t:.0%}" if share else f"{t:g}" for t in ticks]))
        _plain(axes)
        axes.set_xlabel(axis)
        return to_svg(figure, name, f"PSR net over {axis}")


def people(rates: NDArray[np.floating], label: str) -> Markup:
    """A bar for each person, the least protected first; the worst decile stands out.

    Args:
        rates: Protection (G,) of each person, 0..1.
        label: Text for readers who cannot see the chart.
    """
    order = np.sort(np.asarray(rates, dtype=np.float64))
    worst = max(1, len(order) // 10)
    height, step = 40.0, 400.0 / len(order)
    bars = []
    for place, rate in enumerate(order):
        tall = max(height * rate, 1.2)  # nobody is invisible
        kind = ' class="worst"' if place < worst else ""
        box = f'x="{place * step:.2f}" y="{height - tall:.2f}" width="{step * 0.82:.2f}" height="{tall:.2f}"'
        bars.append(f"<rect{kind} {box}/>")
    head = Markup('<svg class="people" viewBox="0 0 400 40" preserveAspectRatio="none" role="img" aria-label="{}">')
    return head.format(label) + Markup("".join(bars) + "</svg>")
