"""What all commands write alike: help, names that are no text, outputs that nobody reads, completions."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from optishield.cli import main
from optishield.commands.root import app
from tests.optishield.jobs import raising
from tests.optishield.summaries import photo_summary

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_group_of_commands_without_a_command_shows_its_help(capsys: Any) -> None:
    def groups(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if hasattr(command, "commands"):
            yield words, command
            for name, child in command.commands.items():
                yield from groups(child, (*words, name))

    found = dict(groups(get_command(app), ()))
    assert {(), ("bench",), ("weights",), ("config",)} <= found.keys()
    for words, command in found.items():
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert lines[0] == " ".join(["Usage: optishield", *words, "[OPTIONS] COMMAND [ARGS]..."])
        assert {line.split()[0] for line in lines if line.startswith("  ")} >= command.commands.keys()
        assert main([*words, "--help"]) == 0
        assert capsys.readouterr().out == err


@pytest.mark.parametrize(
    ("words", "closed"),
    [
        (["weights", "list"], "stdout"),
        (["weights", "list", "--json"], "stdout"),
        (["config", "show"], "stdout"),
        (["--help"], "stdout"),
        (["--version"], "stdout"),
        (["train-musk"], "stderr"),
        (["weights"], "stderr"),
    ],
)
def test_an_output_that_nobody_reads_ends_the_command_in_silence(words: list[str], closed: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-m", "optishield", *words], timeout=60, env=environment, **streams)
    os.close(writer)
    assert done.returncode == 141
    assert not done.stdout
    assert not done.stderr


def test_another_broken_pipe_is_an_error_with_a_message(install_job: Any, capsys: Any) -> None:
    install_job(raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert main(["train-mask", "--quiet"]) == 3
    assert capsys.readouterr().err == "optishield: error: the file: Broken pipe.\n"


_NAME = os.fsdecode(b"\x1b[31m\xe9\n.toml")


@pytest.mark.parametrize("words", [["--config", _NAME], ["--faces", _NAME], ["--set", _NAME], ["--resume", _NAME]])
def test_names_are_escaped_in_errors(capsys: Any, words: list[str]) -> None:
    assert main(["train-mask", *words]) == 3
    err = capsys.readouterr().err
    assert err.removesuffix("\n").isprintable()
    assert r"\x1b[31m\xe9" in err.replace(r"\\", "\\").replace(r"\udce9", r"\xe9")


def test_names_are_escaped_in_results(install_job: Any, capfdbinary: Any) -> None:
    """Columns, JSON and the report of a run whose folder has a name that is no UTF-8 and would colour a terminal."""
    install_job(lambda *args, **kwargs: photo_summary(trained_run=_NAME, left_out=[f"{_NAME}: no face"]))
    out = os.fsdecode(b"\x1b[31m\xe9")
    assert main(["train-mask", "--out", out, "--quiet"]) == 0
    shown = capfdbinary.readouterr().out.decode().splitlines()
    assert all(line.isprintable() for line in shown)
    assert r"run     \x1b[31m\xe9" in shown
    stored = json.loads(Path(out, "summary.json").read_text())
    assert stored["run"] == "\x1b[31m\\xe9"
    assert stored["left_out"] == ["\x1b[31m\\xe9\n.toml: no face"]
    assert main(["train-mask", "--out", out + "2", "--quiet", "--json"]) == 0
    printed = capfdbinary.readouterr().out.decode()
    assert all(line.isprintable() for line in printed.splitlines())
    assert json.loads(printed)["trained_run"] == "\x1b[31m\\xe9\n.toml"


def test_shells_complete_commands_and_options(capfd: Any) -> None:
    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_OPTISHIELD_COMPLETE": "complete_bash"}
        root = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "PYTHONPATH": root, **words}
        command = [sys.executable, "-c", "import sys; from optishield.cli import main; sys.exit(main())"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split()

    assert completed("optishield tr") == ["train-mask"]
    assert "--budget" in completed("optishield train-mask --bu")
