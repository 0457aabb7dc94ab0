"""What may be said: validity gates, the verdict of each row, the headline of each protector, and comparisons.

A claim of protection needs a recogniser that works, a threshold that holds, attackers whose positive control succeeded,
a protector that beats random noise of equal size, and no attack above the certificate. That a protector was broken
needs nothing of the kind: an attack that succeeded speaks for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from evaluation.matrix.scoring import COMBINATIONS
from evaluation.measures import gates as gates_
from evaluation.measures.gates import PROTECTS, REGAINED, STRONG, WITHSTANDS, Gate
from evaluation.measures.statistics import Interval, holm, least_protection, paired_difference

Triple = tuple[str, str, str]
Gates = dict[str, dict[str, Any]]

#: Share of clean photographs in the gallery at which a claim of tolerance to leakage is read.
LEAKED_SHARE = 0.1
#: What a threat is measured by.
MEASURED_BY = {"poison": ("PC",), "dodge": ("CP",), "impersonate": ("CP",), "attribute": (), "sensor": ("CP", "PP")}


@dataclass(frozen=True)
class Judged:
    """The matrix with its verdicts; see :func:`evaluation.run.evaluate` for the parts."""

    rows: list[dict[str, Any]]
    gates: Gates
    headline: dict[str, dict[str, Any]]
    comparisons: list[dict[str, Any]]


def judge(
    protectors: Mapping[str, Mapping[str, Any]],
    recognisers: Mapping[str, Mapping[str, Any]],
    scored: Mapping[Triple, Mapping[str, Any]],
    equal_noise: Mapping[str, Mapping[str, Any]],
    certificates: Mapping[str, Mapping[str, Any]],
    qualities: Mapping[str, Mapping[str, Any]],
    controls: Sequence[str],
    exploratory: str,
    seed: int,
) -> Judged:
    """Gates, verdicts, headline and comparisons.

    Args:
        protectors: declarations.
        recognisers: with their clean figures.
        scored: of every attack, see :func:`evaluation.matrix.score.score`.
        equal_noise: of every protector that changes pixels, see :func:`evaluation.matrix.noise.equal_noise`.
        certificates: by protector.
        qualities: by protector, see :func:`evaluation.matrix.quality.measure`.
        controls: the built-in controls with their settings (:func:`evaluation.config.controls`), by which gates are
            decided; a user's own settings of the same protectors do not count.
        exploratory: why no claim can rest on these people, or "".
        seed: of permutation tests.
    """
    rows = [dict(row) for triple in sorted(scored) for row in scored[triple]["rows"]]
    gates = {
        **_recogniser_gates(recognisers),
        **_control_gates(rows, recognisers, {_base(name): name for name in controls}),
        **_attacker_gates(rows, [name for name, said in protectors.items() if said["control"]]),
        **_noise_gates(scored, recognisers, equal_noise, seed),
        "certificate": _plain(gates_.certificate(_certified(rows, certificates))),
    }
    families = {name: facts["family"] for name, facts in recognisers.items()}
    for row in rows:
        declaration = protectors[row["protector"]]
        row["unseen"] = unseen(row["recogniser"], declaration, recognisers, families)
        row["verdict"] = _verdict(row, declaration, gates, exploratory)
    headline = {name: _headline(name, said, rows, gates, scored) for name, said in protectors.items()}
    for name, said in protectors.items():
        mine = [row for row in rows if row["protector"] == name]
        certified = certificates.get(name, {}).get("max_success")
        headline[name]["claims"] = _claims(headline[name], mine, gates, qualities.get(name, {}), certified)
        headline[name]["verdict"] = _verdict_of(name, said, mine, gates, exploratory)
    return Judged(rows, gates, headline, _comparisons(headline, scored, seed))


def _plain(gate: Gate) -> dict[str, Any]:
    return {"passed": gate.passed, "reason": gate.reason, **gate.figures}


def _interval(value: float, limits: Sequence[float], people: int) -> Interval:
    return Interval(value, limits[0], limits[1], people)


def _recogniser_gates(recognisers: Mapping[str, Mapping[str, Any]]) -> Gates:
    gates = {}
    for name, facts in recognisers.items():
        clean = facts["clean"]
        people = clean["identities"]
        found = (
            gates_.recogniser_strength(_interval(clean["tar_clean"], clean["tar_ci95"], people)),
            # Overlapping parts end the run long before.
            gates_.false_match_rate(_interval(clean["fmr"], clean["fmr_ci95"], people), clean["alpha"], 0),
            gates_.label_shuffle(
                _interval(clean["shuffled_rank1"], clean["shuffled_rank1_ci95"], people), clean["chance_rank1"]
            ),
        )
        gates.update({f"{gate.name}/{name}": _plain(gate) for gate in found})
    return gates


def _base(protector: str) -> str:
    """Name of a protector without its settings."""
    return protector.partition(":")[0]


def _control_gates(
    rows: Sequence[Mapping[str, Any]], recognisers: Mapping[str, Mapping[str, Any]], controls: Mapping[str, str]
) -> Gates:
    gates = {}
    for name, facts in recognisers.items():
        mine = [row for row in rows if row["recogniser"] == name]
        idle = [row["psr_net"] for row in mine if row["protector"] == controls["identity"] and row["level"] == "K0"]
        known = [value for value in idle if value is not None]
        clean = facts["clean"]["rank1"]
        found = (
            gates_.identity_control(max(known) if known else None),
            gates_.parrot_control(_best(mine, "K2", controls["pixelate"]), clean),
            gates_.wiener_control(_best(mine, "K3", controls["gaussian-blur"]), clean),
        )
        gates.update({f"{gate.name}/{name}": _plain(gate) for gate in found})
    return gates


def _best(rows: Sequence[Mapping[str, Any]], level: str, control: str) -> float | None:
    """Rank-1 of the strongest attacker of a level on protected probes of a control that it must break."""
    return max(
        (
            row["rank1"]
            for row in rows
            if row["protector"] == control and row["level"] == level and row["combination"] in ("CP", "PP")
        ),
        default=None,
    )


def _attacker_gates(rows: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> Gates:
    """Whether an attacker recognises people on any control at all; one that does not proves nothing elsewhere."""
    gates = {}
    for attacker, recogniser in sorted({(row["attacker"], row["recogniser"]) for row in rows}):
        tried = [
            row
            for row in rows
            if (row["attacker"], row["recogniser"]) == (attacker, recogniser) and row["protector"] in controls
            and row["combination"] != "CC"
        ]  # fmt: skip
        key = f"attacker-control/{attacker}/{recogniser}"
        if not tried:
            gates[key] = _plain(Gate(key, None, f"{attacker} was not run on any control"))
            continue
        best = max(tried, key=lambda row: row["rank1"])
        share = best["rank1"] / best["rank1_clean"] if best["rank1_clean"] > 0 else 0.0
        reason = (
            f"{attacker} regains {share:.0%} of the clean rank-1 on {best['protector']} ({best['combination']}), its "
            f"best control; needed are {REGAINED:.0%}"
        )
        gates[key] = _plain(Gate(key, share >= REGAINED, reason, {"share": share}))
    return gates


def _noise_gates(
    scored: Mapping[Triple, Mapping[str, Any]],
    recognisers: Mapping[str, Any],
    equal_noise: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> Gates:
    gates = {}
    for protector, noise in equal_noise.items():
        for name in recognisers:
            key = f"equal-noise/{protector}/{name}"
            plain = [triple for triple in sorted(scored) if triple[0] == protector and triple[2] == name]
            plain = [triple for triple in plain if scored[triple]["rows"][0]["level"] == "K0"]
            difference = None
            if plain and name in noise["people"]:
                ours, theirs = scored[plain[0]]["people"]["CP"], noise["people"][name]
                difference = paired_difference(ours, theirs, seed=seed).difference
            gates[key] = {**_plain(gates_.beats_noise(difference)), "noise": noise["spec"]}
    return gates


def _certified(
    rows: Sequence[Mapping[str, Any]], certificates: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[float, float]]:
    """Lower limit of rank-1 and certified limit of every attack that a certificate speaks of.

    It limits what a protected probe tells in at most so many frames.
    """
    found = {}
    for row in rows:
        stated = certificates.get(row["protector"])
        if stated is not None and COMBINATIONS[row["combination"]][1] and row["frames"] <= stated["frames"]:
            name = ", ".join(row[key] for key in ("protector", "attacker", "recogniser", "combination"))
            found[name] = (row["rank1_ci95"][0], stated["max_success"])
    return found


def surrogates(declaration: Mapping[str, Any]) -> list[str]:
    """Recognisers that a protector used, as it declares."""
    return list(declaration["surrogates"])


def unseen(
    recogniser: str,
    declaration: Mapping[str, Any],
    recognisers: Mapping[str, Mapping[str, Any]],
    families: Mapping[str, str],
) -> bool | None:
    """K4: whether no surrogate is of this family; None where the protector uses no recogniser."""
    used = surrogates(declaration)
    if not used:
        return None
    if recognisers[recogniser]["reserved"] and recogniser not in used:
        return True
    return families[recogniser] not in {families.get(name, name) for name in used} and recogniser not in used


def _failed(gates: Gates, *names: str) -> str:
    """Reason of the first of these gates that did not pass, or ""."""
    for name in names:
        gate = gates.get(name)
        if gate is not None and not gate["passed"]:
            return f"{name}: {gate['reason']}"
    return ""


def _verdict(row: Mapping[str, Any], declaration: Mapping[str, Any], gates: Gates, exploratory: str) -> str:
    name, level = row["recogniser"], row["level"]
    if row["combination"] == "CC":
        return "reference"
    weak = _failed(gates, f"recogniser-strength/{name}", f"false-match-rate/{name}", f"label-shuffle/{name}")
    weak = weak or _failed(gates, f"identity-control/{name}")
    if weak:
        return f"no claim ({weak})"
    if row["psr_net"] is None:
        return "no claim (nobody is matched clean)"
    low, high = row["ci95"]
    bar = PROTECTS if level in ("K0", "K1", "K4") else WITHSTANDS
    if bar == WITHSTANDS and "sensor" in declaration["threats"]:
        # Optics must leave little more than a guess: the limits of rank-1 count, turned round.
        most = gates_.optics_rank1_bar(round(1 / row["chance_rank1"])).limit
        low, high, bar = 1 - row["rank1_ci95"][1], 1 - row["rank1_ci95"][0], 1 - most
    if high < bar:
        return "broken"
    if exploratory:
        return f"exploratory ({exploratory})"
    if declaration["control"]:
        return "control"
    if low < bar:
        return "not shown"
    blocked = _failed(
        gates,
        f"equal-noise/{row['protector']}/{name}",
        *{"K2": [f"parrot-control/{name}"], "K3": [f"wiener-control/{name}"]}.get(level, []),
        f"attacker-control/{row['attacker']}/{name}",
    )
    if gates["certificate"]["passed"] is False:
        blocked = blocked or f"certificate: {gates['certificate']['reason']}"
    if blocked:
        return f"no claim ({blocked})"
    if level in ("K2", "K3"):
        return "withstands"
    return "protects, strong" if low >= STRONG else "protects"


def _headline(
    protector: str,
    declaration: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    gates: Gates,
    scored: Mapping[Triple, Mapping[str, Any]],
) -> dict[str, Any]:
    """Worst attacker of each combination: the least of all lower limits needs no correction (intersection-union).

    Recognisers that failed their gate do not judge. ``raw_psr`` is what the survey would report: the recogniser as
    published, without the pairs that fail clean taken off. ``unseen`` is the worst among recognisers that are not of
    the family of a surrogate (K4). ``worst_person`` and ``worst_decile`` are shares of probes that are protected.
    """
    claimed = {name for threat in declaration["threats"] for name in MEASURED_BY[threat]}
    result: dict[str, Any] = {}
    for combination in ("CP", "PC", "PP"):
        mine = [row for row in rows if row["protector"] == protector and row["combination"] == combination]
        tried = _judged_by(mine, gates)
        if not tried:
            continue
        plain = [row for row in tried if row["level"] == "K0" and row["frames"] == 1]
        worst = _worst(tried)
        found = scored[protector, worst["attacker"], worst["recogniser"]]
        people = np.sort(found["people"][combination])
        result[combination] = {
            "claimed": combination in claimed,
            **worst,
            "raw_psr": min((row["psr"] for row in plain), default=None),
            "unseen": _worst([row for row in tried if row["unseen"]]) or None,
            "worst_person": float(people[0]),
            "worst_decile": float(people[: max(1, len(people) // 10)].mean()),
        }
        if combination == "PC":
            result[combination]["leaked_share"] = _leaked_share(found["leakage"])
    return result


def _verdict_of(
    protector: str,
    declaration: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    gates: Gates,
    exploratory: str,
) -> dict[str, str]:
    """What may be said against the attackers of today (K0, K1), by what the protector claims, or else by evasion."""
    if declaration["control"]:
        return {"label": "control", "reason": "a control of the evaluation, not a protection"}
    claimed = {name for threat in declaration["threats"] for name in MEASURED_BY[threat]} or {"CP"}
    tried = [
        row
        for row in _judged_by(rows, gates)
        if row["combination"] in claimed and row["level"] in ("K0", "K1", "K4")
    ]  # fmt: skip
    rates = {
        f"{row['attacker']}, {row['recogniser']}, {row['combination']}": _interval(
            row["psr_net"], row["ci95"], row["identities"]
        )
        for row in tried
    }
    if not rates:
        return {"label": "no claim", "reason": "no attacker of today was run through a recogniser that may judge"}
    least = least_protection(rates)
    name = least.name.split(", ")[1]
    closed = [
        Gate(key, gate["passed"], gate["reason"])
        for key, gate in gates.items()
        if key == "certificate" or (key.endswith(f"/{name}") and key.partition("/")[0] in (
            "recogniser-strength", "false-match-rate", "label-shuffle", "identity-control", "parrot-control",
            "wiener-control",
        ))
        or key == f"equal-noise/{protector}/{name}"
    ]  # fmt: skip
    worst = replace(least.rate, low=least.low_of_all)
    found = gates_.verdict(closed, worst, least.rate.people)
    if exploratory and found.label in ("protects", "strong"):
        return {"label": "exploratory", "reason": exploratory}
    return {"label": found.label, "reason": f"{found.reason} (against {least.name})"}


def _judged_by(rows: Sequence[Mapping[str, Any]], gates: Gates) -> list[Mapping[str, Any]]:
    """Rows of recognisers that may judge, in which somebody is matched clean."""
    return [
        row
        for row in rows
        if row["psr_net"] is not None and gates[f"recogniser-strength/{row['recogniser']}"]["passed"]
    ]


def _claims(
    headline: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    gates: Gates,
    quality: Mapping[str, Any],
    certified: float | None,
) -> dict[str, bool | None]:
    """Which bars are reached (:data:`evaluation.measures.gates.BARS`); None where something was not measured."""
    tried = _judged_by(rows, gates)

    def least(levels: Sequence[str]) -> float | None:
        lows = [row["ci95"][0] for row in tried if row["combination"] == "CP" and row["level"] in levels]
        return min(lows, default=None)

    linked = [row["auc_ci95"][1] for row in tried if row["combination"] == "PP"]
    lost, lost_clean = quality.get("fta"), quality.get("fta_clean")
    figures = {
        "psr_net_low": least(("K0", "K1", "K4")),
        "psr_net_retrained_low": least(("K2", "K3")),
        "psr_net_leaked_share": headline.get("PC", {}).get("leaked_share"),
        "linkability_auc_high": max(linked, default=None),
        "ssim_median": quality.get("ssim_median"),
        "ssim_p5": quality.get("ssim_p5"),
        "detection_share": None
        if lost is None or lost_clean is None or lost_clean == 1
        else (1 - lost) / (1 - lost_clean),
        # On photographs of people the increase is only how far a network's answer moved: no claim rests on it.
        "nme_rise": None if quality.get("nme_clean") is None else quality.get("nme_increase"),
        "expression_share": quality.get("expression_unchanged"),
        "certified_success": certified,
    }
    return gates_.claims({key: value for key, value in figures.items() if value is not None})


def _leaked_share(points: Sequence[Mapping[str, Any]]) -> float | None:
    """PSR_net with a tenth of the gallery clean, as a share of that without; None if not measured."""
    at = {point["share"]: point["psr_net"] for point in points}
    none, some = at.get(0.0), at.get(LEAKED_SHARE)
    return None if not none or some is None else some / none


def _worst(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {}
    worst = min(rows, key=lambda row: (row["ci95"][0], row["psr_net"], row["attacker"], row["recogniser"]))
    return {
        "attacker": worst["attacker"], "level": worst["level"], "recogniser": worst["recogniser"],
        "psr_net": worst["psr_net"], "low": worst["ci95"][0], "attacks": len(rows), "verdict": worst["verdict"],
    }  # fmt: skip


def _comparisons(
    headline: Mapping[str, Mapping[str, Any]], scored: Mapping[Triple, Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """Protectors against each other, each at its worst attacker, paired by person; Holm-corrected in a combination."""
    found = []
    for combination in ("CP", "PC", "PP"):
        known = sorted(name for name, entry in headline.items() if combination in entry)
        tests: list[dict[str, Any]] = []
        for first, second in combinations(known, 2):
            people = []
            for name in (first, second):
                worst = headline[name][combination]
                people.append(np.asarray(scored[name, worst["attacker"], worst["recogniser"]]["people"][combination]))
            paired = paired_difference(*people, seed=seed)
            tests.append({
                "combination": combination, "first": first, "second": second, "difference": paired.difference.value,
                "ci95": paired.difference.ci, "p": paired.p_value,
            })  # fmt: skip
        for test, adjusted in zip(tests, holm([test["p"] for test in tests]), strict=True):
            found.append({**test, "p_holm": float(adjusted)})
    return found
