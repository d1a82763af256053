/* The fused kernel of small batches: transposed convolution by stride 2 on Hopper's tensor cores,
 * softmax over channels, bias, scale and sigmoid in its epilogue; one launch, and no block waits
 * for another (internal to gpu/; sm_90a).
 *
 * A tile is 64 consecutive patches by one output row phase, in both column phases and all channels.
 * With u = o + padding, phase = u mod 2 and a = u div 2, output o is
 *
 *     sum over j of x[a - j] * W[phase + 2 j],     phase + 2 j < kernel
 *
 * so the outputs of a patch (a, b) read the same taps_h x taps_w pixels of x. A row phase has only
 * the patch rows of which an output exists, so that the home case's image is 132 tiles:
 *
 *     patch (n, a, b) = (n * rows + a - first_row) * pitch + b - first_patch_col
 *
 * and `pitch` leaves the zeros that taps reach beyond a row between one row and the next. x lies in
 * shared memory once for each row tap jh, [part][jh][channel / 8][slot][8] fp16: slot s is the
 * pixel of row a - jh that tap jw = taps_w - 1 of patch s reads, so that tap jw begins taps_w - 1 -
 * jw slots, each 16 bytes, later.
 *
 * All warps do everything: fetch x (a lane a slot, eight coalesced loads to a 16-byte store, which
 * is the transposition and the conversion at once), multiply (a warpgroup kWidth columns: two
 * column phases of kWidth / 2 channels), and finish: warpgroups tell each other maximum and sum of
 * every pixel through shared memory, lanes of a quad exchange their results by shuffles, so that a
 * warp stores 32 neighbouring outputs of a channel. The weights of all taps come by one bulk copy a
 * tap, begun before the kernel ahead in the stream has ended. Where there are more tiles than
 * blocks fit on the device, a block takes several of one row phase, and asks for the next one's x
 * while it multiplies.
 *
 * With kParts = 2 both operands are split in two halves, high(v) = fp16(v), low(v) =
 * fp16(v - high(v)), and x W is low(x) high(W) + high(x) low(W) + high(x) high(W), summed in that
 * order in fp32, so that the small terms meet before the large ones: fp32 grade.
 *
 * A patch that reads what fp16 cannot hold is computed by the same block in IEEE fp32 by the
 * definition. What a patch reads decides, so no bits depend on where in the batch it is. */
#ifndef ASSAY_GPU_FUSED_SMALL_CUH
#define ASSAY_GPU_FUSED_SMALL_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/dependent_launch.cuh"
#include "gpu/epilogue_math.cuh"
#include "gpu/fused_common.cuh"
#include "gpu/wgmma.cuh"

constexpr int kPatches = 64; /* of a tile: the rows of the instruction */
constexpr int kMostTaps = 2; /* of a patch in either direction */
constexpr int kSlots = kPatches + kMostTaps - 1;
constexpr int kAllSlots = kMostTaps * kSlots;
constexpr int kSlotBytes = 16;
constexpr int kWidth = 64;         /* columns of a warpgroup */
constexpr int kSteps = kWidth / 8; /* j of the fragment */

struct small_phase { /* of output rows */
    int first_row;   /* a of patch 0 */
    int taps_h;
    int tiles;
    struct fast_divisor divide_image; /* by patches in an image */
};

struct small_args {
    const float *x;
    float *y;
    const __half *packed; /* [row phase][tap][part][k / 8][column][8] */
    const float *weight, *conv_bias, *bias;
    float x_scale;           /* power of two */
    float descale;           /* log2(e) / (x_scale * weight_scale) */
    float smallest, largest; /* what a patch's largest |x| must lie within, or all of them be 0 */
    float scaling_factor;
    int images, in_channels, out_channels, height, width, output_h, output_w;
    int kernel_h, kernel_w, padding_h, padding_w, taps_h, taps_w;
    int first_patch_col, patch_cols;
    uint32_t pitch;
    int64_t input_plane, output_plane;
    struct fast_divisor divide_pitch;
    struct small_phase phase[2];
    int blocks; /* of phase 0; the others are of phase 1 */
};

