/* Host side of the fused tile kernels: geometry, packing, launch (internal to gpu/). */
#ifndef ASSAY_GPU_FUSED_PLAN_CUH
#define ASSAY_GPU_FUSED_PLAN_CUH

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_check.h"
#include "gpu/fused_repair.cuh"
#include "gpu/fused_tile.cuh"
#include "gpu/variant.h"

static struct fast_divisor fast_divisor_make(uint32_t divisor)
{
    struct fast_divisor by = {divisor, 0, 0};
    if (divisor > 1) {
        uint32_t bits = 0;
        while (bits < 32 && (1ull << bits) < divisor)
            bits++;
        by.multiplier = (uint32_t)((1ull << (31 + bits)) / divisor + 1);
        by.shift = bits - 1;
    }
    return by;
}

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Numbering of patches and slots for `images` images; see gpu/fused_geometry.h. `strip` is the number of
 * patches in a row of a strip, or 0 for whole rows. */
static struct fused_geometry geometry_make(const struct problem *p, int64_t images, int phases,
                                           int64_t strip, int ring_depth)
{
    struct fused_geometry g;
    memset(&g, 0, sizeof g);
    g.images = (int)images;
    g.in_channels = (int)p->in_channels;
    g.out_channels = (int)p->out_channels;
    g.height = (int)p->height;
    g.width = (int)p->width;
    g.output_h = (int)problem_output_h(p);
    g.output_w = (int)problem_output_w(p);
    g.kernel_h = (int)p->kernel_h;
    g.kernel_w = (int)p->kernel_w;
    g.stride_h = (int)p->stride_h;
    g.stride_w = (int)p->stride_w;
    g.padding_h = (int)p->padding_h;
    g.padding_w = (int)p->padding_w;
    g.taps_h = (g.kernel_h + g.stride_h - 1) / g.stride_h;
    g.taps_w = (g.kernel_w + g.stride_w - 1) / g.stride_w;
    g.channel_groups = (g.in_channels + 15) / 16 * 2;
    g.first_patch_row = g.padding_h / g.stride_h;
    g.first_patch_col = g.padding_w / g.stride_w;
    g.first_row = g.first_patch_row - (g.taps_h - 1);
    g.first_col = g.first_patch_col - (g.taps_w - 1);
    const int64_t patch_rows = (g.output_h - 1 + g.padding_h) / g.stride_h - g.first_patch_row + 1;
    const int64_t patch_cols = (g.output_w - 1 + g.padding_w) / g.stride_w - g.first_patch_col + 1;
    /* Behind the last column that a patch reads, the next row's first must read as zero in both. */
    g.rows = (uint32_t)larger(patch_rows + g.first_patch_row, g.height - g.first_row);
    int64_t strips = 1;
    if (strip == 0 || strip >= patch_cols) {
        g.strip_patches = (int)patch_cols;
        g.pitch = (uint32_t)larger(patch_cols + g.first_patch_col, g.width - g.first_col);
    } else {
        strips = (patch_cols + strip - 1) / strip;
        g.strip_patches = (int)strip;
        g.pitch = (uint32_t)(strip + g.taps_w - 1);
    }
    g.tiles = (int)((images * strips * g.rows * g.pitch + kTilePixels - 1) / kTilePixels);
    for (int jh = 0; jh < g.taps_h; jh++)
        for (int jw = 0; jw < g.taps_w; jw++)
            g.shift[jh * g.taps_w + jw] = (g.taps_h - 1 - jh) * g.pitch + (g.taps_w - 1 - jw);
    g.max_shift = (int)g.shift[0];
    g.ring_depth = ring_depth;
    g.ring_slots = g.max_shift + kTilePixels * ring_depth;
    g.ring_pitch = g.ring_slots + kTilePixels - 1;
    g.phase_blocks = g.stride_h * (g.stride_w / phases);
    g.divide_pitch = fast_divisor_make(g.pitch);
    g.divide_image = fast_divisor_make(g.rows * g.pitch);
    g.divide_strips = fast_divisor_make((uint32_t)strips);
    return g;
}

/* W [Cin, Cout, kH, kW] fp32 -> [phase block][part][tap][k / 8][column][8] fp16, times `scale`;
 * column 8j + 2t + e is channel 4j + t in phase e of the block. One thread an element. */
static __global__ void __launch_bounds__(256)
    pack_weights_kernel(const float *weight, __half *packed, const __grid_constant__ struct fused_geometry g,
                        int phases, int channels, int parts, float scale)
{
    const int columns = phases * channels;
    const int64_t block = (int64_t)g.taps_h * g.taps_w * g.channel_groups * columns * 8;
    const int64_t count = block * g.phase_blocks;
    for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
        const int phase = (int)(i / block);
        int64_t rest = i % block;
        const int k = (int)(rest % 8);
        rest /= 8;
        const int column = (int)(rest % columns);
        rest /= columns;
        const int in = (int)(rest % g.channel_groups) * 8 + k;
        const int tap = (int)(rest / g.channel_groups);
        const int out = column / 8 * 4 + column % 8 / 2;
        const int kh = phase % g.stride_h + tap / g.taps_w * g.stride_h;
        const int kw = phase / g.stride_h * phases + column % 2 + tap % g.taps_w * g.stride_w;
        float w = 0.0f;
        if (in < g.in_channels && out < g.out_channels && kh < g.kernel_h && kw < g.kernel_w)
            w = weight[(((int64_t)in * g.out_channels + out) * g.kernel_h + kh) * g.kernel_w + kw] * scale;
        const __half high = __float2half_rn(w);
        const int64_t at = phase * block * parts + i % block;
        packed[at] = high;
        if (parts == 2)
            packed[at + block] = __float2half_rn(w - __half2float(high));
    }
}

