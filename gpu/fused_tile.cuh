/* The fused tile kernel: transposed convolution by stride 2 on Hopper's tensor cores, with softmax
 * over channels, bias, scale and sigmoid in its epilogue (internal to gpu/; sm_90a).
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * x and y fp32 NCHW; products of fp16 operands scaled by powers of two, sums in fp32.
 * gpu/fused_tile.cu tells what it measured and why it is built so; gpu/fused_geometry.h how pixels
 * are numbered.
 *
 * A tile is 64 consecutive patches by one output row phase: 64 x 256 logits, the 256 columns being
 * 128 channels in both column phases, K = taps x 64 input channels.
 *
 *     shared memory                         registers of a consumer warpgroup, warp w, lane l,
 *     ring of x, fp16                       g = l / 4, t = l % 4:
 *     [channel / 8][slot][8]                d[4j + 0], d[4j + 1]: patch 16w + g,     channel 4j +
 * t, |      |                                                  column phases 0 and 1 |      +- tap
 * (jh, jw) starts      d[4j + 2], d[4j + 3]: patch 16w + g + 8 |         shift[tap] slots later
 *        +- k16 = two planes                so softmax is over a thread's 32 j and two shuffles,
 * and weights, fp16, resident               two neighbouring outputs lie in a register pair
 *     [tap][channel / 8][column][8]
 *
 * Blocks: one a multiprocessor, persistent, two (one for each row phase) over the same run of
 * tiles. Three warpgroups: two consumers take tiles in turn, so that one's epilogue (CUDA cores,
 * special functions) runs beside the other's products (tensor cores); a producer fetches x, 64
 * slots at a time: a lane a slot, eight coalesced loads to a 16-byte store, which is the
 * transposition and the conversion at once. A slot is fetched once a block; mbarriers `full` and
 * `done` hand the ring on.
 *
 * Stores: each warp stages 16 channels x 32 outputs and writes 128 contiguous bytes a channel.
 *
 * Fast intrinsics: ex2.approx and rcp.approx (gpu/epilogue_math.cuh), two reciprocals from one
 * where no 1 + exp(-z) can exceed 2^60. No bits depend on which tile a pixel is in. */
#ifndef ASSAY_GPU_FUSED_TILE_CUH
#define ASSAY_GPU_FUSED_TILE_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_args.cuh"
#include "gpu/wgmma.cuh"

constexpr int kChannels = 128; /* output channels, those beyond the problem's at -infinity */
constexpr int kBlockChannels = kChannels;
constexpr int kClusterBlocks = 1;
constexpr int kParts = 1;
constexpr int kColumns = 2 * kChannels;
constexpr int kConsumerGroups = 2;
constexpr int kThreads = 128 * (kConsumerGroups + 1);
constexpr int kConsumerRegisters = 208;
constexpr int kProducerRegisters = 88;
constexpr int kStageChannels = 16;
constexpr int kStagePitch =
    40; /* floats a channel in a warp's stage: 32, and 8 against conflicts */
constexpr int kStageFloats = kStageChannels * kStagePitch;
constexpr int kRingDepth = 3; /* tiles that the producer may be ahead */

/* NOTE: what the warpgroups trade is what the launch gave them, 168 registers a thread; one more
 * and a consumer waits for registers for ever. */
static_assert(kConsumerGroups * kConsumerRegisters + kProducerRegisters <=
                  168 * (kConsumerGroups + 1),
              "register file");
static_assert(kRingDepth <= kBarriers, "a barrier's phase would be overtaken");

