/* The fused row kernel: transposed convolution by stride 2 on Hopper's tensor cores, softmax over
 * channels, bias, scale and sigmoid in its epilogue, for images of up to 64 columns (internal to
 * gpu/; sm_90a).
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * x and y fp32 NCHW; products of fp16 operands scaled by powers of two, sums in fp32.
 * gpu/fused_rows.cu tells what it measured and why it is built so.
 *
 * Sub-pixel form. With u = o + padding, phase = u mod 2 and a = u div 2, output o is
 *
 *     sum over j of x[a - j] * W[phase + 2 j],     phase + 2 j < kernel
 *
 * so all outputs that share (a, b), a "patch", read the same taps_h x taps_w pixels of x.
 *
 * A tile is patch row a of one image: 64 patches by 64 channels in all four phases; K = taps x 64
 * input channels. Its outputs are two whole rows of y, contiguous in every channel. Tiles are
 * numbered g = image * rows + a.
 *
 * A block holds the weights of 64 output channels; a cluster of blocks covers them all and trades
 * each pixel's maximum and sum once a tile. A stream is a run of consecutive tiles; a block works
 * on two. Warps:
 *
 *     16  products and epilogue: a warpgroup for each (stream, row phase), m64n128k16
 *      4  two for each stream. They take its results to y, in turn; and while the next tile's
 *         products and softmax run and there is nothing to store, they fetch x, a row ahead:
 *         NCHW fp32, a lane a pixel, eight coalesced loads to a 16-byte store, which is the
 *         transposition and the conversion at once
 *
 * The store. y's rows are 129 floats in the home case: none begins at a sector of 32 bytes, and a
 * sector that is written in two parts costs the L2 several times what a whole one does. So a tile
 * is laid out in shared memory as it will lie in y, eight channels at a time. Channels c and c + 8
 * have the same offset in a sector; a stage takes those of one residue. Whole sectors go out by 512
 * bytes an instruction; the floats behind the last whole sector are carried over to the stream's
 * next tile, where they begin the first. Only where an image or a stream begins or ends is a sector
 * written in parts.
 *
 * The left edge. With padding 1 a row has 65 patches, the first with one output only, in column 0.
 * Before every 64 tiles a stream multiplies the patches (a, 0) of all of them as one more tile and
 * keeps column 0 in a scratch of device memory.
 *
 *     shared memory                         registers of a warpgroup, warp w, lane l,
 *     ring of x, fp16, of each stream       g = l / 4, t = l % 4; j = 2 residue + h:
 *     [channel / 8][2 rows][65][8]          d[4j + 0], d[4j + 1]: patch 16w + g, channel 8 (4h + t)
 *                                                           + residue, column phases 0 and 1, for
 *                                                           t > 1 in turned order
 *     weights, fp16, resident               d[4j + 2], d[4j + 3]: patch 16w + g + 8
 *     [row phase][tap][channel / 8][column][8]
 *
 * The turned order lets a warp's stores to a stage reach all banks: even ones from t < 2, odd ones
 * from t > 1.
 *
 * No bits depend on which stream computes a tile. */
#ifndef ASSAY_GPU_FUSED_ROWS_CUH
#define ASSAY_GPU_FUSED_ROWS_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/epilogue_math.cuh"
#include "gpu/fused_args.cuh"
#include "gpu/wgmma.cuh"

constexpr int kBlockChannels = 64;
constexpr int kColumns = 2 * kBlockChannels; /* of one row phase */
constexpr int kStreams = 2;                  /* of a block */
constexpr int kGroups = 2 * kStreams;        /* warpgroups that multiply */
constexpr int kThreads = 128 * (kGroups + 1);
constexpr int kRingRows = 2;
constexpr int kSlots = 65; /* of a row in the ring: 64 patches and one more for the second tap */
constexpr int kResidues = 8;
constexpr int kStageLines = kBlockChannels / kResidues; /* channels in a stage */
constexpr int kStagePitch = 272; /* floats a channel: up to 7 carried, 258 of the tile */
constexpr int kStages = 3;       /* of each stream */
constexpr int kBiasPitch = 20;   /* floats; a quad of lanes reads 16 bytes each without conflict */
constexpr int kStreamBarriers = 2 * kRingRows + 2 * kStages;
constexpr int kEdgeTiles = 64; /* tiles that one multiplication of the left edge serves */