/* Shared memory, in bytes from its start. */
struct small_layout {
    uint32_t x, exchange, largest, flagged, biases, barriers, total; /* weights at 0 */
};

typedef void (*small_kernel_pointer)(const struct small_args);

template <int kGroupsOfWarps, int kInputGroups, int kBlocksEach>
struct small_tile {
    static constexpr int kWarpgroups = kGroupsOfWarps;
    static constexpr int kGroups = kInputGroups; /* of eight input channels */
    static constexpr int kBlocks = kBlocksEach;  /* of a multiprocessor, at most */
    static constexpr int kColumns = kWarpgroups * kWidth;
    static constexpr int kChannels = kColumns / 2;
    static constexpr int kThreads = 128 * kWarpgroups;
    static constexpr int kWarps = 4 * kWarpgroups;
    /* x: a warp has 32 slots of a row tap, and every kSets-th group of channels of them. */
    static constexpr int kSets = kWarps / (2 * kMostTaps);
    static constexpr int kPieces = kGroups / kSets;
    static constexpr int kX = kGroups * kSlots * kSlotBytes; /* of a row tap, one part */
};

template <class T>
static inline __host__ __device__ struct small_layout small_layout_make(int taps_h, int taps_w)
{
    struct small_layout layout;
    layout.x = kParts * taps_h * taps_w * T::kGroups * T::kColumns * 16u;
    layout.exchange = layout.x + kParts * taps_h * T::kX;
    layout.largest = layout.exchange + (T::kWarpgroups > 1 ? T::kWarpgroups * kPatches * 16u : 0);
    layout.flagged = layout.largest + 2 * kAllSlots * 4u;
    layout.biases = layout.flagged + 8;
    layout.barriers = layout.biases + 2 * T::kChannels * 4u;
    layout.total = layout.barriers + kMostTaps * kMostTaps * 8u;
    return layout;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* ---- x -------------------------------------------------------------------------------------- */

/* Where a slot or patch of the row phase lies. */
struct small_place {
    int image, row, col; /* of patches: a - first_row, b - first_patch_col */
};

static __device__ __forceinline__ struct small_place
small_locate(const struct small_args &args, const struct small_phase &phase, uint32_t index)
{
    struct small_place at;
    const uint32_t image = fast_divide(index, phase.divide_image);
    const uint32_t rest = index - image * phase.divide_image.divisor;
    const uint32_t row = fast_divide(rest, args.divide_pitch);
    at.image = (int)image;
    at.row = (int)row;
    at.col = (int)(rest - row * args.pitch);
    return at;
}

/* A thread's part of a tile's x: pieces of eight channels of a slot; in the last warp one more, of
 * the last slot of a row tap: lane (jh, group). */
template <class T>
struct small_part {
    float value[T::kPieces + 1][8];
};

struct small_slot {
    int jh, at;
};

/* Of a warp's lane, and of the last warp's last piece. */
static __device__ __forceinline__ struct small_slot small_own_slot(int warp)
{
    return {(warp >> 1) & 1, (warp & 1) * 32 + ((int)threadIdx.x & 31)};
}

template <class T>
static __device__ __forceinline__ struct small_slot small_last_slot(void)
{
    return {((int)threadIdx.x & 31) / T::kGroups, kSlots - 1};
}

/* Eight channels of a slot, zeros outside x. */
static __device__ __forceinline__ void small_piece(float (&value)[8], const struct small_args &args,
                                                   const float *slot, int group, bool inside)
{
    const float *from = slot + group * 8 * args.input_plane;
    if (args.in_channels >= group * 8 + 8) {
#pragma unroll
        for (int j = 0; j < 8; j++)
            value[j] = inside ? __ldg(from + j * args.input_plane) : 0.0f;
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            value[j] = inside && group * 8 + j < args.in_channels
                           ? __ldg(from + j * args.input_plane)
                           : 0.0f;
    }
}

/* Where channel 0 of a slot is in x. */
static __device__ __forceinline__ const float *small_source(const struct small_args &args,
                                                            const struct small_phase &phase,
                                                            uint32_t first, struct small_slot slot,
                                                            bool &inside)
{
    const struct small_place at = small_locate(args, phase, first + slot.at);
    const int row = at.row + phase.first_row - slot.jh;
    const int col = at.col + args.first_patch_col - (args.taps_w - 1);
    inside = slot.jh < phase.taps_h && at.image < args.images && row >= 0 && row < args.height &&
             col >= 0 && col < args.width;
    return args.x + (int64_t)at.image * args.in_channels * args.input_plane +
           (int64_t)row * args.width + col;
}

template <class T>
static __device__ __forceinline__ void
small_load(struct small_part<T> &part, const struct small_args &args,
           const struct small_phase &phase, uint32_t first, int warp)
{
    bool inside;
    const float *source = small_source(args, phase, first, small_own_slot(warp), inside);
#pragma unroll
    for (int k = 0; k < T::kPieces; k++)
        small_piece(part.value[k], args, source, warp / 4 + k * T::kSets, inside);
    if (warp == T::kWarps - 1) {
        const struct small_slot slot = small_last_slot<T>();
        source = small_source(args, phase, first, slot, inside);
        small_piece(part.value[T::kPieces], args, source, (threadIdx.x & 31) % T::kGroups, inside);
    }
}

/* Asks L2 for the lines of a warp's part: four slots of it in eight channels at a time. */
template <class T>
static __device__ __forceinline__ void small_prefetch(const struct small_args &args,
                                                      const struct small_phase &phase,
                                                      uint32_t first, int warp)
{
    const int lane = threadIdx.x & 31;
    const struct small_slot slot = {(warp >> 1) & 1, (warp & 1) * 32 + (lane >> 3) * 31 / 3};
    bool inside;
    const float *source = small_source(args, phase, first, slot, inside);
#pragma unroll
    for (int k = 0; k < T::kPieces; k++) {
        const int channel = (warp / 4 + k * T::kSets) * 8 + (lane & 7);
        if (inside && channel < args.in_channels)
            prefetch_l2(source + channel * args.input_plane);
    }
}

/* A piece -> shared memory as fp16; its largest magnitude. */
template <class T>
static __device__ __forceinline__ uint32_t small_store(const float (&value)[8],
                                                       const struct small_args &args, uint32_t x,
                                                       struct small_slot slot, int group)
{
    const uint32_t to = x + slot.jh * T::kX + (group * kSlots + slot.at) * kSlotBytes;
    uint32_t high[4], low[4], most = 0;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float a = value[2 * j], b = value[2 * j + 1];
        const __half2 h = __floats2half2_rn(a * args.x_scale, b * args.x_scale);
        const __half2 l = __floats2half2_rn(a * args.x_scale - __low2float(h),
                                            b * args.x_scale - __high2float(h));
        high[j] = *(const uint32_t *)&h;
        low[j] = *(const uint32_t *)&l;
        most = max(most, max(__float_as_uint(a) & 0x7fffffffu, __float_as_uint(b) & 0x7fffffffu));
    }
    shared_store(to, high);
    if (kParts == 2)
        shared_store(to + args.taps_h * T::kX, low);
    return most;
}

