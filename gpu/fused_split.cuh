/* The fused tile kernel with split operands: transposed convolution by stride 2 on Hopper's tensor
 * cores in three products of fp16 halves, softmax over channels, bias, scale and sigmoid in its
 * epilogue (internal to gpu/; sm_90a).
 *
 *     x W ~ low(x) high(W) + high(x) low(W) + high(x) high(W)
 *     high(v) = fp16(v), low(v) = fp16(v - high(v))
 *
 * summed in that order in fp32, so that the small terms meet before the large ones. fp32 grade:
 * what is left out is low * low, 2^-22 of a product.
 *
 * A tile is 64 consecutive patches by one output row phase, in both column phases; K = taps x 64
 * input channels; gpu/fused_geometry.h has how patches and pixels are numbered. Tap (jh, jw) of a
 * patch starts shift[tap] slots later in the ring of x, [part][channel / 8][slot][8] fp16. Blocks
 * are persistent; a producer warpgroup fetches x, 64 slots at a time: a lane a slot, eight
 * coalesced loads to a 16-byte store, which is the transposition and the conversion at once.
 * mbarriers `full` and `done` hand the ring on. Each warp stages 8 channels x 32 outputs and writes
 * 128 contiguous bytes a channel. No bits depend on which tile a pixel is in.
 *
 * Both halves of the weights of 128 channels don't fit in a multiprocessor, so two blocks of a
 * cluster share a tile, 64 channels each (m64n128, 64 accumulators a thread):
 *
 *     block 0, channels 0 .. 63      block 1, channels 64 .. 127      the same 64 patches
 *        maximum, sum  ----- st.async, 8 bytes a pixel, each way -----  maximum, sum
 *
 * A warp sends its 32 pixels' (maximum, sum) to the warp of the same rows next door and finishes
 * the softmax when theirs are in: factor = 2^(own maximum - common) / common sum. Two buffers
 * suffice, since a warp sends its message after next only when the other has answered the next.
 *
 * Four consumer warpgroups take tiles in turn. The ring holds both halves of x. */
#ifndef ASSAY_GPU_FUSED_SPLIT_CUH
#define ASSAY_GPU_FUSED_SPLIT_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_common.cuh"
#include "gpu/wgmma.cuh"

constexpr int kTilePixels = 64; /* patches in a tile: the rows of the instruction */
constexpr int kBarriers = 4;    /* of each kind: no more tiles than that are in work */

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

constexpr int kClusterBlocks = 2;
constexpr int kBlockChannels = 64;
constexpr int kChannels = kClusterBlocks * kBlockChannels;
constexpr int kColumns = 2 * kBlockChannels;
constexpr int kParts = 2;
constexpr int kConsumers = 4; /* warpgroups that multiply */
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr int kStageChannels = 8;
constexpr int kStagePitch =
    40; /* floats a channel in a warp's stage: 32, and 8 against conflicts */
constexpr int kStageFloats = kStageChannels * kStagePitch;
constexpr int kRingDepth = 2;
constexpr int kPrefetchTiles = 4; /* how far ahead x is called into L2 */

static_assert(kConsumers <= kBarriers, "a barrier for each tile in work");

