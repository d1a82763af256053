/* The register-tiled main loop of the fp32 transposed convolution (internal to gpu/).
 *
 * One phase of the sub-pixel decomposition (gpu/conv_tables.h) as a GEMM, without im2col: the A
 * matrix is gathered from x as the slices are loaded.
 *
 *     logits [BM pixels, BN channels] = sum over slices of  A [BM, BK] * B [BK, BN]
 *
 *     a slice is BK input channels at one tap; A[m, k] = x[n(m), c0 + k, a(m) + dh, b(m) + dw]
 *
 *     tile 128 x 128 (128 threads, 4 warps)     a warp: 32 pixels x 128 channels
 *
 *          channels 0 ........ 127                 lane is (lm, ln),  lm 0..3, ln 0..7
 *        +-------------------------+               pixels    lm * 4 + i * 16 + (0..3),  i 0..1
 *      p | warp 0                  |  32           channels  ln * 4 + j * 32 + (0..3),  j 0..3
 *      i +-------------------------+               8 x 16 accumulators a thread
 *      x | warp 1                  |
 *      e +-------------------------+               each k: 2 + 4 shared-memory loads of
 *      l | warp 2                  |               16 bytes for 128 FFMA a thread
 *      s +-------------------------+
 *        | warp 3                  |
 *        +-------------------------+
 *
 * All channels of a pixel lie in one warp (WARPS_N 1), so softmax needs shuffles over ln alone.
 *
 * Loads: a thread owns one pixel (or BM / 128 of them) and copies its channels by 4-byte cp.async,
 * neighbours in a warp being neighbours in x; where the tap falls outside the input it reads
 * nothing and writes zeros. So weights must be finite: 0 * inf would be NaN; other weights go
 * through gpu/conv_direct.cuh. B is copied by 16-byte cp.async. STAGES - 1 slices are in flight; a
 * slice's copies are issued under the first step of another's arithmetic, and the first fragments
 * of the next slice are read under the last step of this one.
 *
 * Sums start from conv_bias and go in order of taps, then channels, one FMA each: IEEE fp32. */
#ifndef ASSAY_GPU_CONV_GEMM_CUH
#define ASSAY_GPU_CONV_GEMM_CUH

#include <cuda_pipeline_primitives.h>

#include "gpu/conv_tables.h"

/* WARPS_M x WARPS_N warps, (32 / LANES_N) x LANES_N lanes in each, TM x TN accumulators a thread:
 * pixels by channels every time. WHOLE: for problems without rests (one group, as many output
 * channels as the tile is wide, input channels a multiple of BK), with fewer instructions. */
template <int WARPS_M_, int WARPS_N_, int LANES_N_, int TM_, int TN_, int BK_, int STAGES_,
          bool WHOLE_ = false>
struct gemm_tile {
    static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, LANES_N = LANES_N_, TM = TM_,
                         TN = TN_, BK = BK_, STAGES = STAGES_;
    static constexpr bool WHOLE = WHOLE_;
    typedef gemm_tile<WARPS_M, WARPS_N, LANES_N, TM, TN, BK, STAGES, true> whole;
    static constexpr int WARPS = WARPS_M * WARPS_N, THREADS = 32 * WARPS, LANES_M = 32 / LANES_N;
    static constexpr int WARP_M = LANES_M * TM, WARP_N = LANES_N * TN;
    static constexpr int BM = WARPS_M * WARP_M, BN = WARPS_N * WARP_N;

    static constexpr int PIXELS = BM > THREADS ? BM / THREADS : 1; /* a thread loads */
    static constexpr int K_STEP = BM < THREADS ? THREADS / BM : 1;
    static constexpr int K_ROWS = BK / K_STEP; /* that a thread loads of each of its pixels */
    static constexpr int B_VECTORS = BN / 4;   /* 16-byte copies in a row of B */
    static constexpr int B_ROWS = THREADS / B_VECTORS; /* that one round of copies covers */
    static constexpr int B_COPIES = B_ROWS < BK ? BK / B_ROWS : 1;
    static constexpr int MIN_BLOCKS = (TM * TN > 64 ? 256 : 384) / THREADS;

