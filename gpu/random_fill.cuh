/* Uniform numbers in [-1, 1) on the device, a hash of the index (internal to gpu/): constant data
 * runs measurably faster than real data. */
#ifndef ASSAY_GPU_RANDOM_FILL_CUH
#define ASSAY_GPU_RANDOM_FILL_CUH

#include <stdint.h>

static __device__ __forceinline__ unsigned hash_index(uint64_t i, unsigned seed)
{
    unsigned h = (unsigned)i * 0x9e3779b9u ^ (unsigned)(i >> 32) * 0x85ebca6bu ^ seed;
    h ^= h >> 16;
    h *= 0x7feb352du;
    h ^= h >> 15;
    h *= 0x846ca68bu;
    return h ^ h >> 16;
}

template <class T>
__global__ void __launch_bounds__(256) random_fill_kernel(T *to, int64_t count, unsigned seed)
{
    for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll)
        to[i] = (T)((float)(hash_index((uint64_t)i, seed) >> 8) * 0x1p-23f - 1.0f);
}

#endif
