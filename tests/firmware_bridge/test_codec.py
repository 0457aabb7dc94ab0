"""Frames and bodies: against published vectors, themselves, garbage, and the other implementation in C."""

from __future__ import annotations

import ctypes
import re
import zlib

import numpy as np
import pytest
from cobs import cobs

from firmware_bridge.errors import LinkError
from firmware_bridge.wire import codec, generate, schema
from firmware_bridge.wire.codec import Packet, Splitter, Value
from firmware_bridge.wire.link import Link
from firmware_bridge.wire.schema import BY_NAME, COMMANDS, Field, Kind, NakCode
from tests.firmware_bridge.wire_doubles import FakeClock, InProcess, built


def draw(field: Field, rng: np.random.Generator) -> Value:
    size = int(rng.choice([field.low, field.high, int(rng.integers(field.low, field.high, endpoint=True))]))
    if field.kind is Kind.bool:
        return bool(size)
    if field.kind is Kind.bytes:
        return rng.bytes(size)
    if field.kind is Kind.text:
        return bytes(rng.integers(0x20, 0x7F, size).astype(np.uint8)).decode()
    return size


def draw_all(fields: tuple[Field, ...], rng: np.random.Generator) -> dict[str, Value]:
    return {field.name: draw(field, rng) for field in fields}


def test_a_frame_worked_by_hand() -> None:
    # HEARTBEAT, seq 2, nonce 0x01020304, an empty map. The only zero is the high byte of seq: COBS puts the distance to
    # it, 4, in front, and in its place the distance to the end, 10.
    raw = bytes.fromhex("01 02 0200 04030201 a0")
    crc = zlib.crc32(raw).to_bytes(4, "little")
    assert codec.encode(Packet(0x02, 2, 0x01020304, b"\xa0")) == (
        bytes.fromhex("04 01 02 02  0a 04030201 a0") + crc + b"\0"
    )


def test_crc_is_that_of_ieee_802_3() -> None:
    # The check value of the catalogue of parametrised CRC algorithms: "123456789" has cbf43926.
    frame = codec.encode(Packet(0x31 + 1, 0x3332, 0x37363534, b"89"))
    raw = bytearray(cobs.decode(frame[:-1]))
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert zlib.crc32(bytes(raw[:-4])) == int.from_bytes(raw[-4:], "little")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_round_trip_of_every_message(command: schema.Command) -> None:
    rng = np.random.default_rng(command.code)
    for fields in (command.request, command.reply, schema.NAK):
        for _ in range(50):
            values = draw_all(fields, rng)
            body = codec.pack(fields, values)
            assert len(body) <= schema.widest_body(fields)
            packet = Packet(command.code, int(rng.integers(1 << 16)), int(rng.integers(1 << 32)), body)
            frame = codec.encode(packet)
            assert frame.count(b"\0") == 1 and len(frame) <= max(schema.REQUEST_FRAME_BYTES, schema.REPLY_FRAME_BYTES)
            assert codec.decode(frame[:-1]) == packet
            assert codec.unpack(fields, packet.body) == values


def test_the_longest_bodies_fill_what_the_firmware_reserves() -> None:
    for fields, reserved in ((BY_NAME["CHUNK"].request, schema.REQUEST_BODY_BYTES),):
        values = {f.name: f.high if f.kind is Kind.uint else bytes(f.high) for f in fields}
        assert len(codec.pack(fields, values)) == reserved


def test_splitter_does_not_care_how_the_stream_is_cut() -> None:
    rng = np.random.default_rng(0)
    frames = [codec.encode(Packet(2, seq, 7, rng.bytes(int(rng.integers(1, 200))))) for seq in range(200)]
    stream = b"\0\0".join(frames)
    splitter, found, at = Splitter(), [], 0
    while at < len(stream):
        step = int(rng.integers(1, 90))
        found += splitter.feed(stream[at : at + step])
        at += step
    assert found == [frame[:-1] for frame in frames]


def test_splitter_throws_away_what_no_frame_can_be() -> None:
    splitter = Splitter()
    assert splitter.feed(b"\1" * 1_000_000) == []
    (cut,) = splitter.feed(b"\1" * 5 + b"\0")
    with pytest.raises(codec.DamagedFrame, match=r"CRC-32|COBS"):
        codec.decode(cut)
    whole = codec.encode(Packet(2, 1, 1, b"\xa0"))
    assert splitter.feed(whole) == [whole[:-1]]


