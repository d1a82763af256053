/* The scalar functions of the epilogue, of fp32 grade (internal to gpu/).
 *
 * Exponents are formed as (l - max) * log2(e): the difference is taken first, so it is as exact as
 * the logits even where they are of the order of 1e4. */
#ifndef ASSAY_GPU_EPILOGUE_MATH_CUH
#define ASSAY_GPU_EPILOGUE_MATH_CUH

#include "gpu/special_functions.cuh"

#define LOG2_E 1.44269504088896341f

/* exp(x) */
static __device__ __forceinline__ float fast_exp(float x)
{
    return fast_exp2(x * LOG2_E);
}

/* 1 / (1 + exp(-z)); 0 and 1 at -inf and +inf */
static __device__ __forceinline__ float fast_sigmoid(float z)
{
    return fast_reciprocal(1.0f + fast_exp2(-LOG2_E * z));
}

/* Four sigmoids: e[i] * factor[i] = -scale p log2(e), bias = -scale bias log2(e). kPairs: one
 * reciprocal for two, where no 1 + exp(-z) can exceed 2^60. */
template <bool kPairs>
static __device__ __forceinline__ void sigmoids(float (&out)[4], const float *e,
                                                const float (&factor)[4], float bias)
{
    float u[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        u[i] = 1.0f + fast_exp2(fmaf(e[i], factor[i], bias));
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        if (kPairs) {
            const float r = fast_reciprocal(u[i] * u[i + 1]);
            out[i] = r * u[i + 1];
            out[i + 1] = r * u[i];
        } else {
            out[i] = fast_reciprocal(u[i]);
            out[i + 1] = fast_reciprocal(u[i + 1]);
        }
    }
}

/* What exponents are counted from: the maximum, or 0 where no channel is above -inf yet, so that
 * -inf - -inf does not arise before the last channel is seen. */
static __device__ __forceinline__ float exponent_origin(float maximum)
{
    return maximum == -INFINITY ? 0.0f : maximum;
}

#endif
