/* Half precision of the emulator (tests/emulator/device.hpp): the compiler's _Float16. */
#ifndef ASSAY_TESTS_EMULATOR_CUDA_FP16_H
#define ASSAY_TESTS_EMULATOR_CUDA_FP16_H

#include "tests/emulator/device.hpp"

struct __half {
    _Float16 v;
};
struct __half2 {
    struct __half x, y;
};

static inline struct __half __float2half_rn(float a)
{
    return {(_Float16)a};
}

static inline float __half2float(struct __half a)
{
    return (float)a.v;
}

static inline struct __half2 __floats2half2_rn(float a, float b)
{
    return {{(_Float16)a}, {(_Float16)b}};
}

static inline struct __half2 __float2half2_rn(float a)
{
    return __floats2half2_rn(a, a);
}

static inline struct __half __low2half(struct __half2 a)
{
    return a.x;
}

static inline struct __half __high2half(struct __half2 a)
{
    return a.y;
}

static inline float __low2float(struct __half2 a)
{
    return (float)a.x.v;
}

static inline float __high2float(struct __half2 a)
{
    return (float)a.y.v;
}

static inline struct __half __hmax_nan(struct __half a, struct __half b)
{
    return a.v != a.v || (float)a.v > (float)b.v ? a : b;
}

static inline struct __half2 __hmax2_nan(struct __half2 a, struct __half2 b)
{
    return {__hmax_nan(a.x, b.x), __hmax_nan(a.y, b.y)};
}

static inline struct __half2 __habs2(struct __half2 a)
{
    return __floats2half2_rn(fabsf((float)a.x.v), fabsf((float)a.y.v));
}

#endif