/* What small_load() fetched -> shared memory, and the largest magnitude of every slot. */
template <class T>
static __device__ __forceinline__ void
small_put(const struct small_part<T> &part, const struct small_args &args,
          const struct small_phase &phase, uint32_t x, uint32_t *largest, int warp)
{
    const struct small_slot slot = small_own_slot(warp);
    if (slot.jh < phase.taps_h) {
        uint32_t most = 0;
#pragma unroll
        for (int k = 0; k < T::kPieces; k++)
            most = max(most, small_store<T>(part.value[k], args, x, slot, warp / 4 + k * T::kSets));
        atomicMax(largest + slot.jh * kSlots + slot.at, most);
    }
    if (warp == T::kWarps - 1) {
        const struct small_slot last = small_last_slot<T>();
        if (last.jh < phase.taps_h)
            atomicMax(largest + last.jh * kSlots + last.at,
                      small_store<T>(part.value[T::kPieces], args, x, last,
                                     (threadIdx.x & 31) % T::kGroups));
    }
}

/* Which of the tile's patches fp16 cannot hold: a bit each, by the first two warps. Whether there
 * are any in this one. */
static __device__ __forceinline__ bool small_flag(const struct small_args &args,
                                                  const struct small_phase &phase,
                                                  const uint32_t *largest, uint32_t *flagged)
{
    const int patch = threadIdx.x;
    uint32_t most = 0;
    for (int jh = 0; jh < phase.taps_h; jh++)
        for (int jw = 0; jw < args.taps_w; jw++)
            most = max(most, largest[jh * kSlots + patch + jw]);
    const float m = __uint_as_float(most);
    const bool good = most == 0 ? args.largest > 0.0f : m >= args.smallest && m <= args.largest;
    const uint32_t bad = __ballot_sync(~0u, !good);
    if ((threadIdx.x & 31) == 0)
        flagged[threadIdx.x / 32] = bad;
    return bad != 0;
}

