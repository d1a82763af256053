/* Host side of the streaming tensor-core kernel: what it covers, the choice of a tile, packing,
 * launch (internal to gpu/). */
#ifndef ASSAY_GPU_STREAM_PLAN_CUH
#define ASSAY_GPU_STREAM_PLAN_CUH

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_check.h"
#include "gpu/fp16_range.h"
#include "gpu/hopper.cuh"
#include "gpu/launch.cuh"
#include "gpu/stream_numbering.h"
#include "gpu/stream_tile.cuh"
#include "gpu/variant.h"

/* ---- kernels --------------------------------------------------------------------------------- */

typedef void (*stream_kernel_pointer)(const struct stream_args);

struct stream_kernel_row {
    int columns, parts, threads;
    int blocks; /* of a multiprocessor */
    bool loop;  /* a block takes many tiles */
    uint32_t shared;
    uint32_t step_bytes; /* of weights */
    stream_kernel_pointer kernel;
};

#define STREAM_ROW(...)                                                                            \
    {                                                                                              \
        stream_tile<__VA_ARGS__>::kColumns, stream_tile<__VA_ARGS__>::kParts,                      \
            stream_tile<__VA_ARGS__>::kThreads, stream_tile<__VA_ARGS__>::kBlocks,                 \
            stream_tile<__VA_ARGS__>::kLoop, stream_tile<__VA_ARGS__>::kExchange,                  \
            stream_tile<__VA_ARGS__>::kBytesW, stream_kernel<stream_tile<__VA_ARGS__>>             \
    }

/* ---- plan ------------------------------------------------------------------------------------ */

struct stream_state {
    struct stream_geometry geometry; /* for the whole batch; a launch sets images and tiles */
    const struct stream_kernel_row *row;
    __half *weights, *x_half;
    struct stream_notes *notes;
    int notes_images;
    struct fp16_range range;
};

static bool stream_supports(const struct problem *p, const struct cudaDeviceProp *device,
                            char *reason, size_t reason_size)
{
    struct stream_geometry g;
    const char *why = hopper_refusal(device);
    if (why)
        ;
    else if (p->groups != 1)
        why = "groups are not supported";
    else if (!(fabsf(p->scaling_factor) < 1e37f))
        why = "the scaling factor is beyond the epilogue's range";
    else
        why = stream_geometry_choose(&g, p);
    if (why)
        snprintf(reason, reason_size, "%s", why);
    return why == NULL;
}

/* With the table in which ranks exchange maximum and sum. */
static uint32_t stream_shared(const struct stream_kernel_row *row, const struct stream_geometry *g)
{
    return row->shared + (g->ranks > 1 ? (uint32_t)(g->ranks * g->phases * kTileRows) * 8 : 0);
}

static size_t stream_x_bytes(const struct problem *p, int64_t images, int parts)
{
    const int64_t padded = (p->in_channels + 63) / 64 * 64; /* at most */
    return (size_t)(images * p->height * p->width * padded * parts) * sizeof(__half);
}

/* W [Cin, Cout, kH, kW] fp32 -> [pair of taps][rank][step][part][4][column][8] fp16, times `scale`;
 * part 1 is what part 0 leaves. One thread an element of part 0. */
static __global__ void __launch_bounds__(256)
    stream_pack_kernel(const float *weight, __half *packed,
                       const __grid_constant__ struct stream_geometry g, int columns, int parts,
                       float scale)
{
    const int64_t part = (int64_t)STREAM_SLICE(columns) * columns;
    const int slice = STREAM_SLICE(columns), steps = g.padded_channels / slice;
    const int64_t count = (int64_t)g.rows.taps * g.columns.taps * g.ranks * steps * part;
    for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
        int64_t rest = i / part;
        const int within = (int)(i % part);
        const int step = (int)(rest % steps);
        rest /= steps;
        const int rank = (int)(rest % g.ranks);
        const int pair = (int)(rest / g.ranks);
        int ch = g.rows.chunks - 1, cw = g.columns.chunks - 1;
        while (ch > 0 && pair < STREAM_FIRST_PAIR(&g, ch, 0))
            ch--;
        while (cw > 0 && pair < STREAM_FIRST_PAIR(&g, ch, cw))
            cw--;
        const int at = pair - STREAM_FIRST_PAIR(&g, ch, cw);
        const struct stream_chunk *r = &g.rows.chunk[ch], *c = &g.columns.chunk[cw];
        const float w =
            scale * stream_weight(&g, weight, ch, cw, g.rows.tap[r->first_tap + at / c->taps],
                                  g.columns.tap[c->first_tap + at % c->taps], rank,
                                  step * slice + within / (columns * 8) * 8 + within % 8,
                                  within / 8 % columns);
        const __half high = __float2half_rn(w);
        __half *to = packed + (i / part) * part * parts + within;
        to[0] = high;
        if (parts == 2)
            to[part] = __float2half_rn(w - __half2float(high));
    }
}

static void stream_release(struct variant_context *context)
{
    struct stream_state *state = (struct stream_state *)context->state;
    if (!state)
        return;
    cudaFree(state->weights);
    cudaFree(state->x_half);
    cudaFree(state->notes);
    free(state);
    context->state = NULL;
}

