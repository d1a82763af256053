/* What the fused tensor-core kernels share: arguments, sizes, small device helpers (internal to
 * gpu/).
 *
 * The tile kernel's header (gpu/fused_split.cuh) defines, for gpu/fused_plan.cuh:
 *
 *     kChannels              output channels it covers
 *     kBlockChannels         those of one block
 *     kClusterBlocks         blocks that share a tile
 *     kThreads               of a block
 *     kRingDepth             tiles that the producer may be ahead
 *     kParts                 fp16 parts of an operand
 *     fused_layout_make()    its shared memory
 *     fused_kernel()         the kernel for a plan */
#ifndef ASSAY_GPU_FUSED_ARGS_CUH
#define ASSAY_GPU_FUSED_ARGS_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/fp16_range.cuh"
#include "gpu/fused_geometry.h"

constexpr int kTilePixels = 64;   /* patches in a tile: the rows of the instruction */
constexpr int kChannelGroups = 8; /* of eight input channels, those beyond the problem's zero */
constexpr int kBarriers = 4;      /* of each kind: no more tiles than that are in work */

struct fused_args {
    const float *x;
    float *y;
    const __half *weights; /* [row phase][block of the cluster][part][tap][k / 8][column][8] */
    const float *conv_bias;
    const float *bias;
    uint32_t *image_max; /* [images], bits of the largest |x| */
    float x_scale;       /* power of two */
    float descale;       /* log2(e) / (x_scale * weight_scale) */
    float scaling_factor;
    struct fused_geometry geometry;
};

/* Shared memory, in bytes from its start. */
struct fused_layout {
    uint32_t weights, ring, stage, exchange, params, barriers, total;
};

typedef void (*fused_kernel_pointer)(const struct fused_args);

static __device__ __forceinline__ uint32_t fast_divide(uint32_t n, struct fast_divisor by)
{
    return by.divisor == 1 ? n : __umulhi(n, by.multiplier) >> by.shift;
}

static __device__ __forceinline__ void shared_store(uint32_t to, const uint32_t (&v)[4])
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]),
                 "r"(v[2]), "r"(v[3])
                 : "memory");
}

#endif
