"""A run that goes on looks first at what it would go on from: the mask, and the device."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codesign import masks
from codesign.cameras import geometry_of
from codesign.config import TrainMaskConfig
from codesign.errors import CodesignError
from codesign.files import MASK, sha256
from codesign.run import train_mask
from ground.errors import GroundError
from optishield.cli import main
from optishield.run.folder import RunFolder

CONFIG = TrainMaskConfig.for_budget("smoke").model_copy(update={"design": "frame"})


class Reached(Exception):
    """The run got past its checks."""


@pytest.fixture(autouse=True)
def stop_after_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(config: object) -> None:
        raise Reached("past the checks")

    monkeypatch.setattr("codesign.run._check_early", reached)


@pytest.fixture
def designed(tmp_path: Path) -> Path:
    """The folder of a run that was stopped after its design, on the CPU."""
    out = tmp_path / "run"
    run = RunFolder.create(verb="train-mask", slug="toy", config=CONFIG, command=[], seeds={}, out=out)
    mask = masks.start(CONFIG.mask, geometry_of(CONFIG.optics).grid, torch.Generator().manual_seed(0))
    run.mark_stage("device", {"device": "cpu"})
    path = run.write_tensors(MASK, mask.state_dict())
    run.mark_stage("design", {"best_start": 0, "starts": [], "mask_sha256": sha256(path)})
    run.close()
    return out


def other_values(path: Path) -> None:
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)


def other_kind(path: Path) -> None:
    save_file({"coefficients_m": torch.zeros(6)}, path)


ANOTHER = "is not the file that this run wrote"
#: What becomes of the mask, what ``--resume`` says of it before anything is computed, and what the job would say.
DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "gone": (Path.unlink, "cannot be read", r"cannot be read \(No such file or directory\)"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:200]), ANOTHER, "is damaged"),
    "empty": (lambda path: path.write_bytes(b""), ANOTHER, "is damaged"),
    "a pickle": (lambda path: torch.save({"controls": torch.zeros(3)}, path), ANOTHER, "is damaged"),
    "another mask": (other_values, ANOTHER, ANOTHER),
    "a mask of another kind": (other_kind, ANOTHER, ANOTHER),
}


@pytest.mark.parametrize(("damage", "said", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_mask_that_is_not_the_one_that_was_designed_is_refused_at_once(
    damage: Callable[[Path], object], said: str, words: str, designed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(designed / MASK)
    assert main(["train-mask", "--resume", str(designed), "--quiet"]) == 3
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert said in message
    assert "design.json" in message
    with RunFolderOpen(designed) as run, pytest.raises(CodesignError, match=words):
        train_mask(CONFIG, run, resume=False, progress=None)  # type: ignore[arg-type]


class RunFolderOpen:
    """A run folder that is closed again."""

    def __init__(self, path: Path) -> None:
        self.run = RunFolder(path)

    def __enter__(self) -> RunFolder:
        return self.run

    def __exit__(self, *error: object) -> None:
        self.run.close()


def test_a_mask_without_a_hash_is_still_looked_at(designed: Path) -> None:
    """Runs of older versions noted none."""
    other_kind(designed / MASK)
    with RunFolderOpen(designed) as run:
        run.mark_stage("design", {"best_start": 0, "starts": []})
        with pytest.raises(CodesignError, match=r"cannot be used: a free-form mask .*; put it back, or delete"):
            train_mask(CONFIG, run, resume=False, progress=None)  # type: ignore[arg-type]


def test_an_untouched_mask_lets_the_run_go_on(designed: Path) -> None:
    with RunFolderOpen(designed) as run, pytest.raises(Reached, match="past the checks"):
        train_mask(CONFIG, run, resume=False, progress=None)  # type: ignore[arg-type]


def test_a_run_stays_on_the_kind_of_device_that_it_was_begun_on(designed: Path, tmp_path: Path) -> None:
    with (
        RunFolderOpen(designed) as run,
        pytest.raises(GroundError, match=r"was begun on cpu .* not be the same on cuda; resume it with --device cpu"),
    ):
        train_mask(CONFIG, run, resume=False, progress=None, device="cuda:0")  # type: ignore[arg-type]
    # A run of a version that noted no device was computed on the CPU.
    shutil.copytree(designed, tmp_path / "old")
    (tmp_path / "old" / "stages" / "device.json").unlink()
    with RunFolderOpen(tmp_path / "old") as run:
        run.mark_stage("faces", {})
        with pytest.raises(GroundError, match="was begun on cpu"):
            train_mask(CONFIG, run, resume=False, progress=None, device="cuda")  # type: ignore[arg-type]


def test_a_camera_of_pairs_is_refused_where_it_would_be_computed_elsewhere(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"design": "winners"})
    run = RunFolder.create(verb="train-mask", slug="toy", config=config, command=[], seeds={}, out=tmp_path / "pairs")
    with pytest.raises(CodesignError, match=r"is computed on the CPU alone; leave --device cuda out"):
        train_mask(config, run, resume=False, progress=None, device="cuda")  # type: ignore[arg-type]
    run.close()
    assert not (tmp_path / "pairs" / "stages" / "device.json").exists()


def test_the_option_reaches_the_job(
    designed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optishield.console.choose", lambda name: torch.device("cuda:0" if name == "cuda" else name))
    assert main(["train-mask", "--resume", str(designed), "--quiet", "--device", "cuda"]) == 3
    assert "was begun on cpu and figures would not be the same on cuda" in capsys.readouterr().err
