"""Orderings of methods that the survey states, each as a pair with an interval over people and a verdict.

S1 (its second figure): methods whose photographs a recogniser trains on. S2 (its third): methods whose photographs a
recogniser as published is shown. A pair that comes out the other way round is a result and is printed as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from evaluation.config import EvaluateConfig, Preset
from evaluation.labels import OrderingLabel, Verdict
from evaluation.matrix.jobs import Site, protected_photos
from evaluation.matrix.poison import AS_IS, SCRATCH
from evaluation.measures.comparisons import paired_difference
from evaluation.measures.intervals import Interval, per_identity
from evaluation.measures.metrics import Floats
from evaluation.measures.quality import ssim
from evaluation.records import Ordering, PoisonRow, Scored, Triple, base_name
from evaluation.records.judged import Relation

#: Difference of SSIM up to which two methods count as equally similar; the survey says "about the same". Ours.
EQUAL_SSIM = 0.02
_CHUNK = 32


@dataclass(frozen=True)
class Statement:
    """One pair of the survey.

    Attributes:
        figure: "PSR" or "SSIM".
        first: Method, by its name without settings.
        relation: Relation of its figure to that of ``second``.
        second: The other method.
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


def decide(
    first: Floats, second: Floats, relation: Relation, margin: float, seed: int
) -> tuple[OrderingLabel, Interval]:
    """Whether a pair comes out as stated, from values of the same people.

    Args:
        first: Values (G,) of the first method, one for each person.
        second: Values (G,) of the second method, in the same order.
        relation: Relation that the survey states.
        margin: Difference up to which values count as equal.
        seed: Seed of permutations.

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
    scored: Mapping[Triple, Scored],
    poisoned: Sequence[PoisonRow],
    similar: Mapping[str, Sequence[float]],
) -> tuple[Ordering, ...]:
    """Every statement of the preset with its verdict; empty without a preset.

    PSR is the survey's: in S1 the share of clean probes that a recogniser trained on protected photographs names
    wrongly, in S2 the share of protected probes that a recogniser as published does not match, by each recogniser.

    Args:
        config: Configuration of the run. Of several settings of a method the first one counts.
        scored: Every attack.
        poisoned: What victims learnt.
        similar: Similarity by protector, see :func:`similarity`.
    """
    if config.preset is None:
        return ()
    named: dict[str, str] = {}
    for spec in config.protectors:
        named.setdefault(base_name(spec), spec)
    figures = {
        ("SSIM", ""): {name: np.asarray(values) for name, values in similar.items()},
        **_rates(config.preset, scored, poisoned),
    }
    found = []
    for said in STATEMENTS[config.preset]:
        judges = [judge for figure, judge in sorted(figures) if figure == said.figure]
        for judge in judges or [""]:
            pair = [named.get(method, method) for method in (said.first, said.second)]
            found.append(
                _ordering(config.preset, said, pair, judge, figures.get((said.figure, judge), {}), config.seed)
            )
    return tuple(found)


def _ordering(
    preset: Preset, said: Statement, pair: Sequence[str], judge: str, values: Mapping[str, Floats], seed: int
) -> Ordering:
    """One pair before one judge."""
    margin = EQUAL_SSIM if said.relation == "equal" else 0.0
    absent = [name for name in pair if name not in values]
    means: list[float] = []
    difference: Interval | None = None
    verdict: Verdict[OrderingLabel] = Verdict(
        "not measured", f"{said.figure} of {' and '.join(absent)} was not measured"
    )
    if not absent:
        first, second = (values[name] for name in pair)
        label, difference = decide(first, second, said.relation, margin, seed)
        verdict, means = Verdict(label), [float(first.mean()), float(second.mean())]
    return Ordering(
        preset=preset,
        figure=said.figure,
        first=pair[0],
        relation=said.relation,
        second=pair[1],
        judge=judge,
        margin=margin,
        value_first=means[0] if means else None,
        value_second=means[1] if means else None,
        difference=None if difference is None else difference.value,
        ci95=None if difference is None else (difference.low, difference.high),
        verdict=verdict.label,
        reason=verdict.reason,
    )


def _rates(
    preset: Preset, scored: Mapping[Triple, Scored], poisoned: Sequence[PoisonRow]
) -> dict[tuple[str, str], dict[str, Floats]]:
    """PSR of each person by judge and protector."""
    found: dict[tuple[str, str], dict[str, Floats]] = {}
    if preset == "S1":
        for row in poisoned:
            if (row.victim, row.countermeasure) == (SCRATCH, AS_IS):
                found.setdefault(("PSR", SCRATCH), {})[row.protector] = 1 - np.asarray(row.people)
        return found
    for triple, one in scored.items():
        if one.rows[0].plain:
            found.setdefault(("PSR", triple.recogniser), {})[triple.protector] = np.asarray(one.people["CP"])
    return found