struct rows_args {
    const float *x;
    float *y;
    const __half *weights; /* [block of the cluster][row phase][tap][k / 8][column][8] */
    const float *conv_bias;
    const float *bias;
    float *edge;         /* [stream][block of the cluster][kEdgeTiles][row phase][kBlockChannels] */
    uint32_t *image_max; /* [images], bits of the largest |x| */
    float x_scale;       /* power of two */
    float descale;       /* log2(e) / (x_scale * weight_scale) */
    float scaling_factor;
    int in_channels, out_channels, height, width, output_h, output_w;
    int padding_h;
    int taps_h, taps_w;
    int lead;      /* 1: column 0 belongs to the patches (a, 0), the tile begins at column 1 */
    int first_col; /* the column of x in slot 0 */
    int tiles;     /* images * rows of patches */
    struct fast_divisor divide_rows;
    int64_t input_plane, output_plane;
};

/* Shared memory, in bytes from its start. */
struct rows_layout {
    static constexpr uint32_t kRing = kChannelGroups * kRingRows * kSlots * 16;
    static constexpr uint32_t kStage = kStageLines * kStagePitch * 4;
    static constexpr uint32_t weights = 0;
    static constexpr uint32_t ring = 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
    static constexpr uint32_t stage = ring + kStreams * kRing;
    static constexpr uint32_t carry = stage + kStreams * kStages * kStage;
    static constexpr uint32_t column = carry + kStreams * kBlockChannels * 8 * 4;
    static constexpr uint32_t exchange = column + kStreams * 2 * kBlockChannels * 4;
    static constexpr uint32_t params = exchange + kGroups * 4 * 2 * 256;
    static constexpr uint32_t barriers = params + 2 * 4 * kBiasPitch * 4;
    static constexpr uint32_t total =
        barriers + (1 + kStreams * 2 * (kRingRows + kStages) + kGroups * 4 * 2) * 8;
};
static_assert(rows_layout::total <= kSharedBytes, "shared memory");
static_assert(2 * kChannelGroups * kSlots * 16 <= kStages * rows_layout::kStage,
              "the edge's pixels, for each row phase");

typedef void (*rows_kernel_pointer)(const struct rows_args);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* ---- x, NCHW fp32 -> ring, [channel / 8][row][slot][8] fp16 ---------------------------------- */

/* Where the pixels of tile g's patch row lie in x: false where they don't exist (zeros). */
static __device__ __forceinline__ bool rows_find(const struct rows_args &args, int g, int &image,
                                                 int &row)
{
    image = (int)fast_divide((uint32_t)max(g, 0), args.divide_rows);
    row = g - image * (int)args.divide_rows.divisor;
    return g >= 0 && g < args.tiles && row < args.height;
}

static __device__ __forceinline__ uint32_t rows_pack(float a, float b, float scale,
                                                     uint32_t &largest)
{
    largest = max(largest, max(__float_as_uint(a) & 0x7fffffffu, __float_as_uint(b) & 0x7fffffffu));
    const __half2 h = __floats2half2_rn(a * scale, b * scale);
    return *(const uint32_t *)&h;
}

/* One warp: half the channels of the patch row of tile g into the ring's row `slot_row`, once
 * `done`, the barrier behind the last tile that read it, allows. Returns the largest magnitude, as
 * bits. */
