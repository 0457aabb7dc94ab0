"""``optishield evaluate``: reads the words of the command line, refuses what cannot run, and shows what was found."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optishield.console import (
    SUMMARY,
    ConfigFile,
    Device,
    Json,
    Quiet,
    Sets,
    chosen_device,
    end_on_unmet,
    photo_folder,
    print_json,
    print_pairs,
    print_table,
    say,
)
from optishield.devices import DeviceName
from optishield.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from evaluation.config import EvaluateConfig
    from evaluation.records import Summary
    from optishield.run.folder import RunFolder


class Tier(StrEnum):
    """How much an evaluation covers."""

    smoke = "smoke"
    standard = "standard"
    full = "full"


class Preset(StrEnum):
    """Experiments of the survey."""

    S1 = "S1"
    S2 = "S2"


class Engine(StrEnum):
    """Where jobs run."""

    local = "local"
    dask = "dask"


SCHEMA = "summary.schema.json"
"""JSON schema of the summary, beside it."""

PICTURES = "report.safetensors"
"""Where the job may leave ``strip_<protector>``: (n, h, w, 3) protected photographs, display values 0..1."""

_MAY_DIFFER_ON_RESUME = ("workers", "engine", "dask_scheduler")

# Weights beside those of the recognisers, which are called like them.
_WEIGHTS_OF_ATTACKERS = {"realign": ("tiny-face-detector", "face-landmark-68")}
_WEIGHTS_OF_PHOTOGRAPHS = ("yunet",)

# A comma ends a name only where no setting follows: pixelate:cells=8,px=64,identity are two protectors.
_NEXT_NAME = re.compile(r",(?![A-Za-z_]\w*=)")


def evaluate(
    protectors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,..]", help="Protectors (default: photo-cloak); repeatable, or separated by commas."
        ),
    ] = None,
    attackers: Annotated[
        list[str] | None, typer.Option(metavar="all|NAME", help="Attackers; repeatable, or separated by commas.")
    ] = None,
    recognisers: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Recognisers; repeatable, or separated by commas.")
    ] = None,
    faces: Annotated[str | None, typer.Option(metavar="synthetic|DIR", help="Faces to judge with.")] = None,
    tier: Annotated[
        Tier | None, typer.Option(help="How much to cover (default: standard).", show_default=False)
    ] = None,
    preset: Annotated[Preset | None, typer.Option(help="Repeat this experiment of the survey.")] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="RUN", help="Judge the optics of this train-mask run, in place of the tier's cloak."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers (default: 0).")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder (default: a new one in runs/).")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue this run folder.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; the result does not depend on it.")] = None,
    engine: Annotated[Engine | None, typer.Option(help="Where jobs run; the result does not depend on it.")] = None,
    device: Device = DeviceName.cpu,
    config: ConfigFile = None,
    sets: Sets = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge protectors of photographs, and the optics of a run, by the same attackers.

    Controls are run beside whatever is judged. The result is a run folder with rows.parquet, the curves and
    report.html.
    """
    if resume is not None and out is not None:
        raise UsageError(f"--resume {resume} already names the folder; drop --out.")
    if faces is not None and faces != "synthetic":
        faces = str(photo_folder(Path(faces)))
    from evaluation.config import EvaluateConfig
    from optishield.progress import choose_progress
    from optishield.run.folder import stored_config
    from optishield.run.settings import layered

    def start(name: str) -> EvaluateConfig:
        return EvaluateConfig.for_tier(name) if preset is None else EvaluateConfig.for_preset(preset, name)

    resolved = layered(
        EvaluateConfig,
        key="tier",
        names=list(Tier),
        start=start,
        chosen=tier,
        default=Tier.standard,
        base=stored_config(resume, EvaluateConfig) if resume is not None and tier is None else None,
        toml_path=config,
        sets=sets or [],
        options={
            "protectors": _names(protectors),
            "attackers": _attackers(attackers),
            "recognisers": _names(recognisers),
            "faces": faces,
            "preset": preset,
            "seed": seed,
            "workers": workers,
            "engine": engine,
        },
    )
    if encoder is not None:
        resolved = resolved.with_optics(_encoder(encoder, resolved))
    _refuse_early(resolved)
    chosen = chosen_device(device)

    run = _open_folder(resolved, resume, out)
    from evaluation.run import evaluate as job
    from protectors.registry import make_protector

    progress = choose_progress(quiet=quiet)
    if not quiet:
        progress.note(f"run folder: {run.path}")
    try:
        summary = job(
            resolved,
            run,
            make_protector=make_protector,
            resume=resume is not None,
            progress=progress,
            device=str(chosen),
        )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"interrupted; continue with: optishield evaluate --resume {run.path}") from interrupt
    _finish(run, summary, json_output)


def _open_folder(config: EvaluateConfig, resume: Path | None, out: Path | None) -> RunFolder:
    """The run folder: the one to go on with, or a new one."""
    from optishield.run.folder import RunFolder

    seeds = {"seed": config.seed}
    if resume is not None:
        return RunFolder.resume(resume, config=config, command=sys.argv, seeds=seeds, may_differ=_MAY_DIFFER_ON_RESUME)
    slug = "-".join(word for word in (config.tier, config.preset, f"seed{config.seed}") if word)
    return RunFolder.create(verb="evaluate", slug=slug, config=config, command=sys.argv, seeds=seeds, out=out)