static enum status stream_prepare(struct variant_context *context,
                                  const struct stream_kernel_row *table, int rows,
                                  struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    const int64_t slice = context->slice > 1 ? context->slice : 1;
    struct stream_state *state;
    struct stream_geometry *g;
    size_t bytes = 0;
    int64_t blocks = 0;
    const char *why = NULL;
    if (!(state = (struct stream_state *)calloc(1, sizeof *state)))
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = state;
    g = &state->geometry;
    if ((why = stream_geometry_choose(g, p)))
        return error_set(error, STATUS_UNSUPPORTED, "%s", why);
    blocks = (int64_t)g->tiles * g->rows.chunks * g->columns.chunks * g->ranks;
    /* The first that is wide enough; of the next ones of that width, one that loops over many
     * tiles, or one with a deeper ring, one block a multiprocessor, where there are no more blocks.
     */
    for (int i = 0; i < rows; i++) {
        const struct stream_kernel_row *row = &table[i];
        if (state->row ? row->columns == state->row->columns &&
                             (row->loop ? g->ranks == 1 : blocks <= context->multiprocessors)
                       : row->columns >= g->rank_channels * g->phases)
            state->row = row;
    }
    if (!state->row)
        return error_set(error, STATUS_UNSUPPORTED, "no kernel of so many columns");

    state->range = fp16_range_of(p, context->h_params.weight, state->row->parts);
    {
        const int n = snprintf(context->note, sizeof context->note,
                               "%d x %d phases, %d blocks share channels, %d columns; ",
                               g->rows.phases, g->columns.phases, g->ranks, state->row->columns);
        if (state->range.largest > 0.0f)
            snprintf(context->note + n, sizeof context->note - n,
                     "images with max|x| outside [%g, %g] in fp32", (double)state->range.smallest,
                     (double)state->range.largest);
        else
            snprintf(context->note + n, sizeof context->note - n,
                     "weights beyond fp16: all in fp32");
    }

    bytes = (size_t)g->rows.taps * g->columns.taps * g->ranks *
            (g->padded_channels / STREAM_SLICE(state->row->columns)) * state->row->step_bytes;
    CHECK(cudaMalloc(&state->weights, bytes ? bytes : 16));
    CHECK(cudaMalloc(&state->x_half, stream_x_bytes(p, slice, state->row->parts)));
    state->notes_images = (int)slice;
    CHECK(cudaMalloc(&state->notes, sizeof *state->notes + 2 * slice * sizeof(uint32_t)));
    CHECK(cudaMemset(state->notes, 0, sizeof *state->notes + 2 * slice * sizeof(uint32_t)));
    CHECK(launch_blocks(stream_pack_kernel, 512, 256, context->d_weight, state->weights, *g,
                        state->row->columns, state->row->parts, state->range.weight_scale));
    /* What a block may have, for the limit is the kernel's: another plan may need more. */
    CHECK(cudaFuncSetAttribute(state->row->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               (int)kSharedBytes));
    /* One split of L1 for both, so that either starts while the other runs. */
    CHECK(cudaFuncSetAttribute(state->row->kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               state->row->columns >= 64 ? 100 : 72));
    CHECK(cudaFuncSetAttribute(state->row->parts == 2 ? stream_convert_kernel<2>
                                                      : stream_convert_kernel<1>,
                               cudaFuncAttributePreferredSharedMemoryCarveout, 100));
    CHECK(cudaDeviceSynchronize());
out:
    return status;
}

static enum status stream_launch(struct variant_context *context, const float *d_x, float *d_y,
                                 int64_t images, cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const struct stream_state *state = (const struct stream_state *)context->state;
    const struct problem *p = &context->problem;
    struct stream_args args;
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attributes[2];
    struct stream_geometry *g = &args.geometry;
    int64_t pixels;
    if (images == 0 || problem_output_image(p) == 0)
        return STATUS_OK;

    memset(&args, 0, sizeof args);
    args.geometry = state->geometry;
    stream_geometry_images(g, images);
    args.x = d_x;
    args.y = d_y;
    args.x_half = state->x_half;
    args.weights = state->weights;
    args.weight = context->d_weight;
    args.conv_bias = context->d_conv_bias;
    args.bias = context->d_bias;
    args.notes = state->notes;
    args.notes_images = state->notes_images;
    args.x_scale = state->range.x_scale;
    args.descale = LOG2_E / (args.x_scale * state->range.weight_scale);
    args.smallest = state->range.smallest;
    args.largest = state->range.largest;
    args.scaling_factor = p->scaling_factor;

    /* Each kernel's blocks may start while the last ones before it end; they wait for them where
     * they begin to depend on them. */
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = g->ranks;
    attributes[1].val.clusterDim.y = 1;
    attributes[1].val.clusterDim.z = 1;
    config.attrs = attributes;
    config.stream = stream;

    pixels = images * g->input_plane;
    config.gridDim =
        dim3((unsigned)((pixels + kConvertPixels - 1) / kConvertPixels),
             (unsigned)((g->padded_channels + kConvertChannels - 1) / kConvertChannels));
    config.blockDim = dim3(kConvertThreads);
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(
        &config, state->row->parts == 2 ? stream_convert_kernel<2> : stream_convert_kernel<1>,
        args));

    config.gridDim =
        dim3((unsigned)((int64_t)g->tiles * g->rows.chunks * g->columns.chunks * g->ranks));
    if (state->row->loop &&
        config.gridDim.x > (unsigned)(context->multiprocessors * state->row->blocks))
        config.gridDim.x = context->multiprocessors * state->row->blocks;
    config.blockDim = dim3(state->row->threads);
    config.dynamicSmemBytes = stream_shared(state->row, g);
    config.numAttrs = 2;
    CHECK(cudaLaunchKernelEx(&config, state->row->kernel, args));
out:
    return status;
}

#endif
