/* gpu/stream_fp16.cu as the emulator runs it (tests/emulator/device.hpp). */
#define variant_stream_fp16 emulated_stream_fp16 /* beside the device's in one program */
#include "gpu/stream_fp16.cu"

#include "tests/emulator/variant.hpp"

enum status emulate_stream_fp16(const struct problem *p, const struct params *params,
                                const float *x, float *y, int multiprocessors, int offset,
                                unsigned seed, struct error *error)
{
    return emulate(&variant_stream_fp16, p, params, x, y, multiprocessors, offset, seed, error);
}