def _names(given: Sequence[str] | None) -> list[str] | None:
    """Names from options that were repeated, separated by commas, or both."""
    if given is None:
        return None
    found = [name.strip() for text in given for name in _NEXT_NAME.split(text)]
    if not all(found):
        raise UsageError(f"{', '.join(given)!r} holds an empty name; drop the comma too many.")
    return found


def _attackers(given: Sequence[str] | None) -> list[str] | None:
    names = _names(given)
    if names is None or "all" not in names:
        return names
    if len(names) > 1:
        raise UsageError("--attackers all already names every attacker; drop the others.")
    from evaluation.image_attackers import attacker_names

    return list(attacker_names())


def _encoder(run: Path, config: EvaluateConfig) -> str:
    """The protector that stands for the optics of a run, on frames as large as those of this evaluation."""
    from optishield.run.folder import check_stages

    check_stages(run)
    size = config.people.size_px
    return f"optical-encoder:run={run.resolve()}" + ("" if size == 128 else f",px={size}")


def _refuse_early(config: EvaluateConfig) -> None:
    """Find what would stop the run in its last hour: unknown names, absent packages, absent weights."""
    from evaluation.image_attackers import attacker_names
    from faces.families import recogniser_names
    from faces.protection import check_side
    from protectors.registry import make_protector

    _known("attacker", config.attackers, attacker_names())
    _known("recogniser", config.recognisers, recogniser_names())
    _package("pyarrow", "the result tables need pyarrow", "evaluate")
    if config.engine == Engine.dask:
        _package("distributed", "the engine dask needs Dask", "dask")
    for name in config.protectors:
        check_side(make_protector(name), config.people.size_px)
    if config.faces != "synthetic":
        from faces.folders import list_people

        list_people(Path(config.faces))
    _weights(config)


def _known(kind: str, names: Sequence[str], valid: Sequence[str]) -> None:
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=3)
            advice = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(valid)}."
            raise ConfigError(f"There is no {kind} {name!r}; {advice}")


def _package(name: str, sentence: str, extra: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"{sentence}; run: pip install 'optishield[{extra}]'")


def _weights(config: EvaluateConfig) -> None:
    from faces.weights import cached_path, default_cache, verify

    names = [*config.recognisers, *(name for key in config.attackers for name in _WEIGHTS_OF_ATTACKERS.get(key, ()))]
    if config.faces != "synthetic":
        names += _WEIGHTS_OF_PHOTOGRAPHS
    names = list(dict.fromkeys(names))
    absent = [name for name in names if not cached_path(name).is_file()]
    if absent:
        raise ConfigError(
            f"The weights {', '.join(absent)} are not in {default_cache()}; "
            f"run: optishield weights fetch {' '.join(absent)}"
        )
    for name in names:
        verify(name)


def _finish(run: RunFolder, summary: Summary, json_output: bool) -> None:
    """Store the summary with its schema and the report, print the result, and end with 5 when a gate is not met."""
    from optishield.report.evaluation import write_judgement

    result = summary.to_json()
    run.write_json(SUMMARY, result)
    run.write_json(SCHEMA, summary.json_schema())
    # Photographs of people never enter the report; pictures of synthetic heads may.
    files = [summary.curves.file, *([PICTURES] if summary.mode == "synthetic" else [])]
    arrays = {key: value.numpy() for name in files if run.has(name) for key, value in run.read_tensors(name).items()}
    report = write_judgement(run.path, summary, arrays)
    if json_output:
        print_json({**result, "run": run.path, "report": report})
    else:
        _print(summary, run.path, report)
    if summary.exploratory:
        # With so few people gates fail for want of numbers. Nothing is claimed, so nothing is amiss.
        say(f"exploratory: {summary.exploratory}")
        return
    # A gate that could not be tried is neither met nor unmet; it withholds claims in the verdicts.
    end_on_unmet({name: gate.reason for name, gate in summary.gates.items() if gate.passed is False})


def _print(summary: Summary, run: Path, report: Path) -> None:
    """The result as tables on stdout: own claims, orderings of the survey, and the worst attack on each protector."""
    from optishield.report.standings import combination_name, sentence, standings, word
    from optishield.report.tables import orderings, own_claims

    print_pairs([("run", run), ("report", report), ("result", sentence(summary))])
    claims = []
    for claim in own_claims(summary):
        claims += [
            (claim.name, claim.claim, one.name, one.seen, one.value, one.interval, one.noise, one.verdict)
            for one in claim.deciding
        ] or [(claim.name, claim.claim, "–", "–", "–", "–", "–", claim.verdict)]
    if claims:
        print_table(("protector", "own claim", "judged by", "", "value", "95%", "noise", "verdict"), claims)
    pairs = [
        (row["statement"], row["judge"], row["difference"], row["interval"], row["verdict"])
        for row in orderings(summary)
    ]
    if pairs:
        print_table(("the survey states", "judged by", "difference", "95%", "verdict"), pairs)
    rows = [
        (
            one.name,
            combination_name(one.combination),
            one.worst.attacker,
            one.worst.recogniser,
            f"{one.worst.psr_net:.3f}",
            f"{one.worst.low:.3f}",
            word(one.verdict.label),
        )
        for one in standings(summary)
        if one.worst is not None
    ]
    if rows:
        print_table(("protector", "threat", "worst attacker", "recogniser", "PSR net", "lower", "verdict"), rows)
