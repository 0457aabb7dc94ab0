/* A GenTL 1.5 producer (EMVA GenICam GenTL Standard) with two cameras that are arithmetic.
 *
 * A triggered frame number n shows, at (x, y) of the sensor,
 *     min((exposure in us * 10^(gain/20)) / 4 + (7 x + 13 y + 31 n) mod 61, largest value of the format),
 * so a test knows every value. The environment variable GENTL_DOUBLE names faults, separated by spaces; "word=n" acts at
 * frame n alone:
 *     lying-exposure   whatever is set, 10 ms go into the register
 *     twin             both cameras tell one serial number
 *     held             another program holds the cameras
 *     no-mono12        pixel format Mono12 is not available now
 *     left             Mono16 has 12 bits in the upper ones of a word
 *     padded           lines end in four bytes more
 *     usb              says that it is USB3 Vision
 *     ethernet         says that it is GigE Vision, with frame ids that begin at 65530 and go on at 1 after 65535
 *     old              a producer before GenTL 1.5: times in ticks of a microsecond
 *     dropped=n        the frame is taken and lost
 *     incomplete=n     the frame arrives without its second half
 *     repeated=n       content of the frame before it
 *     twice=n          id of the frame before it
 *     clock=n          timestamp of the frame before it
 *     vanished=n       unplugged between trigger and frame; plugged in when the producer is opened again
 *     unplugged        nothing answers any more
 * What is opened and closed goes line by line into the file that GENTL_DOUBLE_LOG names.
 */

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default")))
#define BUFFERS 16
#define XML_ADDRESS 0x10000u
#define WIDTH_MAX 64u
#define HEIGHT_MAX 48u

enum {
    SUCCESS = 0, ERROR = -1001, NOT_INITIALIZED = -1002, NOT_IMPLEMENTED = -1003, RESOURCE_IN_USE = -1004,
    INVALID_HANDLE = -1006, INVALID_ID = -1007, NO_DATA = -1008, INVALID_PARAMETER = -1009, IO = -1010, TIMEOUT = -1011,
    ABORTED = -1012, NOT_AVAILABLE = -1014, INVALID_ADDRESS = -1015, TOO_SMALL = -1016, INVALID_INDEX = -1017,
    EXHAUSTED = -1020,
};
enum { STRING = 1, INT32 = 5, UINT32 = 6, UINT64 = 8, PTR = 10, BOOL8 = 11, SIZET = 12, BYTES = 13 };
enum {
    WIDTH = 0x04, HEIGHT = 0x08, OFFSET_X = 0x0C, OFFSET_Y = 0x10, FORMAT = 0x14, PAYLOAD = 0x18, EXPOSURE_AUTO = 0x1C,
    GAMMA = 0x20, START = 0x28, STOP = 0x2C, TRIGGER_SELECTOR = 0x30, TRIGGER_MODE = 0x34, TRIGGER_SOURCE = 0x38,
    TRIGGER = 0x3C, HAS_MONO12 = 0x40, EXPOSURE = 0x50, GAIN = 0x58, TEMPERATURE = 0x60, VERSION = 0x80, REGISTERS = 0x90,
};

__asm__(".section .rodata\n.global xml_start\n.hidden xml_start\nxml_start:\n.incbin \"camera.xml\"\n"
        ".global xml_end\n.hidden xml_end\nxml_end:\n.byte 0\n.previous\n");
extern const uint8_t xml_start[], xml_end[];

typedef struct { void *base, *user; size_t size, filled; bool announced, queued, incomplete; uint64_t id, time_ns;
                 uint32_t width, height, x, y, format, padding; } Buffer;
typedef struct { int number; bool open; uint32_t modes[2]; uint8_t registers[REGISTERS]; } Device;

static struct { bool initialised, system, interface, stream, event, grabbing, exposing, killed, gone; } is;
static Device devices[2] = {{.number = 0}, {.number = 1}};
static Device *streaming;
static Buffer buffers[BUFFERS];
static Buffer *input[BUFFERS], *output[BUFFERS];
static size_t inputs, outputs;
static uint64_t taken, delivered, last_time_ns;
static int a_system, an_interface, a_stream, an_event;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrival = PTHREAD_COND_INITIALIZER;

