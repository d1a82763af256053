/* The whole model in one kernel on Hopper's tensor cores, of fp32 grade: both operands of a product
 * split in two fp16 halves, three products, fp32 sums.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Stride 2, kernels of up to 4 x 4, up to 64 input and 128 output channels, any batch; other
 * shapes: gpu/stream_fp16x3.cu. Two forms, the first that supports the problem:
 *
 *     gpu/fused_rows_x3.cu   padding of up to 1, rows of 96 to 129 outputs
 *     gpu/fused_split.cu     any
 *
 * x is scaled by 128, so that images whose largest |x| is at most 512 are computed here (by more,
 * and so fewer images, where weights are large or far apart: gpu/fp16_range.h); the rest, those
 * with NaN or infinities, and in the first form those whose softmax would need a maximum
 * subtracted, in IEEE fp32 by gpu/fused_repair.cuh. */
#include <string.h>

#include "gpu/choice.cuh"
#include "gpu/fused_forms.h"

static const struct variant_ops *const forms[] = {&fused_form_rows_x3, &fused_form_split};
static const struct choice_list list = {forms, sizeof forms / sizeof *forms, false, NULL};

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
