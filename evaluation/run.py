"""``optishield evaluate``: faces, thresholds, protected photographs, attackers, figures, and what may be claimed.

Results of jobs are kept in a store under the name of everything that they depend on, so a run that was stopped at any
moment goes on where it was and ends with the same table. The order matters for one thing only: thresholds of the
recognisers are frozen before anything is protected.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation import people
from evaluation.config import EvaluateConfig, controls
from evaluation.errors import EvaluationError
from evaluation.matrix import impersonation, jobs, noise, poison, quality, score, victims
from evaluation.matrix.jobs import LoadRecogniser, MakeAttacker, MakeProtector, Outcome, Site, guarded
from evaluation.matrix.results import curves_tensors, parquet
from evaluation.matrix.source import project
from evaluation.measures.threshold import manifest_hash
from evaluation.people import PARTS
from evaluation.verdicts import certificates, claims, orderings, presets, tables
from evaluation.verdicts import rows as verdicts
from faces.files import cache_folder
from ground.pool import Engine, open_engine
from ground.protocols import Progress, RunStore


@dataclass
class _Run:
    """What the stages share."""

    site: Site
    run: RunStore
    engine: Engine
    progress: Progress
    missing: list[dict[str, str]] = field(default_factory=list)

    def jobs(
        self, stage: str, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], names: Sequence[str]
    ) -> Iterable[tuple[int, Any]]:
        """Yield (position, value) of the jobs that did not fail; the others are written down as missing."""
        failed: dict[int, str] = {}
        with self.progress.stage(stage, len(arguments)) as shown:
            calls = [(function, self.site, *given) for given in arguments]
            for index, outcome, _ in self.engine(guarded, calls):
                shown.note(names[index])
                shown.advance()
                result: Outcome = outcome
                if result.reason:
                    failed[index] = result.reason
                else:
                    yield index, result.value
        for index in sorted(failed):
            self.missing.append({"stage": stage, "what": names[index], "reason": failed[index]})


def evaluate(
    config: EvaluateConfig,
    run: RunStore,
    *,
    make_protector: MakeProtector,
    resume: bool,
    progress: Progress,
    make_attacker: MakeAttacker | None = None,
    load_recogniser: LoadRecogniser | None = None,
) -> dict[str, Any]:
    """Judge protectors by attackers and recognisers.

    Args:
        config: everything that decides the result.
        run: the run folder.
        make_protector: importable by other processes: name (with settings, if the registry knows any) to protector.
        resume: whether the folder was opened to go on (a fresh folder has no finished stages, so nothing changes).
        progress: display.
        make_attacker: importable: name and tier to attacker; default: those of ``evaluation.image_attackers``.
        load_recogniser: importable: name to recogniser; default: those of ``faces.families``.

    Returns:
        The summary, plain values only. ``own_claims`` first, with ``poison`` and ``impersonation`` behind them, and
        ``orderings`` of the survey where a preset is run; then ``rows``, ``cost``, ``gates``, ``certificates``,
        ``headline``, ``comparisons``, ``missing``, ``not_measured``, ``inapplicable``, ``exploratory``,
        ``deviations``, ``tables``, ``curves``, ``manifest``, ``tier``, ``seed``, ``identities``. The run folder then
        also holds ``rows.parquet`` (without timings, so that it does not depend on where it was made),
        ``cost.parquet`` and ``curves.safetensors``.

    Raises:
        EvaluationError, FacesError: with what to change.
    """
    finished = run.stage_done("summary")
    if finished is not None:
        return dict(finished["summary"])
    if resume:
        progress.note(f"going on in {run.path}")
    if importlib.util.find_spec("pyarrow") is None:
        raise EvaluationError("the result tables need pyarrow; run: pip install 'optishield[evaluate]'")
    if make_attacker is None:
        from evaluation.image_attackers import make_attacker as attackers

        make_attacker = attackers
    if load_recogniser is None:
        from faces.families import load_recogniser as recognisers

        load_recogniser = recognisers
    information = _faces(config, run, progress)
    # Photographs, and what became of them, never leave the run folder, and that not for longer than the run.
    private = config.faces != "synthetic"
    cache = run.path / "work" / "store" if private else cache_folder("evaluation")
    site = Site(run.path, cache, config, information["hash"], make_protector, make_attacker, load_recogniser)
    with open_engine(config.engine, config.workers, config.dask_scheduler) as engine:
        summary = _matrix(_Run(site, run, engine, progress), information)
    run.mark_stage("summary", {"summary": summary})
    shutil.rmtree(run.path / "work", ignore_errors=True)
    return dict((run.stage_done("summary") or {})["summary"])


def _faces(config: EvaluateConfig, run: RunStore, progress: Progress) -> dict[str, Any]:
    done = run.stage_done("faces")
    if done is None:
        found = people.load_people(config, progress)
        people.store(run, found.parts)
        manifest = people.manifest(found.parts)
        run.mark_stage(
            "faces",
            {
                "manifest": manifest, "hash": manifest_hash(dict(manifest)), "exploratory": found.exploratory,
                "left_out": list(found.left_out), "identities": found.parts["test"].photos.people,
            },
        )  # fmt: skip
        done = run.stage_done("faces")
    return done or {}


def _matrix(state: _Run, information: Mapping[str, Any]) -> dict[str, Any]:
    config = state.site.config
    recognisers = _thresholds(state)
    protectors = _declarations(state)
    protected = _protect(state, protectors)
    # A protector of which one part is missing cannot be judged.
    complete = [name for name in protectors if all((name, part, 1) in protected for part in PARTS)]
    tested = [(name, protected[name, "test", 1]["key"]) for name in complete]
    qualities = _each(state, "quality", quality.measure, tested)
    latencies = _each(state, "latency", jobs.latency, [(name,) for name in complete])
    attacked, inapplicable = _attack(state, {name: protectors[name] for name in complete}, protected, recognisers)
    scored = _score(state, attacked, recognisers)
    # Optics put another picture in the place of the photograph: no noise is of their size and leaves anything.
    methods = [
        (*given, recognisers)
        for given in tested
        if not protectors[given[0]]["control"] and "sensor" not in protectors[given[0]]["threats"]
    ]
    equal_noise = {
        name: found for name, found in _each(state, "equal noise", noise.equal_noise, methods).items() if found
    }
    kept = {name: protected[name, "test", 1]["key"] for name in complete}
    learnt = victims.train(state.jobs, state.site, protectors, kept, equal_noise, list(recognisers), inapplicable)
    aimed = [
        (name, kept[name], (equal_noise.get(name) or {}).get("key"), recognisers)
        for name in complete
        if protectors[name]["target"]
    ]
    imitated = _each(state, "impersonation", impersonation.measure, aimed)
    similar = {}
    if config.preset is not None:
        similar = _each(state, "similarity", orderings.similarity, [(name, kept[name]) for name in complete])
    certified = _certify(state, complete, scored, information["identities"])
    costs = tables.cost_rows(protected, latencies, attacked)
    judged = verdicts.judge(
        protectors,
        recognisers,
        scored,
        equal_noise,
        certified,
        qualities,
        controls(config.people.size_px),
        information["exploratory"],
        config.seed,
    )
    gates = {"splits": _splits_gate(information), **judged.gates}
    families = {name: facts["family"] for name, facts in recognisers.items()}

    def unseen(protector: str, recogniser: str) -> bool | None:
        return verdicts.unseen(recogniser, protectors[protector], recognisers, families)

    judging = (information["exploratory"], config.seed)
    poisoned: list[dict[str, Any]] = []
    if learnt is not None:
        poisoned = poison.rows(learnt, unseen, [name for name in complete if protectors[name]["control"]], *judging)
        gates |= poison.gates(learnt)
    impersonated = impersonation.rows(imitated, unseen, gates, *judging)
    rows = [{**row, **quality.columns(qualities.get(row["protector"]))} for row in judged.rows]
    state.run.write_bytes("rows.parquet", parquet(rows))
    state.run.write_bytes("cost.parquet", parquet(costs))
    state.run.write_tensors("curves.safetensors", curves_tensors(scored))
    seconds = {row["protector"]: row["seconds_per_image"] for row in costs if row["kind"] == "protect"}
    return {
        "tier": config.tier,
        "seed": config.seed,
        "identities": information["identities"],
        "own_claims": claims.own_claims(
            protectors,
            judged.rows,
            poisoned,
            impersonated,
            equal_noise,
            gates,
            inapplicable,
            information["exploratory"],
        ),
        "poison": poisoned,
        "impersonation": impersonated,
        "orderings": orderings.orderings(config, scored, poisoned, similar),
        "rows": [{**row, "seconds_per_image": seconds.get(row["protector"])} for row in rows],
        "gates": gates,
        "certificates": certified,
        "headline": judged.headline,
        "comparisons": judged.comparisons,
        "missing": state.missing,
        "inapplicable": inapplicable,
        "exploratory": information["exploratory"],
        "deviations": presets.deviations(config),
        "tables": tables.survey_tables(protectors, rows, latencies, scored, impersonated),
        "curves": {"file": "curves.safetensors", "points": tables.curves(scored)},
        "cost": costs,
        "protectors": protectors,
        "recognisers": recognisers,
        "left_out": information["left_out"],
        "not_measured": {name: found["not_measured"] for name, found in qualities.items() if found["not_measured"]},
        "manifest": {
            "code_sha256": project().hash(__name__),
            "faces": information["manifest"], "faces_hash": information["hash"],
            "thresholds": {name: facts["thresholds"] for name, facts in recognisers.items()},
            "weights": {name: facts["weights_sha256"] for name, facts in recognisers.items()},
        },
    }  # fmt: skip


def _splits_gate(information: Mapping[str, Any]) -> dict[str, Any]:
    # Parts that overlap end the run before this.
    people = {name: len(part["identities"]) for name, part in information["manifest"].items()}
    counted = ", ".join(f"{count} {name}" for name, count in people.items())
    return {
        "passed": True,
        "reason": f"no number, picture or perceptual hash is in two parts ({counted} people)",
        "manifest_sha256": information["hash"],
    }


def _thresholds(state: _Run) -> dict[str, dict[str, Any]]:
    """Recognisers with their thresholds, frozen before anything is protected."""
    site, wanted = state.site, state.site.config.recognisers
    done = state.run.stage_done("thresholds")
    if done is None:
        found = dict(state.jobs("clean", jobs.strength, [(name, "calibration") for name in wanted], wanted))
        arguments = []
        for index, facts in found.items():
            hash_ = manifest_hash(
                {"faces": site.faces_hash, "recogniser": wanted[index], "weights": facts["weights_sha256"]}
            )
            arguments.append((facts["key"], hash_))
        names = [wanted[index] for index in found]
        frozen = {names[index]: value for index, value in state.jobs("thresholds", score.calibrate, arguments, names)}
        recognisers = {
            wanted[index]: {**facts, "calibration": facts["key"], "thresholds": frozen[wanted[index]]}
            for index, facts in sorted(found.items())
            if wanted[index] in frozen
        }
        if not recognisers:
            reasons = "; ".join(f"{entry['what']}: {entry['reason']}" for entry in state.missing)
            raise EvaluationError(f"no recogniser could be used ({reasons}); name others, or fetch their weights.")
        state.run.mark_stage("thresholds", {"recognisers": recognisers, "missing": state.missing})
        done = state.run.stage_done("thresholds") or {}
    else:
        state.missing += done["missing"]
    kept: dict[str, dict[str, Any]] = done["recognisers"]
    names = list(kept)
    clean = dict(state.jobs("clean, test", jobs.strength, [(name, "test") for name in names], names))
    keys = {
        names[index]: {"calibration": kept[names[index]]["key"], "test": facts["key"]} for index, facts in clean.items()
    }
    arguments = [(keys[name], kept[name]["thresholds"]) for name in keys]
    strong = dict(state.jobs("clean figures", score.clean_figures, arguments, list(keys)))
    return {
        name: {**kept[name], "keys": keys[name], "clean": strong[index]}
        for index, name in enumerate(keys)
        if index in strong
    }


def _declarations(state: _Run) -> dict[str, dict[str, Any]]:
    config = state.site.config
    added = [name for name in controls(config.people.size_px) if name not in config.protectors]
    names = [*added, *config.protectors]
    found = dict(state.jobs("protectors", jobs.describe, [(name,) for name in names], names))
    return {names[index]: found[index] for index in sorted(found)}


def _protect(state: _Run, protectors: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Protected photographs by protector, part and number of frames."""
    config = state.site.config
    frames = {state.site.make_attacker(name, config.tier).frames for name in _known_attackers(state)}
    wanted = [
        (name, part, count)
        for part in ("train", "test", "calibration", "validation")
        for name, said in protectors.items()
        for count in sorted({1} | (set() if said["deterministic"] else frames))
    ]
    names = [f"{name}, {part}" + (f", {count} frames" if count > 1 else "") for name, part, count in wanted]
    return {wanted[index]: facts for index, facts in state.jobs("protect", jobs.protect, wanted, names)}


