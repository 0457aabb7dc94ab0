"""Writes the C header and the documentation from the schema: ``python -m firmware_bridge.wire.generate``."""

from __future__ import annotations

from pathlib import Path

from cobs import cobs

from firmware_bridge.wire import codec, schema
from firmware_bridge.wire.codec import Packet
from firmware_bridge.wire.schema import COMMANDS, NAK, Field

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "firmware_bridge" / "fw" / "include" / "wire_protocol.h"
DOCUMENT = ROOT / "docs" / "wire-protocol.md"


def _c_fields(name: str, fields: tuple[Field, ...]) -> list[str]:
    if not fields:
        return []
    return [
        f"static const wire_field {name}[] = {{",
        *(f"    {{{f.key}, WIRE_KIND_{f.kind.upper()}, INT64_C({f.low}), INT64_C({f.high})}}," for f in fields),
        "};",
    ]


def _c_list(name: str, fields: tuple[Field, ...]) -> str:
    return f"{name}, {len(fields)}" if fields else "0, 0"


def _c_indices(prefix: str, fields: tuple[Field, ...]) -> list[str]:
    return [f"#define WIRE_{prefix}_{field.name.upper()} {index}" for index, field in enumerate(fields)]


def header() -> str:
    """The C header: numbers, and behind ``WIRE_PROTOCOL_TABLES`` the tables by which bodies are read and written."""
    lines = [
        "/* Made by firmware_bridge/wire/generate.py from firmware_bridge/wire/schema.py; change it there. */",
        "#ifndef WIRE_PROTOCOL_H",
        "#define WIRE_PROTOCOL_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define WIRE_VERSION {schema.VERSION}",
        f"#define WIRE_SCHEMA_HASH {{{', '.join(f'0x{byte:02x}' for byte in schema.SCHEMA_HASH)}}}",
        f"#define WIRE_SCHEMA_PREFIX 0x{schema.SCHEMA_HASH[:4].hex()}ul",
        f"#define WIRE_BAUD {schema.BAUD}ul",
        f"#define WIRE_LEASE_MS {round(schema.LEASE_S * 1000)}u",
        f"#define WIRE_CHUNK_BYTES {schema.CHUNK_BYTES}",
        f"#define WIRE_HEADER_BYTES {schema.HEADER_BYTES}",
        f"#define WIRE_CRC_BYTES {schema.CRC_BYTES}",
        f"#define WIRE_REQUEST_FRAME_BYTES {schema.REQUEST_FRAME_BYTES}",
        f"#define WIRE_REPLY_BODY_BYTES {schema.REPLY_BODY_BYTES}",
        f"#define WIRE_REPLY_FRAME_BYTES {schema.REPLY_FRAME_BYTES}",
        f"#define WIRE_FIELDS_MAX {max(max(len(c.request), len(c.reply)) for c in COMMANDS)}",
        f"#define WIRE_SEQ_HIGH 0x{schema.SEQ_HIGH:x}u",
        f"#define WIRE_REPLY 0x{schema.REPLY:02x}",
        "",
        *(f"#define WIRE_{command.name} 0x{command.code:02x}" for command in COMMANDS),
        f"#define WIRE_NAK 0x{schema.NAK_CODE:02x}",
        "",
        *(f"#define WIRE_NAK_{code.name.upper()} {int(code)}" for code in schema.NakCode),
        "",
        *(f"#define WIRE_STATE_{state.name.upper()} {int(state)}" for state in schema.State),
        "",
        "/* Place of each value in an array of wire_value. */",
    ]
    for command in COMMANDS:
        lines += _c_indices(f"{command.name}_IN", command.request) + _c_indices(f"{command.name}_OUT", command.reply)
    lines += [
        "",
        "typedef enum {",
        *(f"    WIRE_KIND_{kind.upper()}," for kind in schema.Kind),
        "} wire_kind;",
        "",
        "typedef struct {",
        "    uint8_t key;",
        "    uint8_t kind;",
        "    int64_t low;  /* of the value, or of the length */",
        "    int64_t high;",
        "} wire_field;",
        "",
        "typedef struct {",
        "    uint8_t type;",
        "    const wire_field *request;",
        "    uint8_t request_count;",
        "    const wire_field *reply;",
        "    uint8_t reply_count;",
        "} wire_command;",
        "",
    ]
    return "\n".join([*lines, *_c_tables(), "", "#endif", ""])


def _c_tables() -> list[str]:
    lines = ["#ifdef WIRE_PROTOCOL_TABLES"]
    for command in COMMANDS:
        lines += _c_fields(f"wire_{command.name.lower()}_in", command.request)
        lines += _c_fields(f"wire_{command.name.lower()}_out", command.reply)
    lines += _c_fields("wire_nak", NAK)
    lines += ["static const wire_command wire_commands[] = {"]
    for command in COMMANDS:
        name = command.name.lower()
        lines.append(
            f"    {{WIRE_{command.name}, {_c_list(f'wire_{name}_in', command.request)}, "
            f"{_c_list(f'wire_{name}_out', command.reply)}}},"
        )
    return [*lines, "};", "#endif"]


def _rows(fields: tuple[Field, ...]) -> list[str]:
    if not fields:
        return ["(empty map)", ""]
    rows = ["| key | name | kind | range | meaning |", "|---|---|---|---|---|"]
    for f in fields:
        rows.append(f"| {f.key} | {f.name} | {f.kind} | {f.low} … {f.high} | {f.meaning} |")
    return [*rows, ""]


