/* The fused row kernel's warpgroups: matrix products and softmax (internal to gpu/;
 * gpu/fused_rows.cuh has the whole picture). */
#ifndef ASSAY_GPU_FUSED_ROWS_PRODUCTS_CUH
#define ASSAY_GPU_FUSED_ROWS_PRODUCTS_CUH

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_rows_args.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* The pixels (a, 0) of the patch rows from tile `g` - 1 on, which are for the first left
 * edge: a thread's two channels of one. By all threads that multiply. */
struct edge_pixels {
    const float *x;
    int slot, channel, channels; /* that exist, of the two */
};

static __device__ __forceinline__ struct edge_pixels edge_find(const struct rows_args &args, int g,
                                                               int thread)
{
    static_assert(kEdgeSlots * kChannelGroups * 4 <= kGroups * 128, "a pair of channels each");
    struct edge_pixels at;
    int image, row;
    at.slot = thread / 32;
    at.channel = thread % 32 * 2;
    const bool exists = rows_find(args, g - 1 + at.slot, image, row);
    at.x = args.x + ((int64_t)image * args.in_channels + at.channel) * args.input_plane +
           row * args.width;
    at.channels = exists && at.slot < kEdgeSlots ? args.in_channels - at.channel : 0;
    return at;
}

static __device__ __forceinline__ void edge_prefetch(const struct rows_args &args, int g,
                                                     int thread)
{
    const struct edge_pixels at = edge_find(args, g, thread);
#pragma unroll
    for (int q = 0; q < 2; q++)
        if (q < at.channels)
            prefetch_l2(at.x + q * args.input_plane);
}

/* Into the strip, [part][channel / 8][kEdgeSlots][8]. */
static __device__ __forceinline__ void edge_load(const struct rows_args &args, uint32_t strip,
                                                 int g, int thread)
{
    const struct edge_pixels at = edge_find(args, g, thread);
    float v[2];
    if (at.slot >= kEdgeSlots)
        return;
#pragma unroll
    for (int q = 0; q < 2; q++)
        v[q] = q < at.channels ? __ldg(at.x + q * args.input_plane) : 0.0f;
    __half2 high;
    const struct rows_pair pair = rows_pack(v[0], v[1], args.x_scale, high);
#pragma unroll
    for (int part = 0; part < kParts; part++)
        shared_store(strip + part * rows_layout::kStripPart +
                         (at.channel / 8 * kEdgeSlots + at.slot) * 16 + at.channel % 8 * 2,
                     pair.part[part]);
}

/* The low word of a descriptor (gpu/wgmma.cuh); addresses are added to it in units of 16 bytes. */
static __device__ __forceinline__ uint32_t descriptor_low(uint32_t address, uint32_t k_stride)
{
    return (uint32_t)wgmma_descriptor(address, k_stride, 128);
}

static __device__ __forceinline__ uint64_t descriptor(uint32_t low)
{
    return (uint64_t)(128 / 16) << 32 | low;
}

/* One tap: K = 64. */
template <bool kFirst>
static __device__ __forceinline__ void multiply_tap(float (&d)[kColumns / 2], uint32_t a,
                                                    uint32_t a_step, uint32_t b)
{
#pragma unroll
    for (int group = 0; group < kChannelGroups; group += 2) {
        if (kFirst && group == 0)
            wgmma<kColumns>::start(d, descriptor(a), descriptor(b));
        else
            wgmma<kColumns>::run(d, descriptor(a), descriptor(b));
        a += a_step;
        b += 2 * kColumns;
    }
}

/* The weights that part `p` of x meets, p counted from the end: high with both halves, low with
 * high. */
constexpr uint32_t kWeightPart = FUSED_MAX_TAPS * kChannelGroups * kColumns; /* in 16 bytes */

/* d[64, 128] = a tile's patches times the weights. The tap (jh, jw) of patch m is slot m + taps_w -
 * 1 - jw of ring row `row` for jh = 1, of `row_after` for jh = 0. Weights of taps that do not exist
 * are zero; they meet pixels of the same patch. Of split operands low x high, high x low, high x
 * high: small terms meet before large ones. The products run on after the return, until wgmma_wait.
 */
static __device__ __forceinline__ void multiply(float (&d)[kColumns / 2],
                                                const struct rows_args &args, uint32_t weights,
                                                uint32_t ring, int row, int row_after)
{
    typedef struct rows_layout at_byte;
    constexpr uint32_t kStride = at_byte::kRingGroup, kRow = at_byte::kRingRow / 16;
    constexpr uint32_t kTap = kChannelGroups * kColumns;
    const uint32_t at = descriptor_low(ring, kStride);
    const uint32_t from = descriptor_low(weights, kColumns * 16);
    wgmma_fence();
#pragma unroll
    for (int jh = 1; jh >= 0; jh--) {
#pragma unroll
        for (int pass = 0; pass < 2 * kParts - 1; pass++) {
            const uint32_t a = at + (jh ? row : row_after) * kRow +
                               (kParts == 2 && pass == 0 ? at_byte::kRingPart / 16 : 0);
            const uint32_t b = from + 2 * jh * kTap + (kParts == 2 && pass == 1 ? kWeightPart : 0);
            if (jh == 1 && pass == 0)
                multiply_tap<true>(d, a + args.taps_w - 1, 2 * kStride / 16, b);
            else
                multiply_tap<false>(d, a + args.taps_w - 1, 2 * kStride / 16, b);
            multiply_tap<false>(d, a, 2 * kStride / 16, b + kTap);
        }
        wgmma_commit();
    }
}

