/* The register-tiled main loop of the fp32 transposed convolution (internal to gpu/).
 *
 * One phase of the sub-pixel decomposition (gpu/conv_tables.h) as a GEMM, without im2col: the A
 * matrix is gathered from x as the slices are loaded.
 *
 *     logits [BM pixels, BN channels] = sum over slices of  A [BM, BK] * B [BK, BN]
 *
 *     a slice is BK input channels at one tap; A[m, k] = x[n(m), c0 + k, a(m) + dh, b(m) + dw]
 *
 *     tile 128 x 128 (128 threads, 4 warps)      a warp: 32 pixels x 128 channels
 *
 *          channels 0 ........ 127                  lane = 8 * lm + ln,  lm 0..3, ln 0..7
 *        +-------------------------+                pixels    lm * 4 + i * 16 + (0..3),  i 0..1
 *      p | warp 0                  |  32            channels  ln * 4 + j * 32 + (0..3),  j 0..3
 *      i +-------------------------+                8 x 16 accumulators a thread
 *      x | warp 1                  |
 *      e +-------------------------+              each k: 2 + 4 shared-memory loads of 16 bytes for
 *      l | warp 2                  |              128 FFMA a thread: 24 cycles of the shared-memory
 *      s +-------------------------+              port under 32 of the FMA pipes
 *        | warp 3                  |
 *        +-------------------------+
 *
 * All channels of a pixel lie in one warp (WARPS_N 1), so softmax needs shuffles over ln alone.
 *
 * Loads: a thread owns one pixel (or BM / 128 of them) and copies its channels by 4-byte cp.async,
 * neighbours in a warp being neighbours in x; where the tap falls outside the input it reads
 * nothing and writes zeros. So weights must be finite: 0 * inf would be NaN; other weights go through
 * gpu/conv_direct.cuh. B is copied by 16-byte cp.async. STAGES slices are in flight.
 *
 * Sums are in order of taps, then channels, one FMA each: IEEE fp32. */
#ifndef ASSAY_GPU_CONV_GEMM_CUH
#define ASSAY_GPU_CONV_GEMM_CUH

#include <cuda_pipeline_primitives.h>

#include "gpu/conv_tables.h"

#define GEMM_THREADS 128

/* BN channels wide; WARPS_N of the 4 warps, and LANES_N of a warp's 32 lanes, side by side in the
 * channels; TM x TN accumulators a thread. */
template <int WARPS_N_, int LANES_N_, int TM_, int TN_, int BK_, int STAGES_>
struct gemm_tile {
    static constexpr int WARPS_N = WARPS_N_, LANES_N = LANES_N_, TM = TM_, TN = TN_, BK = BK_,
                         STAGES = STAGES_;
    static constexpr int WARPS_M = 4 / WARPS_N, LANES_M = 32 / LANES_N;
    static constexpr int WARP_M = LANES_M * TM, WARP_N = LANES_N * TN;
    static constexpr int BM = WARPS_M * WARP_M, BN = WARPS_N * WARP_N;

    static constexpr int PIXELS = BM > GEMM_THREADS ? BM / GEMM_THREADS : 1; /* a thread loads */
    static constexpr int K_STEP = BM < GEMM_THREADS ? GEMM_THREADS / BM : 1;
    static constexpr int K_ROWS = BK / K_STEP;
    static constexpr int B_VECTORS = BN / 4;                   /* 16-byte copies in a row of B */
    static constexpr int B_ROWS = GEMM_THREADS / B_VECTORS;    /* that one round of copies covers */
    static constexpr int B_COPIES = B_ROWS < BK ? BK / B_ROWS : 1;

    /* Output staging, one area for each warp: a row of pixels for each of 4 * LANES_N channels. */
    static constexpr int STAGE_ROWS = 4 * LANES_N, STAGE_PITCH = WARP_M + 4;

    /* Shared memory, in floats: A [STAGES][BK][BM], B [STAGES][BK][BN]; afterwards the staging. */
    static constexpr int A_SIZE = BK * BM, B_SIZE = BK * BN;
    static constexpr int PIPELINE_SIZE = STAGES * (A_SIZE + B_SIZE);
    static constexpr int STAGING_SIZE = 4 * STAGE_ROWS * STAGE_PITCH;
    static constexpr int SHARED_SIZE = PIPELINE_SIZE > STAGING_SIZE ? PIPELINE_SIZE : STAGING_SIZE;
    static constexpr int SHARED_BYTES = SHARED_SIZE * 4;

