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
static struct fused_geometry geometry_make(const struct problem *p, int64_t images, int splits,
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
    g.channel_groups = kChannelGroups;
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
    g.tile_blocks = g.stride_h * splits;
    g.input_plane = p->height * p->width;
    g.output_plane = (int64_t)g.output_h * g.output_w;
    g.divide_pitch = fast_divisor_make(g.pitch);
    g.divide_image = fast_divisor_make(g.rows * g.pitch);
    g.divide_strips = fast_divisor_make((uint32_t)strips);
    return g;
}

/* The numbering that fits in shared memory: whole rows where they do, else the widest strips; the deepest
 * ring. False where nothing fits. */
template <class S> static bool geometry_fit(struct fused_geometry *g, const struct problem *p, int64_t images)
{
    for (int64_t strip = 0; strip == 0 || strip >= 15; strip = strip == 0 ? 127 : strip / 2)
        for (int depth = kBarriers; depth >= 2; depth--) {
            *g = geometry_make(p, images, S::kInCluster, strip, depth);
            if (fused_layout_make<S>(g).total <= kSharedBytes)
                return true;
        }
    return false;
}

/* What the tile kernels cover, and why not the rest. */
template <class S>
static bool fused_supports(const struct problem *p, const struct cudaDeviceProp *device, char *reason,
                           size_t reason_size)
{
    struct fused_geometry g;
    const char *why = NULL;
    if (device->major != 9 || device->minor != 0)
        why = "needs a Hopper GPU (compute capability 9.0)";
    else if (device->sharedMemPerBlockOptin < kSharedBytes)
        why = "needs 227 KiB of shared memory in a block";
    else if (p->stride_h != 2 || p->stride_w != 2)
        why = "only stride 2 is supported";
    else if (p->kernel_h > 4 || p->kernel_w > 4)
        why = "only kernels of up to 4 x 4 are supported";
    else if (p->dilation_h != 1 || p->dilation_w != 1 || p->groups != 1)
        why = "dilation and groups are not supported";
    else if (p->in_channels > kChannelGroups * 8)
        why = "more than 64 input channels are not supported";
    else if (p->out_channels > S::kChannels)
        why = "more than 128 output channels are not supported";
    else if ((double)p->batch * (double)(p->height + 4) * (double)(p->width + 4) * 1.2 >= 0x1p31 ||
             (double)problem_output_h(p) * (double)problem_output_w(p) >= 0x1p31)
        why = "too many pixels for 32-bit numbering";
    else if (!geometry_fit<S>(&g, p, p->batch > 0 ? p->batch : 1))
        why = "rows do not fit in shared memory";
    if (why)
        snprintf(reason, reason_size, "%s", why);
    return why == NULL;
}

/* W [Cin, Cout, kH, kW] fp32 -> [row phase][cluster rank][part][tap][k / 8][column][8] fp16, times
 * `scale`. Column 128h + 8j + 2t + e is channel 64 (rank + h) + 4j + t in column phase e. One thread an
 * element. */
static __global__ void __launch_bounds__(256)
    pack_weights_kernel(const float *weight, __half *packed, const __grid_constant__ struct fused_geometry g,
                        int columns, int in_cluster, int parts, float scale)
{
    const int64_t block = (int64_t)g.taps_h * g.taps_w * g.channel_groups * columns * 8;
    const int64_t count = block * g.tile_blocks;
    for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
        const int which = (int)(i / block);
        int64_t rest = i % block;
        const int k = (int)(rest % 8);
        rest /= 8;
        const int column = (int)(rest % columns);
        rest /= columns;
        const int in = (int)(rest % g.channel_groups) * 8 + k;
        const int tap = (int)(rest / g.channel_groups);
        const int out = (which % in_cluster + column / kColumns) * kGroupChannels +
                        column % kColumns / 8 * 4 + column % 8 / 2;
        const int kh = which / in_cluster + tap / g.taps_w * g.stride_h;
        const int kw = column % 2 + tap % g.taps_w * g.stride_w;
        float w = 0.0f;
        if (in < g.in_channels && out < g.out_channels && kh < g.kernel_h && kw < g.kernel_w)
            w = weight[(((int64_t)in * g.out_channels + out) * g.kernel_h + kh) * g.kernel_w + kw] * scale;
        const __half high = __float2half_rn(w);
        const int64_t at = which * block * parts + i % block;
        packed[at] = high;
        if (parts == 2)
            packed[at + block] = __float2half_rn(w - __half2float(high));
    }
}

