"""What each attack means for a protector: the matrix with its verdicts, gates, headlines and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.labels import RETRAINED, TODAY, RowLabel, Verdict
from evaluation.measures.gates import PROTECTS, STRONG, WITHSTANDS, optics_rank1_bar
from evaluation.records import Comparison, Evidence, Headline, Method, Quality, RecogniserFacts, Row, ScoredRow
from evaluation.verdicts.headlines import comparisons, headline
from evaluation.verdicts.validity import ATTACK_GATES, failed, judge_gates, run_gates
from faces.protection import Threat
from ground.gates import Gate


@dataclass(frozen=True)
class Judged:
    """The matrix with its verdicts.

    Attributes:
        rows: The result table.
        gates: Validity gates by name.
        headline: What is said of each protector.
        comparisons: Protectors against each other.
    """

    rows: tuple[Row, ...]
    gates: Mapping[str, Gate]
    headline: Mapping[str, Headline]
    comparisons: tuple[Comparison, ...]


def judge(evidence: Evidence) -> Judged:
    """Gates, verdicts, headlines and comparisons."""
    scored = [row for triple in sorted(evidence.scored) for row in evidence.scored[triple].rows]
    gates = run_gates(evidence, scored)
    rows = tuple(_judged_row(row, evidence, gates) for row in scored)
    said = {name: headline(name, evidence, rows, gates) for name in evidence.protectors}
    return Judged(rows, gates, said, comparisons(said, evidence))


def _judged_row(row: ScoredRow, evidence: Evidence, gates: Mapping[str, Gate]) -> Row:
    method = evidence.protectors[row.protector]
    verdict = _verdict(row, method, gates, evidence.exploratory)
    quality = evidence.qualities.get(row.protector, Quality())
    return Row.of(row, quality, unseen(row.recogniser, method, evidence.recognisers), verdict)


def unseen(recogniser: str, method: Method, recognisers: Mapping[str, RecogniserFacts]) -> bool | None:
    """Whether no surrogate of a protector is of the family of a recogniser; None where it uses no recogniser."""
    used = method.surrogates
    if not used:
        return None
    if recognisers[recogniser].reserved and recogniser not in used:
        return True
    families = {recognisers[name].family if name in recognisers else name for name in used}
    return recognisers[recogniser].family not in families and recogniser not in used


def _verdict(row: ScoredRow, method: Method, gates: Mapping[str, Gate], exploratory: str) -> Verdict[RowLabel]:
    if row.combination == "CC":
        return Verdict("reference")
    weak = failed(gates, *judge_gates(row.recogniser))
    if weak:
        return Verdict("no claim", weak)
    if row.psr_net is None or row.ci95 is None:
        return Verdict("no claim", "nobody is matched clean")
    low, high = row.ci95
    bar = PROTECTS if row.level in TODAY else WITHSTANDS
    if row.level in RETRAINED and Threat.sensor in method.threats:
        # Optics must leave little more than a guess: the limits of rank-1 count, turned round.
        most = optics_rank1_bar(round(1 / row.chance_rank1)).limit
        low, high, bar = 1 - row.rank1_ci95[1], 1 - row.rank1_ci95[0], 1 - most
    if high < bar:
        return Verdict("broken")
    if exploratory:
        return Verdict("exploratory", exploratory)
    if method.control:
        return Verdict("control")
    if low < bar:
        return Verdict("not shown")
    blocked = _blocked(row, gates)
    if blocked:
        return Verdict("no claim", blocked)
    if row.level in RETRAINED:
        return Verdict("withstands")
    return Verdict("strong" if low >= STRONG else "protects")


def _blocked(row: ScoredRow, gates: Mapping[str, Gate]) -> str:
    """The first gate of the protector or the attacker that forbids a claim, or ""."""
    blocked = failed(
        gates,
        f"equal-noise/{row.protector}/{row.recogniser}",
        *(f"{kind}/{row.recogniser}" for level, kind in ATTACK_GATES.items() if level == row.level),
        f"attacker-control/{row.attacker}/{row.recogniser}",
    )
    if not blocked and gates["certificate"].passed is False:
        return f"certificate: {gates['certificate'].reason}"
    return blocked
