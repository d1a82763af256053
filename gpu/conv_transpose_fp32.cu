/* conv_transpose2d + conv_bias in IEEE fp32, its output in device memory.
 *
 * The implicit GEMM of gpu/conv_gemm.cuh over every phase of the sub-pixel decomposition; tile
 * widths 8, 32, 64 and 128 channels, wider groups in blocks of 128. A block of threads is one tile;
 * blocks of neighbouring phases are neighbours in the grid, so that they share x in L2 and fill
 * each other's sectors of y there.
 *
 * Launch: 128 threads, 2 blocks a multiprocessor, 48 KiB of shared memory each (tile 128).
 * Home case: 139.6 GFLOP, floor 2.1 to 2.7 ms on an H200 at the fp32 rate; writes 1.09 GB. */
#include "gpu/conv_transpose_fp32.h"

#include <stdlib.h>

#include "gpu/conv_direct.cuh"
#include "gpu/conv_gemm.cuh"
#include "gpu/cuda_check.h"

/* gemm_tile<WARPS_M, WARPS_N, LANES_N, TM, TN, BK, STAGES> */
typedef gemm_tile<4, 1, 2, 4, 4, 16, 3> tile_8;    /* 256 pixels x   8 channels */
typedef gemm_tile<4, 1, 4, 8, 8, 16, 3> tile_32;   /* 256 x  32 */
typedef gemm_tile<4, 1, 8, 8, 8, 16, 3> tile_64;   /* 128 x  64 */
typedef gemm_tile<4, 1, 8, 8, 16, 16, 3> tile_128; /* 128 x 128 */

template <class T>
__global__ void __launch_bounds__(T::THREADS, T::MIN_BLOCKS)
    conv_transpose_kernel(const __grid_constant__ conv_args args)
{
    extern __shared__ __align__(16) float shared[];
    const int blocks = args.groups * args.chunks, phases = args.phases_h * args.phases_w;
    const int block = blockIdx.x % blocks;
    const unsigned rest = blockIdx.x / blocks;
    const conv_phase p = conv_phase_of(args, (int)(rest % phases));
    const int64_t first_pixel = (int64_t)(rest / phases) * T::BM;
    if (first_pixel >= p.pixels)
        return;
    const int group = block / args.chunks, chunk = block % args.chunks;

    float acc[T::TM][T::TN];
    conv_gemm<T>(args, p, first_pixel, group, chunk, shared, acc);
    gemm_store<T>(args, p, first_pixel, group, chunk, shared, acc);
}

#define DIRECT_THREADS 256

__global__ void __launch_bounds__(DIRECT_THREADS)
    conv_transpose_direct_kernel(const __grid_constant__ conv_args args)
{
    const int64_t count = args.images * args.y_image;
    const int64_t step = (int64_t)gridDim.x * DIRECT_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * DIRECT_THREADS + threadIdx.x; i < count; i += step) {
        const int64_t image = i / args.y_image, in_image = i - image * args.y_image;
        const int oc = (int)(in_image / args.y_plane);
        const int64_t in_plane = in_image - oc * args.y_plane;
        const int oh = (int)(in_plane / args.output_w);
        const int ow = (int)(in_plane - (int64_t)oh * args.output_w);
        args.y[i] = conv_direct(args, args.x + image * args.x_image, oc, oh, ow);
    }
}

struct tile_row {
    int channels, pixels, threads, shared_bytes;
    void (*kernel)(const conv_args);
};

#define TILE(T)                                                                                    \
    {                                                                                              \
        T::BN, T::BM, T::THREADS, T::SHARED_BYTES, conv_transpose_kernel<T>                        \
    }
static const struct tile_row tiles[] = {TILE(tile_8), TILE(tile_32), TILE(tile_64), TILE(tile_128)};
#define TILE_COUNT ((int)(sizeof tiles / sizeof *tiles))

enum status conv_transpose_init(struct conv_transpose *conv, const struct variant_context *context,
                                struct error *error)
{
    enum status status = STATUS_OK;
    const int64_t channels = context->problem.out_channels / context->problem.groups;
    conv->tile = 0;
    while (conv->tile + 1 < TILE_COUNT && tiles[conv->tile].channels < channels)
        conv->tile++;
    const struct tile_row *tile = &tiles[conv->tile];
    const bool direct = conv_prefers_direct(&context->problem, true);
    status = conv_tables_init(&conv->tables, context, direct ? 0 : tile->channels, error);
    if (status != STATUS_OK)
        return status;
    conv->tables.args.chunks = (int)((channels + tile->channels - 1) / tile->channels);
    if (conv_prefers_direct(&context->problem, conv->tables.finite_weights))
        conv->tile = -1;
    else
        CHECK(cudaFuncSetAttribute(tile->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   tile->shared_bytes));
out:
    if (status != STATUS_OK)
        conv_transpose_release(conv);
    return status;
}

void conv_transpose_release(struct conv_transpose *conv)
{
    conv_tables_release(&conv->tables);
}

enum status conv_transpose_launch(const struct conv_transpose *conv, const float *d_x,
                                  float *d_logits, int64_t images, cudaStream_t stream,
                                  struct error *error)
{
    enum status status = STATUS_OK;
    conv_args args = conv->tables.args;
    args.x = d_x;
    args.y = d_logits;
    args.images = images;
    if (conv->tile < 0) {
        const int64_t blocks = (images * args.y_image + DIRECT_THREADS - 1) / DIRECT_THREADS;
        conv_transpose_direct_kernel<<<(unsigned)(blocks < (1 << 24) ? blocks : 1 << 24),
                                       DIRECT_THREADS, 0, stream>>>(args);
        CHECK_LAUNCH("conv_transpose_direct_kernel");
        goto out;
    }
    {
        const struct tile_row *tile = &tiles[conv->tile];
        unsigned grid = 0;
        status = conv_grid(&args, tile->pixels, args.groups * (int64_t)args.chunks, &grid, error);
        if (status != STATUS_OK)
            goto out;
        tile->kernel<<<grid, tile->threads, tile->shared_bytes, stream>>>(args);
        CHECK_LAUNCH("conv_transpose_kernel");
    }
out:
    return status;
}

enum status conv_transpose_variant_prepare(struct variant_context *context, struct error *error)
{
    struct conv_transpose *conv = (struct conv_transpose *)calloc(1, sizeof *conv);
    if (!conv)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = conv;
    const enum status status = conv_transpose_init(conv, context, error);
    if (status == STATUS_OK && conv->tile < 0)
        conv_note_direct(&conv->tables, context);
    return status;
}

void conv_transpose_variant_release(struct variant_context *context)
{
    if (context->state)
        conv_transpose_release((struct conv_transpose *)context->state);
    free(context->state);
    context->state = NULL;
}

bool conv_transpose_variant_supports(const struct problem *problem, const struct cudaDeviceProp *,
                                     char *reason, size_t reason_size)
{
    return conv_tables_supports(problem, reason, reason_size);
}