    static_assert(TM % 4 == 0 && TN % 4 == 0, "fragments are loaded 16 bytes at a time");
    static_assert(WARP_M % 32 == 0, "a warp writes 32 pixels at a time");
    static_assert(B_ROWS >= 1 && (B_ROWS > BK || BK % B_ROWS == 0), "B is copied in whole rounds");
    static_assert(K_STEP <= BK && BK % K_STEP == 0 && 16 % BK == 0, "slices divide the padding");
};

/* One residue pair and its pixels, flattened over (image, a, b). */
struct conv_phase {
    int rh, rw;
    int rows, columns;
    int64_t pixels;
    int row_first, row_end, column_first, column_end; /* positions of its taps */
};

static __device__ __forceinline__ conv_phase conv_phase_of(const conv_args &args, int index)
{
    conv_phase p;
    p.rh = index / args.phases_w;
    p.rw = index % args.phases_w;
    p.rows = (args.output_h - p.rh + args.stride_h - 1) / args.stride_h;
    p.columns = (args.output_w - p.rw + args.stride_w - 1) / args.stride_w;
    p.pixels = args.images * ((int64_t)p.rows * p.columns);
    p.row_first = args.row_begin[p.rh];
    p.row_end = args.row_begin[p.rh + 1];
    p.column_first = args.column_begin[p.rw];
    p.column_end = args.column_begin[p.rw + 1];
    return p;
}

/* Pixel m of a phase: its image, and (a, b) in the phase. */
static __device__ __forceinline__ void conv_pixel_of(const conv_phase &p, int64_t m, int64_t *image,
                                                     int *a, int *b)
{
    if (p.pixels < (1ll << 31)) { /* 32-bit division is several times cheaper */
        const unsigned plane = (unsigned)(p.rows * p.columns), u = (unsigned)m;
        const unsigned n = u / plane, rest = u - n * plane;
        *image = n;
        *a = (int)(rest / (unsigned)p.columns);
        *b = (int)(rest - (unsigned)*a * (unsigned)p.columns);
    } else {
        const int64_t plane = (int64_t)p.rows * p.columns, n = m / plane, rest = m - n * plane;
        *image = n;
        *a = (int)(rest / p.columns);
        *b = (int)(rest - (int64_t)*a * p.columns);
    }
}

/* Starts a copy of 4 bytes, or of a zero where `skip`: then the address is not read. */
static __device__ __forceinline__ void copy_4_or_zero(unsigned shared, const float *global, int skip)
{
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.s32 p, %2, 0;\n"
                 "cp.async.ca.shared.global [%0], [%1], 4, p;\n"
                 "}" ::"r"(shared),
                 "l"(global), "r"(skip)
                 : "memory");
}

