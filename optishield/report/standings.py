"""What an evaluation found, read from its summary: protectors side by side, and the sentence that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from optishield.report import figures
from optishield.report.numbers import known, number

COMBINATIONS = {"CP": "evasion", "PC": "poisoning", "PP": "linkage"}
LEVELS = {
    "K0": "as published", "K1": "treats the photo", "K2": "owns the protector", "K3": "knows its parameters",
    "K4": "recogniser it never saw",
}  # fmt: skip
Summary = Mapping[str, Any]

#: What a protector claims of itself: in a word, and what is measured for it.
THREATS = {
    "poison": ("spoils training", "clean accuracy lost"),
    "dodge": ("is not recognised", "PSR net"),
    "impersonate": ("passes for a target", "ASR net"),
    "sensor": ("a recording tells nobody", "PSR net, worst attacker"),
    "attribute": ("hides an attribute", ""),
}
ENCODER = "optical-encoder"
#: Verdicts of a protection that was shown, of one attack and of all attacks of today.
HELD, HELD_TODAY = ("protects", "withstands"), ("protects", "strong")


def label(spec: str) -> str:
    """A protector as people read it; of a path only the last part."""
    name, _, settings = spec.partition(":")
    shown = [
        f"{key}={PurePosixPath(value).name}" if "/" in value else f"{key}={value}"
        for key, _, value in (part.partition("=") for part in settings.split(","))
        if key
    ]
    return f"{name} ({', '.join(shown)})" if shown else name


def combination_name(combination: str) -> str:
    """What a combination of gallery and probe stands for."""
    return COMBINATIONS[combination]


def verdict_word(verdict: str) -> tuple[str, str]:
    """A verdict as (word, reason); the reason is empty where none is given."""
    word, _, reason = verdict.partition(" (")
    return word, reason.removesuffix(")")


def tone(word: str) -> str:
    """CSS class of a verdict."""
    if word in ("broken", "fails", "contradicted"):
        return "fail"
    return "pass" if word.startswith((*HELD, *HELD_TODAY, "holds", "replicated")) else "open"


@dataclass(frozen=True)
class Standing:
    """One protector and how it fares.

    Attributes:
        key: its name with settings.
        about: what it declares.
        combination: the claimed combination in which it does worst, or evasion where it claims none.
        worst: the headline figures there; empty if it could not be judged.
        others: headline figures by combination.
        overall: what the run says of the protector as a whole: ``verdict`` and ``claims``.
        ci95: interval of PSR_net of the worst attack.
        rows: its rows in that combination.
        colour: marker colour, see ``optishield.report.figures``; settings of one protector share it.
        dash: line style, see ``optishield.report.charts``.
    """

    key: str
    about: Mapping[str, Any]
    combination: str
    worst: Mapping[str, Any]
    others: Mapping[str, Mapping[str, Any]]
    overall: Mapping[str, Any]
    ci95: tuple[float, float]
    rows: tuple[Mapping[str, Any], ...]
    colour: str
    dash: int

    @property
    def name(self) -> str:
        """Name for people."""
        return label(self.key)

    @property
    def base(self) -> str:
        """Name without settings."""
        return _base(self.key)

    @property
    def control(self) -> bool:
        """A control rather than a protection."""
        return bool(self.about.get("control"))

    @property
    def today(self) -> tuple[str, str]:
        """What may be said against attackers of today (K0, K1), and why."""
        said = self.overall.get("verdict") or {}
        return str(said.get("label", "not judged")), str(said.get("reason", ""))

    @property
    def _verdict(self) -> tuple[str, str]:
        word, reason = verdict_word(str(self.worst.get("verdict", "not judged")))
        # The bar of the worst attack may be lower than that of a weaker attacker, who then decides.
        return self.today if word.startswith(HELD) and self.today[0] not in HELD_TODAY else (word, reason)

    @property
    def verdict(self) -> str:
        """The verdict in a word."""
        return self._verdict[0]

    @property
    def reason(self) -> str:
        """What the verdict rests on, or ""."""
        return self._verdict[1]

    @property
    def claims(self) -> Mapping[str, bool | None]:
        """Which bars are reached; None where a figure was not measured."""
        return self.overall.get("claims") or {}

    @property
    def claimed(self) -> bool:
        """Whether the combination is one that the protector claims."""
        return bool(self.worst.get("claimed"))

    @property
    def attack(self) -> tuple[str, str, str]:
        """Protector, attacker and recogniser of the worst attack."""
        return self.key, str(self.worst.get("attacker", "")), str(self.worst.get("recogniser", ""))

    @property
    def variable(self) -> str:
        """CSS variable of its colour."""
        return figures.variable(self.colour)

    def plain_attack(self) -> tuple[str, str, str] | None:
        """The attack by the recogniser as published that goes with the worst one, if it was run."""
        for row in self.rows:
            if row["level"] == "K0" and row["frames"] == 1 and row["recogniser"] == self.worst.get("recogniser"):
                return self.key, str(row["attacker"]), str(row["recogniser"])
        return None


def standings(summary: Summary) -> list[Standing]:
    """Protectors first, controls after them, each in the order of the run."""
    declared = summary.get("protectors") or {}
    headline = summary.get("headline") or {}
    keys = sorted(dict.fromkeys([*declared, *headline]), key=lambda key: bool(declared.get(key, {}).get("control")))
    methods = [key for key in keys if not declared.get(key, {}).get("control")]
    # Controls have a colour of their own only where they are all there is.
    coloured = [key for key in methods or keys if _base(key) != ENCODER]
    families = list(dict.fromkeys(_base(key) for key in coloured))
    found = []
    for key in keys:
        place, dash = None, 0
        if key in coloured:
            place = families.index(_base(key))
            dash = place // len(figures.BASES) + [k for k in coloured if _base(k) == _base(key)].index(key)
        colour = figures.OURS if _base(key) == ENCODER else figures.MUTED
        colour = colour if place is None else figures.BASES[place % len(figures.BASES)]
        found.append(_standing(key, summary, declared.get(key, {}), headline.get(key) or {}, colour, dash % 3))
    return found


def _base(key: str) -> str:
    return key.partition(":")[0]


def _standing(
    key: str, summary: Summary, about: Mapping[str, Any], found: Mapping[str, Any], colour: str, dash: int
) -> Standing:
    others = {name: found[name] for name in COMBINATIONS if name in found}
    claimed = [name for name, entry in others.items() if entry.get("claimed")]
    combination = min(claimed or list(others)[:1] or ["CP"], key=lambda name: _low(others, name))
    worst = others.get(combination, {})
    rows = tuple(
        row for row in summary.get("rows") or [] if row["protector"] == key and row["combination"] == combination
    )
    pair = next((row["ci95"] for row in rows if _is_worst(row, worst)), None) or (None, None)
    return Standing(
        key, about, combination, worst, others, found, (number(pair[0]), number(pair[1])), rows, colour, dash
    )


def _low(found: Mapping[str, Mapping[str, Any]], combination: str) -> float:
    return number(found.get(combination, {}).get("low"))


def _is_worst(row: Mapping[str, Any], worst: Mapping[str, Any]) -> bool:
    return row["attacker"] == worst.get("attacker") and row["recogniser"] == worst.get("recogniser")


def sentence(summary: Summary) -> str:
    """What the run shows, in one sentence that its verdicts support."""
    judged = [one for one in standings(summary) if not one.control]
    if not judged:
        text = "Controls only: no protector was judged."
    elif len(judged) == 1:
        text = _of_one(judged[0])
    else:
        text = _of_several(judged)
    return f"Exploratory: {text[0].lower()}{text[1:]}" if summary.get("exploratory") else text


def _of_one(one: Standing) -> str:
    if one.verdict == "broken":
        return f"The protector {one.name} is broken by {one.worst['attacker']}."
    if one.verdict.startswith(HELD):
        return f"The protector {one.name} withstands every attacker that was tried."
    return f"No claim for {one.name}."


def _of_several(judged: Sequence[Standing]) -> str:
    broken = sum(one.verdict == "broken" for one in judged)
    held = sum(one.verdict.startswith(HELD) for one in judged)
    if broken == len(judged):
        return f"All {broken} protectors are broken by their strongest attacker."
    if held == len(judged):
        return f"All {held} protectors withstand every attacker that was tried."
    parts = [
        (held, "withstands every attacker that was tried", "withstand every attacker that was tried"),
        (broken, "is broken", "are broken"),
        (len(judged) - held - broken, "allows no claim", "allow no claim"),
    ]
    said = [f"{count} {one if count == 1 else more}" for count, one, more in parts if count]
    return f"Of {len(judged)} protectors {'; '.join(said)}."


@dataclass(frozen=True)
class Step:
    """What is left after attackers up to one level of knowledge.

    Attributes:
        level: K0 to K4.
        value: PSR_net of the strongest attack of this level, NaN if none was run.
        ci95: its interval.
        before: least PSR_net of the levels below, 1 at the first.
        left: least PSR_net up to here.
        attacker: the strongest of this level.
        recogniser: through which.
    """

    level: str
    value: float
    ci95: tuple[float, float]
    before: float
    left: float
    attacker: str
    recogniser: str


def waterfall(one: Standing) -> list[Step]:
    """Protection left after each level. K4 are the attacks through recognisers that the protector never saw."""
    steps, left = [], 1.0
    for level in LEVELS:
        rows = [row for row in one.rows if (row.get("unseen") if level == "K4" else row["level"] == level)]
        rows = [row for row in rows if known(row["psr_net"])]
        worst = min(rows, key=lambda row: (row["psr_net"], row["attacker"]), default=None)
        if worst is None:
            steps.append(Step(level, number(None), (number(None), number(None)), left, left, "", ""))
            continue
        value, (low, high) = number(worst["psr_net"]), worst["ci95"]
        after = min(left, value)
        steps.append(Step(level, value, (low, high), left, after, worst["attacker"], worst["recogniser"]))
        left = after
    return steps
