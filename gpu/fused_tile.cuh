/* The fused tile kernel (draft header; rewritten below when measured). */
#ifndef ASSAY_GPU_FUSED_TILE_CUH
#define ASSAY_GPU_FUSED_TILE_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_geometry.h"
#include "gpu/wgmma.cuh"

constexpr int kTilePixels = 64;    /* patches in a tile: the rows of the instruction */
constexpr int kGroupChannels = 64; /* output channels of one warpgroup, in both column phases */
constexpr int kColumns = 2 * kGroupChannels;
constexpr int kConsumers = 4;      /* warpgroups that multiply */
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr int kStageChannels = 8; /* channels staged at a time */
constexpr int kStagePitch = 136;  /* floats a channel: the tile's 128, and 8 against bank conflicts */
constexpr int kWarpPitch = 40;    /* the same for a warp's own 32 */
constexpr int kStageFloats = kStageChannels * kStagePitch;
constexpr int kSector = 8;        /* floats of a 32-byte sector of the L2 cache */
constexpr int kCarryFloats = kGroupChannels * kSector;
constexpr int kChannelGroups = 8; /* of eight input channels */
constexpr uint32_t kSharedBytes = 227 * 1024;
constexpr int kBarriers = 4;
constexpr int kPrefetchTiles = 4;

enum store_form { STORE_LANES, STORE_RUNS, STORE_RUNS_FULL };

struct fused_args {
    const float *x;
    float *y;
    const __half *weights; /* [block of a tile][part][k / 8][column][8] */
    const float *conv_bias;
    const float *bias;
    uint32_t *image_max;   /* [images], bits of the largest |x| */
    float x_scale;         /* power of two */
    float descale;         /* log2(e) / (x_scale * weight_scale) */
    float scaling_factor;
    struct fused_geometry geometry;
};

/* kInBlock warpgroups of a block, or kInCluster blocks of a cluster, share a tile's channels. */
template <int kInBlock_, int kInCluster_, int kProducts_> struct fused_shape {
    static constexpr int kInBlock = kInBlock_;
    static constexpr int kInCluster = kInCluster_;
    static constexpr int kProducts = kProducts_;
    static constexpr int kParts = kProducts == 3 ? 2 : 1; /* high and low halves */
    static constexpr int kStreams = kConsumers / kInBlock; /* tiles in work at a time */
    static constexpr int kBlockColumns = kInBlock * kColumns;
    static constexpr int kSplits = kInBlock * kInCluster;
    static constexpr int kChannels = kSplits * kGroupChannels;
    static constexpr int kStages = kProducts == 3 ? 1 : 2; /* what shared memory has room for */
    static_assert(kInBlock == 1 || kInCluster == 1, "one way of sharing");
};

/* Shared memory, in bytes from its start. */
struct fused_layout {
    uint32_t weights, ring, stage, carry, exchange, params, barriers, total;
};

template <class S> static __host__ __device__ struct fused_layout fused_layout_make(const struct fused_geometry *g)
{
    struct fused_layout layout;
    layout.weights = 0;
    layout.ring = layout.weights + S::kParts * g->taps_h * g->taps_w * g->channel_groups * 16u * S::kBlockColumns;
    layout.stage = layout.ring + S::kParts * g->channel_groups * g->ring_pitch * 16u;
    layout.carry = layout.stage + kConsumers * S::kStages * kStageFloats * 4u;
    layout.exchange = layout.carry + S::kInBlock * 2 * kCarryFloats * 4u;
    /* [warp][buffer][32] of (maximum, sum) */
    layout.params = layout.exchange + (S::kSplits > 1 ? kConsumers * 4 * 2 * 256u : 0u);
    layout.barriers = layout.params + 2 * S::kInBlock * kGroupChannels * 4u;
    layout.total = layout.barriers + (2 * kBarriers + 1 + kConsumers * 4 * 2 + 2 * kBarriers) * 8u;
    return layout;
}

static __device__ __forceinline__ uint32_t fast_divide(uint32_t n, struct fast_divisor by)
{
    return by.divisor == 1 ? n : __umulhi(n, by.multiplier) >> by.shift;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

static __device__ __forceinline__ void shared_store(uint32_t to, const uint32_t (&v)[4])
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]),
                 "r"(v[2]), "r"(v[3])
                 : "memory");
}

