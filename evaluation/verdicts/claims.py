"""What each protector claims of itself, and whether that holds, before any attacker is asked.

Protectors claim different things, and a figure for one says nothing of another: a cloak that spoils training need not
hide a probe. So each is judged first by its own claim, with the recogniser as it is, and then by the matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.labels import ClaimLabel, RowLabel, Verdict
from evaluation.matrix.poison import AS_IS, SCRATCH
from evaluation.measures.gates import DODGES, IMPERSONATES, POISONS, claim_verdict
from evaluation.records import Claim, Evidence, ImpersonationRow, Inapplicable, Judge, PoisonRow, Row
from evaluation.verdicts.validity import judge_gates
from faces.protection import Threat
from ground.gates import Gate

#: What is measured for a claim.
MEASURES = {
    Threat.poison: "share of the clean accuracy above chance that training on protected photographs costs",
    Threat.dodge: "PSR net of protected probes, recogniser as published",
    Threat.impersonate: "share of probes that pass for a target, of those that pass for none clean",
    Threat.sensor: "PSR net against the worst attacker of the matrix",
    Threat.attribute: "agreement of what is read",
}
BARS = {Threat.poison: POISONS, Threat.dodge: DODGES, Threat.impersonate: IMPERSONATES}
#: Verdicts, the one that decides over several judges first.
_ORDER: tuple[ClaimLabel, ...] = ("fails", "not shown", "exploratory", "no claim", "holds", "control")
_OF_MATRIX: dict[RowLabel, ClaimLabel] = {
    "broken": "fails",
    "withstands": "holds",
    "protects": "holds",
    "strong": "holds",
    "not shown": "not shown",
    "exploratory": "exploratory",
    "no claim": "no claim",
}


@dataclass(frozen=True)
class _Found:
    """What own claims are judged by."""

    evidence: Evidence
    rows: Sequence[Row]
    poisoned: Sequence[PoisonRow]
    impersonated: Sequence[ImpersonationRow]
    gates: Mapping[str, Gate]


def own_claims(
    evidence: Evidence,
    rows: Sequence[Row],
    poisoned: Sequence[PoisonRow],
    impersonated: Sequence[ImpersonationRow],
    gates: Mapping[str, Gate],
    inapplicable: Sequence[Inapplicable],
) -> tuple[Claim, ...]:
    """An entry for each protector, controls left out, and each of its threats.

    A claim of poison made without a recogniser is about networks trained from nothing, and one made against recognisers
    about their embeddings. All judges that the claim is about, and that pass their own gates, decide.

    Args:
        evidence: What verdicts rest on.
        rows: The matrix with its verdicts.
        poisoned: What victims learnt.
        impersonated: How often probes pass for a target.
        gates: Gates of the run.
        inapplicable: Attacks that could not be tried.
    """
    state = _Found(evidence, rows, poisoned, impersonated, gates)
    found = []
    for name, said in evidence.protectors.items():
        if said.control:
            continue
        for threat in said.threats:
            judges = sorted(_JUDGED[threat](name, state), key=lambda judge: not judge.primary)
            verdict = _over(judges)
            if verdict.label == "not measured":
                reasons = [one.reason for one in inapplicable if one.protector == name and threat == Threat.poison]
                verdict = Verdict(verdict.label, next(iter(reasons), verdict.reason))
            found.append(
                Claim(
                    protector=name,
                    threat=threat,
                    measure=MEASURES[threat],
                    bar=BARS.get(threat),
                    verdict=verdict.label,
                    reason=verdict.reason,
                    judges=tuple(judges),
                )
            )
    return tuple(found)


def _over(judges: Sequence[Judge]) -> Verdict[ClaimLabel]:
    """Verdict over all that decide: a claim holds if it holds before each of them (intersection-union)."""
    asked = [judge for judge in judges if judge.primary]
    if not asked:
        return Verdict("not measured", "nothing that could judge this claim was run")
    # Where all are weak, each says so.
    deciding = [judge for judge in asked if not judge.weak] or asked
    worst = min(deciding, key=lambda judge: (_ORDER.index(judge.verdict), judge.ci95[0] if judge.ci95 else 0))
    return Verdict(worst.verdict, f"{worst.judge}: {worst.reason}")


def _poison(name: str, state: _Found) -> Iterable[Judge]:
    published = bool(state.evidence.protectors[name].surrogates)
    for row in state.poisoned:
        if row.protector != name:
            continue
        treatment = "" if row.countermeasure == AS_IS else f", {row.countermeasure}"
        yield Judge(
            judge=f"{row.victim}{treatment}",
            unseen=row.unseen,
            value=row.delta,
            ci95=row.delta_ci95,
            raw=row.accuracy,
            clean=row.accuracy_clean,
            noise=row.delta_noise,
            verdict=row.verdict,
            reason=row.reason,
            primary=(row.victim != SCRATCH) == published and row.countermeasure == AS_IS,
            weak=row.weak,
        )


def _dodge(name: str, state: _Found) -> Iterable[Judge]:
    noise = state.evidence.equal_noise.get(name)
    for row in state.rows:
        if row.protector != name or row.combination != "CP" or not row.plain:
            continue
        closed = [_gate(state.gates, gate) for gate in judge_gates(row.recogniser)]
        beaten = _gate(state.gates, f"equal-noise/{name}/{row.recogniser}")
        verdict = claim_verdict(row.net, DODGES, [*closed, beaten], state.evidence.exploratory)
        yield Judge(
            judge=row.recogniser,
            unseen=row.unseen,
            value=row.psr_net,
            ci95=row.ci95,
            raw=row.psr,
            clean=1 - row.tar_clean,
            noise=None if noise is None else noise.psr_net.get(row.recogniser),
            verdict=verdict.label,
            reason=verdict.reason,
            primary=True,
            weak=not all(gate.passed for gate in closed),
        )


def _impersonate(name: str, state: _Found) -> Iterable[Judge]:
    for row in state.impersonated:
        if row.protector == name:
            yield Judge(
                judge=row.recogniser,
                unseen=row.unseen,
                value=row.asr_net,
                ci95=row.asr_net_ci95,
                raw=row.asr,
                clean=row.asr_clean,
                noise=row.asr_net_noise,
                verdict=row.verdict,
                reason=row.reason,
                primary=True,
                weak=row.weak,
            )


def _sensor(name: str, state: _Found) -> Iterable[Judge]:
    """The worst attack through each recogniser: who holds the recording may do anything."""
    mine = [row for row in state.rows if row.protector == name and row.combination in ("CP", "PP")]
    tried = [(row, _of_matrix(row), row.ci95[0]) for row in mine if row.ci95 is not None]
    for judge in dict.fromkeys(row.recogniser for row, *_ in tried):
        row, verdict, _ = min(
            (one for one in tried if one[0].recogniser == judge),
            key=lambda one: (_ORDER.index(one[1].label), one[2]),
        )
        yield Judge(
            judge=f"{row.attacker}, {judge}",
            unseen=row.unseen,
            value=row.psr_net,
            ci95=row.ci95,
            raw=row.psr,
            clean=1 - row.tar_clean,
            noise=None,
            verdict=verdict.label,
            reason=verdict.reason,
            primary=True,
            weak=not _gate(state.gates, f"recogniser-strength/{judge}").passed,
        )


def _attribute(name: str, state: _Found) -> Iterable[Judge]:
    """Nobody judges yet what is read of a face."""
    return ()


_JUDGED = {
    Threat.poison: _poison,
    Threat.dodge: _dodge,
    Threat.impersonate: _impersonate,
    Threat.sensor: _sensor,
    Threat.attribute: _attribute,
}


def _of_matrix(row: Row) -> Verdict[ClaimLabel]:
    """The verdict of the matrix in the words of a claim; rows of one protector are never "reference" here."""
    return Verdict(_OF_MATRIX[row.verdict], row.reason or f"the matrix says {row.verdict}")


def _gate(gates: Mapping[str, Gate], name: str) -> Gate:
    return gates.get(name) or Gate(name, None, "it was not run")
