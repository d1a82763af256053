/* What fp16 operands need: a Hopper GPU, and powers of two that bring both tensors into fp16's
 * range (internal to gpu/). */
#ifndef ASSAY_GPU_FP16_RANGE_CUH
#define ASSAY_GPU_FP16_RANGE_CUH

#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

constexpr uint32_t kSharedBytes = 227 * 1024; /* that a block may have */

/* Why the device can't run these kernels, or NULL. */
static inline const char *hopper_refusal(const struct cudaDeviceProp *device)
{
    if (device->major != 9 || device->minor != 0)
        return "needs a Hopper GPU (compute capability 9.0)";
    if (device->sharedMemPerBlockOptin < kSharedBytes)
        return "needs 227 KiB of shared memory in a block";
    return NULL;
}

/* The power of two that brings the largest weight into [2^14, 2^15), within fp16's range with room
 * for rounding; 0 where a weight is not finite. */
static inline float fp16_weight_scale(const float *weight, int64_t count)
{
    float largest = 0.0f;
    int exponent = 0;
    for (int64_t i = 0; i < count; i++) {
        const float w = fabsf(weight[i]);
        if (!isfinite(w))
            return 0.0f;
        largest = w > largest ? w : largest;
    }
    if (largest > 0.0f)
        frexpf(largest, &exponent);
    exponent = exponent < -80 ? -80 : exponent;
    return ldexpf(1.0f, 15 - exponent);
}

/* Images whose largest |x| lies within [fp16_smallest, fp16_largest] keep the class's bound: x
 * times x_scale must stay in fp16's range, and its largest be far enough above fp16's smallest
 * step, which errs by 2^-25, to be at most 2^-24 of the largest magnitude, 2^-25 where the operand
 * is split in two parts. */
static inline float fp16_largest(float x_scale)
{
    return 65504.0f / x_scale;
}

static inline float fp16_smallest(float x_scale, int parts)
{
    return (parts == 2 ? 1.0f : 0.5f) / x_scale;
}

#endif