static __device__ __forceinline__ void copy_16(unsigned shared, const float *global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

/* What a thread needs to load the slices in order. */
template <class T>
struct gemm_loader {
    const float *origin[T::PIXELS]; /* x of this thread's pixels, first channel, tap distance 0 */
    const float *source[T::PIXELS]; /* at the current tap and channel */
    int a[T::PIXELS], b[T::PIXELS];
    int skip[T::PIXELS]; /* the tap falls outside the input */
    const float *weight; /* B of the current slice, at this thread's first copy */
    int row, column;     /* positions of the current tap */
    int channel;         /* of the current slice */
};

template <class T>
static __device__ __forceinline__ void loader_tap(gemm_loader<T> &l, const conv_args &args,
                                                  const conv_phase &p, int group, int chunk)
{
    const int dh = args.row_distance[l.row], dw = args.column_distance[l.column];
    const int first_k = threadIdx.x / T::BM;
#pragma unroll
    for (int i = 0; i < T::PIXELS; i++) {
        const bool inside = (unsigned)(l.a[i] + dh) < (unsigned)args.height &&
                            (unsigned)(l.b[i] + dw) < (unsigned)args.width;
        l.skip[i] = !inside;
        l.source[i] = (inside ? l.origin[i] + ((int64_t)dh * args.width + dw) : args.x) +
                      (int64_t)first_k * args.x_plane;
    }
    const int64_t block =
        ((int64_t)group * args.kernel_h + l.row) * args.kernel_w + l.column;
    l.weight = args.packed +
               (block * args.group_in_padded + threadIdx.x / T::B_VECTORS) * args.group_out_padded +
               chunk * T::BN + threadIdx.x % T::B_VECTORS * 4;
    l.channel = 0;
}

/* Starts the copies of the current slice into stage buffers a_to, b_to and moves to the next. */
template <class T>
static __device__ __forceinline__ void loader_next(gemm_loader<T> &l, const conv_args &args,
                                                   const conv_phase &p, int group, int chunk,
                                                   float *a_to, float *b_to)
{
    const int first_k = threadIdx.x / T::BM;
    const int channels_left = args.group_in - l.channel;
#pragma unroll
    for (int i = 0; i < T::PIXELS; i++) {
        const unsigned to = (unsigned)__cvta_generic_to_shared(
            a_to + first_k * T::BM + threadIdx.x % T::BM + i * GEMM_THREADS);
        if (channels_left >= T::BK) {
#pragma unroll
            for (int k = 0; k < T::K_ROWS; k++) {
                copy_4_or_zero(to + k * (T::K_STEP * T::BM * 4), l.source[i], l.skip[i]);
                l.source[i] += args.x_plane * T::K_STEP;
            }
        } else { /* the last channels: rows beyond them are zero */
#pragma unroll 1
            for (int k = 0; k < T::K_ROWS; k++) {
                const bool real = first_k + k * T::K_STEP < channels_left;
                copy_4_or_zero(to + k * (T::K_STEP * T::BM * 4), real ? l.source[i] : args.x,
                               !real || l.skip[i]);
                l.source[i] += args.x_plane * T::K_STEP;
            }
        }
    }
    const unsigned to = (unsigned)__cvta_generic_to_shared(b_to + threadIdx.x * 4);
    const float *from = l.weight;
#pragma unroll
    for (int i = 0; i < T::B_COPIES; i++) {
        if (T::B_ROWS < T::BK || threadIdx.x / T::B_VECTORS < T::BK)
            copy_16(to + i * (GEMM_THREADS * 16), from);
        from += (int64_t)T::B_ROWS * args.group_out_padded;
    }
    l.weight += (int64_t)T::BK * args.group_out_padded;
    l.channel += T::BK;
    if (l.channel >= args.group_in) {
        if (++l.column == p.column_end) {
            l.column = p.column_first;
            l.row++;
        }
        if (l.row < p.row_end)
            loader_tap<T>(l, args, p, group, chunk);
    }
}

/* A thread's k-th fragments of A and B. */
template <class T>
static __device__ __forceinline__ void load_fragments(const float *a_from, const float *b_from,
                                                      float (&a)[T::TM], float (&b)[T::TN])
{
#pragma unroll
    for (int i = 0; i < T::TM / 4; i++)
        *(float4 *)&a[4 * i] = *(const float4 *)(a_from + i * T::LANES_M * 4);
#pragma unroll
    for (int j = 0; j < T::TN / 4; j++)
        *(float4 *)&b[4 * j] = *(const float4 *)(b_from + j * T::LANES_N * 4);
}

/* acc = the logits, without conv_bias, of pixels first_pixel .. + BM of the phase, and of channels
 * chunk * BN .. + BN of the group. All threads of the block call it; on return the shared memory is
 * free. `shared` is 16-byte aligned, T::SHARED_BYTES. */
template <class T>
static __device__ __forceinline__ void conv_gemm(const conv_args &args, const conv_phase &p,
                                                 int64_t first_pixel, int group, int chunk,
                                                 float *shared, float (&acc)[T::TM][T::TN])
{
    float *const a_stages = shared, *const b_stages = shared + T::STAGES * T::A_SIZE;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float *const a_fragment =
        a_stages + warp / T::WARPS_N * T::WARP_M + lane / T::LANES_N * 4;
    const float *const b_fragment =
        b_stages + warp % T::WARPS_N * T::WARP_N + lane % T::LANES_N * 4;

#pragma unroll
    for (int i = 0; i < T::TM; i++)
#pragma unroll
        for (int j = 0; j < T::TN; j++)
            acc[i][j] = 0.0f;

    const int taps = (p.row_end - p.row_first) * (p.column_end - p.column_first);
    const int slices = taps * ((args.group_in + T::BK - 1) / T::BK);
    if (slices == 0) /* stride > kernel: a phase that no tap reaches */
        return;

    gemm_loader<T> l;
#pragma unroll
    for (int i = 0; i < T::PIXELS; i++) {
        const int64_t m = first_pixel + threadIdx.x % T::BM + i * GEMM_THREADS;
        int64_t image = 0;
        l.a[i] = l.b[i] = -CONV_DIMENSION_LIMIT * 2; /* outside at every tap */
        l.origin[i] = args.x;
        if (m < p.pixels) {
            conv_pixel_of(p, m, &image, &l.a[i], &l.b[i]);
            l.origin[i] += image * args.x_image + (int64_t)group * args.group_in * args.x_plane +
                           (int64_t)l.a[i] * args.width + l.b[i];
        }
    }
    l.row = p.row_first;
    l.column = p.column_first;
    loader_tap<T>(l, args, p, group, chunk);

#pragma unroll
    for (int s = 0; s < T::STAGES - 1; s++) {
        if (s < slices)
            loader_next<T>(l, args, p, group, chunk, a_stages + s * T::A_SIZE,
                           b_stages + s * T::B_SIZE);
        __pipeline_commit();
    }

    int reading = 0, writing = T::STAGES - 1;
    for (int slice = 0; slice < slices; slice++) {
        __pipeline_wait_prior(T::STAGES - 2);
        __syncthreads();
        if (slice + T::STAGES - 1 < slices)
            loader_next<T>(l, args, p, group, chunk, a_stages + writing * T::A_SIZE,
                           b_stages + writing * T::B_SIZE);
        __pipeline_commit();

        const float *a_from = a_fragment + reading * T::A_SIZE;
        const float *b_from = b_fragment + reading * T::B_SIZE;
        float a[2][T::TM], b[2][T::TN];
        load_fragments<T>(a_from, b_from, a[0], b[0]);
#pragma unroll
        for (int k = 0; k < T::BK; k++) {
            if (k + 1 < T::BK)
                load_fragments<T>(a_from + (k + 1) * T::BM, b_from + (k + 1) * T::BN,
                                  a[(k + 1) % 2], b[(k + 1) % 2]);
#pragma unroll
            for (int i = 0; i < T::TM; i++)
#pragma unroll
                for (int j = 0; j < T::TN; j++)
                    acc[i][j] = fmaf(a[k % 2][i], b[k % 2][j], acc[i][j]);
        }
        reading = reading + 1 == T::STAGES ? 0 : reading + 1;
        writing = writing + 1 == T::STAGES ? 0 : writing + 1;
    }
    __pipeline_wait_prior(0);
    __syncthreads();
}

/* The channel, in the group, of a thread's accumulator column j. */
template <class T>
static __device__ __forceinline__ int gemm_channel(int chunk, int j)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    return chunk * T::BN + warp % T::WARPS_N * T::WARP_N + j / 4 * (4 * T::LANES_N) +
           lane % T::LANES_N * 4 + j % 4;
}