    /* Output staging, one area for each warp: a row of pixels for each of 4 * LANES_N channels. */
    static constexpr int STAGE_ROWS = 4 * LANES_N, STAGE_PITCH = WARP_M + 8;

    /* Shared memory, in floats: STAGES of A [BK][BM], B [BK][BN]; afterwards the staging. */
    static constexpr int A_SIZE = BK * BM, STAGE_SIZE = BK * (BM + BN);
    static constexpr int PIPELINE_SIZE = STAGES * STAGE_SIZE;
    static constexpr int STAGING_SIZE = WARPS * STAGE_ROWS * STAGE_PITCH;
    static constexpr int SHARED_SIZE = PIPELINE_SIZE > STAGING_SIZE ? PIPELINE_SIZE : STAGING_SIZE;
    static constexpr int SHARED_BYTES = SHARED_SIZE * 4;

    static_assert(TM % 4 == 0 && TN % 4 == 0, "fragments are loaded 16 bytes at a time");
    static_assert(WARP_M % 32 == 0, "a warp writes 32 pixels at a time");
    static_assert(B_ROWS >= 1 && (B_ROWS > BK || BK % B_ROWS == 0), "B is copied in whole rounds");
    static_assert(K_STEP <= BK && BK % K_STEP == 0 && 16 % BK == 0, "slices divide the padding");
    static_assert(BK % 2 == 0, "fragments alternate");
};

/* One residue pair and its pixels, flattened over (image, a, b). */
struct conv_phase {
    int rh, rw;
    int rows, columns;
    int64_t pixels;
    int row_first, row_end, column_first, column_end; /* positions of its taps */
};

/* Where a lane stands among the LANES_M x LANES_N of its warp. Lanes i and i ^ 1 share their pixels
 * and lanes i and i ^ 2 their channels, so that both fragments' 16-byte loads are served for 16
 * lanes at a time (an order of lanes without such neighbours takes 8 at a time). */
template <class T>
static __device__ __forceinline__ int lane_n(void)
{
    return (threadIdx.x & 1) | ((threadIdx.x >> 2) & (T::LANES_N / 2 - 1)) << 1;
}

template <class T>
static __device__ __forceinline__ int lane_m(void)
{
    return ((threadIdx.x >> 1) & 1) | (threadIdx.x % 32 / (2 * T::LANES_N)) << 1;
}

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

/* Starts a copy of 4 bytes, or of a zero where `copy` is 0: then the address is not read. */
static __device__ __forceinline__ void copy_4_or_zero(unsigned shared, const float *global,
                                                      unsigned copy)
{
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.eq.u32 p, %2, 0;\n"
                 "cp.async.ca.shared.global [%0], [%1], 4, p;\n"
                 "}" ::"r"(shared),
                 "l"(global), "r"(copy));
}

static __device__ __forceinline__ void copy_16(unsigned shared, const float *global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global));
}

/* What a thread needs to load the slices in order. */
template <class T>
struct gemm_loader {
    const float *origin[T::PIXELS]; /* x of this thread's pixels, first channel, tap distance 0 */
    const float *source[T::PIXELS]; /* at the next row of A to copy */
    int a[T::PIXELS], b[T::PIXELS];
    unsigned rows[T::PIXELS]; /* of A, this thread's K_ROWS: a bit for each that is not zero */
    bool inside[T::PIXELS];   /* the tap falls inside the input */
    const float *weight;      /* B of the current slice, at this thread's next copy */
    int row, column;          /* positions of the current tap */
    int channel;              /* of the current slice */
};

