/* What the fused kernels share on the device (internal to gpu/). */
#ifndef ASSAY_GPU_FUSED_COMMON_CUH
#define ASSAY_GPU_FUSED_COMMON_CUH

#include <stdint.h>

#include "gpu/fused_geometry.h"

constexpr int kChannelGroups = 8; /* of eight input channels, those beyond the problem's zero */

static __device__ __forceinline__ uint32_t fast_divide(uint32_t n, struct fast_divisor by)
{
    return by.divisor == 1 ? n : __umulhi(n, by.multiplier) >> by.shift;
}

#endif
