/* The whole model in one kernel, IEEE fp32: the logits never leave the chip.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * A block computes a tile of the sub-pixel GEMM (gpu/conv_gemm.cuh): BM pixels of one phase by all
 * channels, whose logits stay in its accumulators. The epilogue works on them in place:
 *
 *     m     = max over a thread's TN channels, then over the LANES_N lanes that share the pixel, by
 *             shuffles (and over the warps side by side, through shared memory)
 *     e     = 2^(logit * log2 e - m * log2 e);  sum likewise
 *     y     = 1 / (1 + 2^(e * share + shift)),  share = -scale * log2 e / sum,
 *                                               shift = -scale * log2 e * bias
 *
 * and gemm_store() writes runs of pixels. Two blocks share a multiprocessor, so that one's epilogue
 * runs under the other's products. Grid: phases innermost, then tiles of pixels; phases of the same
 * pixels share x, and fill each other's sectors of y, in L2.
 *
 *     channels    <= 8      32       64       128       256      512      more, or groups
 *     tile        256 x 8   256 x 32 128 x 64 128 x 128 64 x 256 32 x 512 128 x 128, in blocks
 *
 * With several column blocks (more than 512 channels, or groups) the convolution is computed twice:
 * once for running maxima and sums, once for the answer. Weights or scales that are not finite, and
 * groups too small for a tile, take the direct path at the end of the file.
 *
 * Launch (128 channels): 128 threads, 2 blocks a multiprocessor, 227 registers, 32 KiB of shared
 * memory each. Fast intrinsics: ex2.approx and rcp.approx (gpu/epilogue_math.cuh).
 *
 * Home case: 139.6 GFLOP, 136.4 without taps on the padding, in 16,641 tiles, 1.22 GB; floor 2.68
 * ms at cuBLAS's measured fp32 rate of 50.9 TFLOP/s (H200; the copy rate alone would give 0.29 ms).
 * Measured on that H200, 2026-11-22, all in one process in turn; in brackets the share that FFMA
 * have of the loop's instructions:
 *
 *     3.480 ms   slices of 8, copies spread over the arithmetic (87.1 %): 77 % of that rate
 *     3.375      pixels up and down, so that an operand is read again at once (87.5 %)
 *     3.279      all copies of a slice at its start (89.4 %)
 *     3.218      a kernel for problems without rests: this one (91.0 %), 83 %
 *     3.383      the same with slices of 16: 36 KiB of instructions, for which it waits
 *     3.465      the same with slices of 4
 *     3.694      a loop of two steps, 11 KiB (88.6 %) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gpu/conv_direct.cuh"
#include "gpu/conv_gemm.cuh"
#include "gpu/cuda_check.h"
#include "gpu/epilogue_math.cuh"

/* Tiles by the channels of a group; gemm_tile<WARPS_M, WARPS_N, LANES_N, TM, TN, BK, STAGES>. */
typedef gemm_tile<4, 1, 2, 4, 4, 16, 3> tile_8;   /* 256 pixels x   8 channels */
typedef gemm_tile<4, 1, 4, 8, 8, 16, 3> tile_32;  /* 256 x  32 */
typedef gemm_tile<4, 1, 8, 8, 8, 16, 3> tile_64;  /* 128 x  64 */
typedef gemm_tile<4, 1, 8, 8, 16, 8, 4> tile_128; /* 128 x 128 */
typedef gemm_tile<2, 2, 8, 8, 16, 8, 3> tile_256; /*  64 x 256 */
typedef gemm_tile<1, 4, 8, 8, 16, 8, 3> tile_512; /*  32 x 512 */

