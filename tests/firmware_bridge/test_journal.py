from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from firmware_bridge.errors import SessionError
from firmware_bridge.session.journal import Entry, Journal, read_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = tmp_path / "journal.jsonl"
    Journal.create(journal)
    return journal


def written(path: Path, count: int = 3) -> bytes:
    with Journal(path, wall=lambda: 5.0) as journal:
        for number in range(count):
            journal.add(Entry.intent, [{"key": f"k{number}"}])
    return path.read_bytes()


def test_chain_is_that_of_a_reader_of_its_own(path: Path) -> None:
    previous = "0" * 64
    for number, text in enumerate(written(path).splitlines()):
        line = json.loads(text)
        stated = line.pop("hash")
        content = json.dumps(line, sort_keys=True, separators=(",", ":")).encode()
        assert line == {
            "body": {"key": f"k{number}"},
            "kind": "INTENT",
            "number": number,
            "previous": previous,
            "unix_s": 5.0,
        }
        assert hashlib.sha256(content).hexdigest() == stated
        previous = stated


def test_every_torn_last_line_is_taken_back(path: Path) -> None:
    data = written(path)
    start = data.rfind(b"\n", 0, -1) + 1
    for end in range(start, len(data)):
        path.write_bytes(data[:end])
        with Journal(path) as journal:
            assert len(journal.lines) == 2
        assert path.read_bytes() == data[:start]


def test_goes_on_after_a_torn_line(path: Path) -> None:
    data = written(path)
    path.write_bytes(data[:-5])
    with Journal(path, wall=lambda: 5.0) as journal:
        journal.add(Entry.intent, [{"key": "k2"}])
    assert path.read_bytes() == data


def test_every_changed_bit_of_whole_lines_is_refused(path: Path) -> None:
    data = written(path, 2)
    for position in range(0, len(data) - 1, 3):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(SessionError, match=r"line \d of .* (is damaged|does not continue the chain)"):
            read_journal(path)


def test_missing_exchanged_and_repeated_lines_are_refused(path: Path) -> None:
    one, two, three = written(path).splitlines(keepends=True)
    for wrong in (one + three, two + three, one + three + two, one + one, one + two + b"{}\n", one + b"\n" + two):
        path.write_bytes(wrong)
        with pytest.raises(SessionError, match=r"line \d of .* (is damaged|does not continue the chain)"):
            Journal(path)


def test_one_process_at_a_time(path: Path) -> None:
    with Journal(path), pytest.raises(SessionError, match="another process works on"):
        Journal(path)
    Journal(path).close()


def test_a_line_that_the_disk_does_not_take_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(path, 1)
    write = os.write

    def full(handle: int, part: bytes) -> None:
        write(handle, part[: len(part) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(path, wall=lambda: 5.0) as journal:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(SessionError, match=r"No space left on device; make space, then resume"):
            journal.add(Entry.intent, [{"key": "k1"}, {"key": "k2"}])
        monkeypatch.undo()
        assert path.read_bytes() == data
        journal.add(Entry.intent, [{"key": "k1"}])
    assert [line.body["key"] for line in read_journal(path)[0]] == ["k0", "k1"]


def test_there_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"cannot be opened: .*No such file"):
        Journal(tmp_path / "none.jsonl")