static __device__ __forceinline__ uint32_t rows_fetch(const struct rows_args &args, uint32_t ring,
                                                      int slot_row, int g, int half, uint32_t done,
                                                      uint32_t done_parity)
{
    const int lane = threadIdx.x & 31;
    const int first = half * (kChannelGroups / 2); /* group of eight channels */
    uint32_t largest = 0;
    int image, row;
    const bool exists = rows_find(args, g, image, row);
    const int channels = exists ? args.in_channels - first * 8 : 0;
    const int plane = (int)args.input_plane;
    const float *x = args.x + ((int64_t)image * args.in_channels + first * 8) * args.input_plane +
                     row * args.width;
    const int col[2] = {min(lane, args.width - 1), min(lane + 32, args.width - 1)};
    float value[2][32];
    if (channels >= 32) {
#pragma unroll
        for (int q = 0; q < 32; q++) {
            value[0][q] = __ldg(x + q * plane + col[0]);
            value[1][q] = __ldg(x + q * plane + col[1]);
        }
    } else {
#pragma unroll
        for (int q = 0; q < 32; q++) {
            value[0][q] = q < channels ? __ldg(x + q * plane + col[0]) : 0.0f;
            value[1][q] = q < channels ? __ldg(x + q * plane + col[1]) : 0.0f;
        }
    }
    barrier_wait(done, done_parity);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int part = 0; part < 2; part++) { /* of the row */
            const int slot = part * 32 + lane - args.first_col;
            uint32_t packed[4];
#pragma unroll
            for (int q = 0; q < 4; q++)
                packed[q] = rows_pack(value[part][8 * i + 2 * q], value[part][8 * i + 2 * q + 1],
                                      args.x_scale, largest);
            if (slot >= 0 && slot < kSlots && part * 32 + lane < args.width)
                shared_store(ring + (((first + i) * kRingRows + slot_row) * kSlots + slot) * 16u,
                             packed);
        }
    return largest;
}

/* Half of a mover's part of the patch row of tile g to the L2, where rows_fetch() finds it a tile
 * later: beside so many writes a load from device memory takes 2 us and more. */
static __device__ __forceinline__ void rows_prefetch(const struct rows_args &args, int g, int half,
                                                     int rank)
{
    const int lane = threadIdx.x & 31;
    const int channel = half * 32 + rank % 2 * 16 + lane / 2, col = lane % 2 * 32;
    int image, row;
    if (rows_find(args, g, image, row) && channel < args.in_channels && col < args.width)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(
            args.x + ((int64_t)image * args.in_channels + channel) * args.input_plane +
            (row * args.width + col)));
}

/* ---- matrix products and epilogue ----------------------------------------------------------- */

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

/* ---- stores --------------------------------------------------------------------------------- */

/* Where a tile lies in y: the block's first channel, the first row that exists. */
struct rows_target {
    float *y;
    int skip;         /* 1: row phase 0 does not exist */
    int rows;         /* that exist: 0, 1 or 2 */
    int length;       /* outputs of a channel */
    bool joined_head; /* the previous tile left the floats before the first */
    bool joined_tail; /* the next tile takes the floats behind the last whole sector */
    bool inner;       /* both, and two rows of at least 256 outputs */
};

static __device__ __forceinline__ struct rows_target
rows_target_of(const struct rows_args &args, int begin, int tiles, int i, int rank)
{
    struct rows_target target;
    const int rows = (int)args.divide_rows.divisor;
    const int image = (int)fast_divide((uint32_t)(begin + i), args.divide_rows);
    const int a = begin + i - image * rows;
    const int first_row = 2 * a - args.padding_h;
    target.skip = first_row < 0;
    target.rows = max(0, min(2, args.output_h - first_row) - target.skip);
    target.length = target.rows * args.output_w;
    target.y = args.y +
               ((int64_t)image * args.out_channels + rank * kBlockChannels) * args.output_plane +
               (int64_t)(first_row + target.skip) * args.output_w;
    target.joined_head = i > 0 && a > 0;
    target.joined_tail = i + 1 < tiles && a + 1 < rows && first_row + 2 < args.output_h;
    target.inner = target.joined_head && target.joined_tail && target.length >= 256;
    return target;
}

/* The offset in a sector of a tile's outputs in the channels of a residue: eight planes are whole
 * sectors. */
static __device__ __forceinline__ int rows_offset(const struct rows_args &args,
                                                  const struct rows_target &target, int residue)
{
    return (int)(((uint32_t)((uintptr_t)target.y >> 2) +
                  (uint32_t)residue * (uint32_t)args.output_plane) &
                 7);
}

