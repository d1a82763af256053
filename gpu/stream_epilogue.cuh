/* The streaming kernel's epilogue: softmax over channels, bias, scale and sigmoid on the
 * accumulators of a tile, stores to y, and images that fp16 cannot hold (internal to gpu/; sm_90a).
 *
 * Thread (g, t) of a warp holds columns 8j + 2t and 8j + 2t + 1 of patches g and g + 8, so its
 * phase is (2t + e) mod phases whatever j: softmax is over a thread's registers and up to two
 * shuffles. Results go to shared memory as [column][patch] with a pitch of 68 floats (no conflicts
 * on the way in), and from there to y with lanes along the output row, windows of 32 beginning at
 * whole sectors. */
#ifndef ASSAY_GPU_STREAM_EPILOGUE_CUH
#define ASSAY_GPU_STREAM_EPILOGUE_CUH

#include "gpu/async_copy.cuh"
#include "gpu/epilogue_math.cuh"
#include "gpu/stream_args.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

static __device__ __forceinline__ void consumers_sync(void)
{
    named_barrier<1, 128>();
}

/* The same, and true in all consumers where it is in one. */
static __device__ __forceinline__ bool consumers_any(bool mine)
{
    return named_barrier_any<1, 128>(mine);
}

/* Each rank tells all the maximum and the sum of every pixel, and all add them in the same order:
 * this rank's entry [row][phase] becomes the factor that makes -scale * log2(e) * p of an
 * exponential. */
template <class T>
static __device__ __forceinline__ void stream_exchange(const struct stream_args &args,
                                                       uint8_t *shared)
{
    const struct stream_geometry &g = args.geometry;
    float2 *entries = (float2 *)(shared + T::kExchange);
    const int all = kTileRows * g.phases, rank = (int)cluster_rank();
#pragma unroll 1
    for (int pixel = threadIdx.x; pixel < all; pixel += kConsumers) {
        const float2 entry = entries[rank * all + pixel];
        const uint32_t here = shared_address(entries + rank * all + pixel);
#pragma unroll 1
        for (int r = 0; r < g.ranks; r++)
            if (r != rank)
                cluster_store(cluster_map(here, r), entry);
    }
    cluster_sync();
#pragma unroll 1
    for (int pixel = threadIdx.x; pixel < all; pixel += kConsumers) {
        float most = -INFINITY, total = 0.0f;
#pragma unroll 1
        for (int r = 0; r < g.ranks; r++)
            most = fmaxf(most, entries[r * all + pixel].x);
#pragma unroll 1
        for (int r = 0; r < g.ranks; r++)
            total += entries[r * all + pixel].y * fast_exp2(entries[r * all + pixel].x - most);
        entries[rank * all + pixel].x = __fdividef(
            -LOG2_E * args.scaling_factor * fast_exp2(entries[rank * all + pixel].x - most), total);
    }
    consumers_sync();
}

/* Logits -> softmax -> sigmoid, in place. */
template <class T>
static __device__ __forceinline__ void
stream_activate(float (&d)[T::kColumns / 2], const struct stream_args &args, uint8_t *shared)
{
    constexpr int kSteps = T::kColumns / 8;
    const struct stream_geometry &g = args.geometry;
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    const int quad = lane & 3, row = 16 * warp + (lane >> 2);
    const float *logit_bias = (const float *)(shared + T::kBiases) + 2 * quad;
    const float *sigmoid_bias = logit_bias + T::kColumns;
    const float share = -LOG2_E * args.scaling_factor;

    /* Base-2 logits and their maximum; i: (row, e) of (g, 0), (g, 1), (g + 8, 0), (g + 8, 1). */
    float maximum[4], sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        maximum[i] = -INFINITY;
        sum[i] = 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kSteps; j++) {
        const float2 b = *(const float2 *)(logit_bias + 8 * j);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            d[4 * j + i] = fmaf(d[4 * j + i], args.descale, i & 1 ? b.y : b.x);
            maximum[i] = fmaxf(maximum[i], d[4 * j + i]);
        }
    }
    if (g.solo) { /* softmax over one channel: 1, or NaN */
#pragma unroll
        for (int j = 0; j < 4 * kSteps; j++)
            d[j] = fast_exp2(d[j] - d[j]);
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum[i] = share;
    } else {
        const int phases = g.phases;
#pragma unroll
        for (int i = 0; i < 4; i += 2)
            if (phases == 1)
                maximum[i] = maximum[i + 1] = fmaxf(maximum[i], maximum[i + 1]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (phases <= 2)
                maximum[i] = fmaxf(maximum[i], __shfl_xor_sync(~0u, maximum[i], 1));
            if (phases <= 4)
                maximum[i] = fmaxf(maximum[i], __shfl_xor_sync(~0u, maximum[i], 2));
        }
        /* a rank may have no channels above -inf where another has */
        float origin[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            origin[i] = g.ranks > 1 ? exponent_origin(maximum[i]) : maximum[i];
#pragma unroll
        for (int j = 0; j < kSteps; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                d[4 * j + i] = fast_exp2(d[4 * j + i] - origin[i]);
                sum[i] += d[4 * j + i];
            }
#pragma unroll
        for (int i = 0; i < 4; i += 2)
            if (phases == 1)
                sum[i] = sum[i + 1] = sum[i] + sum[i + 1];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (phases <= 2)
                sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
            if (phases <= 4)
                sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
        }
        if (g.ranks == 1) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[i] = __fdividef(share, sum[i]); /* exp(-scale p) = 2^(sum e) */
        } else {
            float2 *mine = (float2 *)(shared + T::kExchange) + cluster_rank() * kTileRows * phases;
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (2 * quad + (i & 1) < phases)
                    mine[(row + 8 * (i >> 1)) * phases + 2 * quad + (i & 1)] =
                        make_float2(maximum[i], sum[i]);
            consumers_sync();
            stream_exchange<T>(args, shared);
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[i] =
                    mine[(row + 8 * (i >> 1)) * phases + ((2 * quad + (i & 1)) & (phases - 1))].x;
        }
    }