static inline __host__ __device__ struct fused_layout
fused_layout_make(const struct fused_geometry *g)
{
    struct fused_layout layout;
    layout.weights = 0;
    layout.ring = layout.weights + kParts * g->taps_h * g->taps_w * kChannelGroups * 16u * kColumns;
    layout.stage = layout.ring + kParts * kChannelGroups * g->ring_pitch * 16u;
    layout.exchange = layout.stage + kConsumers * 4 * kStageFloats * 4u;
    /* [warp][buffer][32] of (maximum, sum) */
    layout.params = layout.exchange + kConsumers * 4 * 2 * 256u;
    layout.barriers = layout.params + 2 * kBlockChannels * 4u;
    layout.total = layout.barriers + (2 * kBarriers + 1 + kConsumers * 4 * 2) * 8u;
    return layout;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Where a slot's pixel lies in x; `inside` is false where it reads as zero. */
struct slot_place {
    int image;
    bool inside;
    const float *source; /* channel 0 */
};

static __device__ __forceinline__ struct slot_place place_slot(const struct fused_args &args,
                                                               uint32_t index)
{
    const struct fused_geometry &g = args.geometry;
    const uint32_t image_strip = fast_divide(index, g.divide_image);
    const uint32_t rest = index - image_strip * g.divide_image.divisor;
    const uint32_t row_slot = fast_divide(rest, g.divide_pitch);
    const uint32_t image = fast_divide(image_strip, g.divide_strips);
    const int strip = image_strip - image * g.divide_strips.divisor;
    const int row = (int)row_slot + g.first_row;
    const int col = (int)(rest - row_slot * g.pitch) + strip * g.strip_patches + g.first_col;
    struct slot_place at;
    at.image = (int)image;
    at.inside = (int)image < g.images && row >= 0 && row < g.height && col >= 0 && col < g.width;
    at.source =
        args.x + (int64_t)image * g.in_channels * g.input_plane + (int64_t)row * g.width + col;
    return at;
}

/* ---- producer: x, NCHW fp32 -> ring, [channel / 8][slot][8] fp16 ---------------------------- */

/* A producer thread's part of a piece of 64 slots: one slot, four groups of eight channels. */
struct piece {
    float value[4][8];
    int slot;  /* from the block's first; negative before it */
    int image; /* -1 outside x */
};

static __device__ __forceinline__ void
load_piece(struct piece &piece, const struct fused_args &args, uint32_t first_slot, int t)
{
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int first_group = warp >> 1;
    const int slot = t * kTilePixels + g.max_shift + (warp & 1) * 32 + lane;
    const struct slot_place at = place_slot(args, first_slot + (slot < 0 ? 0 : slot));
    const bool inside = at.inside && slot >= 0;
    const float *source = at.source + (int64_t)first_group * 8 * g.input_plane;
    piece.slot = slot;
    piece.image = inside ? at.image : -1;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int left = inside ? g.in_channels - (first_group + 2 * i) * 8 : 0;
#pragma unroll
        for (int j = 0; j < 8; j++)
            piece.value[i][j] = load_next(source, g.input_plane * 4, j < left);
        source += 8 * g.input_plane;
    }
}

static __device__ __forceinline__ void produce(const struct fused_args &args, uint32_t ring,
                                               uint32_t full, uint32_t done, uint32_t first_slot,
                                               int tiles, bool track_max)
{
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int first_group = warp >> 1;
    const int pieces = (g.max_shift + kTilePixels - 1) / kTilePixels;
    const uint32_t part_bytes = kChannelGroups * g.ring_pitch * 16u;
    struct piece now, next;

    load_piece(next, args, first_slot, -pieces);
    for (int t = -pieces; t < tiles; t++) {
        now = next;
        if (t + 1 < tiles)
            load_piece(next, args, first_slot, t + 1);
        /* The lines of a later piece into L2: 32 slots apart, so every line of a row is met. */
        {
            const int thread = threadIdx.x & 127;
            const struct slot_place ahead =
                place_slot(args, first_slot + (t + kPrefetchTiles) * kTilePixels + g.max_shift +
                                     (thread & 1) * 32);
            if (ahead.inside && (thread >> 1) < g.in_channels)
                prefetch_l2(ahead.source + (thread >> 1) * g.input_plane);
        }
        if (t >= g.ring_depth) {
            const int tile = t - g.ring_depth;
            barrier_wait(done + 8 * (tile % kBarriers), (tile / kBarriers) & 1);
        }
        const uint32_t ring_slot = (uint32_t)(now.slot < 0 ? 0 : now.slot) % g.ring_slots;
        uint32_t to = ring + (first_group * g.ring_pitch + ring_slot) * 16u;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t high[4], low[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float a = now.value[i][2 * j] * args.x_scale,
                            b = now.value[i][2 * j + 1] * args.x_scale;
                const __half2 h = __floats2half2_rn(a, b);
                high[j] = *(const uint32_t *)&h;
                const __half2 l = __floats2half2_rn(a - __low2float(h), b - __high2float(h));
                low[j] = *(const uint32_t *)&l;
            }
            if (now.slot >= 0) {
                shared_store(to, high);
                shared_store(to + part_bytes, low);
                if (ring_slot < kTilePixels - 1) { /* the ring's first slots again behind its end */
                    shared_store(to + g.ring_slots * 16u, high);
                    shared_store(to + g.ring_slots * 16u + part_bytes, low);
                }
            }
            to += 2 * g.ring_pitch * 16u;
        }
        if (t >= 0) {
            fence_proxy_async();
            barrier_arrive_warp(full + 8 * (t % kBarriers));
        }
        if (track_max) { /* the largest magnitude by image */
            uint32_t largest = 0;
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 8; j++)
                    largest = max(largest, __float_as_uint(now.value[i][j]) & 0x7fffffffu);
            const int lead = __shfl_sync(
                ~0u, now.image, __ffs(__ballot_sync(~0u, now.image >= 0) | 0x80000000u) - 1);
            if (__all_sync(~0u, now.image == lead || now.image == -1)) {
                const uint32_t m = __reduce_max_sync(~0u, largest);
                if (lane == 0 && lead >= 0)
                    atomicMax(args.image_max + lead, m);
            } else if (now.image >= 0) {
                atomicMax(args.image_max + now.image, largest);
            }
        }
    }
}

