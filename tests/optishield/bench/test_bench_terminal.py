"""``optishield bench capture`` at a terminal: the checklist in front of a session, and keys while it runs."""

from __future__ import annotations

import itertools
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from tests.optishield.bench.bench_doubles import BENCH, CAPTURE, PLAN, run, write_sources

# Each starts the program anew, which takes seconds, and minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)
PATIENCE_S = 300.0


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sources(tmp_path, monkeypatch)


class Terminal:
    """``optishield bench capture`` at a terminal of its own; without words it asks for every gate."""

    def __init__(self, *command: str) -> None:
        root = str(Path(__file__).resolve().parents[3])
        words = [word for word in CAPTURE if word != "--yes"]
        ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, *(command or ("-m", "optishield", "bench", *words))],
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": root, "COLUMNS": "100", "TERM": "xterm"},
        )
        os.close(theirs)
        self._ours = ours
        self.seen = ""

    def until(self, text: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < end_s, f"{text!r} did not come: {self.seen}"
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._ours, 4096).decode(errors="replace")
                except OSError:
                    break
        before, found, self.seen = self.seen.partition(text)
        assert found, f"{text!r} did not come before the end: {before}"

    def answer(self, text: str = "") -> None:
        self.press(f"{text}\n")

    def press(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def echoes(self) -> bool:
        """Whether it writes what is typed, as a terminal does for a shell."""
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    def end(self) -> tuple[int, str]:
        while True:
            try:
                if not os.read(self._ours, 4096):
                    break
            except OSError:
                break
        out, _ = self._process.communicate(timeout=PATIENCE_S)
        self.seen = f"echo {self.echoes()}"
        os.close(self._ours)
        return self._process.returncode, out.decode()


def test_the_checklist_gives_one_instruction_at_a_time() -> None:
    terminal = Terminal()
    for number, gate in enumerate(("devices", "plan", "dark", "light", "focus"), 1):
        terminal.until(f"{number}. ")
        terminal.until("Enter when done")
        terminal.answer()
        if gate in ("dark", "light", "focus"):
            terminal.until("levels      |")
            terminal.until("saturated")
            terminal.answer()
        terminal.until(f"{'--' if gate == 'focus' else 'ok'}    {gate}: ")
    code, out = terminal.end()
    assert code == 0 and "origin       simulated" in out
    assert Path("session/manifest.json").exists()


def test_the_checklist_lets_a_step_be_tried_again_or_given_up() -> None:
    Path("plan.toml").write_text(PLAN.replace('pattern = "checker"', 'pattern = "late.npy"'))
    terminal = Terminal()
    for _ in range(2):
        terminal.until("Enter when done")
        terminal.answer()
    terminal.until("STOP  plan: ")
    terminal.until("q to stop")
    np.save("late.npy", np.full((64, 64), 255, np.uint8))
    terminal.answer()
    terminal.until("Enter when done")
    terminal.answer()
    terminal.until("ok    plan: ")
    shutil.move("late.npy", "gone.npy")
    terminal.until("Enter when done")
    terminal.answer()
    terminal.until("levels      |")
    terminal.answer()
    terminal.until("ok    dark: ")
    terminal.until("Enter when done")
    terminal.answer()
    terminal.until("STOP  light: ")
    terminal.until("q to stop")
    terminal.answer("q")
    code, _ = terminal.end()
    assert code == 5 and not Path("session").exists()


# The command line, on a bench whose focus is a stage that somebody turns while the checklist looks at it.
TURNED = """
import sys
from optishield.bench.checklist import Guide
from optishield.cli import main
from sim.bench.twins import CameraTwin

grab, step, places = CameraTwin.grab, Guide.step, []

def begin(guide, instruction, check):
    if instruction.startswith("Turn the focus"):
        places.extend(float(place) * 1e-3 for place in sys.argv[1].split(",") for _ in range(3))
    return step(guide, instruction, check)

def turned(camera, timeout_s):
    if places:
        camera._world.position_m = places.pop(0)
        if not places:
            print("turned", file=sys.stderr, flush=True)
    return grab(camera, timeout_s)

Guide.step, CameraTwin.grab = begin, turned
sys.exit(main(["bench", *sys.argv[2:]]))
"""


@pytest.mark.parametrize(("places", "passed"), [("-4,-2,0,2,4,2,0", True), ("-4,-2,0", False), ("0", False)])
def test_the_focus_of_a_real_bench_must_be_turned(places: str, passed: bool) -> None:
    # Of a mixed bench it is not known that there is nothing to turn.
    Path("bench.toml").write_text(BENCH.replace('origin = "simulated"', 'origin = "mixed"'))
    terminal = Terminal("-c", TURNED, places, *(word for word in CAPTURE if word != "--yes"))
    for gate in ("devices", "plan", "dark", "light"):
        terminal.until("Enter when done")
        terminal.answer()
        if gate in ("dark", "light"):
            terminal.until("levels      |")
            terminal.answer()
        terminal.until(f"ok    {gate}: ")
    terminal.until("5. Turn the focus through its best place")
    terminal.answer()
    terminal.until("turned")
    terminal.answer()
    terminal.until("ok    focus: " if passed else "STOP  focus: ")
    if not passed:
        terminal.until("q to stop")
        terminal.answer("q")
    code, _ = terminal.end()
    assert (code, Path("session").exists()) == ((0, True) if passed else (5, False))


# -- keys while frames are taken ---------------------------------------------------------------------------------------

# The command line; what mask and light do goes to a file.
TOLD = """
import sys
from optishield.cli import main
from sim.bench.twins import LightTwin, MaskTwin

def tell(twin, name):
    act = getattr(twin, name)

    def told(self, *values):
        with open("acts", "a") as file:
            file.write(f"{name}\\n")
        return act(self, *values)

    setattr(twin, name, told)

for twin, name in ((LightTwin, "set"), (LightTwin, "off"), (MaskTwin, "commit"), (MaskTwin, "park")):
    tell(twin, name)
sys.exit(main(["bench", *sys.argv[1:]]))
"""


def test_keys_pause_go_on_and_stop(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plan.toml").write_text(PLAN.replace("averages = 3", "averages = 2000"))
    terminal = Terminal("-c", TOLD, *CAPTURE)

    def some_frames() -> None:
        # The light is read back after each.
        wanted, end_s = Path("acts").read_text().count("set") + 4, time.monotonic() + PATIENCE_S
        while Path("acts").read_text().count("set") < wanted:
            assert time.monotonic() < end_s, "no frames are taken"
            time.sleep(0.01)

    terminal.until("keys: p pauses, r or Enter goes on, q stops")
    for go_on in ("r", "\n"):
        some_frames()
        terminal.press("xp")
        terminal.until("suspended, the bench is safe: the operator paused")
        acts = Path("acts").read_text().split()
        assert [act for act in acts if act in ("set", "off")][-1] == "off"
        assert [act for act in acts if act in ("commit", "park")][-1] == "park"
        assert not terminal.echoes()
        terminal.press(go_on)
        terminal.until("the session goes on")
    terminal.press("p")
    terminal.until("suspended")
    terminal.press("q")
    terminal.until("continue with: optishield bench resume session --operator 'Ada'")
    code, _ = terminal.end()
    assert code == 130
    lines = [json.loads(line) for line in Path("session/journal.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("SUSPEND") == 3
    assert [line["kind"] for line in lines].count("PROCEED") == 2
    # Nothing was taken in between.
    after = [following["kind"] for line, following in itertools.pairwise(lines) if line["kind"] == "SUSPEND"]
    assert after == ["PROCEED", "PROCEED", "STOP"]
    assert (lines[-1]["kind"], lines[-1]["body"]) == ("STOP", {"reason": "the operator stopped"})
    # All that were taken are kept, and the session can be resumed.
    assert sum(line["kind"] == "DONE" for line in lines) == len(list(Path("session/frames").iterdir())) > 0
    code, _, err = run(capsys, "seal", "session")
    assert code == 3 and "frames of session are missing" in err


def test_keys_leave_the_terminal_as_it_was() -> None:
    terminal = Terminal("-c", TOLD, *CAPTURE)
    terminal.until("keys: p pauses")
    code, _ = terminal.end()
    assert (code, terminal.seen) == (0, "echo True")


def test_what_is_no_terminal_has_no_keys() -> None:
    root = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-m", "optishield", "bench", *CAPTURE]
    done = subprocess.run(command, input=b"p\nq", capture_output=True, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
    assert b"keys:" not in done.stderr
    assert "SUSPEND" not in Path("session/journal.jsonl").read_text()
