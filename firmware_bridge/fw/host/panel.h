/* Panel, light and stage of the boards that are programs. */
#ifndef PANEL_H
#define PANEL_H

#include <stdint.h>

extern uint8_t panel[];
extern uint16_t panel_light;

/* Called after each change; what is "apply", "park", "light" or "stage". */
void panel_changed(const char *what, int64_t value);

#endif
