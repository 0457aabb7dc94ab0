/* What a board must provide. The core calls these from one context only, never from an interrupt. */
#ifndef HAL_H
#define HAL_H

#include <stdint.h>

/* The board's header defines MASK_WIDTH, MASK_HEIGHT, MASK_BITS, MASK_PITCH_NM, MASK_SETTLE_US, LIGHT_WAVELENGTH_PM,
 * LIGHT_POWER_UW, STAGE_LOW_NM, STAGE_HIGH_NM, STAGE_STEP_NM, STAGE_SPEED_NM_S and MODEL. */
#include "board.h"

#define MASK_LEVEL_BYTES (MASK_BITS > 8 ? 2 : 1)
#define MASK_BYTES ((uint32_t)MASK_WIDTH * MASK_HEIGHT * MASK_LEVEL_BYTES)

typedef enum {
    HAL_BOOT,       /* value: nonce */
    HAL_SESSION,    /* value: nonce */
    HAL_ARM,        /* value: 1 with light; text: operator */
    HAL_SAFE,
    HAL_LEASE_LOST, /* value: milliseconds since the last new command */
    HAL_FAULT,      /* value: what was read back */
    HAL_PARKED,     /* after a lost lease; value: milliseconds from the last new command until mask and light are safe */
} hal_event;

/* Milliseconds since boot; wraps around. */
uint32_t hal_millis(void);

/* Never 0, and another number at each call and after each boot. */
uint32_t hal_nonce(void);

/* Serial number, 1 to 32 printable ASCII characters. */
const char *hal_serial(void);

/* Sends bytes, or drops them where nobody reads; may not wait for a reader. */
void hal_send(const uint8_t *bytes, uint16_t length);

/* Shows MASK_BYTES levels with the next refresh of the panel, all at once. */
void hal_mask_show(const uint8_t *levels);

/* Shows the safe pattern, all levels 0, at once. */
void hal_mask_park(void);

/* One byte of what the panel holds. */
uint8_t hal_mask_read(uint32_t index);

/* Sets the power, in 1/65535 of the largest; 0 also takes the enable line low. */
void hal_light(uint16_t level);

/* The power that is set; 0 only if the enable line is low. */
uint16_t hal_light_read(void);

/* Moves the stage to the next place on its way, in nanometres. */
void hal_stage(int32_t position_nm);

/* Keeps an event where the board has a journal. */
void hal_journal(hal_event event, uint32_t value, const uint8_t *text, uint8_t length);

#endif
