"""Sessions wait, with the bench safe, for devices, temperature, flux, disk and operator, and seal the same then."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_bridge.errors import SessionError
from firmware_bridge.session import acquisition
from firmware_bridge.session.conditions import Stopped
from firmware_bridge.session.journal import Entry
from firmware_bridge.session.run import capture
from firmware_bridge.session.setting import FalseReadback
from firmware_bridge.session.states import State
from tests.firmware_bridge.session_doubles import PLAN, World, at, begin, lines, session, write_sources


def test_unplugged_and_plugged_in_again(world: World, folder: Path, undisturbed: str) -> None:
    def unplug() -> None:
        world.gone = True
        world.lose_state()

    at(world, 5, unplug)

    def sleep(time_s: float) -> None:
        world.sleep(time_s)
        # Nobody has plugged it in for ten seconds.
        if time_s == 1.0 and world.gone:
            waited.append(time_s)
            world.gone = len(waited) < 10

    waited: list[float] = []
    assert capture(session(world, folder, sleep=sleep)).sha256 == undisturbed
    assert len(lines(folder, Entry.suspend)) == len(lines(folder, Entry.proceed)) == 1
    assert len(waited) == 10


def test_never_plugged_in_again(world: World, folder: Path, undisturbed: str) -> None:
    at(world, 5, lambda: setattr(world, "gone", True))
    with pytest.raises(
        SessionError, match=r"suspended for 600 s; make it good, then resume.* Still: .*4 of 4 devices fail"
    ):
        capture(session(world, folder))
    assert "plug it in" in lines(folder, Entry.fault)[-1].body["reason"]
    again = World(now_s=world.now_s)
    assert capture(session(again, folder)).sha256 == undisturbed


def test_a_lease_that_runs_out_during_the_exposure(world: World, folder: Path, undisturbed: str) -> None:
    # Light and mask drop out between setting and reading back: the frame must not count.
    at(world, 5, world.lose_state)
    assert capture(session(world, folder)).sha256 == undisturbed
    assert "has been parked" in lines(folder, Entry.suspend)[0].body["reason"]


def test_too_warm(world: World, folder: Path, undisturbed: str) -> None:
    at(world, 5, lambda: setattr(world, "temperature_c", 50.5))

    def sleep(time_s: float) -> None:
        assert world.temperature_c is not None
        if time_s == 1.0 and world.temperature_c > 30:
            assert world.safe
            cooling.append(world.temperature_c)
            world.temperature_c -= 0.5
        world.sleep(time_s)

    cooling: list[float] = []
    assert capture(session(world, folder, sleep=sleep)).sha256 == undisturbed
    # It goes on at 48.0 C, 2 C below the limit, not at 50.
    assert cooling == [50.5, 50.0, 49.5, 49.0, 48.5]
    assert lines(folder, Entry.suspend)[0].body["reason"] == "the sensor has 50.5 C, the bench allows 50 C"


def test_stays_too_warm(world: World, folder: Path) -> None:
    at(world, 5, lambda: setattr(world, "temperature_c", 60.0))
    made = session(world, folder, patience_s=30)
    with made:
        made.arm()
        with pytest.raises(SessionError, match=r"suspended for 30 s; .* Still: the sensor has 60.0 C, 48 C are needed"):
            made.run()
        assert made.state is State.fault
        with pytest.raises(
            SessionError, match="is FAULT and cannot become ARMED; from here it can become DISCONNECTED"
        ):
            made.arm()


def test_a_limit_without_a_thermometer(world: World, folder: Path) -> None:
    world.temperature_c = None
    with pytest.raises(FalseReadback, match=r"limits the sensor to 50 C and the camera tells no temperature"):
        capture(session(world, folder))


def test_a_lamp_that_fades_voids_what_was_taken_since_the_last_sentinel(
    world: World, folder: Path, undisturbed: str
) -> None:
    at(world, 4, lambda: setattr(world, "lamp", 0.8))

    def sleep(time_s: float) -> None:
        if time_s == 1.0:
            assert world.safe
            world.lamp = 1.0 if world.lamp > 0.89 else world.lamp + 0.05
        world.sleep(time_s)

    assert capture(session(world, folder, sleep=sleep)).sha256 == undisturbed
    assert [line.body["keys"] for line in lines(folder, Entry.void)] == [
        ["000002-checker-dark-0", "000003-checker-dark-1", "000004-checker-light-0", "000005-checker-light-1"]
    ]
    assert "the sentinel changed by -20" in lines(folder, Entry.suspend)[0].body["reason"]


def test_the_first_sentinel_is_remembered_over_a_resume(
    world: World, folder: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquisition, "BATCH", 2)

    def stop() -> None:
        raise KeyboardInterrupt

    at(world, 5, stop)
    with pytest.raises(KeyboardInterrupt):
        capture(session(world, folder))
    assert len(lines(folder, Entry.done)) == 2
    world.lamp = 0.8

    def sleep(time_s: float) -> None:
        if time_s == 1.0:
            world.lamp = 1.0
        world.sleep(time_s)

    assert capture(session(world, folder, sleep=sleep)).sha256 == undisturbed
    assert len(lines(folder, Entry.suspend)) == 1


def test_a_sentinel_that_tells_nothing(world: World, tmp_path: Path) -> None:
    write_sources(
        tmp_path, PLAN.replace('pattern = "half"', 'pattern = "full"').replace("0.01\nlight", "0.4\nlight", 1)
    )
    with pytest.raises(SessionError, match=r"with 100.0% of its pixels saturated; give it an exposure"):
        capture(session(world, begin(world, tmp_path)))


def test_the_disk_fills_and_is_emptied(world: World, folder: Path, undisturbed: str) -> None:
    free = iter([500] * 3)
    made = session(world, folder, free_bytes=lambda path: next(free, 10**9))
    assert capture(made).sha256 == undisturbed
    assert "the disk has 500 bytes free; the bench keeps 1000 free" in lines(folder, Entry.suspend)[0].body["reason"]


def test_pause_and_proceed(world: World, folder: Path, undisturbed: str) -> None:
    made = session(world, folder)
    at(world, 4, made.pause)

    def sleep(time_s: float) -> None:
        if time_s == 1.0:
            assert world.safe
            assert made.state is State.suspended
            waited.append(time_s)
            if len(waited) == 5000:
                made.proceed()
        world.sleep(time_s)

    waited: list[float] = []
    made._sleep = sleep
    assert capture(made).sha256 == undisturbed
    assert len(waited) == 5000


def test_stopped_by_the_operator(world: World, folder: Path, undisturbed: str) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    at(world, 7, stop)
    made = session(world, folder)
    with made:
        made.arm()
        with pytest.raises(KeyboardInterrupt):
            made.run()
        assert made.state is State.safe
        assert world.safe
        made.arm()
        made.disconnect()
    assert len(lines(folder, Entry.stop)) == 1
    assert capture(session(world, folder)).sha256 == undisturbed


def test_stopped_between_two_frames(world: World, folder: Path, undisturbed: str) -> None:
    made = session(world, folder)
    at(world, 7, made.stop)
    with made:
        made.arm()
        with pytest.raises(Stopped, match="the operator stopped"):
            made.run()
        assert made.state is State.safe
        assert world.safe
    # Unlike after Ctrl-C, what was taken is kept: the frame that was under way too.
    assert len(lines(folder, Entry.done)) == 8
    assert lines(folder, Entry.stop)[0].body == {"reason": "the operator stopped"}
    assert capture(session(world, folder)).sha256 == undisturbed


def test_stopped_while_paused(world: World, folder: Path, undisturbed: str) -> None:
    made = session(world, folder)
    at(world, 7, made.pause)

    def sleep(time_s: float) -> None:
        if time_s == 1.0:
            made.stop()
        world.sleep(time_s)

    made._sleep = sleep
    with made:
        made.arm()
        with pytest.raises(Stopped, match="the operator stopped"):
            made.run()
        assert (made.state, world.safe) == (State.safe, True)
    assert len(lines(folder, Entry.suspend)) == len(lines(folder, Entry.stop)) == 1
    assert capture(session(world, folder)).sha256 == undisturbed


def test_who_waits_is_told_why(world: World, folder: Path) -> None:
    told: list[str] = []
    at(world, 5, world.lose_state)
    capture(session(world, folder, told=told.append))
    assert told == [
        "suspended, the bench is safe: the mask has been parked; its lease ran out, or it was reset",
        "the session goes on",
    ]
