#include "cbor.h"

#include <stdbool.h>

enum { MAJOR_UINT = 0, MAJOR_NEGATIVE = 1, MAJOR_BYTES = 2, MAJOR_TEXT = 3, MAJOR_MAP = 5, MAJOR_SIMPLE = 7 };
enum { SIMPLE_FALSE = 20, SIMPLE_TRUE = 21 };

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} reader;

/* Reads the head of an item. An argument beyond 32 bits or in more bytes than it needs is refused. */
static bool read_head(reader *r, uint8_t *major, uint32_t *argument)
{
    if (r->at == r->end)
        return false;
    uint8_t first = *r->at++, info = first & 31, size;
    *major = first >> 5;
    if (info < 24) {
        *argument = info;
        return true;
    }
    if (info > 26)
        return false;
    size = (uint8_t)(1 << (info - 24));
    if (r->end - r->at < size)
        return false;
    *argument = 0;
    for (uint8_t i = 0; i < size; i++)
        *argument = *argument << 8 | *r->at++;
    return *argument >= (size == 1 ? 24u : size == 2 ? 0x100u : 0x10000ul);
}

static bool is_printable(const uint8_t *text, uint16_t length)
{
    for (uint16_t i = 0; i < length; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    return true;
}

static bool read_value(reader *r, uint8_t kind, wire_value *value, int64_t *size)
{
    uint8_t major;
    uint32_t argument;
    if (!read_head(r, &major, &argument))
        return false;
    switch (kind) {
    case WIRE_KIND_UINT:
    case WIRE_KIND_INT:
        if (major != MAJOR_UINT && (major != MAJOR_NEGATIVE || kind == WIRE_KIND_UINT))
            return false;
        value->number = major == MAJOR_UINT ? (int64_t)argument : -1 - (int64_t)argument;
        break;
    case WIRE_KIND_BOOL:
        if (major != MAJOR_SIMPLE || (argument != SIMPLE_FALSE && argument != SIMPLE_TRUE))
            return false;
        value->number = argument == SIMPLE_TRUE;
        break;
    default:
        if (major != (kind == WIRE_KIND_TEXT ? MAJOR_TEXT : MAJOR_BYTES) || argument > (uint32_t)(r->end - r->at))
            return false;
        value->bytes = r->at;
        value->length = (uint16_t)argument;
        r->at += argument;
        if (kind == WIRE_KIND_TEXT && !is_printable(value->bytes, value->length))
            return false;
        *size = value->length;
        return true;
    }
    *size = value->number;
    return true;
}

body_verdict body_read(const wire_field *fields, uint8_t count, const uint8_t *body, uint16_t length, wire_value *values,
                       uint8_t *key)
{
    reader r = {body, body + length};
    body_verdict verdict = BODY_OK;
    uint8_t major;
    uint32_t argument;
    int64_t size;
    if (!read_head(&r, &major, &argument) || major != MAJOR_MAP || argument != count)
        return BODY_MALFORMED;
    for (uint8_t i = 0; i < count; i++) {
        if (!read_head(&r, &major, &argument) || major != MAJOR_UINT || argument != fields[i].key)
            return BODY_MALFORMED;
        if (!read_value(&r, fields[i].kind, &values[i], &size))
            return BODY_MALFORMED;
        if (verdict == BODY_OK && (size < fields[i].low || size > fields[i].high)) {
            verdict = BODY_RANGE;
            *key = fields[i].key;
        }
    }
    return r.at == r.end ? verdict : BODY_MALFORMED;
}

static uint8_t *write_head(uint8_t *out, uint8_t major, uint32_t argument)
{
    uint8_t size = argument < 24 ? 0 : argument < 0x100 ? 1 : argument < 0x10000ul ? 2 : 4;
    *out++ = (uint8_t)((uint32_t)major << 5 | (size == 0 ? argument : size == 1 ? 24u : size == 2 ? 25u : 26u));
    while (size--)
        *out++ = (uint8_t)(argument >> (8 * size));
    return out;
}

uint16_t body_write(const wire_field *fields, uint8_t count, const wire_value *values, uint8_t *out)
{
    uint8_t *to = write_head(out, MAJOR_MAP, count);
    for (uint8_t i = 0; i < count; i++) {
        const wire_value *value = &values[i];
        to = write_head(to, MAJOR_UINT, fields[i].key);
        switch (fields[i].kind) {
        case WIRE_KIND_UINT:
        case WIRE_KIND_INT:
            if (value->number < 0)
                to = write_head(to, MAJOR_NEGATIVE, (uint32_t)(-1 - value->number));
            else
                to = write_head(to, MAJOR_UINT, (uint32_t)value->number);
            break;
        case WIRE_KIND_BOOL:
            to = write_head(to, MAJOR_SIMPLE, value->number ? SIMPLE_TRUE : SIMPLE_FALSE);
            break;
        default:
            to = write_head(to, fields[i].kind == WIRE_KIND_TEXT ? MAJOR_TEXT : MAJOR_BYTES, value->length);
            for (uint16_t k = 0; k < value->length; k++)
                *to++ = value->bytes[k];
        }
    }
    return (uint16_t)(to - out);
}
