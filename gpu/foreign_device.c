#include "gpu/foreign_device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A NaN in any format: read and used, it shows. A GPU's arithmetic makes only those with 0 in the
 * sign. */
#define GUARD_BYTE 0xff
#define L2_ATTRIBUTE 38 /* CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE */
/* Work that ends later than this after the stop event is work of another stream. */
#define LATE_S 1e-4

typedef int cu_result;
typedef uint64_t cu_pointer;

/* The driver's functions that are used: name, arguments. */
#define DRIVER_LIST(X)                                                                             \
    X(cuInit, (unsigned))                                                                          \
    X(cuDeviceGetCount, (int *))                                                                   \
    X(cuDeviceGet, (int *, int))                                                                   \
    X(cuDeviceGetName, (char *, int, int))                                                         \
    X(cuDeviceGetAttribute, (int *, int, int))                                                     \
    X(cuDevicePrimaryCtxRetain, (void **, int))                                                    \
    X(cuCtxSetCurrent, (void *))                                                                   \
    X(cuCtxSynchronize, (void))                                                                    \
    X(cuCtxResetPersistingL2Cache, (void))                                                         \
    X(cuStreamCreate, (void **, unsigned))                                                         \
    X(cuEventCreate, (void **, unsigned))                                                          \
    X(cuEventRecord, (void *, void *))                                                             \
    X(cuEventSynchronize, (void *))                                                                \
    X(cuEventElapsedTime, (float *, void *, void *))                                               \
    X(cuMemAlloc_v2, (cu_pointer *, size_t))                                                       \
    X(cuMemFree_v2, (cu_pointer))                                                                  \
    X(cuMemcpyHtoD_v2, (cu_pointer, const void *, size_t))                                         \
    X(cuMemcpyDtoH_v2, (void *, cu_pointer, size_t))                                               \
    X(cuMemcpyDtoD_v2, (cu_pointer, cu_pointer, size_t))                                           \
    X(cuMemsetD8_v2, (cu_pointer, unsigned char, size_t))                                          \
    X(cuMemsetD32_v2, (cu_pointer, unsigned, size_t))                                              \
    X(cuGetErrorName, (cu_result, const char **))                                                  \
    X(cuGetErrorString, (cu_result, const char **))

struct driver {
#define X(name, arguments) cu_result(*name) arguments;
    DRIVER_LIST(X)
#undef X
};

