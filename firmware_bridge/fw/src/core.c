#define WIRE_PROTOCOL_TABLES
#include "core.h"

#include <stdbool.h>
#include <string.h>

#include "cbor.h"
#include "frame.h"
#include "hal.h"

#ifndef FIRMWARE
#error "FIRMWARE is the hash of the sources; build with the Makefile"
#endif

_Static_assert(STAGE_LOW_NM <= 0 && 0 <= STAGE_HIGH_NM, "the stage starts at 0, which must be within its limits");
_Static_assert(STAGE_SPEED_NM_S >= 1000, "the stage moves by whole nanometres a millisecond");

static const uint8_t schema_hash[8] = WIRE_SCHEMA_HASH;

static struct {
    uint8_t frame[WIRE_REQUEST_FRAME_BYTES];
    uint16_t length;
    bool overlong;

    uint8_t reply[WIRE_REPLY_FRAME_BYTES]; /* the answer to the command last_seq, for its repetition */
    uint16_t reply_length;

    uint32_t nonce;
    uint32_t session; /* 0: none is open */
    uint32_t opened_by; /* challenge of the HELLO that opened it */
    uint16_t last_seq; /* 0: none came yet */

    uint8_t state;
    bool light_armed;
    bool parked;
    uint32_t heard_ms;
    uint32_t lease_losses;

    uint8_t pattern[MASK_BYTES]; /* as it comes by CHUNK; the panel has a memory of its own */
    uint32_t filled;
    uint32_t staged_id;
    bool staged;

    int32_t position_nm;
    int32_t target_nm;
    uint32_t moved_ms;
} core;

/* ---- answers ---- */

/* Builds a frame in out and sends it. Returns its length. */
static uint16_t send_frame(uint8_t type, uint16_t seq, const uint8_t *body, uint16_t length, uint8_t *out)
{
    uint8_t raw[WIRE_HEADER_BYTES + WIRE_REPLY_BODY_BYTES + WIRE_CRC_BYTES];
    uint16_t end = WIRE_HEADER_BYTES;
    raw[0] = WIRE_VERSION;
    raw[1] = type;
    raw[2] = (uint8_t)seq;
    raw[3] = (uint8_t)(seq >> 8);
    for (uint8_t i = 0; i < 4; i++)
        raw[4 + i] = (uint8_t)(core.nonce >> (8 * i));
    memcpy(raw + end, body, length);
    end = (uint16_t)(end + length);
    uint32_t crc = crc32(0, raw, end);
    for (uint8_t i = 0; i < 4; i++)
        raw[end++] = (uint8_t)(crc >> (8 * i));
    uint16_t sent = cobs_encode(raw, end, out);
    hal_send(out, sent);
    return sent;
}

/* Where the answer to a command is kept for its repetition, that of anything else is not. */
static void nak(uint16_t seq, uint8_t code, uint32_t detail, bool keep)
{
    uint8_t body[WIRE_REPLY_BODY_BYTES], other[WIRE_REPLY_FRAME_BYTES];
    wire_value values[2] = {{.number = code}, {.number = detail}};
    uint16_t length = body_write(wire_nak, 2, values, body);
    length = send_frame(WIRE_NAK, seq, body, length, keep ? core.reply : other);
    if (keep)
        core.reply_length = length;
}

/* ---- states ---- */

static bool moving(void) { return core.position_nm != core.target_nm; }

static bool panel_dark(void)
{
    for (uint32_t i = 0; i < MASK_BYTES; i++)
        if (hal_mask_read(i))
            return false;
    return true;
}

/* Goes to a state that is dark, parked and still, or to FAULT where panel or light do not obey. */
static void make_safe(uint8_t state)
{
    hal_light(0);
    hal_mask_park();
    core.target_nm = core.position_nm;
    core.light_armed = false;
    core.parked = panel_dark();
    core.staged = false;
    core.filled = 0;
    core.state = state;
    if (!core.parked || hal_light_read()) {
        core.state = WIRE_STATE_FAULT;
        hal_journal(HAL_FAULT, hal_light_read(), 0, 0);
    }
}

