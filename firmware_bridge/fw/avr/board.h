/* ATmega1284P at 16 MHz. Two pattern memories of 4 KiB each leave half of its RAM. */
#ifndef BOARD_H
#define BOARD_H

#define MASK_WIDTH 64
#define MASK_HEIGHT 64
#define MASK_BITS 8
#define MASK_PITCH_NM 36000
#define MASK_SETTLE_US 2000
#define LIGHT_WAVELENGTH_PM 532000
#define LIGHT_POWER_UW 900
#define STAGE_LOW_NM (-5000000L)
#define STAGE_HIGH_NM 5000000L
#define STAGE_STEP_NM 625L
#define STAGE_SPEED_NM_S 20000000L
#define MODEL "atmega1284p"

#endif
