"""The validity gates of a run: whether the evaluation could have shown protection at all.

A claim of protection needs a recogniser that works, a threshold that holds, attackers whose positive control succeeded,
a protector that beats random noise of equal size, and no attack above the certificate. That a protector was broken
needs nothing of the kind: an attack that succeeded speaks for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from evaluation.labels import Level
from evaluation.matrix.scoring import COMBINATIONS
from evaluation.measures import gates as gates_
from evaluation.measures.comparisons import paired_difference
from evaluation.measures.gates import REGAINED
from evaluation.measures.intervals import Interval
from evaluation.records import Evidence, ScoredRow, base_name
from ground.gates import Gate

#: Gates of a recogniser that every verdict rests on.
JUDGE_GATES = ("recogniser-strength", "false-match-rate", "label-shuffle", "identity-control")
#: Positive controls of attackers who train on, or know, a protector.
ATTACK_GATES: dict[Level, str] = {"K2": "parrot-control", "K3": "wiener-control"}


def run_gates(evidence: Evidence, rows: Sequence[ScoredRow]) -> dict[str, Gate]:
    """All gates of a run by name; the kind comes first, then what the gate is about."""
    found = [
        *_recogniser_gates(evidence),
        *_control_gates(evidence, rows),
        *_attacker_gates(rows, [name for name, said in evidence.protectors.items() if said.control]),
        *_noise_gates(evidence),
        gates_.certificate(_certified(evidence, rows)),
    ]
    return {gate.name: gate for gate in found}


def failed(gates: Mapping[str, Gate], *names: str) -> str:
    """Reason of the first of these gates that did not pass, or "" where all passed or do not exist."""
    for name in names:
        gate = gates.get(name)
        if gate is not None and not gate.passed:
            return f"{name}: {gate.reason}"
    return ""


def judge_gates(recogniser: str) -> tuple[str, ...]:
    """Names of the gates that a recogniser must pass before it judges anything."""
    return tuple(f"{kind}/{recogniser}" for kind in JUDGE_GATES)


def _about(gate: Gate, *of: str) -> Gate:
    return replace(gate, name="/".join((gate.name, *of)))


def _recogniser_gates(evidence: Evidence) -> Iterable[Gate]:
    for name, facts in evidence.recognisers.items():
        clean = facts.clean
        people = clean.identities
        yield _about(gates_.recogniser_strength(Interval(clean.tar_clean, *clean.tar_ci95, people)), name)
        yield _about(gates_.false_match_rate(Interval(clean.fmr, *clean.fmr_ci95, people), clean.alpha), name)
        shuffled = Interval(clean.shuffled_rank1, *clean.shuffled_rank1_ci95, people)
        yield _about(gates_.label_shuffle(shuffled, clean.chance_rank1), name)


def _control_gates(evidence: Evidence, rows: Sequence[ScoredRow]) -> Iterable[Gate]:
    controls = {base_name(name): name for name in evidence.controls}
    for name, facts in evidence.recognisers.items():
        mine = [row for row in rows if row.recogniser == name]
        idle = [row.psr_net for row in mine if row.protector == controls["identity"] and row.level == "K0"]
        known = [value for value in idle if value is not None]
        clean = facts.clean.rank1
        yield _about(gates_.identity_control(max(known) if known else None), name)
        yield _about(gates_.parrot_control(_best(mine, "K2", controls["pixelate"]), clean), name)
        yield _about(gates_.wiener_control(_best(mine, "K3", controls["gaussian-blur"]), clean), name)


def _best(rows: Sequence[ScoredRow], level: Level, control: str) -> float | None:
    """Rank-1 of the strongest attacker of a level on protected probes of a control that it must break."""
    return max(
        (
            row.rank1
            for row in rows
            if row.protector == control and row.level == level and row.combination in ("CP", "PP")
        ),
        default=None,
    )


def _attacker_gates(rows: Sequence[ScoredRow], controls: Sequence[str]) -> Iterable[Gate]:
    """Whether an attacker recognises people on any control at all; one that does not proves nothing elsewhere."""
    for attacker, recogniser in sorted({(row.attacker, row.recogniser) for row in rows}):
        tried = [
            row
            for row in rows
            if (row.attacker, row.recogniser) == (attacker, recogniser)
            and row.protector in controls
            and row.combination != "CC"
        ]
        name = f"attacker-control/{attacker}/{recogniser}"
        if not tried:
            yield Gate(name, None, f"{attacker} was not run on any control")
            continue
        best = max(tried, key=lambda row: row.rank1)
        share = best.rank1 / best.rank1_clean if best.rank1_clean > 0 else 0.0
        reason = (
            f"{attacker} regains {share:.0%} of the clean rank-1 on {best.protector} ({best.combination}), its "
            f"best control; needed are {REGAINED:.0%}"
        )
        yield Gate(name, share >= REGAINED, reason, {"share": share})


def _noise_gates(evidence: Evidence) -> Iterable[Gate]:
    scored = evidence.scored
    for protector, noise in evidence.equal_noise.items():
        for name in evidence.recognisers:
            plain = [
                triple
                for triple in sorted(scored)
                if (triple.protector, triple.recogniser) == (protector, name) and scored[triple].level == "K0"
            ]
            difference = None
            if plain and name in noise.people:
                ours, theirs = scored[plain[0]].people["CP"], noise.people[name]
                difference = paired_difference(ours, theirs, seed=evidence.seed).difference
            gate = gates_.beats_noise(difference)
            yield _about(replace(gate, figures={**gate.figures, "noise_l2": noise.l2}), protector, name)


def _certified(evidence: Evidence, rows: Sequence[ScoredRow]) -> dict[str, tuple[float, float]]:
    """Lower limit of rank-1 and certified limit of every attack that a certificate speaks of.

    It limits what a protected probe tells in at most so many frames.
    """
    found = {}
    for row in rows:
        stated = evidence.certified.get(row.protector)
        if stated is not None and COMBINATIONS[row.combination][1] and row.frames <= stated.frames:
            found[f"{row.triple.name}, {row.combination}"] = (row.rank1_ci95[0], stated.max_success)
    return found
