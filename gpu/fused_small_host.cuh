/* Host side of the fused kernel of small batches (gpu/fused_small.cuh), for the file that defines
 * kParts: what it covers, packing, launch (internal to gpu/). */
#ifndef ASSAY_GPU_FUSED_SMALL_HOST_CUH
#define ASSAY_GPU_FUSED_SMALL_HOST_CUH

#include "gpu/fused_small.cuh"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_check.h"
#include "gpu/fp16_range.h"
#include "gpu/fused_forms.h"
#include "gpu/fused_host.cuh"
#include "gpu/hopper.cuh"
#include "gpu/launch.cuh"

struct small_kernel_row {
    int channels, columns, threads, blocks;
    int groups; /* of eight input channels */
    struct small_layout (*layout)(int taps_h, int taps_w);
    small_kernel_pointer kernel[2]; /* of sigmoids one by one, in pairs */
};

#define SMALL_ROW(...)                                                                             \
    {                                                                                              \
        small_tile<__VA_ARGS__>::kChannels, small_tile<__VA_ARGS__>::kColumns,                     \
            small_tile<__VA_ARGS__>::kThreads, small_tile<__VA_ARGS__>::kBlocks,                   \
            small_tile<__VA_ARGS__>::kGroups, small_layout_make<small_tile<__VA_ARGS__>>,          \
        {                                                                                          \
            fused_small_kernel<small_tile<__VA_ARGS__>, false>,                                    \
                fused_small_kernel<small_tile<__VA_ARGS__>, true>                                  \
        }                                                                                          \
    }

/* small_tile<warpgroups, groups of input channels, blocks a multiprocessor>, narrowest first */
static const struct small_kernel_row table[] = {SMALL_ROW(2, 4, 2), SMALL_ROW(2, 8, 2),
                                                SMALL_ROW(4, 4, 1), SMALL_ROW(4, 8, 1)};
constexpr int kTableRows = sizeof table / sizeof *table;

struct small_state {
    struct small_args args; /* for the whole slice; a launch sets x, y, images and tiles */
    const struct small_kernel_row *row;
    __half *packed;
    uint32_t shared_bytes;
    bool pairs;
};

static const struct small_kernel_row *row_for(const struct problem *p)
{
    for (int i = 0; i < kTableRows; i++)
        if (table[i].channels >= p->out_channels && table[i].groups * 8 >= p->in_channels)
            return &table[i];
    return NULL;
}

static int floor_half(int64_t v)
{
    return (int)((v - (v & 1)) / 2);
}

/* Numbering of patches for `images` images; gpu/fused_small.cuh. */
static void geometry_set(struct small_args *a, const struct problem *p, int64_t images)
{
    a->images = (int)images;
    a->in_channels = (int)p->in_channels;
    a->out_channels = (int)p->out_channels;
    a->height = (int)p->height;
    a->width = (int)p->width;
    a->output_h = (int)problem_output_h(p);
    a->output_w = (int)problem_output_w(p);
    a->kernel_h = (int)p->kernel_h;
    a->kernel_w = (int)p->kernel_w;
    a->padding_h = (int)p->padding_h;
    a->padding_w = (int)p->padding_w;
    a->taps_h = (a->kernel_h + 1) / 2;
    a->taps_w = (a->kernel_w + 1) / 2;
    a->first_patch_col = a->padding_w / 2;
    a->patch_cols = (a->output_w - 1 + a->padding_w) / 2 - a->first_patch_col + 1;
    a->pitch = (uint32_t)larger(a->patch_cols + a->first_patch_col,
                                a->width - a->first_patch_col + a->taps_w - 1);
    a->input_plane = p->height * p->width;
    a->output_plane = (int64_t)a->output_h * a->output_w;
    a->divide_pitch = fast_divisor_make(a->pitch);
    for (int ph = 0; ph < 2; ph++) {
        struct small_phase *phase = &a->phase[ph];
        const int last = floor_half((int64_t)a->output_h - 1 + a->padding_h - ph);
        phase->first_row = floor_half((int64_t)a->padding_h - ph + 1);
        /* a row phase without taps: zero weights stand for it */
        phase->taps_h = (int)larger((a->kernel_h - ph + 1) / 2, 1);
        const int64_t rows = larger(last - phase->first_row + 1, 0);
        phase->divide_image = fast_divisor_make((uint32_t)larger(rows * a->pitch, 1));
        phase->tiles = (int)((images * rows * a->pitch + kPatches - 1) / kPatches);
    }
}

static bool supports(const struct problem *p, const struct cudaDeviceProp *device, char *reason,
                     size_t reason_size)
{
    const struct small_kernel_row *row = row_for(p);
    const char *why = hopper_refusal(device);
    if (why)
        ;
    else if (p->stride_h != 2 || p->stride_w != 2)
        why = "only stride 2 is supported";
    else if (p->kernel_h > 4 || p->kernel_w > 4)
        why = "only kernels of up to 4 x 4 are supported";
    else if (p->dilation_h != 1 || p->dilation_w != 1 || p->groups != 1)
        why = "dilation and groups are not supported";
    else if (!row)
        why = "more than 64 input or 128 output channels are not supported";
    else if (row->layout((int)(p->kernel_h + 1) / 2, (int)(p->kernel_w + 1) / 2).total >
             kSharedBytes)
        why = "weights do not fit in shared memory";
    else if (!(fabsf(p->scaling_factor) < 1e37f))
        why = "the scaling factor is beyond the epilogue's range";
    else if ((double)larger(p->batch, 1) * ((double)problem_output_h(p) + 8) *
                     ((double)larger(problem_output_w(p), p->width) + 8) >=
                 0x1p31 ||
             (double)p->padding_h >= 0x1p30 || (double)p->padding_w >= 0x1p30)
        why = "too many pixels for 32-bit numbering";
    if (why)
        snprintf(reason, reason_size, "%s", why);
    return why == NULL;
}

