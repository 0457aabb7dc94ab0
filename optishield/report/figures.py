"""Charts of the report, drawn by matplotlib as SVG whose colours and typeface are those of the page.

matplotlib knows no CSS, so each chart is drawn in marker colours that are replaced by CSS variables afterwards.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

INK, MUTED, RULE, OURS, FLOOR, CLEAN, PAPER = (f"#00000{i}" for i in range(1, 8))
BASES = tuple(f"#0000{i}0" for i in range(1, 7))
_VARIABLES = {
    INK: "ink", MUTED: "muted", RULE: "rule", OURS: "ours", FLOOR: "floor", CLEAN: "clean", PAPER: "paper",
    **{colour: f"base{i}" for i, colour in enumerate(BASES)},
}  # fmt: skip

#: Parameters of matplotlib for every chart of a page.
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 12.0,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "lines.linewidth": 1.6,
}


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """A chart as an ``<svg>`` element for the page.

    Args:
        figure: drawn in the marker colours and under ``STYLE``.
        name: of the chart, unique on the page.
        label: for readers who cannot see it.
    """
    buffer = io.StringIO()
    # The salt makes identifiers repeatable, and different from those of the other charts of the page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', "", text, count=1)
    # Releases of matplotlib differ: some write the short form of the font, some the long one.
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--sans)", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    # Marks and clip paths carry hashed names already; groups are named "figure_1" and the like in every chart.
    text = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    width, height = figure.get_size_inches() * 72
    head = Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(width, height, label)
    return head + Markup(text)


def variable(colour: str) -> str:
    """Name of the CSS variable that a marker colour stands for."""
    return _VARIABLES[colour]


class Figures(Protocol):
    """What :func:`point` reads of a result: rank-1 and AUC with their intervals, None where not defined."""

    @property
    def rank1(self) -> float | None:
        """Share of probes that are named correctly."""

    @property
    def rank1_ci95(self) -> tuple[float | None, float | None]:
        """Its interval."""

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve."""

    @property
    def auc_ci95(self) -> tuple[float | None, float | None]:
        """Its interval."""


@dataclass(frozen=True)
class Point:
    """A measured point of a camera: landmark error, and (value, lower, upper limit) of two figures; NaN: undefined."""

    nme: float
    rank1: tuple[float, float, float]
    auc: tuple[float, float, float]


def _nan(*values: float | None) -> tuple[float, ...]:
    return tuple(math.nan if value is None else value for value in values)


def point(nme: float | None, found: Figures) -> Point:
    """The point of a result at a landmark error."""
    (x,) = _nan(nme)
    return Point(x, _triple(found.rank1, found.rank1_ci95), _triple(found.auc, found.auc_ci95))


def _triple(value: float | None, limits: tuple[float | None, float | None]) -> tuple[float, float, float]:
    middle, low, high = _nan(value, *limits)
    return middle, low, high


@dataclass(frozen=True)
class Series:
    """A camera on the privacy-utility plane; ``line`` joins several settings of one camera."""

    name: str
    role: str  # "ours", "floor", "clean", "base", "ablation"
    colour: str
    points: tuple[Point, ...]

    @property
    def variable(self) -> str:
        """Name of the CSS variable of its colour."""
        return variable(self.colour)


def _span(axes: Axes, series: Sequence[Series], key: Literal["rank1", "auc"]) -> None:
    for entry in series:
        rows = [(p.nme, *(p.rank1 if key == "rank1" else p.auc)) for p in entry.points]
        rows = sorted(row for row in rows if not math.isnan(row[0] + row[1]))
        if not rows:
            continue
        x, y, low, high = np.array(rows).T
        style = {"ours": "-", "floor": (0, (4, 2.5)), "clean": "-"}.get(entry.role, "-")
        front = {"ours": 6, "floor": 3}.get(entry.role, 4)
        if len(rows) > 1:
            axes.plot(x, y, color=entry.colour, linestyle=style, zorder=front, alpha=0.9)
        axes.vlines(x, low, high, color=entry.colour, linewidth=1.2, zorder=front, alpha=0.75)
        size, shape = {"ours": (110, "D"), "clean": (64, "s"), "floor": (30, "o")}.get(entry.role, (48, "o"))
        paint: Any = {"color": entry.colour, "edgecolors": PAPER, "linewidths": 1.2}
        if entry.role == "ablation":
            paint = {"facecolors": PAPER, "edgecolors": entry.colour, "linewidths": 1.6}
        axes.scatter(x, y, s=size, marker=shape, zorder=front + 1, **paint)


