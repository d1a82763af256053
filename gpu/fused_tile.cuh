/* The fused tile kernel (draft header; rewritten below when measured). */
#ifndef ASSAY_GPU_FUSED_TILE_CUH
#define ASSAY_GPU_FUSED_TILE_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_geometry.h"
#include "gpu/wgmma.cuh"

constexpr int kTilePixels = 64;      /* rows of the instruction */
constexpr int kConsumerGroups = 2;   /* warpgroups that multiply, one tile each in turn */
constexpr int kThreads = 128 * (kConsumerGroups + 1);
constexpr int kConsumerRegisters = 208;
constexpr int kProducerRegisters = 88;
constexpr int kStagePitch = 40;      /* floats a channel in a warp's stage: 32 and 8 against conflicts */
constexpr int kStageChannels = 16;
constexpr int kStageFloats = kStageChannels * kStagePitch;
constexpr int kBarriers = 4;

/* What the warpgroups trade is what the launch gave them: 168 registers a thread. */
static_assert(kConsumerGroups * kConsumerRegisters + kProducerRegisters <= 168 * (kConsumerGroups + 1),
              "register file");

struct fused_args {
    const float *x;
    float *y;
    const __half *weights;    /* [phase][part][k / 8][kColumns][8] */
    const float *conv_bias;
    const float *bias;
    uint32_t *image_max;      /* [images], bits of the largest |x| */
    float x_scale;            /* power of two */
    float descale;            /* log2(e) / (x_scale * weight_scale) */
    float scaling_factor;
    int pair_reciprocals;     /* 1: no 1 + exp(-z) exceeds 2^60 */
    struct fused_geometry geometry;
};

/* Shared memory, in bytes from its start. */
struct fused_layout {
    uint32_t weights, ring, stage, params, barriers, total;
};

template <int kPhases, int kChannels, int kProducts>
static __host__ __device__ struct fused_layout fused_layout_make(const struct fused_geometry *g)
{
    const uint32_t parts = kProducts == 3 ? 2 : 1;
    struct fused_layout layout;
    layout.weights = 0;
    layout.ring = layout.weights + parts * g->taps_h * g->taps_w * g->channel_groups * 16u * kPhases * kChannels;
    layout.stage = layout.ring + parts * g->channel_groups * g->ring_pitch * 16u;
    layout.params = layout.stage + kConsumerGroups * 4 * 2 * kStageFloats * 4u;
    layout.barriers = layout.params + 2 * kChannels * 4u;
    layout.total = layout.barriers + (2 * kBarriers + 1) * 8u;
    return layout;
}

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

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* ---- producer: x, NCHW fp32 -> ring, [channel / 8][slot][8] fp16 ------------------------------- */

