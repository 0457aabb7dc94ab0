/* The controller as a program: the same core, on a pseudo-terminal or on standard input and output.
 *
 * firmware-host [--stdio | --link PATH] [--log FILE] [--shown FILE] [--serial TEXT] [--broken mask|light] [--leash]
 *
 * Without --stdio it opens a pseudo-terminal and prints its path; --link makes a symbolic link to it. FILE of --log gets
 * one JSON object a line, whose t_ms counts on the clock of the firmware and whose monotonic_ms on CLOCK_MONOTONIC.
 * FILE of --shown is replaced, whole, by the levels on the panel after each change. SIGUSR1 is a reset button: all
 * state is lost. SIGTERM cuts the power. With --broken, SIGUSR2 breaks a pixel of the mask, or the light, which stay as
 * they are until the next SIGUSR2. With --leash the power is cut, too, when standard input ends: whoever started it
 * holds the other end, and the system closes that end however its holder dies.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "hal.h"
#include "panel.h"

#define TICK_MS 5

static int in_fd, out_fd;
static FILE *journal;
static const char *shown_path;
static const char *serial = "HOST0001";
static int64_t booted_ms;
static int64_t ticked_ms;
static int broken;
static volatile sig_atomic_t reset_pressed, break_pressed, power_cut;

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void die(const char *what)
{
    fprintf(stderr, "firmware-host: %s: %s\n", what, strerror(errno));
    exit(1);
}

uint32_t hal_millis(void) { return (uint32_t)(monotonic_ms() - booted_ms); }

uint32_t hal_nonce(void)
{
    static uint32_t last;
    uint32_t nonce;
    do
        if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce)
            die("getrandom");
    while (nonce == 0 || nonce == last);
    return last = nonce;
}

const char *hal_serial(void) { return serial; }

void hal_send(const uint8_t *bytes, uint16_t length)
{
    while (length) {
        ssize_t written = write(out_fd, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* nobody reads: as on a wire, the rest is lost */
        bytes += written;
        length = (uint16_t)(length - written);
    }
}

static void log_line(const char *event, int64_t value, const uint8_t *text, uint8_t length)
{
    if (!journal)
        return;
    fprintf(journal, "{\"t_ms\": %u, \"monotonic_ms\": %lld, \"event\": \"%s\", \"value\": %lld, \"text\": \"",
            (unsigned)hal_millis(), (long long)monotonic_ms(), event, (long long)value);
    for (uint8_t i = 0; i < length; i++) {
        if (text[i] == '"' || text[i] == '\\')
            fputc('\\', journal);
        fputc(text[i], journal);
    }
    fputs("\"}\n", journal);
    fflush(journal);
}

void panel_changed(const char *what, int64_t value)
{
    log_line(what, value, 0, 0);
    if (!shown_path || (strcmp(what, "apply") != 0 && strcmp(what, "park") != 0))
        return;
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.new", shown_path);
    FILE *file = fopen(temporary, "wb");
    if (!file || fwrite(panel, 1, MASK_BYTES, file) != MASK_BYTES || fclose(file) || rename(temporary, shown_path))
        die(shown_path);
}

void hal_journal(hal_event event, uint32_t value, const uint8_t *text, uint8_t length)
{
    static const char *const names[] = {"boot", "session", "arm", "safe", "lease_lost", "fault", "parked"};
    /* How long ago it last looked at its clock: TICK_MS, and more where the machine gave it no time. */
    if (event == HAL_LEASE_LOST)
        log_line("tick", monotonic_ms() - ticked_ms, 0, 0);
    log_line(names[event], value, text, length);
}

static void on_signal(int number)
{
    if (number == SIGUSR1)
        reset_pressed = 1;
    else if (number == SIGUSR2)
        break_pressed = 1;
    else
        power_cut = 1;
}

static void open_terminal(const char *link_path)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master < 0 || grantpt(master) || unlockpt(master))
        die("pseudo-terminal");
    const char *path = ptsname(master);
    /* Held open here, so that a host may come and go, as on a wire. */
    int slave = open(path, O_RDWR | O_NOCTTY);
    struct termios raw;
    if (slave < 0 || tcgetattr(slave, &raw))
        die(path);
    cfmakeraw(&raw);
    if (tcsetattr(slave, TCSANOW, &raw))
        die(path);
    if (link_path && ((unlink(link_path) && errno != ENOENT) || symlink(path, link_path)))
        die(link_path);
    in_fd = out_fd = master;
    printf("%s\n", path);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *link_path = 0;
    bool stdio = false, leash = false;
    for (int i = 1; i < argc; i++) {
        const char **wanted = strcmp(argv[i], "--link") == 0     ? &link_path
                              : strcmp(argv[i], "--shown") == 0  ? &shown_path
                              : strcmp(argv[i], "--serial") == 0 ? &serial
                                                                 : 0;
        if (strcmp(argv[i], "--stdio") == 0)
            stdio = true;
        else if (strcmp(argv[i], "--leash") == 0)
            leash = true;
        else if (wanted && i + 1 < argc)
            *wanted = argv[++i];
        else if (strcmp(argv[i], "--log") == 0 && i + 1 < argc) {
            if (!(journal = fopen(argv[++i], "a")))
                die(argv[i]);
        } else if (strcmp(argv[i], "--broken") == 0 && i + 1 < argc) {
            broken = strcmp(argv[++i], "light") == 0 ? PANEL_LIGHT_STUCK : PANEL_PIXEL_STUCK;
        } else {
            fprintf(stderr,
                    "usage: %s [--stdio | --link PATH] [--log FILE] [--shown FILE] [--serial TEXT] "
                    "[--broken mask|light] [--leash]\n",
                    argv[0]);
            return 2;
        }
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGUSR2, &action, 0);
    sigaction(SIGTERM, &action, 0);
    sigaction(SIGINT, &action, 0);
    signal(SIGPIPE, SIG_IGN);
    booted_ms = ticked_ms = monotonic_ms();
    core_boot();
    if (stdio)
        in_fd = STDIN_FILENO, out_fd = STDOUT_FILENO;
    else
        open_terminal(link_path);
    while (!power_cut) {
        struct pollfd ready[2] = {{.fd = in_fd, .events = POLLIN}, {.fd = leash ? STDIN_FILENO : -1, .events = POLLIN}};
        int events = poll(ready, 2, TICK_MS);
        if (events > 0 && ready[1].revents) {
            char nothing[64];
            if (read(STDIN_FILENO, nothing, sizeof nothing) <= 0)
                break;
        }
        if (events > 0 && ready[0].revents) {
            uint8_t bytes[4096];
            ssize_t length = read(in_fd, bytes, sizeof bytes);
            if (length == 0 && stdio)
                break;
            for (ssize_t i = 0; i < length; i++)
                core_receive(bytes[i]);
        }
        if (reset_pressed) {
            reset_pressed = 0;
            booted_ms = monotonic_ms();
            core_boot();
        }
        if (break_pressed) {
            break_pressed = 0;
            panel_broken ^= broken;
        }
        core_tick();
        ticked_ms = monotonic_ms();
    }
    /* Without power the pull-downs hold the enable lines low. */
    hal_light(0);
    hal_mask_park();
    if (link_path)
        unlink(link_path);
    return 0;
}
