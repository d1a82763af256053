/* The whole model in one kernel on Hopper's tensor cores, of fp32 grade: both operands of a product
 * split in two fp16 halves, three products, fp32 sums.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Four forms, the first that supports the problem and pays there; all but the last for stride 2,
 * kernels of up to 4 x 4, up to 64 input and 128 output channels:
 *
 *     gpu/fused_small_x3.cu  weights that fit on chip (64 -> 64 channels of 4 x 4 do, 64 -> 128
 *                            don't); one launch, for batches of few tiles
 *     gpu/fused_rows_x3.cu   padding of up to 1, rows of 96 to 129 outputs
 *     gpu/fused_split.cu     rows of any width
 *     gpu/stream_fp16x3.cu   any other shape; gpu-stream-fp16x3 is this one alone
 *
 * x is scaled by 128, so that images whose largest |x| is at most 512 are computed here (by more,
 * and so fewer images, where weights are large or far apart: gpu/fp16_range.h); the rest, those
 * with NaN or infinities, and in the second form those whose softmax would need a maximum
 * subtracted, in IEEE fp32 by gpu/fused_repair.cuh. */
#include <string.h>

#include "gpu/choice.cuh"
#include "gpu/fused_forms.h"

static const struct variant_ops *const forms[] = {&fused_form_small_x3, &fused_form_rows_x3,
                                                  &fused_form_split, &variant_stream_fp16x3};

/* 64x64 -> 128x128, us a launch in a graph of twenty, H200, 2026-11-23:
 *
 *     channels, images    8, 2   32, 2   64, 2   64, 8   8, 128   32, 128   128, 1  128, 3  128, 8
 *     rounds               1      1       1       4       63       63        1       3       8
 *     small                10.6   12.0    12.5    43.5    547      631       (does not fit)
 *     rows                 17.3   17.3    21.8    39.0    274      294       23.4    33.8    62.2
 *     split                25.6   25.8    26.6    61.2    762      769       20.1    32.6    63.4
 *     stream               10.3   11.9    15.8    54.8    284      460       15.5    40.7   101.7
 *
 * In half a round small takes two thirds of what stream does (8 channels, 16x16, 4 images: 4.2 and
 * 6.5); rows of other widths, 128 channels in 70 rounds (32x32, 128 images): split 244, stream 394;
 * 64 channels in 17 (the same, 32 images): small 44, stream 56, split 61. */
static bool pays(const struct variant_ops *ops, const struct problem *p,
                 const struct cudaDeviceProp *device)
{
    const double rounds = fused_rounds(p, device);
    if (ops == &fused_form_small_x3)
        return rounds <= 0.5 || (p->out_channels > 32 &&
                                 (rounds <= 3 || !fused_form_rows_x3.supports(p, device, NULL, 0)));
    if (ops == &fused_form_rows_x3)
        return p->out_channels > 8 && rounds > (p->out_channels > 64 ? 8 : 3);
    if (ops == &fused_form_split)
        return p->out_channels > 64 && rounds > 2;
    return true;
}

static const struct choice_list list = {forms, sizeof forms / sizeof *forms, false, pays};

static enum status prepare(struct variant_context *context, struct error *error)
{
    const enum status status = choice_prepare<list>(context, error);
    if (status == STATUS_OK)
        memcpy(context->note, ((const struct choice *)context->state)->context.note,
               sizeof context->note);
    return status;
}

const struct variant_ops variant_fused_fp16x3 = {
    .info = VARIANT_INFO(fused_fp16x3),
    .supports = choice_supports<list>,
    .workspace = choice_workspace<list>,
    .prepare = prepare,
    .launch = choice_launch,
    .release = choice_release,
};
