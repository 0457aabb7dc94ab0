/* The controller: frames, session, lease, states, pattern store. Board-independent; see docs/wire-protocol.md. */
#ifndef CORE_H
#define CORE_H

#include <stdint.h>

/* Safe state, no session. Call it first, and again for a reboot. */
void core_boot(void);

/* Takes one byte from the wire; answers through hal_send. */
void core_receive(uint8_t byte);

/* Lease and motion. Call it at least every 20 ms. */
void core_tick(void);

#endif
