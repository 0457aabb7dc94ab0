"""Ctrl-C ends the command line in one line and with code 130, also while modules are still imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optishield.cli import main

# The signal comes when a module of this name is looked for.
PROGRAM = """
import os, signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

# Whoever runs the tests in the background of a script hands on that it is ignored.
signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[2] == "ignored" else signal.default_int_handler)
sys.meta_path.insert(0, CtrlC())
from optishield.cli import main
sys.exit(main(["config", "show"]))
"""


def called(module: str, how: str = "heard") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", PROGRAM, module, how]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


# The last one is imported by the command itself.
@pytest.mark.parametrize("module", ["optishield.commands", "typer", "optishield.errors", "tomli_w"])
def test_ctrl_c_while_a_module_is_imported(module: str) -> None:
    done = called(module)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "optishield: interrupted\n")


def test_ctrl_c_that_the_shell_had_ignored_stays_so() -> None:
    done = called("typer", "ignored")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'budget = "quick"' in done.stdout


def test_a_caller_keeps_its_own_handling_of_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().out.startswith("optishield ")