static uint32_t panel_id(void)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < MASK_BYTES; i++) {
        uint8_t level = hal_mask_read(i);
        crc = crc32(crc, &level, 1);
    }
    return crc;
}

static uint32_t parked_id(void)
{
    static const uint8_t zero;
    uint32_t crc = 0;
    for (uint32_t i = 0; i < MASK_BYTES; i++)
        crc = crc32(crc, &zero, 1);
    return crc;
}

/* ---- commands: each returns 0 with its answer in out, or the code of a NAK with its detail ---- */

static void text_value(wire_value *value, const char *text)
{
    value->bytes = (const uint8_t *)text;
    value->length = (uint16_t)strlen(text);
}

static void hello(uint16_t seq, const uint8_t *body, uint16_t length)
{
    wire_value in[WIRE_FIELDS_MAX], out[WIRE_FIELDS_MAX];
    uint8_t key, reply[WIRE_REPLY_BODY_BYTES], frame[WIRE_REPLY_FRAME_BYTES];
    const wire_command *command = &wire_commands[0];
    if (body_read(command->request, command->request_count, body, length, in, &key) != BODY_OK ||
        memcmp(in[WIRE_HELLO_IN_SCHEMA].bytes, schema_hash, sizeof schema_hash)) {
        nak(seq, WIRE_NAK_SCHEMA, WIRE_SCHEMA_PREFIX, false);
        return;
    }
    uint32_t session = (uint32_t)in[WIRE_HELLO_IN_SESSION].number;
    uint32_t challenge = (uint32_t)in[WIRE_HELLO_IN_CHALLENGE].number;
    if (session != core.session) {
        make_safe(WIRE_STATE_SAFE);
        core.session = session;
        core.opened_by = challenge;
        core.last_seq = 0;
        core.nonce = hal_nonce();
        hal_journal(HAL_SESSION, core.nonce, 0, 0);
    }
    out[WIRE_HELLO_OUT_SCHEMA].bytes = schema_hash;
    out[WIRE_HELLO_OUT_SCHEMA].length = sizeof schema_hash;
    out[WIRE_HELLO_OUT_CHALLENGE].number = challenge;
    /* The HELLO that opened the session may come twice. */
    out[WIRE_HELLO_OUT_RESUMED].number = challenge != core.opened_by;
    text_value(&out[WIRE_HELLO_OUT_MODEL], MODEL);
    text_value(&out[WIRE_HELLO_OUT_SERIAL], hal_serial());
    text_value(&out[WIRE_HELLO_OUT_FIRMWARE], FIRMWARE);
    out[WIRE_HELLO_OUT_MASK_WIDTH].number = MASK_WIDTH;
    out[WIRE_HELLO_OUT_MASK_HEIGHT].number = MASK_HEIGHT;
    out[WIRE_HELLO_OUT_MASK_BITS].number = MASK_BITS;
    out[WIRE_HELLO_OUT_MASK_PITCH_NM].number = MASK_PITCH_NM;
    out[WIRE_HELLO_OUT_MASK_SETTLE_US].number = MASK_SETTLE_US;
    out[WIRE_HELLO_OUT_PARKED_ID].number = parked_id();
    out[WIRE_HELLO_OUT_LIGHT_WAVELENGTH_PM].number = LIGHT_WAVELENGTH_PM;
    out[WIRE_HELLO_OUT_LIGHT_POWER_UW].number = LIGHT_POWER_UW;
    out[WIRE_HELLO_OUT_STAGE_LOW_NM].number = STAGE_LOW_NM;
    out[WIRE_HELLO_OUT_STAGE_HIGH_NM].number = STAGE_HIGH_NM;
    out[WIRE_HELLO_OUT_STAGE_STEP_NM].number = STAGE_STEP_NM;
    out[WIRE_HELLO_OUT_STAGE_SPEED_NM_S].number = STAGE_SPEED_NM_S;
    out[WIRE_HELLO_OUT_LEASE_MS].number = WIRE_LEASE_MS;
    length = body_write(command->reply, command->reply_count, out, reply);
    send_frame(WIRE_HELLO | WIRE_REPLY, seq, reply, length, frame);
}