/* W [Cin, Cout, kH, kW] fp32 -> [row phase][tap][part][k / 8][column][8] fp16, times `scale`; part
 * 1 is what part 0 leaves. Column 8j + 2t + e is channel 4j + t in column phase e. One thread an
 * element of part 0. */
static __global__ void __launch_bounds__(256)
    pack_weights_kernel(const float *weight, __half *packed,
                        const __grid_constant__ struct small_args a, int groups, int columns,
                        float scale)
{
    const int64_t tap_count = (int64_t)groups * columns * 8;
    const int taps = a.taps_h * a.taps_w;
    for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < 2 * taps * tap_count;
         i += gridDim.x * 256ll) {
        const int tap = (int)(i / tap_count) % taps, phase_h = (int)(i / tap_count) / taps;
        const int within = (int)(i % tap_count);
        const int column = within / 8 % columns;
        const int in = within / (8 * columns) * 8 + within % 8;
        const int out = column / 8 * 4 + column % 8 / 2;
        const int kh = phase_h + tap / a.taps_w * 2, kw = column % 2 + tap % a.taps_w * 2;
        float w = 0.0f;
        if (in < a.in_channels && out < a.out_channels && kh < a.kernel_h && kw < a.kernel_w)
            w = scale *
                weight[(((int64_t)in * a.out_channels + out) * a.kernel_h + kh) * a.kernel_w + kw];
        const __half high = __float2half_rn(w);
        __half *to = packed + i / tap_count * kParts * tap_count + within;
        to[0] = high;
        if (kParts == 2)
            to[tap_count] = __float2half_rn(w - __half2float(high));
    }
}

static void release(struct variant_context *context)
{
    struct small_state *state = (struct small_state *)context->state;
    if (!state)
        return;
    cudaFree(state->packed);
    free(state);
    context->state = NULL;
}

static enum status prepare(struct variant_context *context, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    struct small_state *state = (struct small_state *)calloc(1, sizeof *state);
    struct small_args *a;
    struct fp16_range range;
    size_t count;
    if (!state)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = state;
    a = &state->args;
    state->row = row_for(p);
    geometry_set(a, p, larger(context->slice, 1));
    state->shared_bytes = state->row->layout(a->taps_h, a->taps_w).total;
    range = fp16_range_of(p, context->h_params.weight, kParts);
    if (range.largest > 0.0f)
        snprintf(context->note, sizeof context->note, "pixels with max|x| outside [%g, %g] in fp32",
                 (double)range.smallest, (double)range.largest);
    else
        snprintf(context->note, sizeof context->note, "weights beyond fp16: all in fp32");
    state->pairs = fused_pairs(p, context->h_params.bias);

    count = 2ull * kParts * a->taps_h * a->taps_w * state->row->groups * 8 * state->row->columns;
    CHECK(cudaMalloc(&state->packed, count * sizeof *state->packed));
    a->packed = state->packed;
    a->weight = context->d_weight;
    a->conv_bias = context->d_conv_bias;
    a->bias = context->d_bias;
    a->x_scale = range.x_scale;
    a->descale = LOG2_E / (range.x_scale * range.weight_scale);
    a->smallest = range.smallest;
    a->largest = range.largest;
    a->scaling_factor = p->scaling_factor;
    CHECK(launch_blocks(pack_weights_kernel, 256, 256, context->d_weight, state->packed, *a,
                        state->row->groups, state->row->columns, range.weight_scale));
    /* What a block may have, for the limit is the kernel's: another plan may need more. */
    CHECK(cudaFuncSetAttribute(state->row->kernel[state->pairs],
                               cudaFuncAttributeMaxDynamicSharedMemorySize, (int)kSharedBytes));
    CHECK(cudaDeviceSynchronize());
out:
    return status;
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const struct small_state *state = (const struct small_state *)context->state;
    struct small_args args = state->args;
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute;
    int64_t tiles, blocks;
    geometry_set(&args, &context->problem, images);
    tiles = (int64_t)args.phase[0].tiles + args.phase[1].tiles;
    if (tiles == 0 || args.output_w <= 0)
        return STATUS_OK;
    args.x = d_x;
    args.y = d_y;
    /* 1 KB of every block is the system's */
    blocks = (kSharedBytes + 1024) / (state->shared_bytes + 1024);
    blocks = blocks > state->row->blocks ? state->row->blocks : blocks;
    blocks *= context->multiprocessors;
    blocks = blocks > tiles ? tiles : larger(blocks, 2);
    args.blocks = (int)((blocks * args.phase[0].tiles + tiles / 2) / tiles);
    args.blocks += args.blocks == 0 && args.phase[0].tiles > 0;
    args.blocks -= args.blocks == blocks && args.phase[1].tiles > 0;
    config.gridDim = dim3((unsigned)blocks);
    config.blockDim = dim3(state->row->threads);
    config.dynamicSmemBytes = state->shared_bytes;
    config.stream = stream;
    /* Its blocks may begin while the kernel before it ends; they wait for it before they read x. */
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, state->row->kernel[state->pairs], args));
out:
    return status;
}

#endif