struct fused_state {
    __half *weights;
    uint32_t *image_max; /* [slice], then the repair kernel's ticket */
    float weight_scale;
    bool pair_reciprocals;
    bool finite;         /* every weight is */
};

static void fused_release(struct variant_context *context)
{
    struct fused_state *state = (struct fused_state *)context->state;
    if (!state)
        return;
    cudaFree(state->weights);
    cudaFree(state->image_max);
    free(state);
    context->state = NULL;
}

template <int kPhases, int kChannels, int kProducts>
static enum status fused_prepare(struct variant_context *context, int ring_depth, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    const struct fused_geometry g = geometry_make(p, context->slice, kPhases, 0, ring_depth);
    const int parts = kProducts == 3 ? 2 : 1;
    const int64_t count = (int64_t)parts * g.phase_blocks * g.taps_h * g.taps_w * g.channel_groups * 8 *
                          kPhases * kChannels;
    struct fused_state *state = (struct fused_state *)calloc(1, sizeof *state);
    if (!state)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for a plan");
    context->state = state;

    float largest = 0.0f;
    state->finite = true;
    for (int64_t i = 0; i < problem_weight_count(p); i++) {
        const float w = fabsf(context->h_params.weight[i]);
        state->finite &= isfinite(w) != 0;
        if (w > largest)
            largest = w;
    }
    /* The largest weight lands in [2^14, 2^15): room for rounding, and the most above fp16's end. */
    int exponent = 0;
    if (state->finite && largest > 0.0f)
        frexpf(largest, &exponent);
    exponent = exponent < -100 ? -100 : exponent;
    state->weight_scale = ldexpf(1.0f, 15 - exponent);

    float steepest = -INFINITY;
    state->pair_reciprocals = true;
    for (int64_t c = 0; c < p->out_channels; c++) {
        const float b = -p->scaling_factor * context->h_params.bias[p->bias_count == 1 ? 0 : c];
        state->pair_reciprocals &= b == b;
        steepest = fmaxf(steepest, b + fmaxf(0.0f, -p->scaling_factor));
    }
    state->pair_reciprocals &= steepest * LOG2_E < 60.0f;

    CHECK(cudaMalloc(&state->weights, count * sizeof *state->weights));
    CHECK(cudaMalloc(&state->image_max, (context->slice + 1) * sizeof *state->image_max));
    CHECK(cudaMemset(state->image_max, 0, (context->slice + 1) * sizeof *state->image_max));
    pack_weights_kernel<<<256, 256>>>(context->d_weight, state->weights, g, kPhases, kChannels, parts,
                                      state->weight_scale);
    CHECK_LAUNCH("pack_weights_kernel");
    CHECK(cudaFuncSetAttribute(fused_tile_kernel<kPhases, kChannels, kProducts>,
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               (int)fused_layout_make<kPhases, kChannels, kProducts>(&g).total));
    CHECK(cudaDeviceSynchronize());
out:
    return status;
}

template <int kPhases, int kChannels, int kProducts>
static enum status fused_launch(struct variant_context *context, const float *d_x, float *d_y, int64_t images,
                                cudaStream_t stream, int ring_depth, float x_scale, struct error *error)
{
    enum status status = STATUS_OK;
    const struct fused_state *state = (const struct fused_state *)context->state;
    const struct problem *p = &context->problem;
    struct fused_args args;
    struct repair_args repair;
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    memset(&args, 0, sizeof args);
    args.geometry = geometry_make(p, images, kPhases, 0, ring_depth);
    args.x = d_x;
    args.y = d_y;
    args.weights = state->weights;
    args.conv_bias = context->d_conv_bias;
    args.bias = context->d_bias;
    args.image_max = state->image_max;
    args.x_scale = x_scale;
    args.descale = LOG2_E / (x_scale * state->weight_scale);
    args.scaling_factor = p->scaling_factor;
    args.pair_reciprocals = state->pair_reciprocals;
    const struct fused_layout layout = fused_layout_make<kPhases, kChannels, kProducts>(&args.geometry);
    int blocks = context->multiprocessors / args.geometry.phase_blocks;
    if (blocks > args.geometry.tiles)
        blocks = args.geometry.tiles;
    if (blocks < 1)
        blocks = 1;
    if (images == 0)
        return STATUS_OK;
    fused_tile_kernel<kPhases, kChannels, kProducts>
        <<<blocks * args.geometry.phase_blocks, kThreads, layout.total, stream>>>(args);
    CHECK_LAUNCH("fused_tile_kernel");

    memset(&repair, 0, sizeof repair);
    repair.x = d_x;
    repair.y = d_y;
    repair.weight = context->d_weight;
    repair.conv_bias = context->d_conv_bias;
    repair.bias = context->d_bias;
    repair.image_max = state->image_max;
    repair.smallest = (kProducts == 3 ? 1.0f : 0.5f) / x_scale;
    repair.largest = state->finite ? 65504.0f / x_scale : -1.0f;
    repair.scaling_factor = p->scaling_factor;
    repair.geometry = args.geometry;
    memset(&config, 0, sizeof config);
    config.gridDim = dim3(context->multiprocessors);
    config.blockDim = dim3(kRepairThreads);
    config.stream = stream;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, fused_repair_kernel, repair));
out:
    return status;
}

#endif
