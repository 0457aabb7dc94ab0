"""Mistakes of the user end in one line and leave no half-made result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from optishield.cli import main

# Whole runs take longer than the usual limit when the machine is busy.
pytestmark = pytest.mark.timeout(600)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    message = capsys.readouterr().err.strip()
    assert message.startswith("optishield: error: ")
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def nothing_made(out: Path) -> bool:
    """Whether the run folder, if there is one, holds nothing but how the run was to be."""
    return not out.exists() or {path.name for path in out.iterdir()} <= {"config.toml", "environment.json", "stages"}


Train = Callable[..., int]


def test_optics_that_cannot_be_sampled(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "run", "--set", "optics.pupil_samples=64") == 3
    assert "64" in one_line(capsys)
    assert nothing_made(tmp_path / "run")


@pytest.mark.parametrize("word", ["mask.colour=red", "sensor.pixels=many", "sensor.pixels=24", "proof.fmr=2"])
def test_settings_that_do_not_exist_or_do_not_fit(
    word: str, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "--set", word) in (2, 3)
    assert word.partition("=")[0] in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_damaged_weights_stop_the_run_at_once(
    train: Train, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / "sface.safetensors").write_bytes(b"damaged")
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "cache"))
    assert train(tmp_path / "run") == 3
    message = one_line(capsys)
    assert "is damaged" in message
    assert "optishield weights fetch sface" in message
    assert nothing_made(tmp_path / "run")
    assert not (tmp_path / "cache" / "faces").exists()


def test_too_few_people_on_photographs(
    train: Train, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "--faces", str(album)) == 3
    assert "holds 3 people with photographs, but at least 20 are needed (8 for train, 4 for calibration," in one_line(
        capsys
    )
    assert nothing_made(tmp_path / "run")


def test_photographs_without_folders(
    train: Train, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(album / "Person_0", tmp_path / "loose")
    assert train(tmp_path / "run", "--faces", str(tmp_path / "loose")) == 3
    assert "but no folders" in one_line(capsys)


def test_run_that_is_there_is_not_overwritten(train: Train, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "summary.json").read_bytes()
    assert train(finished) == 3
    assert "is not empty" in one_line(capsys)
    assert (finished / "summary.json").read_bytes() == before


def test_resume_with_other_settings_names_the_difference(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train-mask", "--resume", str(finished), "--quiet", "--set", "mask.cells=9", "--seed", "4"]
    assert main(words) == 3
    message = one_line(capsys)
    assert "mask.cells" in message
    assert "seed" in message