/* The same for the left edge: patch m of tap (jh, 0) is slot m + 1 - jh of the strip. Rows
 * from kEdgeTiles on are of whatever lies behind it. */
static __device__ __forceinline__ void multiply_edge(float (&d)[kColumns / 2],
                                                     const struct rows_args &args, uint32_t weights,
                                                     uint32_t strip)
{
    constexpr uint32_t kStride = kEdgeSlots * 16;
    constexpr uint32_t kTap = kChannelGroups * kColumns;
    const uint32_t at = descriptor_low(strip, kStride);
    const uint32_t from = descriptor_low(weights, kColumns * 16);
    wgmma_fence();
#pragma unroll
    for (int pass = 0; pass < 2 * kParts - 1; pass++) {
        const uint32_t a = at + (kParts == 2 && pass == 0 ? rows_layout::kStripPart / 16 : 0);
        const uint32_t b = from + (kParts == 2 && pass == 1 ? kWeightPart : 0);
        if (pass == 0)
            multiply_tap<true>(d, a + 1, 2 * kStride / 16, b);
        else
            multiply_tap<false>(d, a + 1, 2 * kStride / 16, b);
        multiply_tap<false>(d, a + 2 - args.taps_h, 2 * kStride / 16, b + 2 * kTap);
    }
    wgmma_commit();
    wgmma_wait<0>();
}

/* What a warp knows of its trades of sums with the other blocks of the cluster. */
struct rows_trade {
    uint32_t exchange; /* where theirs arrive */
    uint32_t arrived;  /* the barrier that says so */
    uint32_t phase;    /* its */
    int rank;
};

/* Sums over this block's channels -> over all channels. A quad of lanes holds four values of row g,
 * (patch, column phase), for every row phase; lane t sends the t-th to the other blocks. What they
 * sent before was read when they were told to send: by `ready`, in its phase `parity`. */
template <int kCluster>
static __device__ __forceinline__ void combine(float (&sum)[kRowPhases][4],
                                               const struct rows_trade &trade, uint32_t ready,
                                               uint32_t parity)
{
    if (kCluster == 1)
        return;
    const int lane = lane_here(), quad = lane & 3;
    const bool turned = quad & 1; /* it holds the t-th at t ^ 1 */
    const uint32_t at = (lane >> 2) * 16 * kRowPhases;
    if (lane == 0)
        barrier_expect(trade.arrived, (kCluster - 1) * kTradeBytes);
    barrier_wait(ready, parity);
#pragma unroll
    for (int k = 0; k < kCluster - 1; k++) { /* to the block whose k-th we are */
        const int peer = (trade.rank + kCluster - 1 - k) % kCluster;
        const uint32_t to = cluster_map(trade.exchange + k * kTradeBytes + at + quad * 4, peer);
        const uint32_t to_barrier = cluster_map(trade.arrived, peer);
#pragma unroll
        for (int r = 0; r < kRowPhases; r++)
            cluster_store_async(to + r * 16, __float_as_uint(quad & 2 ? sum[r][2] : sum[r][0]),
                                to_barrier);
    }
    barrier_wait(trade.arrived, trade.phase);
#pragma unroll
    for (int k = 0; k < kCluster - 1; k++)
#pragma unroll
        for (int r = 0; r < kRowPhases; r++) {
            const float4 theirs = shared_load4(trade.exchange + k * kTradeBytes + at + r * 16);
            sum[r][0] += turned ? theirs.y : theirs.x;
            sum[r][1] += turned ? theirs.x : theirs.y;
            sum[r][2] += turned ? theirs.w : theirs.z;
            sum[r][3] += turned ? theirs.z : theirs.w;
        }
}

/* Logits, times log2(e) / (x_scale weight_scale) short of base 2 -> numerators of the softmax in e,
 * kEach of every channel and row phase, and their sums over the lane's channels. */
template <int kEach>
static __device__ __forceinline__ void
exponentials(float (&e)[kColumns / 8 * kEach], float (&sum)[kRowPhases][kEach],
             const struct rows_args &args, const float *logit_bias)
{
    const int quad = lane_here() & 3;
#pragma unroll
    for (int r = 0; r < kRowPhases; r++)
#pragma unroll
        for (int i = 0; i < kEach; i++)
            sum[r][i] = 0.0f;
#pragma unroll
    for (int j = 0; j < kBiasEach; j += 4) {
        const float4 four = *(const float4 *)(logit_bias + quad * kBiasPitch + j);
        const float b[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int r = 0; r < kRowPhases; r++)
#pragma unroll
                for (int i = 0; i < kEach; i++) {
                    float &v = e[kEach * ((j + k) * kRowPhases + r) + i];
                    exp2_in_place(v, args.descale, b[k]);
                    sum[r][i] += v;
                }
        asm volatile("" ::: "memory"); /* no more biases at once: registers are short */
    }
}