/* *from where `on`, else 0; then from moves by `step` bytes. Volatile, so that loads are issued in the order
 * written and none waits for another's registers. */
static __device__ __forceinline__ float load_next(const float *&from, int64_t step, bool on)
{
    float v;
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %3, 0;\nmov.f32 %0, 0f00000000;\n"
                 "@p ld.global.nc.f32 %0, [%1];\nadd.s64 %1, %1, %2;\n}\n"
                 : "=f"(v), "+l"(from)
                 : "l"(step), "r"((int)on));
    return v;
}

static __device__ __forceinline__ void store_if(float *to, float v, bool on)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\n@p st.global.f32 [%0], %1;\n}\n" ::"l"(to),
                 "f"(v), "r"((int)on)
                 : "memory");
}

/* Where a slot's pixel lies in x; `inside` is false where it reads as zero. */
struct slot_place {
    int image;
    bool inside;
    const float *source; /* channel 0 */
};

static __device__ __forceinline__ struct slot_place place_slot(const struct fused_args &args, uint32_t index)
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
    at.source = args.x + (int64_t)image * g.in_channels * g.input_plane + (int64_t)row * g.width + col;
    return at;
}

/* ---- producer: x, NCHW fp32 -> ring, [channel / 8][slot][8] fp16 ------------------------------- */

/* A producer thread's part of a piece of 64 slots: one slot, four groups of eight channels. */
struct piece {
    float value[4][8];
    int slot;  /* from the block's first; negative before it */
    int image; /* -1 outside x */
};

static __device__ __forceinline__ void load_piece(struct piece &piece, const struct fused_args &args,
                                                  uint32_t first_slot, int t)
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

