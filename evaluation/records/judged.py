"""What was judged: claims, poison, impersonation, orderings of the survey, headlines and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from evaluation.config import Preset
from evaluation.labels import ClaimLabel, Level, OrderingLabel, OverallLabel, Protected, RowLabel, Verdict
from evaluation.records.basics import STRICT, Limits, Number
from faces.protection import Threat

Relation = Literal["above", "below", "equal"]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """One recogniser or victim that judges a claim.

    Attributes:
        judge: Its name.
        unseen: Whether the protector was made without it; None if the protector uses no recogniser.
        value: What the protector does to its claim; None where that is not defined.
        ci95: Limits of ``value``.
        raw: The plain rate with protection.
        clean: The plain rate without.
        noise: ``value`` of random noise of equal size.
        verdict: Whether the claim holds before this judge.
        reason: Why.
        primary: Whether the claim is about it.
        weak: Whether it fails its own gate, and so may not judge.
    """

    __pydantic_config__ = STRICT

    judge: str
    unseen: bool | None
    value: float | None
    ci95: Limits | None
    raw: Number
    clean: Number
    noise: float | None
    verdict: ClaimLabel
    reason: str
    primary: bool
    weak: bool


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a protector claims of itself.

    Attributes:
        protector: Name with settings.
        threat: What it claims to prevent.
        measure: What is measured for that.
        bar: What the lower limit must reach; None where there is no bar.
        verdict: Whether the claim holds before all who decide.
        reason: Why.
        judges: Everybody who was asked, those who decide first.
    """

    __pydantic_config__ = STRICT

    protector: str
    threat: Threat
    measure: str
    bar: float | None
    verdict: ClaimLabel
    reason: str
    judges: tuple[Judge, ...]


