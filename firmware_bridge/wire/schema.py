"""Every message on the wire, in one table: the host codec reads it, the C header and the documentation are made of it.

A frame is ``COBS(version · type · seq16 · nonce32 · body · CRC-32) ‖ 00``; numbers are little-endian, the CRC-32 is
that of IEEE 802.3 over all bytes before it, and the body is one CBOR map (RFC 8949) from the keys below to values,
with all keys present, ascending, and in the shortest encoding. A command of type t is answered by type t | 0x80 with
the same seq, or by :data:`NAK`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum

VERSION = 1
REPLY = 0x80
CHUNK_BYTES = 256
LEASE_S = 1.0
HEARTBEAT_S = 0.25
RTO_FIRST_S = 0.25
RTO_LOW_S = 0.025
RTO_HIGH_S = 5.0
TRIES = 8
BAUD = 500_000
SEQ_HIGH = 0xFFFF
U32 = 0xFFFF_FFFF
I32 = 0x7FFF_FFFF
LEVEL_HIGH = 0xFFFF


class Kind(StrEnum):
    """How the value of a field is written."""

    uint = "uint"
    int = "int"
    bool = "bool"
    bytes = "bytes"
    text = "text"
    """Printable ASCII."""


@dataclass(frozen=True)
class Field:
    """One entry of a body.

    Attributes:
        key: Its number in the CBOR map, 1..23.
        name: Its name in programs and documents.
        kind: How it is written in CBOR.
        low, high: Smallest and largest value, or length of bytes and text; both are allowed.
        meaning: What it says, with the unit.
    """

    key: int
    name: str
    kind: Kind
    low: int
    high: int
    meaning: str


@dataclass(frozen=True)
class Command:
    """One command and its answer.

    Attributes:
        code: Type of the command, 0x01..0x7e.
        name: Its name in programs and documents.
        meaning: What it does.
        request, reply: Fields of the two bodies.
    """

    code: int
    name: str
    meaning: str
    request: tuple[Field, ...]
    reply: tuple[Field, ...]


class State(IntEnum):
    """State of the controller. It starts in SAFE; every state but ARMED is dark, parked and still."""

    safe = 0
    armed = 1
    latched = 2
    fault = 3


STATE_MEANING = {
    State.safe: "parked, dark, still; left by ARM",
    State.armed: "patterns and motion are allowed, and light if ARM said so; left by SAFE, silence or a fault",
    State.latched: "as SAFE, because the lease ran out; left by ARM or SAFE",
    State.fault: (
        "the panel, the light or the memory of the pattern read back something else than was set, when a pattern or "
        "light was shown or when all was made safe. As SAFE, as far as panel and light obey; latched: nothing is "
        "shown, lit or moved, and ARM is refused. Left by SAFE or the HELLO of a new session, if all reads back safe "
        "then"
    ),
}


class NakCode(IntEnum):
    """Why a command was not carried out."""

    crc = 1
    schema = 2
    session = 3
    sequence = 4
    unknown = 5
    body = 6
    range = 7
    unsafe = 8
    busy = 9
    incomplete = 10
    mismatch = 11
    fault = 12


NAK_MEANING = {
    NakCode.crc: "the frame came damaged (seq is then 0); send it again",
    NakCode.schema: "the other side was made of another schema; detail: the first four bytes of the hash spoken here",
    NakCode.session: "no session is open, or the nonce is that of another one; all state was lost",
    NakCode.sequence: "neither the next command nor the last one again; detail: the seq expected",
    NakCode.unknown: "no such command",
    NakCode.body: "the body is not what the table says",
    NakCode.range: "a value is out of range; detail: the key of its field",
    NakCode.unsafe: "not armed; detail: the state",
    NakCode.busy: "the stage still moves",
    NakCode.incomplete: "the pattern did not come whole; detail: the bytes that came",
    NakCode.mismatch: "the pattern has another CRC-32; detail: the one found",
    NakCode.fault: "the device read back something else than was set, and is in FAULT; detail: what it read",
}

NAK_CODE = 0xFF
NAK = (
    Field(1, "code", Kind.uint, 1, len(NakCode), "see the codes below"),
    Field(2, "detail", Kind.uint, 0, U32, "depends on the code, else 0"),
)

_STATE = Field(1, "state", Kind.uint, 0, len(State) - 1, "see the states below")
_SHOWN = (
    Field(1, "pattern_id", Kind.uint, 0, U32, "CRC-32 of the levels on the panel, computed from what it holds"),
    Field(2, "parked", Kind.bool, 0, 1, "whether the panel is in its safe state"),
)
_LEVEL = Field(1, "level", Kind.uint, 0, LEVEL_HIGH, "power, in 1/65535 of the largest")
_POSITION = Field(1, "position_nm", Kind.int, -I32, I32, "position in nanometres")

COMMANDS = (
    Command(
        0x01,
        "HELLO",
        "Opens a session, or finds that it is still open. Sent with seq 0 and nonce 0; a new session starts in SAFE "
        "with a new nonce and seq 1.",
        (
            Field(1, "schema", Kind.bytes, 8, 8, "hash of the schema; key and kind are the same in all versions"),
            Field(2, "session", Kind.uint, 1, U32, "drawn at random by the host for each session"),
            Field(3, "challenge", Kind.uint, 0, U32, "drawn at random by the host for each HELLO"),
        ),
        (
            Field(1, "schema", Kind.bytes, 8, 8, "hash of the schema; key and kind are the same in all versions"),
            Field(2, "challenge", Kind.uint, 0, U32, "that of the command"),
            Field(3, "resumed", Kind.bool, 0, 1, "the session was open before, and its state is kept"),
            Field(4, "model", Kind.text, 1, 32, "name of the board"),
            Field(5, "serial", Kind.text, 1, 32, "serial number"),
            Field(6, "firmware", Kind.text, 1, 40, "hash of the sources that the firmware was built from"),
            Field(7, "mask_width", Kind.uint, 1, 0xFFFF, "pixels, or actuators"),
            Field(8, "mask_height", Kind.uint, 1, 0xFFFF, "pixels, or 1"),
            Field(9, "mask_bits", Kind.uint, 1, 16, "bits of a level; one byte each up to 8, else two, little-endian"),
            Field(10, "mask_pitch_nm", Kind.uint, 0, U32, "distance of two pixels in nanometres, 0: unknown"),
            Field(11, "mask_settle_us", Kind.uint, 0, U32, "time in microseconds after which a pattern has settled"),
            Field(12, "parked_id", Kind.uint, 0, U32, "CRC-32 of the safe pattern"),
            Field(13, "light_wavelength_pm", Kind.uint, 0, U32, "centre wavelength in picometres, 0: white"),
            Field(14, "light_power_uw", Kind.uint, 0, U32, "largest optical power in microwatts, 0: unknown"),
            Field(15, "stage_low_nm", Kind.int, -I32, I32, "lowest position in nanometres"),
            Field(16, "stage_high_nm", Kind.int, -I32, I32, "highest position in nanometres"),
            Field(17, "stage_step_nm", Kind.uint, 1, U32, "smallest step in nanometres"),
            Field(18, "stage_speed_nm_s", Kind.uint, 1, U32, "speed in nanometres a second"),
            Field(19, "lease_ms", Kind.uint, 1, 60_000, "silence in milliseconds after which it parks and goes dark"),
        ),
    ),
    Command(
        0x02,
        "HEARTBEAT",
        "Renews the lease, as every new command of the session does, and tells the state.",
        (),
        (
            _STATE,
            Field(2, "parked", Kind.bool, 0, 1, "whether the panel is in its safe state"),
            Field(3, "light_armed", Kind.bool, 0, 1, "whether LIGHT is allowed"),
            Field(4, "level", Kind.uint, 0, LEVEL_HIGH, "power read back, in 1/65535 of the largest"),
            Field(5, "position_nm", Kind.int, -I32, I32, "position in nanometres"),
            Field(6, "moving", Kind.bool, 0, 1, "whether the stage moves"),
            Field(7, "lease_losses", Kind.uint, 0, U32, "how often the lease ran out since boot"),
        ),
    ),
    Command(
        0x03,
        "ARM",
        "Allows patterns and motion, and light if wanted. Refused in FAULT.",
        (
            Field(1, "operator", Kind.text, 1, 32, "who takes the responsibility; kept in the journal of the device"),
            Field(2, "light", Kind.bool, 0, 1, "whether light is allowed too; 0 leaves light as it is"),
        ),
        (_STATE,),
    ),
    Command(
        0x04,
        "SAFE",
        "Parks the mask, turns the light off, stops the stage, and clears a fault that is gone.",
        (),
        _SHOWN,
    ),
    Command(
        0x10,
        "CHUNK",
        "Stores a part of a pattern, without showing it. Offset 0 begins a new pattern; parts come in order.",
        (
            Field(1, "offset", Kind.uint, 0, U32, "bytes before this part"),
            Field(2, "data", Kind.bytes, 1, CHUNK_BYTES, "levels, row after row"),
        ),
        (Field(1, "filled", Kind.uint, 0, U32, "bytes that came"),),
    ),
    Command(
        0x11,
        "STAGE",
        "Checks that the pattern came whole.",
        (
            Field(1, "length", Kind.uint, 1, U32, "bytes of the pattern"),
            Field(2, "pattern_id", Kind.uint, 0, U32, "its CRC-32"),
        ),
        (Field(1, "pattern_id", Kind.uint, 0, U32, "its CRC-32, as the device computed it"),),
    ),
    Command(
        0x12,
        "COMMIT",
        "Shows the staged pattern with the next refresh of the panel, all of it at once, and reads it back.",
        (Field(1, "pattern_id", Kind.uint, 0, U32, "CRC-32 of the pattern that shall be shown"),),
        _SHOWN,
    ),
    Command(0x13, "READBACK", "Reads back what the panel holds.", (), _SHOWN),
    Command(0x14, "PARK", "Shows the safe pattern; stays armed.", (), _SHOWN),
    Command(0x20, "LIGHT", "Sets the power and reads it back; light must be armed.", (_LEVEL,), (_LEVEL,)),
    Command(0x21, "OFF", "Turns the light off; it must be armed again.", (), (_LEVEL,)),
    Command(
        0x30,
        "MOVE",
        "Begins to move the stage; HEARTBEAT tells when it has arrived.",
        (Field(1, "position_nm", Kind.int, -I32, I32, "where to, in nanometres, within the limits of HELLO"),),
        (Field(1, "position_nm", Kind.int, -I32, I32, "where it will stop: the nearest whole step"),),
    ),
    Command(0x31, "STOP", "Stops the stage where it is.", (), (_POSITION,)),
)

BY_NAME = {command.name: command for command in COMMANDS}
BY_CODE = {command.code: command for command in COMMANDS}


def _widest_head(argument: int) -> int:
    """Bytes of the head of a CBOR item with this argument."""
    return 1 + next(size for size, limit in ((0, 24), (1, 1 << 8), (2, 1 << 16), (4, 1 << 32)) if argument < limit)


def widest_body(fields: tuple[Field, ...]) -> int:
    """Length in bytes of the longest body with these fields."""
    length = 1
    for field in fields:
        length += 1
        if field.kind is Kind.bool:
            length += 1
        else:
            length += _widest_head(max(field.high, -1 - field.low))
            length += field.high if field.kind in (Kind.bytes, Kind.text) else 0
    return length


HEADER_BYTES = 8
CRC_BYTES = 4
REQUEST_BODY_BYTES = max(widest_body(command.request) for command in COMMANDS)
REPLY_BODY_BYTES = max(widest_body(NAK), *(widest_body(command.reply) for command in COMMANDS))


def _frame_bytes(body: int) -> int:
    """Length of a whole frame: COBS adds one byte, and one more for each 254; then comes the delimiter."""
    raw = HEADER_BYTES + body + CRC_BYTES
    return raw + 1 + raw // 254 + 1


REQUEST_FRAME_BYTES = _frame_bytes(REQUEST_BODY_BYTES)
REPLY_FRAME_BYTES = _frame_bytes(REPLY_BODY_BYTES)


def schema_hash() -> bytes:
    """First 8 bytes of the SHA-256 over everything that both sides must agree on."""
    agreed = {
        "version": VERSION,
        "lease_s": LEASE_S,
        "commands": [asdict(command) for command in COMMANDS],
        "nak": [asdict(field) for field in NAK],
        "codes": {code.name: [int(code), meaning] for code, meaning in NAK_MEANING.items()},
        "states": {state.name: [int(state), meaning] for state, meaning in STATE_MEANING.items()},
    }
    return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).digest()[:8]


SCHEMA_HASH = schema_hash()