/* Maximum or sum over the lanes that hold a pixel's channels, and over the warps side by side. */
template <class T, bool MAXIMUM>
static __device__ __forceinline__ void across_channels(float (&value)[T::TM], float *shared)
{
#pragma unroll
    for (int i = 0; i < T::TM; i++)
#pragma unroll
        for (int lanes = 2, step = 1; lanes <= T::LANES_N; lanes *= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, value[i], step);
            value[i] = MAXIMUM ? fmaxf(value[i], other) : value[i] + other;
            step = lanes * 2; /* lane bits 0, 2, 3: lane_n() */
        }
    if (T::WARPS_N == 1)
        return;
    const int warp = threadIdx.x / 32;
    const int pixel = warp / T::WARPS_N * T::WARP_M + lane_m<T>() * 4;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < T::TM; i++)
        if (lane_n<T>() == 0)
            shared[warp % T::WARPS_N * T::BM + pixel + i / 4 * (4 * T::LANES_M) + i % 4] = value[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < T::TM; i++) {
        const float *from = shared + pixel + i / 4 * (4 * T::LANES_M) + i % 4;
        value[i] = from[0];
#pragma unroll
        for (int w = 1; w < T::WARPS_N; w++)
            value[i] = MAXIMUM ? fmaxf(value[i], from[w * T::BM]) : value[i] + from[w * T::BM];
    }
    __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(T::THREADS, T::MIN_BLOCKS)
    fused_fp32_kernel(const __grid_constant__ conv_args args)
{
    extern __shared__ __align__(16) float shared[];
    const int phases = args.phases_h * args.phases_w;
    const conv_phase p = conv_phase_of(args, (int)(blockIdx.x % phases));
    const int64_t first_pixel = (int64_t)(blockIdx.x / phases) * T::BM;
    if (first_pixel >= p.pixels)
        return;

    /* One column block: its logits stay in registers. More: their maxima and sums first, then all
     * of them again, this time with the answer. */
    const int blocks = T::WHOLE ? 1 : args.groups * args.chunks;
    float maximum[T::TM], origin[T::TM], sum[T::TM]; /* origin: of exponents, in base 2 */
#pragma unroll
    for (int i = 0; i < T::TM; i++) {
        maximum[i] = origin[i] = -INFINITY;
        sum[i] = 0.0f;
    }
#pragma unroll 1
    for (int step = 0; step < (blocks == 1 ? 1 : 2 * blocks); step++) {
        const bool gather = step < blocks, finish = blocks == 1 || !gather;
        const int block = gather ? step : step - blocks;
        const int group = T::WHOLE ? 0 : block / args.chunks;
        const int chunk = T::WHOLE ? 0 : block % args.chunks;
        float acc[T::TM][T::TN];
        conv_gemm<T>(args, p, first_pixel, group, chunk, shared, acc);

        if (!T::WHOLE && args.group_out % T::BN != 0) {
#pragma unroll
            for (int j = 0; j < T::TN; j++)
                if (gemm_channel<T>(chunk, j) >= args.group_out)
#pragma unroll
                    for (int i = 0; i < T::TM; i++)
                        acc[i][j] = -INFINITY;
        }
        if (gather) {
            float largest[T::TM], added[T::TM];
#pragma unroll
            for (int i = 0; i < T::TM; i++) {
                largest[i] = maximum[i];
#pragma unroll
                for (int j = 0; j < T::TN; j++)
                    largest[i] = fmaxf(largest[i], acc[i][j]);
            }
            across_channels<T, true>(largest, shared);
#pragma unroll
            for (int i = 0; i < T::TM; i++) {
                const float before = origin[i];
                maximum[i] = largest[i];
                origin[i] = LOG2_E * exponent_origin(maximum[i]);
                sum[i] *= fast_exp2(before - origin[i]);
                added[i] = 0.0f;
#pragma unroll
                for (int j = 0; j < T::TN; j++) {
                    const float e = fast_exp2(fmaf(acc[i][j], LOG2_E, -origin[i]));
                    added[i] += e;
                    if (finish)
                        acc[i][j] = e;
                }
            }
            across_channels<T, false>(added, shared);
#pragma unroll
            for (int i = 0; i < T::TM; i++)
                sum[i] += added[i];
        } else {
#pragma unroll
            for (int i = 0; i < T::TM; i++)
#pragma unroll
                for (int j = 0; j < T::TN; j++)
                    acc[i][j] = fast_exp2(fmaf(acc[i][j], LOG2_E, -origin[i]));
        }
        if (finish) {
            /* sigmoid(scale * (e / sum + bias)) = 1 / (1 + 2^(e * share + shift)) */
            const float turn = -LOG2_E * args.scale;
            float share[T::TM];
#pragma unroll
            for (int i = 0; i < T::TM; i++)
                share[i] = turn * fast_reciprocal(sum[i]);
#pragma unroll
            for (int j = 0; j < T::TN; j++) {
                const int channel = gemm_channel<T>(chunk, j);
                const float shift = turn * (T::WHOLE || channel < args.group_out
                                                ? args.bias[group * args.group_out + channel]
                                                : 0.0f);
#pragma unroll
                for (int i = 0; i < T::TM; i++)
                    acc[i][j] = fast_reciprocal(1.0f + fast_exp2(fmaf(acc[i][j], share[i], shift)));
            }
            gemm_store<T>(args, p, first_pixel, group, chunk, shared, acc);
            if (!gather)
                __syncthreads(); /* the staging becomes the pipeline again */
        }
    }
}