template <int kProducts>
static __device__ __forceinline__ void produce(const struct fused_args &args, uint32_t ring,
                                               uint32_t full, uint32_t done, int64_t first_slot,
                                               int tiles, bool track_max)
{
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int column = (warp & 1) * 32 + lane;
    const int first_group = warp >> 1;
    const int64_t plane = (int64_t)g.height * g.width;
    const int pieces = (g.max_shift + kTilePixels - 1) / kTilePixels;
    const uint32_t part_bytes = g.channel_groups * g.ring_pitch * 16u;
    uint32_t largest = 0;

    for (int t = -pieces; t < tiles; t++) {
        const int slot = t * kTilePixels + g.max_shift + column; /* from the block's first slot */
        const uint32_t index = (uint32_t)(first_slot + (slot < 0 ? 0 : slot));
        const uint32_t image_strip = fast_divide(index, g.divide_image);
        const uint32_t rest = index - image_strip * g.divide_image.divisor;
        const uint32_t row_slot = fast_divide(rest, g.divide_pitch);
        const uint32_t image = fast_divide(image_strip, g.divide_strips);
        const int strip = image_strip - image * g.divide_strips.divisor;
        const int row = (int)row_slot + g.first_row;
        const int col = (int)(rest - row_slot * g.pitch) + strip * g.strip_patches + g.first_col;
        const bool inside = slot >= 0 && (int)image < g.images && row >= 0 && row < g.height &&
                            col >= 0 && col < g.width;
        const float *source = args.x + (int64_t)image * g.in_channels * plane +
                              (int64_t)row * g.width + col;
        const uint32_t ring_slot = (uint32_t)(slot < 0 ? 0 : slot) % g.ring_slots;

        for (int batch = 0; batch < g.channel_groups; batch += 8) {
            float value[4][8];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const int channel = (batch + first_group + 2 * i) * 8 + j;
                    value[i][j] = inside && channel < g.in_channels ? __ldg(source + channel * plane) : 0.0f;
                }
            if (batch == 0 && t >= g.ring_depth) {
                const int tile = t - g.ring_depth;
                barrier_wait(done + 8 * (tile % kBarriers), (tile / kBarriers) & 1);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int group = batch + first_group + 2 * i;
                uint32_t high[4], low[4];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float a = value[i][2 * j], b = value[i][2 * j + 1];
                    largest = max(largest, max(__float_as_uint(a) & 0x7fffffffu,
                                               __float_as_uint(b) & 0x7fffffffu));
                    const __half2 h = __floats2half2_rn(a * args.x_scale, b * args.x_scale);
                    high[j] = *(const uint32_t *)&h;
                    if (kProducts == 3) {
                        const __half2 l = __floats2half2_rn(
                            fmaf(a, args.x_scale, -__low2float(h)), fmaf(b, args.x_scale, -__high2float(h)));
                        low[j] = *(const uint32_t *)&l;
                    }
                }
                if (slot < 0 || group >= g.channel_groups)
                    continue;
                const uint32_t to = ring + (group * g.ring_pitch + ring_slot) * 16u;
                shared_store(to, high);
                if (kProducts == 3)
                    shared_store(to + part_bytes, low);
                if (ring_slot < kTilePixels - 1) { /* the ring's first slots again behind its end */
                    shared_store(to + g.ring_slots * 16u, high);
                    if (kProducts == 3)
                        shared_store(to + g.ring_slots * 16u + part_bytes, low);
                }
            }
        }
        /* Largest magnitude by image. Zeros outside the image don't count. */
        if (track_max) {
            const int mine = inside ? (int)image : -1;
            const int lead = __shfl_sync(~0u, mine, __ffs(__ballot_sync(~0u, inside) | 0x80000000u) - 1);
            if (__all_sync(~0u, mine == lead || mine == -1)) {
                const uint32_t m = __reduce_max_sync(~0u, mine == -1 ? 0 : largest);
                if (lane == 0 && lead >= 0)
                    atomicMax(args.image_max + lead, m);
            } else if (mine >= 0) {
                atomicMax(args.image_max + mine, largest);
            }
        }
        largest = 0;
        if (t >= 0) {
            fence_proxy_async();
            __syncwarp();
            if (lane == 0)
                barrier_arrive(full + 8 * (t % kBarriers));
        }
    }
}

/* ---- consumer: matrix products, epilogue, stores ----------------------------------------------- */

template <int kPhases, int kChannels, int kProducts>
static __device__ __forceinline__ void multiply(float (&d)[kPhases * kChannels / 2],
                                                const struct fused_geometry &g, uint32_t weights,
                                                uint32_t ring, uint32_t base, int taps_h)
{
    constexpr int kColumns = kPhases * kChannels;
    constexpr uint32_t kGroupBytes = kColumns * 16;
    const uint32_t ring_part = g.channel_groups * g.ring_pitch; /* in 16 bytes */
    const uint32_t weight_part = g.taps_h * g.taps_w * g.channel_groups * kColumns;
    const uint64_t a0 = wgmma_descriptor(ring, g.ring_pitch * 16u, 128);
    const uint64_t b0 = wgmma_descriptor(weights, kGroupBytes, 128);
    int accumulate = 0;
#ifdef DEV_NOMMA
    const bool args_never = g.images < 0;
#endif
    wgmma_fence();
#pragma unroll 1
    for (int product = kProducts == 3 ? 0 : 2; product < 3; product++) {
        /* low * high, high * low, then high * high: small terms first */
        const uint32_t a_part = product == 0 ? ring_part : 0;
        const uint32_t b_part = product == 1 ? weight_part : 0;
#pragma unroll 1
        for (int tap = 0; tap < taps_h * g.taps_w; tap++) {
            uint32_t slot = base + g.shift[tap];
            slot = slot >= g.ring_slots ? slot - g.ring_slots : slot;
            uint64_t a = a0 + a_part + slot;
            uint64_t b = b0 + b_part + tap * g.channel_groups * kColumns;
#pragma unroll 4
            for (int group = 0; group < g.channel_groups; group += 2) {
#ifdef DEV_NOMMA
                if (args_never) 
#endif
                wgmma<kColumns>::run(d, a, b, accumulate);
                accumulate = 1;
                a += 2 * g.ring_pitch;
                b += 2 * kColumns;
            }
        }
    }
    wgmma_commit();
    wgmma_wait<0>();
}