/* ---- products ------------------------------------------------------------------------------- */

/* `weights` are this warpgroup's columns; a tap's are waited for, which the first tile alone does.
 */
template <class T>
static __device__ __forceinline__ void small_multiply(float (&d)[kWidth / 2],
                                                      const struct small_args &args, int taps_h,
                                                      uint32_t weights, uint32_t x, uint32_t loaded)
{
    constexpr uint32_t kWeightPart = T::kGroups * T::kColumns; /* in 16 bytes */
    const uint64_t a0 = wgmma_descriptor(x, kSlots * kSlotBytes, 128);
    const uint64_t b0 = wgmma_descriptor(weights, T::kColumns * 16u, 128);
    const int taps = taps_h * args.taps_w;
#pragma unroll
    for (int i = 0; i < kWidth / 2; i++)
        d[i] = 0.0f;
        /* low(x) high(W), high(x) low(W), high(x) high(W) */
#pragma unroll 1
    for (int product = kParts == 2 ? 0 : 2; product < 3; product++)
#pragma unroll 1
        for (int tap = 0; tap < taps; tap++) {
            const int jh = tap >= args.taps_w, jw = jh ? tap - args.taps_w : tap;
            const uint64_t a = a0 + (product == 0 ? args.taps_h * (T::kX / 16) : 0) +
                               jh * (T::kX / 16) + (args.taps_w - 1 - jw);
            const uint64_t b = b0 + (kParts * tap + (product == 1)) * kWeightPart;
            barrier_wait(loaded + 8 * tap, 0);
            wgmma_fence();
#pragma unroll
            for (int pair = 0; pair < T::kGroups / 2; pair++)
                wgmma<kWidth>::run(d, a + pair * 2 * kSlots, b + pair * 2 * T::kColumns);
            wgmma_commit();
        }
}

/* ---- epilogue ------------------------------------------------------------------------------- */

/* v[i] of lane t of a quad -> v[t] of lane i. */
static __device__ __forceinline__ void quad_transpose(float (&v)[4])
{
    const int t = threadIdx.x & 3;
    const float p = __shfl_xor_sync(~0u, t & 1 ? v[0] : v[1], 1);
    const float q = __shfl_xor_sync(~0u, t & 1 ? v[2] : v[3], 1);
    v[0] = t & 1 ? p : v[0];
    v[1] = t & 1 ? v[1] : p;
    v[2] = t & 1 ? q : v[2];
    v[3] = t & 1 ? v[3] : q;
    const float r = __shfl_xor_sync(~0u, t & 2 ? v[0] : v[2], 2);
    const float s = __shfl_xor_sync(~0u, t & 2 ? v[1] : v[3], 2);
    v[0] = t & 2 ? r : v[0];
    v[1] = t & 2 ? s : v[1];
    v[2] = t & 2 ? v[2] : r;
    v[3] = t & 2 ? v[3] : s;
}

