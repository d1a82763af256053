/* Host side of the fused row kernel (gpu/fused_rows.cuh): what it covers, packing, launch. A form
 * of gpu-fused-fp16 (gpu/fused_fp16.cu), not a row of the variant table.
 *
 * Launch, home case: 66 clusters of two blocks, one a multiprocessor, of 640 threads; 96 registers,
 * none spilled; 232,232 bytes of shared memory (weights 131,072, rings 33,280, stages 52,224). Then
 * the repair kernel, launched early and returning at once.
 *
 * Home case: 139.6 GFLOP (141.8 with the patches off the edge), 1.225 GB; floor 0.292 ms at the
 * copy rate of the same run. H200, 2026-11-23, CUDA events, two rotating pairs of buffers:
 *
 *     0.424 ms (1.45 x floor, 329 TFLOP/s) back to back, kernelbench and normal data alike
 *     0.430 ms (1.47 x) among other kernels
 *     largest error against fp64 8.9e-7 on kernelbench data; 0.61 of the class's bound at most
 *     PyTorch in the same run: eager tf32 8.13, torch.compile max-autotune tf32 1.57 ms
 *
 * ncu, --clock-control none: 412 us at 1.72 GHz; issue slots 44 %, L1 63 %, L2 74 %, DRAM 64 %.
 *
 * What bounds it: the way into the L2, and how unevenly it is used. With all but the copies to y it
 * takes 0.363 ms, with half of their bytes, in half as many copies or in as many, 0.374, with y in
 * a region that stays in the L2 0.415. Copies alone, 1 KB each from all multiprocessors, bring 4.0
 * TB/s, into the L2 as into memory, so that y takes 0.272 ms of it (half that rate where the source
 * is not a multiple of 32 bytes); here it is used for two thirds of the time. The storing warps'
 * own instructions don't show (0.359 without them). Of the 10,730 clocks that a stream takes for a
 * tile the copies add, by samples: 530 in which the fourth stage waits for the first to be stored,
 * 290 in the trade of sums, 340 in loads and stores of shared memory, 135 in turns.
 *
 * And the start: 44,000 clocks go by before a first stage is full. The first rows of x and the
 * first left edge's pixels take 17,000 to arrive, wherever they are asked for; that edge takes
 * 7,000 more.
 *
 * Rungs, home case, measured ms (predicted), and what was learned:
 *
 *     0.850   two warpgroups of m64n256, a tile each, stores by bulk copies of 1 KB a channel
 *             (predicted 0.35). Whole sectors did end the L2's trouble, but a copy takes its
 *             warp 100 clocks to issue, one lane after the other, while the others wait at a
 *             barrier.
 *     0.747   four warpgroups of m64n128, a row phase each; a warp a stream that loads, one
 *             that stores (0.33). Products, softmax and two stages now take 6000 clocks; the
 *             stores 2000 each.
 *     0.828   warpgroups fetch x beside the softmax, two storing warps a stream. The
 *             compiler spilled the loads in flight: each waited for memory at once.
 *     0.930   no other warps: each fetches an eighth of x and stores one channel of a stage.
 *             Spilled again; a reload costs 500 clocks, for shared memory leaves the L1 28 KB.
 *     0.646   two movers a stream: x first, then stores; the others without spills (0.36).
 *     0.568   x first again, and asked of L2 a tile ahead (0.35).
 *     0.549   column phases in turned order for half the lanes: stores to a stage without bank
 *             conflicts; both halves of a row of x in flight at once.
 *     0.514   three stages instead of two, in the place of the third row of x (0.42). Without
 *             maximum, trade and sigmoids together it took 0.493, without stores 0.442: the
 *             movers bound it, not the arithmetic. A trace showed both streams in step, all
 *             multiplying at once and all storing at once.
 *     0.534   no maximum; movers apart, two that load and two that store by copies, whose
 *             operands are made uniform: a copy then takes 30 clocks (0.40). Copies reach the
 *             copy rate from one warp alone.
 *     0.541   turns at the stages, six for both streams (0.33). Now a load of column 0 held up
 *             every fence behind it.
 *     0.498   column 0 by a copy.
 *     0.446   (traced) first and last tiles of an image by copies too: by stores, line after
 *             line, they held up all.
 *     0.563   the storing warps as a function, since the compiler spilled registers of the
 *             computing ones: generic addresses and arguments from memory. 0.458 once they were
 *             shared addresses and registers.
 *     0.482   two stages at a time: now stages take 250 clocks, and all wait for x.
 *     0.440   x by 16 bytes a lane, a quarter of the loads.
 *     0.433   the storing warps' arithmetic in 32 bits and before a stage is full; 0.436 and
 *             0.439 in later runs, with a quarter of their instructions less (0.41): no gain.
 *     0.431   a stage free as soon as its own copies have read it (0.41).
 *
 *     0.4395  that rung again, on the day of those below; from here on medians of 30 launches.
 *     0.437   x fetched once a cluster, its loads in flight across tiles (0.39). The waits for
 *             x went, 10 % of the samples, and all others grew: the storing warps bound it,
 *             2,600 clocks for two residues. Without left edges 0.395: 64 tiles' pixels at
 *             once are 4,100 loads of a sector each, 70,000 clocks in which nothing is stored.
 *     0.552   three storing warps, one that loads; left edges by sixteens, their pixels
 *             fetched a row a tile (0.36). Edges are cheap now, 4,500 to 8,300 clocks for
 *             sixteen tiles, and stages fast; one warp cannot load: 700 instructions and two
 *             latencies a tile. 0.497 with rows asked of L2, 0.476 with fewer instructions.
 *     0.443   two and two again, stages of two residues: one wait, one fence, one barrier
 *             (0.37). Now a fence for device memory took the storing warps a fifth of their
 *             time.
 *     0.4275  the fence where the scratch is written.
 *     0.425   a loading warp a stream: the compiler has all loads in flight on one scoreboard,
 *             so a wait for one stream's row was one for the other's, just asked for.
 *     0.427   rows asked of L2 (0.40): no wait for x is left, and the trades of sums take as
 *             long.
 *     0.424   column 0 asked for by the loading warps, places in y kept from tile to tile
 *             (0.39; 0.431 without asking L2).
 *
 *     Not kept: half of the sigmoids before the sums arrive (0.441); a third of x in flight
 *     across rows (0.47); column 0 by mma.sync in the loading warps, which find the tensor cores
 *     busy (0.51); the edge as eight more products of each tile, of which one row counts
 *     (0.462); one reciprocal for four sigmoids (no gain); column 0 loaded by the storing warps,
 *     whose fences then wait for it (0.495). Twenty-one warps don't fit: six on a scheduler leave
 *     80 registers each.
 *
 *     Nor these, after all of the above: y with an L2 policy of evict_first; stages freed by
 *     residues; a turn for every warp; the row phases of a stream multiplying one after the other
 *     (0.346 instead of 0.359 where nothing is stored, 0.424 where it is); left edges by half the
 *     arithmetic, biases loaded ahead of the stores (0.422, left to the next form).
 *
 * Next: streams that take tiles in turn, so that one ring of x, one strip and one carry serve both,
 * and a tile has a stage for every pair of residues. Tried with two rows in the ring: stages take
 * 2,640 clocks instead of 4,440 and no turn or trade is waited for, but every product waits 4,300
 * for x, since a row's place is free only when the product before is done (0.428 ms in ncu, 0.413
 * as it is). It wants three rows. */
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
    return p->out_channels > kBlockChannels ? 2 : 1;
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
    else if ((p->out_channels - 1) % kBlockChannels < 2) /* see column_ask() */
        why = "one or two output channels beyond a multiple of 64 are not supported";
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

