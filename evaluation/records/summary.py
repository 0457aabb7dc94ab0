"""The summary of a run: everything that the report shows and that ``summary.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.config import Preset, Tier
from evaluation.records.basics import STRICT, Gates, from_json, json_schema, to_json
from evaluation.records.jobs import CertificateFacts, Method, RecogniserFacts
from evaluation.records.judged import Claim, Comparison, Headline, ImpersonationRow, Ordering, PoisonRow
from evaluation.records.measured import Curves, FrozenThreshold, LeakagePoint, Row
from faces.protection import Threat


@dataclass(frozen=True)
class Missing:
    """A job that failed.

    Attributes:
        stage: Stage of the run.
        what: Which job.
        reason: What it failed with.
    """

    __pydantic_config__ = STRICT

    stage: str
    what: str
    reason: str


@dataclass(frozen=True)
class Inapplicable:
    """An attack that cannot be tried; it is not one that failed.

    Attributes:
        protector: Name with settings.
        attacker: Name.
        reason: Why.
    """

    __pydantic_config__ = STRICT

    protector: str
    attacker: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What protection or one attack took, on the machine that did it; None where it does not apply.

    Attributes:
        kind: Which of the two.
        protector: Name with settings.
        attacker: Name, of an attack.
        recogniser: Name, of an attack.
        seconds_per_image: Protection of one photograph in a batch.
        fit_s: Preparation of the protector, or training of the attacker with its thresholds.
        embed_s: Looking at the test, of an attack.
        peak_growth_bytes: Growth of the resident memory.
        latency_p95_s: What 95 % of single photographs stay within.
        images_per_s: Photographs a second in large batches.
    """

    __pydantic_config__ = STRICT

    kind: Literal["protect", "attack"]
    protector: str
    attacker: str | None = None
    recogniser: str | None = None
    seconds_per_image: float | None = None
    fit_s: float
    embed_s: float | None = None
    peak_growth_bytes: int | None = None
    latency_p95_s: float | None = None
    images_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class SurveyRow:
    """A row of tables I and II of the survey, as measurements; None where nothing was measured.

    Attributes:
        protector: Name with settings.
        source: Publication.
        threats: What it claims to prevent.
        auxiliary_data: Data that it needs.
        stores: What it keeps of a person.
        open_set: Lower limit of PSR_net by the recogniser as published on people whom neither protector nor recogniser
            has seen (evasion; the least over recognisers).
        latency_p95_s: What 95 % of single photographs stay within.
        real_time: Whether that is at most a frame at 25 fps.
        scalability_images_per_s: Photographs a second.
        hardware: Whether it is optics.
        target_asr: Share of probes that pass for its target (the least over recognisers).
        person_specific: PSR_net with one preparation for each person, on other photographs of them.
        leakage: PSR_net over the share of clean photographs in a protected gallery.
        api: Commercial services.
    """

    __pydantic_config__ = STRICT

    protector: str
    source: str
    threats: tuple[Threat, ...]
    auxiliary_data: str
    stores: str
    open_set: float | None
    latency_p95_s: float | None
    real_time: bool | None
    scalability_images_per_s: float | None
    hardware: bool
    target_asr: float | None
    person_specific: float | None
    leakage: tuple[LeakagePoint, ...] | None
    api: str | None


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """What is written down of the faces of one part; see :func:`faces.splits.split_manifest`.

    Attributes:
        source: Where they come from.
        licence: Under which terms.
        images: Number of photographs.
        identities: Numbers of the people.
        content_sha256: Hash of everything.
        images_sha256: Hash of the photographs, whatever their order.
    """

    __pydantic_config__ = STRICT

    source: str
    licence: str
    images: int
    identities: tuple[int, ...]
    content_sha256: str
    images_sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Hashes of what the result depends on.

    Attributes:
        code_sha256: Hash of the program.
        faces: The parts of the split.
        faces_hash: Hash of that.
        thresholds: Frozen thresholds by recogniser.
        weights: Hash of the weights by recogniser.
    """

    __pydantic_config__ = STRICT

    code_sha256: str
    faces: Mapping[str, PartFacts]
    faces_hash: str
    thresholds: Mapping[str, tuple[FrozenThreshold, ...]]
    weights: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of ``optishield evaluate``.

    Attributes:
        run: Name of the run folder.
        mode: Whether synthetic heads or photographs were judged on.
        tier: How much was covered.
        preset: Experiment of the survey that was repeated, if any.
        seed: Seed of all random numbers.
        identities: Tested people.
        facts: Sentences that hold of every run that came this far.
        own_claims: What each protector claims of itself.
        poison: What victims learnt.
        impersonation: How often probes pass for a target.
        orderings: Orderings of the survey, under a preset.
        rows: The result table.
        gates: Validity gates by name.
        certificates: Certificates by protector.
        headline: What is said of each protector.
        comparisons: Protectors against each other.
        missing: Jobs that failed.
        inapplicable: Attacks that could not be tried.
        exploratory: Why no claim can rest on these people, or "".
        deviations: In what the run differs from the published experiment.
        tables: Tables I and II of the survey.
        curves: Leakage and template curves, and the file of the others.
        cost: What everything took.
        protectors: What each protector declares.
        recognisers: Who judged.
        left_out: Photographs that could not be used, with the reason.
        not_measured: Reasons for columns of quality that are empty, by protector.
        manifest: Hashes of what the result depends on.
    """

    __pydantic_config__ = STRICT

    run: str
    mode: Literal["synthetic", "photos"]
    tier: Tier
    preset: Preset | None
    seed: int
    identities: int
    facts: tuple[str, ...]
    own_claims: tuple[Claim, ...]
    poison: tuple[PoisonRow, ...]
    impersonation: tuple[ImpersonationRow, ...]
    orderings: tuple[Ordering, ...]
    rows: tuple[Row, ...]
    gates: Gates
    certificates: Mapping[str, CertificateFacts]
    headline: Mapping[str, Headline]
    comparisons: tuple[Comparison, ...]
    missing: tuple[Missing, ...]
    inapplicable: tuple[Inapplicable, ...]
    exploratory: str
    deviations: tuple[str, ...]
    tables: tuple[SurveyRow, ...]
    curves: Curves
    cost: tuple[CostRow, ...]
    protectors: Mapping[str, Method]
    recognisers: Mapping[str, RecogniserFacts]
    left_out: tuple[str, ...]
    not_measured: Mapping[str, Mapping[str, str]]
    manifest: Manifest

    def to_json(self) -> dict[str, Any]:
        """Plain values as ``summary.json`` holds them."""
        return to_json(self)

    @classmethod
    def from_json(cls, value: object, where: str = "summary.json") -> Summary:
        """The summary that :meth:`to_json` wrote down.

        Raises:
            EvaluationError: A key is missing, unknown, or holds something else; the first one is named.
        """
        return from_json(cls, value, where)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """JSON schema of ``summary.json``."""
        return json_schema(Summary)
