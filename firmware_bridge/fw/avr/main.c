/* The controller on an ATmega1284P.
 *
 * UART0            the wire, 8N1
 * SPI (PB5, PB7)   levels to the panel, in one burst; PB4 low latches them
 * PB0              light enable, with a pull-down outside
 * OC1A (PD5)       light power, pulse width
 * PB1              mask driven (low: the panel's own pull-down parks it)
 *
 * The reset state of every pin is input without pull-up, so that the pull-downs outside decide until this program runs,
 * and whenever the watchdog resets it.
 */
#include <avr/eeprom.h>
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include <avr/wdt.h>
#include <string.h>
#include <util/atomic.h>

#include "core.h"
#include "frame.h"
#include "hal.h"
#include "wire_protocol.h"

#define LIGHT_ENABLE _BV(PB0)
#define MASK_DRIVEN _BV(PB1)
#define PANEL_LATCH _BV(PB4)

static volatile uint32_t millis;
/* Longer than any command: the host waits for the answer before it sends the next. */
static volatile uint8_t received[512];
static volatile uint16_t received_head;
static uint16_t received_tail;
static uint8_t panel[MASK_BYTES];
static uint32_t EEMEM boots;

_Static_assert(sizeof received > WIRE_REQUEST_FRAME_BYTES, "a command must fit");

ISR(TIMER0_COMPA_vect) { millis++; }

ISR(USART0_RX_vect)
{
    uint16_t head = received_head;
    received[head % sizeof received] = UDR0;
    received_head = head + 1;
}

/* The watchdog stays on after its own reset; off until main sets it. */
void watchdog_off(void) __attribute__((naked, used, section(".init3")));
void watchdog_off(void)
{
    MCUSR = 0;
    wdt_disable();
}

uint32_t hal_millis(void)
{
    uint32_t now;
    ATOMIC_BLOCK(ATOMIC_RESTORESTATE) { now = millis; }
    return now;
}

uint32_t hal_nonce(void)
{
    /* A count of boots and sessions that outlives the power, so no number comes twice; mixed, to differ in all bits. */
    uint32_t count = eeprom_read_dword(&boots) + 1;
    eeprom_update_dword(&boots, count);
    uint32_t nonce = crc32(0, (const uint8_t *)&count, sizeof count);
    return nonce ? nonce : 1;
}

const char *hal_serial(void) { return SERIAL; }

void hal_send(const uint8_t *bytes, uint16_t length)
{
    while (length--) {
        loop_until_bit_is_set(UCSR0A, UDRE0);
        UDR0 = *bytes++;
    }
}

static void panel_write(void)
{
    /* A bounded time: 4 ms here, 400 ms in simavr, which takes 100 us a byte. */
    wdt_reset();
    for (uint16_t i = 0; i < MASK_BYTES; i++) {
        SPDR = panel[i];
        loop_until_bit_is_set(SPSR, SPIF);
    }
    PORTB &= (uint8_t)~PANEL_LATCH;
    PORTB |= PANEL_LATCH;
}

void hal_mask_show(const uint8_t *levels)
{
    memcpy(panel, levels, sizeof panel);
    panel_write();
    PORTB |= MASK_DRIVEN;
}

void hal_mask_park(void)
{
    PORTB &= (uint8_t)~MASK_DRIVEN;
    memset(panel, 0, sizeof panel);
    panel_write();
}

/* The panel has no line to read back by: this is the memory that was shifted out to it. */
uint8_t hal_mask_read(uint32_t index) { return panel[index]; }

void hal_light(uint16_t level)
{
    OCR1A = level;
    if (level)
        PORTB |= LIGHT_ENABLE;
    else
        PORTB &= (uint8_t)~LIGHT_ENABLE;
}

uint16_t hal_light_read(void) { return PINB & LIGHT_ENABLE ? OCR1A : 0; }

/* No stage is wired to this board yet; the position is that of the steps that a driver would have been given. */
void hal_stage(int32_t position_nm) { (void)position_nm; }

void hal_journal(hal_event event, uint32_t value, const uint8_t *text, uint8_t length)
{
    (void)event, (void)value, (void)text, (void)length;
}

int main(void)
{
    DDRB = LIGHT_ENABLE | MASK_DRIVEN | PANEL_LATCH | _BV(PB5) | _BV(PB7);
    DDRD = _BV(PD5);
    PORTB = PANEL_LATCH;
    SPCR = _BV(SPE) | _BV(MSTR);
    SPSR = _BV(SPI2X);
    /* 1 kHz: 16 MHz / 64 / 250. */
    TCCR0A = _BV(WGM01);
    OCR0A = 249;
    TCCR0B = _BV(CS01) | _BV(CS00);
    TIMSK0 = _BV(OCIE0A);
    /* Fast 16-bit pulse width on OC1A. */
    ICR1 = 0xffff;
    TCCR1A = _BV(COM1A1) | _BV(WGM11);
    TCCR1B = _BV(WGM13) | _BV(WGM12) | _BV(CS10);
    UBRR0 = F_CPU / (8 * WIRE_BAUD) - 1;
    UCSR0A = _BV(U2X0);
    UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
    wdt_enable(WDTO_500MS);
    core_boot();
    sei();
    for (;;) {
        uint16_t head;
        ATOMIC_BLOCK(ATOMIC_RESTORESTATE) { head = received_head; }
        while (received_tail != head)
            core_receive(received[received_tail++ % sizeof received]);
        core_tick();
        wdt_reset();
        set_sleep_mode(SLEEP_MODE_IDLE);
        cli();
        if (received_tail == received_head) {
            sleep_enable();
            sei(); /* the next instruction still runs, so no byte is slept over */
            sleep_cpu();
            sleep_disable();
        }
        sei();
    }
}
