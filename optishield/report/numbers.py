"""Figures as words: percentages, decimals, intervals, and quantities with their units."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optishield.report import pictures

_UNITS = (("_e", "e⁻"), ("_deg", "°"), ("_px", "px"), ("_lx", "lx"), ("_bits", "bit"))
_SHARES = ("throughput", "quantum_efficiency", "fill_factor")
_WORDS = {"nme": "NME", "rank1": "rank-1", "auc": "AUC", "psf": "PSF", "fmr": "FMR", "sha256": "SHA-256"}


def number(value: object) -> float:
    """A finite float, or NaN for anything else."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def known(value: object) -> bool:
    """Whether a value is a finite number."""
    return not math.isnan(number(value))


def percent(value: float | None) -> str:
    """``31%``, or a dash where the figure is not defined."""
    return f"{value:.0%}" if known(value) else "–"


def decimal(value: float | None, digits: int = 3) -> str:
    """``0.913`` with a proper minus sign, or a dash where the figure is not defined."""
    return f"{value:.{digits}f}".replace("-", "−") if known(value) else "–"


def span(pair: Sequence[float | None], form: str = "percent") -> str:
    """``24–39%`` or ``0.88–0.93``, empty unless both limits are defined."""
    low, high = (number(value) for value in pair) if pair else (math.nan, math.nan)
    if not (known(low) and known(high)):
        return ""
    if form == "percent":
        whole = f"{100 * low:.0f} to {100 * high:.0f}%" if low < 0 else f"{100 * low:.0f}–{100 * high:.0f}%"
        return whole.replace("-", "−")
    return f"{decimal(low, 2)} to {decimal(high, 2)}" if low < 0 else f"{low:.2f}–{high:.2f}"


def words(key: str) -> str:
    """The key of a setting as words: underscores become spaces, and a few words get their usual spelling."""
    return " ".join(_WORDS.get(word, word) for word in key.split("_"))


def quantity(key: str, value: object) -> tuple[str, str]:
    """A parameter as (name, value with unit); the unit is read from the end of the key."""
    if value is None or isinstance(value, (bool, str)):
        return words(key), {True: "yes", False: "no", None: "–"}.get(value, str(value))  # type: ignore[arg-type]
    if isinstance(value, (list, tuple)):
        parts = [quantity(key, item) for item in value]
        return (parts[0][0] if parts else words(key)), ", ".join(part[1] for part in parts)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return words(key), str(value)
    for ending, unit in _UNITS:
        if key.endswith(ending):
            return words(key.removesuffix(ending)), f"{value:.4g} {unit}"
    if key.endswith("_m"):
        return words(key.removesuffix("_m")), pictures.length_text(float(value))
    if key.endswith("_s"):
        return words(key.removesuffix("_s")), f"{value * 1e3:.4g} ms" if value < 1 else f"{value:.4g} s"
    if key in _SHARES:
        return words(key), f"{value:.1%}"
    return words(key), f"{value:.4g}" if isinstance(value, float) else f"{value}"
