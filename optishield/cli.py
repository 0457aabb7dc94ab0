"""The command line. stdout carries results only; progress and errors go to stderr.

Commands import their rooms when they run, so that ``optishield --help`` answers without loading torch.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from optishield import __version__
from optishield.commands.bench import bench_app
from optishield.commands.doctor import doctor
from optishield.commands.enroll import enroll
from optishield.commands.evaluate import evaluate
from optishield.commands.protect import protect
from optishield.commands.settings import config_app
from optishield.commands.train_mask import evaluate_mask, train_mask
from optishield.commands.weights import weights_app
from optishield.console import say, show_help
from optishield.errors import ExitCode, one_line, user_error

app = typer.Typer(
    name="optishield",
    help="Cameras that keep a face's landmarks and lose its identity: train the optics, attack them, judge them.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
app.command("train-mask")(train_mask)
app.command("evaluate-mask")(evaluate_mask)
app.command("evaluate")(evaluate)
app.command("protect")(protect)
app.command("enroll")(enroll)
app.command("doctor")(doctor)
app.add_typer(weights_app, name="weights")
app.add_typer(config_app, name="config")
app.add_typer(bench_app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"optishield {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
) -> None:
    # Both options act elsewhere: --version in its callback, --debug in main(), where errors arrive.
    show_help(context)


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
