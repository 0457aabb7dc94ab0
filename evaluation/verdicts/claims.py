"""What each protector claims of itself, and whether that holds, before any attacker is asked.

Protectors claim different things, and a figure for one says nothing of another: a cloak that spoils training need not
hide a probe. So each is judged first by its own claim, with the recogniser as it is, and then by the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evaluation.matrix.poison import AS_IS, SCRATCH
from evaluation.measures.gates import DODGES, IMPERSONATES, POISONS, Gate, claim_verdict
from evaluation.measures.statistics import Interval
from evaluation.verdicts.rows import surrogates

#: What is measured for a claim.
MEASURES = {
    "poison": "share of the clean accuracy above chance that training on protected photographs costs",
    "dodge": "PSR net of protected probes, recogniser as published",
    "impersonate": "share of probes that pass for a target, of those that pass for none clean",
    "sensor": "PSR net against the worst attacker of the matrix",
    "attribute": "agreement of what is read",
}
#: Verdicts, the one that decides over several judges first.
_ORDER = ("fails", "not shown", "exploratory", "no claim", "holds")
_OF_MATRIX = {"broken": "fails", "withstands": "holds", "protects": "holds", "protects, strong": "holds"}
_JUDGES = ("recogniser-strength", "false-match-rate", "label-shuffle", "identity-control")

Gates = Mapping[str, Mapping[str, Any]]


def own_claims(
    protectors: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    poisoned: Sequence[Mapping[str, Any]],
    impersonated: Sequence[Mapping[str, Any]],
    equal_noise: Mapping[str, Mapping[str, Any]],
    gates: Gates,
    inapplicable: Sequence[Mapping[str, str]],
    exploratory: str,
) -> list[dict[str, Any]]:
    """An entry for each protector, controls left out, and each of its threats.

    Args:
        protectors: declarations.
        rows: of the matrix, with verdicts.
        poisoned: of :func:`evaluation.matrix.poison.rows`.
        impersonated: of :func:`evaluation.matrix.impersonation.rows`.
        equal_noise: see :func:`evaluation.matrix.noise.equal_noise`.
        gates: of the run.
        inapplicable: what could not be tried.
        exploratory: why no claim can rest on these people, or "".

    Returns:
        ``protector``, ``threat``, ``measure``, ``bar``, ``verdict`` with ``reason``, and ``judges``. Each of them has
        ``value`` with ``ci95`` and the same of random ``noise`` of equal size; ``raw`` and ``clean`` are the plain rate
        with and without protection; ``unseen``: whether the protector was made without it (None: it uses no
        recogniser); ``primary``: whether the claim is about it: poison made without a recogniser is about networks
        trained from nothing, poison made against recognisers about their embeddings; ``weak``: it fails its own gate
        and may not judge. All that are primary and not weak decide.
    """
    made: dict[str, Callable[[str], Iterable[dict[str, Any]]]] = {
        "poison": lambda name: _poison(name, protectors[name], poisoned),
        "dodge": lambda name: _dodge(name, rows, equal_noise, gates, exploratory),
        "impersonate": lambda name: _impersonate(name, impersonated),
        "sensor": lambda name: _sensor(name, rows, gates),
        "attribute": lambda name: (),
    }
    bars = {"poison": POISONS, "dodge": DODGES, "impersonate": IMPERSONATES}
    found = []
    for name, said in protectors.items():
        if said["control"]:
            continue
        for threat in said["threats"]:
            judges = sorted(made[threat](name), key=lambda judge: not judge["primary"])
            verdict, reason = _over(judges)
            if verdict == "not measured":
                reasons = [one["reason"] for one in inapplicable if one["protector"] == name and threat == "poison"]
                reason = next(iter(reasons), reason)
            found.append({
                "protector": name, "threat": threat, "measure": MEASURES[threat], "bar": bars.get(threat),
                "verdict": verdict, "reason": reason, "judges": judges,
            })  # fmt: skip
    return found


def _over(judges: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Verdict over all that decide: a claim holds if it holds before each of them (intersection-union)."""
    asked = [judge for judge in judges if judge["primary"]]
    if not asked:
        return "not measured", "nothing that could judge this claim was run"
    # Where all are weak, each says so.
    deciding = [judge for judge in asked if not judge["weak"]] or asked
    worst = min(deciding, key=lambda judge: (_ORDER.index(judge["verdict"]), judge["ci95"][0] if judge["ci95"] else 0))
    return str(worst["verdict"]), f"{worst['judge']}: {worst['reason']}"