template <class S>
static __device__ __forceinline__ void produce(const struct fused_args &args, uint32_t ring,
                                               uint32_t full, uint32_t done, uint32_t first_slot,
                                               int tiles, bool track_max)
{
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int first_group = warp >> 1;
    const int pieces = (g.max_shift + kTilePixels - 1) / kTilePixels;
    const uint32_t part_bytes = g.channel_groups * g.ring_pitch * 16u;
    struct piece now, next;

    load_piece(next, args, first_slot, -pieces);
    for (int t = -pieces; t < tiles; t++) {
        now = next;
        if (t + 1 < tiles)
            load_piece(next, args, first_slot, t + 1);
        /* The lines of a later piece into L2: 32 slots apart, so every line of a row is met. */
        {
            const int thread = threadIdx.x & 127;
            const struct slot_place ahead = place_slot(
                args, first_slot + (t + kPrefetchTiles) * kTilePixels + g.max_shift + (thread & 1) * 32);
            if (ahead.inside && (thread >> 1) < g.in_channels)
                asm volatile("prefetch.global.L2 [%0];" ::"l"(ahead.source + (thread >> 1) * g.input_plane));
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
                const float a = now.value[i][2 * j] * args.x_scale, b = now.value[i][2 * j + 1] * args.x_scale;
                const __half2 h = __floats2half2_rn(a, b);
                high[j] = *(const uint32_t *)&h;
                if (S::kParts == 2) {
                    const __half2 l = __floats2half2_rn(a - __low2float(h), b - __high2float(h));
                    low[j] = *(const uint32_t *)&l;
                }
            }
            if (now.slot >= 0) {
                shared_store(to, high);
                if (S::kParts == 2)
                    shared_store(to + part_bytes, low);
                if (ring_slot < kTilePixels - 1) { /* the ring's first slots again behind its end */
                    shared_store(to + g.ring_slots * 16u, high);
                    if (S::kParts == 2)
                        shared_store(to + g.ring_slots * 16u + part_bytes, low);
                }
            }
            to += 2 * g.ring_pitch * 16u;
        }
        if (t >= 0) {
            fence_proxy_async();
            __syncwarp();
            if (lane == 0)
                barrier_arrive(full + 8 * (t % kBarriers));
        }
        if (track_max) { /* the largest magnitude by image */
            uint32_t largest = 0;
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 8; j++)
                    largest = max(largest, __float_as_uint(now.value[i][j]) & 0x7fffffffu);
            const int lead = __shfl_sync(~0u, now.image,
                                         __ffs(__ballot_sync(~0u, now.image >= 0) | 0x80000000u) - 1);
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

/* ---- consumer: matrix products, epilogue, stores ----------------------------------------------- */

template <class S>
static __device__ __forceinline__ void multiply(float (&d)[kColumns / 2], const struct fused_geometry &g,
                                                uint32_t weights, uint32_t ring, uint32_t base, int taps)
{
    constexpr int kGroups = kChannelGroups;
    const uint32_t ring_part = kGroups * g.ring_pitch; /* in 16 bytes */
    const uint32_t weight_part = g.taps_h * g.taps_w * kGroups * S::kBlockColumns;
    const uint64_t a0 = wgmma_descriptor(ring, g.ring_pitch * 16u, 128);
    const uint64_t b0 = wgmma_descriptor(weights, S::kBlockColumns * 16u, 128);
    const int steps = S::kProducts * taps;
    int step = 0, tap = 0;
    /* low * high, high * low, then high * high: small terms first */
    uint32_t a_part = S::kProducts == 3 ? ring_part : 0, b_part = 0;
    do {
        uint32_t slot = base + g.shift[tap];
        slot = slot >= g.ring_slots ? slot - g.ring_slots : slot;
        uint64_t a = a0 + a_part + slot;
        uint64_t b = b0 + b_part + tap * kGroups * S::kBlockColumns;
        wgmma_fence();
#pragma unroll
        for (int group = 0; group < kGroups; group += 2) {
#ifndef DEV_NOMMA
            wgmma<kColumns>::run(d, a, b, step + group);
#endif
            a += 2 * g.ring_pitch;
            b += 2 * S::kBlockColumns;
        }
        step++;
        if (++tap == taps) {
            tap = 0;
            a_part = 0;
            b_part = step == taps ? weight_part : 0;
        }
    } while (step < steps);
    wgmma_commit();
    wgmma_wait<0>();
}

/* Softmax's (maximum, sum) over this warpgroup's channels -> over all channels of the tile.
 * Lane (g, quad) holds pixel i = 0..3 of row g; it sends the one with i = quad. On return factor[i]
 * = 2^(own maximum - common maximum) / common sum. */
template <class S>
static __device__ __forceinline__ void combine(const float (&maximum)[4], const float (&sum)[4], float (&factor)[4],
                                               uint32_t exchange, uint32_t arrived, int turn, int half,
                                               int partner_barrier)
{
    const int lane = threadIdx.x & 31, quad = lane & 3;
    const float m = quad & 2 ? (quad & 1 ? maximum[3] : maximum[2]) : (quad & 1 ? maximum[1] : maximum[0]);
    const float s = quad & 2 ? (quad & 1 ? sum[3] : sum[2]) : (quad & 1 ? sum[1] : sum[0]);
    const uint32_t buffer = exchange + (turn & 1) * 256;
    float other[8];
    uint32_t from;
    if (S::kInBlock == 2) {
        /* exchange: [half][buffer][lane]; two warps meet */
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(buffer + half * 512 + lane * 8), "f"(m), "f"(s)
                     : "memory");
        named_barrier(partner_barrier, 64);
        from = buffer + (half ^ 1) * 512;
    } else {
        uint32_t to, bar;
        const uint32_t mine = arrived + (turn & 1) * 8;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(buffer + lane * 8), "r"(half ^ 1));
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(bar) : "r"(mine), "r"(half ^ 1));
        if (lane == 0)
            barrier_expect(mine, 256);
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to),
                     "f"(m), "f"(s), "r"(bar)
                     : "memory");
        barrier_wait(mine, (turn >> 1) & 1);
        from = buffer;
    }
    from += (lane >> 2) * 32;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(other[0]), "=f"(other[1]), "=f"(other[2]), "=f"(other[3])
                 : "r"(from)
                 : "memory");
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(other[4]), "=f"(other[5]), "=f"(other[6]), "=f"(other[7])
                 : "r"(from + 16)
                 : "memory");
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float common = fmaxf(maximum[i], other[2 * i]);
        const float own = fast_exp2(maximum[i] - common), theirs = fast_exp2(other[2 * i] - common);
        factor[i] = __fdividef(own, fmaf(sum[i], own, other[2 * i + 1] * theirs));
    }
}