static inline __host__ __device__ struct fused_layout
fused_layout_make(const struct fused_geometry *g)
{
    struct fused_layout layout;
    layout.weights = 0;
    layout.ring = layout.weights + g->taps_h * g->taps_w * kChannelGroups * 16u * kColumns;
    layout.stage = layout.ring + kChannelGroups * g->ring_pitch * 16u;
    layout.exchange = layout.stage + kConsumerGroups * 4 * 2 * kStageFloats * 4u;
    layout.params = layout.exchange; /* nothing to exchange */
    layout.barriers = layout.params + 2 * kChannels * 4u;
    layout.total = layout.barriers + (2 * kBarriers + 1) * 8u;
    return layout;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* ---- producer: x, NCHW fp32 -> ring, [channel / 8][slot][8] fp16 ---------------------------- */

/* Pieces of 64 slots; piece t is the last that tile t needs, the ones before piece 0 fill the slots
 * under the first tile's largest shift. `first_slot` is slot 0 of the block's run of tiles. */
static __device__ __forceinline__ void produce(const struct fused_args &args, uint32_t ring,
                                               uint32_t full, uint32_t done, int64_t first_slot,
                                               int tiles, bool track_max)
{
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int column = (warp & 1) * 32 + lane;
    const int first_group = warp >> 1;
    const int64_t plane = g.input_plane;
    const int pieces = (g.max_shift + kTilePixels - 1) / kTilePixels;

    for (int t = -pieces; t < tiles; t++) {
        const int slot = t * kTilePixels + g.max_shift + column;
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
        const float *source =
            args.x + (int64_t)image * g.in_channels * plane + (int64_t)row * g.width + col;
        const uint32_t ring_slot = (uint32_t)(slot < 0 ? 0 : slot) % g.ring_slots;
        uint32_t largest = 0;

        float value[4][8];
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const int channel = (first_group + 2 * i) * 8 + j;
                value[i][j] =
                    inside && channel < g.in_channels ? __ldg(source + channel * plane) : 0.0f;
            }
        if (t >= g.ring_depth) {
            const int tile = t - g.ring_depth;
            barrier_wait(done + 8 * (tile % kBarriers), (tile / kBarriers) & 1);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t packed[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float a = value[i][2 * j], b = value[i][2 * j + 1];
                largest = max(largest, max(__float_as_uint(a) & 0x7fffffffu,
                                           __float_as_uint(b) & 0x7fffffffu));
                const __half2 h = __floats2half2_rn(a * args.x_scale, b * args.x_scale);
                packed[j] = *(const uint32_t *)&h;
            }
            if (slot < 0)
                continue;
            const uint32_t to = ring + ((first_group + 2 * i) * g.ring_pitch + ring_slot) * 16u;
            shared_store(to, packed);
            if (ring_slot < kTilePixels - 1) /* the ring's first slots again behind its end */
                shared_store(to + g.ring_slots * 16u, packed);
        }
        if (track_max) { /* the largest magnitude by image, for gpu/fused_repair.cuh */
            const int mine = inside ? (int)image : -1;
            const int lead =
                __shfl_sync(~0u, mine, __ffs(__ballot_sync(~0u, inside) | 0x80000000u) - 1);
            if (__all_sync(~0u, mine == lead || mine == -1)) {
                const uint32_t m = __reduce_max_sync(~0u, mine == -1 ? 0 : largest);
                if (lane == 0 && lead >= 0)
                    atomicMax(args.image_max + lead, m);
            } else if (mine >= 0) {
                atomicMax(args.image_max + mine, largest);
            }
        }
        if (t >= 0) {
            fence_proxy_async();
            barrier_arrive_warp(full + 8 * (t % kBarriers));
        }
    }
}

/* ---- consumer: matrix products, epilogue, stores -------------------------------------------- */

/* d[64, 256] = a tile's patches times the block's weights. `base` is the ring slot of patch 0. */
static __device__ __forceinline__ void multiply(float (&d)[kColumns / 2],
                                                const struct fused_geometry &g, uint32_t weights,
                                                uint32_t ring, uint32_t base, int taps_h)
{
    const uint64_t a0 = wgmma_descriptor(ring, g.ring_pitch * 16u, 128);
    const uint64_t b0 = wgmma_descriptor(weights, kColumns * 16u, 128);
    int accumulate = 0;
    wgmma_fence();
#pragma unroll 1
    for (int tap = 0; tap < taps_h * g.taps_w; tap++) {
        uint32_t slot = base + g.shift[tap];
        slot = slot >= g.ring_slots ? slot - g.ring_slots : slot;
        uint64_t a = a0 + slot;
        uint64_t b = b0 + tap * kChannelGroups * kColumns;
#pragma unroll
        for (int group = 0; group < kChannelGroups; group += 2) {
            wgmma<kColumns>::run(d, a, b, accumulate);
            accumulate = 1;
            a += 2 * g.ring_pitch;
            b += 2 * kColumns;
        }
    }
    wgmma_commit();
    wgmma_wait<0>();
}

/* Logits -> softmax -> sigmoid -> y. logit_bias is conv_bias * log2(e), sigmoid_bias is
 * -scale * bias * log2(e); `stage` is the warp's own. */