/* Which rows of the current slice are inside the input and below the last channel. */
template <class T>
static __device__ __forceinline__ void loader_rows(gemm_loader<T> &l, const conv_args &args)
{
    const int left = args.group_in - l.channel - (int)threadIdx.x / T::BM; /* from the first row */
    const int rows = left <= 0 ? 0 : (left + T::K_STEP - 1) / T::K_STEP;
    const unsigned mask = T::WHOLE || rows >= T::K_ROWS ? (1u << T::K_ROWS) - 1 : (1u << rows) - 1;
#pragma unroll
    for (int i = 0; i < T::PIXELS; i++)
        l.rows[i] = l.inside[i] ? mask : 0;
}

/* From a row of B to the next. */
template <class T>
static __device__ __forceinline__ int b_pitch(const conv_args &args)
{
    return T::WHOLE ? T::BN : args.group_out_padded;
}

/* Moves to the first channels of tap (l.row, l.column). */
template <class T>
static __device__ __forceinline__ void loader_tap(gemm_loader<T> &l, const conv_args &args,
                                                  int group, int chunk)
{
    const int dh = args.row_distance[l.row], dw = args.column_distance[l.column];
    const int first_k = threadIdx.x / T::BM;
#pragma unroll
    for (int i = 0; i < T::PIXELS; i++) {
        l.inside[i] = (unsigned)(l.a[i] + dh) < (unsigned)args.height &&
                      (unsigned)(l.b[i] + dw) < (unsigned)args.width;
        l.source[i] = l.origin[i] + ((int64_t)dh * args.width + dw) + first_k * args.x_plane;
    }
    const int64_t block = ((int64_t)group * args.kernel_h + l.row) * args.kernel_w + l.column;
    l.weight = args.packed +
               (block * args.group_in_padded + threadIdx.x / T::B_VECTORS) * b_pitch<T>(args) +
               chunk * T::BN + threadIdx.x % T::B_VECTORS * 4;
    l.channel = 0;
    loader_rows<T>(l, args);
}

/* Starts the copies of the current slice. a_to and b_to are this thread's first places in the
 * stage. NOTE: all at once; spread over the arithmetic they cost more, since before copies the
 * compiler puts three empty instructions, and schedules the fragments' loads late. */
template <class T>
static __device__ __forceinline__ void loader_copy(gemm_loader<T> &l, const conv_args &args,
                                                   unsigned a_to, unsigned b_to)
{
#pragma unroll
    for (int k = 0; k < T::K_ROWS; k++)
#pragma unroll
        for (int i = 0; i < T::PIXELS; i++) {
            copy_4_or_zero(a_to + (k * T::K_STEP * T::BM + i * T::THREADS) * 4, l.source[i],
                           T::WHOLE ? l.rows[i] : l.rows[i] & 1u << k);
            l.source[i] += args.x_plane * T::K_STEP;
        }
#pragma unroll
    for (int i = 0; i < T::B_COPIES; i++) {
        if (T::B_ROWS <= T::BK || threadIdx.x / T::B_VECTORS < T::BK)
            copy_16(b_to + i * (T::THREADS * 16), l.weight);
        l.weight += (int64_t)(T::B_ROWS < T::BK ? T::B_ROWS : T::BK) * b_pitch<T>(args);
    }
}

/* Moves to the next slice. After the last, to one that copies zeros, and weights that exist. */
template <class T>
static __device__ __forceinline__ void loader_advance(gemm_loader<T> &l, const conv_args &args,
                                                      const conv_phase &p, int group, int chunk)
{
    l.channel += T::BK;
    if (l.channel < args.group_in) {
        if (!T::WHOLE && l.channel + T::BK > args.group_in)
            loader_rows<T>(l, args);
        return;
    }
    if (++l.column == p.column_end) {
        l.column = p.column_first;
        l.row++;
    }
    if (l.row < p.row_end) {
        loader_tap<T>(l, args, group, chunk);
        return;
    }
    l.row = p.row_end - 1;
    l.column = p.column_end - 1;
    l.channel = args.group_in;
#pragma unroll
    for (int i = 0; i < T::PIXELS; i++)
        l.rows[i] = 0;
    l.weight = args.packed + (threadIdx.x / T::B_VECTORS) * b_pitch<T>(args) + chunk * T::BN +
               threadIdx.x % T::B_VECTORS * 4;
}