def _known_attackers(state: _Run) -> list[str]:
    """Attackers that can be made at all."""
    config, known = state.site.config, []
    for name in config.attackers:
        outcome = guarded(state.site.make_attacker, name, config.tier)
        if outcome.reason:
            entry = {"stage": "attack", "what": name, "reason": outcome.reason}
            if entry not in state.missing:
                state.missing.append(entry)
        else:
            known.append(name)
    return known


Triple = tuple[str, str, str]


def _attack(
    state: _Run,
    protectors: Mapping[str, Mapping[str, Any]],
    protected: Mapping[tuple[str, str, int], Mapping[str, Any]],
    recognisers: Mapping[str, Any],
) -> tuple[dict[Triple, dict[str, Any]], list[dict[str, str]]]:
    config, site = state.site.config, state.site
    wanted: list[Triple] = []
    arguments = []
    inapplicable = []
    for attacker in _known_attackers(state):
        frames = site.make_attacker(attacker, config.tier).frames
        for protector, said in protectors.items():
            if frames > 1 and said["deterministic"]:
                reason = "the protector gives the same picture each time, so an average of frames adds nothing"
                inapplicable.append({"protector": protector, "attacker": attacker, "reason": reason})
                continue
            parts = {part: protected.get((protector, part, frames)) for part in PARTS}
            if any(value is None for value in parts.values()):
                continue  # the missing protected set is written down already
            for recogniser in recognisers:
                wanted.append((protector, attacker, recogniser))
                arguments.append((*wanted[-1], {part: value["key"] for part, value in parts.items() if value}))
    names = [", ".join(triple) for triple in wanted]
    found = dict(state.jobs("attack", jobs.attack, arguments, names))
    attacked = {}
    for index in sorted(found):
        protector, attacker, recogniser = wanted[index]
        if "inapplicable" in found[index]:
            entry = {"protector": protector, "attacker": attacker, "reason": found[index]["inapplicable"]}
            if entry not in inapplicable:
                inapplicable.append(entry)
        else:
            attacked[wanted[index]] = found[index]
    return attacked, inapplicable