def frontier(series: Sequence[Series], chance: float | None) -> Markup:
    """Rank-1 and AUC of the worst attacker against the landmark error."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.4, 4.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        _span(left, series, "rank1")
        _span(right, series, "auc")
        if chance is not None:
            left.axhline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            left.annotate("chance", (0.995, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                          color=MUTED, fontsize=10.5, xytext=(0, 2), textcoords="offset points")  # fmt: skip
        left.set_title("Recognised at rank 1, worst attacker")
        right.set_title("Verification AUC, worst attacker")
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        left.set_ylim(0, 1.02)
        right.set_ylim(min(0.48, right.get_ylim()[0]), 1.005)
        for axes in (left, right):
            axes.set_xlabel("landmark error (inter-ocular)")
            axes.set_xlim(0, axes.get_xlim()[1] * 1.04)
            axes.grid(axis="y", alpha=0.7)
            axes.set_axisbelow(True)
            axes.tick_params(length=0)
        return to_svg(figure, "frontier", "Privacy against utility: rank-1 and AUC over landmark error")


def strip(rows: Sequence[tuple[str, str, float, float, float]], chance: float | None) -> Markup:
    """Forest plot of rank-1: (name, colour, value, low, high) from top to bottom; NaN limits draw no bar."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.75 + 0.6 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, (name, colour, value, low, high) in enumerate(rows):
            at = -place
            axes.hlines(at, 0, 1, color=RULE, linewidth=0.6, zorder=1)
            axes.hlines(at, low, high, color=colour, linewidth=8, alpha=0.35, zorder=2)
            size = 120 if colour == OURS else 70
            axes.scatter([value], [at], s=size, color=colour, zorder=3, edgecolors=PAPER, linewidths=1.2)
            top = high if math.isfinite(high) else value
            axes.annotate(f"{value:.0%}", (top, at), xytext=(9, 0), textcoords="offset points", va="center",
                          fontsize=14 if colour == OURS else 12.5, color=INK if colour == OURS else MUTED)  # fmt: skip
            axes.annotate(name, (0, at), xycoords=("axes fraction", "data"), xytext=(-10, 0), ha="right", va="center",
                          textcoords="offset points", color=INK if colour == OURS else MUTED,
                          fontsize=14 if colour == OURS else 12.5)  # fmt: skip
        if chance is not None:
            axes.axvline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.annotate("chance", (chance, 1), xycoords=("data", "axes fraction"), ha="left", va="bottom",
                          color=MUTED, fontsize=10.5)  # fmt: skip
        axes.set_xlim(0, 1.08)
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.set_yticks([])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return to_svg(figure, "strip", "Rank-1 of the worst attacker with 95% intervals")