/* Products -> exponentials; factor[i] makes -scale log2(e) p of them once finish() is through. */
template <class T>
static __device__ __forceinline__ void
small_exponentials(float (&d)[kWidth / 2], const struct small_args &args, const float *logit_bias,
                   float (&maximum)[4], float (&sum)[4])
{
    /* Base-2 logits; i: (row, phase) of (g, 0), (g, 1), (g + 8, 0), (g + 8, 1). */
#pragma unroll
    for (int i = 0; i < 4; i++) {
        maximum[i] = -INFINITY;
        sum[i] = 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kSteps; j++) {
        const float b = logit_bias[4 * j];
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
        const float origin = exponent_origin(maximum[i]);
#pragma unroll
        for (int j = 0; j < kSteps; j++) {
            d[4 * j + i] = fast_exp2(d[4 * j + i] - origin);
            sum[i] += d[4 * j + i];
        }
        sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
        sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
    }
}

/* Of the quad's pixels lane t has the one of i = t: v[t]. */
static __device__ __forceinline__ float quad_own(const float (&v)[4])
{
    const int t = threadIdx.x & 3;
    return t & 2 ? (t & 1 ? v[3] : v[2]) : (t & 1 ? v[1] : v[0]);
}

/* (maximum, sum) of every warpgroup for this lane's pixel, at `entry` and a constant further for
 * each -> -scale log2(e) 2^(own maximum - common) / common sum for all of the quad's. All add in
 * the same order. */
template <class T>
static __device__ __forceinline__ void small_combine(float own, float (&factor)[4], uint32_t entry,
                                                     float scale)
{
    float2 other[T::kWarpgroups];
    float common = -INFINITY, total = 0.0f;
#pragma unroll
    for (int w = 0; w < T::kWarpgroups; w++) {
        other[w] = shared_load2(entry + w * kPatches * 16);
        common = fmaxf(common, other[w].x);
    }
#pragma unroll
    for (int w = 0; w < T::kWarpgroups; w++)
        total = fmaf(other[w].y, fast_exp2(other[w].x - common), total);
    const float mine = __fdividef(fast_exp2(own - common) * (-LOG2_E * scale), total);
    const int first = threadIdx.x & 28;
#pragma unroll
    for (int i = 0; i < 4; i++)
        factor[i] = __shfl_sync(~0u, mine, first + i);
}

/* The flagged patches of a tile by the definition: a warp an output pixel, a lane a channel of 32,
 * products in the order (input channel, kernel row, kernel column). Taps that fall outside x don't
 * exist, so NaN and infinities go where IEEE arithmetic sends them. */
template <class T>
static __device__ __forceinline__ void
small_repair(const struct small_args &args, const struct small_phase &phase, int phase_h,
             uint32_t first, uint32_t flagged0, uint32_t flagged1)
{
    constexpr int kEach = (T::kChannels + 31) / 32;
    const int lane = threadIdx.x & 31;
    for (int item = threadIdx.x / 32; item < 2 * kPatches; item += T::kThreads / 32) {
        const int patch = item / 2;
        if (!((patch < 32 ? flagged0 : flagged1) >> (patch & 31) & 1))
            continue;
        const struct small_place at = small_locate(args, phase, first + patch);
        const int u = 2 * (at.row + phase.first_row) + phase_h,
                  v = 2 * (at.col + args.first_patch_col) + item % 2;
        const int oh = u - args.padding_h, ow = v - args.padding_w;
        if (at.image >= args.images || at.col >= args.patch_cols || ow < 0 || ow >= args.output_w)
            continue;
        const float *image = args.x + (int64_t)at.image * args.in_channels * args.input_plane;
        float logit[kEach], maximum = -INFINITY, total = 0.0f;
#pragma unroll
        for (int k = 0; k < kEach; k++) {
            const int c = k * 32 + lane;
            float sum = 0.0f;
            for (int in = 0; c < args.out_channels && in < args.in_channels; in++) {
                const float *w = args.weight + ((int64_t)in * args.out_channels + c) *
                                                   args.kernel_h * args.kernel_w;
                for (int kh = u % 2; kh < args.kernel_h; kh += 2) {
                    const int row = (u - kh) / 2;
                    if (u < kh || row >= args.height)
                        continue;
                    for (int kw = v % 2; kw < args.kernel_w; kw += 2) {
                        const int col = (v - kw) / 2;
                        if (v >= kw && col < args.width)
                            sum =
                                fmaf(image[in * args.input_plane + (int64_t)row * args.width + col],
                                     w[kh * args.kernel_w + kw], sum);
                    }
                }
            }
            logit[k] = c < args.out_channels ? sum + args.conv_bias[c] : -INFINITY;
            maximum = fmaxf(maximum, logit[k]);
        }
        for (int step = 16; step; step /= 2)
            maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, step));