def _score(
    state: _Run, attacked: Mapping[Triple, Mapping[str, Any]], recognisers: Mapping[str, Mapping[str, Any]]
) -> dict[Triple, dict[str, Any]]:
    wanted = sorted(attacked)
    arguments = [
        (triple, attacked[triple], recognisers[triple[2]]["keys"], recognisers[triple[2]]["thresholds"])
        for triple in wanted
    ]
    found = dict(state.jobs("score", score.score, arguments, [", ".join(triple) for triple in wanted]))
    return {wanted[index]: found[index] for index in sorted(found)}


def _each(
    state: _Run, stage: str, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> dict[str, Any]:
    """Values of jobs of one protector each, by its name."""
    names = [str(given[0]) for given in arguments]
    return {names[index]: value for index, value in state.jobs(stage, function, arguments, names)}


def _certify(
    state: _Run, protectors: Sequence[str], scored: Mapping[Triple, Mapping[str, Any]], identities: int
) -> dict[str, dict[str, Any]]:
    """Certificates by protector, for as many frames as an attacker averaged."""
    arguments = []
    for name in protectors:
        frames = [int(scored[key]["rows"][0]["frames"]) for key in scored if key[0] == name]
        arguments.append((name, identities, max(frames, default=1)))
    found = _each(state, "certificates", certificates.certify, arguments)
    return {name: value for name, value in found.items() if value is not None}
