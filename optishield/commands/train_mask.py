"""``optishield train-mask`` and ``evaluate-mask``: a mask is trained, and judged on photographs afterwards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
)
from optishield.devices import DeviceName
from optishield.errors import UsageError

if TYPE_CHECKING:
    from codesign.config import TrainMaskConfig
    from codesign.records import Summary
    from optishield.run.folder import RunFolder


class Budget(StrEnum):
    """How much computing a run may spend."""

    smoke = "smoke"
    quick = "quick"
    standard = "standard"
    full = "full"


BudgetOption = Annotated[
    Budget | None, typer.Option("--budget", help="Computing to spend (default: quick).", show_default=False)
]

# Settings that do not change results.
_MAY_DIFFER_ON_RESUME = ("workers",)

SCHEMA = "summary.schema.json"
"""JSON Schema of the summary beside it."""

REPORT_ARRAYS = "report.safetensors"
"""Where a job leaves the arrays of its report (names and shapes: ``optishield.report.mask.write_report``)."""

# Arrays of the report that show no face. The others enter a report on photographs only with --pictures.
_WITHOUT_PICTURES = frozenset({
    "mask_height_m", "pupil_diameter_m", "psf", "psf_pitch_m", "wavelengths_m", "history", "pairs_height_m",
    "pairs_psf", "pairs_channel", "pairs_windows", "filter_weights",
})  # fmt: skip


def train_mask(
    budget: BudgetOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed for all random numbers (default: 0).")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder (default: a new one in runs/).")] = None,
    faces: Annotated[str | None, typer.Option(metavar="synthetic|DIR", help="Faces to train and judge with.")] = None,
    tune: Annotated[
        str | None,
        typer.Option(metavar="PEOPLE", help="Of DIR, who may train and set thresholds: NAME,NAME or FIRST:LAST."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue this run folder.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that render faces.")] = None,
    device: Device = DeviceName.cpu,
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
    resolved = budgeted(budget, config, sets, base, seed=seed, faces=faces, tune=tune, workers=workers)
    seeds = {"seed": resolved.seed}
    chosen = chosen_device(device)
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
        summary = job(resolved, run, resume=resume is not None, progress=progress, device=chosen)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"interrupted; continue with: optishield train-mask --resume {run.path}") from interrupt
    _finish(run, summary, json_output=json_output, pictures=True)


def evaluate_mask(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of train-mask.")],
    faces: Annotated[Path, typer.Option(metavar="DIR", help="Photographs, one folder a person.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the result (default: in runs/).")] = None,
    tune: Annotated[
        str, typer.Option(metavar="PEOPLE", help="Who also trains attackers and sets thresholds, and is not tested.")
    ] = "",
    pictures: Annotated[bool, typer.Option("--pictures", help="Put the photographs into the report.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed for all random numbers.")] = 0,
    device: Device = DeviceName.cpu,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a trained mask on your own photographs.

    Without --pictures the report shows figures and curves only, no photograph.
    """
    faces = photo_folder(faces)
    from codesign.config import TrainMaskConfig
    from optishield.progress import choose_progress
    from optishield.run.folder import RunFolder, check_stages, stored_config

    trained = stored_config(run, TrainMaskConfig)
    check_stages(run)
    chosen = chosen_device(device)
    result = RunFolder.create(
        verb="evaluate-mask", slug=run.name, config=trained, command=sys.argv, seeds={"seed": seed}, out=out
    )

    from codesign.run import evaluate_mask as job

    progress = choose_progress(quiet=quiet)
    summary = job(run, faces, result, pictures, seed, progress, chosen, tune)
    _finish(result, summary, json_output=json_output, pictures=pictures)


def _finish(run: RunFolder, summary: Summary, *, json_output: bool, pictures: bool) -> None:
    """Store the summary and the report, print the result, and end with 5 when a gate of the job is not met."""
    from codesign.records import TrainMaskSummary
    from optishield.report.mask import write_report
    from optishield.report.terminal import print_summary

    result = type(summary).model_validate({**summary.to_json(), "run": run.path.name})
    run.write_json(SUMMARY, result.to_json())
    run.write_json(SCHEMA, type(result).model_json_schema())
    tensors = run.read_tensors(REPORT_ARRAYS) if run.has(REPORT_ARRAYS) else {}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if pictures or name in _WITHOUT_PICTURES}
    report = write_report(run.path, result, arrays)
    if json_output:
        print_json({**result.to_json(), "run": run.path, "report": report})
    else:
        print_summary(result, run.path, report)
    gates = result.gates if isinstance(result, TrainMaskSummary) else {}
    end_on_unmet({name: gate.reason for name, gate in gates.items() if not gate.passed})


def budgeted(
    budget: Budget | None,
    toml_path: Path | None,
    sets: Sequence[str] | None,
    base: TrainMaskConfig | None = None,
    **options: Any,
) -> TrainMaskConfig:
    """The settings of ``train-mask``: a budget, then the file of --config, then --set, then options.

    Args:
        budget: What --budget names, None if it was not given.
        toml_path: The file of --config.
        sets: The texts of --set.
        base: Settings to start from in place of those of a budget.
        options: Values of options that are named like their keys; None was not given.

    Raises:
        UsageError: Two of them contradict each other.
        ConfigError: A key or a value that cannot be used.
    """
    from codesign.config import TrainMaskConfig
    from optishield.run.settings import layered

    return layered(
        TrainMaskConfig,
        key="budget",
        names=list(Budget),
        start=TrainMaskConfig.for_budget,
        chosen=budget,
        default=Budget.quick,
        base=base,
        toml_path=toml_path,
        sets=sets or [],
        options=options,
    )