/* The factor of numerators, so that exp(-scale p) = 2^(factor e), from their sums over all
 * channels. No maximum was subtracted: false where a sum leaves the range in which none is needed.
 */
static __device__ __forceinline__ bool sum_to_factor(float &factor, float sum,
                                                     const struct rows_args &args)
{
    factor = -LOG2_E * args.scaling_factor * fast_reciprocal(sum);
    return sum >= kLeastSum && sum <= kMostSum;
}

/* A tile's numerators, in d, and factors. False: the image is to be computed again. */
template <int kCluster>
static __device__ __forceinline__ bool
softmax(float (&d)[kColumns / 2], float (&factor)[kRowPhases][4], const struct rows_args &args,
        const float *logit_bias, const struct rows_trade &trade, uint32_t ready, uint32_t parity)
{
    float sum[kRowPhases][4];
    bool in_range = true;
    exponentials<4>(d, sum, args, logit_bias);
#pragma unroll
    for (int r = 0; r < kRowPhases; r++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum[r][i] += __shfl_xor_sync(~0u, sum[r][i], 2);
#pragma unroll
        for (int i = 0; i < 4; i += 2) { /* lanes of the other order */
            const float a = __shfl_xor_sync(~0u, sum[r][i + 1], 1);
            const float b = __shfl_xor_sync(~0u, sum[r][i], 1);
            sum[r][i] += a;
            sum[r][i + 1] += b;
        }
    }
    combine<kCluster>(sum, trade, ready, parity);
#pragma unroll
    for (int r = 0; r < kRowPhases; r++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            in_range &= sum_to_factor(factor[r][i], sum[r][i], args);
    return in_range;
}

/* The same of a left edge, whose patches have one output of a row phase each, of column phase 1: of
 * d's rows g and g + 8 e[2j] and e[2j + 1]. */
template <int kCluster>
static __device__ __forceinline__ void
edge_softmax(float (&e)[kColumns / 4], float (&factor)[kRowPhases][2], bool (&in_range)[2],
             const float (&d)[kColumns / 2], const struct rows_args &args, const float *logit_bias,
             const struct rows_trade &trade, uint32_t ready, uint32_t parity)
{
    const int lane = lane_here(), tile = lane >> 2;
    const bool turned = lane & 1;
    in_range[0] = in_range[1] = true;
#pragma unroll
    for (int k = 0; k < kColumns / 4; k++) /* of no tile: nothing that could spread */
        e[k] = tile + k % 2 * 8 >= kEdgeTiles ? 0.0f : turned ? d[2 * k] : d[2 * k + 1];
    float sum[kRowPhases][2], both[kRowPhases][4];
    exponentials<2>(e, sum, args, logit_bias);
#pragma unroll
    for (int r = 0; r < kRowPhases; r++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            sum[r][i] += __shfl_xor_sync(~0u, sum[r][i], 1);
            sum[r][i] += __shfl_xor_sync(~0u, sum[r][i], 2);
            both[r][2 * i] = both[r][2 * i + 1] = sum[r][i];
        }
    combine<kCluster>(both, trade, ready, parity);
#pragma unroll
    for (int r = 0; r < kRowPhases; r++)
#pragma unroll
        for (int i = 0; i < 2; i++)
            in_range[i] &= sum_to_factor(factor[r][i],
                                         tile + 8 * i < kEdgeTiles ? both[r][2 * i] : 1.0f, args);
}

/* The biases of the lane's channels of a residue, loaded where this stands. */
struct rows_biases {
    float of[2 / kRowPhases];
};

static __device__ __forceinline__ struct rows_biases biases_load(const float *bias, int residue)
{
    struct rows_biases b;
    if (kRowPhases == 1) {
        const float2 two = shared_load2(shared_address(bias + 2 * residue));
        b.of[0] = two.x;
        b.of[kRowPhases == 1] = two.y;
    } else {
        b.of[0] = __uint_as_float(shared_load(shared_address(bias + residue)));
    }
    return b;
}

/* The outputs of one residue: of both halves of its lines, or of both row phases. */
template <bool kPairs>
static __device__ __forceinline__ void residue_sigmoids(float (&out)[8], const float *e,
                                                        const float (&factor)[kRowPhases][4],
                                                        const struct rows_biases &b)
{
    float(&low)[4] = *(float(*)[4])out, (&high)[4] = *(float(*)[4])(out + 4);
    sigmoids<kPairs>(low, e, factor[0], b.of[0]);
    sigmoids<kPairs>(high, e + 4, factor[kRowPhases - 1], b.of[kRowPhases == 1]);
}

/* The image of tile g is to be computed again, by gpu/fused_repair.cuh. */
static __device__ __forceinline__ void image_refuse(const struct rows_args &args, int g)
{
    if (g < args.tiles)
        atomicMax(args.image_max + fast_divide((uint32_t)g, args.divide_rows),
                  __float_as_uint(INFINITY));
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