/* W [Cin, Cout, kH, kW] fp32 -> [block of the cluster][row phase][tap, 2 x 2][k / 8][column][8]
 * fp16, times `scale`. Column 8j + 2t + e is channel 8 (4 (j mod 2) + t) + j / 2 of the block,
 * column phase e, for t > 1 1 - e. */
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
        const int phase = rest % 2, block = rest / 2;
        const int out = block * kBlockChannels + kResidues * (column / 8 % 2 * 4 + column % 8 / 2) +
                        column / 16;
        const int turned = column / 4 % 2; /* gpu/fused_rows.cuh says why */
        const int kh = phase + tap / 2 * 2, kw = (column + turned) % 2 + tap % 2 * 2;
        float w = 0.0f;
        if (in < in_channels && out < out_channels && kh < kernel_h && kw < kernel_w)
            w = scale *
                weight[(((int64_t)in * out_channels + out) * kernel_h + kh) * kernel_w + kw];
        packed[i] = __float2half_rn(w);
    }
}

static rows_kernel_pointer kernel_of(int cluster, bool pairs)
{
    if (cluster == 1)
        return pairs ? fused_rows_kernel<1, true> : fused_rows_kernel<1, false>;
    return pairs ? fused_rows_kernel<2, true> : fused_rows_kernel<2, false>;
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
    state->clusters = context->multiprocessors / state->cluster;
    packed = (size_t)state->cluster * 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 8;
    if ((status = fused_shared_prepare(&state->shared, context, packed, 1, error)))
        goto out;
    CHECK(cudaMalloc(&state->edge, (size_t)state->clusters * kStreams * state->cluster * 2 *
                                       kEdgeTiles * kColumns * sizeof *state->edge));
    CHECK(launch_blocks(pack_rows_kernel, 256, 256, context->d_weight, state->shared.weights,
                        (int)p->in_channels, (int)p->out_channels, (int)p->kernel_h,
                        (int)p->kernel_w, state->cluster, state->shared.range.weight_scale));
    CHECK(cudaFuncSetAttribute(kernel_of(state->cluster, state->shared.pairs),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               (int)rows_layout::total));
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

const struct variant_ops fused_form_rows = {
    .info = VARIANT_INFO(fused_fp16),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
