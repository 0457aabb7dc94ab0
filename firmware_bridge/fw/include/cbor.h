/* The part of CBOR (RFC 8949) that bodies need: one map, shortest encoding, as a table of fields says. */
#ifndef CBOR_H
#define CBOR_H

#include <stdint.h>

#include "wire_protocol.h"

typedef struct {
    int64_t number;       /* of uint, int and bool */
    const uint8_t *bytes; /* of bytes and text */
    uint16_t length;
} wire_value;

typedef enum { BODY_OK, BODY_MALFORMED, BODY_RANGE } body_verdict;

/* Reads a body. *key is the field that is out of range. Values point into body. */
body_verdict body_read(const wire_field *fields, uint8_t count, const uint8_t *body, uint16_t length, wire_value *values,
                       uint8_t *key);

/* Writes a body; out holds WIRE_REPLY_BODY_BYTES. Returns the length. */
uint16_t body_write(const wire_field *fields, uint8_t count, const wire_value *values, uint8_t *out);

#endif
