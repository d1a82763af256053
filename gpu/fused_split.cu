/* Host side of the fused tile kernel with split operands (gpu/fused_split.cuh): what it covers,
 * packing, launch. A form of gpu-fused-fp16x3 (gpu/fused_fp16x3.cu), not a row of the variant
 * table.
 *
 * Launch: 132 blocks of 640 threads in clusters of two, one a multiprocessor; 96 registers a
 * thread, 24 bytes of spills; 226 KB of shared memory (home case: weights 131,072, ring 65,792).
 *
 * Home case: 3 x 141.8 GFLOP on the tensor cores, floor 0.54 ms at 790 TFLOP/s.
 *
 * H200, 2026-11-22: 0.861 ms (1.6 x that floor) alternating with itself, 0.957 ms among other
 * kernels, where the power cap holds the clock; PyTorch in fp32 beside it: eager 19.1,
 * torch.compile 14.3 ms. Largest error 0.63 of the fp32 bound. It is bound by partly written
 * sectors of y: without the stores 0.695. */
#include "gpu/fused_split.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/fused_forms.h"
#include "gpu/fused_host.cuh"

/* ---- numbering ------------------------------------------------------------------------------ */

/* Numbering of patches and slots for `images` images; see gpu/fused_geometry.h. `strip` is the
 * number of patches in a row of a strip, or 0 for whole rows. */
static struct fused_geometry geometry_make(const struct problem *p, int64_t images, int64_t strip,
                                           int ring_depth)
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
    g.padding_h = (int)p->padding_h;
    g.padding_w = (int)p->padding_w;
    g.taps_h = (g.kernel_h + 1) / 2;
    g.taps_w = (g.kernel_w + 1) / 2;
    g.first_patch_row = g.padding_h / 2;
    g.first_patch_col = g.padding_w / 2;
    g.first_row = g.first_patch_row - (g.taps_h - 1);
    g.first_col = g.first_patch_col - (g.taps_w - 1);
    const int64_t patch_rows = (g.output_h - 1 + g.padding_h) / 2 - g.first_patch_row + 1;
    const int64_t patch_cols = (g.output_w - 1 + g.padding_w) / 2 - g.first_patch_col + 1;
    /* A slot behind a row's last pixel is also one before the next row's first: zero as both. */
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
    g.input_plane = p->height * p->width;
    g.output_plane = (int64_t)g.output_h * g.output_w;
    g.divide_pitch = fast_divisor_make(g.pitch);
    g.divide_image = fast_divisor_make(g.rows * g.pitch);
    g.divide_strips = fast_divisor_make((uint32_t)strips);
    return g;
}

/* The numbering that fits in shared memory: whole rows where they do, else the widest strips; the
 * deepest ring. False where nothing fits. */
static bool geometry_fit(struct fused_geometry *g, const struct problem *p, int64_t images)
{
    for (int64_t strip = 0; strip == 0 || strip >= 15; strip = strip == 0 ? 127 : strip / 2)
        for (int depth = kRingDepth; depth >= 2; depth--) {
            *g = geometry_make(p, images, strip, depth);
            if (fused_layout_make(g).total <= kSharedBytes)
                return true;
        }
    return false;
}

static bool supports(const struct problem *p, const struct cudaDeviceProp *device, char *reason,
                     size_t reason_size)
{
    struct fused_geometry g;
    const char *why = fused_refusal(p, device);
    if (why)
        ;
    else if ((double)larger(p->batch, 1) * (double)(p->height + 8) * (double)(p->width + 8) * 1.2 >=
                 0x1p31 ||
             (double)problem_output_h(p) * (double)problem_output_w(p) >= 0x1p31)
        why = "too many pixels for 32-bit numbering";
    else if (!geometry_fit(&g, p, larger(p->batch, 1)))
        why = "rows do not fit in shared memory";
    else if ((double)g.tiles * kTilePixels + g.max_shift >= 0x1p31) /* strips have more */
        why = "too many pixels for 32-bit numbering";
    if (why)
        snprintf(reason, reason_size, "%s", why);
    return why == NULL;
}

/* ---- weights -------------------------------------------------------------------------------- */

constexpr int kBlockColumns = 2 * kBlockChannels;

/* W [Cin, Cout, kH, kW] fp32 -> [row phase][block of the cluster][part][tap][k / 8][column][8]
 * fp16, times `scale`. Column 8j + 2t + e is the block's channel 4j + t in column phase e; part 1
 * is what part 0 leaves. One thread an element of part 0. */
