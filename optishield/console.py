"""What commands share: options, results on stdout, remarks on stderr, and the exit code of unmet gates.

Everything printed goes through this file, which escapes what a terminal would obey instead of showing: names of files
and answers of devices come from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ground.errors import one_line
from ground.text import printable
from optishield.devices import DeviceName, choose
from optishield.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import torch

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings as TOML.")]
Device = Annotated[DeviceName, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")]

SUMMARY = "summary.json"


def show_help(context: typer.Context) -> None:
    """Callback of a group of commands: without a command it shows its help, as a mistake (exit code 2)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(ExitCode.USAGE)


def chosen_device(name: DeviceName) -> torch.device:
    """The device of ``--device``; where ``auto`` takes another one than the CPU, a line on stderr says so.

    Raises:
        ConfigError: CUDA was asked for and is absent.
    """
    device = choose(name)
    if name == DeviceName.auto and device.type != "cpu":
        say(f"computing on {device}; --device cpu computes on the processor")
    return device


def photo_folder(path: Path) -> Path:
    """The whole path of a folder of photographs, so that a resume from another folder means the same ones.

    Raises:
        ConfigError: It is no folder.
    """
    if not path.is_dir():
        raise ConfigError(f"--faces {path} is not a folder; name a folder with one sub-folder of photos per person.")
    return path.resolve()


def show(text: str, *, lines: bool = False) -> None:
    """One line on stdout, or several if ``lines`` says that the line breaks in the text are meant."""
    typer.echo(printable(text, lines=lines))


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    from ground.jsonable import json_bytes

    typer.echo(json_bytes(value, "the result"), nl=False)


def print_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Names and values in two columns on stdout."""
    width = max(len(printable(key)) for key, _ in pairs)
    for key, value in pairs:
        show(f"{printable(key):<{width}}  {printable(str(value))}")


def say(text: str, *, lines: bool = False) -> None:
    """One line on stderr, or several if ``lines`` says that the line breaks in the text are meant."""
    typer.echo(f"optishield: {printable(text, lines=lines)}", err=True)


def short(value: Any) -> str:
    """A value on one line; sections and lists are left to the report and ``--json``."""
    if value is None:
        return "not defined"
    if isinstance(value, (dict, list)):
        return f"({len(value)} entries in {SUMMARY})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def end_on_unmet(failed: Mapping[str, str]) -> None:
    """Name the gates that are not met, with their reasons, and end with their exit code if there are any."""
    for name, reason in failed.items():
        say(f"gate not met: {name}: {one_line(reason or 'see the report')}")
    if failed:
        raise typer.Exit(ExitCode.GATE)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, its columns as wide as they need to be."""
    shown = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in shown) for place in range(len(head))]
    for row in shown:
        show("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