#pragma unroll
        for (int k = 0; k < kEach; k++) {
            logit[k] = fast_exp(logit[k] - maximum);
            total += k * 32 + lane < args.out_channels ? logit[k] : 0.0f;
        }
        for (int step = 16; step; step /= 2)
            total += __shfl_xor_sync(~0u, total, step);
        float *y = args.y + (int64_t)at.image * args.out_channels * args.output_plane +
                   (int64_t)oh * args.output_w + ow;
#pragma unroll
        for (int k = 0; k < kEach; k++) {
            const int c = k * 32 + lane;
            if (c < args.out_channels)
                y[c * args.output_plane] =
                    fast_sigmoid(args.scaling_factor * (logit[k] / total + args.bias[c]));
        }
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

/* ---- kernel --------------------------------------------------------------------------------- */

template <class T, bool kPairs>
static __global__ void __launch_bounds__(T::kThreads, T::kBlocks)
    fused_small_kernel(const __grid_constant__ struct small_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    BLOCK_SHARED(shared);
    const struct small_layout layout = small_layout_make<T>(args.taps_h, args.taps_w);
    const uint32_t base = shared_address(shared);
    const uint32_t x = base + layout.x, loaded = base + layout.barriers;
    uint32_t *const largest = (uint32_t *)(shared + layout.largest);
    volatile uint32_t *const flagged = (volatile uint32_t *)(shared + layout.flagged);
    float *const logit_biases = (float *)(shared + layout.biases);
    float *const sigmoid_biases = logit_biases + T::kChannels;

    const int phase_h = (int)blockIdx.x >= args.blocks;
    const struct small_phase &phase = args.phase[phase_h];
    const int share = blockIdx.x - (phase_h ? args.blocks : 0);
    const int shares = phase_h ? gridDim.x - args.blocks : args.blocks;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x & 31;
    const int group = warp / 4, quad = lane & 3;
    struct small_part<T> part;

    dependents_may_launch();
    if (threadIdx.x == 0) {
        const int taps = phase.taps_h * args.taps_w;
        constexpr uint32_t kBytes = kParts * T::kGroups * T::kColumns * 16u;
        const uint8_t *from =
            (const uint8_t *)args.packed + phase_h * args.taps_h * args.taps_w * (int64_t)kBytes;
        for (int tap = 0; tap < taps; tap++)
            barrier_init(loaded + 8 * tap, 1);
        barrier_init_fence();
        fence_proxy_async();
        for (int tap = 0; tap < taps; tap++) {
            barrier_expect(loaded + 8 * tap, kBytes);
            bulk_load(base + tap * kBytes, from + tap * kBytes, kBytes, loaded + 8 * tap);
        }
    }
    small_prefetch<T>(args, phase, (uint32_t)share * kPatches, warp);
    wait_for_prerequisites();
    small_load<T>(part, args, phase, (uint32_t)share * kPatches, warp);
    for (int i = threadIdx.x; i < 2 * kAllSlots; i += T::kThreads)
        largest[i] = 0;
    if (threadIdx.x < T::kChannels) {
        const int c = threadIdx.x;
        const bool real = c < args.out_channels;
        logit_biases[c] = real ? args.conv_bias[c] * LOG2_E : -INFINITY;
        sigmoid_biases[c] = real ? -LOG2_E * (args.scaling_factor * args.bias[c]) : 0.0f;
    }
    __syncthreads();

    const float *const logit_bias = logit_biases + group * (kWidth / 2) + quad;
    const float *const sigmoid_bias = sigmoid_biases + group * (kWidth / 2) + quad;
    /* This lane's pixel: of the rows of lane / 4 and column phase t % 2 for lane t of a quad. */
    const int patch = (warp & 3) * 16 + (lane >> 2) + (quad >> 1) * 8;
    const uint32_t entry = base + layout.exchange + (uint32_t)patch * 16u + (quad & 1) * 8;
    const int first_channel = group * (kWidth / 2);
    const int channels = args.out_channels - first_channel;
    int turn = 0;
    for (int tile = share; tile < phase.tiles; tile += shares, turn ^= 1) {
        const uint32_t first = (uint32_t)tile * kPatches;
        uint32_t *const mine = largest + turn * kAllSlots;
        small_put<T>(part, args, phase, x, mine, warp);
        fence_proxy_async();
        __syncthreads(); /* x is there */

        float d[kWidth / 2], maximum[4], sum[4], factor[4];
        small_multiply<T>(d, args, phase.taps_h, base + group * kWidth * 16u, x, loaded);
        if (tile + shares < phase.tiles)
            small_load<T>(part, args, phase, first + (uint32_t)shares * kPatches, warp);
        const bool bad = warp < kPatches / 32 && small_flag(args, phase, mine, (uint32_t *)flagged);
        for (int i = threadIdx.x; i < kAllSlots; i += T::kThreads)
            largest[(turn ^ 1) * kAllSlots + i] = 0;
        /* where this lane stores: output column `lane` of the warp's 32 */
        const struct small_place at = small_locate(args, phase, first + patch);
        const int oh = 2 * (at.row + phase.first_row) + phase_h - args.padding_h;
        const int ow = 2 * (at.col + args.first_patch_col) + (quad & 1) - args.padding_w;
        float *target =
            args.y + ((int64_t)at.image * args.out_channels + first_channel) * args.output_plane +
            (int64_t)oh * args.output_w + ow;
        const bool real =
            at.image < args.images && at.col < args.patch_cols && ow >= 0 && ow < args.output_w;
        wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < kWidth / 2; i++)
            register_keep(d[i]); /* nothing reads d before the wait */
        small_exponentials<T>(d, args, logit_bias, maximum, sum);
        const float own = quad_own(maximum);
        const uint32_t to = entry + group * kPatches * 16u;
        shared_store(to, __float_as_uint(own));
        shared_store(to + 4, __float_as_uint(quad_own(sum)));
        /* x is read; maxima, sums and flags are there */
        const bool some_bad = __syncthreads_or(bad);
        const uint32_t flagged0 = flagged[0], flagged1 = flagged[1];
        const bool valid = real && !((patch < 32 ? flagged0 : flagged1) >> (patch & 31) & 1);
        small_combine<T>(own, factor, entry,
                         args.scaling_factor); /* exp(-scale p) = 2^(factor e) */
#pragma unroll
        for (int j = 0; j < kSteps; j++) {
            if (4 * j >= channels)
                break;
            float out[4];
            sigmoids<kPairs>(out, d + 4 * j, factor, sigmoid_bias[4 * j]);
            quad_transpose(out);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                store_if(target, out[k], valid && 4 * j + k < channels);
                target += args.output_plane;
            }
        }
        if (some_bad)
            small_repair<T>(args, phase, phase_h, first, flagged0, flagged1);
    }
#endif
}

#endif
