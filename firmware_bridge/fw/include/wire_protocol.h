/* Made by firmware_bridge/wire/generate.py from firmware_bridge/wire/schema.py; change it there. */
#ifndef WIRE_PROTOCOL_H
#define WIRE_PROTOCOL_H

#include <stdint.h>

#define WIRE_VERSION 1
#define WIRE_SCHEMA_HASH {0xa2, 0xc7, 0xc0, 0x19, 0xd1, 0x1a, 0x04, 0xef}
#define WIRE_SCHEMA_PREFIX 0xa2c7c019ul
#define WIRE_BAUD 500000ul
#define WIRE_LEASE_MS 1000u
#define WIRE_CHUNK_BYTES 256
#define WIRE_HEADER_BYTES 8
#define WIRE_CRC_BYTES 4
#define WIRE_REQUEST_FRAME_BYTES 282
#define WIRE_REPLY_BODY_BYTES 200
#define WIRE_REPLY_FRAME_BYTES 214
#define WIRE_FIELDS_MAX 19
#define WIRE_SEQ_HIGH 0xffffu
#define WIRE_REPLY 0x80

#define WIRE_HELLO 0x01
#define WIRE_HEARTBEAT 0x02
#define WIRE_ARM 0x03
#define WIRE_SAFE 0x04
#define WIRE_CHUNK 0x10
#define WIRE_STAGE 0x11
#define WIRE_COMMIT 0x12
#define WIRE_READBACK 0x13
#define WIRE_PARK 0x14
#define WIRE_LIGHT 0x20
#define WIRE_OFF 0x21
#define WIRE_MOVE 0x30
#define WIRE_STOP 0x31
#define WIRE_NAK 0xff

#define WIRE_NAK_CRC 1
#define WIRE_NAK_SCHEMA 2
#define WIRE_NAK_SESSION 3
#define WIRE_NAK_SEQUENCE 4
#define WIRE_NAK_UNKNOWN 5
#define WIRE_NAK_BODY 6
#define WIRE_NAK_RANGE 7
#define WIRE_NAK_UNSAFE 8
#define WIRE_NAK_BUSY 9
#define WIRE_NAK_INCOMPLETE 10
#define WIRE_NAK_MISMATCH 11
#define WIRE_NAK_FAULT 12

#define WIRE_STATE_SAFE 0
#define WIRE_STATE_ARMED 1
#define WIRE_STATE_LATCHED 2
#define WIRE_STATE_FAULT 3

/* Place of each value in an array of wire_value. */
#define WIRE_HELLO_IN_SCHEMA 0
#define WIRE_HELLO_IN_SESSION 1
#define WIRE_HELLO_IN_CHALLENGE 2
#define WIRE_HELLO_OUT_SCHEMA 0
#define WIRE_HELLO_OUT_CHALLENGE 1
#define WIRE_HELLO_OUT_RESUMED 2
#define WIRE_HELLO_OUT_MODEL 3
#define WIRE_HELLO_OUT_SERIAL 4
#define WIRE_HELLO_OUT_FIRMWARE 5
#define WIRE_HELLO_OUT_MASK_WIDTH 6
#define WIRE_HELLO_OUT_MASK_HEIGHT 7
#define WIRE_HELLO_OUT_MASK_BITS 8
#define WIRE_HELLO_OUT_MASK_PITCH_NM 9
#define WIRE_HELLO_OUT_MASK_SETTLE_US 10
#define WIRE_HELLO_OUT_PARKED_ID 11
#define WIRE_HELLO_OUT_LIGHT_WAVELENGTH_PM 12
#define WIRE_HELLO_OUT_LIGHT_POWER_UW 13
#define WIRE_HELLO_OUT_STAGE_LOW_NM 14
#define WIRE_HELLO_OUT_STAGE_HIGH_NM 15
#define WIRE_HELLO_OUT_STAGE_STEP_NM 16
#define WIRE_HELLO_OUT_STAGE_SPEED_NM_S 17
#define WIRE_HELLO_OUT_LEASE_MS 18
#define WIRE_HEARTBEAT_OUT_STATE 0
#define WIRE_HEARTBEAT_OUT_PARKED 1
#define WIRE_HEARTBEAT_OUT_LIGHT_ARMED 2
#define WIRE_HEARTBEAT_OUT_LEVEL 3
#define WIRE_HEARTBEAT_OUT_POSITION_NM 4
#define WIRE_HEARTBEAT_OUT_MOVING 5
#define WIRE_HEARTBEAT_OUT_LEASE_LOSSES 6
#define WIRE_ARM_IN_OPERATOR 0
#define WIRE_ARM_IN_LIGHT 1
#define WIRE_ARM_OUT_STATE 0
#define WIRE_SAFE_OUT_PATTERN_ID 0
#define WIRE_SAFE_OUT_PARKED 1
#define WIRE_CHUNK_IN_OFFSET 0
#define WIRE_CHUNK_IN_DATA 1
#define WIRE_CHUNK_OUT_FILLED 0
#define WIRE_STAGE_IN_LENGTH 0
#define WIRE_STAGE_IN_PATTERN_ID 1
#define WIRE_STAGE_OUT_PATTERN_ID 0
#define WIRE_COMMIT_IN_PATTERN_ID 0
#define WIRE_COMMIT_OUT_PATTERN_ID 0
#define WIRE_COMMIT_OUT_PARKED 1
#define WIRE_READBACK_OUT_PATTERN_ID 0
#define WIRE_READBACK_OUT_PARKED 1
#define WIRE_PARK_OUT_PATTERN_ID 0
#define WIRE_PARK_OUT_PARKED 1
#define WIRE_LIGHT_IN_LEVEL 0
#define WIRE_LIGHT_OUT_LEVEL 0
#define WIRE_OFF_OUT_LEVEL 0
#define WIRE_MOVE_IN_POSITION_NM 0
#define WIRE_MOVE_OUT_POSITION_NM 0
#define WIRE_STOP_OUT_POSITION_NM 0

