/* The special-function unit (internal to gpu/): ex2.approx errs by 2 ulp, rcp.approx by 1 ulp;
 * results under 2^-126 become 0. Source: PTX ISA, "Floating Point Instructions". */
#ifndef ASSAY_GPU_SPECIAL_FUNCTIONS_CUH
#define ASSAY_GPU_SPECIAL_FUNCTIONS_CUH

static __device__ __forceinline__ float fast_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

static __device__ __forceinline__ float fast_reciprocal(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* v = 2^(v scale + bias), where this stands: the compiler neither moves nor repeats it. */
static __device__ __forceinline__ void exp2_in_place(float &v, float scale, float bias)
{
    asm volatile("fma.rn.f32 %0, %0, %1, %2;\nex2.approx.ftz.f32 %0, %0;"
                 : "+f"(v)
                 : "f"(scale), "f"(bias));
}

#endif
