"""What was measured: thresholds, figures of an attack, quality of the pictures, and the rows of the result table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from evaluation.labels import Combination, Level, Protected, RowLabel, Verdict
from evaluation.measures.intervals import Interval
from evaluation.measures.threshold import Threshold
from evaluation.records.basics import STRICT, Limits, Number


class Triple(NamedTuple):
    """Which attack: who protects, who attacks, and through which recogniser."""

    protector: str
    attacker: str
    recogniser: str

    @property
    def name(self) -> str:
        """The attack in a line, for a display or a list."""
        return ", ".join(self)


@dataclass(frozen=True)
class FrozenThreshold:
    """A threshold as it was frozen; see :class:`evaluation.measures.threshold.Threshold`.

    Attributes:
        alpha: False match rate aimed at.
        value: The threshold, in units of score.
        n: Impostor scores that it was set on.
        supported: Whether these are enough, by the rule of 30.
        manifest_hash: SHA-256 of what it belongs to.
    """

    __pydantic_config__ = STRICT

    alpha: float
    value: float
    n: int
    supported: bool
    manifest_hash: str

    @classmethod
    def of(cls, threshold: Threshold) -> FrozenThreshold:
        """The record of a threshold."""
        return cls(threshold.alpha, threshold.value, threshold.n, threshold.supported, threshold.manifest_hash)

    @property
    def threshold(self) -> Threshold:
        """The threshold that decides."""
        return Threshold(self.alpha, self.value, self.n, self.manifest_hash)


@dataclass(frozen=True, kw_only=True)
class AttackKey:
    """Which attack a row is about.

    Attributes:
        protector: Name with settings.
        attacker: Name.
        level: What the attacker knows.
        frames: Captures of one scene that it averages.
        recogniser: Name.
        combination: Which of gallery and probe are protected.
    """

    protector: str
    attacker: str
    level: Level
    frames: int
    recogniser: str
    combination: Combination

    @property
    def triple(self) -> Triple:
        """The attack without the combination."""
        return Triple(self.protector, self.attacker, self.recogniser)

    @property
    def plain(self) -> bool:
        """Whether it is the recogniser as published on single photographs."""
        return self.level == "K0" and self.frames == 1


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of one combination; rates are shares of 1, limits are those of 95 % intervals over people.

    Attributes:
        identities: People who are tested.
        probes: Their probes.
        alpha: False match rate that the thresholds were set for.
        threshold: Threshold of the attack.
        threshold_clean: Threshold of the recogniser as published on clean photographs.
        fmr: False match rate on the people of the test.
        psr: Share of genuine comparisons that are not accepted.
        psr_ci95: Its limits.
        psr_net: The same among pairs that match clean; None where fewer than two people match clean.
        ci95: Limits of ``psr_net``.
        tar_clean: True accept rate of the recogniser as published on clean photographs.
        rank1: Share of probes whose own person comes first.
        rank1_ci95: Its limits.
        rank1_clean: The same on clean photographs.
        rank5: Share of probes whose own person is among the first five.
        chance_rank1: What a guess reaches.
        auc: Area under the ROC curve.
        auc_ci95: Its limits.
        eer: Equal error rate.
        not_acquired: Share of probes that the attacker could not use.
        fnir: False negative identification rate of an open-set search; None where no rate is supported.
        fnir_ci95: Its limits.
        fpir: False positive identification rate that the search aims at.
        psr_net_at_fmr: ``psr_net`` at the further false match rates, by rate.
    """

    identities: int
    probes: int
    alpha: float
    threshold: float
    threshold_clean: float
    fmr: Number
    psr: Number
    psr_ci95: Limits
    psr_net: float | None
    ci95: Limits | None
    tar_clean: Number
    rank1: Number
    rank1_ci95: Limits
    rank1_clean: Number
    rank5: Number
    chance_rank1: float
    auc: Number
    auc_ci95: Limits
    eer: Number
    not_acquired: Number
    fnir: float | None
    fnir_ci95: Limits | None
    fpir: float | None
    psr_net_at_fmr: Mapping[str, float | None]

    @property
    def net(self) -> Interval | None:
        """``psr_net`` with its interval."""
        if self.psr_net is None or self.ci95 is None:
            return None
        return Interval(self.psr_net, *self.ci95, people=self.identities)


@dataclass(frozen=True, kw_only=True)
class CleanFigures(Figures):
    """How well a recogniser does on clean photographs, and the control of shuffled names.

    Attributes:
        tar_ci95: Limits of ``tar_clean``.
        fmr_ci95: Limits of ``fmr``.
        shuffled_rank1: Rank-1 when names are dealt out at random.
        shuffled_rank1_ci95: Its limits.
    """

    __pydantic_config__ = STRICT

    tar_ci95: Limits
    fmr_ci95: Limits
    shuffled_rank1: Number
    shuffled_rank1_ci95: Limits


