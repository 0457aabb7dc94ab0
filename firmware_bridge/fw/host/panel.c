#include "panel.h"

#include <string.h>

#include "frame.h"
#include "hal.h"

uint8_t panel[MASK_BYTES];
uint16_t panel_light;
int panel_broken;

static uint32_t panel_crc(void)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < MASK_BYTES; i++)
        crc = crc32(crc, &panel[i], 1);
    return crc;
}

void hal_mask_show(const uint8_t *levels)
{
    memcpy(panel, levels, MASK_BYTES);
    if (panel_broken & PANEL_PIXEL_STUCK)
        panel[0] = 255;
    panel_changed("apply", panel_crc());
}

void hal_mask_park(void)
{
    memset(panel, 0, MASK_BYTES);
    if (panel_broken & PANEL_PIXEL_STUCK)
        panel[0] = 255;
    panel_changed("park", panel_crc());
}

uint8_t hal_mask_read(uint32_t index) { return panel[index]; }

void hal_light(uint16_t level)
{
    if (!(panel_broken & PANEL_LIGHT_STUCK))
        panel_light = level;
    panel_changed("light", panel_light);
}

uint16_t hal_light_read(void) { return panel_light; }

void hal_stage(int32_t position_nm) { panel_changed("stage", position_nm); }
