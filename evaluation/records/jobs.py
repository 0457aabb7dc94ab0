"""What the jobs of the matrix hand on to each other: declarations, recognisers, keys in the store, scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from evaluation.labels import Combination, Level
from evaluation.measures.metrics import Floats
from evaluation.records.basics import STRICT
from evaluation.records.measured import (
    CleanFigures,
    FrozenThreshold,
    LeakagePoint,
    Quality,
    ScoredRow,
    TemplatePoint,
    Triple,
)
from faces.protection import Declaration, Threat


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a protector declares; see :class:`faces.protection.Declaration`.

    Attributes:
        name: Short name.
        title: A few words for people.
        source: Publication, or "control" or "own".
        threats: What it claims to prevent.
        auxiliary_data: Data that it needs beside the photo.
        stores: What it keeps of a person.
        deterministic: The same photo gives the same result.
        differentiable: Gradients pass.
        person_specific: It must see a person first.
        control: It is a control of the evaluation.
        presets: Names of its sets of hyper-parameters.
        additive: It adds a small pattern.
        batch_dependent: A result depends on the other photos of the batch.
        settings: Every setting that changes the result.
        surrogates: Recognisers that it uses.
        blur: Whether it is optics that an attacker may know.
        target: Whether there are people whom protected photos should resemble.
    """

    __pydantic_config__ = STRICT

    name: str
    title: str
    source: str
    threats: tuple[Threat, ...]
    auxiliary_data: str
    stores: str
    deterministic: bool
    differentiable: bool
    person_specific: bool
    control: bool
    presets: tuple[str, ...]
    additive: bool
    batch_dependent: bool
    settings: Mapping[str, str]
    surrogates: tuple[str, ...]
    blur: bool
    target: bool

    @classmethod
    def of(cls, said: Declaration, *, blur: bool, target: bool) -> Method:
        """What is kept of a declaration: all that is judged by or shown, and not every word of it."""
        kept = {one.name: getattr(said, one.name) for one in fields(cls) if one.name not in ("blur", "target")}
        kept |= {"threats": tuple(sorted(said.threats)), "settings": dict(said.settings)}
        return cls(**kept, blur=blur, target=target)