static uint8_t shown(wire_value *out)
{
    out[0].number = panel_id();
    out[1].number = core.parked;
    return 0;
}

static uint8_t fault(uint32_t read, uint32_t *detail)
{
    hal_journal(HAL_FAULT, read, 0, 0);
    make_safe(WIRE_STATE_FAULT);
    *detail = read;
    return WIRE_NAK_FAULT;
}

static uint8_t chunk(const wire_value *in, wire_value *out, uint32_t *detail)
{
    uint32_t offset = (uint32_t)in[WIRE_CHUNK_IN_OFFSET].number;
    uint16_t length = in[WIRE_CHUNK_IN_DATA].length;
    if (offset != 0 && offset != core.filled) {
        *detail = core.filled;
        return WIRE_NAK_INCOMPLETE;
    }
    if (length > MASK_BYTES - offset) {
        *detail = 2;
        return WIRE_NAK_RANGE;
    }
    memcpy(core.pattern + offset, in[WIRE_CHUNK_IN_DATA].bytes, length);
    core.filled = offset + length;
    core.staged = false;
    out[WIRE_CHUNK_OUT_FILLED].number = core.filled;
    return 0;
}

static uint32_t store_id(void)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < MASK_BYTES; i++)
        crc = crc32(crc, &core.pattern[i], 1);
    return crc;
}

static uint8_t stage(const wire_value *in, wire_value *out, uint32_t *detail)
{
    uint32_t crc;
    core.staged = false;
    if (in[WIRE_STAGE_IN_LENGTH].number != (int64_t)MASK_BYTES) {
        *detail = 1;
        return WIRE_NAK_RANGE;
    }
    if (core.filled != MASK_BYTES) {
        *detail = core.filled;
        return WIRE_NAK_INCOMPLETE;
    }
    crc = store_id();
    if (crc != (uint32_t)in[WIRE_STAGE_IN_PATTERN_ID].number) {
        *detail = crc;
        return WIRE_NAK_MISMATCH;
    }
    core.staged = true;
    core.staged_id = crc;
    out[WIRE_STAGE_OUT_PATTERN_ID].number = crc;
    return 0;
}

static uint8_t commit(const wire_value *in, wire_value *out, uint32_t *detail)
{
    if (core.state != WIRE_STATE_ARMED) {
        *detail = core.state;
        return WIRE_NAK_UNSAFE;
    }
    if (!core.staged) {
        *detail = core.filled;
        return WIRE_NAK_INCOMPLETE;
    }
    if (core.staged_id != (uint32_t)in[WIRE_COMMIT_IN_PATTERN_ID].number) {
        *detail = core.staged_id;
        return WIRE_NAK_MISMATCH;
    }
    /* What the memory does not hold any more is not shown. */
    uint32_t held = store_id();
    if (held != core.staged_id)
        return fault(held, detail);
    hal_mask_show(core.pattern);
    core.parked = false;
    shown(out);
    if ((uint32_t)out[WIRE_COMMIT_OUT_PATTERN_ID].number != core.staged_id)
        return fault((uint32_t)out[WIRE_COMMIT_OUT_PATTERN_ID].number, detail);
    return 0;
}

static uint8_t park(wire_value *out, uint32_t *detail)
{
    hal_mask_park();
    core.parked = panel_dark();
    return core.parked ? shown(out) : fault(panel_id(), detail);
}

static uint8_t light(uint16_t level, wire_value *out, uint32_t *detail)
{
    hal_light(level);
    uint16_t read = hal_light_read();
    if (read != level)
        return fault(read, detail);
    out[0].number = read;
    return 0;
}