struct fused_state {
    __half *weights;
    uint32_t *image_max; /* [slice], then the repair kernel's ticket */
    void (*kernel)(const struct fused_args);
    float weight_scale;
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

/* Below this largest magnitude of an image, fp16's smallest step (2^-24) would count: it errs by 2^-25 /
 * x_scale, to be at most 2^-24 of the largest, or 2^-25 with split operands. */
template <class S> static float fused_smallest(float x_scale)
{
    return (S::kParts == 2 ? 1.0f : 0.5f) / x_scale;
}

typedef void (*fused_kernel)(const struct fused_args);

/* The kernel for a plan: reciprocals in pairs or not, and how it stores. */
template <class S> static fused_kernel fused_kernel_of(bool pairs, enum store_form store)
{
    switch (store) {
    case STORE_LANES:
        return pairs ? fused_tile_kernel<S, true, STORE_LANES> : fused_tile_kernel<S, false, STORE_LANES>;
    case STORE_RUNS:
        return pairs ? fused_tile_kernel<S, true, STORE_RUNS> : fused_tile_kernel<S, false, STORE_RUNS>;
    case STORE_RUNS_FULL:
        return pairs ? fused_tile_kernel<S, true, STORE_RUNS_FULL> : fused_tile_kernel<S, false, STORE_RUNS_FULL>;
    }
    return NULL;
}

template <class S>
static enum status fused_prepare(struct variant_context *context, float x_scale, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    struct fused_geometry g;
    if (!geometry_fit<S>(&g, p, context->slice))
        return error_set(error, STATUS_UNSUPPORTED, "rows do not fit in shared memory");
    const int64_t count = (int64_t)S::kParts * g.tile_blocks * g.taps_h * g.taps_w * g.channel_groups * 8 *
                          S::kBlockColumns;
    const int shared = (int)fused_layout_make<S>(&g).total;
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
    bool pairs = true;
    for (int64_t c = 0; c < p->out_channels; c++) {
        const float b = -p->scaling_factor * context->h_params.bias[p->bias_count == 1 ? 0 : c];
        pairs &= b == b;
        steepest = fmaxf(steepest, b + fmaxf(0.0f, -p->scaling_factor));
    }
    pairs &= steepest * LOG2_E < 60.0f;
    /* A tile of 64 patches touches two rows at most when a row has 63. */
    state->kernel = fused_kernel_of<S>(pairs, g.pitch < kTilePixels - 1 ? STORE_LANES
                                              : p->out_channels == S::kChannels ? STORE_RUNS_FULL
                                                                                : STORE_RUNS);

    if (state->finite)
        snprintf(context->note, sizeof context->note, "images with max|x| outside [%g, %g] in fp32",
                 (double)fused_smallest<S>(x_scale), (double)(65504.0f / x_scale));
    else
        snprintf(context->note, sizeof context->note, "weights are not finite: all in fp32");

    CHECK(cudaMalloc(&state->weights, count * sizeof *state->weights));
    CHECK(cudaMalloc(&state->image_max, (context->slice + 1) * sizeof *state->image_max));
    CHECK(cudaMemset(state->image_max, 0, (context->slice + 1) * sizeof *state->image_max));
    pack_weights_kernel<<<256, 256>>>(context->d_weight, state->weights, g, S::kBlockColumns, S::kInCluster,
                                      S::kParts, state->weight_scale);
    CHECK_LAUNCH("pack_weights_kernel");
    CHECK(cudaFuncSetAttribute(state->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
    CHECK(cudaDeviceSynchronize());
out:
    return status;
}

template <class S>
static enum status fused_launch(struct variant_context *context, const float *d_x, float *d_y, int64_t images,
                                cudaStream_t stream, float x_scale, struct error *error)
{
    enum status status = STATUS_OK;
    const struct fused_state *state = (const struct fused_state *)context->state;
    const struct problem *p = &context->problem;
    struct fused_args args;
    struct repair_args repair;
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    int shares;
    if (images == 0)
        return STATUS_OK;
    memset(&args, 0, sizeof args);
    if (!geometry_fit<S>(&args.geometry, p, images))
        return error_set(error, STATUS_UNSUPPORTED, "rows do not fit in shared memory");
    args.x = d_x;
    args.y = d_y;
    args.weights = state->weights;
    args.conv_bias = context->d_conv_bias;
    args.bias = context->d_bias;
    args.image_max = state->image_max;
    args.x_scale = x_scale;
    args.descale = LOG2_E / (x_scale * state->weight_scale);
    args.scaling_factor = p->scaling_factor;
    shares = context->multiprocessors / args.geometry.tile_blocks;
    if (shares > args.geometry.tiles)
        shares = args.geometry.tiles;
    if (shares < 1)
        shares = 1;
    memset(&config, 0, sizeof config);
    config.gridDim = dim3(shares * args.geometry.tile_blocks);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = fused_layout_make<S>(&args.geometry).total;
    config.stream = stream;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = S::kInCluster;
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, state->kernel, args));

    memset(&repair, 0, sizeof repair);
    repair.x = d_x;
    repair.y = d_y;
    repair.weight = context->d_weight;
    repair.conv_bias = context->d_conv_bias;
    repair.bias = context->d_bias;
    repair.image_max = state->image_max;
    repair.smallest = fused_smallest<S>(x_scale);
    repair.largest = state->finite ? 65504.0f / x_scale : -1.0f;
    repair.scaling_factor = p->scaling_factor;
    repair.geometry = args.geometry;
    config.gridDim = dim3(context->multiprocessors);
    config.blockDim = dim3(kRepairThreads);
    config.dynamicSmemBytes = 0;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    CHECK(cudaLaunchKernelEx(&config, fused_repair_kernel, repair));
out:
    return status;
}

#endif
