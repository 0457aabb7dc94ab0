/* The core inside another process, on a clock that the other process turns: for tests of many commands in little time. */
#include <string.h>

/* Here and not on its own, so that a test can damage its memory. */
#include "../src/core.c"
#include "panel.h"

#define EFFECTS_MAX 65536

static uint8_t sent[65536];
static uint32_t sent_length;
static uint32_t millis;
static uint32_t boots;

/* Every change of panel, light or stage, in order: first letter of its name, and its value. */
static struct {
    int64_t value;
    char what;
} effects[EFFECTS_MAX];
static uint32_t effect_count;

uint32_t hal_millis(void) { return millis; }
uint32_t hal_nonce(void) { return ++boots * 2654435761u | 1u; }
const char *hal_serial(void) { return "INPROC01"; }
void hal_journal(hal_event event, uint32_t value, const uint8_t *text, uint8_t length)
{
    (void)event, (void)value, (void)text, (void)length;
}

void hal_send(const uint8_t *bytes, uint16_t length)
{
    if (length > sizeof sent - sent_length)
        return; /* nobody reads */
    memcpy(sent + sent_length, bytes, length);
    sent_length += length;
}

void panel_changed(const char *what, int64_t value)
{
    if (effect_count < EFFECTS_MAX) {
        effects[effect_count].what = what[0];
        effects[effect_count++].value = value;
    }
}

/* A reset; what was done before stays in the list of effects. */
void inproc_boot(void)
{
    sent_length = 0;
    core_boot();
}

void inproc_break(int what) { panel_broken = what; }

/* A bit of the pattern memory turns over. */
void inproc_flip(uint32_t offset) { core.pattern[offset] ^= 1; }

void inproc_forget(void) { effect_count = 0; }

void inproc_clock(uint32_t now)
{
    millis = now;
    core_tick();
}

void inproc_receive(const uint8_t *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        core_receive(bytes[i]);
}

uint32_t inproc_take(uint8_t *out)
{
    uint32_t length = sent_length;
    memcpy(out, sent, length);
    sent_length = 0;
    return length;
}

uint32_t inproc_effects(void) { return effect_count; }
char inproc_effect(uint32_t index, int64_t *value)
{
    *value = effects[index].value;
    return effects[index].what;
}