/* Streaming and shared accesses by 16 bytes. */
static __device__ __forceinline__ void global_store(float *to, const float4 &v)
{
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y), "f"(v.z),
                 "f"(v.w)
                 : "memory");
}

/* What a mover warp knows of its place. */
struct rows_mover {
    float *stages;
    float *carry;      /* what the previous tile left, in the order of the columns */
    float *column;     /* column 0 of the tile, [row phase][own residue][line] */
    const float *edge; /* where that comes from */
    uint32_t ring;
    uint32_t full, done;     /* [ring row] */
    uint32_t staged, stored; /* [stage] */
    int begin, tiles, rank;
    int parity; /* of its residues; the half of the channels of x */
};

/* Column 0 of tile i from the scratch to shared memory. */
static __device__ __forceinline__ void column_load(const struct rows_mover &at, int i)
{
    const int lane = threadIdx.x & 31;
    const float2 v =
        __ldcg((const float2 *)(at.edge + ((i % kEdgeTiles) * 2 + lane / 16) * kBlockChannels +
                                (2 * (lane % 16 / 4) + at.parity) * kStageLines + lane % 4 * 2));
    ((float2 *)at.column)[lane] = v;
    __syncwarp();
}

/* One full stage to y. */
static __device__ __forceinline__ void stage_store(const struct rows_args &args,
                                                   const struct rows_mover &at,
                                                   const struct rows_target &target, int i,
                                                   int residue, uint32_t use)
{
    constexpr int kHalf = kStageLines / 2;
    const int lane = threadIdx.x & 31;
    const int part = lane & 7;   /* a place in a sector, of lines lane / 8 and 4 + lane / 8 */
    const int upper = lane >> 3; /* such a line; for column 0, the row phase if < 2 */
    const int channels = min(kBlockChannels, args.out_channels - at.rank * kBlockChannels);
    const int line_step = kResidues * (int)args.output_plane; /* from a line to the next, in y */
    const int offset = rows_offset(args, target, residue);
    const int end = (offset + target.length) & ~7, rest = (offset + target.length) & 7;
    float *const y = target.y + (residue * args.output_plane - offset);
    float *const kept = at.carry + (residue * kStageLines + upper) * 8 + part;
    const uint32_t stage = use % kStages;
    float *const lines = at.stages + stage * (kStageLines * kStagePitch);
    float *const part_line = lines + upper * kStagePitch + part;
    const float before[2] = {kept[0], kept[kHalf * 8]};

    barrier_wait(at.staged + 8 * stage, use / kStages & 1);
    if (args.lead) {
        if (residue == at.parity && i % kEdgeTiles == 0)
            column_load(at, i); /* it was just computed */
        if (upper >= target.skip && upper < target.skip + target.rows)
            lines[part * kStagePitch + offset + (upper - target.skip) * args.output_w] =
                at.column[upper * (kBlockChannels / 2) + residue / 2 * kStageLines + part];
    }
    if (target.joined_head && part < offset) {
        part_line[0] = before[0];
        part_line[kHalf * kStagePitch] = before[1];
    }
    __syncwarp();
    const float tail[2] = {part_line[end], part_line[kHalf * kStagePitch + end]};
    if (target.inner &&
        channels == kBlockChannels) { /* whole sectors [0, end): 256 or 264 floats */
        const float4 *from = (const float4 *)lines + lane;
        float *to = y + 4 * lane;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float4 *half_from = from + k % 2 * kHalf * (kStagePitch / 4) + k / 2 * 32;
            float *half_to = to + k % 2 * kHalf * line_step + k / 2 * 128;
            float4 v[kHalf];
#pragma unroll
            for (int line = 0; line < kHalf; line++)
                v[line] = half_from[line * (kStagePitch / 4)];
#pragma unroll
            for (int line = 0; line < kHalf; line++)
                global_store(half_to + line * line_step, v[line]);
        }
        if (end > 256 && lane < 2 * kStageLines) {
            const int line = lane >> 1, from_at = 256 + 4 * (lane & 1);
            global_store(y + line * line_step + from_at,
                         *(const float4 *)(lines + line * kStagePitch + from_at));
        }
        if (part < rest) {
            kept[0] = tail[0];
            kept[kHalf * 8] = tail[1];
        }
    } else { /* the first or the last of an image or a stream, or not all channels */
        const int used = (channels - residue + kResidues - 1) / kResidues; /* lines */
        const int first = target.joined_head || offset == 0 ? 0 : 8;
#pragma unroll 1
        for (int line = 0; line < used; line++)
#pragma unroll 1
            for (int k = first + 4 * lane; k < end; k += 128)
                global_store(y + line * line_step + k,
                             *(const float4 *)(lines + line * kStagePitch + k));
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int line = half * kHalf + upper;
            if (first && part >= offset && line < used)
                y[line * line_step + part] = part_line[half * kHalf * kStagePitch];
            if (part < rest && target.joined_tail)
                kept[half * kHalf * 8] = tail[half];
            else if (part < rest && line < used)
                y[line * line_step + end + part] = tail[half];
        }
    }
    __syncwarp();
    if (lane == 0)
        barrier_arrive(at.stored + 8 * stage);
}