/* ---- consumer: matrix products, epilogue, stores -------------------------------------------- */

static __device__ __forceinline__ void multiply(float (&d)[kColumns / 2],
                                                const struct fused_geometry &g, uint32_t weights,
                                                uint32_t ring, uint32_t base, int taps)
{
    const uint32_t ring_part = kChannelGroups * g.ring_pitch; /* in 16 bytes */
    const uint32_t weight_part = g.taps_h * g.taps_w * kChannelGroups * kColumns;
    const uint64_t a0 = wgmma_descriptor(ring, g.ring_pitch * 16u, 128);
    const uint64_t b0 = wgmma_descriptor(weights, kColumns * 16u, 128);
    int step = 0, tap = 0;
    uint32_t a_part = ring_part, b_part = 0;
    do {
        uint32_t slot = base + g.shift[tap];
        slot = slot >= g.ring_slots ? slot - g.ring_slots : slot;
        uint64_t a = a0 + a_part + slot;
        uint64_t b = b0 + b_part + tap * kChannelGroups * kColumns;
        wgmma_fence();
#pragma unroll
        for (int group = 0; group < kChannelGroups; group += 2) {
            wgmma<kColumns>::run(d, a, b, step + group);
            a += 2 * g.ring_pitch;
            b += 2 * kColumns;
        }
        step++;
        if (++tap == taps) {
            tap = 0;
            a_part = 0;
            b_part = step == taps ? weight_part : 0;
        }
    } while (step < 3 * taps);
    wgmma_commit();
    wgmma_wait<0>();
}

/* Softmax's (maximum, sum) over this block's channels -> over all channels of the tile.
 * Lane (g, quad) holds pixel i = 0..3 of row g; it sends the one with i = quad. On return factor[i]
 * = 2^(own maximum - common maximum) / common sum. */
static __device__ __forceinline__ void combine(const float (&maximum)[4], const float (&sum)[4],
                                               float (&factor)[4], uint32_t exchange,
                                               uint32_t arrived, int turn, int rank)
{
    const int lane = threadIdx.x & 31, quad = lane & 3;
    const float m =
        quad & 2 ? (quad & 1 ? maximum[3] : maximum[2]) : (quad & 1 ? maximum[1] : maximum[0]);
    const float s = quad & 2 ? (quad & 1 ? sum[3] : sum[2]) : (quad & 1 ? sum[1] : sum[0]);
    const uint32_t buffer = exchange + (turn & 1) * 256;
    const uint32_t mine = arrived + (turn & 1) * 8;
    const uint32_t to = cluster_map(buffer + lane * 8, rank ^ 1);
    const uint32_t bar = cluster_map(mine, rank ^ 1);
    if (lane == 0)
        barrier_expect(mine, 256);
    cluster_store_async(to, make_float2(m, s), bar);
    barrier_wait(mine, (turn >> 1) & 1);
    const uint32_t from = buffer + (lane >> 2) * 32;
    const float4 low = shared_load4(from), high = shared_load4(from + 16);
    const float other[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float common = fmaxf(maximum[i], other[2 * i]);
        const float own = fast_exp2(maximum[i] - common), theirs = fast_exp2(other[2 * i] - common);
        factor[i] = __fdividef(own, fmaf(sum[i], own, other[2 * i + 1] * theirs));
    }
}

