"""``optishield evaluate``: faces, thresholds, protected photographs, attackers, figures, and what may be claimed."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from evaluation import people, stages
from evaluation.config import EvaluateConfig, controls
from evaluation.errors import EvaluationError
from evaluation.matrix import impersonation, jobs, noise, poison, quality, victims
from evaluation.matrix.jobs import LoadRecogniser, MakeAttacker, MakeProtector, Site
from evaluation.matrix.results import curves_tensors, parquet
from evaluation.matrix.source import project
from evaluation.measures.threshold import manifest_hash
from evaluation.people import PARTS
from evaluation.records import (
    Attacked,
    CostRow,
    Curves,
    EqualNoise,
    Evidence,
    Imitation,
    Latency,
    Manifest,
    PartFacts,
    PoisonRow,
    Quality,
    Row,
    Summary,
    Triple,
    from_json,
)
from evaluation.records.basics import STRICT
from evaluation.stages import STAGES, Protection, Stages
from evaluation.verdicts import claims, orderings, presets, tables
from evaluation.verdicts import rows as verdicts
from faces.files import cache_folder
from faces.protection import Threat
from ground.devices import stay_on
from ground.gates import Gate
from ground.pool import open_engine
from ground.protocols import Progress, RunStore


@dataclass(frozen=True, kw_only=True)
class Faces:
    """What is known of the people of a run.

    Attributes:
        manifest: The parts of the split.
        hash: Hash of the manifest.
        exploratory: Why no claim can rest on these people, or "".
        left_out: Photographs that could not be used, with the reason.
        identities: Tested people.
    """

    __pydantic_config__ = STRICT

    manifest: Mapping[str, PartFacts]
    hash: str
    exploratory: str
    left_out: tuple[str, ...]
    identities: int


def evaluate(
    config: EvaluateConfig,
    run: RunStore,
    *,
    make_protector: MakeProtector,
    resume: bool,
    progress: Progress,
    make_attacker: MakeAttacker | None = None,
    load_recogniser: LoadRecogniser | None = None,
    device: str = "cpu",
) -> Summary:
    """Judge protectors by attackers and recognisers.

    The run folder then also holds ``rows.parquet`` (without timings, so that it does not depend on where it was made),
    ``cost.parquet`` and ``curves.safetensors``.

    Args:
        config: Everything that decides the result.
        run: The run folder.
        make_protector: Function of a name (with settings, if the registry knows any) that gives a protector; importable
            by other processes.
        resume: Whether the folder was opened to go on (a fresh folder has no finished stages, so nothing changes).
        progress: Display.
        make_attacker: Function of name and tier that gives an attacker, importable; default: those of
            ``evaluation.image_attackers``.
        load_recogniser: Function of a name that gives a recogniser, importable; default: those of ``faces.families``.
        device: Where protectors, attackers and recognisers work; figures of another kind of device differ by rounding,
            and a run stays on the kind it was begun on. Utility, picture quality, poison and impersonation are measured
            on the CPU.

    Returns:
        The summary.

    Raises:
        EvaluationError, FacesError, GroundError: With what to change.
    """
    if run.stage_done("summary") is None:
        if resume:
            progress.note(f"going on in {run.path}")
        if importlib.util.find_spec("pyarrow") is None:
            raise EvaluationError("the result tables need pyarrow; run: pip install 'optishield[evaluate]'")
        progress.note(f"{len(STAGES)} stages after the faces; protect and attack take most of the time")
        if make_attacker is None:
            from evaluation.image_attackers import make_attacker as attackers

            make_attacker = attackers
        if load_recogniser is None:
            from faces.families import load_recogniser as known

            load_recogniser = known
        stay_on(run, torch.device(device).type)
        faces = _faces(config, run, progress)
        # Photographs, and what became of them, never leave the run folder, and that not for longer than the run.
        private = config.faces != "synthetic"
        cache = run.path / "work" / "store" if private else cache_folder("evaluation")
        site = Site(run.path, cache, config, faces.hash, make_protector, make_attacker, load_recogniser, device)
        with open_engine(config.engine, config.workers, config.dask_scheduler) as engine:
            summary = _judge(Stages(site, run, engine, progress), faces)
        run.mark_stage("summary", {"summary": summary.to_json()})
        shutil.rmtree(run.path / "work", ignore_errors=True)
    stored = (run.stage_done("summary") or {}).get("summary")
    # A folder may have been renamed since.
    return replace(Summary.from_json(stored, "the finished run"), run=run.path.name)


def _faces(config: EvaluateConfig, run: RunStore, progress: Progress) -> Faces:
    done = run.stage_done("faces")
    if done is None:
        found = people.load_people(config, progress)
        people.store(run, found.parts)
        manifest = people.manifest(found.parts)
        run.mark_stage(
            "faces",
            {
                "manifest": manifest,
                "hash": manifest_hash(dict(manifest)),
                "exploratory": found.exploratory,
                "left_out": list(found.left_out),
                "identities": found.parts["test"].photos.people,
            },
        )
        done = run.stage_done("faces")
    return from_json(Faces, done, "the stage faces")


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What was measured before anything is judged."""

    evidence: Evidence
    protected: Protection
    latencies: Mapping[str, Latency]
    attacked: Mapping[Triple, Attacked]
    learnt: poison.Learnt | None
    imitated: Mapping[str, Mapping[str, Imitation]]
    similar: Mapping[str, list[float]]