def _poison(name: str, said: Mapping[str, Any], poisoned: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    published = bool(surrogates(said))
    for row in poisoned:
        if row["protector"] != name:
            continue
        about = (row["victim"] != SCRATCH) == published and row["countermeasure"] == AS_IS
        treatment = "" if row["countermeasure"] == AS_IS else f", {row['countermeasure']}"
        yield {
            "judge": f"{row['victim']}{treatment}", "unseen": row["unseen"], "value": row["delta"],
            "ci95": row["delta_ci95"], "raw": row["accuracy"], "clean": row["accuracy_clean"],
            "noise": row["delta_noise"], "verdict": row["verdict"], "reason": row["reason"],
            "primary": about, "weak": row["weak"],
        }  # fmt: skip


def _dodge(
    name: str, rows: Sequence[Mapping[str, Any]], equal_noise: Mapping[str, Mapping[str, Any]], gates: Gates,
    exploratory: str,
) -> Iterable[dict[str, Any]]:  # fmt: skip
    for row in rows:
        if (row["protector"], row["combination"], row["level"], row["frames"]) != (name, "CP", "K0", 1):
            continue
        judge = row["recogniser"]
        closed = [_gate(gates, f"{gate}/{judge}") for gate in _JUDGES]
        value = (
            None
            if row["psr_net"] is None
            else Interval(row["psr_net"], row["ci95"][0], row["ci95"][1], row["identities"])
        )
        verdict, reason = claim_verdict(
            value, DODGES, [*closed, _gate(gates, f"equal-noise/{name}/{judge}")], exploratory
        )
        yield {
            "judge": judge, "unseen": row["unseen"], "value": row["psr_net"], "ci95": row["ci95"], "raw": row["psr"],
            "clean": 1 - row["tar_clean"], "noise": (equal_noise.get(name) or {}).get("psr_net", {}).get(judge),
            "verdict": verdict, "reason": reason, "primary": True, "weak": not all(gate.passed for gate in closed),
        }  # fmt: skip


def _impersonate(name: str, impersonated: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in impersonated:
        if row["protector"] == name:
            yield {
                "judge": row["recogniser"], "unseen": row["unseen"], "value": row["asr_net"],
                "ci95": row["asr_net_ci95"], "raw": row["asr"], "clean": row["asr_clean"],
                "noise": row["asr_net_noise"], "verdict": row["verdict"], "reason": row["reason"],
                "primary": True, "weak": row["weak"],
            }  # fmt: skip


def _sensor(name: str, rows: Sequence[Mapping[str, Any]], gates: Gates) -> Iterable[dict[str, Any]]:
    """The worst attack through each recogniser: who holds the recording may do anything."""
    mine = [row for row in rows if row["protector"] == name and row["combination"] in ("CP", "PP") and row["ci95"]]
    for judge in dict.fromkeys(row["recogniser"] for row in mine):
        tried = [(row, *_said(row["verdict"])) for row in mine if row["recogniser"] == judge]
        row, verdict, reason = min(tried, key=lambda one: (_ORDER.index(one[1]), one[0]["ci95"][0]))
        yield {
            "judge": f"{row['attacker']}, {judge}", "unseen": row["unseen"], "value": row["psr_net"],
            "ci95": row["ci95"], "raw": row["psr"], "clean": 1 - row["tar_clean"], "noise": None, "verdict": verdict,
            "reason": reason, "primary": True, "weak": not _gate(gates, f"recogniser-strength/{judge}").passed,
        }  # fmt: skip


def _said(verdict: str) -> tuple[str, str]:
    word, _, reason = verdict.partition(" (")
    return _OF_MATRIX.get(word, word), reason.removesuffix(")") or f"the matrix says {word}"


def _gate(gates: Gates, name: str) -> Gate:
    gate = gates.get(name)
    return Gate(name, None, "it was not run") if gate is None else Gate(name, gate["passed"], gate["reason"])
