"""Frames and bodies as bytes: COBS, CRC-32 and CBOR around the table of :mod:`firmware_bridge.wire.schema`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from firmware_bridge.errors import BridgeError, LinkError
from firmware_bridge.wire import schema
from firmware_bridge.wire.schema import Field, Kind

try:
    import cbor2
    from cobs import cobs
except ImportError as error:
    raise BridgeError(f"the link to a bench needs {error.name}; install optishield[bench].") from error

Value = int | bool | bytes | str
_HEADER = struct.Struct("<BBHI")
_CRC = struct.Struct("<I")
_NUMBERS = (Kind.uint, Kind.int)


class DamagedFrame(LinkError):
    """Bytes between two delimiters that are no frame."""


@dataclass(frozen=True)
class Packet:
    """One frame without its armour.

    Attributes:
        type: Code of a command, the same | 0x80 for its reply, or that of NAK.
        seq: Number of the command.
        nonce: Nonce of the session.
        body: CBOR, not yet read.
    """

    type: int
    seq: int
    nonce: int
    body: bytes


def encode(packet: Packet) -> bytes:
    """The frame, with its delimiter behind it."""
    raw = _HEADER.pack(schema.VERSION, packet.type, packet.seq, packet.nonce) + packet.body
    return cobs.encode(raw + _CRC.pack(zlib.crc32(raw))) + b"\0"


def decode(frame: bytes) -> Packet:
    """Read a frame.

    Args:
        frame: The bytes between two delimiters.

    Raises:
        DamagedFrame: It is none, or was damaged on the way.
        LinkError: It is whole but of another version.
    """
    try:
        raw = cobs.decode(frame)
    except cobs.DecodeError as error:
        raise DamagedFrame(f"{len(frame)} bytes are not valid COBS ({error}); they are dropped.") from error
    if len(raw) < schema.HEADER_BYTES + schema.CRC_BYTES:
        raise DamagedFrame(f"a frame has {schema.HEADER_BYTES + schema.CRC_BYTES} bytes or more, got {len(raw)}.")
    body_end = len(raw) - schema.CRC_BYTES
    found, expected = zlib.crc32(raw[:body_end]), _CRC.unpack_from(raw, body_end)[0]
    if found != expected:
        raise DamagedFrame(f"a frame carries the CRC-32 {expected:08x}, its bytes have {found:08x}; it is dropped.")
    version, code, seq, nonce = _HEADER.unpack_from(raw)
    if version != schema.VERSION:
        raise LinkError(
            f"the other side speaks version {version} of the wire protocol, this program {schema.VERSION}; "
            "flash the firmware that belongs to this program."
        )
    return Packet(code, seq, nonce, raw[schema.HEADER_BYTES : body_end])


class Splitter:
    """Cuts a stream of bytes at the delimiters; what grows longer than any frame is thrown away."""

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Frames that ``data`` completes; empty ones are left out, an overlong one is cut, so that it reads as damaged.

        Args:
            data: The next bytes, cut anywhere.
        """
        *whole, tail = data.split(b"\0")
        frames = []
        for part in whole:
            self._grow(part)
            if self._tail:
                frames.append(bytes(self._tail))
            self._tail.clear()
        self._grow(tail)
        return frames

    def _grow(self, part: bytes) -> None:
        limit = max(schema.REQUEST_FRAME_BYTES, schema.REPLY_FRAME_BYTES)
        self._tail += part[: limit - len(self._tail)]


def _check(field: Field, value: object) -> Value:
    """The value, if the field allows it."""
    allowed: Value
    # bool is a kind of int in Python, but not on the wire.
    if isinstance(value, int) and (field.kind is Kind.bool if isinstance(value, bool) else field.kind in _NUMBERS):
        allowed, size, what = value, int(value), "value"
    elif (isinstance(value, bytes) and field.kind is Kind.bytes) or (
        isinstance(value, str) and field.kind is Kind.text and all(" " <= letter <= "~" for letter in value)
    ):
        allowed, size, what = value, len(value), "length"
    else:
        kind = "printable ASCII" if field.kind is Kind.text else field.kind
        raise LinkError(f"{field.name} is {kind}, got {value!r}.")
    if not field.low <= size <= field.high:
        raise LinkError(f"{field.name} has the {what} {size}, but {field.low}..{field.high} is allowed.")
    return allowed


def pack(fields: tuple[Field, ...], values: Mapping[str, Value]) -> bytes:
    """The body with these values.

    Args:
        fields: Fields of the message.
        values: One value for each field, by name.

    Raises:
        LinkError: One is missing, unknown, of another kind or out of range.
    """
    if set(values) != {field.name for field in fields}:
        raise LinkError(f"the fields are {[field.name for field in fields]}, got {sorted(values)}.")
    return cbor2.dumps({field.key: _check(field, values[field.name]) for field in fields}, canonical=True)


def unpack(fields: tuple[Field, ...], body: bytes) -> dict[str, Value]:
    """Read a body.

    Args:
        fields: Fields of the message.
        body: CBOR.

    Returns:
        One value for each field, by name.

    Raises:
        LinkError: It is not what the table says.
    """
    found = _loads(body)
    if not isinstance(found, dict) or list(found) != [field.key for field in fields]:
        raise LinkError(f"a body is a map of the keys {[field.key for field in fields]}, got {body.hex()}.")
    values = {field.name: _check(field, found[field.key]) for field in fields}
    # The other encodings of the same values (longer heads, indefinite lengths, bytes behind the end) are refused, so
    # that one message has one form; the firmware does the same.
    if pack(fields, values) != body:
        raise LinkError(f"a body is not in its shortest encoding: {body.hex()}.")
    return values


def peek(field: Field, body: bytes) -> Value | None:
    """One field of a body that may be of another schema, or None where it does not have it."""
    try:
        found = _loads(body)
        return _check(field, found[field.key]) if isinstance(found, dict) and field.key in found else None
    except LinkError:
        return None


def _loads(body: bytes) -> object:
    try:
        return cbor2.loads(body)
    except cbor2.CBORDecodeError as error:
        raise LinkError(f"a body is not CBOR ({error}): {body.hex()}.") from error
