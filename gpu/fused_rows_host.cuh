/* Host side of the fused row kernel (gpu/fused_rows.cuh), for the file that defines kParts: what it
 * covers, packing, launch (internal to gpu/). */
#ifndef ASSAY_GPU_FUSED_ROWS_HOST_CUH
#define ASSAY_GPU_FUSED_ROWS_HOST_CUH

#include "gpu/fused_rows.cuh"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_check.h"
#include "gpu/fused_forms.h"
#include "gpu/fused_host.cuh"

/* Blocks that share a tile's channels. */
static int cluster_of(const struct problem *p)
{
    int cluster = 1;
    while (cluster * kBlockChannels < p->out_channels)
        cluster *= 2;
    return cluster;
}

static bool supports(const struct problem *p, const struct cudaDeviceProp *device, char *reason,
                     size_t reason_size)
{
    const int64_t lead = p->padding_w & 1;
    const char *why = fused_refusal(p, device);
    if (why)
        ;
    else if (p->padding_h > 1 || p->padding_w > 1)
        why = "only padding of up to 1 is supported";
    else if (p->width > 64 || problem_output_w(p) > 128 + lead || problem_output_w(p) < 96)
        why = "only rows of 96 to 129 outputs are supported";
    else if ((double)larger(p->batch, 1) * (double)(p->height + 2) >= 0x1p31 ||
             (double)problem_output_h(p) * 129 * kBlockChannels >= 0x1p29 ||
             (double)p->height * 64 * 64 >= 0x1p31)
        why = "too many pixels for 32-bit numbering";
    if (why)
        snprintf(reason, reason_size, "%s", why);
    return why == NULL;
}

/* W [Cin, Cout, kH, kW] fp32 -> [block of the cluster][row phase or part][tap, 2 x 2][k / 8]
 * [column][8] fp16, times `scale`; part 1 is what part 0 leaves. Column 8j + 2t + e is of column
 * phase e, for odd t 1 - e, and of the block's channel of residue j / 2 and line t, + 4 for odd j,
 * or with two parts, of line t and row phase j mod 2. */
static __global__ void __launch_bounds__(256)
    pack_rows_kernel(const float *weight, __half *packed, int in_channels, int out_channels,
                     int kernel_h, int kernel_w, int cluster, float scale)
{
    const int count = cluster * 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 8;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < count; i += gridDim.x * 256) {
        int rest = i;
        const int k = rest % 8;
        rest /= 8;
        const int column = rest % kColumns;
        rest /= kColumns;
        const int in = rest % kChannelGroups * 8 + k;
        rest /= kChannelGroups;
        const int tap = rest % FUSED_MAX_TAPS;
        rest /= FUSED_MAX_TAPS;
        const int which = rest % 2, block = rest / 2, odd = column / 8 % 2;
        const int line = column % 8 / 2 + (kParts == 1 ? odd * 4 : 0);
        const int out = block * kBlockChannels + kResidues * line + column / 16;
        const int turned = column / 2 % 2; /* gpu/fused_rows.cuh says why */
        const int kh = (kParts == 1 ? which : odd) + tap / 2 * 2;
        const int kw = (column + turned) % 2 + tap % 2 * 2;
        float w = 0.0f;
        if (in < in_channels && out < out_channels && kh < kernel_h && kw < kernel_w)
            w = scale *
                weight[(((int64_t)in * out_channels + out) * kernel_h + kh) * kernel_w + kw];
        const __half high = __float2half_rn(w);
        packed[i] = kParts == 2 && which == 1 ? __float2half_rn(w - __half2float(high)) : high;
    }
}

static rows_kernel_pointer kernel_of(int cluster, bool pairs)
{
    if (cluster == 1)
        return pairs ? fused_rows_kernel<1, true> : fused_rows_kernel<1, false>;
    if (cluster == 2)
        return pairs ? fused_rows_kernel<2, true> : fused_rows_kernel<2, false>;
    return pairs ? fused_rows_kernel<kMostBlocks, true> : fused_rows_kernel<kMostBlocks, false>;
}

/* How many clusters of a kernel the device holds at a time: some multiprocessors may be left over.
 */
static cudaError_t clusters_at_once(int *clusters, rows_kernel_pointer kernel, int cluster)
{
    cudaLaunchAttribute attribute;
    const cudaLaunchConfig_t config =
        cluster_config(cluster, cluster, kThreads, rows_layout::total, &attribute);
    const cudaError_t status = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)rows_layout::total);
    return status == cudaSuccess ? cudaOccupancyMaxActiveClusters(clusters, kernel, &config)
                                 : status;
}