typedef enum {
    WIRE_KIND_UINT,
    WIRE_KIND_INT,
    WIRE_KIND_BOOL,
    WIRE_KIND_BYTES,
    WIRE_KIND_TEXT,
} wire_kind;

typedef struct {
    uint8_t key;
    uint8_t kind;
    int64_t low;  /* of the value, or of the length */
    int64_t high;
} wire_field;

typedef struct {
    uint8_t type;
    const wire_field *request;
    uint8_t request_count;
    const wire_field *reply;
    uint8_t reply_count;
} wire_command;

#ifdef WIRE_PROTOCOL_TABLES
static const wire_field wire_hello_in[] = {
    {1, WIRE_KIND_BYTES, INT64_C(8), INT64_C(8)},
    {2, WIRE_KIND_UINT, INT64_C(1), INT64_C(4294967295)},
    {3, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
};
static const wire_field wire_hello_out[] = {
    {1, WIRE_KIND_BYTES, INT64_C(8), INT64_C(8)},
    {2, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {3, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
    {4, WIRE_KIND_TEXT, INT64_C(1), INT64_C(32)},
    {5, WIRE_KIND_TEXT, INT64_C(1), INT64_C(32)},
    {6, WIRE_KIND_TEXT, INT64_C(1), INT64_C(40)},
    {7, WIRE_KIND_UINT, INT64_C(1), INT64_C(65535)},
    {8, WIRE_KIND_UINT, INT64_C(1), INT64_C(65535)},
    {9, WIRE_KIND_UINT, INT64_C(1), INT64_C(16)},
    {10, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {11, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {12, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {13, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {14, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {15, WIRE_KIND_INT, INT64_C(-2147483647), INT64_C(2147483647)},
    {16, WIRE_KIND_INT, INT64_C(-2147483647), INT64_C(2147483647)},
    {17, WIRE_KIND_UINT, INT64_C(1), INT64_C(4294967295)},
    {18, WIRE_KIND_UINT, INT64_C(1), INT64_C(4294967295)},
    {19, WIRE_KIND_UINT, INT64_C(1), INT64_C(60000)},
};
static const wire_field wire_heartbeat_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(3)},
    {2, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
    {3, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
    {4, WIRE_KIND_UINT, INT64_C(0), INT64_C(65535)},
    {5, WIRE_KIND_INT, INT64_C(-2147483647), INT64_C(2147483647)},
    {6, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
    {7, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
};
static const wire_field wire_arm_in[] = {
    {1, WIRE_KIND_TEXT, INT64_C(1), INT64_C(32)},
    {2, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
};
static const wire_field wire_arm_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(3)},
};
static const wire_field wire_safe_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {2, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
};
static const wire_field wire_chunk_in[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {2, WIRE_KIND_BYTES, INT64_C(1), INT64_C(256)},
};
static const wire_field wire_chunk_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
};
static const wire_field wire_stage_in[] = {
    {1, WIRE_KIND_UINT, INT64_C(1), INT64_C(4294967295)},
    {2, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
};
static const wire_field wire_stage_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
};
static const wire_field wire_commit_in[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
};
static const wire_field wire_commit_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {2, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
};
static const wire_field wire_readback_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {2, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
};
static const wire_field wire_park_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
    {2, WIRE_KIND_BOOL, INT64_C(0), INT64_C(1)},
};
static const wire_field wire_light_in[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(65535)},
};
static const wire_field wire_light_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(65535)},
};
static const wire_field wire_off_out[] = {
    {1, WIRE_KIND_UINT, INT64_C(0), INT64_C(65535)},
};
static const wire_field wire_move_in[] = {
    {1, WIRE_KIND_INT, INT64_C(-2147483647), INT64_C(2147483647)},
};
static const wire_field wire_move_out[] = {
    {1, WIRE_KIND_INT, INT64_C(-2147483647), INT64_C(2147483647)},
};
static const wire_field wire_stop_out[] = {
    {1, WIRE_KIND_INT, INT64_C(-2147483647), INT64_C(2147483647)},
};
static const wire_field wire_nak[] = {
    {1, WIRE_KIND_UINT, INT64_C(1), INT64_C(12)},
    {2, WIRE_KIND_UINT, INT64_C(0), INT64_C(4294967295)},
};
static const wire_command wire_commands[] = {
    {WIRE_HELLO, wire_hello_in, 3, wire_hello_out, 19},
    {WIRE_HEARTBEAT, 0, 0, wire_heartbeat_out, 7},
    {WIRE_ARM, wire_arm_in, 2, wire_arm_out, 1},
    {WIRE_SAFE, 0, 0, wire_safe_out, 2},
    {WIRE_CHUNK, wire_chunk_in, 2, wire_chunk_out, 1},
    {WIRE_STAGE, wire_stage_in, 2, wire_stage_out, 1},
    {WIRE_COMMIT, wire_commit_in, 1, wire_commit_out, 2},
    {WIRE_READBACK, 0, 0, wire_readback_out, 2},
    {WIRE_PARK, 0, 0, wire_park_out, 2},
    {WIRE_LIGHT, wire_light_in, 1, wire_light_out, 1},
    {WIRE_OFF, 0, 0, wire_off_out, 1},
    {WIRE_MOVE, wire_move_in, 1, wire_move_out, 1},
    {WIRE_STOP, 0, 0, wire_stop_out, 1},
};
#endif

#endif