/* Sigmoids of one step of the fragment: e[i] * factor[i] = -scale p log2(e), bias = -scale bias
 * log2(e). */
template <bool kPairs>
static __device__ __forceinline__ void sigmoids(float (&out)[4], const float *e, const float (&factor)[4], float bias)
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

/* What a consumer warpgroup knows of its place. */
struct group_place {
    const float *logit_bias, *sigmoid_bias;
    float *stage, *carry;
    uint32_t exchange, arrived, carried;
    int half;            /* which 64 channels of the tile */
    int partner_barrier; /* for two warps that share rows */
    int group_barrier;   /* for the warpgroup */
    int phase_h;
};

/* Patch -> output: image, row, the column of its first phase. */
struct patch_place {
    int image, row, col;
    int patch_col; /* in its strip */
    int strip_col; /* the first output column of the strip, at least 0 */
};

static __device__ __forceinline__ struct patch_place place_patch(const struct fused_geometry &g, uint32_t index,
                                                                 int phase_h)
{
    const uint32_t image_strip = fast_divide(index, g.divide_image);
    const uint32_t rest = index - image_strip * g.divide_image.divisor;
    const uint32_t patch_row = fast_divide(rest, g.divide_pitch);
    const uint32_t image = fast_divide(image_strip, g.divide_strips);
    const int strip = image_strip - image * g.divide_strips.divisor;
    const int origin = (strip * g.strip_patches + g.first_patch_col) * 2 - g.padding_w;
    struct patch_place at;
    at.image = (int)image;
    at.patch_col = rest - patch_row * g.pitch;
    at.row = ((int)patch_row + g.first_patch_row) * g.stride_h + phase_h - g.padding_h;
    at.col = origin + at.patch_col * 2;
    at.strip_col = max(origin, 0);
    return at;
}

/* Each lane stores output column `lane` of its warp's 32, channel by channel: for rows so short that
 * a tile spans many. */
template <bool kPairs>
static __device__ __forceinline__ void store_lanes(const float (&d)[kColumns / 2], const struct fused_args &args,
                                                   const struct group_place &at, const float (&factor)[4],
                                                   uint32_t first_patch)
{
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int quad = lane & 3, row = lane >> 2;
    const struct patch_place to = place_patch(g, first_patch + 16 * warp + (lane >> 1), at.phase_h);
    const int col = to.col + (lane & 1);
    const bool valid = to.image < g.images && to.patch_col < g.strip_patches && to.row >= 0 &&
                       to.row < g.output_h && col >= 0 && col < g.output_w;
    const int first_channel = at.half * kGroupChannels;
    float *target = args.y + ((int64_t)to.image * g.out_channels + first_channel) * g.output_plane +
                    (int64_t)to.row * g.output_w + col;
    float *stage = at.stage + warp * kStageChannels * kWarpPitch / 2;
    static_assert(4 * kStageChannels * kWarpPitch / 2 <= kStageFloats, "warps' stages");

#pragma unroll
    for (int j = 0; j < kColumns / 8; j++) { /* four channels at a time */
        float out[4];
        sigmoids<kPairs>(out, d + 4 * j, factor, at.sigmoid_bias[4 * j + quad]);
#pragma unroll
        for (int i = 0; i < 4; i += 2)
            *(float2 *)(stage + quad * kWarpPitch + 2 * row + 8 * i) = make_float2(out[i], out[i + 1]);
        __syncwarp();
        float line[4];
#pragma unroll
        for (int c = 0; c < 4; c++)
            line[c] = stage[c * kWarpPitch + lane];
        __syncwarp();
#pragma unroll
        for (int c = 0; c < 4; c++) {
            store_if(target, line[c], valid && first_channel + 4 * j + c < g.out_channels);
            target += g.output_plane;
        }
    }
}

/* Consecutive outputs of one row among a tile's 128 positions (patch, phase). `at` is where position
 * 0 would be, in the group's first channel. */
struct run {
    float *at;
    int first, last; /* positions */
    int extend;      /* outputs of the row that the tile before has left of `first` */
    bool hold;       /* the tile after this one goes on with the row */
};