static bool fault_at(const char *word, uint64_t number) {
    const char *all = getenv("GENTL_DOUBLE");
    char copy[256];
    snprintf(copy, sizeof copy, "%s", all ? all : "");
    size_t length = strlen(word);
    for (char *rest = copy, *one; (one = strtok_r(rest, " ", &rest));)
        if (!strncmp(one, word, length) &&
            (!one[length] || (one[length] == '=' && strtoull(one + length + 1, NULL, 10) == number)))
            return true;
    return false;
}

static bool fault(const char *word) { return fault_at(word, UINT64_MAX); }

static bool unplugged(void) { return is.gone || fault("unplugged"); }

static void note(const char *what) {
    const char *path = getenv("GENTL_DOUBLE_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s\n", what);
    fclose(file);
}

static int32_t give(const void *value, size_t length, int32_t kind, int32_t *type, void *place, size_t *size) {
    if (!size) return INVALID_PARAMETER;
    if (type) *type = kind;
    size_t room = *size;
    *size = length;
    if (!place) return SUCCESS;
    if (room < length) return TOO_SMALL;
    memcpy(place, value, length);
    return SUCCESS;
}

static int32_t give_text(const char *text, int32_t *type, void *place, size_t *size) {
    return give(text, strlen(text) + 1, STRING, type, place, size);
}

#define GIVE(kind, ctype, value) give(&(ctype){(ctype)(value)}, sizeof(ctype), kind, type, place, size)

static const char *wire(void) { return fault("usb") ? "U3V" : fault("ethernet") ? "GEV" : "Custom"; }

static uint32_t get32(const Device *device, size_t address) {
    uint32_t value;
    memcpy(&value, device->registers + address, sizeof value);
    return value;
}

static void put32(Device *device, size_t address, uint32_t value) { memcpy(device->registers + address, &value, 4); }

static double get64(const Device *device, size_t address) {
    double value;
    memcpy(&value, device->registers + address, sizeof value);
    return value;
}

static void put64(Device *device, size_t address, double value) { memcpy(device->registers + address, &value, 8); }

static uint32_t value_bytes(uint32_t format) { return format == 0x01080001u ? 1 : 2; }

static uint32_t padding(void) { return fault("padded") ? 4 : 0; }

static uint32_t payload(const Device *device) {
    return get32(device, HEIGHT) * (get32(device, WIDTH) * value_bytes(get32(device, FORMAT)) + padding());
}

static void reset(Device *device) {
    memset(device->registers, 0, REGISTERS);
    put32(device, 0, 0x00010005);
    put32(device, WIDTH, WIDTH_MAX);
    put32(device, HEIGHT, HEIGHT_MAX);
    put32(device, FORMAT, 0x01080001u);
    /* As a camera may be found: automatic, and waiting for a trigger that nobody gives. */
    device->modes[0] = 1;
    device->modes[1] = 0;
    put32(device, TRIGGER_MODE, device->modes[0]);
    put32(device, EXPOSURE_AUTO, 1);
    put32(device, GAMMA, 1);
    put64(device, EXPOSURE, 5000);
    put64(device, TEMPERATURE, 31.5);
    memcpy(device->registers + VERSION, "1.5-double", 11);
}

static void fill(const Device *device, Buffer *buffer, uint64_t number) {
    uint32_t bits = buffer->format == 0x01080001u ? 8 : buffer->format == 0x01100003u ? 10 :
                    buffer->format == 0x01100005u || fault("left") ? 12 : 16;
    uint32_t high = (1u << bits) - 1, bytes = value_bytes(buffer->format);
    uint32_t light = (uint32_t)floor(get64(device, EXPOSURE) * pow(10, get64(device, GAIN) / 20) / 4 + 1e-6);
    uint8_t *place = buffer->base;
    for (uint32_t y = 0; y < buffer->height; y++, place += buffer->padding)
        for (uint32_t x = 0; x < buffer->width; x++, place += bytes) {
            uint32_t value = light + (7 * (x + buffer->x) + 13 * (y + buffer->y) + 31 * (uint32_t)number) % 61;
            value = value > high ? high : value;
            if (buffer->format == 0x01100007u && fault("left")) value <<= 4;
            memcpy(place, &value, bytes);
        }
}

