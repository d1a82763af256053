/* gpu/fused_fp16x3.cu as the emulator runs it (tests/emulator/device.hpp). */
#define variant_fused_fp16x3 emulated_fused_fp16x3 /* beside the device's in one program */
#include "gpu/fused_fp16x3.cu"

#include "tests/emulator/variant.hpp"

enum status emulate_fused_fp16x3(const struct problem *p, const struct params *params,
                                 const float *x, float *y, int multiprocessors, int offset,
                                 unsigned seed, struct error *error)
{
    return emulate(&variant_fused_fp16x3, p, params, x, y, multiprocessors, offset, seed, error);
}
