"""The link: exactly once over a bad wire, sessions, leases, what is refused."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.errors import LinkError
from firmware_bridge.fw.emulator import Emulator
from firmware_bridge.wire import codec, schema
from firmware_bridge.wire import link as link_module
from firmware_bridge.wire.codec import Packet, Splitter
from firmware_bridge.wire.link import Heartbeat, Link, Refused, StateLost
from firmware_bridge.wire.schema import BY_NAME, NakCode
from firmware_bridge.wire.serial_transport import SerialTransport
from sim.bench.faults import FaultRates, FaultyTransport
from tests.firmware_bridge.wire_doubles import FakeClock, InProcess, built, opened, pattern, show

BAD_WIRE = FaultRates(drop=0.05, flip=0.05, duplicate=0.05, truncate=0.05)


def test_ten_thousand_commands_have_ten_thousand_effects() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    wire = FaultyTransport(core, BAD_WIRE, seed=6, clock=clock)
    link = opened(wire, clock)
    wanted = [1 + index * 7919 % 65535 for index in range(10_000)]
    rearmed = 0
    for level in wanted:
        while True:
            try:
                assert link.call("LIGHT", level=level) == {"level": level}
                break
            except Refused as refusal:
                # Before the first, and where so much was lost that the lease ran out: the command had no effect.
                assert refusal.code is NakCode.unsafe
                link.call("ARM", operator="test", light=True)
                rearmed += 1
    assert [level for level in core.effects("l") if level] == wanted
    frames = wire.up.counts["frames"] + wire.down.counts["frames"]
    for fault in ("drop", "flip", "duplicate", "truncate"):
        rate = (wire.up.counts[fault] + wire.down.counts[fault]) / frames
        assert rate == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / frames) ** 0.5)
    assert link.counters.repeats > 2000 and rearmed < 50


def test_held_back_and_overtaken_frames_change_nothing() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    rates = FaultRates(drop=0.05, duplicate=0.3, delay=0.3, delay_s=0.2)
    link = opened(FaultyTransport(core, rates, seed=7, clock=clock), clock)
    wanted = []
    for level in range(1, 1001):
        while True:
            try:
                link.call("LIGHT", level=level)
                wanted.append(level)
                break
            except Refused:
                link.call("ARM", operator="test", light=True)
    assert [level for level in core.effects("l") if level] == wanted


def test_the_port_may_be_lost_at_any_command() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    wire = FaultyTransport(core, FaultRates(unplug=0.02, unplug_s=0.3), seed=8, clock=clock)
    link = opened(wire, clock)
    link.call("ARM", operator="test", light=True)
    for level in range(1, 501):
        link.call("LIGHT", level=level)
    assert [level for level in core.effects("l") if level] == list(range(1, 501))
    assert len(link.gaps) > 5 and not any(gap.state_lost for gap in link.gaps)
    assert all(0.3 <= gap.ended_s - gap.began_s < 5 for gap in link.gaps)


def test_partial_patterns_are_never_shown() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    rates = FaultRates(drop=0.1, flip=0.1, truncate=0.1, duplicate=0.1, reboot=0.002)
    link = opened(FaultyTransport(core, rates, seed=9, clock=clock, reboot=core.reboot), clock)
    whole = {zlib.crc32(pattern(seed)) for seed in range(8)}
    lost = 0
    for step in range(60):
        try:
            link.call("ARM", operator="test", light=False)
            show(link, pattern(step % 8))
        except StateLost:
            lost += 1
        except Refused as refusal:
            assert refusal.code in (NakCode.unsafe, NakCode.incomplete)
    assert lost > 3 and set(core.effects("a")) == whole


@pytest.mark.parametrize(
    ("sent", "staged", "code"),
    [
        (slice(0, 4095), pattern(1), NakCode.incomplete),
        (slice(0, 4096), pattern(2), NakCode.mismatch),
        (slice(0, 4096), pattern(1)[:-1], NakCode.range),
    ],
    ids=["a byte short", "another pattern", "another length"],
)
def test_what_did_not_come_whole_cannot_be_committed(sent: slice, staged: bytes, code: NakCode) -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    link.call("ARM", operator="test", light=False)
    data = pattern(1)[sent]
    for offset in range(0, len(data), 256):
        link.call("CHUNK", offset=offset, data=data[offset : offset + 256])
    with pytest.raises(Refused, match=f"refused STAGE: {code.name}"):
        link.call("STAGE", length=len(staged), pattern_id=zlib.crc32(staged))
    with pytest.raises(Refused, match="refused COMMIT: incomplete"):
        link.call("COMMIT", pattern_id=zlib.crc32(staged))
    with pytest.raises(Refused, match="refused CHUNK: incomplete"):
        link.call("CHUNK", offset=256, data=b"\1")
    assert core.effects("a") == []


def test_nothing_is_written_behind_the_end_of_a_pattern() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    for offset in range(0, 4095, 255):
        link.call("CHUNK", offset=offset, data=bytes(min(255, 4095 - offset)))
    with pytest.raises(Refused, match=r"refused CHUNK: range .*detail 2"):
        link.call("CHUNK", offset=4095, data=b"\1\1")
    assert link.call("CHUNK", offset=4095, data=b"\1") == {"filled": 4096}
    with pytest.raises(Refused, match=r"refused CHUNK: range .*detail 2"):
        link.call("CHUNK", offset=4096, data=b"\1")


def test_a_pattern_that_is_overwritten_must_be_staged_again() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    link.call("ARM", operator="test", light=False)
    assert show(link, pattern(1))["pattern_id"] == zlib.crc32(pattern(1))
    link.call("CHUNK", offset=0, data=pattern(2)[:256])
    with pytest.raises(Refused, match="refused COMMIT: incomplete"):
        link.call("COMMIT", pattern_id=zlib.crc32(pattern(1)))
    assert link.call("READBACK") == {"pattern_id": zlib.crc32(pattern(1)), "parked": False}


def test_numbers_of_commands_wrap_around() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    for _ in range(schema.SEQ_HIGH + 5):
        link.call("STOP")
    assert link.counters.commands == schema.SEQ_HIGH + 5 and link.counters.repeats == 0


def test_commands_need_an_open_link() -> None:
    with pytest.raises(LinkError, match=r"the link is not open; call open\(\) first"):
        Link(SerialTransport.emulated(Path("/dev/pts/0"))).call("STOP")


def test_another_schema_is_refused_by_the_firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    core = InProcess(clock)
    theirs = schema.SCHEMA_HASH[:4].hex()
    monkeypatch.setattr(schema, "SCHEMA_HASH", bytes(range(8)))
    with pytest.raises(
        LinkError, match=f"from the schema {theirs}, this program from 0001020304050607; build and flash"
    ):
        opened(core, clock)
    # And nothing else is answered without a HELLO that agrees.
    core.write(codec.encode(Packet(BY_NAME["LIGHT"].code, 1, 0, codec.pack(BY_NAME["LIGHT"].request, {"level": 1}))))
    (frame,) = Splitter().feed(core.read(1.0))
    assert codec.unpack(schema.NAK, codec.decode(frame).body)["code"] == NakCode.session


def test_a_reset_device_is_noticed() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    link.call("ARM", operator="test", light=True)
    core.reboot()
    with pytest.raises(StateLost, match=r"lost its state before or while LIGHT was sent .*arm and stage again"):
        link.call("LIGHT", level=5)
    (gap,) = link.gaps
    assert gap.state_lost and gap.reason == "the controller does not know the session"
    assert link.call("HEARTBEAT")["state"] == 0
    assert 5 not in core.effects("l")


def test_another_program_takes_the_session_and_the_device_is_safe() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    first = opened(core, clock)
    first.call("ARM", operator="test", light=True)
    first.call("LIGHT", level=9)
    second = Link(core, clock=clock, sleep=clock.sleep, rng=np.random.default_rng(99))
    second.open()
    assert second.call("HEARTBEAT")["level"] == 0
    with pytest.raises(StateLost, match="arm and stage again"):
        first.call("LIGHT", level=10)
    assert core.effects("l")[-1] == 0


class Interrupted(InProcess):
    """Ctrl-C while the answer to the next command is awaited, before or after the command arrived."""

    arrives = True
    armed = False

    def write(self, data: bytes) -> None:
        if not self.armed or self.arrives:
            super().write(data)

    def read(self, timeout_s: float) -> bytes:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        return super().read(timeout_s)


@pytest.mark.parametrize("arrives", [True, False])
def test_ctrl_c_leaves_the_link_in_step(arrives: bool) -> None:
    clock = FakeClock()
    core = Interrupted(clock)
    core.arrives = arrives
    link = opened(core, clock)
    link.call("ARM", operator="test", light=True)
    core.armed = True
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        link.call("LIGHT", level=3)
    link.call("LIGHT", level=4)
    assert [level for level in core.effects("l") if level] == [3, 4]


def test_heartbeats_keep_the_lease_at_four_a_second() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    link.call("ARM", operator="test", light=True)
    link.call("LIGHT", level=7)
    before = link.counters.commands
    for _ in range(100):
        core.idle(0.05)
        link.tick()
    assert link.call("HEARTBEAT")["state"] == schema.State.armed
    assert 18 <= link.counters.commands - before <= 21
    assert core.effects("l")[-1] == 7


def test_silence_parks_goes_dark_stops_and_latches() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    link.call("ARM", operator="test", light=True)
    link.call("LIGHT", level=7)
    show(link, pattern(1))
    link.call("MOVE", position_nm=5_000_000)
    moves = len(core.effects("s"))
    core.idle(0.98)
    assert core.effects("l")[-1] == 7 and len(core.effects("s")) > moves
    core.idle(0.03)
    assert core.effects("l")[-1] == 0
    assert core.effects("p")[-1] == zlib.crc32(bytes(4096))
    state = link.call("HEARTBEAT")
    assert (state["state"], state["parked"], state["level"], state["moving"], state["lease_losses"]) == (
        2,
        True,
        0,
        0,
        1,
    )
    for name, values in (("LIGHT", {"level": 7}), ("COMMIT", {"pattern_id": 1}), ("MOVE", {"position_nm": 0})):
        with pytest.raises(Refused, match=rf"refused {name}: unsafe \(not armed; detail: the state; detail 2\)"):
            link.call(name, **values)
    link.call("ARM", operator="test", light=False)
    with pytest.raises(Refused, match="refused LIGHT: unsafe"):
        link.call("LIGHT", level=7)


def test_repeated_frames_do_not_renew_the_lease() -> None:
    clock = FakeClock()
    core = InProcess(clock)
    link = opened(core, clock)
    link.call("ARM", operator="test", light=True)
    link.call("LIGHT", level=7)
    repeated = codec.encode(Packet(0x20, 2, link._nonce, codec.pack(BY_NAME["LIGHT"].request, {"level": 7})))
    for _ in range(11):
        core.write(repeated)
        core.idle(0.1)
    assert core.effects("l")[-1] == 0 and core.effects("l").count(7) == 1


def test_heartbeat_thread_reports_a_loss_to_the_next_caller(tmp_path: Path) -> None:
    with Emulator.host(built("host"), tmp_path / "log") as device:
        link = Link(SerialTransport.emulated(device.path))
        link.open()
        heartbeat = Heartbeat(link)
        try:
            device.reset()
            _until(lambda: bool(link.gaps))
            with pytest.raises(StateLost, match="while HEARTBEAT was sent"):
                link.call("READBACK")
            assert link.call("READBACK")["parked"] is True
        finally:
            heartbeat.stop()
            heartbeat.stop()
            link.close()


def _until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)


def test_session_numbers_are_drawn_by_the_system_by_default() -> None:
    clock = FakeClock()
    drawn = set()
    for _ in range(5):
        link = link_module.Link(InProcess(clock), clock=clock, sleep=clock.sleep)
        link.open()
        drawn.add(link._session)
    assert len(drawn) == 5
