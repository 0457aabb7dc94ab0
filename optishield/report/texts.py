"""Figures and names of an evaluation as its report prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from evaluation.records import Limits, Summary
from optishield.report.numbers import known, number, span
from optishield.report.standings import label

NOT_MEASURED = "not measured"


def seconds(value: float | None) -> str:
    """``31 ms`` or ``2.4 s``, or a dash."""
    if not known(value):
        return "–"
    return f"{1e3 * number(value):.3g} ms" if number(value) < 1 else f"{number(value):.3g} s"


def rate(value: float | None) -> str:
    """A rate with a digit more than a percentage near its ends, where one decides."""
    if not known(value):
        return "–"
    share = number(value)
    if 0 < share < 0.0005 or 0.9995 < share < 1:
        return "<0.1%" if share < 0.5 else ">99.9%"
    written = f"{share:.1%}" if 0 < share < 0.1 or 0.9 < share < 1 else f"{share:.0%}"
    return written.replace("-", "−")


def amount(value: float | None) -> str:
    """Three digits, without powers of ten: ``37,900``, ``4.31``."""
    found = number(value)
    return f"{float(f'{found:.3g}'):,.0f}" if found >= 1000 else f"{found:.3g}"


def interval(pair: Limits | None) -> str:
    """``24–39%``, or nothing."""
    return span(pair or ())


@dataclass(frozen=True)
class Bar:
    """Places in percent of a bar's width, None where there is no figure.

    Attributes:
        at: Place of the value.
        low: Place of the lower limit.
        high: Place of the upper limit.
    """

    at: float | None
    low: float | None
    high: float | None


def bar(value: float | None, limits: Limits | None) -> Bar:
    """A value with its limits on a bar; what lies outside 0..1 is drawn at its end."""
    low, high = limits or (None, None)
    return Bar(place(value), place(low), place(high))


def place(value: float | None) -> float | None:
    """Place of a rate in percent of a bar's width."""
    return float(np.clip(100 * number(value), 0, 100)) if known(value) else None


def readable(text: str, summary: Summary) -> str:
    """A text of the engine with protectors named as everywhere on the page; it knows no paths."""
    # The longest first, as one name may begin with another.
    for key in sorted(summary.protectors, key=len, reverse=True):
        text = label(key).join(re.split(re.escape(key) + r"(?!\.?\w)", text))
    return text
