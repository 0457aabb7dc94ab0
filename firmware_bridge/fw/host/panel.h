/* Panel, light and stage of the boards that are programs. */
#ifndef PANEL_H
#define PANEL_H

#include <stdint.h>

extern uint8_t panel[];
extern uint16_t panel_light;

/* What is broken: a pixel that stays lit, a light that stays as it is. */
#define PANEL_PIXEL_STUCK 1
#define PANEL_LIGHT_STUCK 2
extern int panel_broken;

/* Called after each change; what is "apply", "park", "light" or "stage". */
void panel_changed(const char *what, int64_t value);

#endif
