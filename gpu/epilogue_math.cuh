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

/* 1 / (1 + 2^t) of two exponents. kPairs: one reciprocal for both, where neither 1 + 2^t can exceed
 * 2^60. */
template <bool kPairs>
static __device__ __forceinline__ void sigmoid_pair(float &a, float &b, float exponent_a,
                                                    float exponent_b)
{
    const float u = fast_exp2(exponent_a), v = 1.0f + fast_exp2(exponent_b);
    if (kPairs) {
        const float r = fast_reciprocal(fmaf(u, v, v));
        a = r * v;
        b = fmaf(r, u, r);
    } else {
        a = fast_reciprocal(1.0f + u);
        b = fast_reciprocal(v);
    }
}

/* Four sigmoids: e[i] * factor[i] = -scale p log2(e), bias = -scale bias log2(e). */
template <bool kPairs>
static __device__ __forceinline__ void sigmoids(float (&out)[4], const float *e,
                                                const float (&factor)[4], float bias)
{
#pragma unroll
    for (int i = 0; i < 4; i += 2)
        sigmoid_pair<kPairs>(out[i], out[i + 1], fmaf(e[i], factor[i], bias),
                             fmaf(e[i + 1], factor[i + 1], bias));
}

/* What exponents are counted from: the maximum, or 0 where no channel is above -inf yet, so that
 * -inf - -inf does not arise before the last channel is seen. */
static __device__ __forceinline__ float exponent_origin(float maximum)
{
    return maximum == -INFINITY ? 0.0f : maximum;
}

#endif
