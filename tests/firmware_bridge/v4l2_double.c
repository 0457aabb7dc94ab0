/* A V4L2 camera without a kernel module: preloaded, it answers open() of /dev/video-double and the ioctls on it, as a
 * UVC camera would. The pictures lie in a memory file, which the program maps as it would map a device.
 *
 * V4L2_DOUBLE_FORMAT   its one format, "GREY" where it is not set
 * V4L2_DOUBLE_DEAF     id of a control that keeps its value, in decimal
 * V4L2_DOUBLE_FROZEN   number of the frame that is sent for ever, with its time stamp
 * V4L2_DOUBLE_GONE     number of the frame from which on it is unplugged
 * V4L2_DOUBLE_STRANGE  number of the frame from which on buffers have another length than was agreed
 * V4L2_DOUBLE_SKIP     number of the frame before which three are lost
 *
 * 64 x 48 pixels, 25 frames a second. A pixel has 16 levels and a tenth of the exposure in units of 100 us, with noise.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 64, HEIGHT = 48, BUFFERS_MAX = 8, PERIOD_MS = 40, SLOT = 8192 };

static int device = -1;
static struct v4l2_pix_format format;
static unsigned queue[BUFFERS_MAX], queued;
static bool streams;
static int64_t next_us, stamp_us;
static long frame;

static struct {
    uint32_t id;
    int32_t value;
    int32_t high;
} controls[] = {
    {V4L2_CID_EXPOSURE_AUTO, V4L2_EXPOSURE_APERTURE_PRIORITY, 3}, {V4L2_CID_EXPOSURE_ABSOLUTE, 156, 10000},
    {V4L2_CID_AUTO_WHITE_BALANCE, 1, 1},                          {V4L2_CID_GAMMA, 120, 500},
    {V4L2_CID_GAIN, 16, 255},
};

static long number(const char *name, long without)
{
    const char *text = getenv(name);
    return text ? atol(text) : without;
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static uint32_t only_format(void)
{
    const char *text = getenv("V4L2_DOUBLE_FORMAT");
    return text ? v4l2_fourcc(text[0], text[1], text[2], text[3]) : V4L2_PIX_FMT_GREY;
}

static void set_format(void)
{
    unsigned bytes = only_format() == V4L2_PIX_FMT_GREY ? 1 : 2;
    format = (struct v4l2_pix_format){
        .width = WIDTH,
        .height = HEIGHT,
        .pixelformat = only_format(),
        .field = V4L2_FIELD_NONE,
        .bytesperline = WIDTH * bytes,
        .sizeimage = WIDTH * HEIGHT * bytes,
    };
}

static void expose(unsigned slot)
{
    static unsigned state = 1;
    static uint8_t picture[SLOT];
    int32_t mean = 16 + controls[1].value / 10;
    for (unsigned i = 0; i < WIDTH * HEIGHT; i++) {
        unsigned level = (unsigned)(mean + rand_r(&state) % 5 - 2);
        if (format.pixelformat == V4L2_PIX_FMT_GREY)
            picture[i] = (uint8_t)(level > 255 ? 255 : level);
        else if (format.pixelformat == V4L2_PIX_FMT_YUYV)
            picture[2 * i] = (uint8_t)(level > 255 ? 255 : level), picture[2 * i + 1] = 128;
        else
            picture[2 * i] = (uint8_t)level, picture[2 * i + 1] = (uint8_t)(level >> 8);
    }
    (void)!pwrite(device, picture, format.sizeimage, (off_t)slot * SLOT);
}

static int dequeue(struct v4l2_buffer *buffer)
{
    if (!streams || !queued)
        return fail(EINVAL);
    if (frame >= number("V4L2_DOUBLE_GONE", 1L << 30))
        return fail(ENODEV);
    int64_t wait_us = next_us - now_us();
    if (wait_us > 0)
        usleep((useconds_t)wait_us);
    if (frame < number("V4L2_DOUBLE_FROZEN", 1L << 30)) {
        if (frame == number("V4L2_DOUBLE_SKIP", -1)) {
            usleep(3 * PERIOD_MS * 1000);
            next_us += 3 * PERIOD_MS * 1000;
        }
        stamp_us = next_us;
        expose(queue[0]);
    }
    frame++;
    next_us += PERIOD_MS * 1000;
    buffer->index = queue[0];
    buffer->bytesused = buffer->length = format.sizeimage;
    if (frame >= number("V4L2_DOUBLE_STRANGE", 1L << 30))
        buffer->length--;
    buffer->sequence = (uint32_t)frame;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->timestamp.tv_sec = stamp_us / 1000000;
    buffer->timestamp.tv_usec = stamp_us % 1000000;
    memmove(queue, queue + 1, --queued * sizeof queue[0]);
    return 0;
}

static int control(unsigned long request, void *argument)
{
    uint32_t id = *(uint32_t *)argument;
    for (unsigned i = 0; i < sizeof controls / sizeof controls[0]; i++) {
        if (controls[i].id != id)
            continue;
        if (request == VIDIOC_QUERYCTRL) {
            struct v4l2_queryctrl *query = argument;
            *query = (struct v4l2_queryctrl){.id = id, .maximum = controls[i].high, .step = 1};
            query->type = V4L2_CTRL_TYPE_INTEGER;
        } else if (request == VIDIOC_G_CTRL)
            ((struct v4l2_control *)argument)->value = controls[i].value;
        else if ((long)id != number("V4L2_DOUBLE_DEAF", -1))
            controls[i].value = ((struct v4l2_control *)argument)->value;
        return 0;
    }
    return fail(EINVAL);
}

static int answer(unsigned long request, void *argument)
{
    struct v4l2_buffer *buffer = argument;
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *can = argument;
        memset(can, 0, sizeof *can);
        strcpy((char *)can->driver, "double");
        can->capabilities = can->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT:
    case VIDIOC_TRY_FMT:
        /* As the kernel has it: what cannot be is changed into what can. */
        set_format();
        ((struct v4l2_format *)argument)->fmt.pix = format;
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *parameters = argument;
        memset(&parameters->parm, 0, sizeof parameters->parm);
        parameters->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        parameters->parm.capture.timeperframe = (struct v4l2_fract){PERIOD_MS, 1000};
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        if (wanted->count > BUFFERS_MAX)
            wanted->count = BUFFERS_MAX;
        queued = 0;
        return 0;
    }
    case VIDIOC_QUERYBUF:
        buffer->length = format.sizeimage;
        buffer->m.offset = buffer->index * SLOT;
        return 0;
    case VIDIOC_QBUF:
        queue[queued++] = buffer->index;
        return 0;
    case VIDIOC_DQBUF:
        return dequeue(buffer);
    case VIDIOC_STREAMON:
        streams = true;
        next_us = now_us() + PERIOD_MS * 1000;
        return 0;
    case VIDIOC_STREAMOFF:
        streams = false;
        queued = 0;
        return 0;
    case VIDIOC_QUERYCTRL:
    case VIDIOC_G_CTRL:
    case VIDIOC_S_CTRL:
        return control(request, argument);
    default:
        return fail(ENOTTY);
    }
}

int open(const char *path, int flags, ...)
{
    if (strcmp(path, "/dev/video-double") == 0) {
        set_format();
        device = memfd_create("camera", 0);
        (void)!ftruncate(device, BUFFERS_MAX * SLOT);
        return device;
    }
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    return real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open(path, flags | O_LARGEFILE, mode);
}

int ioctl(int file, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (file == device && file >= 0)
        return answer((unsigned long)(uint32_t)request, argument);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(file, request, argument);
}

int close(int file)
{
    if (file == device)
        device = -1;
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    return real(file);
}