@dataclass(frozen=True, kw_only=True)
class QualityColumns:
    """What protection does to the pictures; None where it was not measured.

    Attributes:
        fta: Share of probes on which a detector finds no face.
        fta_clean: The same on clean photographs.
        ssim: Structural similarity, mean over photographs.
        ssim_median: Its median.
        ssim_p5: Its 5th percentile.
        dssim: Half of 1 - SSIM.
        psnr: Peak signal-to-noise ratio in dB.
        linf: Largest change of any value in 0..1.
        l2: Mean Euclidean norm of the change.
        deep_distance: Distance of feature maps of SFace.
        gender_agreement: Share of photographs of which a network reads the same gender.
        gender_balanced_agreement: The same, balanced over its answers on clean photographs.
        gender_accuracy: Balanced accuracy against the true gender.
        gender_accuracy_clean: The same on clean photographs.
        expression_unchanged: Share of photographs of which a network reads the same expression.
        expression_agreement: Mean of 1 - total variation of its answers.
        nme_clean: Landmark error on clean photographs, against true landmarks.
        nme_increase: Rise of the landmark error, in distances of the outer eye corners.
        utility_photos: Photographs that these networks read.
        kid: Kernel distance of clean and protected photographs.
        kid_sd: Its standard deviation.
        kid_photos: Photographs in it.
    """

    fta: float | None = None
    fta_clean: float | None = None
    ssim: float | None = None
    ssim_median: float | None = None
    ssim_p5: float | None = None
    dssim: float | None = None
    psnr: float | None = None
    linf: float | None = None
    l2: float | None = None
    deep_distance: float | None = None
    gender_agreement: float | None = None
    gender_balanced_agreement: float | None = None
    gender_accuracy: float | None = None
    gender_accuracy_clean: float | None = None
    expression_unchanged: float | None = None
    expression_agreement: float | None = None
    nme_clean: float | None = None
    nme_increase: float | None = None
    utility_photos: int | None = None
    kid: float | None = None
    kid_sd: float | None = None
    kid_photos: int | None = None


@dataclass(frozen=True, kw_only=True)
class Quality(QualityColumns):
    """The quality of one protector's pictures.

    Attributes:
        not_measured: The reason for each column that is None.
    """

    not_measured: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScoredRow(Figures, AttackKey):
    """One combination of one attack, before anybody judges it.

    Attributes:
        delta_accuracy: What a protected gallery costs of the clean rank-1; of the combination PC alone.
    """

    delta_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Row(QualityColumns, ScoredRow):
    """A row of the result table.

    Attributes:
        unseen: Whether the protector was made without this family of recognisers; None if it uses no recogniser.
        verdict: What the attack means for the protector.
        reason: Why, where the verdict does not say all.
        seconds_per_image: What protection takes, on the machine of the run.
    """

    __pydantic_config__ = STRICT

    unseen: bool | None
    verdict: RowLabel
    reason: str
    seconds_per_image: float | None = None

    @classmethod
    def of(cls, scored: ScoredRow, quality: QualityColumns, unseen: bool | None, verdict: Verdict[RowLabel]) -> Row:
        """The row of one combination of an attack, with its verdict and the quality of the protector's pictures."""
        columns = {one.name: getattr(quality, one.name) for one in fields(QualityColumns)}
        return cls(**vars(scored), **columns, unseen=unseen, verdict=verdict.label, reason=verdict.reason)

    def cells(self) -> dict[str, object]:
        """The row for a table of flat columns, without what depends on the machine."""
        flat = {one.name: getattr(self, one.name) for one in fields(self)}
        del flat["seconds_per_image"]
        further = flat.pop("psr_net_at_fmr")
        return {**flat, **{f"psr_net_at_fmr_{alpha}": value for alpha, value in further.items()}}


@dataclass(frozen=True)
class LeakagePoint:
    """Protection of clean probes where this share of a protected gallery is clean.

    Attributes:
        share: Share of clean photographs.
        psr_net: Protection, or None where fewer than two people match clean.
        ci95: Its limits.
    """

    __pydantic_config__ = STRICT

    share: float
    psr_net: float | None
    ci95: Limits | None


@dataclass(frozen=True)
class TemplatePoint:
    """Protection where a template averages so many photographs.

    Attributes:
        photos: Photographs in a template.
        combination: Which of gallery and probe are protected.
        psr_net: Protection, or None where fewer than two people match clean.
        ci95: Its limits.
    """

    __pydantic_config__ = STRICT

    photos: int
    combination: Protected
    psr_net: float | None
    ci95: Limits | None


@dataclass(frozen=True)
class CurvePoints:
    """Leakage and template curves of one attack.

    Attributes:
        protector: Name with settings.
        attacker: Name.
        recogniser: Name.
        frames: Captures that the attacker averages.
        leakage: Points in rising order of the share.
        templates: Points for each combination in which something is protected.
    """

    __pydantic_config__ = STRICT

    protector: str
    attacker: str
    recogniser: str
    frames: int
    leakage: tuple[LeakagePoint, ...]
    templates: tuple[TemplatePoint, ...]

    @property
    def triple(self) -> Triple:
        """The attack."""
        return Triple(self.protector, self.attacker, self.recogniser)


@dataclass(frozen=True)
class Curves:
    """All curves of a run.

    Attributes:
        file: Name of the file in the run folder that holds the long ones.
        points: The short ones, in the order of that file.
    """

    __pydantic_config__ = STRICT

    file: str
    points: tuple[CurvePoints, ...]
