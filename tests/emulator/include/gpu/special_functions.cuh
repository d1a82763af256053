/* gpu/special_functions.cuh of the emulator (tests/emulator/device.hpp). */
#ifndef ASSAY_GPU_SPECIAL_FUNCTIONS_CUH
#define ASSAY_GPU_SPECIAL_FUNCTIONS_CUH

#include "tests/emulator/device.hpp"

static inline float flush(float v)
{
    return fabsf(v) < 0x1p-126f ? 0.0f : v;
}

static inline float fast_exp2(float x)
{
    return flush(exp2f(flush(x)));
}

static inline float fast_reciprocal(float x)
{
    return flush(1.0f / flush(x));
}

static inline void exp2_in_place(float &v, float scale, float bias)
{
    v = fast_exp2(fmaf(v, scale, bias));
}

#endif