@dataclass(frozen=True)
class CleanKeys:
    """Where the clean embeddings of a recogniser as published lie in the store.

    Attributes:
        calibration: Key of those of the calibration people.
        test: Key of those of the tested people.
    """

    __pydantic_config__ = STRICT

    calibration: str
    test: str


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A recogniser and where its clean embeddings of one part lie.

    Attributes:
        key: Name in the store.
        family: Family of recognisers that it belongs to.
        weights_sha256: Hash of its weights.
        reserved: Whether no protector may be made with it.
        differentiable: Whether gradients pass.
    """

    __pydantic_config__ = STRICT

    key: str
    family: str
    weights_sha256: str
    reserved: bool
    differentiable: bool


@dataclass(frozen=True, kw_only=True)
class RecogniserFacts:
    """A recogniser that judges.

    Attributes:
        family: Family of recognisers that it belongs to.
        weights_sha256: Hash of its weights.
        reserved: Whether no protector may be made with it.
        differentiable: Whether gradients pass.
        thresholds: Frozen on clean calibration people, the primary one first.
        keys: Where its clean embeddings lie.
        clean: How well it does on clean photographs of the tested people.
    """

    __pydantic_config__ = STRICT

    family: str
    weights_sha256: str
    reserved: bool
    differentiable: bool
    thresholds: tuple[FrozenThreshold, ...]
    keys: CleanKeys
    clean: CleanFigures


@dataclass(frozen=True)
class ProtectedSet:
    """Protected photographs of one part.

    Attributes:
        key: Name of the pictures in the store.
        seconds: What protection took, one frame.
        fit_seconds: What preparation took.
        images: Photographs.
        left: How many of them the protector could not protect, in any frame; they stand in the set as they were.
        peak_growth_bytes: Growth of the resident memory; None where it cannot be told.
    """

    key: str
    seconds: float
    fit_seconds: float
    images: int
    left: int
    peak_growth_bytes: int | None


@dataclass(frozen=True)
class Latency:
    """How long a warm protector takes.

    Attributes:
        single_s: Seconds of single photographs.
        batch_s: Seconds of a batch, by its size.
    """

    single_s: tuple[float, ...]
    batch_s: Mapping[int, float]


@dataclass(frozen=True)
class AttackSeconds:
    """What an attack took, in seconds.

    Attributes:
        fit: Training.
        calibrate: Setting its own thresholds.
        embed: Looking at the test.
    """

    fit: float
    calibrate: float
    embed: float


@dataclass(frozen=True)
class Attacked:
    """What one attack left behind.

    Attributes:
        level: What the attacker knows.
        frames: Captures that it averages.
        key: Name of the test embeddings in the store.
        thresholds: Its own, by combination.
        seconds: What it took.
    """

    level: Level
    frames: int
    key: str
    thresholds: Mapping[Combination, tuple[FrozenThreshold, ...]]
    seconds: AttackSeconds


@dataclass(frozen=True)
class NotApplicable:
    """Why an attack cannot be tried at all; it is not one that failed."""

    reason: str


@dataclass(frozen=True)
class EqualNoise:
    """Random noise as large as the change that a protector makes.

    Attributes:
        spec: The protector of noise, with its settings.
        key: Name of the photographs of the test with it.
        l2: Mean Euclidean norm of the change of a photo, values 0..1.
        people: Protection of each person by recogniser, in rising order of identity.
        psr_net: Protection by recogniser; None where fewer than two people match clean.
    """

    spec: str
    key: str
    l2: float
    people: Mapping[str, Floats]
    psr_net: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """Whether probes pass for a target, through one recogniser as published, for each probe in turn.

    Attributes:
        identity: Person of each probe.
        clean: Whether it passes without protection, at the primary false match rate.
        protected: The same with protection.
        noise: The same with random noise of equal size; None where there is none.
        at: Share of protected probes that pass, by false match rate.
        first: Whether a target is the best of all, the tested people's own clean templates included.
        people: Number of targets.
    """

    identity: tuple[int, ...]
    clean: tuple[bool, ...]
    protected: tuple[bool, ...]
    noise: tuple[bool, ...] | None
    at: Mapping[str, float]
    first: tuple[bool, ...]
    people: int


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Rows and curves of one attack.

    Attributes:
        rows: One for each combination.
        det: DET curve (3, K) with the limits of its band, by combination.
        people: Protection of each person (G,), by combination.
        identities: The people, in rising order.
        leakage: Points of the leakage curve.
        templates: Points of the template curve.
    """

    rows: tuple[ScoredRow, ...]
    det: Mapping[Combination, Floats]
    people: Mapping[Combination, Floats]
    identities: tuple[int, ...]
    leakage: tuple[LeakagePoint, ...]
    templates: tuple[TemplatePoint, ...]

    @property
    def level(self) -> Level:
        """What the attacker knows."""
        return self.rows[0].level

    @property
    def frames(self) -> int:
        """Captures that the attacker averages."""
        return self.rows[0].frames


@dataclass(frozen=True, kw_only=True)
class CertificateFacts:
    """A certificate as it is written down; see :class:`evaluation.limits.information.Certificate`.

    Attributes:
        tier: How far it holds.
        max_success: The highest rate of naming the right person.
        people: People to choose among.
        frames: Frames of the person that the attacker sees.
        noise: What noise it rests on.
        assumptions: What must be true for it to hold.
        bits: Information in all frames; of model-based ones alone.
        delta: Largest distance of two scenes in units of the noise; of certified ones alone.
        vacuous: Whether it allows so much that it says nothing.
    """

    __pydantic_config__ = STRICT

    tier: str
    max_success: float
    people: int
    frames: int
    noise: str
    assumptions: str
    bits: float | None
    delta: float | None
    vacuous: bool


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that verdicts rest on.

    Attributes:
        protectors: What each protector declares, by its name with settings.
        recognisers: Who judges, with their clean figures.
        scored: Every attack.
        equal_noise: Noise of equal size, of every protector that changes pixels.
        certified: The most that an attack may reach and the frames that it may average, by protector.
        qualities: Quality of the pictures, by protector.
        controls: The built-in controls with their settings (:func:`evaluation.config.controls`), by which gates are
            decided; a user's own settings of the same protectors do not count.
        exploratory: Why no claim can rest on these people, or "".
        seed: Seed of permutation tests.
    """

    protectors: Mapping[str, Method]
    recognisers: Mapping[str, RecogniserFacts]
    scored: Mapping[Triple, Scored]
    equal_noise: Mapping[str, EqualNoise]
    certified: Mapping[str, CertificateFacts]
    qualities: Mapping[str, Quality]
    controls: tuple[str, ...]
    exploratory: str
    seed: int


def base_name(protector: str) -> str:
    """Name of a protector without its settings."""
    return protector.partition(":")[0]