/* A mover warp's life: the stages of one parity to y as they fill, half the channels of x into the
 * ring. Entry j of the ring holds the patch row of tile begin + j - (taps_h - 1). */
static __device__ void rows_move(const struct rows_args &args, const struct rows_mover &at)
{
    const int lane = threadIdx.x & 31;
    const int residues =
        min(kResidues, args.out_channels - at.rank * kBlockChannels); /* that have channels */
    const int ahead = args.taps_h; /* entries beyond tile i's first, until the next to fetch */
    const int entries = at.tiles ? at.tiles + args.taps_h - 1 : 0;
    int slot_row = 0;
    uint32_t done_parity = 1, used = 0; /* stages before this tile */
#pragma unroll 1
    for (int i = -ahead; i < at.tiles; i++) {
        if (i + ahead < entries) {          /* fetch, while there is nothing to store */
            const int g = at.begin + i + 1; /* the tile whose patch row it is */
            rows_prefetch(args, g + 1, at.parity, at.rank);
            uint32_t largest = rows_fetch(args, at.ring, slot_row, g, at.parity,
                                          at.done + 8 * slot_row, done_parity);
            fence_proxy_async();
            __syncwarp();
            if (lane == 0)
                barrier_arrive(at.full + 8 * slot_row);
            largest = __reduce_max_sync(~0u, largest); /* for gpu/fused_repair.cuh */
            int image, row;
            if (rows_find(args, g, image, row) && at.rank == 0 && lane == 0)
                atomicMax(args.image_max + image, largest);
            slot_row = slot_row == kRingRows - 1 ? 0 : slot_row + 1;
            done_parity ^= slot_row == 0;
        }
        if (i < 0)
            continue;
        const struct rows_target target = rows_target_of(args, at.begin, at.tiles, i, at.rank);
        if (target.rows == 0)
            continue;
        if (args.lead && i % kEdgeTiles != 0)
            column_load(at, i);
#pragma unroll 1
        for (int residue = at.parity; residue < residues; residue += 2)
            stage_store(args, at, target, i, residue, used + residue);
        used += residues;
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

template <int kCluster, bool kPairs>
static __global__ void __launch_bounds__(kThreads, 1)
    fused_rows_kernel(const __grid_constant__ struct rows_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(128) uint8_t shared[];
    typedef struct rows_layout at_byte;
    const uint32_t base = shared_address(shared);
    float *logit_bias = (float *)(shared + at_byte::params);
    float *sigmoid_bias = logit_bias + 4 * kBiasPitch;
    const uint32_t loaded = base + at_byte::barriers;
    const int rank = blockIdx.x % kCluster;
    const int streams = gridDim.x / kCluster * kStreams;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0); /* known to be uniform */
    const int group = warp / 4;
    const int s = group < kGroups ? group / 2 : warp % kStreams, phase = group % 2;
    const int64_t stream = (int64_t)(blockIdx.x / kCluster) * kStreams + s;
    /* barriers of this stream, and of this warp */
    const uint32_t full = loaded + 8 + s * kStreamBarriers * 8; /* [ring row] */
    const uint32_t done = full + 8 * kRingRows;                 /* [ring row] */
    const uint32_t staged = done + 8 * kRingRows;               /* [stage] */
    const uint32_t stored = staged + 8 * kStages;               /* [stage] */
    const uint32_t arrived = loaded + 8 + kStreams * kStreamBarriers * 8 + warp * 16;

    if (threadIdx.x == 0) {
        barrier_init(loaded, 1);
        const int arrivals[kStreamBarriers] = {2, 2, 8, 8, 8, 8, 8, 1, 1, 1};
        for (int i = 0; i < kStreams * kStreamBarriers; i++)
            barrier_init(loaded + 8 + 8 * i, arrivals[i % kStreamBarriers]);
        for (int i = 0; i < kGroups * 4 * 2; i++)
            barrier_init(loaded + 8 + (kStreams * kStreamBarriers + i) * 8, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        fence_proxy_async();
        const uint32_t bytes = 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
        barrier_expect(loaded, bytes);
        const uint8_t *from = (const uint8_t *)args.weights + (int64_t)rank * bytes;
        for (uint32_t at = 0; at < bytes; at += 16384)
            bulk_load(base + at_byte::weights + at, from + at, min(bytes - at, 16384u), loaded);
    }
    for (uint32_t at = threadIdx.x * 16; at < kStreams * at_byte::kRing; at += kThreads * 16)
        *(uint4 *)(shared + at_byte::ring + at) = make_uint4(0, 0, 0, 0);
    for (int i = threadIdx.x; i < kBlockChannels; i += kThreads) { /* [lane of the quad][j] */
        const int quad = i % 4, j = i / 4;
        const int c = rank * kBlockChannels + (j % 2 * 4 + quad) * kResidues + j / 2;
        const bool real = c < args.out_channels;
        logit_bias[quad * kBiasPitch + j] = real ? args.conv_bias[c] * LOG2_E : -INFINITY;
        sigmoid_bias[quad * kBiasPitch + j] =
            real ? -LOG2_E * (args.scaling_factor * args.bias[c]) : 0.0f;
    }
    fence_proxy_async();
    __syncthreads();
    if (kCluster > 1)
        asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");

    const int begin = (int)(args.tiles * stream / streams);
    const int tiles = (int)(args.tiles * (stream + 1) / streams) - begin;
    const int channels = min(kBlockChannels, args.out_channels - rank * kBlockChannels);
    float *stages = (float *)(shared + at_byte::stage + s * kStages * at_byte::kStage);
    float *edges = args.edge + (stream * kCluster + rank) * (kEdgeTiles * 2 * kBlockChannels);

    if (group == kGroups) {
        const int which = warp % 4 / kStreams;
        struct rows_mover at;
        at.stages = stages;
        at.carry = (float *)(shared + at_byte::carry) + s * kBlockChannels * 8;
        at.column = (float *)(shared + at_byte::column) + (s * 2 + which) * kBlockChannels;
        at.edge = edges;
        at.ring = base + at_byte::ring + s * at_byte::kRing;
        at.full = full;
        at.done = done;
        at.staged = staged;
        at.stored = stored;
        at.begin = begin;
        at.tiles = tiles;
        at.rank = rank;
        at.parity = which;
        rows_move(args, at);
    } else {
        const int lane = threadIdx.x & 31, quad = lane & 3;
        const int patch = 16 * (warp & 3) + (lane >> 2); /* and 8 more */
        const uint32_t ring = base + at_byte::ring + s * at_byte::kRing;
        const uint32_t weights =
            base + at_byte::weights + phase * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
        const int residues = min(kResidues, channels);
        const int turned = quad >> 1;
        const int col = args.lead + 2 * patch + turned; /* of d[4j] */
        const int other = 1 - 2 * turned;               /* from there to d[4j + 1]'s */

        barrier_wait(loaded, 0);
        /* One register: the parity of how often each stage was filled, of the turns that the ring's
         * rows are in, and whether the left edge of these tiles is done. */
        uint32_t bits = 0;
        constexpr int kStageBit = 0, kRowBit = kStages, kEdgeBit = kStages + kRingRows;
        int row = 0, stage = 0; /* the ring row of entry i, the next stage */
#pragma unroll 1
        for (int i = 0, turn = 0; i < tiles; turn++) {
            float d[kColumns / 2], factor[4];
            const bool edge = args.lead && i % kEdgeTiles == 0 && !(bits >> kEdgeBit & 1);
            const int row_after = row == kRingRows - 1 ? 0 : row + 1;
            if (edge) {
#pragma unroll
                for (int k = 0; k < kStages; k++) /* until they have been stored */
                    barrier_wait(stored + 8 * k, ~bits >> (kStageBit + k) & 1);
                const uint32_t strip = base + at_byte::stage + s * kStages * at_byte::kStage +
                                       phase * kChannelGroups * kSlots * 16;
                edge_load(args, strip, begin + i);
                fence_proxy_async();
                asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory");
                multiply_edge(d, args, weights, strip);
            } else {
                const int last = args.taps_h == 2 ? row_after : row;
                barrier_wait(full + 8 * last, bits >> (kRowBit + last) & 1);
                multiply(d, args, weights, ring, row, last);
                wgmma_wait<0>();
                if (lane == 0)
                    barrier_arrive(done + 8 * row);
            }
            softmax<kCluster>(d, factor, args, logit_bias, base + at_byte::exchange + warp * 512,
                              arrived, turn, rank);
            if (edge) {
                float *to = edges + (patch * 2 + phase) * kBlockChannels + quad;
#pragma unroll
                for (int j = 0; j < kColumns / 8; j++) {
                    float out[4];
                    sigmoids<kPairs>(out, d + 4 * j, factor, sigmoid_bias[quad * kBiasPitch + j]);
                    to[4 * j] = quad < 2 ? out[1] : out[0];
                    to[16 * kBlockChannels + 4 * j] = quad < 2 ? out[3] : out[2];
                }
                bits |= 1u << kEdgeBit;
                /* both row phases are done with the strips, and the scratch is written */
                asm volatile("bar.sync %0, 256;" ::"r"(1 + kGroups + s) : "memory");
                continue;
            }
            const struct rows_target target = rows_target_of(args, begin, tiles, i, rank);
            const bool exists = phase >= target.skip && phase < target.skip + target.rows;
            const int active = target.rows ? residues : 0;
            float *to = stages + quad * kStagePitch + (phase - target.skip) * args.output_w + col;
#pragma unroll
            for (int residue = 0; residue < kResidues; residue++) {
                if (residue < active) {
                    float out[2][4];
                    const float2 b =
                        *(const float2 *)(sigmoid_bias + quad * kBiasPitch + 2 * residue);
                    sigmoids<kPairs>(out[0], d + 8 * residue, factor, b.x);
                    sigmoids<kPairs>(out[1], d + 8 * residue + 4, factor, b.y);
                    constexpr int kHalf = kStageLines / 2 * kStagePitch;
                    barrier_wait(stored + 8 * stage, ~bits >> (kStageBit + stage) & 1);
                    bits ^= 1u << (kStageBit + stage);
                    float *p = to + stage * (kStageLines * kStagePitch) +
                               rows_offset(args, target, residue);
                    if (exists) {
                        float *q = p + other;
#pragma unroll
                        for (int h = 0; h < 2; h++) {
                            if (col < args.output_w)
                                p[h * kHalf] = out[h][0];
                            if (col + other < args.output_w)
                                q[h * kHalf] = out[h][1];
                            if (col + 16 < args.output_w)
                                p[h * kHalf + 16] = out[h][2];
                            if (col + other + 16 < args.output_w)
                                q[h * kHalf + 16] = out[h][3];
                        }
                    }
                    __syncwarp();
                    if (lane == 0)
                        barrier_arrive(staged + 8 * stage);
                    stage = stage == kStages - 1 ? 0 : stage + 1;
                }
            }
            i++;
            bits = (bits ^ 1u << (kRowBit + row)) & ~(1u << kEdgeBit);
            row = row_after;
        }
    }
    /* a block's shared memory lives until its neighbour has sent */
    if (kCluster > 1)
        asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
#endif
}

#endif