/* What a consumer warp knows of its place. */
struct warp_place {
    const float *logit_bias, *sigmoid_bias;
    float *stage;
    uint32_t exchange, arrived;
    int rank, phase_h;
};

/* Logits -> softmax -> sigmoid -> y. */
template <bool kPairs>
static __device__ __forceinline__ void
epilogue(float (&d)[kColumns / 2], const struct fused_args &args, const struct warp_place &at,
         int turn, uint32_t first_patch)
{
    constexpr int kSteps = kColumns / 8; /* j of the fragment */
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int quad = lane & 3, row = lane >> 2;

    /* Base-2 logits and their maximum; i: (row, phase) of (g, 0), (g, 1), (g + 8, 0), (g + 8, 1).
     */
    float maximum[4], sum[4], factor[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        maximum[i] = -INFINITY;
#pragma unroll
    for (int j = 0; j < kSteps; j++) {
        const float b = at.logit_bias[4 * j + quad];
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
    for (int i = 0; i < 4; i++) {
        const float origin = exponent_origin(maximum[i]);
#pragma unroll
        for (int j = 0; j < kSteps; j++) {
            d[4 * j + i] = fast_exp2(d[4 * j + i] - origin);
            sum[i] += d[4 * j + i];
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
        sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
    }
    combine(maximum, sum, factor, at.exchange, at.arrived, turn, at.rank);
#pragma unroll
    for (int i = 0; i < 4; i++)
        factor[i] *= -LOG2_E * args.scaling_factor; /* exp(-scale p) = 2^(factor e) */

    /* Where this lane stores: output column `lane` of the warp's 32. */
    const uint32_t index = first_patch + 16 * warp + (lane >> 1);
    const uint32_t image_strip = fast_divide(index, g.divide_image);
    const uint32_t rest = index - image_strip * g.divide_image.divisor;
    const uint32_t patch_row = fast_divide(rest, g.divide_pitch);
    const uint32_t patch_col = rest - patch_row * g.pitch;
    const uint32_t image = fast_divide(image_strip, g.divide_strips);
    const uint32_t strip = image_strip - image * g.divide_strips.divisor;
    const int out_row = ((int)patch_row + g.first_patch_row) * 2 + at.phase_h - g.padding_h;
    const int out_col = ((int)(patch_col + strip * g.strip_patches) + g.first_patch_col) * 2 +
                        (lane & 1) - g.padding_w;
    const bool valid = (int)image < g.images && (int)patch_col < g.strip_patches && out_row >= 0 &&
                       out_row < g.output_h && out_col >= 0 && out_col < g.output_w;
    const int first_channel = at.rank * kBlockChannels;
    const int64_t plane = g.output_plane;
    float *target = args.y + ((int64_t)image * g.out_channels + first_channel) * plane +
                    (int64_t)out_row * g.output_w + out_col;

    const float *my_bias = at.sigmoid_bias + quad;
    float *write_to = at.stage + quad * kStagePitch + 2 * row;
    const float *read_from = at.stage + lane;
    constexpr int kChunks = kBlockChannels / kStageChannels;
    float out[2][4];
    sigmoids<kPairs>(out[0], d, factor, my_bias[0]);
    sigmoids<kPairs>(out[1], d + 4, factor, my_bias[4]);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; chunk++) {
#pragma unroll
        for (int k = 0; k < 2; k++)
#pragma unroll
            for (int i = 0; i < 4; i += 2)
                *(float2 *)(write_to + 4 * k * kStagePitch + 8 * i) =
                    make_float2(out[k][i], out[k][i + 1]);
        __syncwarp();
        float line[kStageChannels];
#pragma unroll
        for (int c = 0; c < kStageChannels; c++)
            line[c] = read_from[c * kStagePitch];
        if (chunk + 1 < kChunks) {
            const int j = 2 * (chunk + 1);
            sigmoids<kPairs>(out[0], d + 4 * j, factor, my_bias[4 * j]);
            sigmoids<kPairs>(out[1], d + 4 * j + 4, factor, my_bias[4 * j + 4]);
        }
        __syncwarp();
#pragma unroll
        for (int c = 0; c < kStageChannels; c++) {
            store_if(target, line[c],
                     valid && first_channel + chunk * kStageChannels + c < g.out_channels);
            target += plane;
        }
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

template <bool kPairs>
static __global__ void __launch_bounds__(kThreads, 1)
    fused_split_kernel(const __grid_constant__ struct fused_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    BLOCK_SHARED(shared);
    const struct fused_geometry &g = args.geometry;
    const struct fused_layout layout = fused_layout_make(&g);
    const uint32_t base = shared_address(shared);
    float *logit_bias = (float *)(shared + layout.params);
    float *sigmoid_bias = logit_bias + kBlockChannels;
    const uint32_t full = base + layout.barriers;
    const uint32_t done = full + 8 * kBarriers;
    const uint32_t loaded = done + 8 * kBarriers;
    const uint32_t arrived = loaded + 8;

    const int which = blockIdx.x % (2 * kClusterBlocks);
    const int rank = which % kClusterBlocks, phase_h = which / kClusterBlocks;
    const int share = blockIdx.x / (2 * kClusterBlocks), shares = gridDim.x / (2 * kClusterBlocks);
    const int64_t first_tile = (int64_t)g.tiles * share / shares;
    const int tiles = (int)((int64_t)g.tiles * (share + 1) / shares - first_tile);

    if (threadIdx.x == 0) {
        for (int i = 0; i < kBarriers; i++) {
            barrier_init(full + 8 * i, 4 * kWarpArrivals);
            barrier_init(done + 8 * i, 4 * kWarpArrivals);
        }
        barrier_init(loaded, 1);
        for (int i = 0; i < kConsumers * 4 * 2; i++)
            barrier_init(arrived + 8 * i, 1);
        barrier_init_fence();
        fence_proxy_async();
        const uint32_t bytes = layout.ring - layout.weights;
        barrier_expect(loaded, bytes);
        const uint8_t *from = (const uint8_t *)args.weights + (int64_t)which * bytes;
        for (uint32_t at = 0; at < bytes; at += 16384)
            bulk_load(base + layout.weights + at, from + at, min(bytes - at, 16384u), loaded);
    }
    for (int i = threadIdx.x; i < kBlockChannels; i += kThreads) {
        const int c = rank * kBlockChannels + i;
        const bool real = c < g.out_channels;
        logit_bias[i] = real ? args.conv_bias[c] * LOG2_E : -INFINITY;
        sigmoid_bias[i] = real ? -LOG2_E * (args.scaling_factor * args.bias[c]) : 0.0f;
    }
    __syncthreads();
    cluster_sync_aligned();

    const int group = __shfl_sync(~0u, threadIdx.x / 128, 0); /* known to be uniform */
    if (group == kConsumers) {
        produce(args, base + layout.ring, full, done, (uint32_t)(first_tile * kTilePixels), tiles,
                which == 0);
    } else {
        const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
        /* a row phase with a tap less skips it; with none, zero weights stand for it */
        const int taps_h = max(1, (g.kernel_h - phase_h + 1) / 2);
        struct warp_place at;
        at.logit_bias = logit_bias;
        at.sigmoid_bias = sigmoid_bias;
        at.stage = (float *)(shared + layout.stage) + warp * kStageFloats;
        at.exchange = base + layout.exchange + warp * 512;
        at.arrived = arrived + warp * 16;
        at.rank = rank;
        at.phase_h = phase_h;
        barrier_wait(loaded, 0);
        int turn = 0;
        for (int t = group; t < tiles; t += kConsumers, turn++) {
            float d[kColumns / 2];
            barrier_wait(full + 8 * (t % kBarriers), (t / kBarriers) & 1);
            multiply(d, g, base + layout.weights, base + layout.ring,
                     (uint32_t)(t * kTilePixels) % g.ring_slots, taps_h * g.taps_w);
            barrier_arrive_warp(done + 8 * (t % kBarriers));
            epilogue<kPairs>(d, args, at, turn, (uint32_t)((first_tile + t) * kTilePixels));
        }
    }
    /* a block's shared memory lives until its neighbour has sent */
    cluster_sync();
#endif
}

/* `pairs`: no 1 + exp(-z) can exceed 2^60. */
static fused_kernel_pointer fused_kernel(bool pairs)
{
    return pairs ? fused_split_kernel<true> : fused_split_kernel<false>;
}

#endif
