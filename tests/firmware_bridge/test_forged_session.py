"""Sessions forged with the whole chain of hashes: nothing outside the folder is read, and each ends in a sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.errors import SessionError
from firmware_bridge.session import export
from firmware_bridge.session.files import canonical_json, sha256_hex
from firmware_bridge.session.journal import FIRST, Entry, Line, read_journal
from firmware_bridge.session.run import capture
from firmware_bridge.session.seal import load_sealed, merkle_root, seal, verify
from tests.firmware_bridge.session_doubles import World, session

SECRET = "frames/../../../secret.npy"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    np.save(tmp_path / "secret.npy", np.arange(24 * 16, dtype=np.uint16).reshape(16, 24))
    (tmp_path / "in").mkdir()
    return Path(shutil.copytree(original, tmp_path / "in" / "session"))


Change = Callable[[Entry, dict[str, Any]], None]


def forge(folder: Path, change: Change, header: Callable[[dict[str, Any]], None] = lambda header: None) -> None:
    """Change the body of every line, and the settings, and make chain, manifest, Merkle root and seal anew."""
    settings = json.loads((folder / "session.json").read_text())
    header(settings)
    text = canonical_json(settings) + b"\n"
    (folder / "session.json").write_bytes(text)
    lines: list[Line] = []
    records: dict[str, Any] = {}
    for line in read_journal(folder / "journal.jsonl")[0]:
        body = json.loads(canonical_json(dict(line.body)))
        if line.kind is Entry.open:
            body["session"] = sha256_hex(text)
        change(line.kind, body)
        if line.kind is Entry.done and isinstance(body.get("record"), dict):
            records[str(body["record"].get("key"))] = body["record"]
        if line.kind is Entry.seal:
            frames = list(records.values())
            root = merkle_root([canonical_json(frame) for frame in frames])
            manifest = canonical_json({"session": settings, "frames": frames, "merkle_root": root}) + b"\n"
            (folder / "manifest.json").write_bytes(manifest)
            body["manifest"] = sha256_hex(manifest)
        previous = lines[-1].hash if lines else FIRST
        lines.append(Line(len(lines), line.kind, body, line.unix_s, previous))
    (folder / "journal.jsonl").write_bytes(b"".join(line.as_bytes() for line in lines))


def records_with(**changes: Any) -> Change:
    """Change the record of the fifth frame."""

    def change(kind: Entry, body: dict[str, Any]) -> None:
        if kind is Entry.done and body["record"]["index"] == 4:
            body["record"].update(changes)

    return change


def refused(folder: Path, reason: str) -> None:
    """No way to use the session leads anywhere but to one sentence."""
    checks = verify(folder)
    assert checks[-1].passed is False and reason in checks[-1].reason
    for use in (load_sealed, seal):
        with pytest.raises(SessionError) as caught:
            use(folder)
        assert reason in str(caught.value)


def test_a_session_forged_without_a_change_is_accepted(folder: Path) -> None:
    # So that what the other tests see is due to the change.
    forge(folder, lambda kind, body: None)
    assert all(check.passed for check in verify(folder))


@pytest.mark.parametrize("file", [SECRET, "/etc/passwd", "frames/000003.npy", "frames/./000004.npy", "000004.npy", ""])
def test_the_file_of_a_frame_is_the_one_that_its_shot_demands(folder: Path, tmp_path: Path, file: str) -> None:
    digest = sha256_hex((tmp_path / "secret.npy").read_bytes())
    forge(folder, records_with(file=file, sha256=digest))
    refused(folder, "frame 4 is kept in frames/000004.npy, not in")
    for write in (export.to_tiff, export.to_nexus):
        with pytest.raises(SessionError, match=r"is kept in frames/000004\.npy"):
            write(load_sealed(folder), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(("name", "value"), [("step", "stack"), ("role", "dark"), ("repeat", 7), ("pattern_id", 1)])
def test_a_record_says_what_its_shot_demands(folder: Path, name: str, value: object) -> None:
    forge(folder, records_with(**{name: value}))
    assert [check.name for check in verify(folder) if not check.passed] == ["frames of the plan"]


def test_two_frames_that_changed_places_are_found(folder: Path) -> None:
    def change(kind: Entry, body: dict[str, Any]) -> None:
        if kind is Entry.done and body["record"]["index"] in (4, 5):
            body["record"]["index"] = 9 - body["record"]["index"]
            body["record"]["file"] = f"frames/{body['record']['index']:06d}.npy"

    forge(folder, change)
    assert [check.name for check in verify(folder) if not check.passed] == ["frames of the plan"]


@pytest.mark.parametrize("link", ["frames/000004.npy", "frames", "patterns"])
def test_no_link_leads_out_of_a_session(folder: Path, tmp_path: Path, link: str) -> None:
    path, outside = folder / link, tmp_path / "outside"
    shutil.move(path, outside)
    os.symlink(outside, path)
    wrong = [check.name for check in verify(folder) if not check.passed]
    if link in ("frames", "patterns"):
        assert wrong == ["own folders"]
        with pytest.raises(SessionError, match=f"{link} is a link that leads out of the session"):
            load_sealed(folder)
        return
    assert wrong == ["frames"]
    sealed = load_sealed(folder)
    with pytest.raises(SessionError, match="cannot be read"):
        sealed.read(sealed.manifest.frames[4])


def test_a_pipe_is_no_frame(folder: Path) -> None:
    (folder / "frames/000004.npy").unlink()
    os.mkfifo(folder / "frames/000004.npy")
    assert [check.name for check in verify(folder) if not check.passed] == ["frames"]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["patterns"].update({"../../secret": "0" * 64}),
        lambda header: header["pattern_ids"].pop("checker"),
        lambda header: header["devices"].pop("camera"),
        lambda header: header["devices"]["camera"].pop("serial"),
        lambda header: header.update(plan=3),
    ],
)
def test_forged_settings_end_in_one_sentence(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    forge(folder, lambda kind, body: None, change)
    refused(folder, "session.json is not as it must be")
    with pytest.raises(SessionError, match=r"session\.json is not as it must be"):
        capture(session(World(), folder))


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.clear(),
        lambda body: body.update(record=[1]),
        lambda body: body["record"].pop("sha256"),
        lambda body: body["record"].update(shape=[16, 24, 3]),
    ],
)
def test_forged_lines_end_in_one_sentence(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    forge(folder, lambda kind, body: change(body) if kind is Entry.done else None)
    refused(folder, "of the journal is not as it must be")


def test_a_deep_line_ends_in_one_sentence(folder: Path) -> None:
    with (folder / "journal.jsonl").open("ab") as stream:
        stream.write(b"[" * 100_000 + b"]" * 100_000 + b"\n")
    refused(folder, "holds lists or tables nested more than 64 times")


def test_a_frame_that_is_not_what_its_record_says_is_not_read(folder: Path, tmp_path: Path) -> None:
    data = (tmp_path / "secret.npy").read_bytes()
    (folder / "frames/000004.npy").write_bytes(data)
    forge(folder, records_with(sha256=sha256_hex(data), shape=[8, 48]))
    sealed = load_sealed(folder)
    with pytest.raises(SessionError, match=r"holds \(16, 24\) values of uint16, its record says \(8, 48\) of uint16"):
        sealed.read(sealed.manifest.frames[4])
    (folder / "frames/000004.npy").write_bytes(b"no array")
    forge(folder, records_with(sha256=sha256_hex(b"no array")))
    sealed = load_sealed(folder)
    with pytest.raises(SessionError, match=r"000004\.npy cannot be read as a \.npy file"):
        sealed.read(sealed.manifest.frames[4])
