from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.errors import SessionError
from firmware_bridge.session.frames import FrameWriter, npy_header, read_frame


def levels(seed: int, dtype: type[np.generic] = np.uint16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (5, 7)).astype(dtype)


@pytest.mark.parametrize("made", [levels(1), levels(2, np.uint8), levels(3).astype(">u2"), levels(4).T, levels(5)[::2]])
def test_files_are_those_of_numpy_and_hashes_those_of_the_files(tmp_path: Path, made: np.ndarray) -> None:
    with FrameWriter(tmp_path) as writer:
        written = writer.put("0.npy", made)
        writer.publish([written])
    data = (tmp_path / "0.npy").read_bytes()
    expected = io.BytesIO()
    np.save(expected, np.ascontiguousarray(made).astype(made.dtype.newbyteorder("<")))
    assert data == expected.getvalue()
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    assert np.array_equal(read_frame(tmp_path / "0.npy", written.sha256), made)


def test_header_has_the_length_that_numpy_aligns_to() -> None:
    assert len(npy_header(levels(1))) % 64 == 0


def test_no_name_before_the_data_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In the order of the calls: all of a file, then its name, then the folder.
    calls: list[tuple[str, str]] = []
    lock = threading.Lock()

    def spy(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: Any) -> object:
            with lock:
                file = arguments[1] if name == "replace" else os.readlink(f"/proc/self/fd/{arguments[0]}")
                calls.append((name, Path(file).name))
            return call(*arguments)

        return called

    monkeypatch.setattr(os, "fsync", spy("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", spy("replace", os.replace))
    with FrameWriter(tmp_path) as writer:
        writer.publish([writer.put(f"{n}.npy", levels(n)) for n in range(3)])
    assert sorted(calls[:3]) == [("fsync", f".{n}.npy.tmp") for n in range(3)]
    assert calls[3:] == [*(("replace", f"{n}.npy") for n in range(3)), ("fsync", tmp_path.name)]


def test_replaces_a_frame_that_is_taken_again(tmp_path: Path) -> None:
    with FrameWriter(tmp_path) as writer:
        writer.publish([writer.put("0.npy", levels(1))])
        again = writer.put("0.npy", levels(2))
        writer.publish([again])
    assert np.array_equal(read_frame(tmp_path / "0.npy", again.sha256), levels(2))
    assert [path.name for path in tmp_path.iterdir()] == ["0.npy"]


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    real, count = getattr(os, failing), iter(range(100))

    def full(*arguments: Any) -> object:
        if next(count) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with FrameWriter(tmp_path) as writer:
        monkeypatch.setattr(os, failing, full)
        put = [writer.put(f"{n}.npy", levels(n)) for n in range(5)]
        with pytest.raises(SessionError, match="No space left on device; make space, then resume"):
            writer.publish(put)
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, memoryview(data)[:13]))
    with FrameWriter(tmp_path) as writer:
        written = writer.put("0.npy", levels(1))
        writer.publish([written])
    assert np.array_equal(read_frame(tmp_path / "0.npy", written.sha256), levels(1))


def test_put_waits_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), os.fsync

    def slow(handle: int) -> None:
        assert gate.wait(30)
        real(handle)

    monkeypatch.setattr(os, "fsync", slow)
    with FrameWriter(tmp_path, depth=6) as writer:
        put = [writer.put(f"{n}.npy", levels(n)) for n in range(6)]
        seventh = threading.Thread(target=lambda: put.append(writer.put("6.npy", levels(6))))
        seventh.start()
        seventh.join(0.2)
        assert seventh.is_alive()
        gate.set()
        seventh.join(30)
        assert not seventh.is_alive()
        writer.publish(put)
    assert len(list(tmp_path.iterdir())) == 7


def test_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".3.npy.tmp").write_bytes(b"half")
    (tmp_path / "2.npy").write_bytes(b"whole")
    FrameWriter(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["2.npy"]


def test_discards(tmp_path: Path) -> None:
    with FrameWriter(tmp_path) as writer:
        writer.discard([writer.put("0.npy", levels(1))])
    assert list(tmp_path.iterdir()) == []


def test_a_changed_frame_is_refused(tmp_path: Path) -> None:
    with FrameWriter(tmp_path) as writer:
        written = writer.put("0.npy", levels(1))
        writer.publish([written])
    data = bytearray((tmp_path / "0.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "0.npy").write_bytes(data)
    with pytest.raises(SessionError, match=r"0.npy has SHA-256 .* was written; use a copy"):
        read_frame(tmp_path / "0.npy", written.sha256)
    with pytest.raises(SessionError, match=r"1.npy cannot be read: .*No such file"):
        read_frame(tmp_path / "1.npy", written.sha256)
