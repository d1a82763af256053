/* What a foreign kernel (harness/plugin.h) needs of a CUDA device: a stream, guarded buffers, and
 * events around its runs.
 *
 * Through the driver's own library, opened at run time: nothing here needs nvcc or a CUDA header,
 * and a library that brings its own CUDA runtime shares the device's primary context with it. All
 * functions are for the one thread that made the device. */
#ifndef ASSAY_GPU_FOREIGN_DEVICE_H
#define ASSAY_GPU_FOREIGN_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct foreign_device;

/* Device memory between two guards of FOREIGN_GUARD bytes; `pointer` is aligned to 512 bytes. */
#define FOREIGN_GUARD ((size_t)4096)
struct foreign_buffer {
    uint64_t base, pointer; /* 0: none */
    size_t bytes;
};

/* STATUS_UNSUPPORTED where there is no driver or no such device, with the reason. */
enum status foreign_device_create(struct foreign_device **device, int index, struct error *error);
void foreign_device_free(struct foreign_device *device);

void *foreign_device_stream(const struct foreign_device *device); /* a cudaStream_t */
const char *foreign_device_name(const struct foreign_device *device);

/* Waits for all work on the device, on any stream. STATUS_FAILED with CUDA's reason where a kernel
 * has failed: the context is then lost. */
enum status foreign_device_synchronize(struct foreign_device *device, struct error *error);

enum status foreign_buffer_init(struct foreign_device *device, struct foreign_buffer *buffer,
                                size_t bytes, struct error *error);
void foreign_buffer_release(struct foreign_device *device, struct foreign_buffer *buffer);

/* Synchronous copies of the first `bytes` bytes, and between buffers at offsets. */
enum status foreign_buffer_upload(struct foreign_device *device, struct foreign_buffer *buffer,
                                  const void *from, size_t bytes, struct error *error);
enum status foreign_buffer_download(struct foreign_device *device,
                                    const struct foreign_buffer *buffer, size_t offset, void *to,
                                    size_t bytes, struct error *error);
enum status foreign_buffer_copy(struct foreign_device *device, struct foreign_buffer *to,
                                size_t to_offset, const struct foreign_buffer *from,
                                size_t from_offset, size_t bytes, struct error *error);

/* Sets every whole 32-bit word. */
enum status foreign_buffer_fill(struct foreign_device *device, struct foreign_buffer *buffer,
                                uint32_t word, struct error *error);

/* STATUS_FAILED where memory beside the buffer was written; `name` stands in the message. */
enum status foreign_buffer_check(struct foreign_device *device, const struct foreign_buffer *buffer,
                                 const char *name, struct error *error);

/* Around one timed run: begin empties L2 (and its persisting part), waits for the device and
 * records an event on the stream; end records the other, waits for the whole device, and gives the
 * seconds between the events, or by the host's clock where work went on after the second one. */
enum status foreign_device_begin(struct foreign_device *device, struct error *error);
enum status foreign_device_end(struct foreign_device *device, double *seconds, struct error *error);

#ifdef __cplusplus
}
#endif
#endif
