/* The fused row kernel's warpgroups: matrix products and softmax (internal to gpu/;
 * gpu/fused_rows.cuh has the whole picture). */
#ifndef ASSAY_GPU_FUSED_ROWS_PRODUCTS_CUH
#define ASSAY_GPU_FUSED_ROWS_PRODUCTS_CUH

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_rows_args.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* The pixels (a, 0) of the 65 patch rows from tile `g` - (taps_h - 1) on, into [channel / 8][65][8]
 * at `strip`. */
static __device__ void edge_load(const struct rows_args &args, uint32_t strip, int g)
{
    for (int unit = threadIdx.x & 127; unit < kChannelGroups * kSlots; unit += 128) {
        const int plane = unit / kSlots, slot = unit % kSlots;
        int image, row;
        const bool exists = rows_find(args, g - (args.taps_h - 1) + slot, image, row);
        const float *source = args.x +
                              ((int64_t)image * args.in_channels + plane * 8) * args.input_plane +
                              (int64_t)row * args.width;
        uint32_t packed[4], ignored = 0;
        float v[8];
#pragma unroll
        for (int q = 0; q < 8; q++)
            v[q] = exists && plane * 8 + q < args.in_channels ? __ldg(source + q * args.input_plane)
                                                              : 0.0f;
#pragma unroll
        for (int q = 0; q < 4; q++)
            packed[q] = rows_pack(v[2 * q], v[2 * q + 1], args.x_scale, ignored);
        shared_store(strip + unit * 16u, packed);
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

/* The same for the left edge: patch m of tap (jh, 0) is slot m + taps_h - 1 - jh of the strip. */
static __device__ __forceinline__ void multiply_edge(float (&d)[kColumns / 2],
                                                     const struct rows_args &args, uint32_t weights,
                                                     uint32_t strip)
{
    constexpr uint32_t kStride = kSlots * 16;
    constexpr uint32_t kTap = kChannelGroups * kColumns;
    const uint32_t a = descriptor_low(strip, kStride);
    const uint32_t b = descriptor_low(weights, kColumns * 16);
    wgmma_fence();
    multiply_tap<true>(d, a + args.taps_h - 1, 2 * kStride / 16, b);
    multiply_tap<false>(d, a, 2 * kStride / 16, b + 2 * kTap);
    wgmma_commit();
    wgmma_wait<0>();
}

/* Softmax's (maximum, sum) over this block's channels -> over all channels. A quad of lanes holds
 * four values of row g, (patch, column phase); lane t sends the t-th to the other block of the
 * cluster. On return factor[i] = 2^(own maximum - common maximum) / common sum. */
template <int kCluster>
static __device__ __forceinline__ void combine(const float (&maximum)[4], const float (&sum)[4],
                                               float (&factor)[4], uint32_t exchange,
                                               uint32_t arrived, int turn, int rank)
{
    if (kCluster == 1) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            factor[i] = __fdividef(1.0f, sum[i]);
        return;
    }
    const int lane = threadIdx.x & 31, quad = lane & 3;
    const bool high = quad & 2, odd = quad & 1;
    /* lanes of the turned order hold the t-th at t ^ 1 */
    const float m = high ? (odd ? maximum[2] : maximum[3]) : (odd ? maximum[1] : maximum[0]);
    const float s = high ? (odd ? sum[2] : sum[3]) : (odd ? sum[1] : sum[0]);
    const uint32_t buffer = exchange + (turn & 1) * 256;
    const uint32_t mine = arrived + (turn & 1) * 8;
    uint32_t to, bar;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(to)
                 : "r"(buffer + lane * 8), "r"(rank ^ 1));
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(bar) : "r"(mine), "r"(rank ^ 1));
    if (lane == 0)
        barrier_expect(mine, 256);
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 "
                 "[%0], {%1, %2}, [%3];" ::"r"(to),
                 "f"(m), "f"(s), "r"(bar)
                 : "memory");
    barrier_wait(mine, (turn >> 1) & 1);
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        float other[4]; /* maximum and sum of i, of i + 1 */
        asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(other[0]), "=f"(other[1]), "=f"(other[2]), "=f"(other[3])
                     : "r"(buffer + (lane >> 2) * 32 + i * 8)
                     : "memory");
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const float their_maximum = high ? other[2 - 2 * k] : other[2 * k];
            const float their_sum = high ? other[3 - 2 * k] : other[2 * k + 1];
            const float common = fmaxf(maximum[i + k], their_maximum);
            const float own = fast_exp2(maximum[i + k] - common);
            const float theirs = fast_exp2(their_maximum - common);
            factor[i + k] = __fdividef(own, fmaf(sum[i + k], own, their_sum * theirs));
        }
    }
}

/* Logits, times log2(e) / (x_scale weight_scale) short of base 2 -> numerators of the softmax in d;
 * their factor, so that exp(-scale p) = 2^(factor d). */
template <int kCluster>
static __device__ __forceinline__ void
softmax(float (&d)[kColumns / 2], float (&factor)[4], const struct rows_args &args,
        const float *logit_bias, uint32_t exchange, uint32_t arrived, int turn, int rank)
{
    constexpr int kSteps = kColumns / 8;
    const int quad = threadIdx.x & 3;
    float maximum[4], sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        maximum[i] = -INFINITY;
#pragma unroll
    for (int j = 0; j < kSteps; j += 4) {
        const float4 four = *(const float4 *)(logit_bias + quad * kBiasPitch + j);
        const float b[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float &l = d[4 * (j + k) + i];
                l = fmaf(l, args.descale, b[k]);
                maximum[i] = fmaxf(maximum[i], l);
            }
        asm volatile("" ::: "memory"); /* no more biases at once: registers are short */
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        maximum[i] = fmaxf(maximum[i], __shfl_xor_sync(~0u, maximum[i], 1));
    float origin[4];
#pragma unroll
    for (int i = 0; i < 4; i += 2) { /* lanes of the other order */
        const float a = __shfl_xor_sync(~0u, maximum[i + 1], 2);
        const float b = __shfl_xor_sync(~0u, maximum[i], 2);
        maximum[i] = fmaxf(maximum[i], a);
        maximum[i + 1] = fmaxf(maximum[i + 1], b);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        origin[i] = kCluster == 1 ? maximum[i] : exponent_origin(maximum[i]);
        sum[i] = 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kSteps; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            d[4 * j + i] = fast_exp2(d[4 * j + i] - origin[i]);
            sum[i] += d[4 * j + i];
        }
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        const float a = __shfl_xor_sync(~0u, sum[i + 1], 2);
        const float b = __shfl_xor_sync(~0u, sum[i], 2);
        sum[i] += a;
        sum[i + 1] += b;
    }
    combine<kCluster>(maximum, sum, factor, exchange, arrived, turn, rank);
#pragma unroll
    for (int i = 0; i < 4; i++)
        factor[i] *= -LOG2_E * args.scaling_factor;
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