struct foreign_device {
    void *library;
    struct driver cu;
    void *context, *stream, *start, *stop;
    struct foreign_buffer flush; /* twice the L2 */
    double started;
    char name[128];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum status check(const struct foreign_device *d, cu_result code, const char *call,
                         enum status status, struct error *error)
{
    const char *name = "?", *text = "?";
    if (code == 0)
        return STATUS_OK;
    d->cu.cuGetErrorName(code, &name);
    d->cu.cuGetErrorString(code, &text);
    return error_set(error, status, "'%s' failed: %s (%s)", call, text, name);
}

#define CALL(d, call) check(d, (d)->cu.call, #call, STATUS_ENVIRONMENT, error)

static enum status open_driver(struct foreign_device *d, struct error *error)
{
    d->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!d->library)
        return error_set(error, STATUS_UNSUPPORTED, "no CUDA driver: libcuda.so.1 is not here");
#define X(function, arguments)                                                                     \
    *(void **)&d->cu.function = dlsym(d->library, #function);                                      \
    if (!d->cu.function)                                                                           \
        return error_set(error, STATUS_UNSUPPORTED, "the CUDA driver has no '%s': it is too old",  \
                         #function);
    DRIVER_LIST(X)
#undef X
    return STATUS_OK;
}

static enum status open_context(struct foreign_device *d, int index, struct error *error)
{
    int count = 0, device = 0, l2 = 0;
    enum status status = check(d, d->cu.cuInit(0), "cuInit(0)", STATUS_UNSUPPORTED, error);
    if (status != STATUS_OK)
        return status;
    if (d->cu.cuDeviceGetCount(&count) != 0 || index >= count)
        return error_set(error, STATUS_UNSUPPORTED, "no CUDA device '%d': there are %d", index,
                         count);
    status = CALL(d, cuDeviceGet(&device, index));
    if (status == STATUS_OK)
        status = CALL(d, cuDeviceGetName(d->name, (int)sizeof d->name, device));
    if (status == STATUS_OK)
        status = CALL(d, cuDeviceGetAttribute(&l2, L2_ATTRIBUTE, device));
    if (status == STATUS_OK)
        status = CALL(d, cuDevicePrimaryCtxRetain(&d->context, device));
    if (status == STATUS_OK)
        status = CALL(d, cuCtxSetCurrent(d->context));
    if (status == STATUS_OK)
        status = CALL(d, cuStreamCreate(&d->stream, 0));
    if (status == STATUS_OK)
        status = CALL(d, cuEventCreate(&d->start, 0));
    if (status == STATUS_OK)
        status = CALL(d, cuEventCreate(&d->stop, 0));
    if (status == STATUS_OK)
        status = foreign_buffer_init(d, &d->flush, (size_t)(l2 > 0 ? l2 : 1 << 20) * 2, error);
    return status;
}

enum status foreign_device_create(struct foreign_device **device, int index, struct error *error)
{
    struct foreign_device *d = calloc(1, sizeof *d);
    *device = d;
    if (!d)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    enum status status = open_driver(d, error);
    if (status == STATUS_OK)
        status = open_context(d, index, error);
    return status;
}

void foreign_device_free(struct foreign_device *d)
{
    /* The context stays: a library may still hold memory in it, and the process ends soon. */
    if (d && d->context)
        foreign_buffer_release(d, &d->flush);
    free(d);
}

void *foreign_device_stream(const struct foreign_device *d)
{
    return d->stream;
}

const char *foreign_device_name(const struct foreign_device *d)
{
    return d->name;
}

enum status foreign_device_synchronize(struct foreign_device *d, struct error *error)
{
    return check(d, d->cu.cuCtxSynchronize(), "a kernel", STATUS_FAILED, error);
}

enum status foreign_buffer_init(struct foreign_device *d, struct foreign_buffer *b, size_t bytes,
                                struct error *error)
{
    const size_t whole = bytes + 2 * FOREIGN_GUARD;
    *b = (struct foreign_buffer){.bytes = bytes};
    enum status status = CALL(d, cuMemAlloc_v2(&b->base, whole));
    if (status != STATUS_OK) {
        b->base = 0;
        return status;
    }
    b->pointer = b->base + FOREIGN_GUARD;
    return CALL(d, cuMemsetD8_v2(b->base, GUARD_BYTE, whole));
}

void foreign_buffer_release(struct foreign_device *d, struct foreign_buffer *b)
{
    if (b->base)
        d->cu.cuMemFree_v2(b->base);
    *b = (struct foreign_buffer){0};
}

enum status foreign_buffer_upload(struct foreign_device *d, struct foreign_buffer *b,
                                  const void *from, size_t bytes, struct error *error)
{
    return bytes ? CALL(d, cuMemcpyHtoD_v2(b->pointer, from, bytes)) : STATUS_OK;
}

enum status foreign_buffer_download(struct foreign_device *d, const struct foreign_buffer *b,
                                    size_t offset, void *to, size_t bytes, struct error *error)
{
    return bytes ? CALL(d, cuMemcpyDtoH_v2(to, b->pointer + offset, bytes)) : STATUS_OK;
}

enum status foreign_buffer_copy(struct foreign_device *d, struct foreign_buffer *to,
                                size_t to_offset, const struct foreign_buffer *from,
                                size_t from_offset, size_t bytes, struct error *error)
{
    return bytes ? CALL(d, cuMemcpyDtoD_v2(to->pointer + to_offset, from->pointer + from_offset,
                                           bytes))
                 : STATUS_OK;
}

enum status foreign_buffer_fill(struct foreign_device *d, struct foreign_buffer *b, uint32_t word,
                                struct error *error)
{
    return b->bytes >= 4 ? CALL(d, cuMemsetD32_v2(b->pointer, word, b->bytes / 4)) : STATUS_OK;
}

static bool is_intact(const unsigned char *guard)
{
    return guard[0] == GUARD_BYTE && memcmp(guard, guard + 1, FOREIGN_GUARD - 1) == 0;
}

enum status foreign_buffer_check(struct foreign_device *d, const struct foreign_buffer *b,
                                 const char *name, struct error *error)
{
    unsigned char before[FOREIGN_GUARD], behind[FOREIGN_GUARD];
    if (!b->base)
        return STATUS_OK;
    enum status status = CALL(d, cuMemcpyDtoH_v2(before, b->base, FOREIGN_GUARD));
    if (status == STATUS_OK)
        status = CALL(d, cuMemcpyDtoH_v2(behind, b->pointer + b->bytes, FOREIGN_GUARD));
    if (status != STATUS_OK || (is_intact(before) && is_intact(behind)))
        return status;
    return error_set(error, STATUS_FAILED,
                     "wrote outside its buffers: device memory %s '%s' was changed",
                     is_intact(before) ? "behind" : "before", name);
}

enum status foreign_device_begin(struct foreign_device *d, struct error *error)
{
    enum status status = foreign_buffer_fill(d, &d->flush, 0, error);
    d->cu.cuCtxResetPersistingL2Cache(); /* devices without one say so */
    if (status == STATUS_OK)
        status = foreign_device_synchronize(d, error);
    d->started = now();
    return status == STATUS_OK ? CALL(d, cuEventRecord(d->start, d->stream)) : status;
}

enum status foreign_device_end(struct foreign_device *d, double *seconds, struct error *error)
{
    float ms = 0.0f;
    enum status status = CALL(d, cuEventRecord(d->stop, d->stream));
    if (status == STATUS_OK)
        status = check(d, d->cu.cuEventSynchronize(d->stop), "a kernel", STATUS_FAILED, error);
    const double stopped = now();
    if (status == STATUS_OK)
        status = foreign_device_synchronize(d, error);
    const double idle = now();
    if (status == STATUS_OK)
        status = CALL(d, cuEventElapsedTime(&ms, d->start, d->stop));
    *seconds = (double)ms * 1e-3;
    if (idle - stopped > LATE_S)
        *seconds = idle - d->started;
    return status;
}