/* A thread's fragments of A and B of one k, from shared addresses. */
template <class T>
static __device__ __forceinline__ void load_fragments(const char *a_from, const char *b_from,
                                                      float (&a)[T::TM], float (&b)[T::TN])
{
#pragma unroll
    for (int i = 0; i < T::TM / 4; i++)
        *(float4 *)&a[4 * i] = *(const float4 *)(a_from + i * T::LANES_M * 16);
#pragma unroll
    for (int j = 0; j < T::TN / 4; j++)
        *(float4 *)&b[4 * j] = *(const float4 *)(b_from + j * T::LANES_N * 16);
}

/* acc += a * b, down and up the pixels in turn, so that neighbours share an operand. NOTE: the
 * order decides what ptxas makes of the accumulators: rows of channels make it move them about,
 * which costs 3 %, by registers of one bank as it seems. */
template <class T>
static __device__ __forceinline__ void multiply(const float (&a)[T::TM], const float (&b)[T::TN],
                                                float (&acc)[T::TM][T::TN])
{
#pragma unroll
    for (int j = 0; j < T::TN; j++)
#pragma unroll
        for (int n = 0; n < T::TM; n++) {
            const int i = j % 2 ? T::TM - 1 - n : n;
            acc[i][j] = fmaf(a[i], b[j], acc[i][j]);
        }
}

/* The stage after the one at byte `stage`. */
template <class T>
static __device__ __forceinline__ unsigned stage_after(unsigned stage)
{
    const unsigned bytes = T::PIPELINE_SIZE * 4, next = stage + T::STAGE_SIZE * 4;
    return (bytes & (bytes - 1)) == 0 ? next & (bytes - 1) : next == bytes ? 0 : next;
}

/* The channel, in the group, of a thread's accumulator column j. */
template <class T>
static __device__ __forceinline__ int gemm_channel(int chunk, int j)
{
    return chunk * T::BN + threadIdx.x / 32 % T::WARPS_N * T::WARP_N + j / 4 * (4 * T::LANES_N) +
           lane_n<T>() * 4 + j % 4;
}

template <class T>
static __device__ __forceinline__ void load_conv_bias(const conv_args &args, int group, int chunk,
                                                      float (&acc)[T::TM][T::TN])
{
#pragma unroll
    for (int j = 0; j < T::TN; j++) {
        const int channel = gemm_channel<T>(chunk, j);
        const float conv_bias = T::WHOLE || channel < args.group_out
                                    ? args.conv_bias[group * args.group_out + channel]
                                    : 0.0f;
#pragma unroll
        for (int i = 0; i < T::TM; i++)
            acc[i][j] = conv_bias;
    }
}

/* acc = the logits, conv_bias first, of pixels first_pixel .. + BM of the phase, and of channels
 * chunk * BN .. + BN of the group. All threads of the block call it; on return the shared memory is
 * free. `shared` is 16-byte aligned, T::SHARED_BYTES. */
