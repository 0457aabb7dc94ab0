"""What a run found, read from its summary: cameras side by side, the headline, and the words that go with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optishield.report import figures, pictures

Summary = Mapping[str, Any]

EXPLORATORY_BELOW = 30  # people; intervals at fewer are too wide for a claim
OURS, FLOOR, CLEAN = ("ours", "mask", "encoded"), ("oracle", "floor", "landmarks", "landmarks_only"), ("clean",)
SPELLING = {
    "unet": "U-Net", "wiener": "Wiener", "gaussian": "Gaussian", "rank1": "rank-1", "auc": "AUC", "psf": "PSF",
    "unet-inverter": "U-Net, then SFace", "sface-fine-tuned": "SFace, fine-tuned", "wiener-sface": "Wiener, then SFace",
    "wiener-sface-fine-tuned": "Wiener, then SFace fine-tuned", "sface-as-published": "SFace as published",
    "scratch-recogniser": "recogniser from scratch", "linear-discriminant": "linear discriminant",
    "landmarks-only": "released landmarks", "mono-pixels": "monochrome pixels", "gaussian-blur": "Gaussian blur",
    "low-resolution": "low resolution", "random-mask": "random mask", "same-sensor-no-mask": "same sensor, no mask",
    "same-field-mono-pixels": "monochrome pixels behind the same field stop",
    "nme": "NME", "sface": "SFace", "lda": "LDA", "fmr": "FMR", "tar": "TAR", "sha256": "SHA-256", "na": "NA",
}  # fmt: skip


@dataclass(frozen=True)
class Camera:
    """One row of the comparison: what a camera lets through, by attacker."""

    key: str
    name: str
    role: str
    colour: str
    nme: float
    worst: str
    attackers: Mapping[str, Mapping[str, Any]]

    @property
    def headline(self) -> Mapping[str, Any]:
        """Figures of its worst attacker."""
        return self.attackers.get(self.worst, {})

    @property
    def variable(self) -> str:
        """CSS variable of its colour."""
        return figures.Series("", self.role, self.colour, ()).variable


def number(value: Any) -> float:
    """A finite float, or NaN for anything else (null stands for "not defined")."""
    if isinstance(value, (int, float, np.number)) and math.isfinite(value):
        return float(value)
    return math.nan


def known(value: Any) -> bool:
    """Whether a value is a finite number."""
    return not math.isnan(number(value))


def percent(value: Any) -> str:
    """``31%``, or a dash."""
    return f"{number(value):.0%}" if known(value) else "–"


def decimal(value: Any, digits: int = 3) -> str:
    """``0.913`` with a proper minus sign, or a dash."""
    return f"{number(value):.{digits}f}".replace("-", "−") if known(value) else "–"


def limits(block: Mapping[str, Any], key: str) -> tuple[float, float]:
    """The interval stored beside a figure, NaN where there is none."""
    pair = block.get(f"{key}_ci95") or (None, None)
    return number(pair[0]), number(pair[1])


def span(pair: Sequence[Any], form: str = "percent") -> str:
    """``24–39%`` or ``0.88–0.93``, empty without both limits."""
    low, high = (number(x) for x in pair) if pair else (math.nan, math.nan)
    if not (known(low) and known(high)):
        return ""
    if form == "percent":
        whole = f"{100 * low:.0f} to {100 * high:.0f}%" if low < 0 else f"{100 * low:.0f}–{100 * high:.0f}%"
        return whole.replace("-", "−")
    return f"{decimal(low, 2)} to {decimal(high, 2)}" if low < 0 else f"{low:.2f}–{high:.2f}"


def title(key: str) -> str:
    """A name from a key: underscores become spaces, and a few words get their usual spelling."""
    return " ".join(SPELLING.get(word, word) for word in key.replace("u_net", "unet").split("_"))


def _worst(block: Summary) -> str:
    """Key of the attacker with the highest rank-1; the stored choice decides when it is there."""
    attackers = block.get("attackers") or {}
    stored = block.get("worst_attacker")
    if isinstance(stored, str) and stored in attackers:
        return stored
    rated = {name: number(a.get("rank1")) for name, a in attackers.items() if known(a.get("rank1"))}
    return max(rated, key=lambda name: rated[name]) if rated else ""


def _camera(key: str, name: str, role: str, colour: str, block: Summary) -> Camera:
    return Camera(key, name, role, colour, number(block.get("nme")), _worst(block), block.get("attackers") or {})


def cameras(summary: Summary) -> list[Camera]:
    """Clean camera, baselines (weakest protection first), ours, and landmarks alone, as far as they were measured."""
    found: list[Camera] = []
    if summary.get("clean"):
        found.append(_camera("clean", "clean camera", "clean", figures.CLEAN, summary["clean"]))
    bases = [
        _camera(key, title(key), "base", figures.BASES[i % len(figures.BASES)], block)
        for i, (key, block) in enumerate((summary.get("baselines") or {}).items())
    ]
    found += sorted(bases, key=lambda c: -np.nan_to_num(number(c.headline.get("rank1"))))
    if summary.get("attackers"):
        found.append(_camera("ours", "this mask", "ours", figures.OURS, summary))
    oracle = summary.get("oracle")
    if oracle:
        block = {"nme": oracle.get("nme"), "attackers": {"landmarks": oracle}}
        found.append(_camera("oracle", "landmarks alone", "floor", figures.FLOOR, block))
    return [camera for camera in found if camera.attackers]


def best_baseline(found: Sequence[Camera], chosen: str | None = None) -> Camera | None:
    """The baseline that the run chose, or else the one whose worst attacker does least."""
    named = [c for c in found if c.role == "base" and c.key == chosen]
    if named:
        return named[0]
    rated = [c for c in found if c.role == "base" and known(c.headline.get("rank1"))]
    return min(rated, key=lambda c: number(c.headline["rank1"])) if rated else None


def people(summary: Summary) -> int | None:
    """Number of tested people; ``identities`` is a number or a table with the entry ``test``."""
    count = summary.get("identities")
    if isinstance(count, Mapping):
        count = count.get("test")
    return int(number(count)) if known(count) else None


def headline(summary: Summary) -> str | None:
    """What the run shows, as one sentence that the figures support; None when nothing was compared."""
    failed = [title(name) for name, gate in (summary.get("gates") or {}).items() if not gate.get("passed")]
    if failed:
        return f"No claim: {', '.join(failed)} {'was' if len(failed) == 1 else 'were'} not met."
    if not summary.get("gap_closed"):
        return None
    gap = summary["gap_closed"].get("rank1") or {}
    low, high = limits({"gap_ci95": gap.get("ci95")}, "gap")
    few = people(summary)
    if not known(gap.get("value")) or not known(low):
        return "This run cannot say how much of the gap is closed."
    if low > 0:
        rest = f"his camera closes {percent(gap['value'])} of the gap between the best baseline and landmarks alone."
        return f"Exploratory: t{rest}" if few is not None and few < EXPLORATORY_BELOW else f"T{rest}"
    if high < 0:
        return "This camera gives away more than the best baseline."
    return "No difference from the best baseline is shown."


def plain_words(summary: Summary, found: Sequence[Camera]) -> list[str]:
    """Short sentences under the headline: what was compared, whether intervals part, and how far to trust it."""
    words: list[str] = []
    ours = next((c for c in found if c.role == "ours"), None)
    floor = next((c for c in found if c.role == "floor"), None)
    base = best_baseline(found, summary.get("best_baseline"))
    if ours and known(ours.headline.get("rank1")):
        text = (
            f"The strongest attacker ({title(ours.worst)}) recognises {percent(ours.headline['rank1'])} of the photos"
        )
        if base:
            text += f"; at the best baseline ({base.name}) it is {percent(base.headline['rank1'])}"
        if floor and known(floor.headline.get("rank1")):
            text += f", and {percent(floor.headline['rank1'])} from landmarks with this error and nothing else"
        clean = next((c for c in found if c.role == "clean"), None)
        if clean and not base and known(clean.headline.get("rank1")):
            text += f"; through the clean camera it is {percent(clean.headline['rank1'])}"
        words.append(text + ".")
    if ours and base:
        high, low = limits(ours.headline, "rank1")[1], limits(base.headline, "rank1")[0]
        if known(high) and known(low):
            words.append(
                "The two intervals do not overlap."
                if high < low
                else "The two intervals overlap; the paired interval of the gap decides."
            )
        if known(ours.nme) and known(base.nme) and abs(base.nme / ours.nme - 1) > 0.1:
            words.append(
                f"The landmark errors differ ({decimal(ours.nme)} and {decimal(base.nme)}), so the comparison at equal "
                "error is only as good as the curves between the measured points."
            )
    gap = summary.get("gap_closed") or {}
    for key, part in gap.items():
        if isinstance(part, Mapping) and part.get("reason"):
            words.append(f"{title(key)[0].upper()}{title(key)[1:]}: {part['reason']}")
    for name, row in (summary.get("ablations") or {}).items():
        part = row["gap_closed"]["rank1"]
        if known(part.get("value")):
            words.append(
                f"Measured from {title(name)}, a camera that lacks {row['lacks']} of ours and has all the rest, the "
                f"gap closed in rank-1 is {decimal(part['value'], 2)} ({span(part['ci95'], 'decimal')})."
            )
    few = people(summary)
    if few is not None and few < EXPLORATORY_BELOW:
        words.append(f"{few} people are fewer than {EXPLORATORY_BELOW}: read every figure as exploratory.")
    verdict = str(summary.get("verdict") or "").strip()
    if verdict:
        words.append(verdict if verdict[-1] in ".!?" else f"{verdict}.")
    return words


def quantity(key: str, value: Any) -> tuple[str, str]:
    """A parameter as (name, value with unit); the unit is read from the end of the key."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return title(key), {True: "yes", False: "no", None: "–"}.get(value, str(value))  # type: ignore[arg-type]
    if isinstance(value, (list, tuple)):
        parts = [quantity(key, item) for item in value]
        return (parts[0][0] if parts else title(key)), ", ".join(part[1] for part in parts)
    for ending, unit in (("_e", "e⁻"), ("_deg", "°"), ("_px", "px"), ("_lx", "lx"), ("_bits", "bit")):
        if key.endswith(ending):
            return title(key.removesuffix(ending)), f"{value:.4g} {unit}"
    if key.endswith("_m"):
        return title(key.removesuffix("_m")), pictures.length_text(float(value))
    if key.endswith("_s"):
        return title(key.removesuffix("_s")), f"{value * 1e3:.4g} ms" if value < 1 else f"{value:.4g} s"
    if key in ("throughput", "quantum_efficiency", "fill_factor"):
        return title(key), f"{value:.1%}"
    return title(key), f"{value:.4g}" if isinstance(value, float) else f"{value}"