static uint8_t move(const wire_value *in, wire_value *out, uint32_t *detail)
{
    int64_t target = in[WIRE_MOVE_IN_POSITION_NM].number;
    if (core.state != WIRE_STATE_ARMED) {
        *detail = core.state;
        return WIRE_NAK_UNSAFE;
    }
    if (moving())
        return WIRE_NAK_BUSY;
    if (target < STAGE_LOW_NM || target > STAGE_HIGH_NM) {
        *detail = 1;
        return WIRE_NAK_RANGE;
    }
    /* To the nearest step, counted from the lower end, so that no rounding leaves the limits downwards. */
    int64_t steps = (target - STAGE_LOW_NM + STAGE_STEP_NM / 2) / STAGE_STEP_NM;
    if (STAGE_LOW_NM + steps * STAGE_STEP_NM > STAGE_HIGH_NM)
        steps--;
    core.target_nm = (int32_t)(STAGE_LOW_NM + steps * STAGE_STEP_NM);
    core.moved_ms = hal_millis();
    out[WIRE_MOVE_OUT_POSITION_NM].number = core.target_nm;
    return 0;
}

static uint8_t carry_out(uint8_t type, const wire_value *in, wire_value *out, uint32_t *detail)
{
    switch (type) {
    case WIRE_HEARTBEAT:
        out[WIRE_HEARTBEAT_OUT_STATE].number = core.state;
        out[WIRE_HEARTBEAT_OUT_PARKED].number = core.parked;
        out[WIRE_HEARTBEAT_OUT_LIGHT_ARMED].number = core.light_armed;
        out[WIRE_HEARTBEAT_OUT_LEVEL].number = hal_light_read();
        out[WIRE_HEARTBEAT_OUT_POSITION_NM].number = core.position_nm;
        out[WIRE_HEARTBEAT_OUT_MOVING].number = moving();
        out[WIRE_HEARTBEAT_OUT_LEASE_LOSSES].number = core.lease_losses;
        return 0;
    case WIRE_ARM:
        if (core.state == WIRE_STATE_FAULT) {
            *detail = core.state;
            return WIRE_NAK_UNSAFE;
        }
        core.state = WIRE_STATE_ARMED;
        if (in[WIRE_ARM_IN_LIGHT].number)
            core.light_armed = true;
        hal_journal(HAL_ARM, (uint32_t)in[WIRE_ARM_IN_LIGHT].number, in[WIRE_ARM_IN_OPERATOR].bytes,
                    (uint8_t)in[WIRE_ARM_IN_OPERATOR].length);
        out[WIRE_ARM_OUT_STATE].number = core.state;
        return 0;
    case WIRE_SAFE:
        make_safe(WIRE_STATE_SAFE);
        if (core.state == WIRE_STATE_FAULT) {
            *detail = core.parked ? hal_light_read() : panel_id();
            return WIRE_NAK_FAULT;
        }
        hal_journal(HAL_SAFE, 0, 0, 0);
        return shown(out);
    case WIRE_CHUNK:
        return chunk(in, out, detail);
    case WIRE_STAGE:
        return stage(in, out, detail);
    case WIRE_COMMIT:
        return commit(in, out, detail);
    case WIRE_READBACK:
        return shown(out);
    case WIRE_PARK:
        return park(out, detail);
    case WIRE_LIGHT:
        if (!core.light_armed) {
            *detail = core.state;
            return WIRE_NAK_UNSAFE;
        }
        return light((uint16_t)in[WIRE_LIGHT_IN_LEVEL].number, out, detail);
    case WIRE_OFF:
        core.light_armed = false;
        return light(0, out, detail);
    case WIRE_MOVE:
        return move(in, out, detail);
    default: /* WIRE_STOP; the table holds no other type */
        core.target_nm = core.position_nm;
        out[WIRE_STOP_OUT_POSITION_NM].number = core.position_nm;
        return 0;
    }
}

/* ---- frames ---- */

static void command(uint8_t type, uint16_t seq, const uint8_t *body, uint16_t length)
{
    wire_value in[WIRE_FIELDS_MAX], out[WIRE_FIELDS_MAX];
    uint8_t reply[WIRE_REPLY_BODY_BYTES], code, key = 0;
    uint32_t detail = 0;
    const wire_command *found = 0;

    core.last_seq = seq;
    core.heard_ms = hal_millis();
    for (uint8_t i = 1; i < sizeof wire_commands / sizeof wire_commands[0]; i++)
        if (wire_commands[i].type == type)
            found = &wire_commands[i];
    if (!found) {
        nak(seq, WIRE_NAK_UNKNOWN, type, true);
        return;
    }
    switch (body_read(found->request, found->request_count, body, length, in, &key)) {
    case BODY_MALFORMED:
        code = WIRE_NAK_BODY;
        break;
    case BODY_RANGE:
        code = WIRE_NAK_RANGE;
        detail = key;
        break;
    default:
        code = carry_out(type, in, out, &detail);
    }
    if (code) {
        nak(seq, code, detail, true);
        return;
    }
    length = body_write(found->reply, found->reply_count, out, reply);
    core.reply_length = send_frame(type | WIRE_REPLY, seq, reply, length, core.reply);
}