template <class T>
static __device__ __forceinline__ void conv_gemm(const conv_args &args, const conv_phase &p,
                                                 int64_t first_pixel, int group, int chunk,
                                                 float *shared, float (&acc)[T::TM][T::TN])
{
    const int taps = (p.row_end - p.row_first) * (p.column_end - p.column_first);
    const int slices = taps * ((args.group_in + T::BK - 1) / T::BK);
    if (slices == 0) { /* stride > kernel: a phase that no tap reaches */
        load_conv_bias<T>(args, group, chunk, acc);
        return;
    }

    gemm_loader<T> l;
#pragma unroll
    for (int i = 0; i < T::PIXELS; i++) {
        const int64_t m = first_pixel + threadIdx.x % T::BM + i * T::THREADS;
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
    loader_tap<T>(l, args, group, chunk);

    const unsigned a_to = (unsigned)__cvta_generic_to_shared(shared + threadIdx.x / T::BM * T::BM +
                                                             threadIdx.x % T::BM);
    const unsigned b_to = (unsigned)__cvta_generic_to_shared(shared + T::A_SIZE + threadIdx.x * 4);
#pragma unroll 1
    for (unsigned s = 0; s < T::STAGES - 1; s++) {
        loader_copy<T>(l, args, a_to + s * (T::STAGE_SIZE * 4), b_to + s * (T::STAGE_SIZE * 4));
        __pipeline_commit();
        loader_advance<T>(l, args, p, group, chunk);
    }
    load_conv_bias<T>(args, group, chunk, acc); /* under the copies */
    __pipeline_wait_prior(T::STAGES - 2);
    __syncthreads();

    const int warp = threadIdx.x / 32;
    const char *const a_fragment =
        (const char *)(shared + warp / T::WARPS_N * T::WARP_M + lane_m<T>() * 4);
    const char *const b_fragment =
        (const char *)(shared + T::A_SIZE + warp % T::WARPS_N * T::WARP_N + lane_n<T>() * 4);
    float a[2][T::TM], b[2][T::TN];
    unsigned reading = 0, writing = (T::STAGES - 1) * T::STAGE_SIZE * 4; /* stages, in bytes */
    load_fragments<T>(a_fragment, b_fragment, a[0], b[0]);
#pragma unroll 1
    for (int slice = 0; slice < slices; slice++) {
        loader_copy<T>(l, args, a_to + writing, b_to + writing);
        __pipeline_commit();
#pragma unroll
        for (int k = 0; k < T::BK; k++) {
            if (k + 1 < T::BK) {
                load_fragments<T>(a_fragment + reading + (k + 1) * (T::BM * 4),
                                  b_fragment + reading + (k + 1) * (T::BN * 4), a[(k + 1) % 2],
                                  b[(k + 1) % 2]);
            } else { /* the next slice's first, while this one's last are multiplied */
                __pipeline_wait_prior(T::STAGES - 2);
                __syncthreads();
                reading = stage_after<T>(reading);
                writing = stage_after<T>(writing);
                load_fragments<T>(a_fragment + reading, b_fragment + reading, a[0], b[0]);
            }
            multiply<T>(a[k % 2], b[k % 2], acc);
        }
        loader_advance<T>(l, args, p, group, chunk);
    }
    __pipeline_wait_prior(0);
    __syncthreads();
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
    float *const staging = shared + warp * (T::STAGE_ROWS * T::STAGE_PITCH);
    float *const stage_to = staging + lane_n<T>() * T::STAGE_PITCH + lane_m<T>() * 4;
    const int first_channel = chunk * T::BN + warp % T::WARPS_N * T::WARP_N;

    float *to[T::WARP_M / 32];
#pragma unroll
    for (int h = 0; h < T::WARP_M / 32; h++) {
        const int64_t m = first_pixel + warp / T::WARPS_N * T::WARP_M + h * 32 + lane;
        to[h] = NULL;
        if (m < p.pixels) {
            int64_t image;
            int a, b;
            conv_pixel_of(p, m, &image, &a, &b);
            to[h] = args.y + image * args.y_image +
                    ((int64_t)group * args.group_out + first_channel) * args.y_plane +
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
                *(float4 *)(stage_to + q * (T::LANES_N * T::STAGE_PITCH) + i * (T::LANES_M * 4)) =
                    four;
            }
        __syncwarp();
        const int channels = args.group_out - (first_channel + j * (4 * T::LANES_N));
#pragma unroll
        for (int h = 0; h < T::WARP_M / 32; h++) {
            if (!to[h])
                continue;
            float *at = to[h] + (int64_t)(j * 4 * T::LANES_N) * args.y_plane;
#pragma unroll
            for (int ln = 0; ln < T::LANES_N; ln++)
#pragma unroll
                for (int q = 0; q < 4; q++) {
                    if (T::WHOLE || 4 * ln + q < channels)
                        *at = staging[(q * T::LANES_N + ln) * T::STAGE_PITCH + h * 32 + lane];
                    at += args.y_plane;
                }
        }
    }
}

#endif
