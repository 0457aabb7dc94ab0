/* COBS and CRC-32. */
#ifndef FRAME_H
#define FRAME_H

#include <stdint.h>

/* CRC-32 of IEEE 802.3. Start with 0; feed the result of one part to the next. */
uint32_t crc32(uint32_t crc, const uint8_t *bytes, uint16_t length);

/* Undoes COBS in place. Returns the length, or 0 where the bytes are not COBS. */
uint16_t cobs_decode(uint8_t *bytes, uint16_t length);

/* Writes COBS and the delimiter; out holds length + 2 + length / 254 bytes. Returns the length. */
uint16_t cobs_encode(const uint8_t *bytes, uint16_t length, uint8_t *out);

#endif
