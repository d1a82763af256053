/* gpu/fused_rows.cu as the emulator runs it (tests/emulator/device.hpp). */
#define fused_form_rows emulated_form_rows /* beside the device's in one program */
#include "gpu/fused_rows.cu"

#include "tests/emulator/variant.hpp"

enum status emulate_fused_rows(const struct problem *p, const struct params *params, const float *x,
                               float *y, int multiprocessors, int offset, unsigned seed,
                               struct error *error)
{
    return emulate(&fused_form_rows, p, params, x, y, multiprocessors, offset, seed, error);
}