def _example() -> list[str]:
    """One command and its answer, byte by byte."""
    light = schema.BY_NAME["LIGHT"]
    lines = [
        "The host sets half of the light's power: LIGHT with level 32768, as command 5 of a session whose nonce is "
        "0x12345678. The device answers that this is what it reads back.",
        "",
        "| | command | answer |",
        "|---|---|---|",
    ]
    columns = []
    for code, fields in ((light.code, light.request), (light.code | schema.REPLY, light.reply)):
        packet = Packet(code, 5, 0x12345678, codec.pack(fields, {"level": 32768}))
        wire = codec.encode(packet)
        plain = cobs.decode(wire[:-1])
        body = plain[schema.HEADER_BYTES : -schema.CRC_BYTES]
        parts = (plain[:1], plain[1:2], plain[2:4], plain[4:8], body, plain[-schema.CRC_BYTES :], wire)
        columns.append([part.hex(" ") for part in parts])
    names = ("version", "type", "seq", "nonce", "body, `{1: 32768}`", "CRC-32", "on the wire")
    lines += [f"| {name} | `{command}` | `{answer}` |" for name, command, answer in zip(names, *columns, strict=True)]
    return [*lines, ""]


def _rules() -> list[str]:
    return [
        "## Rules",
        "",
        "1. **Session.** HELLO opens it. A hash of another schema is refused on both sides. Until a HELLO with a "
        "matching schema has arrived, no other message is answered. The nonce is drawn anew at each boot and for each "
        "new session, and every frame carries it: another nonce means that all state was lost.",
        f"2. **One at a time.** Seq runs 1 … {schema.SEQ_HIGH} and then from 1. The host sends the next command after "
        f"the answer to the last. Without an answer it repeats the same frame after srtt + 4 rttvar "
        f"({schema.RTO_LOW_S * 1000:g} ms … {schema.RTO_HIGH_S:g} s, doubled each time, {schema.TRIES} tries at most), "
        "at once after NAK crc. The device keeps its last answer: a repeated seq gets that answer and is not carried "
        "out again. A NAK means that the command had no effect, but for NAK fault, after which all is as in FAULT. "
        "After the last try, or when the port is lost, the host opens the port again and sends HELLO for the same "
        "session: if it is resumed, the open command is repeated with its seq, else its fate does not matter, because "
        "the state is lost.",
        f"3. **Lease.** The host sends HEARTBEAT every {schema.HEARTBEAT_S * 1000:g} ms. {schema.LEASE_S:g} s without "
        "a new command of the session, and the device parks the mask, turns the light off, stops the stage and stays "
        "so until ARM. A repeated command does not renew the lease.",
        "4. **Patterns** come by CHUNK, are checked whole by STAGE, and shown by COMMIT. COMMIT is answered with the "
        "CRC-32 of what the panel holds.",
        "",
    ]


def document() -> str:
    """The documentation of the protocol, in Markdown."""
    lines = [
        "# Wire protocol",
        "",
        "Made by `python -m firmware_bridge.wire.generate` from `firmware_bridge/wire/schema.py`; change it there.",
        "",
        f"Schema hash: `{schema.SCHEMA_HASH.hex()}`.",
        "",
        "## Frame",
        "",
        "`COBS(version · type · seq16 · nonce32 · body · CRC-32) ‖ 00`",
        "",
        f"Version is {schema.VERSION}. Numbers are little-endian. The CRC-32 (IEEE 802.3) covers all bytes before it. "
        "The body is one CBOR map with all keys of the table, ascending, in the shortest encoding; the range of bytes "
        f"and text is that of their length. A command is at most {schema.REQUEST_FRAME_BYTES} bytes long on the wire, "
        f"an answer {schema.REPLY_FRAME_BYTES}. Empty frames are ignored: a delimiter in front of a repeated frame "
        "closes one that was cut off.",
        "",
        "An answer has the type of its command with the highest bit set, or that of NAK, and repeats the seq of the "
        "command that it answers. Its nonce is that of the session, also in the answer to HELLO. NAK crc alone, whose "
        "command is not known, has seq 0.",
        "",
        "### An example",
        "",
        *_example(),
        "## Port",
        "",
        "A serial port that a host finds by the serial number of its USB descriptor, which is the one in the answer to "
        f"HELLO. {schema.BAUD} baud, 8 data bits, no parity, 1 stop bit, no flow control; a device whose USB is its "
        "own, without a UART behind it, may ignore the rate. Where one USB device offers several serial ports, the "
        "file of the bench names the USB interface: `options = { interface = 2 }`. An emulator offers a "
        "pseudo-terminal instead. A device that is reset when its port is opened has lost its session, and the answer "
        "to HELLO says so.",
        "",
        *_rules(),
        "## States",
        "",
        "| value | state | meaning |",
        "|---|---|---|",
        *(f"| {int(state)} | {state.name} | {meaning} |" for state, meaning in schema.STATE_MEANING.items()),
        "",
        "## Commands",
        "",
    ]
    for command in COMMANDS:
        lines += [f"### {command.name} (0x{command.code:02x})", "", command.meaning, ""]
        lines += ["Command:", "", *_rows(command.request), f"Answer (0x{command.code | schema.REPLY:02x}):", ""]
        lines += _rows(command.reply)
    lines += [f"### NAK (0x{schema.NAK_CODE:02x})", "", *_rows(NAK), "| code | name | meaning |", "|---|---|---|"]
    lines += [f"| {int(code)} | {code.name} | {meaning} |" for code, meaning in schema.NAK_MEANING.items()]
    return "\n".join([*lines, ""])


def main() -> None:
    """Write both files."""
    HEADER.write_text(header())
    DOCUMENT.write_text(document())


if __name__ == "__main__":
    main()
