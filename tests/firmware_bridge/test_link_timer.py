"""The timer of the link against numbers worked by hand, and a device that answers late, otherwise or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.errors import LinkError
from firmware_bridge.protocols import Origin
from firmware_bridge.wire import codec, schema
from firmware_bridge.wire.codec import Packet, Splitter
from tests.firmware_bridge.wire_doubles import FakeClock, opened


class Scripted:
    """A device that answers each frame after the next delay of a list, or not where it is None."""

    origin = Origin.emulated

    def __init__(self, clock: FakeClock, delays_s: list[float | None]) -> None:
        self.clock = clock
        self.delays_s = delays_s
        self.heard_s: list[float] = []
        self.answers: list[tuple[float, bytes]] = []
        self.schema_hash = schema.SCHEMA_HASH
        self.nonce = 77

    def open(self) -> None:
        self.answers.clear()

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.heard_s.append(self.clock())
        delay_s = self.delays_s.pop(0) if self.delays_s else None
        if delay_s is not None:
            (frame,) = Splitter().feed(data)
            self.answers.append((self.clock() + delay_s, self.answer(codec.decode(frame))))

    def answer(self, packet: Packet) -> bytes:
        command = schema.BY_CODE[packet.type]
        values: dict[str, codec.Value] = {}
        for field in command.reply:
            blank: dict[str, codec.Value] = {"text": "x", "bytes": self.schema_hash, "bool": False}
            values[field.name] = blank.get(field.kind, max(field.low, 0))
        if command.name == "HELLO":
            values["challenge"] = codec.unpack(command.request, packet.body)["challenge"]
        return codec.encode(
            Packet(packet.type | schema.REPLY, packet.seq, self.nonce, codec.pack(command.reply, values))
        )

    def read(self, timeout_s: float) -> bytes:
        until_s = self.clock() + timeout_s
        due = [answer for answer in self.answers if answer[0] <= until_s]
        self.clock.now_s = due[0][0] if due else until_s
        for answer in due[:1]:
            self.answers.remove(answer)
        return due[0][1] if due else b""


def test_timer_against_numbers_worked_by_hand() -> None:
    # RFC 6298: the first measurement R gives srtt = R, rttvar = R/2; each later one rttvar = 3/4 rttvar + 1/4
    # |srtt - R| and then srtt = 7/8 srtt + 1/8 R; the timer is srtt + 4 rttvar.
    clock = FakeClock()
    link = opened(Scripted(clock, [0.1, 0.2, 0.0125]), clock)
    assert link.rto_s == pytest.approx(0.1 + 4 * 0.05)
    link.call("STOP")
    assert link.rto_s == pytest.approx(0.1125 + 4 * 0.0625)
    link.call("STOP")
    assert link.rto_s == pytest.approx(0.1 + 4 * 0.071875)


def test_timer_keeps_to_its_limits() -> None:
    clock = FakeClock()
    link = opened(Scripted(clock, [1e-4] * 20), clock)
    for _ in range(19):
        link.call("STOP")
    assert link.rto_s == schema.RTO_LOW_S


def test_a_repeated_frame_is_not_measured_and_its_wait_is_kept() -> None:
    clock = FakeClock()
    link = opened(Scripted(clock, [0.1, None, None, 0.001, 0.1]), clock)
    link.call("STOP")
    assert link.rto_s == pytest.approx(4 * 0.3)
    link.call("STOP")
    assert link.rto_s == pytest.approx(0.1 + 4 * 0.0375)


def test_an_answer_from_another_session_is_no_answer() -> None:
    clock = FakeClock()
    device = Scripted(clock, [0.001, 0.001, 0.001])
    link = opened(device, clock)
    device.nonce = 78
    answers = device.answer

    def first_old_then_ours(packet: Packet) -> bytes:
        answer = answers(packet)
        device.nonce = 77
        return answer

    device.answer = first_old_then_ours  # type: ignore[method-assign]
    link.call("STOP")
    assert (link.counters.strays, link.counters.repeats) == (1, 1)


def test_silence_is_given_up_after_eight_tries_each_twice_as_long() -> None:
    clock = FakeClock()
    device = Scripted(clock, [])
    with pytest.raises(LinkError, match="nothing answers HELLO in 8 tries"):
        opened(device, clock)
    waits = np.diff([*device.heard_s, clock()])
    np.testing.assert_allclose(waits, [0.25, 0.5, 1, 2, 4, 5, 5, 5])


def test_a_device_that_does_not_come_back_breaks_the_link() -> None:
    clock = FakeClock()
    link = opened(Scripted(clock, [0.001]), clock)
    with pytest.raises(LinkError, match=r"did not come back within 5 s .*Whether the last command was carried out"):
        link.call("STOP")
    with pytest.raises(LinkError, match=r"STOP was not sent: the controller was lost; call open\(\) again"):
        link.call("STOP")
    assert link.tick() is None


def test_another_schema_is_refused_by_the_host() -> None:
    clock = FakeClock()
    device = Scripted(clock, [0.001])
    device.schema_hash = bytes(8)
    with pytest.raises(LinkError, match="from the schema 0000000000000000, this program from"):
        opened(device, clock)
