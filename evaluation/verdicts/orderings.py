"""Orderings of methods that the survey states, each as a pair with an interval over people and a verdict.

S1 (its second figure): methods whose photographs a recogniser trains on. S2 (its third): methods whose photographs a
recogniser as published is shown. A pair that comes out the other way round is a result and is printed as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from evaluation.config import EvaluateConfig, Preset
from evaluation.matrix.jobs import Site, protected_photos
from evaluation.matrix.poison import AS_IS, SCRATCH
from evaluation.measures.metrics import Floats
from evaluation.measures.quality import ssim
from evaluation.measures.statistics import Interval, paired_difference, per_identity

Triple = tuple[str, str, str]
Relation = Literal["above", "below", "equal"]
#: Difference of SSIM up to which two methods count as equally similar; the survey says "about the same". Ours.
EQUAL_SSIM = 0.02
_CHUNK = 32


@dataclass(frozen=True)
class Statement:
    """One pair of the survey.

    Attributes:
        figure: "PSR" or "SSIM".
        first: method, by its name without settings.
        relation: of its figure to that of ``second``.
        second: the other method.
    """

    figure: Literal["PSR", "SSIM"]
    first: str
    relation: Relation
    second: str


STATEMENTS: dict[Preset, tuple[Statement, ...]] = {
    "S1": (
        Statement("PSR", "opom", "below", "em"),
        Statement("PSR", "opom", "below", "rem"),
        Statement("PSR", "opom", "below", "dfpp"),
        Statement("SSIM", "em", "equal", "rem"),
    ),
    "S2": (
        Statement("SSIM", "fawkes", "above", "tip-im"),
        Statement("SSIM", "tip-im", "above", "apf"),
        Statement("PSR", "apf", "above", "tip-im"),
        Statement("PSR", "tip-im", "above", "fawkes"),
    ),
}


def similarity(site: Site, protector: str, key: str) -> list[float]:
    """SSIM of the photographs that the experiment shows protected, mean of each person in rising order.

    In S1 these are the enrolled ones, in S2 the probes. What is below 0, worse than no likeness, counts as 0.
    """
    clean, shown = site.part("test").photos, protected_photos(site, "test", key)
    pick = clean.gallery if site.config.preset == "S1" else ~clean.gallery
    pairs = zip(clean.subset(pick).images().split(_CHUNK), shown.subset(pick).images().split(_CHUNK), strict=True)
    similar = torch.cat([ssim(*pair) for pair in pairs]).clamp(0, 1)
    return per_identity(similar, clean.identity[pick])[1].tolist()


def decide(first: Floats, second: Floats, relation: Relation, margin: float, seed: int) -> tuple[str, Interval]:
    """Whether a pair comes out as stated, from values of the same people.

    Args:
        first: (G,).
        second: (G,).
        relation: as stated.
        margin: difference up to which values count as equal.
        seed: of permutations.

    Returns:
        "replicated", "contradicted" or "not decided", and first minus second with its 95 % interval. Above and below:
        by the side of zero on which the whole interval lies. Equal: replicated if the 90 % interval lies within the
        margin (two one-sided tests at .05; Schuirmann 1987), contradicted if the 95 % interval lies outside it.
    """
    found = paired_difference(first, second, seed=seed).difference
    if relation == "equal":
        narrow = paired_difference(first, second, seed=seed, level=0.9).difference
        if -margin < narrow.low and narrow.high < margin:
            return "replicated", found
        return ("contradicted" if found.low > margin or found.high < -margin else "not decided"), found
    sign = 1 if relation == "above" else -1
    low, high = sorted((sign * found.low, sign * found.high))
    return ("replicated" if low > 0 else "contradicted" if high < 0 else "not decided"), found


def orderings(
    config: EvaluateConfig,
    scored: Mapping[Triple, Mapping[str, Any]],
    poisoned: Sequence[Mapping[str, Any]],
    similar: Mapping[str, Sequence[float]],
) -> list[dict[str, Any]]:
    """Every statement of the preset with its verdict; empty without a preset.

    PSR is the survey's: in S1 the share of clean probes that a recogniser trained on protected photographs names
    wrongly, in S2 the share of protected probes that a recogniser as published does not match, by each recogniser.

    Args:
        config: of the run. Of several settings of a method the first one counts.
        scored: of every attack.
        poisoned: rows of :func:`evaluation.matrix.poison.rows`.
        similar: by protector, see :func:`similarity`.
    """
    if config.preset is None:
        return []
    named: dict[str, str] = {}
    for spec in config.protectors:
        named.setdefault(spec.partition(":")[0], spec)
    figures = {
        ("SSIM", ""): {name: np.asarray(values) for name, values in similar.items()},
        **_rates(config.preset, scored, poisoned),
    }
    found = []
    for said in STATEMENTS[config.preset]:
        judges = [key for key in sorted(figures) if key[0] == said.figure]
        for figure, judge in judges or [(said.figure, "")]:
            values = figures.get((figure, judge), {})
            pair = [named.get(method, method) for method in (said.first, said.second)]
            margin = EQUAL_SSIM if said.relation == "equal" else 0.0
            row = {
                "preset": config.preset, "figure": figure, "first": pair[0], "relation": said.relation,
                "second": pair[1], "judge": judge, "margin": margin,
            }  # fmt: skip
            absent = [name for name in pair if name not in values]
            if absent:
                blank = dict.fromkeys(("value_first", "value_second", "difference", "ci95"))
                reason = f"{figure} of {' and '.join(absent)} was not measured"
                found.append({**row, **blank, "verdict": "not measured", "reason": reason})
                continue
            first, second = (values[name] for name in pair)
            verdict, difference = decide(first, second, said.relation, margin, config.seed)
            found.append({
                **row, "value_first": float(first.mean()), "value_second": float(second.mean()),
                "difference": difference.value, "ci95": difference.ci, "verdict": verdict, "reason": "",
            })  # fmt: skip
    return found


def _rates(
    preset: Preset, scored: Mapping[Triple, Mapping[str, Any]], poisoned: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], dict[str, Floats]]:
    """PSR of each person by judge and protector."""
    found: dict[tuple[str, str], dict[str, Floats]] = {}
    if preset == "S1":
        for row in poisoned:
            if (row["victim"], row["countermeasure"]) == (SCRATCH, AS_IS):
                found.setdefault(("PSR", SCRATCH), {})[row["protector"]] = 1 - np.asarray(row["people"])
        return found
    for (protector, _, recogniser), one in scored.items():
        plain = one["rows"][0]
        if plain["level"] == "K0" and plain["frames"] == 1:
            found.setdefault(("PSR", recogniser), {})[protector] = np.asarray(one["people"]["CP"])
    return found