static __global__ void __launch_bounds__(256)
    pack_weights_kernel(const float *weight, __half *packed,
                        const __grid_constant__ struct fused_geometry g, float scale)
{
    const int64_t part = (int64_t)g.taps_h * g.taps_w * kChannelGroups * kBlockColumns * 8;
    const int64_t count = 2 * kClusterBlocks * part;
    for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
        const int which = (int)(i / part);
        int64_t rest = i % part;
        const int k = (int)(rest % 8);
        rest /= 8;
        const int column = (int)(rest % kBlockColumns);
        rest /= kBlockColumns;
        const int in = (int)(rest % kChannelGroups) * 8 + k;
        const int tap = (int)(rest / kChannelGroups);
        const int out = which % kClusterBlocks * kBlockChannels + column / 8 * 4 + column % 8 / 2;
        const int kh = which / kClusterBlocks + tap / g.taps_w * 2;
        const int kw = column % 2 + tap % g.taps_w * 2;
        float w = 0.0f;
        if (in < g.in_channels && out < g.out_channels && kh < g.kernel_h && kw < g.kernel_w)
            w = scale *
                weight[(((int64_t)in * g.out_channels + out) * g.kernel_h + kh) * g.kernel_w + kw];
        const __half high = __float2half_rn(w);
        const int64_t at = which * part * kParts + i % part;
        packed[at] = high;
        packed[at + part] = __float2half_rn(w - __half2float(high));
    }
}

/* ---- plan ----------------------------------------------------------------------------------- */

static void release(struct variant_context *context)
{
    struct fused_shared *shared = (struct fused_shared *)context->state;
    if (!shared)
        return;
    fused_shared_release(shared);
    free(shared);
    context->state = NULL;
}

static enum status prepare(struct variant_context *context, struct error *error)
{
    enum status status = STATUS_OK;
    struct fused_geometry g;
    struct fused_shared *shared;
    size_t packed;
    if (!geometry_fit(&g, &context->problem, larger(context->slice, 1)))
        return error_set(error, STATUS_UNSUPPORTED, "rows do not fit in shared memory");
    if (!(shared = (struct fused_shared *)calloc(1, sizeof *shared)))
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = shared;
    packed =
        2ull * kClusterBlocks * kParts * g.taps_h * g.taps_w * kChannelGroups * 8 * kBlockColumns;
    if ((status = fused_shared_prepare(shared, context, packed, kParts, error)))
        goto out;
    CHECK(launch_blocks(pack_weights_kernel, 256, 256, context->d_weight, shared->weights, g,
                        shared->range.weight_scale));
    /* What a block may have, for the limit is the kernel's: another plan may need more. */
    CHECK(cudaFuncSetAttribute(fused_kernel(shared->pairs),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, (int)kSharedBytes));
    CHECK(cudaDeviceSynchronize());
out:
    return status;
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const struct fused_shared *state = (const struct fused_shared *)context->state;
    const struct problem *p = &context->problem;
    struct fused_args args;
    int shares;
    if (images == 0)
        return STATUS_OK;

    memset(&args, 0, sizeof args);
    if (!geometry_fit(&args.geometry, p, images))
        return error_set(error, STATUS_UNSUPPORTED, "rows do not fit in shared memory");
    args.x = d_x;
    args.y = d_y;
    args.weights = state->weights;
    args.conv_bias = context->d_conv_bias;
    args.bias = context->d_bias;
    args.image_max = state->image_max;
    args.x_scale = state->range.x_scale;
    args.descale = LOG2_E / (state->range.x_scale * state->range.weight_scale);
    args.scaling_factor = p->scaling_factor;
    shares = context->multiprocessors / (2 * kClusterBlocks); /* two row phases */
    shares = shares > args.geometry.tiles ? args.geometry.tiles : shares;
    shares = shares < 1 ? 1 : shares;
    CHECK(launch_clusters(fused_kernel(state->pairs), kClusterBlocks, 2 * kClusterBlocks * shares,
                          kThreads, fused_layout_make(&args.geometry).total, stream, args));
    status = fused_shared_repair(state, context, d_x, d_y, images, stream, error);
out:
    return status;
}

const struct variant_ops fused_form_split = {
    .info = VARIANT_INFO(fused_fp16x3),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
