"""What an evaluation found, read from its summary: protectors side by side, and the sentence that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from evaluation.labels import PROTECTED, ClaimLabel, OrderingLabel, OverallLabel, Protected, RowLabel, Verdict
from evaluation.records import Headline, Method, Row, Summary, Triple, WorstAttack, base_name
from faces.protection import Threat
from optishield.report import figures

COMBINATIONS: dict[Protected, str] = {"CP": "evasion", "PC": "poisoning", "PP": "linkage"}
#: A recogniser that the protector was made without, which is no level of an attacker: any attacker may look with one.
UNSEEN = "unseen"
#: Steps of the waterfall.
STEPS = {
    "K0": "as published",
    "K1": "treats the photo",
    "K2": "owns the protector",
    "K3": "knows its parameters",
    UNSEEN: "recogniser it never saw",
}
#: What a protector claims of itself: in a word, and what is measured for it.
THREATS = {
    Threat.poison: ("spoils training", "clean accuracy lost"),
    Threat.dodge: ("is not recognised", "PSR net"),
    Threat.impersonate: ("passes for a target", "ASR net"),
    Threat.sensor: ("a recording tells nobody", "PSR net, worst attacker"),
    Threat.attribute: ("hides an attribute", ""),
}
ENCODER = "optical-encoder"
Label = RowLabel | OverallLabel | ClaimLabel | OrderingLabel
#: Verdicts of a protection that was shown, of one attack and of all attacks of today.
HELD: tuple[Label, ...] = ("protects", "strong", "withstands")
HELD_TODAY: tuple[OverallLabel, ...] = ("protects", "strong")


def label(spec: str) -> str:
    """A protector as people read it; of a path only the last part."""
    name, _, settings = spec.partition(":")
    shown = [
        f"{key}={PurePosixPath(value).name}" if "/" in value else f"{key}={value}"
        for key, _, value in (part.partition("=") for part in settings.split(","))
        if key
    ]
    return f"{name} ({', '.join(shown)})" if shown else name


def combination_name(combination: Protected) -> str:
    """What a combination of gallery and probe stands for."""
    return COMBINATIONS[combination]


def word(verdict: Label) -> str:
    """A verdict as the page prints it."""
    return "protects, strong" if verdict == "strong" else verdict


def tone(verdict: Label) -> str:
    """CSS class of a verdict."""
    if verdict in ("broken", "fails", "contradicted"):
        return "fail"
    return "pass" if verdict in (*HELD, "holds", "replicated") else "open"


@dataclass(frozen=True)
class Standing:
    """One protector and how it fares.

    Attributes:
        key: Its name with settings.
        about: What it declares.
        combination: The claimed combination in which it does worst, or evasion where it claims none.
        headline: What the run says of it.
        rows: Its rows in that combination.
        colour: Marker colour, see ``optishield.report.figures``; settings of one protector share it.
        dash: Line style, see ``optishield.report.charts``.
    """

    key: str
    about: Method
    combination: Protected
    headline: Headline
    rows: tuple[Row, ...]
    colour: str
    dash: int

    @property
    def name(self) -> str:
        """Name for people."""
        return label(self.key)

    @property
    def base(self) -> str:
        """Name without settings."""
        return base_name(self.key)

    @property
    def control(self) -> bool:
        """A control rather than a protection."""
        return self.about.control

    @property
    def worst(self) -> WorstAttack | None:
        """The worst attack in its combination; None if it could not be judged."""
        return self.headline.worst.get(self.combination)

    @property
    def worst_row(self) -> Row | None:
        """The row of the worst attack."""
        worst = self.worst
        if worst is None:
            return None
        return next(
            (row for row in self.rows if (row.attacker, row.recogniser) == (worst.attacker, worst.recogniser)), None
        )

    @property
    def today(self) -> Verdict[OverallLabel]:
        """What may be said against attackers of today (K0, K1), and why."""
        return self.headline.verdict

    @property
    def verdict(self) -> Verdict[Label]:
        """The verdict, and what it rests on."""
        worst = self.worst
        if worst is None:
            return Verdict("not measured", "no attack could be judged")
        # The bar of the worst attack may be lower than that of a weaker attacker, who then decides.
        if worst.verdict in HELD and self.today.label not in HELD_TODAY:
            return Verdict(self.today.label, self.today.reason)
        return Verdict(worst.verdict, worst.reason)

    @property
    def claims(self) -> Mapping[str, bool | None]:
        """Which bars are reached; None where a figure was not measured."""
        return self.headline.claims

    @property
    def attack(self) -> Triple | None:
        """The worst attack."""
        worst = self.worst
        return None if worst is None else Triple(self.key, worst.attacker, worst.recogniser)

    @property
    def variable(self) -> str:
        """CSS variable of its colour."""
        return figures.variable(self.colour)

    def plain_row(self) -> Row | None:
        """The row of the recogniser as published that goes with the worst attack, if it was run."""
        recogniser = None if self.worst is None else self.worst.recogniser
        return next((row for row in self.rows if row.plain and row.recogniser == recogniser), None)


def standings(summary: Summary) -> list[Standing]:
    """Protectors first, controls after them, each in the order of the run."""
    declared = summary.protectors
    keys = sorted(declared, key=lambda key: declared[key].control)
    methods = [key for key in keys if not declared[key].control]
    # Controls have a colour of their own only where they are all there is.
    coloured = [key for key in methods or keys if base_name(key) != ENCODER]
    families = list(dict.fromkeys(base_name(key) for key in coloured))
    found = []
    for key in keys:
        place, dash = None, 0
        if key in coloured:
            place = families.index(base_name(key))
            mine = [one for one in coloured if base_name(one) == base_name(key)]
            dash = place // len(figures.BASES) + mine.index(key)
        colour = figures.OURS if base_name(key) == ENCODER else figures.MUTED
        colour = colour if place is None else figures.BASES[place % len(figures.BASES)]
        found.append(_standing(key, summary, colour, dash % 3))
    return found


_UNJUDGED = Headline(claims={}, verdict=Verdict("no claim", "the run says nothing of it"))


def _standing(key: str, summary: Summary, colour: str, dash: int) -> Standing:
    headline = summary.headline.get(key, _UNJUDGED)
    worst = headline.worst
    claimed = [name for name, entry in worst.items() if entry.claimed]
    combination = min(claimed or list(worst)[:1] or [PROTECTED[0]], key=lambda name: _low(worst, name))
    rows = tuple(row for row in summary.rows if row.protector == key and row.combination == combination)
    return Standing(key, summary.protectors[key], combination, headline, rows, colour, dash)


def _low(found: Mapping[Protected, WorstAttack], combination: Protected) -> float:
    return found[combination].low if combination in found else float("nan")


def sentence(summary: Summary) -> str:
    """What the run shows, in one sentence that its verdicts support."""
    judged = [one for one in standings(summary) if not one.control]
    if not judged:
        text = "Controls only: no protector was judged."
    elif len(judged) == 1:
        text = _of_one(judged[0])
    else:
        text = _of_several(judged)
    return f"Exploratory: {text[0].lower()}{text[1:]}" if summary.exploratory else text


def _of_one(one: Standing) -> str:
    if one.worst is not None and one.verdict.label == "broken":
        return f"The protector {one.name} is broken by {one.worst.attacker}."
    if one.verdict.label in HELD:
        return f"The protector {one.name} withstands every attacker that was tried."
    return f"No claim for {one.name}."


def _of_several(judged: Sequence[Standing]) -> str:
    broken = sum(one.verdict.label == "broken" for one in judged)
    held = sum(one.verdict.label in HELD for one in judged)
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
        name: The level, or :data:`UNSEEN`.
        row: The strongest attack of this level; None if none was run.
        before: Least PSR_net of the levels below, 1 at the first.
        left: Least PSR_net up to here.
    """

    name: str
    row: Row | None
    before: float
    left: float


def waterfall(one: Standing) -> list[Step]:
    """Protection left after each level, and last through recognisers that the protector was made without."""
    steps, left = [], 1.0
    for name in STEPS:
        rows = [row for row in one.rows if (row.unseen if name == UNSEEN else row.level == name)]
        measured = [(row.psr_net, row.attacker, row) for row in rows if row.psr_net is not None]
        value, _, worst = min(measured, key=lambda found: found[:2], default=(None, "", None))
        after = left if value is None else min(left, value)
        steps.append(Step(name, worst, left, after))
        left = after
    return steps
