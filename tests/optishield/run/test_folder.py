"""Run folders under bad conditions: full disk, crash in the middle, a second run under the same name."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ground.errors import GroundError
from ground.protocols import RunStore
from optishield.errors import RunError
from optishield.run import folder as runs
from optishield.run.environment import describe_environment
from optishield.run.folder import RunFolder, check_stages, stored_config

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def make(settings: Any) -> Callable[..., RunFolder]:
    def make(out: Path | None = None, config: Any = None, **kwargs: Any) -> RunFolder:
        return RunFolder.create(
            verb="train-mask",
            slug="Quick seed=0",
            config=config or settings(),
            command=["optishield", "train-mask"],
            seeds={"seed": 0},
            out=out,
            now=NOON,
            **kwargs,
        )

    return make


def _resume(path: Path, config: Any, **kwargs: Any) -> RunFolder:
    return RunFolder.resume(path, config=config, command=["again"], seeds={"seed": 0}, **kwargs)


def _everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_new_folder_holds_configuration_and_environment(make: Any, settings: Any, tmp_path: Path) -> None:
    run = make(parent=tmp_path / "runs")
    assert run.path == tmp_path / "runs" / "20260102T120000Z-train-mask-quick-seed-0"
    assert _everything(tmp_path / "runs") == sorted(
        [run.path.name, *(f"{run.path.name}/{name}" for name in ("config.toml", "environment.json", "stages"))]
    )
    assert stored_config(run.path, settings) == settings()
    environment = run.read_json("environment.json")
    assert environment["seeds"] == {"seed": 0}
    assert environment["command"] == ["optishield", "train-mask"]
    assert environment["versions"]["torch"] == torch.__version__
    assert isinstance(run, RunStore)


def test_two_runs_in_one_second_get_two_folders(make: Any, tmp_path: Path) -> None:
    paths = [make(parent=tmp_path).path for _ in range(3)]
    assert [path.name[-3:] for path in paths] == ["d-0", "0~2", "0~3"]


def test_named_folder_must_be_empty_or_absent(make: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert make(out=tmp_path / "empty").path == tmp_path / "empty"
    with pytest.raises(RunError, match=r"empty is not empty; continue it with --resume .*empty, or name another"):
        make(out=tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"mine is not empty; name another folder with --out"):
        make(out=tmp_path / "mine")
    with pytest.raises(RunError, match=r"thesis.txt is a file; name a folder"):
        make(out=tmp_path / "mine" / "thesis.txt")
    assert _everything(tmp_path / "mine") == ["thesis.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


def test_stages_remember_their_result(make: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    assert run.stage_done("scenes") is None
    run.mark_stage("scenes", {"count": np.int64(3), "loss": torch.tensor(0.5), "undefined": float("nan")})
    assert run.stage_done("scenes") == {"count": 3, "loss": 0.5, "undefined": None}
    run.mark_stage("train")
    assert run.stage_done("train") == {}
    with pytest.raises(RunError, match=r"'\.\./x' cannot name a stage"):
        run.mark_stage("../x")


def test_resume_drops_metrics_of_the_unfinished_stage(make: Any, settings: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    run.log_metrics({"stage": "a", "loss": 1.0})
    run.mark_stage("a")
    run.log_metrics({"stage": "b", "loss": 0.5})
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"stage": "b", "lo')  # a crash in the middle of a line
    assert [line["stage"] for line in run.read_metrics()] == ["a", "b"]
    run.close()
    again = _resume(run.path, settings())
    assert again.read_metrics() == [{"stage": "a", "loss": 1.0}]
    again.log_metrics({"stage": "b", "loss": 0.4})
    assert [line["loss"] for line in again.read_metrics()] == [1.0, 0.4]
    assert again.read_json("environment-resume-1.json")["command"] == ["again"]


def test_resume_refuses_another_configuration(make: Any, settings: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    run.close()
    other = settings(seed=1, workers=4, camera={"bits": 6})
    with pytest.raises(RunError, match=r"differs in camera\.bits, seed; drop those options"):
        _resume(run.path, other, may_differ=("workers",))
    _resume(run.path, settings(workers=4), may_differ=("workers",))


def test_two_processes_cannot_write_one_folder(make: Any, settings: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    with pytest.raises(RunError, match="is in use by another run; wait until it ends"):
        _resume(run.path, settings())
    run.close()
    _resume(run.path, settings())


def test_resume_needs_a_run_folder(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        _resume(tmp_path, settings())


def test_tensors_come_back_bit_for_bit(make: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    base = torch.arange(12, dtype=torch.float64).reshape(3, 4) / 7
    tensors = {"transposed": base.T, "shared": base[1:], "byte": torch.tensor([1, 255], dtype=torch.uint8)}
    run.write_tensors("checkpoints/mask.safetensors", tensors, {"kind": "zernike"})
    back = run.read_tensors("checkpoints/mask.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) and back[name].dtype == tensors[name].dtype for name in tensors)


def test_damaged_files_are_named(make: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    run.write_bytes("a.json", b"{")
    run.write_bytes("a.safetensors", b"12")
    with pytest.raises(RunError, match=r"a\.json is damaged: it is no valid JSON: .*; resume the run, which writes"):
        run.read_json("a.json")
    with pytest.raises(RunError, match=r"a\.safetensors is damaged \(.*\); resume the run, which writes it again"):
        run.read_tensors("a.safetensors")
    for read in (run.read_json, run.read_tensors):
        with pytest.raises(RunError, match=r"There is no .*gone; resume the run, which writes it again"):
            read("gone")
    (run.path / "c.safetensors").mkdir()
    with pytest.raises(RunError, match=r"c\.safetensors is a folder, not a file; move it away, and resume the run"):
        run.read_tensors("c.safetensors")
    run.write_bytes("b.json", b"[" * 100_000)
    with pytest.raises(RunError, match=r"b\.json is damaged: it holds lists or tables nested more than 64 times"):
        run.read_json("b.json")


def test_a_damaged_line_of_the_metrics_is_named(make: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    run.log_metrics({"step": 1})
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": \n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2, is no valid JSON"):
        run.read_metrics()


def _change(path: Path, value: Any) -> None:
    path.write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda marker: [], r"does not describe a finished stage; delete that file, and the stage runs again"),
        (lambda marker: "words", r"is damaged: it is no valid JSON"),
        (lambda marker: "", r"is damaged: it is no valid JSON"),
        (lambda marker: {}, r"does not describe a finished stage"),
        (lambda marker: "[" * 100_000, r"is damaged: it holds lists or tables nested more than"),
        (lambda marker: {**marker, "result": [1]}, r"does not describe a finished stage"),
        (lambda marker: {**marker, "metrics_bytes": "all"}, r"does not describe a finished stage"),
        (lambda marker: {**marker, "files": 3}, r"does not describe a finished stage"),
        (lambda marker: {**marker, "result": {}}, r"was changed after the stage ended; undo the change, or delete"),
        (lambda marker: {**marker, "metrics_bytes": 1}, r"was changed after the stage ended"),
        (lambda marker: {**marker, "result": {"loss": 0.25}}, r"was changed after the stage ended"),
    ],
)
def test_a_stage_marker_that_was_edited_is_refused_at_once(
    make: Any, settings: Any, tmp_path: Path, change: Any, message: str
) -> None:
    run = make(out=tmp_path / "r")
    run.log_metrics({"step": 1})
    run.mark_stage("train", {"loss": 0.5})
    run.close()
    marker = run.path / "stages" / "train.json"
    _change(marker, change(json.loads(marker.read_text())))
    with pytest.raises(RunError, match=rf"train\.json {message}"):
        run.stage_done("train")
    with pytest.raises(RunError, match=rf"train\.json {message}"):
        _resume(run.path, settings())
    assert run.read_metrics() == [{"step": 1}], "a refused resume changes nothing"


def test_a_marker_may_be_laid_out_anew_and_one_of_an_earlier_version_is_read(
    make: Any, settings: Any, tmp_path: Path
) -> None:
    run = make(out=tmp_path / "r")
    run.mark_stage("train", {"loss": 0.1, "name": "é"})
    marker = run.path / "stages" / "train.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()), sort_keys=True))
    assert run.stage_done("train") == {"loss": 0.1, "name": "é"}
    marker.write_text('{"result": {"loss": 0.5}, "metrics_bytes": 0}')
    assert run.stage_done("train") == {"loss": 0.5}


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("mask.safetensors", lambda data: data[:-1], "is damaged"),
        ("mask.safetensors", lambda data: data[:20], "is damaged"),
        ("mask.safetensors", lambda data: b"", "is damaged"),
        ("mask.safetensors", lambda data: pickle.dumps({"height": [0.0]}), "is damaged"),
        ("mask.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), None),
        ("facts.json", lambda data: data[:-3], "is damaged"),
        ("facts.json", lambda data: data.replace(b"0.5", b"0.7"), None),
        ("picture.png", lambda data: bytes([data[0] ^ 128]) + data[1:], None),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_damaged_files_of_a_finished_stage_are_refused_at_once(
    make: Any, settings: Any, tmp_path: Path, name: str, damage: Any, message: str | None, earlier: bool
) -> None:
    run = make(out=tmp_path / "r")
    run.write_tensors("mask.safetensors", {"height": torch.zeros(4, 4)})
    run.write_json("facts.json", {"loss": 0.5})
    run.write_bytes("picture.png", b"\x89PNG")
    run.mark_stage("design")
    if earlier:
        # Versions before this one noted names alone, so only what can be told from the file itself is seen.
        marker = run.path / "stages" / "design.json"
        told = json.loads(marker.read_text())
        del told["sha256"]
        marker.write_text(json.dumps({**told, "files": list(told["files"])}))
    run.close()
    path = run.path / name
    path.write_bytes(damage(path.read_bytes()))
    if earlier and message is None:
        _resume(run.path, settings()).close()
        return
    said = message if earlier else r"is not the file that this run wrote \(its SHA-256 differs\)"
    wanted = rf"{name} {said}.* put it back, or delete .*design\.json, and the stage that wrote"
    with pytest.raises(RunError, match=wanted):
        check_stages(run.path)
    with pytest.raises(RunError, match=wanted):
        _resume(run.path, settings())


@pytest.mark.parametrize("marked", [False, True])
def test_a_file_that_changed_since_it_was_written_is_not_read(make: Any, tmp_path: Path, marked: bool) -> None:
    run = make(out=tmp_path / "r")
    run.write_tensors("mask.safetensors", {"height": torch.zeros(4, 4)})
    run.write_json("facts.json", {"loss": 0.5})
    if marked:
        run.mark_stage("design")
    for name, read in (("mask.safetensors", run.read_tensors), ("facts.json", run.read_json)):
        read(name)
        data = (run.path / name).read_bytes()
        (run.path / name).write_bytes(data[:-2] + bytes([data[-2] ^ 2]) + data[-1:])
        with pytest.raises(RunError, match=rf"{name} is not the file that this run wrote \(its SHA-256 differs\);"):
            read(name)


def test_a_stage_that_runs_again_may_write_another_file(make: Any, settings: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    for number in range(2):
        run.write_json("facts.json", {"number": number})
        assert run.read_json("facts.json") == {"number": number}
        run.mark_stage("count")
    run.close()
    assert _resume(run.path, settings()).read_json("facts.json") == {"number": 1}


def test_files_that_a_later_stage_took_away_or_a_stopped_one_left_do_not_end_a_run(
    make: Any, settings: Any, tmp_path: Path
) -> None:
    run = make(out=tmp_path / "r")
    run.write_tensors("start.safetensors", {"x": torch.zeros(1)})
    run.mark_stage("start")
    (run.path / "start.safetensors").unlink()
    run.write_tensors("half.safetensors", {"x": torch.zeros(1)})
    (run.path / "half.safetensors").write_bytes(b"half")
    run.close()
    again = _resume(run.path, settings())
    with pytest.raises(
        RunError,
        match=r"no .*start\.safetensors; put it back, or delete .*start\.json, and the stage that wrote",
    ):
        again.read_tensors("start.safetensors")


@pytest.mark.parametrize("change", [lambda text: text.replace("seed = 0", "seed = 1"), lambda text: text + "# note\n"])
def test_a_configuration_that_was_edited_is_refused(make: Any, settings: Any, tmp_path: Path, change: Any) -> None:
    run = make(out=tmp_path / "r")
    run.close()
    file = run.path / "config.toml"
    text = file.read_text()
    file.write_text(change(text))
    with pytest.raises(
        RunError, match=r"config\.toml is not what the run began with .*; undo the change, or start a new"
    ):
        stored_config(run.path, settings)
    file.write_text(text)
    assert stored_config(run.path, settings) == settings()


def test_a_run_of_an_earlier_version_has_no_hash_of_its_configuration(make: Any, settings: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    path = run.path / "environment.json"
    environment = json.loads(path.read_text())
    del environment["config_sha256"]
    path.write_text(json.dumps(environment))
    assert stored_config(run.path, settings) == settings()
    path.write_text("[]")
    with pytest.raises(RunError, match="is not what the run began with"):
        stored_config(run.path, settings)


def test_the_command_is_kept_without_the_home_folder(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/jane.d")
    words = [
        "/home/jane.d/.venv/bin/optishield", "train-mask", "--faces", "/home/jane.d/photos", "--out=/home/jane.d",
        "--set", "note=a /home/jane.d/b", "/home/jane.dean/x", "/mnt/home/jane.d/x", "--config", "a.toml",
    ]  # fmt: skip
    command = describe_environment(command=words, seeds={})["command"]
    assert command == [
        "optishield", "train-mask", "--faces", "~/photos", "--out=~", "--set", "note=a /home/jane.d/b",
        "/home/jane.dean/x", "/mnt/home/jane.d/x", "--config", "a.toml",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x"])
def test_names_stay_inside_the_folder(make: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="does not name a file inside the run folder"):
        make(out=tmp_path / "r").write_text(name, "x")


def test_json_refuses_what_it_cannot_hold_and_names_the_key(make: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    with pytest.raises(GroundError, match=r"a\.json: rates\[1\] is inf"):
        run.write_json("a.json", {"rates": [0.0, float("inf")]})
    with pytest.raises(GroundError, match=r"metrics\.jsonl: x holds a set"):
        run.log_metrics({"x": {1, 2}})
    assert not run.has("a.json")
    assert not run.has("metrics.jsonl")


def _full_disk(monkeypatch: pytest.MonkeyPatch, after_bytes: int) -> None:
    """Let ``os.write`` fail as on a full disk after some bytes of each call sequence."""
    left = after_bytes
    real = os.write

    def write(handle: int, data: Any) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = real(handle, bytes(data)[:left])
        left -= count
        return count

    monkeypatch.setattr(os, "write", write)


def test_full_disk_leaves_the_old_file(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(out=tmp_path / "r")
    run.write_json("summary.json", {"rank1": 0.5})
    before = _everything(run.path)
    with monkeypatch.context() as patch:
        _full_disk(patch, after_bytes=5)
        with pytest.raises(RunError, match=r"summary\.json: No space left on device; free space"):
            run.write_json("summary.json", {"rank1": 0.25})
    assert run.read_json("summary.json") == {"rank1": 0.5}
    assert _everything(run.path) == before


def test_full_disk_takes_back_half_a_metrics_line(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(out=tmp_path / "r")
    run.log_metrics({"step": 1})
    with monkeypatch.context() as patch:
        _full_disk(patch, after_bytes=4)
        with pytest.raises(RunError, match=r"metrics\.jsonl: No space left on device"):
            run.log_metrics({"step": 2})
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_full_disk_makes_no_run_folder(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _full_disk(patch, after_bytes=5)
        with pytest.raises(RunError, match=rf"^{re.escape(str(tmp_path / 'r'))}: No space left on device"):
            make(out=tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_read_only_disk_is_one_clear_error(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(args[0]))

    run = make(out=tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(RunError, match=r"a\.json: Read-only file system; the disk is read-only: choose another"):
            run.write_json("a.json", {})


def test_a_folder_below_a_file_is_refused(make: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"(File exists|Not a directory)"):
        make(out=tmp_path / "file" / "r")


_VICTIM = """
import os, signal, sys
from pathlib import Path
from ground import files
from optishield.run.environment import describe_environment
from optishield.run.folder import RunFolder