def _measure(state: Stages, faces: Faces) -> _Measured:
    config = state.config
    recognisers = stages.recognisers(state)
    protectors = stages.declarations(state)
    protected = stages.protect(state, protectors)
    # A protector of which one part is missing cannot be judged.
    complete = [name for name in protectors if all((name, part, 1) in protected for part in PARTS)]
    kept = {name: protected[name, "test", 1].key for name in complete}
    tested = list(kept.items())
    qualities: dict[str, Quality] = state.each("quality", quality.measure, tested)
    latencies = state.each("latency", jobs.latency, [(name,) for name in complete])
    attacked = stages.attack(state, {name: protectors[name] for name in complete}, protected, recognisers)
    scored = stages.rate(state, attacked, recognisers)
    # Optics put another picture in the place of the photograph: no noise is of their size and leaves anything.
    methods = [
        (name, key, recognisers)
        for name, key in tested
        if not protectors[name].control and Threat.sensor not in protectors[name].threats
    ]
    noises = state.each("equal noise", noise.equal_noise, methods)
    equal_noise = {name: found for name, found in noises.items() if found is not None}
    learnt = victims.train(state.jobs, state.site, protectors, kept, equal_noise, list(recognisers), state.inapplicable)
    aimed = [
        (name, kept[name], _key(equal_noise.get(name)), recognisers) for name in complete if protectors[name].target
    ]
    imitated = state.each("impersonation", impersonation.measure, aimed)
    similar = {} if config.preset is None else state.each("similarity", orderings.similarity, tested)
    evidence = Evidence(
        protectors=protectors,
        recognisers=recognisers,
        scored=scored,
        equal_noise=equal_noise,
        certified=stages.certify(state, complete, scored, faces.identities),
        qualities=qualities,
        controls=controls(config.people.size_px),
        exploratory=faces.exploratory,
        seed=config.seed,
    )
    return _Measured(
        evidence=evidence,
        protected=protected,
        latencies=latencies,
        attacked=attacked,
        learnt=learnt,
        imitated=imitated,
        similar=similar,
    )


def _key(found: EqualNoise | None) -> str | None:
    return None if found is None else found.key


def _judge(state: Stages, faces: Faces) -> Summary:
    config, found = state.config, _measure(state, faces)
    evidence = found.evidence
    judged = verdicts.judge(evidence)
    gates: dict[str, Gate] = dict(judged.gates)

    def unseen(protector: str, recogniser: str) -> bool | None:
        return verdicts.unseen(recogniser, evidence.protectors[protector], evidence.recognisers)

    judging = (faces.exploratory, config.seed)
    poisoned: tuple[PoisonRow, ...] = ()
    if found.learnt is not None:
        idle = [name for name, said in evidence.protectors.items() if said.control]
        poisoned = poison.rows(found.learnt, unseen, idle, *judging)
        gates |= poison.gates(found.learnt)
    impersonated = impersonation.rows(found.imitated, unseen, gates, *judging)
    costs = tables.cost_rows(found.protected, found.latencies, found.attacked)
    _write_tables(state.run, judged.rows, costs, evidence)
    seconds = {row.protector: row.seconds_per_image for row in costs if row.kind == "protect"}
    return Summary(
        run=state.run.path.name,
        mode="synthetic" if config.faces == "synthetic" else "photos",
        tier=config.tier,
        preset=config.preset,
        seed=config.seed,
        identities=faces.identities,
        facts=(_splits(faces), *_left(found.protected)),
        own_claims=claims.own_claims(evidence, judged.rows, poisoned, impersonated, gates, state.inapplicable),
        poison=poisoned,
        impersonation=impersonated,
        orderings=orderings.orderings(config, evidence.scored, poisoned, found.similar),
        rows=tuple(replace(row, seconds_per_image=seconds.get(row.protector)) for row in judged.rows),
        gates=gates,
        certificates=evidence.certified,
        headline=judged.headline,
        comparisons=judged.comparisons,
        missing=tuple(state.missing),
        inapplicable=tuple(state.inapplicable),
        exploratory=faces.exploratory,
        deviations=tuple(presets.deviations(config)),
        tables=tables.survey_tables(evidence, judged.rows, found.latencies, impersonated),
        curves=Curves("curves.safetensors", tables.curves(evidence.scored)),
        cost=costs,
        protectors=evidence.protectors,
        recognisers=evidence.recognisers,
        left_out=faces.left_out,
        not_measured={name: one.not_measured for name, one in evidence.qualities.items() if one.not_measured},
        manifest=Manifest(
            code_sha256=project().hash(__name__),
            faces=faces.manifest,
            faces_hash=faces.hash,
            thresholds={name: facts.thresholds for name, facts in evidence.recognisers.items()},
            weights={name: facts.weights_sha256 for name, facts in evidence.recognisers.items()},
        ),
    )


def _write_tables(run: RunStore, rows: tuple[Row, ...], costs: tuple[CostRow, ...], evidence: Evidence) -> None:
    run.write_bytes("rows.parquet", parquet([row.cells() for row in rows]))
    run.write_bytes("cost.parquet", parquet([vars(row) for row in costs]))
    run.write_tensors("curves.safetensors", curves_tensors(evidence.scored))


def _left(protected: Protection) -> list[str]:
    """A sentence for each protector that could not protect some photographs of the test."""
    return [
        f"{name} could not protect {found.left} of {found.images} photographs of the test people; they are judged as "
        "they were."
        for (name, part, frames), found in protected.items()
        if part == "test" and frames == 1 and found.left
    ]


def _splits(faces: Faces) -> str:
    """What holds of the parts of every run that came this far: parts that overlap end it before."""
    counted = ", ".join(f"{len(part.identities)} {name}" for name, part in faces.manifest.items())
    return f"No person, no picture and no perceptual hash is in two parts ({counted} people)."