template <bool kPairs>
static __device__ __forceinline__ void
epilogue(float (&d)[kColumns / 2], const struct fused_args &args, const float *logit_bias,
         const float *sigmoid_bias, float *stage, uint32_t first_patch, int phase_h)
{
    constexpr int kSteps = kColumns / 8; /* j of the fragment */
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int quad = lane & 3, row = lane >> 2;

    /* Base-2 logits and their maximum; i: (row, phase) of (g, 0), (g, 1), (g + 8, 0), (g + 8, 1).
     */
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
    const int out_row = ((int)patch_row + g.first_patch_row) * 2 + phase_h - g.padding_h;
    const int out_col = ((int)(patch_col + strip * g.strip_patches) + g.first_patch_col) * 2 +
                        (lane & 1) - g.padding_w;
    const bool valid = (int)image < g.images && (int)patch_col < g.strip_patches && out_row >= 0 &&
                       out_row < g.output_h && out_col >= 0 && out_col < g.output_w;
    const int64_t plane = g.output_plane;
    float *target =
        args.y + (int64_t)image * g.out_channels * plane + (int64_t)out_row * g.output_w + out_col;

    constexpr int kChunkSteps = kStageChannels / 4;
    constexpr int kChunks = kSteps / kChunkSteps;
    const float *my_bias = sigmoid_bias + quad;
    float *write_to = stage + quad * kStagePitch + 2 * row;
    const float *read_from = stage + lane;
    float b[kChunkSteps];
#pragma unroll
    for (int k = 0; k < kChunkSteps; k++)
        b[k] = my_bias[4 * k];
#pragma unroll
    for (int chunk = 0; chunk < kChunks; chunk++) {
        const int buffer = (chunk & 1) * kStageFloats;
        float out[kChunkSteps][4];
#pragma unroll
        for (int k = 0; k < kChunkSteps; k++) {
            float u[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                u[i] = 1.0f + fast_exp2(fmaf(d[4 * (chunk * kChunkSteps + k) + i], sum[i], b[k]));
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                if (kPairs) {
                    const float r = fast_reciprocal(u[i] * u[i + 1]);
                    out[k][i] = r * u[i + 1];
                    out[k][i + 1] = r * u[i];
                } else {
                    out[k][i] = fast_reciprocal(u[i]);
                    out[k][i + 1] = fast_reciprocal(u[i + 1]);
                }
            }
        }
        /* NOTE: the next chunk's loads before this chunk's stores, which they may not pass. */
        if (chunk + 1 < kChunks) {
#pragma unroll
            for (int k = 0; k < kChunkSteps; k++)
                b[k] = my_bias[4 * ((chunk + 1) * kChunkSteps + k)];
        }
#pragma unroll
        for (int k = 0; k < kChunkSteps; k++)
#pragma unroll
            for (int i = 0; i < 4; i += 2)
                *(float2 *)(write_to + buffer + 4 * k * kStagePitch + 8 * i) =
                    make_float2(out[k][i], out[k][i + 1]);
        __syncwarp();
        float line[kStageChannels];
#pragma unroll
        for (int c = 0; c < kStageChannels; c++)
            line[c] = read_from[buffer + c * kStagePitch];
        if ((chunk + 1) * kStageChannels <= g.out_channels) {
            if (valid) {
#pragma unroll
                for (int c = 0; c < kStageChannels; c++) {
                    *target = line[c];
                    target += plane;
                }
            }
        } else {
#pragma unroll
            for (int c = 0; c < kStageChannels; c++) {
                if (valid && chunk * kStageChannels + c < g.out_channels)
                    *target = line[c];
                target += plane;
            }
        }
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

template <bool kPairs>
static __global__ void __launch_bounds__(kThreads, 1)
    fused_tile_kernel(const __grid_constant__ struct fused_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(128) uint8_t shared[];
    const struct fused_geometry &g = args.geometry;
    const struct fused_layout layout = fused_layout_make(&g);
    const uint32_t base = shared_address(shared);
    float *logit_bias = (float *)(shared + layout.params);
    float *sigmoid_bias = logit_bias + kChannels;
    const uint32_t full = base + layout.barriers;
    const uint32_t done = full + 8 * kBarriers;
    const uint32_t loaded = done + 8 * kBarriers;

    const int phase_h = blockIdx.x & 1;
    const int share = blockIdx.x >> 1, shares = gridDim.x >> 1;
    const int64_t first_tile = (int64_t)g.tiles * share / shares;
    const int tiles = (int)((int64_t)g.tiles * (share + 1) / shares - first_tile);

    if (threadIdx.x == 0) {
        for (int i = 0; i < kBarriers; i++) {
            barrier_init(full + 8 * i, 4 * kWarpArrivals);
            barrier_init(done + 8 * i, 4 * kWarpArrivals);
        }
        barrier_init(loaded, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        fence_proxy_async();
        const uint32_t bytes = layout.ring - layout.weights;
        barrier_expect(loaded, bytes);
        const uint8_t *from = (const uint8_t *)args.weights + (int64_t)phase_h * bytes;
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
        produce(args, base + layout.ring, full, done, first_tile * kTilePixels, tiles,
                phase_h == 0);
    } else {
        registers_grow<kConsumerRegisters>();
        const int warp = threadIdx.x / 32;
        float *stage = (float *)(shared + layout.stage) + warp * 2 * kStageFloats;
        /* a row phase with a tap less skips it; with none, zero weights stand for it */
        const int taps_h = max(1, (g.kernel_h - phase_h + 1) / 2);
        barrier_wait(loaded, 0);
        for (int t = group; t < tiles; t += kConsumerGroups) {
            float d[kColumns / 2];
            barrier_wait(full + 8 * (t % kBarriers), (t / kBarriers) & 1);
            multiply(d, g, base + layout.weights, base + layout.ring,
                     (uint32_t)(t * kTilePixels) % g.ring_slots, taps_h);
            barrier_arrive_warp(done + 8 * (t % kBarriers));
            epilogue<kPairs>(d, args, logit_bias, sigmoid_bias, stage,
                             (uint32_t)((first_tile + t) * kTilePixels), phase_h);
        }
    }
#endif
}

/* `pairs`: no 1 + exp(-z) can exceed 2^60. */
static fused_kernel_pointer fused_kernel(bool pairs)
{
    return pairs ? fused_tile_kernel<true> : fused_tile_kernel<false>;
}

#endif