/* The direct path: 32 pixels of one image a block, 8 threads for each, channels interleaved among
 * them. Logits are computed twice, once for the maximum and the sum, once for the answer. */
#define DIRECT_PIXELS 32
#define DIRECT_SHARES 8

__global__ void __launch_bounds__(DIRECT_PIXELS *DIRECT_SHARES)
    fused_direct_kernel(const __grid_constant__ conv_args args)
{
    __shared__ float shared[DIRECT_SHARES][DIRECT_PIXELS];
    const int lane = threadIdx.x % DIRECT_PIXELS, share = threadIdx.x / DIRECT_PIXELS;
    const int64_t pixels = args.images * args.y_plane;
    for (int64_t first = (int64_t)blockIdx.x * DIRECT_PIXELS; first < pixels;
         first += (int64_t)gridDim.x * DIRECT_PIXELS) {
        const int64_t pixel = first + lane < pixels ? first + lane : pixels - 1;
        const int64_t image = pixel / args.y_plane, in_plane = pixel - image * args.y_plane;
        const int oh = (int)(in_plane / args.output_w);
        const int ow = (int)(in_plane - (int64_t)oh * args.output_w);
        const float *const x = args.x + image * args.x_image;

        float maximum = -INFINITY, sum = 0.0f;
        for (int c = share; c < args.out_channels; c += DIRECT_SHARES) {
            const float logit = conv_direct(args, x, c, oh, ow);
            const float larger = fmaxf(maximum, logit), origin = exponent_origin(larger);
            sum = sum * fast_exp(maximum - origin) + fast_exp(logit - origin);
            maximum = larger;
        }
        shared[share][lane] = maximum;
        __syncthreads();
        float largest = shared[0][lane];
        for (int s = 1; s < DIRECT_SHARES; s++)
            largest = fmaxf(largest, shared[s][lane]);
        const float origin = exponent_origin(largest);
        sum *= fast_exp(maximum - origin);
        __syncthreads();
        shared[share][lane] = sum;
        __syncthreads();
        float total = 0.0f;
        for (int s = 0; s < DIRECT_SHARES; s++)
            total += shared[s][lane];
        const float inverse = fast_reciprocal(total);
        __syncthreads();

        float *const y = args.y + image * args.y_image + in_plane;
        if (first + lane < pixels)
            for (int c = share; c < args.out_channels; c += DIRECT_SHARES) {
                const float e = fast_exp(conv_direct(args, x, c, oh, ow) - origin);
                y[c * args.y_plane] = fast_sigmoid(args.scale * (e * inverse + args.bias[c]));
            }
    }
}

struct tile_row {
    int channels, pixels, slice, threads, shared_bytes;
    void (*kernel)(const conv_args), (*whole)(const conv_args);
};