static __device__ __forceinline__ struct run run_make(const struct fused_args &args, const struct group_place &place,
                                                      uint32_t first_patch, int from, int end)
{
    const struct fused_geometry &g = args.geometry;
    const struct patch_place to = place_patch(g, first_patch + from, place.phase_h);
    const int patches = min(end - from, g.strip_patches - to.patch_col);
    const bool valid = patches > 0 && to.image < g.images && to.row >= 0 && to.row < g.output_h;
    struct run run;
    run.at = args.y + ((int64_t)to.image * g.out_channels + place.half * kGroupChannels) * g.output_plane +
             (int64_t)to.row * g.output_w + to.col - 2 * from;
    run.first = 2 * from + max(0, -to.col);
    run.last = valid ? 2 * from + min(2 * patches, g.output_w - to.col) : run.first;
    run.extend = from == 0 ? max(0, to.col - to.strip_col) : 0;
    run.hold = from + patches == kTilePixels && to.patch_col + patches < g.strip_patches &&
               to.col + 2 * patches < g.output_w;
    return run;
}

/* Stores a run of two channels (`second` floats apart in y) in windows of 32 that begin at sectors.
 * A sector that two tiles share is stored whole, by the later one. */
static __device__ __forceinline__ void store_run(const struct run &run, float *at, int64_t second, bool both,
                                                 const float *stage, const float *carry, bool follows,
                                                 bool followed)
{
    const int lane = threadIdx.x & 31;
    if (run.last <= run.first)
        return;
    const int mis = ((uintptr_t)(at + run.first) >> 2) & (kSector - 1);
    const int head = follows ? min(mis, run.extend) : 0;
    const int first = run.first - head;
    const int tail = followed && run.hold ? ((uintptr_t)(at + run.last) >> 2) & (kSector - 1) : 0;
    const int last = run.last - tail;
    const int start = run.first - mis;
    const int p = start + lane;
    float *to = at + p;
#pragma unroll
    for (int i = 0; i < 5; i++) {
        if (start + 32 * i >= last)
            break;
        const bool on = p + 32 * i >= first && p + 32 * i < last;
        const float *from0 = stage + p, *from1 = stage + 4 * kStagePitch + p;
        if (i == 0) {
            from0 = p < 0 ? carry + kSector + p : from0;
            from1 = p < 0 ? carry + 32 * kSector + kSector + p : from1;
        }
        const float v0 = from0[32 * i], v1 = from1[32 * i];
        store_if(to + 32 * i, v0, on);
        store_if(to + second + 32 * i, v1, on && both);
    }
}

/* The warpgroup stages eight channels at a time, all 128 positions, and stores each row's part by
 * sectors. NOTE: a sector written in two parts costs several times one written whole, so the last
 * eight positions of each channel go to the tile that follows, which stores the shared sector. */
