/* The fused row kernel's warpgroups: matrix products and softmax (internal to gpu/;
 * gpu/fused_rows.cuh has the whole picture). */
#ifndef ASSAY_GPU_FUSED_ROWS_PRODUCTS_CUH
#define ASSAY_GPU_FUSED_ROWS_PRODUCTS_CUH

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_rows_args.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* The pixels (a, 0) of the patch rows from tile `g` - (taps_h - 1) on into the strip,
 * [channel / 8][kEdgeSlots][8], of a stream's first left edge. By its 256 threads. */
static __device__ __forceinline__ void edge_load(const struct rows_args &args, uint32_t strip,
                                                 int g, int thread)
{
    constexpr int kUnits = kEdgeSlots * kChannelGroups * 4; /* pairs of channels */
#pragma unroll
    for (int k = 0; k < (kUnits + 255) / 256; k++) {
        const int unit = 256 * k + thread, slot = unit / 32, channel = unit % 32 * 2;
        int image, row;
        const bool exists = rows_find(args, g - (args.taps_h - 1) + slot, image, row);
        const float *x = args.x + ((int64_t)image * args.in_channels + channel) * args.input_plane +
                         row * args.width;
        float v[2];
#pragma unroll
        for (int q = 0; q < 2; q++)
            v[q] = exists && unit < kUnits && channel + q < args.in_channels
                       ? __ldg(x + q * args.input_plane)
                       : 0.0f;
        const uint32_t packed = rows_pack(v[0], v[1], args.x_scale);
        if (unit < kUnits)
            shared_store(strip + (channel / 8 * kEdgeSlots + slot) * 16 + channel % 8 * 2, packed);
    }
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

/* d[64, 128] = a tile's patches times the weights of one row phase. The tap (jh, jw) of patch m is
 * slot m + taps_w - 1 - jw of ring row `row` for jh = 1, the one after it for jh = 0. Weights of
 * taps that do not exist are zero; they meet pixels of the same patch. The products run on after
 * the return, until wgmma_wait. */
static __device__ __forceinline__ void multiply(float (&d)[kColumns / 2],
                                                const struct rows_args &args, uint32_t weights,
                                                uint32_t ring, int row, int row_after)
{
    constexpr uint32_t kStride = kRingRows * kSlots * 16;
    constexpr uint32_t kTap = kChannelGroups * kColumns;
    const uint32_t a = descriptor_low(ring, kStride);
    const uint32_t b = descriptor_low(weights, kColumns * 16);
    const uint32_t a0 = a + row_after * kSlots, a1 = a + row * kSlots;
    wgmma_fence();
    multiply_tap<true>(d, a0 + args.taps_w - 1, 2 * kStride / 16, b);
    multiply_tap<false>(d, a0, 2 * kStride / 16, b + kTap);
    multiply_tap<false>(d, a1 + args.taps_w - 1, 2 * kStride / 16, b + 2 * kTap);
    multiply_tap<false>(d, a1, 2 * kStride / 16, b + 3 * kTap);
    wgmma_commit();
}

/* The same for the left edge: patch m of tap (jh, 0) is slot m + taps_h - 1 - jh of the strip. Rows
 * from kEdgeTiles on are of whatever lies behind it. */
static __device__ __forceinline__ void multiply_edge(float (&d)[kColumns / 2],
                                                     const struct rows_args &args, uint32_t weights,
                                                     uint32_t strip)
{
    constexpr uint32_t kStride = kEdgeSlots * 16;
    constexpr uint32_t kTap = kChannelGroups * kColumns;
    const uint32_t a = descriptor_low(strip, kStride);
    const uint32_t b = descriptor_low(weights, kColumns * 16);
    wgmma_fence();
    multiply_tap<true>(d, a + args.taps_h - 1, 2 * kStride / 16, b);
    multiply_tap<false>(d, a, 2 * kStride / 16, b + 2 * kTap);
    wgmma_commit();
    wgmma_wait<0>();
}

/* Sums over this block's channels -> over all channels. A quad of lanes holds four values of row g,
 * (patch, column phase); lane t sends the t-th to the other block of the cluster. */
template <int kCluster>
static __device__ __forceinline__ void combine(float (&sum)[4], uint32_t exchange, uint32_t arrived,
                                               int turn, int rank)
{
    if (kCluster == 1)
        return;
    const int lane = lane_here(), quad = lane & 3;
    const bool high = quad & 2, odd = quad & 1;
    /* lanes of the turned order hold the t-th at t ^ 1 */
    const float mine = high ? (odd ? sum[2] : sum[3]) : (odd ? sum[1] : sum[0]);
    const uint32_t buffer = exchange + (turn & 1) * 128;
    const uint32_t barrier = arrived + (turn & 1) * 8;
    const uint32_t to = cluster_map(buffer + lane * 4, rank ^ 1);
    const uint32_t to_barrier = cluster_map(barrier, rank ^ 1);
    if (lane == 0)
        barrier_expect(barrier, 128);
    cluster_store_async(to, __float_as_uint(mine), to_barrier);
    barrier_wait(barrier, (turn >> 1) & 1);
    const float4 four = shared_load4(buffer + (lane >> 2) * 16);
    const float other[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum[i] += high ? other[i ^ 1] : other[i];
}

/* Logits, times log2(e) / (x_scale weight_scale) short of base 2 -> numerators of the softmax in d;
 * their factor, so that exp(-scale p) = 2^(factor d). No maximum is subtracted: false where a sum
 * leaves the range in which none is needed. */
template <int kCluster>
static __device__ __forceinline__ bool
softmax(float (&d)[kColumns / 2], float (&factor)[4], const struct rows_args &args,
        const float *logit_bias, uint32_t exchange, uint32_t arrived, int turn, int rank)
{
    constexpr int kSteps = kColumns / 8;
    const int quad = lane_here() & 3;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < kSteps; j += 4) {
        const float4 four = *(const float4 *)(logit_bias + quad * kBiasPitch + j);
        const float b[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float &e = d[4 * (j + k) + i];
                exp2_in_place(e, args.descale, b[k]);
                sum[i] += e;
            }
        asm volatile("" ::: "memory"); /* no more biases at once: registers are short */
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
#pragma unroll
    for (int i = 0; i < 4; i += 2) { /* lanes of the other order */
        const float a = __shfl_xor_sync(~0u, sum[i + 1], 2);
        const float b = __shfl_xor_sync(~0u, sum[i], 2);
        sum[i] += a;
        sum[i + 1] += b;
    }
    combine<kCluster>(sum, exchange, arrived, turn, rank);
    bool in_range = true;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        in_range &= sum[i] >= kLeastSum && sum[i] <= kMostSum;
        factor[i] = __fdividef(-LOG2_E * args.scaling_factor, sum[i]);
    }
    return in_range;
}

/* The outputs of one residue: both halves of its lines. */
template <bool kPairs>
static __device__ __forceinline__ void residue_sigmoids(float (&out)[8], const float *e,
                                                        const float (&factor)[4], const float *bias)
{
    const float2 b = *(const float2 *)bias;
    float(&low)[4] = *(float(*)[4])out, (&high)[4] = *(float(*)[4])(out + 4);
    sigmoids<kPairs>(low, e, factor, b.x);
    sigmoids<kPairs>(high, e + 4, factor, b.y);
}

/* The image of tile g is to be computed again, by gpu/fused_repair.cuh. */
static __device__ __forceinline__ void image_refuse(const struct rows_args &args, int g)
{
    if (g < args.tiles)
        atomicMax(args.image_max + fast_divide((uint32_t)g, args.divide_rows),
                  __float_as_uint(INFINITY));
}

/* Until the other stream has finished its turn of that number, if it has one. */
static __device__ __forceinline__ void turn_wait(uint32_t their_turns, int number, int count)
{
    if (number >= 0 && number < count)
        barrier_wait(their_turns, number & 1);
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