def test_garbage_is_refused_and_nothing_else_happens() -> None:
    rng = np.random.default_rng(1)
    splitter = Splitter()
    for _ in range(3000):
        for frame in splitter.feed(rng.bytes(int(rng.integers(1, 400)))):
            with pytest.raises(LinkError, match=r"frame|COBS"):
                codec.decode(frame)
        body = rng.bytes(int(rng.integers(0, 40)))
        with pytest.raises(LinkError, match="body"):
            codec.unpack(BY_NAME["CHUNK"].request, body)


def test_every_single_damaged_bit_is_found() -> None:
    frame = codec.encode(Packet(0x20, 300, 0xDEADBEEF, codec.pack(BY_NAME["LIGHT"].request, {"level": 300})))
    for bit in range(8 * (len(frame) - 1)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        for part in Splitter().feed(bytes(damaged)):
            with pytest.raises(codec.DamagedFrame, match=r"frame|COBS"):
                codec.decode(part)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a10118ff00", "body"),  # a byte behind the end
        ("a1011805", "shortest"),  # 5 in two bytes
        ("bf0105ff", "shortest"),  # indefinite length
        ("a0", "keys"),
        ("a20105 0206", "keys"),
        ("a101f5", "level is uint"),  # true is no number
        ("a1011a00010000", "65535 is allowed"),
        ("a10120", "65535 is allowed"),
    ],
)
def test_one_message_has_one_form(body: str, reason: str) -> None:
    with pytest.raises(LinkError, match=reason):
        codec.unpack(BY_NAME["LIGHT"].request, bytes.fromhex(body))
    # Nor does the firmware take it.
    transport, nonce = _session()
    answer = codec.decode(_ask(transport, Packet(BY_NAME["LIGHT"].code, 1, nonce, bytes.fromhex(body))))
    assert codec.peek(schema.NAK[0], answer.body) in (NakCode.body, NakCode.range)


def test_cobs_and_crc_in_c_are_those_of_the_libraries() -> None:
    library = ctypes.CDLL(str(built("inproc") / "libfirmware.so"))
    library.crc32.restype = ctypes.c_uint32
    library.cobs_encode.restype = library.cobs_decode.restype = ctypes.c_uint16
    rng = np.random.default_rng(12)
    refused = 0
    for _ in range(4000):
        # Few zeros and many; lengths around the blocks of 254 bytes too.
        data = bytes(rng.integers(0, int(rng.choice([2, 256])), int(rng.integers(1, 600))).astype(np.uint8))
        if rng.random() < 0.3:
            data = bytes(rng.integers(1, 256, int(rng.integers(250, 512))).astype(np.uint8))
        assert library.crc32(0, data, len(data)) == zlib.crc32(data)
        out = ctypes.create_string_buffer(1000)
        length = library.cobs_encode(data, len(data), out)
        assert out.raw[:length] == cobs.encode(data) + b"\0"
        encoded = bytearray(cobs.encode(data))
        if rng.random() < 0.5:
            encoded[int(rng.integers(len(encoded)))] = int(rng.integers(256))
        # Behind the end stand other bytes, which are not to be read.
        out = ctypes.create_string_buffer(bytes(encoded) + b"\x07" * 300)
        length = library.cobs_decode(out, len(encoded))
        try:
            wanted = cobs.decode(bytes(encoded))
        except cobs.DecodeError:
            wanted = b""
            refused += 1
        assert out.raw[:length] == wanted
    assert refused > 100


def test_values_that_the_table_does_not_allow_are_not_sent() -> None:
    with pytest.raises(LinkError, match=r"the fields are \['level'\], got \['power'\]"):
        codec.pack(BY_NAME["LIGHT"].request, {"power": 1})
    with pytest.raises(LinkError, match=r"length 33, but 1\.\.32"):
        codec.pack(BY_NAME["ARM"].request, {"operator": "x" * 33, "light": True})
    with pytest.raises(LinkError, match="operator is printable ASCII"):
        codec.pack(BY_NAME["ARM"].request, {"operator": "Zoë", "light": True})


def test_another_version_is_refused() -> None:
    raw = bytearray(cobs.decode(codec.encode(Packet(2, 1, 1, b"\xa0"))[:-1]))
    raw[0] = 2
    raw[-4:] = zlib.crc32(bytes(raw[:-4])).to_bytes(4, "little")
    with pytest.raises(LinkError, match="version 2 of the wire protocol, this program 1; flash"):
        codec.decode(cobs.encode(bytes(raw)))


def test_header_and_documentation_are_those_of_the_schema() -> None:
    assert generate.HEADER.read_text() == generate.header()
    assert generate.DOCUMENT.read_text() == generate.document()


