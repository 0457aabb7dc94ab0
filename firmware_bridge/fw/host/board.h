/* The board that is a program. The size of its mask is chosen when it is built. */
#ifndef BOARD_H
#define BOARD_H

#ifndef MASK_WIDTH
#define MASK_WIDTH 64
#endif
#ifndef MASK_HEIGHT
#define MASK_HEIGHT 64
#endif
#ifndef MASK_BITS
#define MASK_BITS 8
#endif
#define MASK_PITCH_NM 36000
#define MASK_SETTLE_US 2000
#define LIGHT_WAVELENGTH_PM 532000
#define LIGHT_POWER_UW 900
#define STAGE_LOW_NM (-5000000L)
#define STAGE_HIGH_NM 5000000L
#define STAGE_STEP_NM 625L
#define STAGE_SPEED_NM_S 20000000L
#define MODEL "host"

#endif
