/* Runs the firmware of the ATmega1284P in simavr, with its UART on a pseudo-terminal, in real time or slower.
 *
 * firmware-avr-run ELF [--log FILE]
 *
 * Prints the path of the terminal. FILE gets a JSON line for each change of the light and mask lines, for each pattern
 * latched by the panel (CRC-32 of the bytes seen on SPI), and for each frame: "heard" when the chip was given its last
 * byte, "said" when it has sent the last byte of its own. t_ms is the time of the simulated chip.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "simavr/avr_ioport.h"
#include "simavr/avr_spi.h"
#include "simavr/avr_uart.h"
#include "simavr/sim_avr.h"
#include "simavr/sim_elf.h"

#define FREQUENCY 16000000u

static avr_t *avr;
static int master;
static FILE *journal;
static uint32_t spi_crc;
static bool may_send = true;
static volatile sig_atomic_t power_cut;

static void log_line(const char *event, uint32_t value)
{
    if (!journal)
        return;
    fprintf(journal, "{\"t_ms\": %llu, \"event\": \"%s\", \"value\": %u}\n",
            (unsigned long long)(avr->cycle / (FREQUENCY / 1000)), event, value);
    fflush(journal);
}

static void on_uart_byte(avr_irq_t *irq, uint32_t value, void *unused)
{
    (void)irq, (void)unused;
    uint8_t byte = (uint8_t)value;
    if (byte == 0)
        log_line("said", 0);
    (void)!write(master, &byte, 1); /* nobody reads: lost, as on a wire */
}

static void on_uart_xon(avr_irq_t *irq, uint32_t value, void *unused)
{
    (void)irq, (void)value, (void)unused;
    may_send = true;
}

static void on_uart_xoff(avr_irq_t *irq, uint32_t value, void *unused)
{
    (void)irq, (void)value, (void)unused;
    may_send = false;
}

static void on_spi(avr_irq_t *irq, uint32_t value, void *unused)
{
    (void)irq, (void)unused;
    uint8_t byte = (uint8_t)value;
    spi_crc = crc32(spi_crc, &byte, 1);
}

static void on_pin(avr_irq_t *irq, uint32_t value, void *name)
{
    if (irq->value != value)
        log_line(name, value);
}

static void on_latch(avr_irq_t *irq, uint32_t value, void *unused)
{
    (void)unused;
    if (irq->value != value && !value) {
        log_line("panel", spi_crc);
        spi_crc = 0;
    }
}

/* Standard output is for the path alone. */
static void on_message(avr_t *chip, const int level, const char *format, va_list values)
{
    (void)chip;
    if (level <= LOG_WARNING)
        vfprintf(stderr, format, values);
}

static void on_signal(int number)
{
    (void)number;
    power_cut = 1;
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Time is kept by the main loop. */
static void no_sleep(avr_t *chip, avr_cycle_count_t cycles)
{
    (void)chip, (void)cycles;
}

int main(int argc, char **argv)
{
    if (argc != 2 && !(argc == 4 && strcmp(argv[2], "--log") == 0)) {
        fprintf(stderr, "usage: %s ELF [--log FILE]\n", argv[0]);
        return 2;
    }
    if (argc == 4 && !(journal = fopen(argv[3], "a"))) {
        fprintf(stderr, "%s: %s: %s\n", argv[0], argv[3], strerror(errno));
        return 1;
    }
    avr_global_logger_set(on_message);
    elf_firmware_t firmware = {0};
    avr = avr_make_mcu_by_name("atmega1284p");
    if (!avr || elf_read_firmware(argv[1], &firmware)) {
        fprintf(stderr, "%s: cannot load %s for an ATmega1284P\n", argv[0], argv[1]);
        return 1;
    }
    avr_init(avr);
    avr->frequency = FREQUENCY;
    avr_load_firmware(avr, &firmware);
    avr->frequency = FREQUENCY;
    avr->sleep = no_sleep;

    /* By default simavr prints what the chip sends, and sleeps while it polls. */
    uint32_t flags = 0;
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_uart_byte, 0);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_uart_xon, 0);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_uart_xoff, 0);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_SPI_GETIRQ(0), SPI_IRQ_OUTPUT), on_spi, 0);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ('B'), 0), on_pin, "light");
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ('B'), 1), on_pin, "mask_driven");
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ('B'), 4), on_latch, 0);

    int slave;
    struct termios raw;
    memset(&raw, 0, sizeof raw);
    cfmakeraw(&raw);
    raw.c_cflag |= CREAD | CS8;
    /* The slave stays open here, so that a host may come and go. */
    if (openpty(&master, &slave, 0, &raw, 0) || fcntl(master, F_SETFL, O_NONBLOCK)) {
        fprintf(stderr, "%s: pseudo-terminal: %s\n", argv[0], strerror(errno));
        return 1;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    printf("%s\n", ttyname(slave));
    fflush(stdout);

    avr_irq_t *uart_in = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    int64_t started_us = now_us();
    uint8_t waiting[256];
    ssize_t have = 0, given = 0;
    avr_cycle_count_t next_look = 0;
    while (!power_cut) {
        int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            fprintf(stderr, "%s: the chip stopped (state %d)\n", argv[0], state);
            return 1;
        }
        if (avr->cycle < next_look)
            continue;
        next_look = avr->cycle + FREQUENCY / 10000;
        if (given == have) {
            have = read(master, waiting, sizeof waiting);
            given = 0;
            if (have < 0)
                have = 0;
        }
        while (given < have && may_send) {
            if (waiting[given] == 0)
                log_line("heard", 0);
            avr_raise_irq(uart_in, waiting[given++]);
        }
        int64_t ahead_us = (int64_t)(avr->cycle / (FREQUENCY / 1000000)) - (now_us() - started_us);
        if (ahead_us > 500)
            usleep((useconds_t)ahead_us);
        else if (ahead_us < -20000)
            started_us -= ahead_us; /* a busy machine: the chip runs slower, and does not catch up */
    }
    return 0;
}