/* Writes the tile to y, through shared memory so that a warp writes runs of neighbouring pixels.
 * The 4 * LANES_N channels of one j / 4 pass at a time; row q * LANES_N + ln of the staging holds
 * channel 4 * ln + q, which keeps the 16-byte stores free of bank conflicts. */
template <class T>
static __device__ __forceinline__ void gemm_store(const conv_args &args, const conv_phase &p,
                                                  int64_t first_pixel, int group, int chunk,
                                                  float *shared, float (&acc)[T::TM][T::TN])
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int lm = lane / T::LANES_N, ln = lane % T::LANES_N;
    float *const staging = shared + warp * (T::STAGE_ROWS * T::STAGE_PITCH);

    float *to[T::WARP_M / 32];
#pragma unroll
    for (int h = 0; h < T::WARP_M / 32; h++) {
        const int64_t m = first_pixel + warp / T::WARPS_N * T::WARP_M + h * 32 + lane;
        to[h] = NULL;
        if (m < p.pixels) {
            int64_t image;
            int a, b;
            conv_pixel_of(p, m, &image, &a, &b);
            to[h] = args.y + image * args.y_image + (int64_t)group * args.group_out * args.y_plane +
                    (int64_t)(a * args.stride_h + p.rh) * args.output_w +
                    (b * args.stride_w + p.rw);
        }
    }
#pragma unroll
    for (int j = 0; j < T::TN / 4; j++) {
        __syncwarp();
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
            for (int i = 0; i < T::TM / 4; i++) {
                const float4 four = {acc[4 * i][4 * j + q], acc[4 * i + 1][4 * j + q],
                                     acc[4 * i + 2][4 * j + q], acc[4 * i + 3][4 * j + q]};
                *(float4 *)(staging + (q * T::LANES_N + ln) * T::STAGE_PITCH +
                            i * T::LANES_M * 4 + lm * 4) = four;
            }
        __syncwarp();
        const int first = chunk * T::BN + warp % T::WARPS_N * T::WARP_N + j * (4 * T::LANES_N);
#pragma unroll 8
        for (int r = 0; r < T::STAGE_ROWS; r++) {
            const int channel = first + r % T::LANES_N * 4 + r / T::LANES_N;
            if (channel < args.group_out) {
#pragma unroll
                for (int h = 0; h < T::WARP_M / 32; h++)
                    if (to[h])
                        to[h][channel * args.y_plane] =
                            staging[r * T::STAGE_PITCH + h * 32 + lane];
            }
        }
    }
}

#endif