static void expose(const Device *device) {
    uint64_t number = taken++;
    is.gone = fault_at("vanished", number);
    if (is.gone || fault_at("dropped", number) || !inputs) return;
    Buffer *buffer = input[0];
    size_t size = payload(device);
    if (buffer->size < size) return;
    memmove(input, input + 1, --inputs * sizeof *input);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    buffer->width = get32(device, WIDTH);
    buffer->height = get32(device, HEIGHT);
    buffer->x = get32(device, OFFSET_X);
    buffer->y = get32(device, OFFSET_Y);
    buffer->format = get32(device, FORMAT);
    buffer->padding = padding();
    buffer->id = fault_at("twice", number) ? number - 1 : fault("ethernet") ? (65529 + number) % 65535 + 1 : number;
    uint64_t time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    buffer->time_ns = fault_at("clock", number) ? last_time_ns : time_ns;
    last_time_ns = buffer->time_ns;
    fill(device, buffer, fault_at("repeated", number) ? number - 1 : number);
    buffer->incomplete = fault_at("incomplete", number);
    buffer->filled = buffer->incomplete ? size / 2 : size;
    output[outputs++] = buffer;
    pthread_cond_broadcast(&arrival);
}

/* Library */

API int32_t GCInitLib(void) {
    if (is.initialised) return RESOURCE_IN_USE;
    is.initialised = true;
    is.gone = false;
    note("open library");
    return SUCCESS;
}

API int32_t GCCloseLib(void) {
    if (!is.initialised) return NOT_INITIALIZED;
    is.initialised = false;
    note("close library");
    return SUCCESS;
}

API int32_t GCGetLastError(int32_t *code, char *text, size_t *size) {
    if (code) *code = ERROR;
    return give_text("the double refuses", NULL, text, size);
}

static int32_t about(int32_t command, int32_t *type, void *place, size_t *size) {
    switch (command) {
    case 0: case 2: case 5: case 7: return give_text("Double", type, place, size);
    case 1: return give_text("OptiShield", type, place, size);
    case 3: return give_text("1.0", type, place, size);
    case 4: return give_text(wire(), type, place, size);
    case 6: return give_text("double.cti", type, place, size);
    case 8: return GIVE(INT32, int32_t, 0);
    case 9: return GIVE(UINT32, uint32_t, 1);
    case 10: return GIVE(UINT32, uint32_t, 5);
    default: return NOT_IMPLEMENTED;
    }
}

API int32_t GCGetInfo(int32_t command, int32_t *type, void *place, size_t *size) {
    return about(command, type, place, size);
}

/* Ports */

static Device *remote(void *port) {
    for (size_t i = 0; i < 2; i++)
        if (port == devices[i].registers) return &devices[i];
    return NULL;
}