@pytest.mark.parametrize(("column", "code"), [(0, 0x20), (1, 0xA0)])
def test_the_example_of_the_document_by_hand(column: int, code: int) -> None:
    """Without the codec: what somebody must write who has nothing but the document."""
    section = generate.DOCUMENT.read_text().split("### An example")[1].split("## Port")[0]
    rows = re.findall(r"^\| (.*) \| `([0-9a-f ]+)` \| `([0-9a-f ]+)` \|$", section, re.M)
    parts = {name: bytes.fromhex(values[column]) for name, *values in rows}
    raw = bytes([1, code]) + (5).to_bytes(2, "little") + (0x12345678).to_bytes(4, "little")
    # A CBOR map of one pair: key 1, and 32768 as two bytes.
    raw += bytes([0xA1, 0x01, 0x19, 0x80, 0x00])
    raw += zlib.crc32(raw).to_bytes(4, "little")
    assert b"".join(value for name, value in parts.items() if name != "on the wire") == raw
    # COBS: in front of each run without zeros stands its length and one more, and zeros are left out.
    runs = raw.split(b"\0")
    assert parts["on the wire"] == b"".join(bytes([len(run) + 1]) + run for run in runs) + b"\0"


def test_the_table_is_consistent() -> None:
    for command in COMMANDS:
        assert 0 < command.code < schema.REPLY and BY_NAME[command.name] is command
        for fields in (command.request, command.reply):
            assert [field.key for field in fields] == list(range(1, len(fields) + 1)) and len(fields) < 24
    assert len({command.code for command in COMMANDS}) == len(COMMANDS)


def test_c_and_python_agree_on_bodies() -> None:
    """The two readers of bodies, written apart, give the same verdict on bodies that were slightly damaged."""
    transport, nonce = _session()
    rng = np.random.default_rng(3)
    verdicts = {True: 0, False: 0}
    seq = 0
    commands = [command for command in COMMANDS if command.request and command.name != "HELLO"]
    for _ in range(4000):
        command = commands[int(rng.integers(len(commands)))]
        body = bytearray(codec.pack(command.request, draw_all(command.request, rng)))
        for _ in range(int(rng.integers(3))):
            body[int(rng.integers(min(len(body), 12)))] = int(rng.integers(256))
        body = body[: len(body) - int(rng.integers(2) * rng.integers(2))]
        try:
            codec.unpack(command.request, bytes(body))
            allowed = True
        except LinkError:
            allowed = False
        seq = seq % 0xFFFF + 1
        answer = codec.decode(_ask(transport, Packet(command.code, seq, nonce, bytes(body))))
        code = codec.peek(schema.NAK[0], answer.body) if answer.type == schema.NAK_CODE else None
        verdicts[allowed] += 1
        if allowed:
            assert code != NakCode.body, body.hex()
        else:
            assert code in (NakCode.body, NakCode.range), body.hex()
    assert min(verdicts.values()) > 500


def _session() -> tuple[InProcess, int]:
    """The firmware with an open session in which no command came yet, and its nonce."""
    clock = FakeClock()
    transport = InProcess(clock)
    link = Link(transport, clock=clock, sleep=clock.sleep, rng=np.random.default_rng(2))
    link.open()
    # Even a refusal carries the nonce.
    return transport, codec.decode(_ask(transport, Packet(0x02, 1, 0, b"\xa0"))).nonce


def _ask(transport: InProcess, packet: Packet) -> bytes:
    transport.write(codec.encode(packet))
    (frame,) = Splitter().feed(transport.read(1.0))
    return frame


def test_a_session_is_resumed_by_a_new_hello_only() -> None:
    """The HELLO that opened a session may be repeated by the wire; it must not pass for one that found it open."""
    transport = InProcess(FakeClock())
    command = BY_NAME["HELLO"]
    found = []
    for session, challenge in ((5, 1), (5, 1), (5, 2), (6, 2), (5, 3)):
        values: dict[str, Value] = {"schema": schema.SCHEMA_HASH, "session": session, "challenge": challenge}
        answer = codec.decode(_ask(transport, Packet(command.code, 0, 0, codec.pack(command.request, values))))
        found.append((codec.unpack(command.reply, answer.body)["resumed"], answer.nonce))
    assert [resumed for resumed, _ in found] == [False, False, True, False, False]
    nonces = [nonce for _, nonce in found]
    assert nonces[0] == nonces[1] == nonces[2] and len(set(nonces)) == 3


def test_unknown_commands_are_refused_by_the_firmware() -> None:
    transport, nonce = _session()
    answer = codec.decode(_ask(transport, Packet(0x7D, 1, nonce, b"\xa0")))
    assert codec.unpack(schema.NAK, answer.body) == {"code": NakCode.unknown, "detail": 0x7D}
