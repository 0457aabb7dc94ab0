"""What a run says of each protector: its worst attacker, what may be claimed, and how protectors compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from evaluation.labels import PROTECTED, RETRAINED, TODAY, Level, OverallLabel, Protected, Verdict
from evaluation.measures import gates as gates_
from evaluation.measures.attackers import holm, least_protection
from evaluation.measures.comparisons import paired_difference
from evaluation.measures.metrics import Floats
from evaluation.records import (
    Comparison,
    Evidence,
    Headline,
    LeakagePoint,
    Method,
    Quality,
    Row,
    Triple,
    Worst,
    WorstAttack,
)
from evaluation.verdicts.validity import ATTACK_GATES, JUDGE_GATES
from faces.protection import Threat
from ground.gates import Gate

#: Share of clean photographs in the gallery at which a claim of tolerance to leakage is read.
LEAKED_SHARE = 0.1
#: What a threat is measured by.
MEASURED_BY: dict[Threat, tuple[Protected, ...]] = {
    Threat.poison: ("PC",),
    Threat.dodge: ("CP",),
    Threat.impersonate: ("CP",),
    Threat.attribute: (),
    Threat.sensor: ("CP", "PP"),
}


def headline(protector: str, evidence: Evidence, rows: Sequence[Row], gates: Mapping[str, Gate]) -> Headline:
    """What is said of one protector.

    The worst attacker of each combination counts: the least of all lower limits needs no correction (intersection-
    union). Recognisers that failed their gate do not judge.
    """
    method = evidence.protectors[protector]
    tried = _judging([row for row in rows if row.protector == protector], gates)
    claimed = {name for threat in method.threats for name in MEASURED_BY[threat]}
    worst = {name: _worst_attack(name, tried, evidence, name in claimed) for name in PROTECTED}
    stated = evidence.certified.get(protector)
    return Headline(
        evasion=worst["CP"],
        poisoning=worst["PC"],
        linkage=worst["PP"],
        claims=_claims(
            worst["PC"],
            tried,
            evidence.qualities.get(protector, Quality()),
            None if stated is None else stated.max_success,
        ),
        verdict=_overall(protector, method, tried, claimed or {"CP"}, gates, evidence.exploratory),
    )


def _judging(rows: Sequence[Row], gates: Mapping[str, Gate]) -> list[Row]:
    """Rows of recognisers that may judge, in which somebody is matched clean."""
    return [row for row in rows if row.net is not None and gates[f"recogniser-strength/{row.recogniser}"].passed]


def _low(row: Row) -> float:
    """Lower limit of the protection of a row in which somebody is matched clean."""
    return float("nan") if row.ci95 is None else row.ci95[0]


def _worst(rows: Sequence[Row]) -> Row | None:
    return min(rows, key=lambda row: (_low(row), row.psr_net, row.attacker, row.recogniser), default=None)


def _as_worst(row: Row | None, attacks: int) -> Worst | None:
    if row is None or row.psr_net is None:
        return None
    return Worst(
        attacker=row.attacker,
        level=row.level,
        recogniser=row.recogniser,
        psr_net=row.psr_net,
        low=_low(row),
        attacks=attacks,
        verdict=row.verdict,
        reason=row.reason,
    )


def _worst_attack(
    combination: Protected, tried: Sequence[Row], evidence: Evidence, claimed: bool
) -> WorstAttack | None:
    mine = [row for row in tried if row.combination == combination]
    row = _worst(mine)
    worst = _as_worst(row, len(mine))
    if row is None or worst is None:
        return None
    found = evidence.scored[row.triple]
    people = np.sort(found.people[combination])
    foreign = [one for one in mine if one.unseen]
    return WorstAttack(
        **vars(worst),
        claimed=claimed,
        # What the survey would report: without the pairs that fail clean taken off.
        raw_psr=min((one.psr for one in mine if one.plain), default=None),
        unseen=_as_worst(_worst(foreign), len(foreign)),
        worst_person=float(people[0]),
        worst_decile=float(people[: max(1, len(people) // 10)].mean()),
        leaked_share=_leaked_share(found.leakage) if combination == "PC" else None,
    )


def _leaked_share(points: Sequence[LeakagePoint]) -> float | None:
    """PSR_net with a tenth of the gallery clean, as a share of that without; None if not measured."""
    at = {point.share: point.psr_net for point in points}
    none, some = at.get(0.0), at.get(LEAKED_SHARE)
    return None if not none or some is None else some / none


def _overall(
    protector: str,
    method: Method,
    tried: Sequence[Row],
    claimed: set[Protected],
    gates: Mapping[str, Gate],
    exploratory: str,
) -> Verdict[OverallLabel]:
    """What may be said against the attackers of today, by what the protector claims, or else by evasion."""
    if method.control:
        return Verdict("control", "a control of the evaluation, not a protection")
    asked = {
        f"{row.attacker}, {row.recogniser}, {row.combination}": row
        for row in tried
        if row.combination in claimed and row.level in TODAY
    }
    rates = {name: row.net for name, row in asked.items() if row.net is not None}
    if not rates:
        return Verdict("no claim", "no attacker of today was run through a recogniser that may judge")
    least = least_protection(rates)
    recogniser = asked[least.name].recogniser
    names = [*(f"{kind}/{recogniser}" for kind in (*JUDGE_GATES, *ATTACK_GATES.values()))]
    names += [f"equal-noise/{protector}/{recogniser}", "certificate"]
    closed = [gates[name] for name in names if name in gates]
    found = gates_.verdict(closed, replace(least.rate, low=least.low_of_all), least.rate.people)
    if exploratory and found.label in ("protects", "strong"):
        return Verdict("exploratory", exploratory)
    return Verdict(found.label, f"{found.reason} (against {least.name})")


def _claims(
    poisoning: WorstAttack | None, tried: Sequence[Row], quality: Quality, certified: float | None
) -> dict[str, bool | None]:
    """Which bars are reached (:data:`evaluation.measures.gates.BARS`); None where something was not measured."""

    def least(levels: Sequence[Level]) -> float | None:
        return min((_low(row) for row in tried if row.combination == "CP" and row.level in levels), default=None)

    lost, lost_clean = quality.fta, quality.fta_clean
    figures = {
        "psr_net_low": least(TODAY),
        "psr_net_retrained_low": least(RETRAINED),
        "psr_net_leaked_share": None if poisoning is None else poisoning.leaked_share,
        "linkability_auc_high": max((row.auc_ci95[1] for row in tried if row.combination == "PP"), default=None),
        "ssim_median": quality.ssim_median,
        "ssim_p5": quality.ssim_p5,
        "detection_share": None
        if lost is None or lost_clean is None or lost_clean == 1
        else (1 - lost) / (1 - lost_clean),
        # On photographs of people the increase is only how far a network's answer moved: no claim rests on it.
        "nme_rise": None if quality.nme_clean is None else quality.nme_increase,
        "expression_share": quality.expression_unchanged,
        "certified_success": certified,
    }
    return gates_.claims({key: value for key, value in figures.items() if value is not None})


def comparisons(found: Mapping[str, Headline], evidence: Evidence) -> tuple[Comparison, ...]:
    """Protectors against each other, each at its worst attacker, paired by person; Holm-corrected in a combination."""
    tests: list[Comparison] = []
    for combination in PROTECTED:
        known = sorted(name for name, said in found.items() if combination in said.worst)
        pairs = list(combinations(known, 2))
        paired = [
            paired_difference(*(_people(name, combination, found, evidence) for name in pair), seed=evidence.seed)
            for pair in pairs
        ]
        corrected = holm([test.p_value for test in paired])
        tests += [
            Comparison(
                combination=combination,
                first=first,
                second=second,
                difference=test.difference.value,
                ci95=(test.difference.low, test.difference.high),
                p=test.p_value,
                p_holm=float(adjusted),
            )
            for (first, second), test, adjusted in zip(pairs, paired, corrected, strict=True)
        ]
    return tuple(tests)


def _people(protector: str, combination: Protected, found: Mapping[str, Headline], evidence: Evidence) -> Floats:
    worst = found[protector].worst[combination]
    people = evidence.scored[Triple(protector, worst.attacker, worst.recogniser)].people
    return np.asarray(people[combination])
