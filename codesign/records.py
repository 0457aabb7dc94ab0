"""What a run of the main job found, as frozen records: figures with their intervals, cameras, gates, and the summary.

A record is written by :meth:`Record.to_json` and read by :meth:`Record.from_json`; nowhere else does a result travel as
a dictionary. ``summary.json`` is one of these records; ``summary.schema.json`` beside it describes every key. No
torch is imported here, so that whoever reads a run does not load it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from codesign.errors import CodesignError
from ground.text import encodable


def _defined(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


Number = Annotated[float | None, BeforeValidator(_defined)]
"""A figure; None where it is not defined. NaN is read as None."""
Limits = tuple[Number, Number]
"""A 95 % interval over people, lower limit first; (None, None) where it is not defined."""
Name = Annotated[str, BeforeValidator(lambda value: encodable(value) if isinstance(value, str) else value)]
"""The name of a file or folder; bytes of it that are no UTF-8 are written as escapes."""
NO_LIMITS: Limits = (None, None)


class Record(BaseModel):
    """A frozen result with one way to JSON and back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; numbers that are not defined become null."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Args:
            value: The content of the JSON file.
            where: What it is called in errors, for example the path of the file.

        Raises:
            CodesignError: A key is missing, unknown, or holds something else than it should; the first one is named.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CodesignError(
                f"{where} is no {cls.__name__} of this version ({key}: {first['msg']}); run the command again."
            ) from error


class AttackerResult(Record):
    """What one attacker got from one camera.

    Attributes:
        rank1: Share of probes that are named correctly among the enrolled people.
        rank1_ci95: Its interval.
        auc: Area under the ROC curve of same and different people.
        auc_ci95: Its interval.
        target_fmr: False match rate that the threshold was frozen for, on other people; None where none was frozen. In
            JSON it is part of the next two keys: ``tar_at_fmr_0.01`` and ``tar_at_fmr_0.01_ci95``.
        tar: Share of genuine comparisons accepted at that threshold.
        tar_ci95: Its interval.
        fmr: Share of impostor comparisons accepted at that threshold on the test people.
        threshold: The threshold, a cosine.
        people: People of the test.
    """

    rank1: Number
    rank1_ci95: Limits = NO_LIMITS
    auc: Number
    auc_ci95: Limits = NO_LIMITS
    target_fmr: float | None = None
    tar: Number = None
    tar_ci95: Limits = NO_LIMITS
    fmr: Number = None
    threshold: Number = None
    people: int | None = None

    @property
    def order(self) -> tuple[float, float]:
        """For finding the strongest attacker: rank-1 first, AUC where they agree."""
        return (_or_least(self.rank1), _or_least(self.auc))

    @model_validator(mode="before")
    @classmethod
    def _read_rate(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        plain = dict(value)
        for key in [key for key in plain if key.startswith("tar_at_fmr_")]:
            rate, limits = key.removeprefix("tar_at_fmr_").partition("_ci95")[:2]
            plain["tar_ci95" if limits else "tar"] = plain.pop(key)
            plain["target_fmr"] = float(rate)
        return plain

    @model_serializer(mode="wrap")
    def _write_rate(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        rate, tar, limits = (found.pop(key, None) for key in ("target_fmr", "tar", "tar_ci95"))
        if rate is None:
            return {key: item for key, item in found.items() if key not in ("fmr", "threshold") or item is not None}
        named = {f"tar_at_fmr_{rate:g}": tar, f"tar_at_fmr_{rate:g}_ci95": limits}
        head = {key: found.pop(key) for key in ("rank1", "rank1_ci95", "auc", "auc_ci95")}
        return {**head, **named, **found}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # In JSON the rate is part of the keys.
        schema = handler.resolve_ref_schema(handler(core_schema))
        fields = schema["properties"]
        del fields["target_fmr"]
        rate, limits = fields.pop("tar"), fields.pop("tar_ci95")
        schema["patternProperties"] = {r"^tar_at_fmr_[0-9.e-]+$": rate, r"^tar_at_fmr_[0-9.e-]+_ci95$": limits}
        return schema


class FloorResult(AttackerResult):
    """What landmarks alone give away when they are known with an error.

    Attributes:
        nme: That error, normalised by the distance of the outer eye corners.
    """

    nme: Number


class CurvePoint(FloorResult):
    """One measured point of a camera on the privacy-utility plane.

    Attributes:
        camera: Key of the camera; "oracle" is landmarks alone.
    """

    camera: str


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
    """

    lacks: str
    rank1: Difference
    gap_closed: Gaps


class GateResult(Record):
    """Whether a condition holds, and why."""

    passed: bool
    reason: str


class Noise(Record):
    """The sensor in electrons, and the relative noise of one exposure."""

    electrons_at_white: float
    full_well_e: float
    read_noise_e: float
    bits: int
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
        sources: The weights of the two; the points of the first are the ones that errors are measured against.
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
        people: People of each part.
        known: People left out because the run had trained or set thresholds on them.
    """

    photographs: int
    enrolled: int
    left_out: int
    images_sha256: str
    agreement: LandmarkAgreement | None = None
    framing: FramingResult | None = None
    people: dict[str, int] = {}
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
        ablations: By key of the camera that lacks the part.
        throughput: Share of the light that falls into the window.
        noise: The sensor.
        camera: The geometry.
        nme_by_light: Our landmark error in the dark, middle and bright third of the test frames.
        gates: Conditions without which nothing is claimed, by name.
        findings: The claim itself, condition by condition.
        timing: Seconds.
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
    ablations: dict[str, AblationResult]
    throughput: float
    noise: Noise
    camera: CameraFacts
    nme_by_light: dict[str, Number]
    gates: dict[str, GateResult]
    findings: dict[str, GateResult]
    timing: Timing
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


def _or_least(value: float | None) -> float:
    return -math.inf if value is None else value