def radial_mtf(psf: NDArray[np.floating], pitch_m: float) -> tuple[NDArray[np.float64], ...]:
    """Mean, lowest and highest OTF magnitude on rings of spatial frequency.

    Args:
        psf: (K, K), any scale.
        pitch_m: sampling.

    Returns:
        Frequencies in cycles per millimetre, and mean, minimum, maximum on each ring.
    """
    size = psf.shape[0]
    transfer = np.abs(np.fft.fft2(psf / psf.sum()))
    frequency = np.fft.fftfreq(size)
    ring = np.rint(np.hypot(frequency[:, None], frequency[None, :]) * size).astype(int)
    rings = [transfer[ring == r] for r in range(size // 2 + 1)]
    mean, low, high = (np.array([f(values) for values in rings]) for f in (np.mean, np.min, np.max))
    return np.arange(size // 2 + 1) / (size * pitch_m) / 1e3, mean, low, high


def mtf_chart(psf: NDArray[np.floating], pitch_m: float, names: Sequence[str], nyquist_per_mm: float | None) -> Markup:
    """Ring means of the OTF magnitude of (L, K, K), with the range over orientation for the middle wavelength."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.0, 4.0), layout="constrained")
        axes = figure.subplots()
        middle = len(psf) // 2
        for index, (one, name) in enumerate(zip(psf, names, strict=True)):
            frequency, mean, low, high = radial_mtf(one, pitch_m)
            style = ["-", (0, (5, 2)), (0, (1.5, 1.5))][abs(index - middle) % 3]
            axes.plot(frequency, mean, color=OURS, linestyle=style, label=name, alpha=1.0 if index == middle else 0.8)
            if index == middle:
                axes.fill_between(frequency, low, high, color=OURS, alpha=0.13, linewidth=0)
        if nyquist_per_mm is not None and nyquist_per_mm <= float(frequency[-1]):
            axes.axvline(nyquist_per_mm, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.annotate("pixel Nyquist", (nyquist_per_mm, 0.97), xytext=(5, 0), textcoords="offset points",
                          color=MUTED, fontsize=10.5, va="top")  # fmt: skip
        axes.set_xlim(0, float(frequency[-1]))
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("spatial frequency on the sensor, cycles/mm")
        axes.set_ylabel("|OTF|")
        axes.grid(axis="y", alpha=0.7)
        axes.tick_params(length=0)
        axes.legend(frameon=False, fontsize=11, labelcolor=MUTED)
        return to_svg(figure, "mtf", "Magnitude of the optical transfer function over spatial frequency")


def profile(height_m: NDArray[np.floating], inside: NDArray[np.bool_], diameter_m: float | None) -> Markup:
    """Cuts through the mask, horizontal and vertical, through its centre."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.9, 3.1), layout="constrained")
        axes = figure.subplots()
        height = np.where(inside, height_m, np.nan) * 1e6
        height = height - np.nanmin(height)
        rows, columns = height.shape
        for cut, name, style in ((height[rows // 2], "across", "-"), (height[:, columns // 2], "down", (0, (4, 2)))):
            place = (np.arange(len(cut)) + 0.5) / len(cut) - 0.5
            axes.plot(place * (diameter_m * 1e3 if diameter_m else 1.0), cut, color=OURS, linestyle=style, label=name)
        axes.set_xlabel("position in the pupil, mm" if diameter_m else "position in the pupil, diameters")
        axes.set_ylabel("height, µm")
        axes.grid(axis="y", alpha=0.7)
        axes.tick_params(length=0)
        axes.legend(frameon=False, fontsize=11, labelcolor=MUTED, ncols=2)
        return to_svg(figure, "profile", "Cuts through the mask height")


def training(history: NDArray[np.floating], names: Sequence[str]) -> Markup:
    """Small multiples of the training record (steps, k), at most 12; a column named ``step`` becomes the axis."""
    record = np.asarray(history, dtype=np.float64)
    steps = record[:, list(names).index("step")] if "step" in names else np.arange(len(record), dtype=np.float64)
    shown = [i for i, name in enumerate(names) if name != "step" and np.isfinite(record[:, i]).any()][:12]
    columns = min(3, max(len(shown), 1))
    lines = max(1, math.ceil(len(shown) / columns))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.4, 2.3 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, gridspec_kw={"hspace": 0.12, "wspace": 0.06})
        for place, axes in enumerate(grid.ravel()):
            if place >= len(shown):
                axes.set_axis_off()
                continue
            values = record[:, shown[place]]
            known = np.isfinite(values)
            axes.plot(steps[known], values[known], color=OURS, linewidth=1.2)
            axes.set_title(names[shown[place]])
            axes.tick_params(length=0, labelsize=10.5)
            axes.grid(axis="y", alpha=0.7)
            axes.margins(x=0)
        for axes in grid[-1]:
            axes.set_xlabel("step", fontsize=10.5)
        return to_svg(figure, "training", "Training record")
