"""Sessions take every frame once, refuse what is impossible, and end safe."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.errors import DeviceError, SessionError
from firmware_bridge.session import acquisition
from firmware_bridge.session.bench import open_bench, read_bench
from firmware_bridge.session.folder import JOURNAL, create
from firmware_bridge.session.journal import Entry, read_journal
from firmware_bridge.session.plan import read_plan
from firmware_bridge.session.run import Counts, Session, capture
from firmware_bridge.session.seal import seal, verify
from firmware_bridge.session.setting import FalseReadback
from firmware_bridge.session.states import TRANSITIONS, State
from tests.firmware_bridge.session_doubles import BENCH, FakeLight, World, at, begin, lines, session, write_sources

FRAMES = 14
ROOT = Path(__file__).parents[2]


def test_a_session(world: World, folder: Path) -> None:
    states, made = [], session(world, folder)
    with made:
        states.append(made.state)
        made.arm()
        states.append(made.state)
        at(world, 0, lambda: states.append(made.state))
        made.run()
        states.append(made.state)
        assert world.safe
        lines = {Entry.open: 1, Entry.intent: FRAMES, Entry.done: FRAMES}
        assert made.counts() == Counts(frames=FRAMES, done=FRAMES, lines=lines)
    states.append(made.state)
    assert states == [State.safe, State.armed, State.running, State.safe, State.disconnected]
    seal(folder)
    assert all(check.passed for check in verify(folder))


def test_a_session_counts_in_every_state(world: World, folder: Path) -> None:
    made = session(world, folder)
    assert made.counts() == Counts(frames=FRAMES, done=0, lines={Entry.open: 1})
    at(world, 5, made.stop)
    with made:
        made.arm()
        with pytest.raises(KeyboardInterrupt, match="the operator stopped"):
            made.run()
        before = made.counts()
    assert (before.frames, before.done) == (FRAMES, 6)
    assert made.counts() == before == session(world, folder).counts()


def test_the_display_counts_frames_that_are_on_the_disk(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquisition, "BATCH", 4)
    told: list[int] = []
    on_disk: list[int] = []

    def kept(change: int) -> None:
        told.append(change)
        on_disk.append(len(list((folder / "frames").glob("*.npy"))))

    capture(session(world, folder, kept=kept))
    assert (sum(told), list(np.cumsum(told))) == (FRAMES, on_disk)


def test_the_display_takes_frames_back_that_are_taken_again(world: World, folder: Path) -> None:
    told: list[int] = []
    at(world, 9, lambda: setattr(world, "lamp", 0.5))
    # The lamp comes back while the session is suspended.
    sleep = world.sleep

    def mended(time_s: float) -> None:
        sleep(time_s)
        world.lamp = 1.0 if time_s >= 1 else world.lamp

    capture(session(world, folder, kept=told.append, sleep=mended))
    assert min(told) < 0 and sum(told) == FRAMES


def test_intent_stands_before_and_done_after(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquisition, "BATCH", 1)
    capture(session(world, folder))
    kinds = [str(line.kind) for line in read_journal(folder / JOURNAL)[0]]
    # While one frame is exposed, the one before goes to the disk.
    assert kinds == ["OPEN", "INTENT", *["INTENT", "DONE"] * (FRAMES - 1), "DONE", "SEAL"]


def test_what_done_says(world: World, folder: Path) -> None:
    sealed = capture(session(world, folder))
    body = lines(folder, Entry.done)[7].body
    record = sealed.manifest.frames[7]
    assert body["record"] == record.model_dump(mode="json")
    assert (record.step, record.role, record.repeat, record.file) == ("checker", "light", 2, "frames/000007.npy")
    assert record.pattern_id == sealed.manifest.session.pattern_ids["checker"][0]
    assert record.settings.exposure_s == 0.02
    assert record.light_share == round(0.5 * 65535) / 65535
    assert record.position_m == 0.002
    assert record.origin == "simulated"
    assert record.calibrations == {"dark": "cal-7"}
    assert record.firmware == {"camera": "f1", "light": "f1", "mask": "f1", "stage": "f1"}
    assert body["temperature_c"] == 30.0
    assert not {"frame_id", "temperature_c", "host_time_s"} & set(record.model_dump())


def test_transitions_outside_the_table_are_refused(world: World, folder: Path) -> None:
    made = session(world, folder)
    with pytest.raises(SessionError, match="is DISCONNECTED and cannot become RUNNING; from here it can become SAFE"):
        made.run()
    with pytest.raises(SessionError, match="is DISCONNECTED and cannot become ARMED"):
        made.arm()
    with made:
        with pytest.raises(SessionError, match="is SAFE and cannot become RUNNING"):
            made.run()
        with pytest.raises(SessionError, match="is SAFE and cannot become SAFE"):
            made.connect()
    made.disconnect()
    assert all(State.disconnected in after for state, after in TRANSITIONS.items() if state is not State.disconnected)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("drop", "a frame came damaged"),
        ("repeat", r"frame \d+ of the camera came after"),
        ("freeze", "its levels are those of 000004-checker-light-0"),
    ],
)
def test_lost_doubled_and_frozen_frames_are_taken_again(
    world: World, folder: Path, undisturbed: str, trouble: str, reason: str
) -> None:
    at(world, 5, lambda: setattr(world, trouble, 2))
    assert capture(session(world, folder)).sha256 == undisturbed
    retaken = lines(folder, Entry.retake)
    assert [line.body["key"] for line in retaken] == ["000005-checker-light-1"] * 2
    assert all(re.match(reason, line.body["reason"]) for line in retaken)


def test_frames_that_the_camera_counted_alone_are_journalled(world: World, folder: Path, undisturbed: str) -> None:
    at(world, 5, lambda: setattr(world, "skip", 3))
    assert capture(session(world, folder)).sha256 == undisturbed
    assert [(line.body["key"], line.body["skipped"]) for line in lines(folder, Entry.gap)] == [
        ("000005-checker-light-1", 3)
    ]


def test_equal_dark_frames_are_no_freeze(world: World, folder: Path) -> None:
    at(world, 3, lambda: setattr(world, "freeze", 1))
    sealed = capture(session(world, folder))
    assert sealed.manifest.frames[2].sha256 == sealed.manifest.frames[3].sha256
    assert lines(folder, Entry.retake) == []


def test_a_camera_that_stays_frozen_is_opened_again(world: World, folder: Path, undisturbed: str) -> None:
    at(world, 5, lambda: setattr(world, "freeze", 6))
    assert capture(session(world, folder)).sha256 == undisturbed
    assert len(lines(folder, Entry.retake)) == 6
    (suspended,) = lines(folder, Entry.suspend)
    assert "frame 000005-checker-light-1 failed 6 times, lastly because: its levels" in suspended.body["reason"]


def test_a_frame_of_before_the_resume_is_known(world: World, folder: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def same_noise() -> None:
        world.key = "000004-checker-light-0"

    at(world, 10, stop)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(acquisition, "BATCH", 3)
        capture(session(world, folder))
    assert len(lines(folder, Entry.done)) == 6
    at(world, 7, same_noise)
    capture(session(world, folder))
    assert {line.body["reason"] for line in lines(folder, Entry.retake)} == {
        "its levels are those of 000004-checker-light-0"
    }


def test_a_camera_that_sends_nothing_whole_is_given_up(world: World, folder: Path) -> None:
    at(world, 5, lambda: setattr(world, "drop", 1000))
    with pytest.raises(
        DeviceError, match="frame 000005-checker-light-1 failed 6 times, lastly because: a frame came dam"
    ):
        capture(session(world, folder))
    assert len(lines(folder, Entry.suspend)) == acquisition.LOSSES
    assert len(lines(folder, Entry.done)) == 5


@pytest.mark.parametrize("failing", ["/frames/", JOURNAL])
def test_a_full_disk_stops_the_session_safe_and_whole(
    world: World, folder: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(acquisition, "BATCH", 4)
    real = os.write

    def full(handle: int, data: bytes) -> int:
        name = os.readlink(f"/proc/self/fd/{handle}")
        if world.key >= "000009" and failing in name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data)

    monkeypatch.setattr(os, "write", full)
    made = session(world, folder)
    with made:
        made.arm()
        with pytest.raises(SessionError, match="No space left on device; make space, then resume"):
            made.run()
        assert made.state is State.fault
        assert world.safe
    monkeypatch.setattr(os, "write", real)
    assert not list((folder / "frames").glob(".*"))
    read_journal(folder / JOURNAL)
    assert capture(session(world, folder)).sha256 == undisturbed


def test_too_small_a_disk_is_refused_before_anything_moves(world: World, tmp_path: Path) -> None:
    write_sources(tmp_path, bench=BENCH.replace("= 1000", "= 1000000000"))
    with pytest.raises(SessionError, match=r"takes 14 frames, for which 1000010752 bytes must be free"):
        begin(world, tmp_path)
    assert not (tmp_path / "session").exists()


def test_a_camera_that_ignores_the_exposure_is_refused_before_anything_moves(world: World, tmp_path: Path) -> None:
    write_sources(tmp_path)
    world.ignore_exposure = True
    with pytest.raises(FalseReadback, match=r"set to expose 0.01 s and exposes 0.033 s"):
        begin(world, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.toml", "plan.toml", "stack.npy"]


@pytest.mark.parametrize(
    ("trouble", "match"),
    [("lie_about_exposure", "exposes 0.033 s"), ("wrong_pattern", r"the mask shows [0-9a-f]{8} instead of")],
)
def test_a_device_that_lies_ends_the_session(world: World, folder: Path, trouble: str, match: str) -> None:
    setattr(world, trouble, True)
    with pytest.raises(FalseReadback, match=match):
        capture(session(world, folder))
    assert lines(folder, Entry.done) == []
    assert lines(folder, Entry.suspend) == []


def test_a_bug_leaves_the_bench_safe(world: World, folder: Path) -> None:
    nothing: dict[str, None] = {}
    at(world, 7, lambda: nothing["bug"])
    made = session(world, folder)
    with pytest.raises(KeyError, match="bug"):
        capture(made)


def test_a_light_that_cannot_be_turned_off_is_told(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad() -> None:
        monkeypatch.setattr("tests.firmware_bridge.session_doubles.FakeLight.safe", fails)
        raise RuntimeError("first")

    def fails(self: FakeLight) -> None:
        if self.world.share:
            raise DeviceError("the light is stuck.")

    at(world, 7, bad)
    made = session(world, folder)
    made.connect()
    made.arm()
    with pytest.raises(RuntimeError, match="first") as caught:
        made.run()
    assert (
        "1 of 4 devices could not be made safe; look at the bench:\n  light: the light is stuck"
        in caught.value.__notes__[0]
    )
    monkeypatch.undo()
    made.disconnect()


def test_other_firmware_or_device_on_resume(world: World, folder: Path) -> None:
    world.firmware = "f2"
    with pytest.raises(SessionError, match=r"was begun with .*'f1'.* these are .*'f2'"):
        capture(session(world, folder))


def test_a_damaged_frame_is_taken_again_on_resume(world: World, folder: Path, undisturbed: str) -> None:
    made = session(world, folder)
    with made:
        made.arm()
        made.run()
    (folder / "frames" / "000004.npy").write_bytes(b"rot")
    (folder / "frames" / "000006.npy").unlink()
    with pytest.raises(SessionError, match=r"2 of 14 frames are missing or changed, the first is frames/000004.npy"):
        seal(folder)
    assert capture(session(world, folder)).sha256 == undisturbed
    assert lines(folder, Entry.void)[0].body["keys"] == ["000004-checker-light-0", "000006-sentinel-sentinel-0"]


def test_a_sealed_session_is_not_continued(world: World, folder: Path) -> None:
    capture(session(world, folder))
    with pytest.raises(SessionError, match="is sealed; begin a new session"):
        session(world, folder).connect()


def test_an_existing_folder_and_a_folder_that_is_no_session(world: World, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="session exists already; resume that session"):
        begin(world, tmp_path)
    with pytest.raises(SessionError, match="cannot be opened"):
        Session(tmp_path, world.drivers(), "me").connect()


def test_changed_settings_are_refused(world: World, folder: Path) -> None:
    path = folder / "session.json"
    path.write_bytes(path.read_bytes().replace(b'"averages":3', b'"averages":2'))
    with pytest.raises(SessionError, match=r"session.json is not what the journal began with"):
        capture(session(world, folder))


def test_a_folder_that_is_not_there(world: World, tmp_path: Path) -> None:
    write_sources(tmp_path)
    with (
        open_bench(read_bench(tmp_path / "bench.toml"), world.drivers()) as bench,
        pytest.raises(SessionError, match=r"there is no folder .*/none; make it"),
    ):
        create(tmp_path / "none" / "session", read_plan(tmp_path / "plan.toml"), tmp_path, bench, {})


def test_a_session_that_cannot_be_made_is_called_by_its_own_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sources(tmp_path)
    made = Path.mkdir

    def refuses(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if self.name.endswith(".tmp"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        made(self, mode, parents, exist_ok)

    with open_bench(read_bench(tmp_path / "bench.toml"), world.drivers()) as bench:
        monkeypatch.setattr(Path, "mkdir", refuses)
        with pytest.raises(SessionError, match=r"/session cannot be made \(Permission denied\); free space") as caught:
            create(tmp_path / "session", read_plan(tmp_path / "plan.toml"), tmp_path, bench, {})
    assert ".tmp" not in str(caught.value)


def test_two_patterns_with_one_id(world: World, tmp_path: Path) -> None:
    write_sources(tmp_path)
    first = np.arange(48, dtype=np.uint8).reshape(6, 8)
    second = first.copy()
    second[0, 0] = 200
    second[5, 4:] = last_bytes(second.tobytes()[:44], zlib.crc32(first.tobytes()))
    assert zlib.crc32(first.tobytes()) == zlib.crc32(second.tobytes())
    np.save(tmp_path / "stack.npy", np.stack([first, second]))
    with pytest.raises(SessionError, match=r"step 'stack': two patterns of the plan have the id [0-9a-f]{8}"):
        begin(world, tmp_path)
    assert not (tmp_path / "session").exists()


def last_bytes(start: bytes, crc: int) -> list[int]:
    """Four bytes after which the CRC-32 of ``start`` is ``crc``: a linear equation over bits, by elimination."""
    zero = zlib.crc32(start + bytes(4))
    columns = [zlib.crc32(start + (1 << bit).to_bytes(4, "little")) ^ zero for bit in range(32)]
    rest = crc ^ zero
    basis: dict[int, tuple[int, int]] = {}
    for bit, column in enumerate(columns):
        mix = 1 << bit
        while column and column.bit_length() in basis:
            other = basis[column.bit_length()]
            column, mix = column ^ other[0], mix ^ other[1]
        basis[column.bit_length()] = (column, mix)
    found = 0
    while rest:
        column, mix = basis[rest.bit_length()]
        rest, found = rest ^ column, found ^ mix
    return list(found.to_bytes(4, "little"))


def test_an_exit_without_goodbye_leaves_the_bench_safe(folder: Path) -> None:
    script = f"""
import atexit, sys
from pathlib import Path
from tests.firmware_bridge.session_doubles import World, session
world = World()
# What is registered first runs last.
atexit.register(lambda: print(world.safe))
made = session(world, Path({str(folder)!r}))
made.connect()
made.arm()
made._open.parts.slot.bench.light.set(0.5)
print(world.safe)
sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (3, ["False", "True"]), done.stderr
