#include "frame.h"

uint32_t crc32(uint32_t crc, const uint8_t *bytes, uint16_t length)
{
    /* Four bits a step: a table of 64 bytes, which fits a small controller. */
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    crc = ~crc;
    while (length--) {
        crc ^= *bytes++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

uint16_t cobs_decode(uint8_t *bytes, uint16_t length)
{
    uint16_t in = 0, out = 0;
    while (in < length) {
        uint8_t code = bytes[in++];
        if (code == 0 || (uint16_t)(code - 1) > (uint16_t)(length - in))
            return 0;
        for (uint8_t i = 1; i < code; i++) {
            if (bytes[in] == 0)
                return 0;
            bytes[out++] = bytes[in++];
        }
        if (code < 255 && in < length)
            bytes[out++] = 0;
    }
    return out;
}

uint16_t cobs_encode(const uint8_t *bytes, uint16_t length, uint8_t *out)
{
    uint16_t code_at = 0, to = 1;
    uint8_t code = 1;
    for (uint16_t i = 0; i < length; i++) {
        if (bytes[i]) {
            out[to++] = bytes[i];
            code++;
        }
        /* A block of 254 bytes without a zero is closed only if more follows. */
        if (!bytes[i] || (code == 255 && i + 1 < length)) {
            out[code_at] = code;
            code_at = to++;
            code = 1;
        }
    }
    out[code_at] = code;
    out[to++] = 0;
    return to;
}
