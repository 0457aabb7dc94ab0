"""What a run of the main job found, as frozen records: figures with their intervals, cameras, gates, and the summary.

A record is written by :meth:`Record.to_json` and read by :meth:`Record.from_json`; nowhere else does a result travel as
a dictionary. ``summary.json`` is one of these records; ``summary.schema.json`` beside it describes every key. No
torch is imported here, so that whoever reads a run does not load it.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from codesign.attacker_records import (
    NO_LIMITS,
    AttackerResult,
    CurvePoint,
    ExposurePoint,
    FloorResult,
    LearningPoint,
    Limits,
    Name,
    Number,
    PooledResult,
    Record,
    strongest_pooled,
)
from codesign.pairs_records import ChannelFacts, WinnersFacts

__all__ = [
    "AblationResult",
    "AttackerResult",
    "CameraFacts",
    "CameraResult",
    "ChannelFacts",
    "CurvePoint",
    "Difference",
    "EvaluateMaskSummary",
    "ExposurePoint",
    "FloorResult",
    "FramingResult",
    "GapResult",
    "Gaps",
    "GateResult",
    "LandmarkAgreement",
    "LearningPoint",
    "Noise",
    "PhotoData",
    "PooledResult",
    "Record",
    "Round",
    "Source",
    "Summary",
    "Timing",
    "ToleranceRow",
    "TrainMaskSummary",
    "WinnersFacts",
]


class Round(Record):
    """One decoder that was trained to bring a baseline to our landmark error.

    Attributes:
        value: Parameter of the baseline.
        nme: Landmark error on the validation people.
        pixels: Pixels across the window.
    """

    value: Number
    nme: Number
    pixels: int


class CameraResult(Record):
    """One camera of the comparison.

    Attributes:
        nme: Landmark error on the test people.
        validation_nme: Landmark error on the validation people; None for photographs.
        attackers: What each attacker got from it, by name.
        worst_attacker: Name of the attacker with the highest rank-1.
        worst_attacker_auc: Name of the attacker with the highest AUC.
        worst_attacker_pooled: Name of the attacker with the highest rank-1 when probes are pooled.
        worst_attacker_pooled_auc: Name of the attacker with the highest AUC when probes are pooled.
        ablation: What this camera lacks of ours; "" for a camera that is no ablation.
        sensor: The exposure as ``sim.camera.Exposure`` describes it.
        parameter: Name of the parameter that was moved to reach our landmark error.
        value: Its value.
        mismatch: Landmark error on the validation people less ours.
        rounds: The trials of that search.
    """

    nme: Number
    validation_nme: Number = None
    attackers: dict[str, AttackerResult]
    worst_attacker: str
    worst_attacker_auc: str | None = None
    worst_attacker_pooled: str | None = None
    worst_attacker_pooled_auc: str | None = None
    ablation: str = ""
    sensor: dict[str, Any] | None = None
    parameter: str | None = None
    value: Number = None
    mismatch: Number = None
    rounds: tuple[Round, ...] = ()

    @model_validator(mode="after")
    def _attacked(self) -> Self:
        if self.worst_attacker not in self.attackers:
            raise ValueError(f"the worst attacker {self.worst_attacker!r} is none of {', '.join(self.attackers)}")
        return self

    @property
    def worst(self) -> AttackerResult:
        """Figures of the worst attacker."""
        return self.attackers[self.worst_attacker]

    @property
    def worst_pooled(self) -> PooledResult | None:
        """Figures of the worst attacker who pools probes; None where that was not measured."""
        return strongest_pooled(self.attackers)


class GapResult(Record):
    """Share of the gap between the best baseline and landmarks alone that our camera closes.

    Attributes:
        value: The share; None where there is no gap to close.
        ci95: Its interval.
        people: People of the test.
        reason: Why it is not defined, or "".
        numerator: Baseline less ours.
        denominator: Baseline less floor.
    """

    value: Number
    ci95: Limits = NO_LIMITS
    people: int | None = None
    reason: str = ""
    numerator: Number = None
    denominator: Number = None


class Gaps(Record):
    """The gap closed, in rank-1 and in AUC; each camera stands for its own worst attacker, for each measure anew."""

    rank1: GapResult
    auc: GapResult


class Difference(Record):
    """A paired difference over people.

    Attributes:
        value: The mean difference.
        ci95: Its interval.
        p: Two-sided p-value of no difference.
    """

    value: Number
    ci95: Limits = NO_LIMITS
    p: Number = None


class AblationResult(Record):
    """What one part of our camera does: the camera without it, at equal landmark error.

    Attributes:
        lacks: The part.
        rank1: Worst rank-1 without the part less ours.
        gap_closed: The gap closed, measured from the camera without the part.
        error: Landmark error without the part less ours, for cameras that are not brought to our error.
    """

    lacks: str
    rank1: Difference
    error: Difference | None = None
    gap_closed: Gaps


class Surface(Record):
    """What leaks where a camera could be tapped.

    Attributes:
        name: The surface, from the scene to what is released.
        camera: The camera whose attackers are meant.
        attacker: The strongest attacker there.
        rank1: Its share of pictures named.
        rank1_ci95: The interval.
        auc: Its area under the ROC curve.
        pooled_rank1: Share of people named from all their probes together, by the attacker who is best at that.
    """

    name: str
    camera: str
    attacker: str
    rank1: Number
    rank1_ci95: Limits = NO_LIMITS
    auc: Number
    pooled_rank1: Number = None


class ToleranceRow(Record):
    """The designed camera off its design, with the decoder and the attacker of the camera as designed.

    Attributes:
        name: What differs; "as-designed" is the measure for the others.
        changed: The same in words.
        nme: Landmark error on the test people.
        nme_change: That less the error of the camera as designed, paired over people; None for that one itself.
        rank1: Share of pictures named by the attacker who sees all places that leave the chip and was trained on the
            camera as designed; None if a run tried no such attacker.
        rank1_ci95: The interval.
        pooled_rank1: Share of people named from all their probes together.
    """

    name: str
    changed: str
    nme: Number
    nme_change: Difference | None = None
    rank1: Number = None
    rank1_ci95: Limits = NO_LIMITS
    pooled_rank1: Number = None


class GateResult(Record):
    """Whether a condition holds, and why.

    Attributes:
        passed: Whether it holds.
        reason: Why, with the figures in words.
        figures: The same figures by name, where somebody may want to go on with them.
    """

    passed: bool
    reason: str
    figures: dict[str, Number] = Field(default_factory=dict)


class Noise(Record):
    """The sensor in electrons, and the relative noise of one exposure."""

    electrons_at_white: float
    full_well_e: Number
    read_noise_e: float
    bits: int | None
    relative_noise_at_white: float
    relative_noise_at_mid_grey: float


class CameraFacts(Record):
    """Geometry of the simulated camera, SI units."""

    focal_length_m: float
    aperture_diameter_m: float
    object_distance_m: float
    focus_distance_m: float
    frame_width_m: float
    pixels: int
    colour: bool
    pixel_pitch_m: float
    mask_material: str
    mask_relief_m: float


class Source(Record):
    """Where the pictures of one part of the split come from."""

    source: str
    licence: str
    images: int
    content_sha256: str


class Timing(Record):
    """Seconds of each stage; jobs that ran side by side are added up."""

    faces_s: float
    design_s: float
    decoders_s: float
    baselines_s: float
    attackers_s: float
    tolerances_s: float = 0.0


class Summary(Record):
    """What both verbs say of a camera; ``ours`` is the camera that the run designed.

    Attributes:
        mode: Whether the faces are synthetic heads or photographs.
        run: Name of the run folder; "" until it is known.
        budget: Budget that the camera was trained with.
        seed: Seed of this judgement.
        chance_rank1: Rank-1 of a guess.
        nme: Landmark error of our camera.
        attackers: Attackers on our camera, by name.
        worst_attacker: Name of the one with the highest rank-1.
        clean: The clean colour camera.
        verdict: One more sentence, or "".
        limits: What the figures cannot say, a sentence each.
        surfaces: What leaks at each surface, from the scene to what is released.
    """

    mode: Literal["synthetic", "photos"]
    run: Name = ""
    budget: str
    seed: int
    chance_rank1: float
    nme: Number
    attackers: dict[str, AttackerResult]
    worst_attacker: str
    clean: CameraResult
    verdict: str = ""
    limits: tuple[str, ...] = ()
    surfaces: tuple[Surface, ...] = ()

    @property
    def people(self) -> int:
        """People of the test."""
        raise NotImplementedError

    @property
    def ours(self) -> CameraResult:
        """The designed camera as a row of the comparison."""
        return CameraResult(nme=self.nme, attackers=self.attackers, worst_attacker=self.worst_attacker)


class LandmarkAgreement(Record):
    """How far two networks that know nothing of each other put the five points of photographs apart.

    Attributes:
        sources: The weights of the two; errors are measured against the mean of their points.
        mean: Mean distance, as a share of the outer eye distance, over people.
        median: Median over photographs.
        beyond: Distance from which the two count as apart.
        share_beyond: Share of photographs beyond it.
        share_beyond_ci95: Its interval over people.
        people: People of these photographs.
        photographs: Photographs that were used.
        left_out: Further photographs, left out because the two disagreed far more.
    """

    sources: tuple[str, str]
    mean: Number
    median: Number
    beyond: float
    share_beyond: Number
    share_beyond_ci95: Limits = NO_LIMITS
    people: int
    photographs: int
    left_out: int


class FramingResult(Record):
    """Mean and standard deviation of size and place of faces in frames, relative to ``faces.framing.FRAME_POINTS``."""

    photographs_size: tuple[float, float]
    photographs_x: tuple[float, float]
    photographs_y: tuple[float, float]
    heads_size: tuple[float, float]
    heads_x: tuple[float, float]
    heads_y: tuple[float, float]


class PhotoData(Record):
    """The photographs of a run or of a judgement.

    Attributes:
        photographs: Photographs that were used.
        enrolled: Those of tested people that are enrolled.
        left_out: Photographs that could not be used.
        images_sha256: Hash over the frames of tested people.
        agreement: How well their landmarks are known.
        framing: Whether their frames are like those of synthetic heads.
        people: Real people of each part, those of the run among them.
        known: People left out because the run had trained or set thresholds on them.
    """

    photographs: int
    enrolled: int
    left_out: int
    images_sha256: str
    agreement: LandmarkAgreement | None = None
    framing: FramingResult | None = None
    people: dict[str, int] = Field(default_factory=dict)
    known: int = 0


class TrainMaskSummary(Summary):
    """Result of ``optishield train-mask``: the content of ``summary.json``.

    Attributes:
        identities: People of each part of the split.
        validation_nme: Landmark error of our camera on the validation people.
        knowledge: What each attacker knows, a sentence each.
        baselines: The other cameras, ablations among them.
        best_baseline: Key of the baseline whose worst attacker gets least; None if the run has no baseline.
        oracle: Landmarks alone with our error: the floor.
        curves: Measured points of landmarks alone at several errors.
        config: The configuration of the run.
        data: ``manifest_sha256``, and where the pictures of each part come from.
        gap_closed: None without a baseline.
        gap_closed_pooled: The same when all probes of a person are pooled, the floor alike.
        learning_curve: The learned attacker on our camera by the number of people it was trained with, fewest first.
        exposures: The strongest attacker on our camera by the number of exposures of a still face that it averages.
        ablations: By key of the camera that lacks the part.
        throughput: Share of the light that falls into the window.
        noise: The sensor.
        camera: The geometry.
        nme_by_light: Our landmark error in the dark, middle and bright third of the test frames.
        gates: Conditions without which nothing is claimed, by name.
        findings: The claim itself, condition by condition.
        timing: Seconds.
        winners: The camera of pairs, if that was designed.
        tolerances: The camera of pairs off its design, if that was judged.
        history_names: Columns of the array ``history`` of the report.
        photographs: The photographs, where there are any.
    """

    identities: dict[str, int]
    validation_nme: Number
    knowledge: dict[str, str]
    baselines: dict[str, CameraResult]
    best_baseline: str | None
    oracle: FloorResult
    curves: tuple[CurvePoint, ...]
    config: dict[str, Any]
    data: dict[str, str | Source]
    gap_closed: Gaps | None = None
    gap_closed_pooled: Gaps | None = None
    learning_curve: tuple[LearningPoint, ...] = ()
    exposures: tuple[ExposurePoint, ...] = ()
    ablations: dict[str, AblationResult]
    throughput: float
    noise: Noise
    camera: CameraFacts
    nme_by_light: dict[str, Number]
    gates: dict[str, GateResult]
    findings: dict[str, GateResult]
    timing: Timing
    winners: WinnersFacts | None = None
    tolerances: tuple[ToleranceRow, ...] = ()
    history_names: tuple[str, ...] = ()
    photographs: PhotoData | None = None

    @property
    def people(self) -> int:
        """People of the test."""
        return self.identities["test"]


class EvaluateMaskSummary(Summary):
    """Result of ``optishield evaluate-mask``.

    Attributes:
        exploratory: Whether there are too few people for a claim.
        trained_run: Name of the run that designed the camera.
        identities: People of the test.
        data: The photographs.
        left_out: Photographs that could not be used, with the reason.
    """

    exploratory: bool
    trained_run: Name
    identities: int
    data: PhotoData
    left_out: tuple[Name, ...] = ()

    @property
    def people(self) -> int:
        """People of the test."""
        return self.identities
