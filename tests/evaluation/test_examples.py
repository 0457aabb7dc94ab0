"""The example scripts of the evaluation run from an empty folder and print what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "evaluation"


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"ask_a_face_service.py"}


def test_a_face_service_is_asked_at_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Everything that the script sets is put back.
    for name in ("AWS_ENDPOINT_URL_REKOGNITION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "unused")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    runpy.run_path(str(EXAMPLES / "ask_a_face_service.py"))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "36 requests, 0.036 spent"
    assert [line.partition(":")[0] for line in said[1:]] == ["clean", "protected"]
    assert said[1].startswith("clean: 1.00 recognised")
    assert all(line.endswith("0 without a score") for line in said[1:])
    assert not list(tmp_path.iterdir()), "answers are kept in a folder of their own"