@dataclass(frozen=True, kw_only=True)
class PoisonRow:
    """What one victim learnt from protected photographs.

    Attributes:
        protector: Name with settings.
        victim: "scratch", or the head and the recogniser whose embeddings it reads.
        countermeasure: What the victim does against poison.
        unseen: Whether the protector was made without this family; None if it uses no recogniser.
        accuracy: Share of clean probes that are named rightly after training on protected photographs.
        accuracy_ci95: Its limits.
        accuracy_clean: The same after training on clean ones.
        accuracy_clean_ci95: Its limits.
        chance: What a guess reaches.
        psr: Share of clean probes that are named wrongly, as the survey counts.
        delta: Share of the accuracy above chance that protection costs; None where there is none to lose.
        delta_ci95: Its limits.
        delta_noise: The same of random noise of equal size.
        weak: Whether the victim does not even learn from clean photographs.
        verdict: Whether the claim holds before this victim.
        reason: Why.
        people: Accuracy of each person, in rising order of identity.
    """

    __pydantic_config__ = STRICT

    protector: str
    victim: str
    countermeasure: str
    unseen: bool | None
    accuracy: Number
    accuracy_ci95: Limits
    accuracy_clean: Number
    accuracy_clean_ci95: Limits
    chance: float
    psr: Number
    delta: float | None
    delta_ci95: Limits | None
    delta_noise: float | None
    weak: bool
    verdict: ClaimLabel
    reason: str
    people: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ImpersonationRow:
    """How often protected probes pass for a target of the protector, through one recogniser.

    Attributes:
        protector: Name with settings.
        recogniser: Name.
        unseen: Whether the protector was made without this family; None if it uses no recogniser.
        targets: People to pass for.
        asr: Share of probes that pass for one of them.
        asr_ci95: Its limits.
        asr_clean: The same without protection.
        asr_net: The same among probes that pass for none clean; None with fewer than 2 such people.
        asr_net_ci95: Its limits.
        asr_net_noise: ``asr_net`` of random noise of equal size.
        weak: Whether the recogniser fails its gate.
        asr_at_fmr: ``asr`` at each false match rate.
        rank1_target: Share of probes of which a target is the best of all.
        verdict: Whether the claim holds before this recogniser.
        reason: Why.
    """

    __pydantic_config__ = STRICT

    protector: str
    recogniser: str
    unseen: bool | None
    targets: int
    asr: Number
    asr_ci95: Limits
    asr_clean: Number
    asr_net: float | None
    asr_net_ci95: Limits | None
    asr_net_noise: float | None
    weak: bool
    asr_at_fmr: Mapping[str, float]
    rank1_target: Number
    verdict: ClaimLabel
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """One pair of methods that the survey puts in an order.

    Attributes:
        preset: Experiment of the survey.
        figure: What is compared.
        first: Name with settings.
        relation: Of its figure to that of ``second``, as the survey states.
        second: Name with settings.
        judge: Recogniser or victim behind the figure; "" where there is none.
        margin: Difference up to which two values count as equal.
        value_first: Mean over people; None where it was not measured.
        value_second: The same of the second method.
        difference: First minus second.
        ci95: Its limits.
        verdict: Whether the pair comes out as stated.
        reason: Why it was not measured, or "".
    """

    __pydantic_config__ = STRICT

    preset: Preset
    figure: Literal["PSR", "SSIM"]
    first: str
    relation: Relation
    second: str
    judge: str
    margin: float
    value_first: float | None
    value_second: float | None
    difference: float | None
    ci95: Limits | None
    verdict: OrderingLabel
    reason: str


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The attack of a set that leaves least.

    Attributes:
        attacker: Name.
        level: What it knows.
        recogniser: Through which it looks.
        psr_net: Protection that it leaves.
        low: Least lower limit of the set.
        attacks: Attacks in the set.
        verdict: What the attack means for the protector.
        reason: Why, where the verdict does not say all.
    """

    __pydantic_config__ = STRICT

    attacker: str
    level: Level
    recogniser: str
    psr_net: float
    low: Number
    attacks: int
    verdict: RowLabel
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorstAttack(Worst):
    """The worst attack on a protector in one combination.

    Attributes:
        claimed: Whether the protector claims anything in this combination.
        raw_psr: What the survey would report; None if the recogniser as published was not run.
        unseen: The worst through recognisers that the protector was made without.
        worst_person: Share of probes that are protected, of the person who is protected least.
        worst_decile: The same of the least protected tenth of all people.
        leaked_share: Of the combination PC: what is kept of ``psr_net`` with a tenth of the gallery clean.
    """

    __pydantic_config__ = STRICT

    claimed: bool
    raw_psr: float | None
    unseen: Worst | None
    worst_person: Number
    worst_decile: Number
    leaked_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What a run says of one protector.

    Attributes:
        evasion: The worst attack on protected probes (CP); None where no attack could be judged.
        poisoning: The worst attack with a protected gallery (PC).
        linkage: The worst attack where both sides are protected (PP).
        claims: Which bars are reached; None where something was not measured.
        verdict: What may be said against the attackers of today.
    """

    __pydantic_config__ = STRICT

    evasion: Annotated[WorstAttack | None, Field(alias="CP")] = None
    poisoning: Annotated[WorstAttack | None, Field(alias="PC")] = None
    linkage: Annotated[WorstAttack | None, Field(alias="PP")] = None
    claims: Mapping[str, bool | None]
    verdict: Verdict[OverallLabel]

    @property
    def worst(self) -> dict[Protected, WorstAttack]:
        """The worst attack of each combination that could be judged."""
        found: dict[Protected, WorstAttack | None] = {"CP": self.evasion, "PC": self.poisoning, "PP": self.linkage}
        return {name: attack for name, attack in found.items() if attack is not None}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two protectors against each other, each at its worst attacker, paired over people.

    Attributes:
        combination: Which of gallery and probe are protected.
        first: Name with settings.
        second: Name with settings.
        difference: Protection of the first minus that of the second.
        ci95: Its limits.
        p: p-value of a permutation test.
        p_holm: The same, corrected for all pairs of the combination.
    """

    __pydantic_config__ = STRICT

    combination: Protected
    first: str
    second: str
    difference: Number
    ci95: Limits
    p: Number
    p_holm: Number