#define TILE(T)                                                                                    \
    {                                                                                              \
        T::BN, T::BM, T::BK, T::THREADS, T::SHARED_BYTES, fused_fp32_kernel<T>,                    \
            fused_fp32_kernel<typename T::whole>                                                   \
    }
static const struct tile_row tiles[] = {TILE(tile_8),   TILE(tile_32),  TILE(tile_64),
                                        TILE(tile_128), TILE(tile_256), TILE(tile_512)};
#define TILE_COUNT ((int)(sizeof tiles / sizeof *tiles))
#define TILE_WIDE 3 /* for more channels than any tile has, or several groups: blocks of 128 */

struct fused_fp32 {
    struct conv_tables tables;
    int tile; /* or -1: direct */
    void (*kernel)(const conv_args);
};

static enum status prepare(struct variant_context *context, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    const int64_t channels = p->out_channels / p->groups;
    const struct tile_row *tile = NULL;
    struct fused_fp32 *fused = (struct fused_fp32 *)calloc(1, sizeof *fused);
    if (!fused)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = fused;

    while (fused->tile < TILE_COUNT && tiles[fused->tile].channels < channels)
        fused->tile++;
    if (fused->tile == TILE_COUNT || (p->groups > 1 && fused->tile > TILE_WIDE))
        fused->tile = TILE_WIDE;
    tile = &tiles[fused->tile];
    status = conv_tables_init(&fused->tables, context,
                              conv_prefers_direct(p, true) ? 0 : tile->channels, error);
    if (status != STATUS_OK)
        goto out;
    fused->tables.args.chunks = (int)((channels + tile->channels - 1) / tile->channels);
    if (conv_prefers_direct(p, fused->tables.finite_weights)) {
        fused->tile = -1;
        conv_note_direct(&fused->tables, context);
    } else {
        const bool whole = p->groups == 1 && channels == tile->channels &&
                           p->in_channels % tile->slice == 0; /* as gemm_tile's WHOLE */
        fused->kernel = whole ? tile->whole : tile->kernel;
        CHECK(cudaFuncSetAttribute(fused->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   tile->shared_bytes));
        if (p->groups * fused->tables.args.chunks > 1)
            snprintf(context->note, sizeof context->note,
                     "%d column blocks: the convolution is computed twice",
                     (int)p->groups * fused->tables.args.chunks);
    }
out:
    return status;
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const struct fused_fp32 *fused = (const struct fused_fp32 *)context->state;
    conv_args args = fused->tables.args;
    unsigned grid = 0;
    args.x = d_x;
    args.y = d_y;
    args.images = images;
    if (fused->tile < 0) {
        const int64_t blocks = (images * args.y_plane + DIRECT_PIXELS - 1) / DIRECT_PIXELS;
        grid = (unsigned)(blocks < (1 << 24) ? blocks : 1 << 24);
        fused_direct_kernel<<<grid, DIRECT_PIXELS * DIRECT_SHARES, 0, stream>>>(args);
        CHECK_LAUNCH("fused_direct_kernel");
    } else {
        const struct tile_row *tile = &tiles[fused->tile];
        status = conv_grid(&args, tile->pixels, 1, &grid, error);
        if (status != STATUS_OK)
            goto out;
        fused->kernel<<<grid, tile->threads, tile->shared_bytes, stream>>>(args);
        CHECK_LAUNCH("fused_fp32_kernel");
    }
out:
    return status;
}

static void release(struct variant_context *context)
{
    if (context->state)
        conv_tables_release(&((struct fused_fp32 *)context->state)->tables);
    free(context->state);
    context->state = NULL;
}

static bool supports(const struct problem *problem, const struct cudaDeviceProp *, char *reason,
                     size_t reason_size)
{
    return conv_tables_supports(problem, reason, reason_size);
}

const struct variant_ops variant_fused_fp32 = {
    .info = VARIANT_INFO(fused_fp32),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
