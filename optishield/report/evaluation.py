"""The report of an evaluation: one HTML page that needs nothing else, not even the network.

It shows figures of ``evaluation.run.evaluate`` as they are: what was not measured is named as such, and where a
gate is not met no claim is printed. It never shows a photograph of a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ground.files import write_atomic
from optishield.errors import OptiShieldError
from optishield.report import charts, figures, pictures, tables
from optishield.report.numbers import known, number, percent
from optishield.report.page import render_page
from optishield.report.standings import (
    COMBINATIONS,
    LEVELS,
    Standing,
    sentence,
    standings,
    tone,
    waterfall,
)

Arrays = Mapping[str, NDArray[Any]]
Summary = Mapping[str, Any]

#: Verdicts of own claims behind their number, one and several.
_VERDICTS = {
    "holds": ("holds", "hold"), "fails": ("fails", "fail"), "not shown": ("is not shown", "are not shown"),
    "exploratory": ("is exploratory", "are exploratory"), "no claim": ("cannot be judged", "cannot be judged"),
    "not measured": ("is not measured", "are not measured"),
}  # fmt: skip

STRIP = "strip_"
FACES_SHOWN = 6
#: CSS classes of line styles in a legend, in the order of ``judgement_figures.DASHES``.
DASHES = ("", "dash", "dot")


def _strip(one: Standing, summary: Summary) -> dict[str, Any]:
    raw = one.worst.get("raw_psr")
    return {
        "name": one.name, "title": one.about.get("title", ""), "control": one.control, "variable": one.variable,
        "claimed": one.claimed, "combination": COMBINATIONS[one.combination], "judged": bool(one.worst),
        "value": tables.rate(one.worst.get("psr_net")), "low": tables.rate(one.worst.get("low")),
        "raw": tables.rate(raw), "raw_at": 100 * number(raw) if known(raw) else None,
        "bar": tables.bar(one.worst.get("psr_net"), *one.ci95), "attacker": one.worst.get("attacker", ""),
        "level": one.worst.get("level", ""), "recogniser": one.worst.get("recogniser", ""),
        "attacks": one.worst.get("attacks"), "verdict": one.verdict, "reason": tables.readable(one.reason, summary),
        "tone": "open" if one.control else tone(one.verdict),
        "today": "" if one.control else one.today[0],
        "others": [(COMBINATIONS[key], tables.rate(part.get("low"))) for key, part in one.others.items()],
    }  # fmt: skip


def _tradeoff(found: Sequence[Standing]) -> tuple[Markup, list[str]] | None:
    """The chart, and the names of protectors that have no place in it."""
    points, absent = [], []
    for one in found:
        quality = next((row.get("ssim") for row in one.rows), None)
        if not known(quality) or not known(one.worst.get("psr_net")):
            absent.append(one.name)
            continue
        plain = next((row["psr_net"] for row in one.rows if tables.triple(row) == one.plain_attack()), None)
        low, high = one.ci95
        points.append(
            charts.Point(one.name, one.base, one.colour, number(quality), number(plain), number(one.worst["psr_net"]),
                         low, high)
        )  # fmt: skip
    return (charts.tradeoff(points), absent) if points else None


class _Curves:
    """Curves of the attacks, looked up by protector, attacker and recogniser."""

    def __init__(self, summary: Summary, arrays: Arrays) -> None:
        points = (summary.get("curves") or {}).get("points") or []
        self.points: dict[tables.Triple, Mapping[str, Any]] = {tables.triple(point): point for point in points}
        self.fmr = np.asarray(arrays.get("fmr", ()), dtype=np.float64)
        self._row = {triple: place for place, triple in enumerate(self.points)}
        self._fnmr, self._people = arrays.get("fnmr"), arrays.get("people")
        count, levels = len(points), len(self.fmr)
        if self._fnmr is not None and self._fnmr.shape != (count, 4, 3, levels):
            raise _wrong_shape("fnmr", self._fnmr, count, f"3, {levels}")
        if self._people is not None and (self._people.ndim != 3 or self._people.shape[:2] != (count, 4)):
            raise _wrong_shape("people", self._people, count, "people")

    def fnmr(self, triple: tables.Triple, combination: str) -> NDArray[np.floating] | None:
        """FNMR at each FMR, with the limits of its band (3, K)."""
        return self._of(self._fnmr, triple, combination)

    def people(self, triple: tables.Triple, combination: str) -> NDArray[np.floating] | None:
        """Protection of each person."""
        return self._of(self._people, triple, combination)

    def _of(self, values: NDArray[Any] | None, triple: tables.Triple, combination: str) -> NDArray[np.floating] | None:
        if values is None or triple not in self._row:
            return None
        return np.asarray(values[self._row[triple], ("CC", "CP", "PC", "PP").index(combination)])


def _wrong_shape(name: str, values: NDArray[Any], attacks: int, rest: str) -> OptiShieldError:
    return OptiShieldError(f"{name} has shape {values.shape}; of {attacks} attacks it must be ({attacks}, 4, {rest}).")


def _det(
    found: Sequence[Standing], curves: _Curves, rows: Mapping[tuple[str, str, str, str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    panels = []
    for place, one in enumerate(found):
        plain = one.plain_attack()
        wanted = [
            (figures.CLEAN, plain, "CC"),
            (figures.MUTED, plain, one.combination),
            (figures.OURS, one.attack, one.combination),
        ]
        drawn = []
        for colour, triple, combination in wanted:
            values = curves.fnmr(triple, combination) if triple is not None else None
            if triple is None or values is None:
                continue
            row = rows.get((*triple, combination))
            at = None if row is None else (row["alpha"], row["psr"], *(number(v) for v in row["psr_ci95"]))
            drawn.append(charts.Det(colour, values, at))
        if drawn:
            panels.append({
                "name": one.name, "chart": charts.det(f"det-{place}", one.name, curves.fmr, drawn),
                "attacker": one.attack[1], "recogniser": one.attack[2], "combination": COMBINATIONS[one.combination],
            })  # fmt: skip
    return panels


def _waterfall(found: Sequence[Standing]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "combination": COMBINATIONS[one.combination],
            "variable": one.variable,
            "cells": [
                {
                    "run": known(step.value), "value": tables.rate(step.value), "interval": tables.interval(step.ci95),
                    "left": 100 * max(step.left, 0.0), "lost": 100 * max(step.before - step.left, 0.0),
                    "lower": step.left < step.before, "attacker": step.attacker, "recogniser": step.recogniser,
                }
                for step in waterfall(one)
            ],
        }
        for one in found
        if one.rows
    ]  # fmt: skip


def _people(found: Sequence[Standing], curves: _Curves) -> list[dict[str, Any]]:
    strips = []
    for one in found:
        rates = curves.people(one.attack, one.combination)
        if rates is None:
            continue
        strips.append({
            "name": one.name, "attacker": one.worst.get("attacker", ""), "variable": one.variable,
            "chart": charts.people(rates, f"protection of each of {len(rates)} people by {one.name}"),
            "mean": percent(rates.mean()), "decile": percent(one.worst.get("worst_decile")),
            "least": percent(one.worst.get("worst_person")),
        })  # fmt: skip
    return strips


def _series(
    found: Sequence[Standing], points_of: Mapping[str, Sequence[tuple[Any, Any, Any]]]
) -> tuple[list[charts.Line], list[float]]:
    """Lines of (x, PSR net, interval) by protector, without points that were not measured, and all x."""
    series = []
    for one in found:
        rows = [
            (number(x), number(y), number(pair[0]), number(pair[1]))
            for x, y, pair in points_of.get(one.key, ())
            if known(y) and pair
        ]
        if len(rows) > 1:
            series.append(charts.Line(one.name, one.colour, one.dash, tuple(sorted(rows))))
    return series, sorted({point[0] for line in series for point in line.points})


def _leakage(found: Sequence[Standing], curves: _Curves) -> Markup | None:
    wanted = {}
    for one in found:
        entry = one.others.get("PC") or {}
        point = curves.points.get((one.key, str(entry.get("attacker")), str(entry.get("recogniser"))), {})
        wanted[one.key] = [(p["share"], p["psr_net"], p["ci95"]) for p in point.get("leakage") or []]
    series, ticks = _series(found, wanted)
    return charts.lines("leakage", series, "clean share of a protected gallery", ticks, share=True) if series else None


def _templates(found: Sequence[Standing], curves: _Curves) -> Markup | None:
    wanted = {
        one.key: [
            (p["photos"], p["psr_net"], p["ci95"])
            for p in curves.points.get(one.attack, {}).get("templates") or []
            if p["combination"] == one.combination
        ]
        for one in found
    }
    series, ticks = _series(found, wanted)
    return charts.lines("templates", series, "gallery photos in a template", ticks, share=False) if series else None


def _frames(found: Sequence[Standing]) -> Markup | None:
    """PSR net over averaged frames, through the recogniser of the worst attack."""
    wanted = {
        one.key: [
            (row["frames"], row["psr_net"], row["ci95"])
            for row in one.rows
            if row["level"] == "K0" and row["recogniser"] == one.worst.get("recogniser")
        ]
        for one in found
    }
    series, ticks = _series(found, wanted)
    return charts.lines("frames", series, "averaged frames", ticks, share=False) if series else None


def _pictures(found: Sequence[Standing], arrays: Arrays) -> list[dict[str, Any]]:
    rows = []
    for one in sorted(found, key=lambda one: one.base != "identity"):
        frames = arrays.get(STRIP + one.key)
        if frames is None:
            continue
        if frames.ndim != 4:
            raise OptiShieldError(f"{STRIP}{one.key} has shape {frames.shape}; it must be n x h x w x C.")
        name = "clean" if one.base == "identity" else one.name
        cells = [pictures.photo(image, f"{name}, head {i + 1}") for i, image in enumerate(frames[:FACES_SHOWN])]
        rows.append({"name": name, "cells": cells})
    return rows


def _words(summary: Summary, found: Sequence[Standing], gates: Mapping[str, Sequence[Any]]) -> list[str]:
    rows = summary.get("rows") or []
    attackers, recognisers = ({row[key] for row in rows} for key in ("attacker", "recogniser"))
    alphas = {row["alpha"] for row in rows}
    words = []
    if rows:
        words.append(
            f"{_count(len(found), 'protector')} (with controls) against {_count(len(attackers), 'attacker')} through "
            f"{_count(len(recognisers), 'recogniser')}, on {summary.get('identities')} people whom none of them knew."
        )
        words.append(
            "PSR net: of the pairs of photos that match clean, the share that no longer does, at a threshold frozen at "
            f"a false match rate of {', '.join(f'{alpha:.3g}' for alpha in sorted(alphas))} on other people. The worst "
            "attacker counts, with the lower 95% limit over people."
        )
    verdicts = Counter(str(claim["verdict"]) for claim in summary.get("own_claims") or [])
    if verdicts:
        said = [f"{count} {_VERDICTS[word][count > 1]}" for word, count in verdicts.items()]
        words.append(f"Of the protectors' own claims {', '.join(said)}.")
    if summary.get("exploratory"):
        words.append(f"Exploratory: {summary['exploratory']}.")
    if gates["unmet"]:
        words.append(f"{_are(len(gates['unmet']), 'gate')} not met: no claim that rests on one of them stands.")
    if summary.get("missing"):
        words.append(f"{_are(len(summary['missing']), 'job')} missing because of a failure; the list is below.")
    return words


def _are(number_of: int, noun: str) -> str:
    return f"{_count(number_of, noun)} {'is' if number_of == 1 else 'are'}"


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}" if number_of == 1 else f"{number_of} {noun}s"


def _context(summary: Summary, arrays: Arrays) -> dict[str, Any]:
    synthetic = summary.get("mode") == "synthetic"
    if not synthetic and any(key.startswith(STRIP) for key in arrays):
        raise OptiShieldError(f"The report of a run on photographs shows no picture; drop the arrays {STRIP}*.")
    found, curves, gates = standings(summary), _Curves(summary, arrays), tables.gates(summary)
    rows = {(*tables.triple(row), str(row["combination"])): row for row in summary.get("rows") or []}
    judged = [one for one in found if one.worst]
    # Controls would bury the others in charts of many lines.
    drawn = [one for one in judged if not one.control] or judged
    manifest = summary.get("manifest") or {}
    return {
        "synthetic": synthetic,
        "run": summary.get("run") or "run",
        "tier": summary.get("tier"),
        "seed": summary.get("seed"),
        "exploratory": bool(summary.get("exploratory")),
        "headline": sentence(summary),
        "words": _words(summary, found, gates),
        "own_claims": tables.own_claims(summary),
        "orderings": tables.orderings(summary),
        "strip": [_strip(one, summary) for one in found],
        "pictures": _pictures(found, arrays),
        "tradeoff": _tradeoff(found),
        "det": _det(judged, curves, rows) if curves.fmr.size else [],
        "levels": LEVELS,
        "waterfall": _waterfall(judged),
        "people": _people(judged, curves),
        "curves": [
            (title, note, chart)
            for title, note, chart in (
                ("Leaked clean photos", "Poisoning: the gallery holds protected photos and this share of clean ones.",
                 _leakage(drawn, curves)),
                ("Averaged templates", "More enrolled photos of a person, averaged.", _templates(drawn, curves)),
                ("Averaged frames", "The recogniser as published on the average of several captures.",
                 _frames(drawn)),
            )
            if chart is not None
        ],
        "legend": [
            {"name": one.name, "variable": one.variable, "dash": DASHES[one.dash], "ours": one.colour == figures.OURS}
            for one in drawn
        ],
        "claims": tables.claims(found),
        "quality": tables.quality(found),
        "cost": tables.cost(summary),
        "gates": gates,
        "certificates": tables.certificates(summary),
        "survey": tables.survey(summary),
        "attacks": tables.attacks(judged, summary),
        "combinations": COMBINATIONS,
        "comparisons": tables.comparisons(summary),
        "missing": tables.missing(summary),
        "inapplicable": tables.inapplicable(summary),
        "left_out": list(summary.get("left_out") or []),
        "deviations": list(summary.get("deviations") or []),
        "thresholds": tables.thresholds(summary),
        "manifest": [("hash", str(manifest["faces_hash"])), *tables.flat(manifest["faces"])] if manifest else [],
    }  # fmt: skip


def render(summary: Summary, arrays: Arrays) -> str:
    """The page as text; see :func:`write_judgement`."""
    return render_page("evaluation.html.j2", ("report.css", "evaluation.css"), _context(summary, arrays))


def write_judgement(out: Path, summary: Summary, arrays: Arrays) -> Path:
    """Write the report of an evaluation.

    Args:
        out: a run folder (the page becomes ``report.html`` in it) or the file to write.
        summary: what ``evaluation.run.evaluate`` returns, with ``run`` (its name) and ``mode`` ("synthetic" or
            "photos"). Null and NaN mean "not defined".
        arrays: those of ``curves.safetensors``: ``fmr`` (K,), ``fnmr`` (N, 4, 3, K), ``people`` (N, 4, G) in the
            order of ``summary["curves"]["points"]``. Of a run on synthetic heads also ``strip_<protector>``
            (n, h, w, C), display values 0..1.

    Returns:
        The file written.

    Raises:
        OptiShieldError: an array whose shape is not the one above, or pictures of a run on photographs.
        OSError: the file cannot be written.
    """
    path = out / "report.html" if out.is_dir() else out
    write_atomic(path, render(summary, arrays).encode("utf-8"))
    return path
