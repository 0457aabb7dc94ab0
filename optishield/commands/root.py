"""All commands under one root. stdout carries results only; progress and errors go to stderr.

Commands import their rooms when they run, so that ``optishield --help`` answers without loading torch.
"""

from __future__ import annotations

import io
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from ground.errors import one_line
from optishield import __version__
from optishield.commands.bench import bench_app
from optishield.commands.cache import cache_app
from optishield.commands.doctor import doctor
from optishield.commands.enroll import enroll
from optishield.commands.evaluate import evaluate
from optishield.commands.protect import protect
from optishield.commands.settings import config_app
from optishield.commands.train_mask import evaluate_mask, train_mask
from optishield.commands.weights import weights_app
from optishield.console import say, show, show_help
from optishield.errors import ExitCode, user_error


class _Root(TyperGroup):
    """Says one line of an interruption: what the command has to say of it, if anything."""

    # The context is of a class that typer keeps to itself.
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            say(str(interrupt) or "interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from interrupt


app = typer.Typer(
    name="optishield",
    cls=_Root,
    help="Cameras that keep a face's landmarks and lose its identity: train the optics, attack them, judge them.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train-mask")(train_mask)
app.command("evaluate-mask")(evaluate_mask)
app.command("evaluate")(evaluate)
app.command("protect")(protect)
app.command("enroll")(enroll)
app.command("doctor")(doctor)
app.add_typer(weights_app, name="weights")
app.add_typer(config_app, name="config")
app.add_typer(cache_app, name="cache")
app.add_typer(bench_app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        show(f"optishield {__version__}")
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


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return the exit code; see :func:`optishield.cli.main`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that is not UTF-8 gets escapes for what it cannot show, in place of an error.
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `optishield weights list | head -1`. Python flushes at the end
        # and would complain, so there must be something to flush to.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            if _is_closed(stream):
                os.dup2(nowhere, stream.fileno())
        return ExitCode.OUTPUT_CLOSED


def _invoke(words: list[str]) -> int:
    """Let typer run one command, and raise what it raised."""
    streams = sys.stdout, sys.stderr
    try:
        result = app(words, prog_name="optishield", standalone_mode=False)
    except SystemExit as ending:
        # typer takes every broken pipe for the end of a reader and leaves with 1, also that of a device.
        sys.stdout, sys.stderr = streams
        if isinstance(ending.__context__, BrokenPipeError):
            raise ending.__context__ from None
        raise
    return int(result) if isinstance(result, int) else ExitCode.OK


def _is_closed(stream: TextIO) -> bool:
    """Whether the other end of this stream's pipe is closed."""
    try:
        handle = stream.fileno()
    except (OSError, ValueError):  # no file of the operating system, for example in a test
        return False
    poll = select.poll()
    poll.register(handle, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _run(words: list[str]) -> int:
    """Run the words of one command; every error except a closed output becomes one line and a code."""
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _invoke(words)
    except typer.TyperException as error:
        if debug:
            traceback.print_exc()
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "optishield"
        say(f"error: {one_line(error.format_message()).replace('Value error, ', '').rstrip('.')}; see {command} --help")
        return ExitCode.USAGE
    except Exception as error:
        if isinstance(error, BrokenPipeError) and (_is_closed(sys.stdout) or _is_closed(sys.stderr)):
            raise
        known = user_error(error)
        if debug or known is None:
            traceback.print_exc()
        message, code = known or (
            f"{type(error).__name__}: {one_line(str(error))} (a defect of the program)",
            ExitCode.DEFECT,
        )
        say(f"error: {message}", lines=True)
        return code