API int32_t GCReadPort(void *port, uint64_t address, void *place, size_t *size) {
    Device *device = remote(port);
    if (!device) return NOT_IMPLEMENTED;
    if (unplugged()) return IO;
    size_t length = (size_t)(xml_end - xml_start);
    if (address >= XML_ADDRESS && address - XML_ADDRESS + *size <= length) {
        memcpy(place, xml_start + (address - XML_ADDRESS), *size);
        return SUCCESS;
    }
    if (address + *size > REGISTERS) return INVALID_ADDRESS;
    pthread_mutex_lock(&lock);
    put32(device, PAYLOAD, payload(device));
    put32(device, HAS_MONO12, !fault("no-mono12"));
    memcpy(place, device->registers + address, *size);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

API int32_t GCWritePort(void *port, uint64_t address, const void *value, size_t *size) {
    Device *device = remote(port);
    if (!device) return NOT_IMPLEMENTED;
    if (unplugged()) return IO;
    if (address + *size > REGISTERS) return INVALID_ADDRESS;
    pthread_mutex_lock(&lock);
    memcpy(device->registers + address, value, *size);
    if (address == EXPOSURE && fault("lying-exposure")) put64(device, EXPOSURE, 10000);
    if (address == START) { is.exposing = true; taken = 0; }
    if (address == STOP) is.exposing = false;
    /* Each trigger that is selected has a mode of its own. */
    uint32_t *mode = &device->modes[get32(device, TRIGGER_SELECTOR) & 1];
    if (address == TRIGGER_MODE) *mode = get32(device, TRIGGER_MODE);
    put32(device, TRIGGER_MODE, *mode);
    bool software = mode == &device->modes[1] && *mode && !device->modes[0] && get32(device, TRIGGER_SOURCE);
    if (address == TRIGGER && software && is.exposing && is.grabbing && streaming == device) expose(device);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

typedef struct { uint64_t address; void *place; size_t size; } Stacked;

API int32_t GCReadPortStacked(void *port, Stacked *entries, size_t *count) {
    for (size_t i = 0; i < *count; i++) {
        int32_t result = GCReadPort(port, entries[i].address, entries[i].place, &entries[i].size);
        if (result) { *count = i; return result; }
    }
    return SUCCESS;
}

API int32_t GCWritePortStacked(void *port, Stacked *entries, size_t *count) {
    for (size_t i = 0; i < *count; i++) {
        int32_t result = GCWritePort(port, entries[i].address, entries[i].place, &entries[i].size);
        if (result) { *count = i; return result; }
    }
    return SUCCESS;
}

static const char *url(void) {
    static char text[64];
    snprintf(text, sizeof text, "Local:double.xml;%x;%zx", XML_ADDRESS, (size_t)(xml_end - xml_start));
    return text;
}

API int32_t GCGetPortURL(void *port, char *place, size_t *size) {
    return remote(port) ? give_text(url(), NULL, place, size) : NOT_AVAILABLE;
}

API int32_t GCGetNumPortURLs(void *port, uint32_t *count) {
    *count = remote(port) ? 1 : 0;
    return remote(port) ? SUCCESS : NOT_AVAILABLE;
}

API int32_t GCGetPortURLInfo(void *port, uint32_t index, int32_t command, int32_t *type, void *place, size_t *size) {
    if (!remote(port)) return NOT_AVAILABLE;
    if (index) return INVALID_INDEX;
    switch (command) {
    case 0: return give_text(url(), type, place, size);
    case 1: case 2: case 3: return GIVE(INT32, int32_t, 1);
    case 4: case 5: case 9: return GIVE(INT32, int32_t, 0);
    case 7: return GIVE(UINT64, uint64_t, XML_ADDRESS);
    case 8: return GIVE(UINT64, uint64_t, xml_end - xml_start);
    case 10: return give_text("double.xml", type, place, size);
    default: return NOT_AVAILABLE;
    }
}

API int32_t GCGetPortInfo(void *port, int32_t command, int32_t *type, void *place, size_t *size) {
    switch (command) {
    case 0: case 2: return give_text("Double", type, place, size);
    case 1: return give_text("OptiShield", type, place, size);
    case 3: return give_text(wire(), type, place, size);
    case 4: case 12: return give_text(remote(port) ? "Device" : "Module", type, place, size);
    case 5: case 7: case 8: return GIVE(BOOL8, uint8_t, 1);
    case 6: case 9: case 10: return GIVE(BOOL8, uint8_t, 0);
    case 11: return give_text("1.0", type, place, size);
    default: return NOT_IMPLEMENTED;
    }
}

/* System */

API int32_t TLOpen(void **system) {
    if (!is.initialised) return NOT_INITIALIZED;
    if (is.system) return RESOURCE_IN_USE;
    is.system = true;
    note("open system");
    *system = &a_system;
    return SUCCESS;
}

API int32_t TLClose(void *system) {
    if (system != &a_system || !is.system) return INVALID_HANDLE;
    is.system = false;
    note("close system");
    return SUCCESS;
}

API int32_t TLGetInfo(void *system, int32_t command, int32_t *type, void *place, size_t *size) {
    return system == &a_system ? about(command, type, place, size) : INVALID_HANDLE;
}

API int32_t TLUpdateInterfaceList(void *system, uint8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    if (changed) *changed = 0;
    return system == &a_system ? SUCCESS : INVALID_HANDLE;
}

API int32_t TLGetNumInterfaces(void *system, uint32_t *count) {
    *count = 1;
    return system == &a_system ? SUCCESS : INVALID_HANDLE;
}

API int32_t TLGetInterfaceID(void *system, uint32_t index, char *place, size_t *size) {
    (void)system;
    return index ? INVALID_INDEX : give_text("interface", NULL, place, size);
}

API int32_t TLGetInterfaceInfo(void *system, const char *id, int32_t command, int32_t *type, void *place, size_t *size) {
    (void)system;
    return command == 2 ? give_text(wire(), type, place, size) : give_text(id, type, place, size);
}

API int32_t TLOpenInterface(void *system, const char *id, void **interface) {
    if (system != &a_system) return INVALID_HANDLE;
    if (strcmp(id, "interface")) return INVALID_ID;
    if (is.interface) return RESOURCE_IN_USE;
    is.interface = true;
    note("open interface");
    *interface = &an_interface;
    return SUCCESS;
}

/* Interface */

API int32_t IFClose(void *interface) {
    if (interface != &an_interface || !is.interface) return INVALID_HANDLE;
    is.interface = false;
    note("close interface");
    return SUCCESS;
}

API int32_t IFGetInfo(void *interface, int32_t command, int32_t *type, void *place, size_t *size) {
    (void)interface;
    return command == 2 ? give_text(wire(), type, place, size) : give_text("interface", type, place, size);
}

API int32_t IFGetParentTL(void *interface, void **system) {
    (void)interface;
    *system = &a_system;
    return SUCCESS;
}

API int32_t IFUpdateDeviceList(void *interface, uint8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    if (changed) *changed = 0;
    return interface == &an_interface ? SUCCESS : INVALID_HANDLE;
}

API int32_t IFGetNumDevices(void *interface, uint32_t *count) {
    *count = unplugged() ? 0 : 2;
    return interface == &an_interface ? SUCCESS : INVALID_HANDLE;
}

API int32_t IFGetDeviceID(void *interface, uint32_t index, char *place, size_t *size) {
    (void)interface;
    if (index > 1) return INVALID_INDEX;
    return give_text(index ? "double-1" : "double-0", NULL, place, size);
}

static int32_t about_device(const char *id, int32_t command, int32_t *type, void *place, size_t *size) {
    bool second = !strcmp(id, "double-1");
    switch (command) {
    case 0: case 4: return give_text(id, type, place, size);
    case 1: return give_text("OptiShield", type, place, size);
    case 2: return give_text("Double", type, place, size);
    case 3: return give_text(wire(), type, place, size);
    case 5: return GIVE(INT32, int32_t, 1);
    case 7: return give_text(second && !fault("twin") ? "GT0002" : "GT0001", type, place, size);
    case 9: return GIVE(UINT64, uint64_t, fault("old") ? 1000000u : 1000000000u);
    default: return NOT_AVAILABLE;
    }
}

API int32_t IFGetDeviceInfo(void *interface, const char *id, int32_t command, int32_t *type, void *place, size_t *size) {
    return interface == &an_interface ? about_device(id, command, type, place, size) : INVALID_HANDLE;
}

API int32_t IFOpenDevice(void *interface, const char *id, int32_t access, void **device) {
    (void)access;
    if (interface != &an_interface) return INVALID_HANDLE;
    if (unplugged()) return IO;
    Device *found = &devices[!strcmp(id, "double-1")];
    if (found->open || fault("held")) return RESOURCE_IN_USE;
    found->open = true;
    reset(found);
    note("open device");
    *device = found;
    return SUCCESS;
}

/* Device */

static Device *local(void *device) {
    return device == &devices[0] || device == &devices[1] ? device : NULL;
}

API int32_t DevClose(void *device) {
    if (!local(device) || !local(device)->open) return INVALID_HANDLE;
    local(device)->open = false;
    note("close device");
    return unplugged() ? IO : SUCCESS;
}

API int32_t DevGetPort(void *device, void **port) {
    if (!local(device)) return INVALID_HANDLE;
    *port = local(device)->registers;
    return SUCCESS;
}

API int32_t DevGetParentIF(void *device, void **interface) {
    (void)device;
    *interface = &an_interface;
    return SUCCESS;
}

API int32_t DevGetInfo(void *device, int32_t command, int32_t *type, void *place, size_t *size) {
    if (!local(device)) return INVALID_HANDLE;
    return about_device(local(device)->number ? "double-1" : "double-0", command, type, place, size);
}

API int32_t DevGetNumDataStreams(void *device, uint32_t *count) {
    *count = 1;
    return local(device) ? SUCCESS : INVALID_HANDLE;
}

API int32_t DevGetDataStreamID(void *device, uint32_t index, char *place, size_t *size) {
    (void)device;
    return index ? INVALID_INDEX : give_text("stream", NULL, place, size);
}

API int32_t DevOpenDataStream(void *device, const char *id, void **stream) {
    (void)id;
    if (!local(device)) return INVALID_HANDLE;
    if (is.stream) return RESOURCE_IN_USE;
    is.stream = true;
    streaming = device;
    memset(buffers, 0, sizeof buffers);
    inputs = outputs = 0;
    note("open stream");
    *stream = &a_stream;
    return SUCCESS;
}

/* Data stream */

API int32_t DSClose(void *stream) {
    if (stream != &a_stream || !is.stream) return INVALID_HANDLE;
    /* Nobody may wait for a stream that is gone; harvesters leaves this to the producer. */
    is.stream = is.event = false;
    note("close stream");
    return SUCCESS;
}

API int32_t DSGetParentDev(void *stream, void **device) {
    (void)stream;
    *device = streaming;
    return SUCCESS;
}

API int32_t DSGetInfo(void *stream, int32_t command, int32_t *type, void *place, size_t *size) {
    size_t announced = 0;
    for (size_t i = 0; i < BUFFERS; i++) announced += buffers[i].announced;
    if (stream != &a_stream) return INVALID_HANDLE;
    switch (command) {
    case 0: return give_text("stream", type, place, size);
    case 1: return GIVE(UINT64, uint64_t, delivered);
    case 2: return GIVE(UINT64, uint64_t, 0);
    case 3: return GIVE(SIZET, size_t, announced);
    case 4: return GIVE(SIZET, size_t, inputs);
    case 5: return GIVE(SIZET, size_t, outputs);
    case 6: return GIVE(UINT64, uint64_t, taken);
    case 7: return GIVE(SIZET, size_t, payload(streaming));
    case 8: return GIVE(BOOL8, uint8_t, is.grabbing);
    case 9: return GIVE(BOOL8, uint8_t, 0);
    case 10: return give_text(wire(), type, place, size);
    case 11: return GIVE(SIZET, size_t, 0);
    case 12: return GIVE(SIZET, size_t, 2);
    case 13: return GIVE(SIZET, size_t, 1);
    default: return NOT_IMPLEMENTED;
    }
}

static Buffer *known(void *buffer) {
    for (size_t i = 0; i < BUFFERS; i++)
        if (buffer == &buffers[i] && buffers[i].announced) return &buffers[i];
    return NULL;
}

API int32_t DSAnnounceBuffer(void *stream, void *base, size_t bytes, void *user, void **buffer) {
    (void)stream;
    for (size_t i = 0; i < BUFFERS; i++)
        if (!buffers[i].announced) {
            buffers[i] = (Buffer){.base = base, .size = bytes, .user = user, .announced = true};
            *buffer = &buffers[i];
            return SUCCESS;
        }
    return EXHAUSTED;
}

API int32_t DSAllocAndAnnounceBuffer(void *stream, size_t bytes, void *user, void **buffer) {
    (void)stream, (void)bytes, (void)user, (void)buffer;
    return NOT_IMPLEMENTED;
}

API int32_t DSRevokeBuffer(void *stream, void *handle, void **base, void **user) {
    (void)stream;
    Buffer *buffer = known(handle);
    if (!buffer) return INVALID_HANDLE;
    for (size_t i = 0; i < inputs; i++)
        if (input[i] == buffer) return RESOURCE_IN_USE;
    if (base) *base = buffer->base;
    if (user) *user = buffer->user;
    buffer->announced = false;
    return SUCCESS;
}

API int32_t DSQueueBuffer(void *stream, void *handle) {
    (void)stream;
    Buffer *buffer = known(handle);
    if (!buffer || inputs == BUFFERS) return INVALID_HANDLE;
    pthread_mutex_lock(&lock);
    input[inputs++] = buffer;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

API int32_t DSFlushQueue(void *stream, int32_t operation) {
    (void)stream;
    if (unplugged()) return IO;
    pthread_mutex_lock(&lock);
    if (operation == 1 || operation == 4) outputs = 0;
    if (operation == 4) inputs = 0;
    if (operation == 2 || operation == 3) {
        inputs = 0;
        if (operation == 2) outputs = 0;
        for (size_t i = 0; i < BUFFERS; i++)
            if (buffers[i].announced) input[inputs++] = &buffers[i];
    }
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

API int32_t DSStartAcquisition(void *stream, int32_t flags, uint64_t count) {
    (void)flags, (void)count;
    if (stream != &a_stream) return INVALID_HANDLE;
    if (is.grabbing) return RESOURCE_IN_USE;
    is.grabbing = true;
    note("open acquisition");
    return SUCCESS;
}

API int32_t DSStopAcquisition(void *stream, int32_t flags) {
    (void)flags;
    if (stream != &a_stream) return INVALID_HANDLE;
    if (!is.grabbing) return ERROR;
    is.grabbing = is.exposing = false;
    note("close acquisition");
    return SUCCESS;
}

API int32_t DSGetBufferID(void *stream, uint32_t index, void **buffer) {
    (void)stream;
    if (index >= BUFFERS || !buffers[index].announced) return INVALID_INDEX;
    *buffer = &buffers[index];
    return SUCCESS;
}

API int32_t DSGetBufferInfo(void *stream, void *handle, int32_t command, int32_t *type, void *place, size_t *size) {
    (void)stream;
    Buffer *buffer = known(handle);
    if (!buffer) return INVALID_HANDLE;
    switch (command) {
    case 0: return GIVE(PTR, void *, buffer->base);
    case 1: return GIVE(SIZET, size_t, buffer->size);
    case 2: return GIVE(PTR, void *, buffer->user);
    case 3: return GIVE(UINT64, uint64_t, fault("old") ? buffer->time_ns / 1000 : buffer->time_ns);
    case 28: return fault("old") ? NOT_AVAILABLE : GIVE(UINT64, uint64_t, buffer->time_ns);
    case 4: return GIVE(BOOL8, uint8_t, buffer->filled > 0);
    case 5: case 6: return GIVE(BOOL8, uint8_t, 0);
    case 7: return GIVE(BOOL8, uint8_t, buffer->incomplete);
    case 8: return give_text(wire(), type, place, size);
    case 9: case 27: return GIVE(SIZET, size_t, buffer->filled);
    case 10: return GIVE(SIZET, size_t, buffer->width);
    case 11: case 22: return GIVE(SIZET, size_t, buffer->height);
    case 12: return GIVE(SIZET, size_t, buffer->x);
    case 13: return GIVE(SIZET, size_t, buffer->y);
    case 14: return GIVE(SIZET, size_t, buffer->padding);
    case 15: return GIVE(SIZET, size_t, 0);
    case 16: return GIVE(UINT64, uint64_t, buffer->id);
    case 17: return GIVE(BOOL8, uint8_t, 1);
    case 18: return GIVE(SIZET, size_t, 0);
    case 19: return GIVE(SIZET, size_t, 1);
    case 20: return GIVE(UINT64, uint64_t, buffer->format);
    case 21: return GIVE(UINT64, uint64_t, 4);
    case 26: return GIVE(INT32, int32_t, 1);
    case 29: case 30: return GIVE(BOOL8, uint8_t, 0);
    default: return NOT_IMPLEMENTED;
    }
}

API int32_t DSGetBufferChunkData(void *stream, void *buffer, void *chunks, size_t *count) {
    (void)stream, (void)buffer, (void)chunks;
    *count = 0;
    return NO_DATA;
}

API int32_t DSGetNumBufferParts(void *stream, void *buffer, uint32_t *count) {
    (void)stream, (void)buffer;
    *count = 0;
    return NO_DATA;
}

API int32_t DSGetBufferPartInfo(void *stream, void *buffer, uint32_t part, int32_t command, int32_t *type, void *place,
                                size_t *size) {
    (void)stream, (void)buffer, (void)part, (void)command, (void)type, (void)place, (void)size;
    return NO_DATA;
}

/* Events */

API int32_t GCRegisterEvent(void *source, int32_t kind, void **event) {
    if (source != &a_stream || kind != 1) return NOT_IMPLEMENTED;
    if (is.event) return RESOURCE_IN_USE;
    is.event = true;
    is.killed = false;
    *event = &an_event;
    return SUCCESS;
}

API int32_t GCUnregisterEvent(void *source, int32_t kind) {
    if (source != &a_stream || kind != 1 || !is.event) return INVALID_HANDLE;
    is.event = false;
    return SUCCESS;
}

API int32_t EventGetData(void *event, void *place, size_t *size, uint64_t timeout_ms) {
    if (event != &an_event) return INVALID_HANDLE;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
    int32_t result = SUCCESS;
    pthread_mutex_lock(&lock);
    while (!outputs && !is.killed && !result)
        if (pthread_cond_timedwait(&arrival, &lock, &until)) result = TIMEOUT;
    if (outputs) {
        void *data[2] = {output[0], output[0]->user};
        result = give(data, sizeof data, BYTES, NULL, place, size);
        memmove(output, output + 1, --outputs * sizeof *output);
        delivered++;
    } else if (is.killed) {
        is.killed = false;
        result = ABORTED;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

API int32_t EventGetDataInfo(void *event, const void *in, size_t in_size, int32_t command, int32_t *type, void *place,
                             size_t *size) {
    (void)event;
    if (in_size < 2 * sizeof(void *)) return INVALID_PARAMETER;
    switch (command) {
    case 0: return give(in, sizeof(void *), PTR, type, place, size);
    case 1: return give((const uint8_t *)in + sizeof(void *), sizeof(void *), PTR, type, place, size);
    default: return NOT_AVAILABLE;
    }
}

API int32_t EventGetInfo(void *event, int32_t command, int32_t *type, void *place, size_t *size) {
    (void)event;
    switch (command) {
    case 0: return GIVE(INT32, int32_t, 1);
    case 1: return GIVE(SIZET, size_t, outputs);
    case 2: return GIVE(UINT64, uint64_t, delivered + outputs);
    case 3: case 4: return GIVE(SIZET, size_t, 2 * sizeof(void *));
    default: return NOT_IMPLEMENTED;
    }
}

API int32_t EventFlush(void *event) {
    if (event != &an_event) return INVALID_HANDLE;
    pthread_mutex_lock(&lock);
    outputs = 0;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

API int32_t EventKill(void *event) {
    if (event != &an_event) return INVALID_HANDLE;
    pthread_mutex_lock(&lock);
    is.killed = true;
    pthread_cond_broadcast(&arrival);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
