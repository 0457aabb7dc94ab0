"""``optishield cache``: what is counted, what is removed, and what never is."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch

from evaluation.matrix.store import Store
from optishield.cli import main
from optishield.commands import cache

DAY_S = 86_400


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of attacks, clean results, rendered heads and weights, with a file that was never finished."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("OPTISHIELD_CACHE", str(folder))
    for name, size, days in (
        ("evaluation/attack-00aa.safetensors", 1000, 1),
        ("evaluation/attack-00bb.safetensors", 500, 40),
        ("evaluation/clean-00cc.safetensors", 20, 5),
        ("evaluation/.0123456789ab.tmp", 7, 2),
        ("faces/heads-00dd.npz", 3_000_000, 40),
        ("weights/sface.safetensors", 10_000, 400),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        then = time.time() - days * DAY_S
        os.utime(path, (then, then))
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["cache", *words])
    said = capsys.readouterr()
    return code, said.out or said.err


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_sizes_and_ages_by_kind(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "show", "--json")
    found = json.loads(text)
    assert (code, found["folder"], found["entries"], found["bytes"]) == (0, str(kept), 5, 3_001_527)
    kinds = {row["kind"]: (row["entries"], row["bytes"]) for row in found["kinds"]}
    assert kinds == {
        "evaluation/attack": (2, 1500), "evaluation/clean": (1, 20), "evaluation/unfinished": (1, 7),
        "faces/heads": (1, 3_000_000),
    }  # fmt: skip
    attack = found["kinds"][0]
    assert (attack["newest_days"], attack["oldest_days"]) == pytest.approx((1, 40), abs=0.1)
    text = run(capsys, "show")[1]
    assert f"{kept}: 5 entries, 3.0 MB" in text
    assert "2 entries, 1.5 kB, used 1.0 to 40.0 days ago" in text


def test_what_was_not_used_for_long_is_removed_and_weights_never(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "prune", "--older-than", "30") == (0, "2 entries removed, 3.0 MB freed\n")
    left = {"attack-00aa.safetensors", "clean-00cc.safetensors", ".0123456789ab.tmp", "sface.safetensors"}
    assert names(kept) == left
    code, text = run(capsys, "prune", "--all", "--json")
    assert (code, json.loads(text)) == (0, {"removed": 3, "bytes": 1027, "not_removed": {}})
    assert names(kept) == {"sface.safetensors"}


def test_a_file_that_is_being_written_stays(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kept / "evaluation" / ".ba9876543210.tmp").write_bytes(b"half")
    run(capsys, "prune", "--all")
    assert names(kept) == {".ba9876543210.tmp", "sface.safetensors"}


def test_links_lead_nowhere(kept: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "attack-1.safetensors").write_bytes(b"mine")
    (kept / "protectors").symlink_to(outside)
    (kept / "evaluation" / "attack-2.safetensors").symlink_to(outside / "attack-1.safetensors")
    run(capsys, "prune", "--all")
    assert (outside / "attack-1.safetensors").read_bytes() == b"mine"
    assert (kept / "evaluation" / "attack-2.safetensors").is_symlink()


def test_what_cannot_be_removed_does_not_keep_the_rest(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cache.entries(kept)
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.name.startswith("attack-00aa"):
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    removed, left = cache.prune(found, time.time(), 0)
    assert (len(removed), left) == (4, [(kept / "evaluation" / "attack-00aa.safetensors", "Permission denied")])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "say what to remove: either --older-than DAYS or --all"),
        (("--all", "--older-than", "3"), "say what to remove: either --older-than DAYS or --all"),
        (("--older-than", "-1"), "--older-than -1 is no number of days; give 0 or more"),
        (("--older-than", "nan"), "--older-than nan is no number of days; give 0 or more"),
    ],
)
def test_an_unclear_wish_removes_nothing(
    kept: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    before = names(kept)
    code, said = run(capsys, "prune", *words)
    assert (code, names(kept)) == (2, before)
    assert text in said


def test_an_absent_cache_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path / "none"))
    assert run(capsys, "show") == (0, f"{tmp_path / 'none'}: 0 entries, 0 B\n")
    assert run(capsys, "prune", "--all") == (0, "0 entries removed, 0 B freed\n")


def test_use_makes_a_result_young_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.once("attack-1", lambda: ({"x": torch.zeros(1)}, {}))
    os.utime(store.path("attack-1"), (0, 0))
    store.once("attack-1", lambda: ({"x": torch.zeros(1)}, {}))
    assert store.path("attack-1").stat().st_mtime > 1e9


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3 * 10**12, "3.0 TB")]
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert cache.readable(size) == text