template <class S, bool kPairs, bool kFull>
static __device__ __forceinline__ void store_runs(const float (&d)[kColumns / 2], const struct fused_args &args,
                                                  const struct group_place &at, const float (&factor)[4], int t,
                                                  bool last_tile, uint32_t first_patch)
{
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int quad = lane & 3, row = lane >> 2;
    const struct patch_place start = place_patch(g, first_patch, at.phase_h);
    const int next_row = min((int)g.pitch - start.patch_col, kTilePixels); /* its first patch in the tile */
    struct run run0 = run_make(args, at, first_patch, 0, next_row);
    struct run run1 = run_make(args, at, first_patch, next_row, kTilePixels);
    const int64_t step = 4 * g.output_plane, second = 32 * g.output_plane;
    float *at0 = run0.at + warp * g.output_plane, *at1 = run1.at + warp * g.output_plane;
    const int first_channel = at.half * kGroupChannels + warp;
    const bool carries = warp == 3 && row >= 4; /* holds positions 120 .. 127 */
    float *carry_to = at.carry + (t & 1) * kCarryFloats + quad * kSector + 2 * (row - 4);
    const float *carry_from = at.carry + (~t & 1) * kCarryFloats + warp * kSector;
    float *write_to = at.stage + quad * kStagePitch + 32 * warp + 2 * row;

    if (t > 0)
        /* NOTE: as many barriers as tiles may be in work, or a tile that is early would see an older
         * phase of the same parity as complete. */
        barrier_wait(at.carried + 8 * ((t - 1) % kBarriers), ((t - 1) / kBarriers) & 1);
    float out[2][4];
    sigmoids<kPairs>(out[0], d, factor, at.sigmoid_bias[quad]);
    sigmoids<kPairs>(out[1], d + 32, factor, at.sigmoid_bias[32 + quad]);
#pragma unroll
    for (int chunk = 0; chunk < kGroupChannels / kStageChannels; chunk++) {
        /* channels 4 chunk + quad and 32 more, which lie alike in their sectors */
        const int buffer = chunk % S::kStages * kStageFloats;
#pragma unroll
        for (int k = 0; k < 2; k++) {
#pragma unroll
            for (int i = 0; i < 4; i += 2)
                *(float2 *)(write_to + buffer + 4 * k * kStagePitch + 8 * i) = make_float2(out[k][i], out[k][i + 1]);
            if (carries)
                *(float2 *)(carry_to + (4 * chunk + 32 * k) * kSector) = make_float2(out[k][2], out[k][3]);
        }
        named_barrier(at.group_barrier, 128);
        if ((chunk + 1) * 4 < 32) {
            const int j = chunk + 1;
            sigmoids<kPairs>(out[0], d + 4 * j, factor, at.sigmoid_bias[4 * j + quad]);
            sigmoids<kPairs>(out[1], d + 4 * j + 32, factor, at.sigmoid_bias[4 * j + 32 + quad]);
        }
        const int channel = first_channel + 4 * chunk;
        if (kFull || channel < g.out_channels) {
            const bool both = kFull || channel + 32 < g.out_channels;
            const float *from = at.stage + buffer + warp * kStagePitch;
            const float *carry = carry_from + 4 * chunk * kSector;
            store_run(run0, at0, second, both, from, carry, t > 0, !last_tile);
            store_run(run1, at1, second, both, from, carry, false, !last_tile);
        }
        at0 += step;
        at1 += step;
        if (S::kStages == 1)
            named_barrier(at.group_barrier, 128);
    }
    __syncwarp();
    if (lane == 0)
        barrier_arrive(at.carried + 8 * (t % kBarriers));
}