#pragma unroll
    for (int j = 0; j < kSteps; j++) {
        const float2 b = *(const float2 *)(sigmoid_bias + 8 * j);
#pragma unroll
        for (int i = 0; i < 4; i++)
            d[4 * j + i] =
                fast_reciprocal(1.0f + fast_exp2(fmaf(d[4 * j + i], sum[i], i & 1 ? b.y : b.x)));
    }
}

/* Results -> shared memory -> y. */
template <class T>
static __device__ __forceinline__ void
stream_store(const float (&d)[T::kColumns / 2], const struct stream_args &args,
             const struct stream_place &at, int channels, float *staging, const int4 *rows)
{
    const struct stream_geometry &g = args.geometry;
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    {
        float *to = staging + 2 * (lane & 3) * kStagingPitch + 16 * warp + (lane >> 2);
#pragma unroll
        for (int j = 0; j < T::kColumns / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                to[(8 * j + (i & 1)) * kStagingPitch + 8 * (i >> 1)] = d[4 * j + i];
    }
    consumers_sync();

    /* A warp takes windows of 32 neighbouring outputs of one row phase, of all channels, or of a
     * half or quarter of them where there are few windows.
     * NOTE: a window costs some 600 clocks before its first output, so there should be few. */
    const int windows = (kTileRows * g.columns.phases + 7 + 31) / 32, all = windows * g.rows.phases;
    const int log_parts = all <= 4 ? 2 : all <= 8 ? 1 : 0;
    const int pitch = g.phases * kStagingPitch;
    const int4 origin = rows[0];
    int fh = 0, window = warp >> log_parts;
    const int part = warp & ((1 << log_parts) - 1);
    const int first = channels * part >> log_parts, end = channels * (part + 1) >> log_parts;
#pragma unroll 1
    for (;; window += 4 >> log_parts) {
        while (window >= windows) {
            window -= windows;
            fh++;
        }
        if (fh >= g.rows.phases)
            break;
        const int phase_h = at.ch * g.rows.phases + fh;
        /* where the first output lies in its sector */
        const uint32_t lead =
            ((uint32_t)origin.x * (uint32_t)g.out_channels * (uint32_t)g.output_plane +
             (uint32_t)(origin.y * g.rows.stride + phase_h - g.rows.padding) * g.columns.output +
             (uint32_t)(origin.z * g.columns.stride + at.cw * g.columns.phases -
                        g.columns.padding)) &
            7;
        const int index = window * 32 + lane - (int)lead;
        const int row = index >> g.log_phases_w, fw = index & (g.columns.phases - 1);
        if (index < 0 || row >= kTileRows)
            continue;
        const int4 patch = rows[row];
        const int phase_w = at.cw * g.columns.phases + fw;
        const int oh = patch.y * g.rows.stride + phase_h - g.rows.padding;
        const int ow = patch.z * g.columns.stride + phase_w - g.columns.padding;
        if (patch.w != 0 || phase_h >= g.rows.stride || phase_w >= g.columns.stride ||
            (uint32_t)oh >= (uint32_t)g.rows.output || (uint32_t)ow >= (uint32_t)g.columns.output)
            continue;
        float *y = args.y +
                   ((int64_t)patch.x * g.out_channels + at.rank * g.rank_channels + first) *
                       g.output_plane +
                   (int64_t)oh * g.columns.output + ow;
        const float *from =
            staging + (first * g.phases + fh * g.columns.phases + fw) * kStagingPitch + row;
        int c = first;
#pragma unroll 1
        for (; c + 16 <= end; c += 16) {
            float line[16];
#pragma unroll
            for (int i = 0; i < 16; i++)
                line[i] = from[i * pitch];
            from += 16 * pitch;
#pragma unroll
            for (int i = 0; i < 16; i++) {
                *y = line[i];
                y += g.output_plane;
            }
        }
#pragma unroll 4
        for (; c < end; c++) {
            *y = *from;
            from += pitch;
            y += g.output_plane;
        }
    }
}

/* Over the consumers; the same value in all. `scratch`: four floats. */
template <bool kMaximum>
static __device__ __forceinline__ float stream_reduce(float v, float *scratch)
{
#pragma unroll
    for (int step = 16; step; step /= 2) {
        const float other = __shfl_xor_sync(~0u, v, step);
        v = kMaximum ? fmaxf(v, other) : v + other;
    }
    consumers_sync();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    consumers_sync();
    v = scratch[0];
    for (int i = 1; i < 4; i++)
        v = kMaximum ? fmaxf(v, scratch[i]) : v + scratch[i];
    return v;
}

/* The tile's patches of images that fp16 cannot hold, by the definition in IEEE fp32: all consumers
 * take a pixel, a thread a channel, products in the order (input channel, kernel row, kernel
 * column). Taps that fall outside x don't exist, so NaN and infinities go where IEEE arithmetic
 * sends them. */
template <class T>
static __device__ __forceinline__ void stream_repair(const struct stream_args &args,
                                                     const struct stream_place &at, float *staging,
                                                     const int4 *rows)
{
    const struct stream_geometry &g = args.geometry;
    float *logit = staging + 4, *scratch = staging;
    consumers_sync(); /* results are stored */
    for (int item = at.rank; item < kTileRows * g.phases; item += g.ranks) {
        const int4 patch = rows[item / g.phases];
        const int f = item & (g.phases - 1);
        const int phase_h = at.ch * g.rows.phases + (f >> g.log_phases_w);
        const int phase_w = at.cw * g.columns.phases + (f & (g.columns.phases - 1));
        const int u = patch.y * g.rows.stride + phase_h, oh = u - g.rows.padding;
        const int v = patch.z * g.columns.stride + phase_w, ow = v - g.columns.padding;
        if (patch.w != 1 || phase_h >= g.rows.stride || phase_w >= g.columns.stride ||
            (uint32_t)oh >= (uint32_t)g.rows.output || (uint32_t)ow >= (uint32_t)g.columns.output)
            continue;
        const float *image = args.x + (int64_t)patch.x * g.in_channels * g.input_plane;
        float maximum = -INFINITY, total = 0.0f;
        for (int c = threadIdx.x; c < g.out_channels; c += kConsumers) {
            float sum = 0.0f;
            for (int in = 0; in < g.in_channels; in++) {
                const float *x = image + in * g.input_plane;
                const float *w = args.weight + ((int64_t)in * g.out_channels + c) * g.rows.kernel *
                                                   g.columns.kernel;
                for (int kh = 0; kh < g.rows.kernel; kh++) {
                    const int64_t reach_h = u - (int64_t)kh * g.rows.dilation;
                    const int64_t row = reach_h / g.rows.stride;
                    if (reach_h < 0 || reach_h % g.rows.stride || row >= g.rows.size)
                        continue;
                    for (int kw = 0; kw < g.columns.kernel; kw++) {
                        const int64_t reach_w = v - (int64_t)kw * g.columns.dilation;
                        const int64_t col = reach_w / g.columns.stride;
                        if (reach_w >= 0 && reach_w % g.columns.stride == 0 && col < g.columns.size)
                            sum = fmaf(x[row * g.columns.size + col],
                                       w[(int64_t)kh * g.columns.kernel + kw], sum);
                    }
                }
            }
            sum += args.conv_bias[c];
            logit[c] = sum;
            maximum = fmaxf(maximum, sum);
        }
        maximum = stream_reduce<true>(maximum, scratch);
        for (int c = threadIdx.x; c < g.out_channels; c += kConsumers) {
            logit[c] = fast_exp(logit[c] - maximum);
            total += logit[c];
        }
        total = stream_reduce<false>(total, scratch);
        float *y = args.y + (int64_t)patch.x * g.out_channels * g.output_plane +
                   (int64_t)oh * g.columns.output + ow;
        for (int c = threadIdx.x; c < g.out_channels; c += kConsumers)
            y[c * g.output_plane] =
                fast_sigmoid(args.scaling_factor * (logit[c] / total + args.bias[c]));
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
