"""The stages of an evaluation: each runs the jobs of one kind and collects the records that they return.

Results of jobs are kept in a store under the name of everything that they depend on, so a run that was stopped at any
moment goes on where it was and ends with the same table. The order matters for one thing only: thresholds of the
recognisers are frozen before anything is protected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evaluation.config import EvaluateConfig, controls
from evaluation.errors import EvaluationError
from evaluation.matrix import jobs, score
from evaluation.matrix.jobs import Outcome, Site, guarded
from evaluation.measures.threshold import manifest_hash
from evaluation.people import PARTS
from evaluation.records import (
    Attacked,
    CertificateFacts,
    CleanKeys,
    Embedded,
    FrozenThreshold,
    Inapplicable,
    Method,
    Missing,
    NotApplicable,
    ProtectedSet,
    RecogniserFacts,
    Scored,
    Triple,
    from_json,
    to_json,
)
from evaluation.verdicts import certificates
from ground.pool import Engine
from ground.protocols import Progress, RunStore

Value = TypeVar("Value")

#: Stages with jobs, in their order; one that has nothing to do is left out.
STAGES = (
    "clean",
    "thresholds",
    "clean, test",
    "clean figures",
    "protectors",
    "protect",
    "quality",
    "latency",
    "attack",
    "score",
    "equal noise",
    "victims, clean",
    "victims",
    "victims, equal noise",
    "impersonation",
    "similarity",
    "certificates",
)


@dataclass
class Stages:
    """What the stages share.

    Attributes:
        site: Where everything of the run lies.
        run: Run folder.
        engine: Where jobs run.
        progress: Display.
        missing: Jobs that failed so far.
        inapplicable: Attacks that could not be tried, so far.
    """

    site: Site
    run: RunStore
    engine: Engine
    progress: Progress
    missing: list[Missing] = field(default_factory=list)
    inapplicable: list[Inapplicable] = field(default_factory=list)

    @property
    def config(self) -> EvaluateConfig:
        """Configuration of the run."""
        return self.site.config

    def jobs(
        self, stage: str, function: Callable[..., Value], arguments: Sequence[tuple[Any, ...]], names: Sequence[str]
    ) -> Iterable[tuple[int, Value]]:
        """Yield (position, value) of the jobs that did not fail; the others are written down as missing.

        Args:
            stage: One of :data:`STAGES`.
            function: Importable by other processes; takes the site and what follows.
            arguments: Arguments of each job.
            names: Name of each job, for the display and for the list of what is missing.
        """
        if not arguments:
            return
        failed: dict[int, str] = {}
        waiting = dict(enumerate(names))
        title = f"{STAGES.index(stage) + 1}/{len(STAGES)} {stage}"
        # Jobs of one stage take from milliseconds to hours, so their number says nothing about the time left.
        with self.progress.stage(title, len(arguments), even=False) as shown:
            shown.note(self._at_work(waiting))
            calls = [(function, self.site, *given) for given in arguments]
            for index, done, _ in self.engine(guarded, calls):
                outcome: Outcome[Value] = done
                del waiting[index]
                shown.advance()
                shown.note(self._at_work(waiting))
                if outcome.reason:
                    failed[index] = outcome.reason
                else:
                    yield index, outcome.value  # type: ignore[misc]  # no reason, so there is a value
        self.missing += [Missing(stage, names[index], failed[index]) for index in sorted(failed)]

    def _at_work(self, waiting: Mapping[int, str]) -> str:
        """Names of the jobs that the workers are doing: they take them in their order."""
        return "; ".join(list(waiting.values())[: self.config.workers])

    def each(
        self, stage: str, function: Callable[..., Value], arguments: Sequence[tuple[Any, ...]]
    ) -> dict[str, Value]:
        """Values of jobs of one protector each, by its name."""
        names = [str(given[0]) for given in arguments]
        return {names[index]: value for index, value in self.jobs(stage, function, arguments, names)}


def recognisers(state: Stages) -> dict[str, RecogniserFacts]:
    """Recognisers with thresholds that are frozen before anything is protected, and their figures on clean photos."""
    frozen = _thresholds(state)
    names = list(frozen)
    shown = dict(state.jobs("clean, test", jobs.strength, [(name, "test") for name in names], names))
    keys = {names[index]: CleanKeys(frozen[names[index]][0].key, found.key) for index, found in sorted(shown.items())}
    arguments = [(keys[name], frozen[name][1]) for name in keys]
    clean = dict(state.jobs("clean figures", score.clean_figures, arguments, list(keys)))
    found = {}
    for index, name in enumerate(keys):
        if index in clean:
            embedded, thresholds = frozen[name]
            found[name] = RecogniserFacts(
                family=embedded.family,
                weights_sha256=embedded.weights_sha256,
                reserved=embedded.reserved,
                differentiable=embedded.differentiable,
                thresholds=thresholds,
                keys=keys[name],
                clean=clean[index],
            )
    return found


Frozen = dict[str, tuple[Embedded, tuple[FrozenThreshold, ...]]]


def _thresholds(state: Stages) -> Frozen:
    """Recognisers and their thresholds, from the run folder if they were frozen before."""
    done = state.run.stage_done("thresholds")
    if done is None:
        found = _freeze(state)
        if not found:
            reasons = "; ".join(f"{entry.what}: {entry.reason}" for entry in state.missing)
            raise EvaluationError(f"no recogniser could be used ({reasons}); name others, or fetch their weights.")
        kept = {
            name: {"embedded": to_json(embedded), "thresholds": [to_json(one) for one in thresholds]}
            for name, (embedded, thresholds) in found.items()
        }
        state.run.mark_stage("thresholds", {"recognisers": kept, "missing": [to_json(one) for one in state.missing]})
        return found
    where = "the stage thresholds"
    state.missing += [from_json(Missing, one, where) for one in done["missing"]]
    return {
        name: (
            from_json(Embedded, one.get("embedded"), where),
            tuple(from_json(FrozenThreshold, value, where) for value in one["thresholds"]),
        )
        for name, one in done["recognisers"].items()
    }


def _freeze(state: Stages) -> Frozen:
    site, wanted = state.site, state.config.recognisers
    found = dict(state.jobs("clean", jobs.strength, [(name, "calibration") for name in wanted], wanted))
    places = sorted(found)
    arguments = []
    for place in places:
        weights = found[place].weights_sha256
        manifest: dict[str, object] = {"faces": site.faces_hash, "recogniser": wanted[place], "weights": weights}
        arguments.append((found[place].key, manifest_hash(manifest)))
    frozen = dict(state.jobs("thresholds", score.calibrate, arguments, [wanted[place] for place in places]))
    return {wanted[place]: (found[place], frozen[at]) for at, place in enumerate(places) if at in frozen}


def declarations(state: Stages) -> dict[str, Method]:
    """What each protector declares, the controls first; these are run whether named or not."""
    config = state.config
    added = [name for name in controls(config.people.size_px) if name not in config.protectors]
    names = [*added, *config.protectors]
    found = dict(state.jobs("protectors", jobs.describe, [(name,) for name in names], names))
    return {names[index]: found[index] for index in sorted(found)}


Protection = dict[tuple[str, str, int], ProtectedSet]


def protect(state: Stages, protectors: Mapping[str, Method]) -> Protection:
    """Protected photographs by protector, part and number of frames."""
    config = state.config
    frames = {state.site.make_attacker(name, config.tier).frames for name in _known_attackers(state)}
    wanted = [
        (name, part, count)
        for part in ("train", "test", "calibration", "validation")
        for name, said in protectors.items()
        for count in sorted({1} | (set() if said.deterministic else frames))
    ]
    names = [f"{name}, {part}" + (f", {count} frames" if count > 1 else "") for name, part, count in wanted]
    return {wanted[index]: facts for index, facts in state.jobs("protect", jobs.protect, wanted, names)}


def _known_attackers(state: Stages) -> list[str]:
    """Attackers that can be made at all."""
    known = []
    for name in state.config.attackers:
        outcome = guarded(state.site.make_attacker, name, state.config.tier)
        if outcome.reason:
            entry = Missing("attack", name, outcome.reason)
            if entry not in state.missing:
                state.missing.append(entry)
        else:
            known.append(name)
    return known


def attack(
    state: Stages,
    protectors: Mapping[str, Method],
    protected: Protection,
    recognisers: Mapping[str, RecogniserFacts],
) -> dict[Triple, Attacked]:
    """Every attacker on every protector through every recogniser, where it can be tried."""
    wanted: list[Triple] = []
    arguments = []
    for attacker in _known_attackers(state):
        frames = state.site.make_attacker(attacker, state.config.tier).frames
        for protector, said in protectors.items():
            if frames > 1 and said.deterministic:
                reason = "the protector gives the same picture each time, so an average of frames adds nothing"
                state.inapplicable.append(Inapplicable(protector, attacker, reason))
                continue
            parts = {part: protected.get((protector, part, frames)) for part in PARTS}
            if any(value is None for value in parts.values()):
                continue  # the missing protected set is written down already
            for recogniser in recognisers:
                wanted.append(Triple(protector, attacker, recogniser))
                arguments.append((*wanted[-1], {part: value.key for part, value in parts.items() if value}))
    found = dict(state.jobs("attack", jobs.attack, arguments, [triple.name for triple in wanted]))
    attacked = {}
    for index in sorted(found):
        triple, outcome = wanted[index], found[index]
        if isinstance(outcome, NotApplicable):
            entry = Inapplicable(triple.protector, triple.attacker, outcome.reason)
            if entry not in state.inapplicable:
                state.inapplicable.append(entry)
        else:
            attacked[triple] = outcome
    return attacked


def rate(
    state: Stages, attacked: Mapping[Triple, Attacked], recognisers: Mapping[str, RecogniserFacts]
) -> dict[Triple, Scored]:
    """Rows and curves of every attack."""
    wanted = sorted(attacked)
    arguments = [
        (triple, attacked[triple], recognisers[triple.recogniser].keys, recognisers[triple.recogniser].thresholds)
        for triple in wanted
    ]
    found = dict(state.jobs("score", score.score, arguments, [triple.name for triple in wanted]))
    return {wanted[index]: found[index] for index in sorted(found)}


def certify(
    state: Stages, protectors: Sequence[str], scored: Mapping[Triple, Scored], identities: int
) -> dict[str, CertificateFacts]:
    """Certificates by protector, for as many frames as an attacker averaged."""
    arguments = []
    for name in protectors:
        frames = [one.frames for triple, one in scored.items() if triple.protector == name]
        arguments.append((name, identities, max(frames, default=1)))
    found = state.each("certificates", certificates.certify, arguments)
    return {name: value for name, value in found.items() if value is not None}