template <class S, bool kPairs, int kStore>
static __device__ __forceinline__ void epilogue(float (&d)[kColumns / 2], const struct fused_args &args,
                                                const struct group_place &at, int t, int turn, bool last_tile,
                                                uint32_t first_patch)
{
    const float *const logit_bias = at.logit_bias;
    constexpr int kSteps = kColumns / 8; /* j of the fragment */
    const struct fused_geometry &g = args.geometry;
    const int warp = (threadIdx.x / 32) & 3, lane = threadIdx.x & 31;
    const int quad = lane & 3, row = lane >> 2;

    /* Base-2 logits and their maximum; i: (row, phase) of (g, 0), (g, 1), (g + 8, 0), (g + 8, 1). */
    float maximum[4], sum[4], factor[4];
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
    if (S::kSplits == 2) {
        combine<S>(maximum, sum, factor, at.exchange, at.arrived, turn, at.half, at.partner_barrier);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) /* all channels at -inf is NaN */
            factor[i] = __fdividef(1.0f + 0.0f * maximum[i], sum[i]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        factor[i] *= -LOG2_E * args.scaling_factor; /* exp(-scale p) = 2^(factor e) */

    if (kStore == STORE_LANES)
        store_lanes<kPairs>(d, args, at, factor, first_patch);
    else
        store_runs<S, kPairs, kStore == STORE_RUNS_FULL>(d, args, at, factor, t, last_tile, first_patch);
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

template <class S, bool kPairs, int kStore>
__global__ void __launch_bounds__(kThreads, 1) fused_tile_kernel(const __grid_constant__ struct fused_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(128) uint8_t shared[];
    const struct fused_geometry &g = args.geometry;
    const struct fused_layout layout = fused_layout_make<S>(&g);
    const uint32_t base = shared_address(shared);
    float *logit_bias = (float *)(shared + layout.params);
    float *sigmoid_bias = logit_bias + S::kInBlock * kGroupChannels;
    const uint32_t full = base + layout.barriers;
    const uint32_t done = full + 8 * kBarriers;
    const uint32_t loaded = done + 8 * kBarriers;
    const uint32_t arrived = loaded + 8;
    const uint32_t carried = arrived + 8 * kConsumers * 4 * 2;

    const int rank = blockIdx.x % S::kInCluster;
    const int phase_h = blockIdx.x / S::kInCluster % g.stride_h;
    const int share = blockIdx.x / g.tile_blocks;
    const int shares = gridDim.x / g.tile_blocks;
    const int64_t first_tile = (int64_t)g.tiles * share / shares;
    const int tiles = (int)((int64_t)g.tiles * (share + 1) / shares - first_tile);

    if (threadIdx.x == 0) {
        for (int i = 0; i < kBarriers; i++) {
            barrier_init(full + 8 * i, 4);
            barrier_init(done + 8 * i, 4 * S::kInBlock);
        }
        barrier_init(loaded, 1);
        for (int i = 0; i < kConsumers * 4 * 2; i++)
            barrier_init(arrived + 8 * i, 1);
        for (int i = 0; i < 2 * kBarriers; i++)
            barrier_init(carried + 8 * i, 4);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        fence_proxy_async();
        const uint32_t bytes = layout.ring - layout.weights;
        barrier_expect(loaded, bytes);
        const uint8_t *from = (const uint8_t *)args.weights + (int64_t)(blockIdx.x % g.tile_blocks) * bytes;
        for (uint32_t at = 0; at < bytes; at += 16384)
            bulk_load(base + layout.weights + at, from + at, min(bytes - at, 16384u), loaded);
    }
    for (int i = threadIdx.x; i < S::kInBlock * kGroupChannels; i += kThreads) {
        const int c = rank * kGroupChannels + i;
        const bool real = c < g.out_channels;
        logit_bias[i] = real ? args.conv_bias[c] * LOG2_E : -INFINITY;
        sigmoid_bias[i] = real ? -LOG2_E * (args.scaling_factor * args.bias[c]) : 0.0f;
    }
    __syncthreads();
    if (S::kInCluster > 1)
        asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");

    const int group = __shfl_sync(~0u, threadIdx.x / 128, 0); /* known to be uniform */
    if (group == kConsumers) {
        produce<S>(args, base + layout.ring, full, done, (uint32_t)(first_tile * kTilePixels), tiles,
                   blockIdx.x % g.tile_blocks == 0);
    } else {
        const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
        const int stream = group / S::kInBlock;
        const int in_block = group % S::kInBlock;
        const int taps_h = phase_h + (g.taps_h - 1) * g.stride_h < g.kernel_h ? g.taps_h : g.taps_h - 1;
        struct group_place at;
        at.logit_bias = logit_bias + in_block * kGroupChannels;
        at.sigmoid_bias = sigmoid_bias + in_block * kGroupChannels;
        at.stage = (float *)(shared + layout.stage) + group * S::kStages * kStageFloats;
        at.carry = (float *)(shared + layout.carry) + in_block * 2 * kCarryFloats;
        /* in a block: the two warps of a tile's rows side by side; in a cluster: a warp's own */
        at.exchange = base + layout.exchange + (S::kInBlock == 2 ? (stream * 4 + (warp & 3)) * 1024 : warp * 512);
        at.arrived = arrived + warp * 16;
        at.carried = carried + in_block * 8 * kBarriers;
        at.half = S::kInCluster > 1 ? rank : in_block;
        at.partner_barrier = 1 + stream * 4 + (warp & 3);
        at.group_barrier = 12 + group;
        at.phase_h = phase_h;
        barrier_wait(loaded, 0);
        int turn = 0;
        for (int t = stream; t < tiles; t += S::kStreams, turn++) {
            float d[kColumns / 2];
            barrier_wait(full + 8 * (t % kBarriers), (t / kBarriers) & 1);
            multiply<S>(d, g, base + layout.weights + in_block * kColumns * 16, base + layout.ring,
                        (uint32_t)(t * kTilePixels) % g.ring_slots, taps_h * g.taps_w);
            if ((threadIdx.x & 31) == 0)
                barrier_arrive(done + 8 * (t % kBarriers));
            epilogue<S, kPairs, kStore>(d, args, at, t, turn, t + 1 == tiles, (uint32_t)((first_tile + t) * kTilePixels));
        }
    }
    if (S::kInCluster > 1) { /* a block's shared memory lives until its partner has sent */
        asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
    }
#endif
}

#endif