static void frame(uint8_t *bytes, uint16_t length)
{
    length = cobs_decode(bytes, length);
    if (length < WIRE_HEADER_BYTES + WIRE_CRC_BYTES) {
        nak(0, WIRE_NAK_CRC, 0, false);
        return;
    }
    length = (uint16_t)(length - WIRE_CRC_BYTES);
    uint32_t crc = 0, nonce = 0;
    for (uint8_t i = 4; i-- > 0;) {
        crc = crc << 8 | bytes[length + i];
        nonce = nonce << 8 | bytes[4 + i];
    }
    if (crc != crc32(0, bytes, length)) {
        nak(0, WIRE_NAK_CRC, 0, false);
        return;
    }
    uint8_t type = bytes[1];
    uint16_t seq = (uint16_t)(bytes[2] | (uint16_t)bytes[3] << 8);
    const uint8_t *body = bytes + WIRE_HEADER_BYTES;
    length = (uint16_t)(length - WIRE_HEADER_BYTES);
    uint16_t next = core.last_seq == WIRE_SEQ_HIGH ? 1 : (uint16_t)(core.last_seq + 1);
    if (bytes[0] != WIRE_VERSION)
        nak(seq, WIRE_NAK_SCHEMA, WIRE_SCHEMA_PREFIX, false);
    else if (type == WIRE_HELLO)
        hello(seq, body, length);
    else if (!core.session || nonce != core.nonce)
        nak(seq, WIRE_NAK_SESSION, 0, false);
    else if (seq == next)
        command(type, seq, body, length);
    else if (seq && seq == core.last_seq) {
        static const uint8_t delimiter = 0;
        hal_send(&delimiter, 1);
        hal_send(core.reply, core.reply_length);
    } else
        nak(seq, WIRE_NAK_SEQUENCE, next, false);
}

void core_boot(void)
{
    memset(&core, 0, sizeof core);
    core.nonce = hal_nonce();
    hal_journal(HAL_BOOT, core.nonce, 0, 0);
    make_safe(WIRE_STATE_SAFE);
    hal_stage(core.position_nm);
}

void core_receive(uint8_t byte)
{
    if (byte) {
        if (core.length < sizeof core.frame)
            core.frame[core.length++] = byte;
        else
            core.overlong = true;
        return;
    }
    if (core.overlong)
        nak(0, WIRE_NAK_CRC, 0, false);
    else if (core.length)
        frame(core.frame, core.length);
    core.length = 0;
    core.overlong = false;
}

void core_tick(void)
{
    uint32_t now = hal_millis(), silent = now - core.heard_ms;
    if (core.state == WIRE_STATE_ARMED && silent >= WIRE_LEASE_MS) {
        core.lease_losses++;
        hal_journal(HAL_LEASE_LOST, silent, 0, 0);
        make_safe(WIRE_STATE_LATCHED);
        hal_journal(HAL_PARKED, hal_millis() - core.heard_ms, 0, 0);
    }
    if (moving()) {
        /* Whole milliseconds only; the rest counts at the next tick. */
        uint32_t elapsed = now - core.moved_ms;
        int64_t reach = (int64_t)elapsed * (STAGE_SPEED_NM_S / 1000);
        int64_t left = (int64_t)core.target_nm - core.position_nm;
        core.moved_ms = now;
        if (left > reach)
            left = reach;
        else if (left < -reach)
            left = -reach;
        if (left) {
            core.position_nm = (int32_t)(core.position_nm + left);
            hal_stage(core.position_nm);
        }
    }
}