run = RunFolder(Path(sys.argv[1]))
run.log_metrics({"stage": "a"})
run.mark_stage("a", {"ok": True})
run.log_metrics({"stage": "b"})
real = os.write
def half(handle, data):
    real(handle, bytes(data)[:3])
    os.kill(os.getpid(), signal.SIGKILL)
files.os.write = half
run.write_json("summary.json", {"rank1": 0.25})
"""


def test_kill_in_the_middle_of_a_write(make: Any, settings: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    run.write_json("summary.json", {"rank1": 0.5})
    run.close()
    root = Path(runs.__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _VICTIM, str(run.path)], env={**os.environ, "PYTHONPATH": str(root)}, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    again = _resume(run.path, settings())
    assert again.read_json("summary.json") == {"rank1": 0.5}
    assert again.stage_done("a") == {"ok": True}
    assert again.read_metrics() == [{"stage": "a"}]
    leftovers = [path for path in run.path.iterdir() if path.suffix == ".tmp"]
    assert leftovers == [], "resume removes what a killed writer left"


def test_files_follow_the_umask(make: Any, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = make(out=tmp_path / "r").write_text("a.txt", "x")
        assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


def test_json_is_stable(make: Any, tmp_path: Path) -> None:
    run = make(out=tmp_path / "r")
    value = {"b": np.float32(0.5), "a": [np.arange(2), (True, None)], "path": Path("x")}
    path = run.write_json("a.json", value)
    assert json.loads(path.read_text()) == {"b": 0.5, "a": [[0, 1], [True, None]], "path": "x"}