template <int kPhases, int kChannels>
static __device__ __forceinline__ void epilogue(float (&d)[kPhases * kChannels / 2],
                                                const struct fused_args &args, const float *logit_bias,
                                                const float *sigmoid_bias, float *stage,
                                                uint32_t first_patch, int phase_h, int phase_w)
{
    constexpr int kSteps = kPhases * kChannels / 8; /* j of the fragment */
    static_assert(kPhases == 2, "one channel of both phases in a register pair");
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int quad = lane & 3, row = lane >> 2;

    /* Base-2 logits and their maximum; i: (row, phase) of (g, 0), (g, 1), (g + 8, 0), (g + 8, 1). */
    float maximum[4], sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        maximum[i] = -INFINITY;
#pragma unroll
    for (int j = 0; j < kSteps; j++) {
        const float b = logit_bias[4 * j + quad];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            d[4 * j + i] = fmaf(d[4 * j + i], args.descale, b);
            maximum[i] = fmaxf(maximum[i], d[4 * j + i]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        maximum[i] = fmaxf(maximum[i], __shfl_xor_sync(~0u, maximum[i], 1));
        maximum[i] = fmaxf(maximum[i], __shfl_xor_sync(~0u, maximum[i], 2));
        sum[i] = 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kSteps; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            d[4 * j + i] = fast_exp2(d[4 * j + i] - maximum[i]);
            sum[i] += d[4 * j + i];
        }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
        sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
        sum[i] = __fdividef(-LOG2_E * args.scaling_factor, sum[i]); /* exp(-scale p) = 2^(sum e) */
    }

    /* Where this lane stores: output column `lane` of the warp's 32. */
    const uint32_t index = first_patch + 16 * warp + (lane >> 1);
    const uint32_t image_strip = fast_divide(index, g.divide_image);
    const uint32_t rest = index - image_strip * g.divide_image.divisor;
    const uint32_t patch_row = fast_divide(rest, g.divide_pitch);
    const uint32_t patch_col = rest - patch_row * g.pitch;
    const uint32_t image = fast_divide(image_strip, g.divide_strips);
    const uint32_t strip = image_strip - image * g.divide_strips.divisor;
    const int out_row = ((int)patch_row + g.first_patch_row) * g.stride_h + phase_h - g.padding_h;
    const int out_col = ((int)(patch_col + strip * g.strip_patches) + g.first_patch_col) * g.stride_w +
                        phase_w + (lane & 1) - g.padding_w;
    const bool valid = (int)image < g.images && (int)patch_col < g.strip_patches && out_row >= 0 &&
                       out_row < g.output_h && out_col >= 0 && out_col < g.output_w;
    const int64_t plane = (int64_t)g.output_h * g.output_w;
    float *target = args.y + (int64_t)image * g.out_channels * plane + (int64_t)out_row * g.output_w + out_col;

    constexpr int kChunkSteps = kStageChannels / 4;
#pragma unroll
    for (int chunk = 0; chunk < kSteps / kChunkSteps; chunk++) {
        float *buffer = stage + (chunk & 1) * kStageFloats;
#pragma unroll
        for (int k = 0; k < kChunkSteps; k++) {
            const int j = chunk * kChunkSteps + k;
            const float b = sigmoid_bias[4 * j + quad];
            float u[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                u[i] = 1.0f + fast_exp2(fmaf(d[4 * j + i], sum[i], b));
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                float2 out;
                if (args.pair_reciprocals) {
                    const float r = fast_reciprocal(u[i] * u[i + 1]);
                    out = make_float2(r * u[i + 1], r * u[i]);
                } else {
                    out = make_float2(fast_reciprocal(u[i]), fast_reciprocal(u[i + 1]));
                }
                *(float2 *)(buffer + (4 * k + quad) * kStagePitch + 2 * row + 8 * i) = out;
            }
        }
        __syncwarp();
        float out[kStageChannels];
#pragma unroll
        for (int c = 0; c < kStageChannels; c++)
            out[c] = buffer[c * kStagePitch + lane];
#pragma unroll
        for (int c = 0; c < kStageChannels; c++)
            if (valid && chunk * kStageChannels + c < g.out_channels)
#ifdef DEV_NOSTORE
                if (out[c] == 5.0f)
#endif
#ifdef DEV_STCS
                __stcs(target + (int64_t)c * plane, out[c]);
#else
                target[(int64_t)c * plane] = out[c];
#endif
        target += kStageChannels * plane;
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

template <int kPhases, int kChannels, int kProducts>
__global__ void __launch_bounds__(kThreads, 1) fused_tile_kernel(const __grid_constant__ struct fused_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(128) uint8_t shared[];
    const struct fused_geometry &g = args.geometry;
    const struct fused_layout layout = fused_layout_make<kPhases, kChannels, kProducts>(&g);
    const uint32_t base = shared_address(shared);
    float *logit_bias = (float *)(shared + layout.params);
    float *sigmoid_bias = logit_bias + kChannels;
    const uint32_t full = base + layout.barriers;
    const uint32_t done = full + 8 * kBarriers;
    const uint32_t loaded = done + 8 * kBarriers;

    const int phase = blockIdx.x % g.phase_blocks, lane_block = blockIdx.x / g.phase_blocks;
    const int blocks = gridDim.x / g.phase_blocks;
    const int phase_h = phase % g.stride_h;
    const int phase_w = (phase / g.stride_h) * kPhases;
    const int64_t first_tile = (int64_t)g.tiles * lane_block / blocks;
    const int tiles = (int)((int64_t)g.tiles * (lane_block + 1) / blocks - first_tile);

    if (threadIdx.x == 0) {
        for (int i = 0; i < kBarriers; i++) {
            barrier_init(full + 8 * i, 4);
            barrier_init(done + 8 * i, 4);
        }
        barrier_init(loaded, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        fence_proxy_async();
        const uint32_t bytes = layout.ring - layout.weights;
        barrier_expect(loaded, bytes);
        const uint8_t *from = (const uint8_t *)args.weights + (int64_t)phase * bytes;
        for (uint32_t at = 0; at < bytes; at += 16384)
            bulk_load(base + layout.weights + at, from + at, min(bytes - at, 16384u), loaded);
    }
    for (int c = threadIdx.x; c < kChannels; c += kThreads) {
        const bool real = c < g.out_channels;
        logit_bias[c] = real ? args.conv_bias[c] * LOG2_E : -INFINITY;
        sigmoid_bias[c] = real ? -LOG2_E * (args.scaling_factor * args.bias[c]) : 0.0f;
    }
    __syncthreads();

    const int group = threadIdx.x / 128;
    if (group == kConsumerGroups) {
        registers_shrink<kProducerRegisters>();
        produce<kProducts>(args, base + layout.ring, full, done, first_tile * kTilePixels, tiles, phase == 0);
    } else {
        registers_grow<kConsumerRegisters>();
        const int warp = threadIdx.x / 32;
        float *stage = (float *)(shared + layout.stage) + warp * 2 * kStageFloats;
        const int taps_h = phase_h + (g.taps_h - 1) * g.stride_h < g.kernel_h ? g.taps_h : g.taps_h - 1;
        barrier_wait(loaded, 0);
        for (int t = group; t < tiles; t += kConsumerGroups) {
            float d[kPhases * kChannels / 2];
            barrier_wait(full + 8 * (t % kBarriers), (t / kBarriers) & 1);
            multiply<kPhases, kChannels, kProducts>(d, g, base + layout.weights, base + layout.ring,
                                                    (uint32_t)(t * kTilePixels) % g.ring_slots, taps_h);
            if ((threadIdx.x & 31) == 0)
                barrier_arrive(done + 8 * (t % kBarriers));
            epilogue<kPhases, kChannels>(d, args, logit_bias, sigmoid_bias, stage,
                                         (uint32_t)((first_tile + t) * kTilePixels), phase_h, phase_w);
        }
    }
#endif
}

#endif
