"""The words in which results are given: levels of attackers, combinations of photographs, and verdicts.

A verdict is a label and a reason, kept apart from the measurement to the page; nothing reads a label out of a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

#: K0: takes the recogniser as it is. K1: treats photographs without knowing the protector. K2: owns the protector and
#: trains on its output. K3: also knows its parameters.
Level = Literal["K0", "K1", "K2", "K3"]
#: Attackers of today: they need nothing but the photographs and a published recogniser.
TODAY: tuple[Level, ...] = ("K0", "K1")
#: Attackers that were made for one protector.
RETRAINED: tuple[Level, ...] = ("K2", "K3")

#: Gallery and probe, each clean (C) or protected (P).
Combination = Literal["CC", "CP", "PC", "PP"]
#: Combinations in which something is protected: evasion, poisoning of a gallery, and linkage.
Protected = Literal["CP", "PC", "PP"]
PROTECTED: tuple[Protected, ...] = ("CP", "PC", "PP")

#: What one attack means for a protector. "reference": nothing was protected; "control": a control of the evaluation.
RowLabel = Literal[
    "reference", "control", "no claim", "exploratory", "broken", "not shown", "protects", "strong", "withstands"
]
#: What may be said of a protector against the attackers of today.
OverallLabel = Literal["control", "no claim", "exploratory", "fails", "protects", "strong"]
#: Whether what a protector claims of itself holds.
ClaimLabel = Literal["control", "not measured", "no claim", "exploratory", "fails", "not shown", "holds"]
#: Whether two methods of the survey come out in the order that it states.
OrderingLabel = Literal["replicated", "contradicted", "not decided", "not measured"]

Label = TypeVar("Label", bound=str)


@dataclass(frozen=True)
class Verdict(Generic[Label]):
    """What may be said, and why.

    Attributes:
        label: One of the words above.
        reason: What it rests on, with the numbers; "" where the label says all.
    """

    label: Label
    reason: str = ""