struct rows_state {
    struct fused_shared shared; /* first: what every form keeps */
    float *edge;
    float origin; /* the largest finite conv_bias */
    int cluster, clusters;
};

static void release(struct variant_context *context)
{
    struct rows_state *state = (struct rows_state *)context->state;
    if (!state)
        return;
    fused_shared_release(&state->shared);
    cudaFree(state->edge);
    free(state);
    context->state = NULL;
}

static enum status prepare(struct variant_context *context, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    struct rows_state *state = (struct rows_state *)calloc(1, sizeof *state);
    size_t packed;
    if (!state)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = state;
    state->cluster = cluster_of(p);
    state->origin = -INFINITY;
    for (int64_t c = 0; c < p->out_channels; c++)
        if (isfinite(context->h_params.conv_bias[c]))
            state->origin = fmaxf(state->origin, context->h_params.conv_bias[c]);
    if (state->origin == -INFINITY)
        state->origin = 0.0f;
    packed = (size_t)state->cluster * 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 8;
    if ((status = fused_shared_prepare(&state->shared, context, packed, kParts, error)))
        goto out;
    CHECK(clusters_at_once(&state->clusters, kernel_of(state->cluster, state->shared.pairs),
                           state->cluster));
    if (state->clusters < 1) {
        status = error_set(error, STATUS_UNSUPPORTED, "no room for a cluster of %d blocks",
                           state->cluster);
        goto out;
    }
    CHECK(cudaMalloc(&state->edge, (size_t)state->clusters * state->cluster * 2 * kEdgeTiles * 2 *
                                       kBlockChannels * sizeof *state->edge));
    CHECK(launch_blocks(pack_rows_kernel, 256, 256, context->d_weight, state->shared.weights,
                        (int)p->in_channels, (int)p->out_channels, (int)p->kernel_h,
                        (int)p->kernel_w, state->cluster, state->shared.range.weight_scale));
    CHECK(cudaDeviceSynchronize());
out:
    return status;
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const struct rows_state *state = (const struct rows_state *)context->state;
    const struct problem *p = &context->problem;
    struct rows_args args;
    int64_t patch_rows;
    int clusters;
    if (images == 0)
        return STATUS_OK;

    memset(&args, 0, sizeof args);
    args.x = d_x;
    args.y = d_y;
    args.weights = state->shared.weights;
    args.conv_bias = context->d_conv_bias;
    args.bias = context->d_bias;
    args.edge = state->edge;
    args.image_max = state->shared.image_max;
    args.x_scale = state->shared.range.x_scale;
    args.x_unit = 1.0f / args.x_scale;
    args.aligned = ((uintptr_t)d_x & 15) == 0 && p->width % 4 == 0;
    args.descale = LOG2_E / (args.x_scale * state->shared.range.weight_scale);
    args.scaling_factor = p->scaling_factor;
    args.origin = state->origin;
    args.in_channels = (int)p->in_channels;
    args.out_channels = (int)p->out_channels;
    args.height = (int)p->height;
    args.width = (int)p->width;
    args.output_h = (int)problem_output_h(p);
    args.output_w = (int)problem_output_w(p);
    args.padding_h = (int)p->padding_h;
    args.taps_h = (int)(p->kernel_h + 1) / 2;
    args.taps_w = (int)(p->kernel_w + 1) / 2;
    args.lead = (int)(p->padding_w & 1);
    args.first_col = args.lead - (args.taps_w - 1);
    /* A row behind an image's last is also the one before the next image's first: zeros as both. */
    patch_rows = larger((args.output_h - 1 + p->padding_h) / 2 + 1, p->height + args.taps_h - 1);
    args.tiles = (int)(images * patch_rows);
    args.divide_rows = fast_divisor_make((uint32_t)patch_rows);
    args.input_plane = p->height * p->width;
    args.output_plane = (int64_t)args.output_h * args.output_w;

    clusters = state->clusters < args.tiles ? state->clusters : args.tiles;
    args.tiles_each = args.tiles / clusters;
    args.tiles_over = args.tiles % clusters;
    CHECK(launch_clusters(kernel_of(state->cluster, state->shared.pairs), state->cluster,
                          clusters * state->cluster, kThreads, rows_layout::total, stream, args));
    status = fused_shared_repair(&state->shared, context, d_x, d_y, images, stream, error);
out:
    return status;
}

#endif
